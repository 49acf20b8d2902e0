#include "daemon/executor/run/run_preparation.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

// Uses of small memory over the bus that cost less than moving it.
constexpr std::uint64_t kUsesInPlaceMax = 1;
constexpr std::uint64_t kMoveAlignmentBytes = 16;
// Of a background run, which has no graph, by the main thread: that is to serve others.
constexpr std::uint64_t kBackgroundLaunchesInlineMax = 4;

std::string numbered(const char* what, std::size_t index) {
  return std::string(what) + " " + std::to_string(index);
}

// Whether the entries together hold bytes [offset, offset + bytes) of their version.
bool cover_together(const std::vector<CachePin>& parts, std::uint64_t offset, std::uint64_t bytes) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> intervals;
  for (const CachePin& part : parts) {
    intervals.emplace_back(part->key().offset, part->key().offset + part->key().bytes);
  }
  std::sort(intervals.begin(), intervals.end());
  std::uint64_t reached = offset;
  for (const auto& [begin, end] : intervals) {
    if (begin > reached) break;
    reached = std::max(reached, end);
  }
  return reached >= offset + bytes;
}

}  // namespace

Result<void> RunPreparation::prepare() {
  task_.counters = {};
  task_.pins.resize(plan_.loads.size());
  task_.blocks.resize(plan_.allocations.size());
  task_.addresses.assign(plan_.allocations.size(), 0);
  KAAS_RETURN_IF_ERROR(find_sources());
  KAAS_RETURN_IF_ERROR(take_frame());
  task_.slow = false;
  if (task_.device_memory) KAAS_RETURN_IF_ERROR(find_foreign_memory());
  KAAS_RETURN_IF_ERROR(take_memory());
  const bool has_events = !task_.wait_events.empty() || !task_.record_events.empty();
  task_.all_staged = !task_.device_memory && !has_events;
  KAAS_RETURN_IF_ERROR(add_loads());
  KAAS_RETURN_IF_ERROR(add_stores());
  KAAS_RETURN_IF_ERROR(add_events(task_.wait_events, task_.body.waits));
  KAAS_RETURN_IF_ERROR(add_events(task_.record_events, task_.body.records));
  if (!task_.wait_events.empty() && task_.body.reads_while_enqueued()) task_.slow = true;
  KAAS_RETURN_IF_ERROR(set_parameters());
  const PreparedProgram* prepared = task_.body.program.prepared;
  const bool one_launch = prepared != nullptr && prepared->will_do(task_.body.program);
  if (!one_launch && (plan_.calls_libraries || plan_.many_launches)) task_.slow = true;
  const bool is_short = plan_.kernels.size() <= kBackgroundLaunchesInlineMax / plan_.n_iter;
  if (task_.body.program.background && !is_short) task_.slow = true;
  return {};
}

void RunPreparation::release(RunTask& task) {
  // Of a run that was refused or failed nobody knows whether its memory was cleared.
  const bool ended_well = task.started && !task.failure;
  if (!ended_well) {
    for (const BlockRef& block : task.blocks) {
      if (block) block.forget_tenant();
    }
  }
  task.body.loads.clear();
  task.body.stores.clear();
  task.body.before.clear();
  task.body.behind.clear();
  task.body.waits.clear();
  task.body.records.clear();
  task.foreign.clear();
  task.pins.clear();
  if (task.frame != nullptr) {
    const ExecutorPlan& plan = *task.plan;
    for (const RunLiteral& literal : task.literals) {
      if (literal.kernel >= plan.kernels.size() ||
          literal.literal >= plan.kernels[literal.kernel].literals.size()) {
        continue;
      }
      const LiteralSlot& slot = plan.kernels[literal.kernel].literals[literal.literal];
      std::memcpy(task.frame->at(slot.at),
                  reinterpret_cast<const std::byte*>(plan.words.data()) + slot.at, slot.bytes);
    }
    // A block that a cached copy refers to as well is nobody's to write any more.
    if (plan.staging_bytes != 0 && ended_well) {
      for (std::size_t i = 0; i < task.blocks.size(); ++i) {
        if (task.blocks[i] && task.blocks[i].unique()) {
          task.frame->blocks[i] = std::move(task.blocks[i]);
        }
      }
    }
    task.plan->give_back(std::move(task.frame));
  }
  task.blocks.clear();
  task.addresses.clear();
  task.segments.clear();
}

