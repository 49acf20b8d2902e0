// Random small requests, compiled and then executed byte by byte: once as the list of kernels says,
// once as the template says, in a random order that its dependencies allow. Values are hashes of
// all that went into them, so any byte that was read too early, too late or from elsewhere shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "daemon/plan/compile.h"
#include "daemon/plan/memory.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

using wire::Access;
using wire::Where;

// An object byte: (kind, number of the object, position). A temporary's: (-1, buffer, index).
using ByteId = std::tuple<int, std::uint64_t, std::uint64_t>;
using Memory = std::map<ByteId, std::uint64_t>;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  a ^= b + 0x9E3779B97F4A7C15u + (a << 6) + (a >> 2);
  a *= 0xBF58476D1CE4E5B9u;
  return a ^ (a >> 29);
}

bool reads(Access access) {
  return access == Access::In || access == Access::InOut;
}
bool writes(Access access) {
  return access != Access::In;
}

class RequestMaker {
 public:
  // Every other request is crowded: all buffers lie in one segment.
  explicit RequestMaker(std::uint64_t seed) : crowded_(seed % 2 == 0), random_(seed) {}

  RequestSpec make() {
    RequestSpec request;
    const auto buffers = 1 + pick(6);
    for (std::uint64_t b = 0; b < buffers; ++b) request.buffers.push_back(make_buffer(b));
    const auto kernels = 1 + pick(6);
    for (std::uint64_t k = 0; k < kernels; ++k) {
      std::vector<ArgumentSpec> arguments;
      for (std::uint64_t n = pick(4); n > 0; --n) {
        arguments.push_back({static_cast<std::uint16_t>(pick(buffers)), make_access()});
      }
      request.kernels.push_back(kernel_on("k", arguments));
    }
    request.n_iter.value = 1 + pick(2);
    const auto until = static_cast<std::uint16_t>(pick(buffers));
    if (pick(3) == 0 && request.buffers[until].bytes.value >= 4) request.until = until;
    return request;
  }

 private:
  std::uint64_t pick(std::uint64_t bound) { return random_() % bound; }

  Access make_access() {
    constexpr Access kAll[] = {Access::In, Access::In, Access::Out, Access::InOut,
                               Access::Temporary};
    return kAll[pick(std::size(kAll))];
  }

  BufferSpec make_buffer(std::uint64_t b) {
    const std::string name = "b" + std::to_string(b);
    // Some reach over several others.
    const std::uint64_t bytes = 1 + pick(pick(3) == 0 ? 24 : 6);
    const std::uint64_t offset = (crowded_ ? 245 : pick(2) * 245) + pick(20);
    BufferSpec buffer;
    switch (crowded_ ? 0 : pick(4)) {
      case 0:
        buffer = segment_buffer(name, bytes,
                                16 + static_cast<std::uint32_t>(pick(crowded_ ? 1 : 2)), offset);
        break;
      case 1:
        buffer = inline_buffer(name, bytes);
        break;
      default:
        buffer = store_buffer(name, bytes, "key" + std::to_string(pick(2)), offset);
    }
    buffer.ephemeral = pick(3) == 0;
    return buffer;
  }

  bool crowded_;
  std::mt19937_64 random_;
};

// What the access types mean, straight from their definition.
class Model {
 public:
  explicit Model(const RequestSpec& request) : request_(request) {
    for (std::size_t b = 0; b < request.buffers.size(); ++b) classify(b);
  }

  // Outputs in declared order.
  [[nodiscard]] const std::vector<std::uint16_t>& outputs() const { return outputs_; }

  [[nodiscard]] ByteId id(std::size_t b, std::uint64_t n) const {
    const BufferSpec& buffer = request_.buffers[b];
    if (!has_object_[b] || buffer.place.where == Where::Inline) return {-1, b, n};
    const std::uint64_t position = buffer.offset.value + n;
    if (buffer.place.where == Where::Segment) return {1, buffer.place.segment, position};
    return {0, buffer.place.key == "key0" ? 0u : 1u, position};
  }

  [[nodiscard]] std::uint64_t bytes(std::size_t b) const { return request_.buffers[b].bytes.value; }

  // Whether the order of two kernels matters: a byte that one writes is touched by the other.
  [[nodiscard]] bool conflict(std::size_t j, std::size_t k) const {
    for (const ArgumentSpec& a : request_.kernels[j].arguments) {
      for (const ArgumentSpec& b : request_.kernels[k].arguments) {
        if (!writes(a.access) && !writes(b.access)) continue;
        for (std::uint64_t n = 0; n < bytes(a.buffer); ++n) {
          for (std::uint64_t m = 0; m < bytes(b.buffer); ++m) {
            if (id(a.buffer, n) == id(b.buffer, m)) return true;
          }
        }
      }
    }
    return false;
  }

