// Renames and overrides of one run of a template.
#include "daemon/plan/rebind.h"

#include <boost/container/small_vector.hpp>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/flow/field_limits.h"
#include "daemon/flow/text.h"
#include "daemon/plan/compile.h"
#include "daemon/plan/memory.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using wire::Where;

// With more pairs of a binding and a buffer than this, compiling anew costs less than comparing.
constexpr std::size_t kComparedPairsMax = std::size_t{1} << 16;

// Buffer indices by name; built for lists of names only, since each use costs all names.
class NameIndex {
 public:
  explicit NameIndex(const PlanTemplate& plan) : plan_(plan) {}

  Result<std::uint16_t> find(const std::string& name) {
    if (by_name_.empty()) {
      by_name_.reserve(plan_.buffers.size());
      for (std::size_t b = 0; b < plan_.buffers.size(); ++b) {
        by_name_.emplace(plan_.buffers[b].name, static_cast<std::uint16_t>(b));
      }
    }
    const auto found = by_name_.find(name);
    if (found != by_name_.end()) return found->second;
    std::vector<std::string_view> names;
    for (const TemplateBuffer& buffer : plan_.buffers) names.push_back(buffer.name);
    return invalid("names buffer " + quoted(name) + ", which the request does not have" +
                   nearest_names(name, names));
  }

 private:
  const PlanTemplate& plan_;
  std::unordered_map<std::string_view, std::uint16_t> by_name_;
};

std::string label_of(const PlanTemplate& plan, std::uint16_t buffer) {
  return "buffer " + std::to_string(buffer) + " (" + quoted(plan.buffers[buffer].name) + ")";
}

// Of requests with this many buffers nothing is allocated to bind a run.
constexpr std::size_t kUsualBuffers = 16;

// Of each buffer whether a binding named it.
using Named = boost::container::small_vector<bool, 4 * kUsualBuffers>;

Result<void> resolve_one(const PlanTemplate& plan, NameIndex& names, Named& bound,
                         BindingSpec& binding) {
  if (!binding.name.empty()) {
    KAAS_ASSIGN_OR_RETURN(binding.buffer, names.find(binding.name));
  }
  if (binding.buffer >= plan.buffers.size()) {
    return invalid("names buffer " + std::to_string(binding.buffer) + ", request has " +
                   std::to_string(plan.buffers.size()) + " buffers");
  }
  if (bound[binding.buffer]) return invalid("names " + label_of(plan, binding.buffer) + " again");
  bound[binding.buffer] = true;
  const TemplateBuffer& buffer = plan.buffers[binding.buffer];
  if (binding.place.where == Where::Store && binding.place.key.empty()) {
    binding.place.key = buffer.place.where == Where::Store ? buffer.place.key : buffer.name;
  }
  if (!binding.offset.has_value()) {
    binding.offset = binding.place.where == Where::Inline ? 0 : buffer.object_offset;
  }
  return named([&] { return "of " + label_of(plan, binding.buffer) + ":"; },
               check_place(buffer, binding.place, *binding.offset));
}

// A buffer's place in one run.
struct Bound {
  const Place* place = nullptr;
  std::uint64_t offset = 0;
  bool rebound = false;
};

using BoundPlaces = boost::container::small_vector<Bound, kUsualBuffers>;

BoundPlaces bound_places(const PlanTemplate& plan, std::span<const BindingSpec> resolved) {
  BoundPlaces bound;
  bound.reserve(plan.buffers.size());
  for (const TemplateBuffer& buffer : plan.buffers) {
    bound.push_back({&buffer.place, buffer.object_offset, false});
  }
  for (const BindingSpec& binding : resolved) {
    bound[binding.buffer] = {&binding.place, *binding.offset, true};
  }
  return bound;
}

// Inline bytes that a run reads are there, and as many as it reads.
Result<void> check_inline_input(const PlanTemplate& plan, std::uint16_t b, const Place& place) {
  const TemplateBuffer& buffer = plan.buffers[b];
  if (place.where != Where::Inline || place.data.size() == buffer.bytes) return {};
  if (buffer.zero_fill && place.data.size() < buffer.bytes) return {};
  return invalid(label_of(plan, b) + " is an inline input with " +
                 std::to_string(place.data.size()) + " bytes of data, needs " +
                 std::to_string(buffer.bytes) +
                 "; give its data, or bind it to a place (of kaasctl: NAME=@FILE)");
}

bool same_place(const Place& a, std::uint64_t a_offset, const Place& b, std::uint64_t b_offset) {
  return same_object(a, b) && a.key == b.key &&
         object_position(a, a_offset) == object_position(b, b_offset);
}

// Whether two buffers, at these places, must be planned together.
bool interact(const TemplateBuffer& a, const Bound& a_bound, const TemplateBuffer& b,
              const Bound& b_bound) {
  const bool store_alike = a.writes && b.writes && !a_bound.place->key.empty() &&
                           a_bound.place->key == b_bound.place->key &&
                           a_bound.place->where != b_bound.place->where;
  if (store_alike) return true;
  return (a.written || b.written) && same_object(*a_bound.place, *b_bound.place) &&
         ranges_overlap(object_position(*a_bound.place, a_bound.offset), a.bytes,
                        object_position(*b_bound.place, b_bound.offset), b.bytes);
}

}  // namespace