// Bytes of a load that exist; the rest of its range is zero.
std::uint64_t RunPreparation::needed_bytes(std::size_t load) const noexcept {
  const std::uint64_t bytes = plan_.loads[load].bytes();
  return plan_.loads[load].zero_fill() ? std::min(bytes, task_.loads[load].available()) : bytes;
}

// Pins cached copies before any memory is taken, which could evict them.
Result<void> RunPreparation::find_sources() {
  for (std::size_t i = 0; i < plan_.loads.size(); ++i) {
    const wire::Location& location = task_.loads[i];
    const std::uint64_t needed = needed_bytes(i);
    if (needed > UINT64_MAX - location.object_offset()) {
      return Status{StatusCode::InvalidArgument, numbered("load", i) + " object_offset is " +
                                                     std::to_string(location.object_offset()) +
                                                     ", too large for its size"};
    }
    if (needed == 0 || location.version() == 0) continue;
    if (avoids_copies_ && location.segment() != 0) continue;
    task_.pins[i] = cache_.find({location.version(), location.object_offset(), needed});
    if (!task_.pins[i] && location.segment() == 0) {
      KAAS_RETURN_IF_ERROR(find_pending_source(i));
    }
    ++(task_.pins[i] || location.segment() == 0 ? task_.counters.device_hits
                                                : task_.counters.device_misses);
  }
  return {};
}

// A version that exists on this device only: its parts were pinned when the run arrived.
Result<void> RunPreparation::find_pending_source(std::size_t load) {
  const wire::Location& location = task_.loads[load];
  std::vector<CachePin>& parts = task_.parts[load];
  for (CachePin& part : parts) {
    if (part->state() != CacheEntry::State::Ready) {
      return Status{StatusCode::DependencyFailed,
                    "an earlier request that writes what this one reads has failed"};
    }
    if (part->covers(location.object_offset(), needed_bytes(load))) {
      task_.pins[load] = CachePin(cache_, *part);
      return {};
    }
  }
  if (cover_together(parts, location.object_offset(), needed_bytes(load))) return {};
  return Status{StatusCode::Unavailable, "version " + std::to_string(location.version()) +
                                             " is not on this device any more"};
}

// Whether the load's cached copy can be the allocation itself.
bool RunPreparation::serves_as_allocation(std::size_t load) const noexcept {
  const CachePin& pin = task_.pins[load];
  if (!pin || pin->host_bytes() != nullptr || needed_bytes(load) != plan_.loads[load].bytes()) {
    return false;
  }
  const PlannedAllocation& allocation = plan_.allocations[plan_.loads[load].allocation()];
  if (allocation.cacheable_load != load) return false;
  if (plan_.kernels.empty()) return true;  // It is copied from there, wherever it is.
  const std::uint64_t inside = task_.loads[load].object_offset() - pin->key().offset;
  return (pin->address() + inside) % kDeviceAlignmentBytes == 0;
}

// The frame, with its staging memory; what another tenant left in it is not kept.
Result<void> RunPreparation::take_frame() {
  task_.frame = task_.plan->take_frame();
  ParameterFrame& frame = *task_.frame;
  task_.way = task_.plan->placement.next();
  if (frame.tenant != task_.tenant) {
    for (BlockRef& block : frame.blocks) block = BlockRef();
  }
  if (plan_.staging_bytes != 0) {
    if (frame.staging.address() == 0) {
      KAAS_ASSIGN_OR_RETURN(frame.staging, device_.allocate_host(plan_.staging_bytes));
    }
    // At once, and all of it: the run may be refused, or work elsewhere this time.
    if (frame.tenant != task_.tenant) std::memset(frame.staged(0), 0, plan_.staging_bytes);
  }
  frame.tenant = task_.tenant;
  return {};
}

namespace {

// No client's memory: a load or a store of the allocation is elsewhere.
constexpr DeviceAddress kNotForeign = ~DeviceAddress{0};

}  // namespace

// Allocations whose bytes all come from and go to one place in a client's device memory are that
// place: the kernels work there, and nothing is copied.
Result<void> RunPreparation::find_foreign_memory() {
  task_.foreign.assign(plan_.allocations.size(), 0);
  for (std::size_t i = 0; i < plan_.loads.size(); ++i) {
    const wire::PlanRange& range = plan_.loads[i];
    if (needed_bytes(i) < range.bytes()) task_.foreign[range.allocation()] = kNotForeign;
    KAAS_RETURN_IF_ERROR(note_foreign(range, task_.loads[i], "load", i));
  }
  for (std::size_t i = 0; i < plan_.stores.size(); ++i) {
    KAAS_RETURN_IF_ERROR(note_foreign(plan_.stores[i], task_.stores[i], "store", i));
  }
  for (DeviceAddress& address : task_.foreign) {
    if (address % kDeviceAlignmentBytes != 0) address = 0;
  }
  return {};
}

