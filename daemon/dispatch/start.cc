// Plan: a compiled request and its bindings to a run with leases, outputs and dependencies.
#include <algorithm>

#include "daemon/dispatch/dispatcher.h"
#include "daemon/plan/bind.h"
#include "daemon/plan/compile.h"

namespace kaas {
namespace {

// What the unsettled runs of one ring are about to do.
class History final : public RingHistory {
 public:
  // Adds the work of searching to `work`.
  History(const RingState& ring, std::size_t& work) : ring_(ring), work_(work) {}

  [[nodiscard]] PendingWrite pending_write(uid_t namespace_uid,
                                           std::string_view key) const override {
    if (ring_.pending.empty()) return {};
    const auto found = ring_.pending.find(pending_name(namespace_uid, key));
    if (found == ring_.pending.end()) return {};
    return {found->second.latest.run, found->second.latest.version};
  }

  void conflicts(std::span<const SegmentAccess> accesses,
                 std::vector<std::uint64_t>& runs) const override {
    const std::size_t steps = ring_.accesses.find_conflicts(accesses, runs);
    work_ += work_of_searching(steps);
    if (steps < AccessIndex::kStepsMax) return;
    // Too many to look through: behind all of them it is behind those, too.
    for (const Run* run : ring_.runs) {
      if (touches_bytes(*run)) runs.push_back(run->number);
    }
  }

 private:
  const RingState& ring_;
  std::size_t& work_;
};

// Device memory that requests of a session name by CUDA IPC handle.
class Handles final : public DeviceHandles {
 public:
  Handles(Session& session, SegmentRegistry& registry) : session_(session), registry_(registry) {}

  Result<SegmentRef> segment_of(const Place& place) override {
    return session_.device_memory.named(place.ipc_handle, place.ipc_base_bytes, session_.uid,
                                        session_.id, registry_);
  }