Result<void> check_place(const TemplateBuffer& buffer, const Place& place, std::uint64_t offset) {
  KAAS_RETURN_IF_ERROR(check_buffer_bytes(place.where, buffer.bytes));
  if (place.data.size() > buffer.bytes) {
    return invalid("inline data bytes: " + std::to_string(place.data.size()) + ", limit " +
                   std::to_string(buffer.bytes));
  }
  return check_buffer_end(place, offset, buffer.bytes);
}

Result<void> resolve_places(const PlanTemplate& plan, std::span<BindingSpec> bindings) {
  if (bindings.empty()) return {};
  Named bound(plan.buffers.size(), false);
  NameIndex names(plan);
  for (std::size_t n = 0; n < bindings.size(); ++n) {
    KAAS_RETURN_IF_ERROR(named([&] { return "binding " + std::to_string(n); },
                               resolve_one(plan, names, bound, bindings[n])));
  }
  return {};
}

Result<void> check_inline_outputs(const PlanTemplate& plan, std::span<const BindingSpec> resolved) {
  std::uint64_t bytes = 0;
  for (const std::uint16_t b : plan.stores) {
    if (plan.buffers[b].place.where == Where::Inline) bytes += plan.buffers[b].bytes;
  }
  for (const BindingSpec& binding : resolved) {
    const TemplateBuffer& buffer = plan.buffers[binding.buffer];
    if (!buffer.writes) continue;
    if (buffer.place.where == Where::Inline) bytes -= buffer.bytes;
    if (binding.place.where == Where::Inline) bytes += buffer.bytes;
  }
  if (bytes <= kInlineOutputBytesMax) return {};
  return over_limit(StatusCode::ResourceExhausted, "bytes of all inline outputs", bytes,
                    kInlineOutputBytesMax);
}

Result<void> resolve_bindings(const PlanTemplate& plan, std::span<BindingSpec> bindings) {
  KAAS_RETURN_IF_ERROR(resolve_places(plan, bindings));
  if (bindings.empty()) {
    for (const std::uint16_t b : plan.loads) {
      KAAS_RETURN_IF_ERROR(check_inline_input(plan, b, plan.buffers[b].place));
    }
    return {};  // compile() has checked the outputs.
  }
  const BoundPlaces bound = bound_places(plan, bindings);
  for (const std::uint16_t b : plan.loads) {
    KAAS_RETURN_IF_ERROR(check_inline_input(plan, b, *bound[b].place));
  }
  return check_inline_outputs(plan, bindings);
}

bool renames_need_recompile(const PlanTemplate& plan, std::span<const BindingSpec> resolved) {
  if (resolved.empty()) return false;
  if (resolved.size() * plan.buffers.size() > kComparedPairsMax) return true;
  const BoundPlaces bound = bound_places(plan, resolved);
  for (const BindingSpec& binding : resolved) {
    const TemplateBuffer& buffer = plan.buffers[binding.buffer];
    // Nobody looks at the place of a temporary.
    if (!buffer.used || !buffer.object) continue;
    if (same_place(binding.place, *binding.offset, buffer.place, buffer.object_offset)) continue;
    if (buffer.shared) return true;
    for (std::size_t b = 0; b < plan.buffers.size(); ++b) {
      const TemplateBuffer& other = plan.buffers[b];
      if (b == binding.buffer || !other.used || !other.object) continue;
      if (interact(buffer, bound[binding.buffer], other, bound[b])) return true;
    }
  }
  return false;
}

Result<void> check_overrides(const PlanTemplate& plan,
                             std::span<const LiteralOverrideSpec> overrides) {
  for (std::size_t n = 0; n < overrides.size(); ++n) {
    const LiteralOverrideSpec& given = overrides[n];
    const std::string label = "literal override " + std::to_string(n);
    if (given.kernel >= plan.kernels.size()) {
      return invalid(label + " names kernel " + std::to_string(given.kernel) + ", request has " +
                     std::to_string(plan.kernels.size()) + " kernels");
    }
    const TemplateKernel& kernel = plan.kernels[given.kernel];
    if (given.literal >= kernel.literals.size()) {
      return invalid(label + " names literal " + std::to_string(given.literal) + " of kernel " +
                     std::to_string(given.kernel) + " (" + quoted(kernel.kernel) + "), which has " +
                     std::to_string(kernel.literals.size()) + " literals");
    }
    const LiteralSpec& literal = kernel.literals[given.literal];
    if (given.type.has_value() && *given.type != literal.type) {
      return invalid(label + ": literal " + std::to_string(given.literal) + " of kernel " +
                     std::to_string(given.kernel) + " (" + quoted(kernel.kernel) + ") is " +
                     wire::EnumNameLiteralType(*given.type) + ", the request wants " +
                     wire::EnumNameLiteralType(literal.type));
    }
    const std::size_t raw_bytes = literal.raw.size();
    if (given.raw.size() != raw_bytes) {
      return invalid(label + " of kernel " + std::to_string(given.kernel) + " (" +
                     quoted(kernel.kernel) + ") has " + std::to_string(given.raw.size()) +
                     " raw bytes, the literal has " + std::to_string(raw_bytes));
    }
  }
  return {};
}

}  // namespace kaas