Result<void> RunPreparation::note_foreign(const wire::PlanRange& range,
                                          const wire::Location& location, const char* what,
                                          std::size_t index) {
  DeviceAddress& noted = task_.foreign[range.allocation()];
  if (!plan_.allocations[range.allocation()].may_be_foreign || location.segment() == 0) {
    noted = kNotForeign;
  }
  if (noted == kNotForeign) return {};
  KAAS_ASSIGN_OR_RETURN(auto segment, segment_of(location, range.bytes(), what, index));
  const bool fits = segment->is_direct() && location.offset() >= range.offset();
  const DeviceAddress begin =
      fits ? segment->device_address() + location.offset() - range.offset() : kNotForeign;
  if (noted != 0 && noted != begin) {
    noted = kNotForeign;
    return {};
  }
  noted = begin;
  if (fits) task_.segments.push_back(std::move(segment));
  return {};
}

Result<void> RunPreparation::take_memory() {
  for (std::size_t i = 0; i < plan_.allocations.size(); ++i) {
    const PlannedAllocation& allocation = plan_.allocations[i];
    if (is_foreign(i)) {
      task_.addresses[i] = task_.foreign[i];
      continue;
    }
    if (allocation.cacheable_load && serves_as_allocation(*allocation.cacheable_load)) {
      const std::size_t load = *allocation.cacheable_load;
      const CacheEntry& entry = *task_.pins[load];
      task_.addresses[i] =
          entry.address() + (task_.loads[load].object_offset() - entry.key().offset);
      continue;
    }
    if (works_in_staging(i)) {
      task_.addresses[i] =
          reinterpret_cast<DeviceAddress>(task_.frame->staged(*allocation.staging_offset));
      continue;
    }
    if (const DeviceAddress place = registered_place(i)) {
      task_.addresses[i] = place;
      continue;
    }
    KAAS_RETURN_IF_ERROR(take_block(i));
  }
  return {};
}

// Whether kernels work on the allocation in the frame's staging memory. Not if several kernels use
// it: each would cross the bus. Not if its bytes are to stay on the device: an output that nobody
// copies to the host, or an object that was loaded before and will be cached.
bool RunPreparation::works_in_staging(std::size_t allocation) {
  const PlannedAllocation& planned = plan_.allocations[allocation];
  if (!planned.staging_offset || task_.way == Placement::Way::Copied) return false;
  if (planned.uses > kUsesInPlaceMax / plan_.n_iter) return false;
  for (std::size_t i = 0; i < plan_.stores.size(); ++i) {
    if (plan_.stores[i].allocation() == allocation && task_.stores[i].segment() == 0) return false;
  }
  const auto& load = plan_.allocations[allocation].cacheable_load;
  return !load || task_.loads[*load].version() == 0 ||
         !cache_.asked_before(task_.loads[*load].version());
}

// Where the client has the bytes of the allocation, if kernels can work on them there: all of it is
// one range of one registered segment, and what they write is what the client wants written. 0: no.
DeviceAddress RunPreparation::registered_place(std::size_t allocation) {
  const PlannedAllocation& planned = plan_.allocations[allocation];
  if (!device_.limits().reaches_host || task_.way == Placement::Way::Copied ||
      planned.staging_offset || planned.bytes > kInPlaceBytesMax) {
    return 0;
  }
  const wire::Location* place = nullptr;
  const auto take = [&](const wire::PlanRange& range, const wire::Location& location) {
    if (range.bytes() != planned.bytes || location.segment() == 0 || location.version() != 0) {
      return false;
    }
    if (place != nullptr &&
        (place->segment() != location.segment() || place->offset() != location.offset())) {
      return false;
    }
    place = &location;
    return true;
  };
  bool stored = false;
  for (std::size_t i = 0; i < plan_.loads.size(); ++i) {
    if (plan_.loads[i].allocation() != allocation) continue;
    if (needed_bytes(i) != planned.bytes || !take(plan_.loads[i], task_.loads[i])) return 0;
  }
  for (std::size_t i = 0; i < plan_.stores.size(); ++i) {
    if (plan_.stores[i].allocation() != allocation) continue;
    if (!take(plan_.stores[i], task_.stores[i])) return 0;
    stored = true;
  }
  if (place == nullptr || (planned.written && !stored)) return 0;
  const auto segment = segment_of(*place, planned.bytes, "allocation", allocation);
  if (!segment || !(*segment)->pinned() || (stored && !(*segment)->terms().writable)) return 0;
  const auto address = reinterpret_cast<DeviceAddress>((*segment)->mapped() + place->offset());
  return address % kDeviceAlignmentBytes == 0 ? address : 0;
}