  [[nodiscard]] bool outputs_overlap_in_a_key() const {
    for (const std::uint16_t a : outputs_) {
      for (const std::uint16_t b : outputs_) {
        if (a >= b || request_.buffers[a].place.where != Where::Store ||
            request_.buffers[b].place.where != Where::Store) {
          continue;
        }
        for (std::uint64_t n = 0; n < bytes(a); ++n) {
          for (std::uint64_t m = 0; m < bytes(b); ++m) {
            if (id(a, n) == id(b, m)) return true;
          }
        }
      }
    }
    return false;
  }

  // Bytes that are read, in the order of the list, before anything wrote them.
  [[nodiscard]] std::set<ByteId> needed() const {
    std::set<ByteId> needed;
    std::set<ByteId> written;
    const auto read = [&](std::size_t b) {
      for (std::uint64_t n = 0; n < bytes(b); ++n) {
        if (!written.contains(id(b, n))) needed.insert(id(b, n));
      }
    };
    for (const KernelSpec& kernel : request_.kernels) {
      for (const ArgumentSpec& a : kernel.arguments) {
        if (reads(a.access)) read(a.buffer);
      }
      for (const ArgumentSpec& a : kernel.arguments) {
        for (std::uint64_t n = 0; writes(a.access) && n < bytes(a.buffer); ++n) {
          written.insert(id(a.buffer, n));
        }
      }
    }
    if (request_.until.has_value()) read(*request_.until);
    return needed;
  }

 private:
  void classify(std::size_t b) {
    bool used = false;
    bool first_reads = false;
    bool output = false;
    for (const KernelSpec& kernel : request_.kernels) {
      bool here = false;
      bool reads_here = false;
      for (const ArgumentSpec& a : kernel.arguments) {
        if (a.buffer != b) continue;
        here = true;
        reads_here |= reads(a.access);
        output |= writes(a.access) && a.access != Access::Temporary;
      }
      if (here && !used) first_reads = reads_here;
      used |= here;
    }
    if (!used && request_.until == b) first_reads = true;
    output = output && !request_.buffers[b].ephemeral;
    has_object_.push_back(first_reads || output);
    if (!output) return;
    // In declared order: by the first argument that makes it one.
    const auto declared = [&](std::uint16_t buffer) {
      std::size_t position = 0;
      for (const KernelSpec& kernel : request_.kernels) {
        for (const ArgumentSpec& a : kernel.arguments) {
          const bool makes = a.access == Access::Out || a.access == Access::InOut;
          if (a.buffer == buffer && makes) return position;
          ++position;
        }
      }
      return position;
    };
    outputs_.push_back(static_cast<std::uint16_t>(b));
    std::sort(outputs_.begin(), outputs_.end(),
              [&](std::uint16_t x, std::uint16_t y) { return declared(x) < declared(y); });
  }

  const RequestSpec& request_;
  std::vector<bool> has_object_;
  std::vector<std::uint16_t> outputs_;
};

std::uint64_t initial(const ByteId& id) {
  return mix(mix(static_cast<std::uint64_t>(std::get<0>(id)), std::get<1>(id)), std::get<2>(id));
}

// Runs one kernel over any memory: `at(buffer, n)` is a reference to a byte's value.
template <class Arguments, class At>
void run_kernel(std::size_t k, const Arguments& arguments, const Model& model, At at) {
  std::uint64_t hash = k + 1;
  for (const auto& a : arguments) {
    if (!reads(a.access)) continue;
    for (std::uint64_t n = 0; n < model.bytes(a.buffer); ++n) hash = mix(hash, at(a.buffer, n));
  }
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (!writes(arguments[i].access)) continue;
    for (std::uint64_t n = 0; n < model.bytes(arguments[i].buffer); ++n) {
      at(arguments[i].buffer, n) = mix(mix(hash, i), n);
    }
  }
}

// The values of all outputs, and of `until` after each iteration.
using Outcome = std::vector<std::uint64_t>;

Outcome run_list(const RequestSpec& request, const Model& model, Memory memory) {
  const auto at = [&](std::size_t b, std::uint64_t n) -> std::uint64_t& {
    const ByteId id = model.id(b, n);
    return memory.try_emplace(id, initial(id)).first->second;
  };
  Outcome outcome;
  for (std::uint64_t iteration = 0; iteration < request.n_iter.value; ++iteration) {
    for (std::size_t k = 0; k < request.kernels.size(); ++k) {
      run_kernel(k, request.kernels[k].arguments, model, at);
    }
    if (!request.until.has_value()) continue;
    for (std::uint64_t n = 0; n < 4; ++n) outcome.push_back(at(*request.until, n));
  }
  for (const std::uint16_t b : model.outputs()) {
    for (std::uint64_t n = 0; n < model.bytes(b); ++n) outcome.push_back(at(b, n));
  }
  return outcome;
}