 private:
  Session& session_;
  SegmentRegistry& registry_;
};

std::size_t work_of_binding(const PlanTemplate& plan, std::size_t renames) {
  // Each rename is compared with all buffers.
  return plan.loads.size() + plan.stores.size() + renames * plan.buffers.size() / 64;
}

// The session's events that the options name, those to wait for first.
Result<void> find_events(const Session& session, const RunOptions& options,
                         std::vector<SegmentRef>& events) {
  const auto find = [&](const std::vector<std::uint32_t>& numbers,
                        const char* field) -> Result<void> {
    for (const std::uint32_t number : numbers) {
      const auto found = session.segments.find(number);
      if (found == session.segments.end() || found->second->kind != SegmentKind::Event) {
        return Status{StatusCode::NotFound, std::string(field) + " names " +
                                                std::to_string(number) +
                                                ", which is no event of this session"};
      }
      events.push_back(found->second);
    }
    return {};
  };
  KAAS_RETURN_IF_ERROR(find(options.wait_events, "wait_events"));
  return find(options.record_events, "record_events");
}

}  // namespace

// No session has more under way than it leaves to the others: null, and the ring waits for one of
// its own to end.
Result<Run*> Dispatcher::new_run(Session& session, RingState& ring) {
  if (session.runs < runs_.room()) {
    ++session.runs;
    return runs_.create();
  }
  if (ring.runs.empty()) {
    return over_limit(StatusCode::ResourceExhausted, "requests under way", session.runs + 1,
                      runs_.room());
  }
  ring.stalled_on = ring.runs.front()->number;
  return nullptr;
}

// Compiles anew with the run's own places, where renames make or end shared memory.
Result<std::shared_ptr<PlanInstance>> Dispatcher::rebuild(Start& request) {
  const RequestSpec& spec = *request.compiled.request;
  work_ += kPartWork * (spec.buffers.size() + spec.kernels.size());
  KAAS_ASSIGN_OR_RETURN(PlanTemplate plan, compile(spec, request.parameters, *request.bindings));
  auto compiled = std::make_shared<const PlanTemplate>(std::move(plan));
  if (request.instance == nullptr) return instances_.create(compiled, request.session.uid);
  // A prepared plan keeps the library versions that it was prepared with.
  return instances_.derive(*request.instance, compiled);
}

Result<void> Dispatcher::start(Start request) {
  const std::uint64_t decoded_ns = request.options->profile ? host_.now_ns() : 0;
  if (request.instance == nullptr) {
    KAAS_ASSIGN_OR_RETURN(request.instance,
                          instances_.current(request.compiled, request.session.uid));
  }
  std::shared_ptr<PlanInstance> instance = request.instance;
  KAAS_RETURN_IF_ERROR(resolve_bindings(*instance->plan, *request.bindings));
  KAAS_RETURN_IF_ERROR(check_overrides(*instance->plan, *request.literals));
  if (renames_need_recompile(*instance->plan, *request.bindings)) {
    KAAS_ASSIGN_OR_RETURN(instance, rebuild(request));
  }
  work_ += work_of_binding(*instance->plan, request.bindings->size());
  places_.clear();
  for (const TemplateBuffer& buffer : instance->plan->buffers) {
    places_.push_back({&buffer.place, buffer.object_offset});
  }
  for (const BindingSpec& binding : *request.bindings) {
    places_[binding.buffer] = {&binding.place,
                               binding.offset.value_or(places_[binding.buffer].offset)};
  }

  KAAS_ASSIGN_OR_RETURN(Run* const run, new_run(request.session, request.ring));
  if (run == nullptr) return {};
  const History history(request.ring, work_);
  Handles handles(request.session, segments_);
  const BindContext context{store_,
                            history,
                            request.session.uid,
                            request.session.segments,
                            handles,
                            instance->inline_versions};
  auto outcome = bind_run(*instance->plan, places_, context, run->bound);
  if (outcome.has_value()) {
    const auto found = find_events(request.session, *request.options, run->bound.events);
    if (!found.has_value()) outcome = found.error();
  }
  run->uid = request.session.uid;
  if (outcome.has_value() && request.kind == Run::Kind::LaneCall && outcome->blocked_on == 0) {
    const auto checked = check_lane_call(*run, *instance->plan, run->lane_keys);
    if (!checked.has_value()) outcome = checked.error();
  }
  if (!outcome.has_value() || outcome->blocked_on != 0) {
    --request.session.runs;
    runs_.destroy(*run);
    if (!outcome.has_value()) return outcome.error();
    request.ring.stalled_on = outcome->blocked_on;
    return {};
  }
  for (const BoundStore& store : run->bound.stores) {
    if (store.version != nullptr) work_ += work_of_object(store.bytes);
  }
  fill(*run, request, std::move(instance), decoded_ns);
  link_dependencies(*run);
  record(request.ring, *run);
  if (run->options.deadline_ns != 0) deadlines_.emplace(run->options.deadline_ns, run->number);
  enqueue_if_ready(*run);
  return {};
}

// What a bound run knows of its request.
void Dispatcher::fill(Run& run, Start& request, std::shared_ptr<PlanInstance> instance,
                      std::uint64_t decoded_ns) {
  run.kind = request.kind;
  run.session = &request.session;
  run.session_id = request.session.id;
  run.ring = request.ring.ring.index();
  run.id = request.id;
  run.domain = request.session.domain;
  run.plan = std::move(instance);
  run.options = std::move(*request.options);
  run.literals = std::move(*request.literals);
  if (run.kind == Run::Kind::Execute) ++request.session.counters.requests;
  run.accepted_ns = taken_ns_;
  if (run.options.profile) {
    run.decoded_ns = decoded_ns;
    run.planned_ns = host_.now_ns();
  }
}

void Dispatcher::link_dependencies(Run& run) {
  for (const std::uint64_t number : run.bound.after) {
    Run* earlier = runs_.find(number);
    if (earlier == nullptr) continue;
    run.depends_on.push_back(earlier);
    earlier->dependents.push_back(&run);
  }
}

// Makes the run part of its ring's history.
void Dispatcher::record(RingState& ring, Run& run) {
  ring.runs.push_back(&run);
  if (touches_bytes(run)) ring.accesses.add(run.number, run.bound.accesses);
  for (const BoundStore& store : run.bound.stores) {
    const bool whole = store.kind == BoundStore::Kind::Version;
    if (!whole && store.kind != BoundStore::Kind::Slice) continue;
    PendingWrites& writes = ring.pending[pending_name(store.namespace_uid, store.key)];
    if (writes.latest.run != 0 && writes.latest.run != run.number) {
      writes.earlier.push_back(std::move(writes.latest));
    }
    writes.latest = {run.number, whole ? store.version : nullptr};
  }
}

}  // namespace kaas