Result<void> RunPreparation::take_block(std::size_t allocation) {
  const PlannedAllocation& planned = plan_.allocations[allocation];
  if (BlockRef& kept = task_.frame->blocks[allocation]) {
    task_.addresses[allocation] = kept.address();
    task_.blocks[allocation] = std::move(kept);
    kept = BlockRef();
    return {};
  }
  auto taken = cache_.allocate(planned.bytes, task_.tenant);
  if (!taken) {
    return Status{StatusCode::OutOfMemory,
                  "working set is " + std::to_string(plan_.working_set_bytes) +
                      " bytes, device limit " + std::to_string(cache_.pool().limit_bytes()) +
                      ", of which " + std::to_string(cache_.pool().used_bytes()) +
                      " cannot be freed"};
  }
  task_.addresses[allocation] = taken->block.address();
  if (taken->foreign && !planned.covered) {
    LoadStep zero;
    zero.to = task_.addresses[allocation];
    zero.bytes = planned.bytes;
    task_.body.loads.push_back(zero);
  }
  task_.blocks[allocation] = std::move(taken->block);
  return {};
}

// Has the program move a small range between staging and device memory, if it can: one kernel does
// all of them sooner than the driver starts a copy. Only whole ranges: a move copies multiples of
// 16 bytes.
bool RunPreparation::move(std::vector<Move>& moves, DeviceAddress to, DeviceAddress from,
                          const wire::PlanRange& range) const {
  if (to == from) return false;
  const std::uint64_t end = range.offset() + range.bytes();
  const bool is_whole = range.bytes() % kMoveAlignmentBytes == 0 ||
                        end == plan_.allocations[range.allocation()].bytes;
  if (!is_whole || (to | from) % kMoveAlignmentBytes != 0 || moves.size() == kMovesMax)
    return false;
  std::uint64_t bytes = range.bytes();
  for (const Move& other : moves) bytes += other.bytes;
  if (bytes > kMovedBytesMax) return false;
  moves.push_back({to, from, range.bytes()});
  return true;
}

// Where the frame's staging memory has the range; null: nowhere.
std::byte* RunPreparation::staged(const wire::PlanRange& range) const noexcept {
  const auto& offset = plan_.allocations[range.allocation()].staging_offset;
  return offset ? task_.frame->staged(*offset) + range.offset() : nullptr;
}

Result<void> RunPreparation::add_loads() {
  for (std::size_t i = 0; i < plan_.loads.size(); ++i) {
    const auto& cacheable = plan_.allocations[plan_.loads[i].allocation()].cacheable_load;
    if (cacheable && serves_as_allocation(*cacheable)) continue;
    if (is_foreign(plan_.loads[i].allocation())) continue;
    KAAS_RETURN_IF_ERROR(add_load(i));
  }
  return {};
}

Result<void> RunPreparation::add_load(std::size_t load) {
  const wire::PlanRange& range = plan_.loads[load];
  const std::uint64_t needed = needed_bytes(load);
  const wire::Location& location = task_.loads[load];
  if (needed < range.bytes()) {
    LoadStep zero;
    zero.to = task_.addresses[range.allocation()] + range.offset() + needed;
    zero.bytes = range.bytes() - needed;
    if (std::byte* memory = staged(range)) zero.staged = memory + needed;
    task_.body.loads.push_back(zero);
  }
  if (needed == 0) return {};
  if (task_.pins[load]) {
    add_copies(load, *task_.pins[load]);
    return {};
  }
  if (location.segment() != 0) return add_host_load(load);
  if (location.version() == 0) {
    return Status{StatusCode::InvalidArgument,
                  numbered("load", load) + " names neither a segment nor a version"};
  }
  for (const CachePin& part : task_.parts[load]) add_copies(load, *part);
  return {};
}

