#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "daemon/executor/cache/memory_pool.h"
#include "daemon/executor/device/host_launch.h"
#include "daemon/executor/run/plan.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using Kind = ParameterType::Kind;

// A grid of so few threads, and so few bytes, that moving its first run to another thread would
// cost more than any such run is likely to.
constexpr std::uint64_t kTinyThreadsMax = 4096;
constexpr std::uint64_t kTinyBytesMax = 64u << 10;
// Beyond this, copying an allocation between its segment and staging memory costs the processor
// more than the device saves.
constexpr std::uint64_t kStagedBytesMax = 64u << 10;
// Kernels that the main thread launches singly, about 4 us each.
constexpr std::uint64_t kLaunchesInlineMax = 64;

Status invalid(std::string message) {
  return Status{StatusCode::InvalidArgument, std::move(message)};
}

template <class T>
Result<void> check_count(const flatbuffers::Vector<T>* vector, std::size_t limit,
                         const char* what) {
  if (count(vector) <= limit) return {};
  return over_limit(StatusCode::InvalidArgument, what, count(vector), limit);
}

const char* access_name(wire::Access access) noexcept {
  static constexpr const char* kNames[] = {"i", "o", "io", "t"};
  const auto index = static_cast<std::size_t>(access);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

class PlanBuilder {
 public:
  PlanBuilder(const wire::LoadPlan& message, Device& device, PlanRef plan)
      : message_(message), device_(device), plan_(std::move(plan)) {}

  Result<PlanRef> begin(std::uint64_t memory_limit_bytes) {
    plan_->id = message_.plan();
    KAAS_RETURN_IF_ERROR(check_counts());
    KAAS_RETURN_IF_ERROR(add_allocations(memory_limit_bytes));
    KAAS_RETURN_IF_ERROR(add_ranges(message_.loads(), plan_->loads, "load"));
    KAAS_RETURN_IF_ERROR(add_ranges(message_.stores(), plan_->stores, "store"));
    KAAS_RETURN_IF_ERROR(check_buffers());
    return plan_;
  }

  Result<void> complete(std::span<const Result<LoadedKernel>> kernels) {
    for (std::size_t i = 0; i < kernels.size(); ++i) {
      const auto index = static_cast<flatbuffers::uoffset_t>(i);
      KAAS_RETURN_IF_ERROR(add_kernel(*message_.kernels()->Get(index), kernels[i]));
    }
    KAAS_RETURN_IF_ERROR(set_repetition());
    find_cacheable_allocations();
    place_staging();
    plan_->starts_inline = is_tiny();
    note_slowness();
    return {};
  }

 private:
  Result<void> check_counts() {
    if (count(message_.kernels()) == 0) return invalid("plan has no kernels");
    KAAS_RETURN_IF_ERROR(check_count(message_.kernels(), kKernelsMax, "number of kernels"));
    KAAS_RETURN_IF_ERROR(check_count(message_.allocations(), kBuffersMax, "number of allocations"));
    KAAS_RETURN_IF_ERROR(check_count(message_.loads(), kBuffersMax, "number of loads"));
    KAAS_RETURN_IF_ERROR(check_count(message_.stores(), kBuffersMax, "number of stores"));
    return check_count(message_.buffers(), kBuffersMax, "number of buffers");
  }

  Result<void> add_allocations(std::uint64_t memory_limit_bytes) {
    for (std::size_t i = 0; i < count(message_.allocations()); ++i) {
      const std::uint64_t bytes = value_at(message_.allocations(), i);
      if (bytes == 0 || bytes > kBufferBytesMax) {
        return invalid("allocation " + std::to_string(i) + " has " + std::to_string(bytes) +
                       " bytes, allowed 1 to " + std::to_string(kBufferBytesMax));
      }
      PlannedAllocation allocation;
      allocation.bytes = bytes;
      plan_->allocations.push_back(allocation);
      plan_->working_set_bytes += MemoryPool::counted_bytes(bytes);  // At most 2^13 times 2^40.
    }
    if (plan_->working_set_bytes <= memory_limit_bytes) return {};
    return Status{StatusCode::OutOfMemory,
                  "working set is " + std::to_string(plan_->working_set_bytes) +
                      " bytes, device limit " + std::to_string(memory_limit_bytes)};
  }

  Result<void> add_ranges(const flatbuffers::Vector<const wire::PlanRange*>* ranges,
                          std::vector<wire::PlanRange>& into, const char* what) {
    for (std::size_t i = 0; i < count(ranges); ++i) {
      const wire::PlanRange range = value_at(ranges, i);
      const std::string name = std::string(what) + " " + std::to_string(i);
      KAAS_RETURN_IF_ERROR(check_place(name, range.allocation(), range.offset(), range.bytes()));
      into.push_back(range);
    }
    return {};
  }

  // A range of at least a byte within an allocation of the plan.
  Result<void> check_place(const std::string& what, std::uint16_t allocation, std::uint64_t offset,
                           std::uint64_t bytes) {
    if (allocation >= plan_->allocations.size()) {
      return invalid(what + " names allocation " + std::to_string(allocation) + " of " +
                     std::to_string(plan_->allocations.size()));
    }
    if (bytes == 0) return invalid(what + " has 0 bytes");
    return check_range(what, offset, bytes, plan_->allocations[allocation].bytes);
  }

  Result<void> check_buffers() {
    for (std::size_t i = 0; i < count(message_.buffers()); ++i) {
      const auto buffer = value_at(message_.buffers(), i);
      KAAS_RETURN_IF_ERROR(
          check_place("buffer " + std::to_string(i), buffer.allocation(), buffer.offset(), 1));
    }
    return {};
  }

  Result<void> add_kernel(const wire::PlanKernel& message, const Result<LoadedKernel>& loaded) {
    const std::string name(view(message.kernel()));
    if (name.empty() || name.size() > kNameBytesMax) {
      return invalid("length of a kernel's name is " + std::to_string(name.size()) +
                     ", allowed 1 to " + std::to_string(kNameBytesMax));
    }
    if (!loaded) return loaded.error();
    const std::shared_ptr<OpenedLibrary>& library = loaded->library;
    const KernelEntry* entry = loaded->entry;
    if (loaded->first_use) ++plan_->kernel_misses;
    const auto& kept = plan_->libraries;
    if (std::find(kept.begin(), kept.end(), library) == kept.end()) {
      plan_->libraries.push_back(library);
    }
    plan_->stateful = plan_->stateful || entry->stateful || library->stateful();

    const std::string what =
        "kernel " + std::to_string(plan_->kernels.size()) + " ('" + name + "')";
    KAAS_RETURN_IF_ERROR(check_variable(message, *entry, what));
    PlannedKernel kernel;
    if (!loaded->function) return loaded->function.error();
    kernel.function = *loaded->function;
    KAAS_RETURN_IF_ERROR(set_shape(message, *entry, what, kernel));
    KAAS_RETURN_IF_ERROR(set_after(message, what, kernel));
    if (entry->stateful || library->stateful()) keep_order_of(*library, kernel);
    KAAS_RETURN_IF_ERROR(check_arguments(message, what));
    KAAS_RETURN_IF_ERROR(add_literals(message, what, kernel));
    KAAS_RETURN_IF_ERROR(entry->original != nullptr
                             ? add_original_parameters(message, what, kernel)
                             : add_parameters(message, *entry, what, kernel));
    note_accesses(message);
    plan_->kernels.push_back(std::move(kernel));
    return {};
  }

  // Extents of grid or block within the device's.
  static Result<void> set_extents(const wire::Dim3* extents,
                                  const std::array<std::uint32_t, 3>& limits,
                                  const std::string& what, std::uint32_t (&to)[3]) {
    if (extents == nullptr) return invalid(what + " is missing");
    const std::uint32_t values[3] = {extents->x(), extents->y(), extents->z()};
    for (std::size_t i = 0; i < 3; ++i) {
      if (values[i] == 0 || values[i] > limits[i]) {
        return invalid(what + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
                       ", allowed 1 to " + std::to_string(limits[i]));
      }
      to[i] = values[i];
    }
    return {};
  }

  Result<void> set_shape(const wire::PlanKernel& message, const KernelEntry& entry,
                         const std::string& what, PlannedKernel& kernel) {
    const DeviceLimits& limits = device_.limits();
    kaas_launch& shape = kernel.shape;
    shape.struct_size = sizeof shape;
    shape.context = entry.context;
    kernel.cooperative = message.cooperative();
    kernel.programmatic = message.programmatic() && limits.overlaps_launches;
    if (message.programmatic() && (entry.opaque != nullptr || entry.original != nullptr)) {
      return invalid(what + " is programmatic, which only kernels can be; it is a function that " +
                     "launches some");
    }
    KAAS_RETURN_IF_ERROR(set_extents(message.grid(), limits.grid, what + " grid", shape.grid));
    KAAS_RETURN_IF_ERROR(set_extents(message.block(), limits.block, what + " block", shape.block));
    std::fill(std::begin(shape.cluster), std::end(shape.cluster), 1u);
    if (message.cluster() != nullptr) {
      KAAS_RETURN_IF_ERROR(
          set_extents(message.cluster(), limits.grid, what + " cluster", shape.cluster));
    }
    const std::uint64_t threads = std::uint64_t{shape.block[0]} * shape.block[1] * shape.block[2];
    if (threads > limits.block_threads) {
      return over_limit(StatusCode::InvalidArgument, what + " threads of a block", threads,
                        limits.block_threads);
    }
    // The grid's extents are at most 2^31, 2^16 and 2^16, so two factors cannot overflow.
    const std::uint64_t layer = std::uint64_t{shape.grid[0]} * shape.grid[1];
    const auto threads_max = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (layer > threads_max / shape.grid[2] / threads) {
      return invalid(what + " has more than 2^63 threads");
    }
    const std::uint64_t shared =
        entry.shared_bytes(message.shared_bytes(), static_cast<std::uint32_t>(threads));
    if (shared > limits.shared_bytes) {
      return over_limit(StatusCode::InvalidArgument, what + " shared_bytes", shared,
                        limits.shared_bytes);
    }
    shape.shared_bytes = shared;
    return check_function(kernel.function, static_cast<std::uint32_t>(threads), shared, what);
  }

  // What this kernel takes on this device, which can be less than what others do.
  static Result<void> check_function(const DeviceFunction& function, std::uint32_t threads,
                                     std::uint64_t shared, const std::string& what) {
    if (function.block_threads_max != 0 && threads > function.block_threads_max) {
      return over_limit(StatusCode::InvalidArgument,
                        what + " (" + std::to_string(function.registers) +
                            " registers a thread) threads of a block",
                        threads, function.block_threads_max);
    }
    if (function.shared_bytes_max != 0 && shared > function.shared_bytes_max) {
      return over_limit(StatusCode::InvalidArgument,
                        what + " shared_bytes, besides its static shared memory,", shared,
                        function.shared_bytes_max);
    }
    return {};
  }

  Result<void> set_after(const wire::PlanKernel& message, const std::string& what,
                         PlannedKernel& kernel) {
    KAAS_RETURN_IF_ERROR(check_count(message.after(), kKernelsMax, "number of kernels waited for"));
    for (std::size_t i = 0; i < count(message.after()); ++i) {
      const std::uint16_t earlier = value_at(message.after(), i);
      if (earlier >= plan_->kernels.size()) {
        return invalid(what + " waits for kernel " + std::to_string(earlier) +
                       ", which does not come before it");
      }
      kernel.after.push_back(earlier);
    }
    return {};
  }

  // Kernels of a library that keeps state touch common bytes that no buffer names.
  void keep_order_of(const OpenedLibrary& library, PlannedKernel& kernel) {
    const auto index = static_cast<std::uint16_t>(plan_->kernels.size());
    const auto [last, first] = last_stateful_.try_emplace(&library, index);
    if (first) return;
    if (std::find(kernel.after.begin(), kernel.after.end(), last->second) == kernel.after.end()) {
      kernel.after.push_back(last->second);
    }
    last->second = index;
  }

  static Result<void> check_variable(const wire::PlanKernel& message, const KernelEntry& entry,
                                     const std::string& what) {
    if (entry.variable == 0 || count(message.arguments()) != 1) return {};
    const std::uint64_t bytes = value_at(message.arguments(), 0).bytes();
    if (bytes == entry.variable_bytes) return {};
    return invalid(what + " argument 0 has " + std::to_string(bytes) + " bytes, the variable has " +
                   std::to_string(entry.variable_bytes));
  }

  Result<void> check_arguments(const wire::PlanKernel& message, const std::string& what) {
    KAAS_RETURN_IF_ERROR(
        check_count(message.arguments(), kArgumentsPerKernelMax, "number of arguments"));
    for (std::size_t i = 0; i < count(message.arguments()); ++i) {
      const auto argument = value_at(message.arguments(), i);
      const std::string name = what + " argument " + std::to_string(i);
      KAAS_RETURN_IF_ERROR(
          check_place(name, argument.allocation(), argument.offset(), argument.bytes()));
      if (argument.access() > wire::Access::MAX) {
        return invalid(name + " has access " +
                       std::to_string(static_cast<unsigned>(argument.access())));
      }
    }
    return {};
  }

  // Room for `bytes` in the words, aligned to 16; returns where it begins.
  std::uint32_t add_words(std::uint32_t bytes) {
    plan_->words.resize((plan_->words.size() + 1) & ~std::size_t{1});
    const auto at = static_cast<std::uint32_t>(plan_->words.size() * sizeof(std::uint64_t));
    plan_->words.resize(plan_->words.size() + (bytes + 7) / 8);
    return at;
  }

  Result<void> add_literals(const wire::PlanKernel& message, const std::string& what,
                            PlannedKernel& kernel) {
    KAAS_RETURN_IF_ERROR(
        check_count(message.literals(), kLiteralsPerKernelMax, "number of literals"));
    for (std::size_t i = 0; i < count(message.literals()); ++i) {
      const auto& literal = *message.literals()->Get(static_cast<flatbuffers::uoffset_t>(i));
      const std::string name = what + " literal " + std::to_string(i);
      if (literal.type() == wire::LiteralType::Raw) {
        KAAS_RETURN_IF_ERROR(add_raw_literal(literal, name, kernel));
        continue;
      }
      const std::uint32_t bytes = literal_bytes(literal.type());
      if (bytes == 0) return invalid(name + " has an unknown type");
      const std::uint32_t at = add_words(bytes);
      plan_->words[at / sizeof(std::uint64_t)] = literal.bits();
      kernel.literals.push_back({literal.type(), at, bytes});
    }
    return {};
  }

  Result<void> add_raw_literal(const wire::Literal& literal, const std::string& name,
                               PlannedKernel& kernel) {
    const std::size_t bytes = count(literal.raw());
    if (bytes == 0 || bytes > kRawLiteralBytesMax) {
      return invalid(name + " has " + std::to_string(bytes) + " raw bytes, allowed 1 to " +
                     std::to_string(kRawLiteralBytesMax));
    }
    const std::uint32_t at = add_words(static_cast<std::uint32_t>(bytes));
    std::memcpy(reinterpret_cast<std::byte*>(plan_->words.data()) + at, literal.raw()->data(),
                bytes);
    kernel.literals.push_back({wire::LiteralType::Raw, at, static_cast<std::uint32_t>(bytes)});
    KAAS_RETURN_IF_ERROR(check_count(literal.slots(), kAddressSlotsMax, "number of address slots"));
    for (std::size_t i = 0; i < count(literal.slots()); ++i) {
      const auto slot = value_at(literal.slots(), i);
      const std::string slot_name = name + " slot " + std::to_string(i);
      KAAS_RETURN_IF_ERROR(check_range(slot_name, slot.offset(), sizeof(DeviceAddress), bytes));
      if (slot.buffer() >= count(message_.buffers())) {
        return invalid(slot_name + " names buffer " + std::to_string(slot.buffer()) + " of " +
                       std::to_string(count(message_.buffers())));
      }
      const auto buffer = value_at(message_.buffers(), slot.buffer());
      plan_->addresses.push_back({at + slot.offset(), {buffer.offset(), buffer.allocation()}});
    }
    return {};
  }

  std::uint32_t add_address(const wire::PlanArgument& argument) {
    const auto at = static_cast<std::uint32_t>(plan_->words.size() * sizeof(std::uint64_t));
    plan_->words.push_back(0);
    plan_->addresses.push_back({at, {argument.offset(), argument.allocation()}});
    return at;
  }

  // Position in `literals` (then `arguments`) of each parameter.
  static Result<std::vector<std::uint16_t>> parameter_order(const wire::PlanKernel& message,
                                                            const std::string& what) {
    const std::size_t available = count(message.literals()) + count(message.arguments());
    std::vector<std::uint16_t> order;
    if (count(message.order()) == 0) {
      for (std::size_t i = 0; i < available; ++i) order.push_back(static_cast<std::uint16_t>(i));
      return order;
    }
    KAAS_RETURN_IF_ERROR(check_count(message.order(),
                                     kLiteralsPerKernelMax + kArgumentsPerKernelMax,
                                     "length of a parameter order"));
    for (std::size_t i = 0; i < count(message.order()); ++i) {
      const std::uint16_t index = value_at(message.order(), i);
      if (index >= available) {
        return invalid(what + " order names parameter " + std::to_string(index) + " of " +
                       std::to_string(available));
      }
      order.push_back(index);
    }
    return order;
  }

  Result<void> add_parameters(const wire::PlanKernel& message, const KernelEntry& entry,
                              const std::string& what, PlannedKernel& kernel) {
    KAAS_ASSIGN_OR_RETURN(const auto order, parameter_order(message, what));
    if (order.size() != entry.parameters.size()) {
      return invalid(what + " gets " + std::to_string(order.size()) + " parameters (" +
                     std::to_string(count(message.literals())) + " literals, " +
                     std::to_string(count(message.arguments())) + " buffers), signature wants " +
                     std::to_string(entry.parameters.size()));
    }
    const std::size_t literals = count(message.literals());
    for (std::size_t i = 0; i < order.size(); ++i) {
      const ParameterType& wanted = entry.parameters[i];
      if (order[i] < literals) {
        const LiteralSlot& slot = kernel.literals[order[i]];
        KAAS_RETURN_IF_ERROR(check_literal(slot, wanted, order[i], what));
        kernel.parameters.push_back(slot.at);
        continue;
      }
      const auto index = static_cast<std::uint16_t>(order[i] - literals);
      const wire::PlanArgument argument = value_at(message.arguments(), index);
      KAAS_RETURN_IF_ERROR(check_argument(argument, wanted, index, what));
      kernel.parameters.push_back(add_address(argument));
    }
    return {};
  }

  static Result<void> check_literal(const LiteralSlot& slot, const ParameterType& wanted,
                                    std::uint16_t index, const std::string& what) {
    const bool raw = slot.type == wire::LiteralType::Raw;
    const bool fits = raw ? wanted.kind == Kind::Raw && wanted.bytes == slot.bytes
                          : wanted.kind == Kind::Literal && wanted.literal == slot.type;
    if (fits || (wanted.kind == Kind::Untyped && wanted.bytes == slot.bytes)) return {};
    const std::string found = raw ? std::to_string(slot.bytes) + " raw bytes" : name_of(slot.type);
    return invalid(what + " literal " + std::to_string(index) + " is " + found +
                   ", signature wants " + describe(wanted));
  }

  static Result<void> check_argument(const wire::PlanArgument& argument,
                                     const ParameterType& wanted, std::uint16_t index,
                                     const std::string& what) {
    const std::string name = what + " argument " + std::to_string(index);
    const bool is_address = wanted.kind == Kind::Input || wanted.kind == Kind::Output ||
                            (wanted.kind == Kind::Untyped && wanted.bytes == sizeof(DeviceAddress));
    if (!is_address) {
      return invalid(name + " is a buffer, signature wants " + describe(wanted));
    }
    const wire::Access access = argument.access();
    if (wanted.kind == Kind::Input && access == wire::Access::Out) {
      return invalid(name + " is 'o', but the kernel only reads it; allowed: i, io, t");
    }
    if (wanted.kind == Kind::Output && access == wire::Access::In) {
      return invalid(name + " is '" + access_name(access) +
                     "', but the kernel may write it; allowed: o, io, t");
    }
    return {};
  }

  // The original form gets a grid, a block and buffers, which lie one after another in the words.
  Result<void> add_original_parameters(const wire::PlanKernel& message, const std::string& what,
                                       PlannedKernel& kernel) {
    const kaas_launch& shape = kernel.shape;
    if (shape.grid[1] != 1 || shape.grid[2] != 1 || shape.block[1] != 1 || shape.block[2] != 1) {
      return invalid(what +
                     " has the original form f(int grid, int block, void** buffers): grid "
                     "and block have one dimension");
    }
    if (count(message.literals()) != 0) {
      return invalid(what +
                     " has the original form f(int grid, int block, void** buffers): it gets " +
                     "no literals, given: " + std::to_string(count(message.literals())));
    }
    KAAS_ASSIGN_OR_RETURN(const auto order, parameter_order(message, what));
    kernel.parameters.push_back(add_words(0));
    for (const std::uint16_t index : order) add_address(value_at(message.arguments(), index));
    plan_->words.push_back(0);  // So that there is a word even without buffers.
    return {};
  }

  // What the kernel may write, its address slots included.
  void note_accesses(const wire::PlanKernel& message) {
    const auto reads_only = [&](std::uint16_t allocation) {
      for (std::size_t i = 0; i < count(message.arguments()); ++i) {
        const auto argument = value_at(message.arguments(), i);
        if (argument.allocation() == allocation) return argument.access() == wire::Access::In;
      }
      return false;  // Only an address slot names it, which does not say what for.
    };
    for (std::size_t i = 0; i < count(message.arguments()); ++i) {
      const auto argument = value_at(message.arguments(), i);
      ++plan_->allocations[argument.allocation()].uses;
      if (argument.access() != wire::Access::In) {
        plan_->allocations[argument.allocation()].written = true;
      }
    }
    for (std::size_t i = 0; i < count(message.literals()); ++i) {
      const auto& literal = *message.literals()->Get(static_cast<flatbuffers::uoffset_t>(i));
      for (std::size_t s = 0; s < count(literal.slots()); ++s) {
        const auto slot = value_at(literal.slots(), s);
        const auto buffer = value_at(message_.buffers(), slot.buffer());
        PlannedAllocation& allocation = plan_->allocations[buffer.allocation()];
        ++allocation.uses;
        if (!reads_only(buffer.allocation())) allocation.written = true;
      }
    }
  }

  Result<void> set_repetition() {
    if (message_.n_iter() == 0 || message_.n_iter() > kIterationsMax) {
      return invalid("n_iter is " + std::to_string(message_.n_iter()) + ", allowed 1 to " +
                     std::to_string(kIterationsMax));
    }
    plan_->n_iter = message_.n_iter();
    if (message_.until() < 0) return {};
    const auto index = static_cast<std::uint32_t>(message_.until());
    if (index >= count(message_.buffers())) {
      return invalid("until names buffer " + std::to_string(index) + " of " +
                     std::to_string(count(message_.buffers())));
    }
    const auto buffer = value_at(message_.buffers(), index);
    KAAS_RETURN_IF_ERROR(
        check_place("until", buffer.allocation(), buffer.offset(), sizeof(std::uint32_t)));
    plan_->until = PlanPlace{buffer.offset(), buffer.allocation()};
    return {};
  }

  using Interval = std::pair<std::uint64_t, std::uint64_t>;

  // Whether the intervals leave no byte of [0, bytes) out. Sorts them.
  static bool fill(std::vector<Interval>& intervals, std::uint64_t bytes) {
    std::sort(intervals.begin(), intervals.end());
    std::uint64_t end = 0;
    for (const Interval& interval : intervals) {
      if (interval.first > end) break;
      end = std::max(end, interval.second);
    }
    return end == bytes;
  }

  void find_cacheable_allocations() {
    std::vector<std::vector<Interval>> filled(plan_->allocations.size());
    for (std::size_t i = 0; i < plan_->loads.size(); ++i) {
      const wire::PlanRange& load = plan_->loads[i];
      PlannedAllocation& allocation = plan_->allocations[load.allocation()];
      const bool only = filled[load.allocation()].empty();
      const bool whole = load.offset() == 0 && load.bytes() == allocation.bytes;
      allocation.cacheable_load.reset();
      if (only && whole && !allocation.written) {
        allocation.cacheable_load = static_cast<std::uint16_t>(i);
      }
      filled[load.allocation()].emplace_back(load.offset(), load.offset() + load.bytes());
    }
    std::vector<std::vector<Interval>> taken(plan_->allocations.size());
    for (const wire::PlanRange& store : plan_->stores) {
      taken[store.allocation()].emplace_back(store.offset(), store.offset() + store.bytes());
    }
    for (std::size_t i = 0; i < filled.size(); ++i) {
      PlannedAllocation& allocation = plan_->allocations[i];
      const bool is_loaded = !filled[i].empty();
      allocation.covered = fill(filled[i], allocation.bytes);
      allocation.may_be_foreign =
          allocation.written ? fill(taken[i], allocation.bytes) : is_loaded || !taken[i].empty();
    }
  }

  void place_staging() {
    if (!device_.limits().reaches_host) return;
    std::vector<bool> connected(plan_->allocations.size(), false);
    for (const wire::PlanRange& load : plan_->loads) connected[load.allocation()] = true;
    for (const wire::PlanRange& store : plan_->stores) connected[store.allocation()] = true;
    for (std::size_t i = 0; i < plan_->allocations.size(); ++i) {
      PlannedAllocation& allocation = plan_->allocations[i];
      if (connected[i] && allocation.bytes <= kInPlaceBytesMax) plan_->has_choice = true;
      if (!connected[i] || allocation.bytes > kStagedBytesMax) continue;
      allocation.staging_offset = plan_->staging_bytes;
      plan_->staging_bytes += MemoryPool::counted_bytes(allocation.bytes);
    }
  }

  void note_slowness() {
    plan_->many_launches =
        plan_->until.has_value() || plan_->kernels.size() > kLaunchesInlineMax / plan_->n_iter;
    plan_->may_be_confined = true;
    for (const PlannedKernel& kernel : plan_->kernels) {
      const KernelEntry& entry = *kernel.function.entry;
      if (entry.opaque != nullptr || entry.original != nullptr) plan_->calls_libraries = true;
      if (kernel.cooperative) plan_->may_be_confined = false;  // It may need the whole device.
    }
    if (plan_->calls_libraries) plan_->may_be_confined = false;
  }

  [[nodiscard]] bool is_tiny() const {
    std::uint64_t threads = 0;
    for (const PlannedKernel& kernel : plan_->kernels) {
      if (kernel.function.entry->host_blocks == nullptr) return false;
      const std::uint64_t blocks = block_count(kernel.shape);
      if (blocks > kTinyThreadsMax) return false;
      threads += blocks * block_threads(kernel.shape);
    }
    if (threads > kTinyThreadsMax / plan_->n_iter) return false;
    std::uint64_t bytes = 0;
    for (const wire::PlanRange& load : plan_->loads) bytes += load.bytes();
    for (const wire::PlanRange& store : plan_->stores) bytes += store.bytes();
    return bytes <= kTinyBytesMax;
  }

  const wire::LoadPlan& message_;
  Device& device_;
  PlanRef plan_;
  std::map<const OpenedLibrary*, std::uint16_t> last_stateful_;  // Its last kernel so far.
};

}  // namespace

Result<PlanRef> begin_plan(const wire::LoadPlan& message, Device& device,
                           std::uint64_t memory_limit_bytes) {
  return PlanBuilder(message, device, new ExecutorPlan).begin(memory_limit_bytes);
}

Result<void> complete_plan(const wire::LoadPlan& message, const PlanRef& plan,
                           std::span<const Result<LoadedKernel>> kernels, Device& device) {
  return PlanBuilder(message, device, plan).complete(kernels);
}

}  // namespace kaas