// Kernels in a random order in which each comes behind all that it is `after`.
std::vector<std::size_t> random_order(const PlanTemplate& plan, std::mt19937_64& random) {
  std::vector<std::size_t> order;
  std::vector<bool> done(plan.kernels.size(), false);
  while (order.size() < plan.kernels.size()) {
    const std::size_t k = random() % plan.kernels.size();
    const auto& after = plan.kernels[k].after;
    if (done[k] || !std::all_of(after.begin(), after.end(), [&](auto j) { return done[j]; })) {
      continue;
    }
    done[k] = true;
    order.push_back(k);
  }
  return order;
}

// As an executor does: loads, kernels in device memory, stores. In-place outputs change `objects`.
Outcome run_plan(const PlanTemplate& plan, const Model& model, Memory& objects,
                 std::mt19937_64& random) {
  constexpr std::uint64_t kPoison = 0xDEAD;
  std::vector<std::map<std::uint64_t, std::uint64_t>> device(plan.allocations.size());
  const auto at = [&](std::size_t b, std::uint64_t n) -> std::uint64_t& {
    const TemplateBuffer& buffer = plan.buffers[b];
    const std::uint64_t offset = buffer.allocation_offset + n;
    EXPECT_LT(offset, plan.allocations[buffer.allocation]);
    return device[buffer.allocation].try_emplace(offset, kPoison).first->second;
  };
  for (const std::uint16_t b : plan.loads) {
    for (std::uint64_t n = 0; n < model.bytes(b); ++n) {
      const ByteId id = model.id(b, n);
      const auto found = objects.find(id);
      at(b, n) = found == objects.end() ? initial(id) : found->second;
    }
  }
  Outcome outcome;
  for (std::uint64_t iteration = 0; iteration < plan.n_iter; ++iteration) {
    for (const std::size_t k : random_order(plan, random)) {
      run_kernel(k, plan.kernels[k].arguments, model, at);
    }
    if (!plan.until.has_value()) continue;
    for (std::uint64_t n = 0; n < 4; ++n) outcome.push_back(at(*plan.until, n));
  }
  for (const std::uint16_t b : plan.stores) {
    for (std::uint64_t n = 0; n < model.bytes(b); ++n) {
      outcome.push_back(at(b, n));
      if (plan.buffers[b].place.where == Where::Segment) objects[model.id(b, n)] = at(b, n);
    }
  }
  return outcome;
}

void expect_loads(const PlanTemplate& plan, const Model& model) {
  const std::set<ByteId> needed = model.needed();
  std::set<ByteId> loaded;
  for (const std::uint16_t b : plan.loads) {
    EXPECT_TRUE(plan.buffers[b].reads);
    bool useful = false;
    for (std::uint64_t n = 0; n < model.bytes(b); ++n) {
      loaded.insert(model.id(b, n));
      useful |= needed.contains(model.id(b, n));
    }
    EXPECT_TRUE(useful) << "buffer " << b << " is loaded for nothing";
  }
  EXPECT_TRUE(std::includes(loaded.begin(), loaded.end(), needed.begin(), needed.end()));
  bool in_place = false;
  for (const std::uint16_t b : plan.stores) {
    for (std::uint64_t n = 0; n < model.bytes(b); ++n) {
      in_place |= plan.buffers[b].place.where == Where::Segment && loaded.contains(model.id(b, n));
    }
  }
  EXPECT_EQ(plan.idempotent, !in_place);
}

void expect_dependencies(const PlanTemplate& plan, const Model& model) {
  const std::size_t kernels = plan.kernels.size();
  std::vector<std::vector<bool>> follows(kernels, std::vector<bool>(kernels, false));
  for (std::size_t k = 0; k < kernels; ++k) {
    for (const std::uint16_t j : plan.kernels[k].after) {
      ASSERT_LT(j, k);
      EXPECT_TRUE(model.conflict(j, k)) << k << " follows " << j << " for nothing";
      follows[k][j] = true;
      for (std::size_t i = 0; i < j; ++i) follows[k][i] = follows[k][i] || follows[j][i];
    }
    for (std::size_t j = 0; j < k; ++j) {
      EXPECT_TRUE(follows[k][j] || !model.conflict(j, k)) << k << " does not follow " << j;
    }
  }
}