// Copies what the entry has of the load.
void RunPreparation::add_copies(std::size_t load, const CacheEntry& entry) {
  const wire::PlanRange& range = plan_.loads[load];
  const std::uint64_t wanted = task_.loads[load].object_offset();
  const std::uint64_t begin = std::max(wanted, entry.key().offset);
  const std::uint64_t end =
      std::min(wanted + needed_bytes(load), entry.key().offset + entry.key().bytes);
  if (begin >= end) return;
  LoadStep step;
  step.to = task_.addresses[range.allocation()] + range.offset() + (begin - wanted);
  step.bytes = end - begin;
  if (entry.host_bytes() != nullptr) {
    step.source = LoadStep::Source::Mapped;
    step.mapped = entry.host_bytes() + (begin - entry.key().offset);
    if (std::byte* memory = staged(range)) step.staged = memory + (begin - wanted);
  } else {
    step.source = LoadStep::Source::Device;
    step.from = entry.address() + (begin - entry.key().offset);
  }
  task_.body.loads.push_back(step);
}

Result<void> RunPreparation::add_host_load(std::size_t load) {
  const wire::PlanRange& range = plan_.loads[load];
  const wire::Location& location = task_.loads[load];
  LoadStep step;
  step.bytes = needed_bytes(load);
  KAAS_ASSIGN_OR_RETURN(auto segment, segment_of(location, step.bytes, "load", load));
  step.to = task_.addresses[range.allocation()] + range.offset();
  step.offset = location.offset();
  step.segment = segment.get();
  step.source = LoadStep::Source::Guarded;
  if (segment->device_address() != 0) {
    step.source = LoadStep::Source::Device;
    step.from = segment->device_address() + location.offset();
  } else if (segment->mapped() != nullptr) {
    step.source = LoadStep::Source::Mapped;
    step.mapped = segment->mapped() + location.offset();
  }
  const bool from_device = step.source == LoadStep::Source::Device;
  // Device memory goes to where the kernels work, past any staging memory.
  if (!from_device) step.staged = staged(range);
  if (step.staged == nullptr) task_.all_staged = false;
  if (!from_device && step.staged == nullptr && !segment->pinned()) task_.slow = true;
  if (step.staged != nullptr) {
    step.moved =
        move(task_.body.before, step.to, reinterpret_cast<DeviceAddress>(step.staged), range);
  }
  task_.segments.push_back(std::move(segment));
  if (step.mapped != nullptr && reinterpret_cast<DeviceAddress>(step.mapped) == step.to) return {};
  if (!from_device) task_.counters.host_to_device_bytes += step.bytes;
  task_.body.loads.push_back(step);
  return {};
}

Result<void> RunPreparation::add_stores() {
  for (std::size_t i = 0; i < plan_.stores.size(); ++i) {
    const wire::Location& location = task_.stores[i];
    const wire::PlanRange& range = plan_.stores[i];
    if (location.segment() == 0 && task_.fetches != 0) add_fetched_store(range);
    if (location.segment() == 0 || is_foreign(range.allocation())) continue;
    KAAS_ASSIGN_OR_RETURN(auto segment, segment_of(location, range.bytes(), "store", i));
    if (!segment->terms().writable) {
      return Status{StatusCode::InvalidArgument, numbered("store", i) + ": segment " +
                                                     std::to_string(location.segment()) +
                                                     " is read-only"};
    }
    StoreStep step;
    step.from = task_.addresses[range.allocation()] + range.offset();
    step.bytes = range.bytes();
    step.offset = location.offset();
    step.segment = segment.get();
    if (segment->device_address() != 0) step.to = segment->device_address() + location.offset();
    if (segment->mapped() != nullptr) step.mapped = segment->mapped() + location.offset();
    if (step.to == 0) step.staged = staged(range);
    if (step.staged == nullptr) task_.all_staged = false;
    if (step.to == 0 && step.staged == nullptr && !segment->pinned()) task_.slow = true;
    if (step.staged != nullptr) {
      step.moved =
          move(task_.body.behind, reinterpret_cast<DeviceAddress>(step.staged), step.from, range);
    }
    task_.segments.push_back(std::move(segment));
    const bool in_place =
        step.mapped != nullptr && reinterpret_cast<DeviceAddress>(step.mapped) == step.from;
    if (in_place) continue;
    if (step.to == 0) task_.counters.device_to_host_bytes += step.bytes;
    task_.body.stores.push_back(step);
  }
  return {};
}

// Into memory of the task, from where it goes into the report.
void RunPreparation::add_fetched_store(const wire::PlanRange& range) {
  task_.fetched.resize(range.bytes());
  StoreStep step;
  step.from = task_.addresses[range.allocation()] + range.offset();
  step.bytes = range.bytes();
  step.mapped = task_.fetched.data();
  task_.counters.device_to_host_bytes += step.bytes;
  task_.body.stores.push_back(step);
}

Result<std::shared_ptr<ExecutorSegment>> RunPreparation::segment_of(const wire::Location& location,
                                                                    std::uint64_t bytes,
                                                                    const char* what,
                                                                    std::size_t index) {
  auto segment = segments_.open(location.segment());
  if (!segment) return segment;
  const auto name = [&] {
    return numbered(what, index) + ": segment " + std::to_string(location.segment());
  };
  KAAS_RETURN_IF_ERROR(check_range(name, location.offset(), bytes, (*segment)->terms().bytes));
  return segment;
}

Result<void> RunPreparation::add_events(const std::vector<std::uint32_t>& segments,
                                        std::vector<ImportedEvent*>& events) {
  for (const std::uint32_t number : segments) {
    KAAS_ASSIGN_OR_RETURN(auto segment, segments_.open(number));
    if (segment->event() == nullptr) {
      return Status{StatusCode::InvalidArgument,
                    "segment " + std::to_string(number) + " is no event"};
    }
    events.push_back(segment->event());
    task_.segments.push_back(std::move(segment));
  }
  return {};
}

Result<void> RunPreparation::set_parameters() {
  KAAS_RETURN_IF_ERROR(override_literals());
  // After the overrides: a raw literal brings its bytes, not the addresses in it.
  for (const AddressPatch& patch : plan_.addresses) {
    const DeviceAddress address = task_.addresses[patch.place.allocation] + patch.place.offset;
    std::memcpy(task_.frame->at(patch.at), &address, sizeof address);
  }
  KernelProgram& program = task_.body.program;
  program.launches = task_.frame->launches;
  program.n_iter = plan_.n_iter;
  program.until = 0;
  if (plan_.until) program.until = task_.addresses[plan_.until->allocation] + plan_.until->offset;
  program.background =
      task_.background && plan_.may_be_confined && device_.limits().confines_background;
  program.prepared = program.background ? nullptr : task_.frame->prepared(task_.way).program.get();
  program.words = task_.frame->words;
  program.before = task_.body.before;
  program.behind = task_.body.behind;
  program.tag = task_.tag;
  return {};
}

Result<void> RunPreparation::override_literals() {
  for (std::size_t i = 0; i < task_.literals.size(); ++i) {
    const RunLiteral& literal = task_.literals[i];
    const std::string what = numbered("literal override", i);
    if (literal.kernel >= plan_.kernels.size() ||
        literal.literal >= plan_.kernels[literal.kernel].literals.size()) {
      return Status{StatusCode::InvalidArgument,
                    what + " names literal " + std::to_string(literal.literal) + " of kernel " +
                        std::to_string(literal.kernel) + ", which does not exist"};
    }
    const LiteralSlot& slot = plan_.kernels[literal.kernel].literals[literal.literal];
    if (literal.type.has_value() && *literal.type != slot.type) {
      return Status{StatusCode::InvalidArgument,
                    what + ": literal " + std::to_string(literal.literal) + " of kernel " +
                        std::to_string(literal.kernel) + " is " + name_of(*literal.type) +
                        ", the plan wants " + name_of(slot.type)};
    }
    const bool raw = slot.type == wire::LiteralType::Raw;
    if (literal.raw.size() != (raw ? slot.bytes : 0u)) {
      return Status{StatusCode::InvalidArgument,
                    what + " has " + std::to_string(literal.raw.size()) +
                        " raw bytes, literal of " + name_of(slot.type) + " takes " +
                        std::to_string(raw ? slot.bytes : 0u)};
    }
    if (raw) {
      std::memcpy(task_.frame->at(slot.at), literal.raw.data(), slot.bytes);
    } else {
      std::memcpy(task_.frame->at(slot.at), &literal.bits, slot.bytes);
    }
  }
  return {};
}

}  // namespace kaas