// Buffers share memory exactly where they are the same bytes and one of them is written.
void expect_allocations(const PlanTemplate& plan, const Model& model) {
  std::uint64_t sum = 0;
  for (const std::uint64_t bytes : plan.allocations) sum += bytes;
  EXPECT_EQ(plan.working_set_bytes, sum);
  for (std::size_t a = 0; a < plan.buffers.size(); ++a) {
    for (std::size_t b = 0; b < plan.buffers.size(); ++b) {
      const TemplateBuffer& x = plan.buffers[a];
      const TemplateBuffer& y = plan.buffers[b];
      if (a == b || !x.used || !y.used) continue;
      for (std::uint64_t n = 0; n < x.bytes; ++n) {
        for (std::uint64_t m = 0; m < y.bytes; ++m) {
          const bool same =
              x.allocation == y.allocation && x.allocation_offset + n == y.allocation_offset + m;
          const bool must = model.id(a, n) == model.id(b, m) && (x.written || y.written);
          EXPECT_TRUE(!must || same) << a << " and " << b;
          EXPECT_TRUE(!same || model.id(a, n) == model.id(b, m)) << a << " and " << b;
        }
      }
    }
  }
}

void check_seed(std::uint64_t seed) {
  const RequestSpec request = RequestMaker(seed).make();
  const Model model(request);
  auto plan = compile(request);
  ASSERT_EQ(plan.has_value(), !model.outputs_overlap_in_a_key())
      << (plan.has_value() ? "compiled" : plan.error().message);
  if (!plan.has_value()) return;
  EXPECT_EQ(plan->stores, model.outputs());
  expect_loads(*plan, model);
  expect_dependencies(*plan, model);
  expect_allocations(*plan, model);
  const Outcome expected = run_list(request, model, {});
  std::mt19937_64 random(seed);
  for (int run = 0; run < 3; ++run) {
    Memory objects;
    EXPECT_EQ(run_plan(*plan, model, objects, random), expected);
    if (plan->idempotent) {
      EXPECT_EQ(run_plan(*plan, model, objects, random), expected);
    }
  }
}

TEST(CompileProperty, PlansDoWhatTheListOfKernelsSays) {
  const char* given = std::getenv("KAAS_TEST_SEED");
  const std::uint64_t first = given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
  const std::uint64_t last = given == nullptr ? 3000 : first;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    check_seed(seed);
    ASSERT_FALSE(HasFailure()) << "KAAS_TEST_SEED=" << seed;
  }
}

// Whatever is renamed: either the template need not change, or renames_need_recompile says so.
TEST(CompileProperty, RenamesThatNeedNoRecompileChangeNothing) {
  std::size_t kept = 0;
  std::size_t recompiled = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    const RequestSpec request = RequestMaker(seed).make();
    auto plan = compile(request);
    if (!plan.has_value()) continue;
    // Places of another random request, for some of the buffers.
    const RequestSpec other = RequestMaker(seed + 1'000'000).make();
    std::vector<BindingSpec> bindings;
    for (std::uint16_t b = 0; b < request.buffers.size() && b < other.buffers.size(); ++b) {
      if ((seed >> b) % 2 == 0) continue;
      bindings.push_back({b, "", other.buffers[b].place, other.buffers[b].offset.value});
      if (bindings.back().place.where == Where::Inline) {
        bindings.back().place.data.resize(request.buffers[b].bytes.value);
      }
    }
    auto resolved = bindings;
    if (!resolve_bindings(*plan, resolved).has_value()) continue;
    const bool needed = renames_need_recompile(*plan, resolved);
    ++(needed ? recompiled : kept);
    if (needed) continue;
    auto anew = compile(request, {}, bindings);
    ASSERT_TRUE(anew.has_value()) << "seed " << seed << ": " << anew.error().message;
    EXPECT_EQ(anew->loads, plan->loads) << "seed " << seed;
    EXPECT_EQ(anew->stores, plan->stores) << "seed " << seed;
    EXPECT_EQ(anew->allocations, plan->allocations) << "seed " << seed;
    for (std::size_t k = 0; k < plan->kernels.size(); ++k) {
      EXPECT_EQ(anew->kernels[k].after, plan->kernels[k].after) << "seed " << seed;
    }
    for (std::size_t b = 0; b < plan->buffers.size(); ++b) {
      EXPECT_EQ(anew->buffers[b].allocation, plan->buffers[b].allocation) << "seed " << seed;
      EXPECT_EQ(anew->buffers[b].allocation_offset, plan->buffers[b].allocation_offset);
    }
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(kept, 300u);
  EXPECT_GT(recompiled, 100u);
}

}  // namespace
}  // namespace kaas
