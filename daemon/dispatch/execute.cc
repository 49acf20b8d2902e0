// Schedule and execute: which run goes to which executor, and what it is told of it.
#include <algorithm>

#include "daemon/dispatch/dispatcher.h"

namespace kaas {

// A run may go to the policy when everything it depends on is settled, or in flight on one device:
// its executor then keeps the order.
void Dispatcher::enqueue_if_ready(Run& run) {
  if (run.state != Run::State::Waiting) return;
  // The latest goes last, so that most of the time there is no need to look at the others.
  if (!run.depends_on.empty() && run.depends_on.back()->state != Run::State::InFlight) return;
  in_flight_places_.clear();
  for (const Run* earlier : run.depends_on) {
    if (earlier->state != Run::State::InFlight) return;
    const auto executor = executors_.find(earlier->executor);
    KAAS_CHECK(executor != executors_.end());
    in_flight_places_.push_back(executor->second->link->identity().place);
  }
  const std::uint32_t first =
      in_flight_places_.empty() ? place_of_residents(run) : in_flight_places_.front();
  auto place = tied_place({in_flight_places_, home_of(run, first)});
  if (place) place = await_residents(run, *place);
  // It is looked at again when something that it waits for has ended, or the device's suspension.
  if (!place || (*place != kAnyPlace && !is_active(*place))) return;
  run.state = Run::State::Queued;
  run.place = *place;
  policy_->add({run.number, run.options.priority, run.domain, run.session_id, run.place,
                run.plan->plan->working_set_bytes});
  pump_due_ = true;
  want_executors(run.domain);
}

// False: there is more to send, after the others' turns.
bool Dispatcher::pump() {
  pump_due_ = false;
  bool all_looked_at = true;
  for (auto& [domain, places] : domains_) {
    work_ = 0;
    if (!pump(domain, places)) pump_due_ = true;
    if (work_ >= kWorkPerTurn) all_looked_at = false;
  }
  if (!all_looked_at) pump_due_ = true;
  if (!exports_.empty()) pump_exports();
  return all_looked_at;
}

// Sends what the policy gives until no executor of the domain has room, or it was enough for a
// turn. False: it must be tried again.
bool Dispatcher::pump(std::uint32_t domain, std::vector<PlaceState>& places) {
  bool all_sent = pump_held_back(places);
  while (work_ < kWorkPerTurn && find_openings(places)) {
    const auto next = policy_->take({domain, open_places_});
    if (!next) break;
    Run* run = runs_.find(*next);
    KAAS_CHECK(run != nullptr);
    work_ += counted_work(run->bound.loads.size() + run->bound.stores.size());
    ExecutorState& executor = choose_executor(*run);
    // All are busy: one that was ended because it was not needed is needed now.
    if (executor.in_flight.size() > kAffinityLead) want_idle(domain);
    if (send_or_hold(executor, *run) == Dispatched::Full) all_sent = false;
  }
  if (!lanes_.empty()) yield_lanes(places);
  return all_sent;
}

// Those that had no room before. False: one has none yet and no report will say that there is.
bool Dispatcher::pump_held_back(std::vector<PlaceState>& places) {
  bool all_sent = true;
  for (const PlaceState& place : places) {
    const auto found = executors_.find(place.executor);
    if (found == executors_.end() || found->second->held_back == nullptr) continue;
    ExecutorState& executor = *found->second;
    if (executor.alone || executor.in_flight.size() >= options_.runs_per_executor) continue;
    Run* run = executor.held_back;
    executor.held_back = nullptr;
    if (send_or_hold(executor, *run) == Dispatched::Full) all_sent = false;
  }
  return all_sent;
}

// Where one more run may be sent; false: nowhere.
bool Dispatcher::find_openings(const std::vector<PlaceState>& places) {
  open_.clear();
  open_places_.clear();
  for (std::uint32_t place = 1; place <= places.size(); ++place) {
    const auto found = executors_.find(places[place - 1].executor);
    if (found == executors_.end() || !is_active(place)) continue;
    ExecutorState& executor = *found->second;
    // A run that an executor died with goes alone, so that it can be told from the others.
    if (!executor.link->ready() || executor.alone || executor.held_back != nullptr ||
        executor.in_flight.size() >= options_.runs_per_executor) {
      continue;
    }
    open_.push_back(&executor);
    open_places_.push_back(place);
  }
  return !open_.empty();
}

// Of those that are open, the one that the run goes to.
Dispatcher::ExecutorState& Dispatcher::choose_executor(const Run& run) {
  if (run.place != kAnyPlace) {
    const auto own = std::find(open_places_.begin(), open_places_.end(), run.place);
    KAAS_CHECK(own != open_places_.end());
    return *open_[static_cast<std::size_t>(own - open_places_.begin())];
  }
  if (open_.size() == 1) return *open_.front();
  views_.clear();
  for (const ExecutorState* executor : open_) {
    // One that must go alone goes where nothing has to end first.
    PlaceView view{static_cast<std::uint32_t>(executor->in_flight.size()), false, 0};
    if (run.strikes == 0) {
      view.has_plan = executor->link->knows_plan(run.plan->id);
      view.input_bytes = used_input_bytes(*executor, run);
    }
    views_.push_back(view);
  }
  return *open_[choose_place(views_)];
}

// Full: the run is the executor's next one. It goes when there is room.
Dispatcher::Dispatched Dispatcher::send_or_hold(ExecutorState& executor, Run& run) {
  const std::uint32_t number = executor.link->identity().executor;
  if (run.strikes > 0 && has_lanes(number)) {
    end_lanes_of_executor(number, {StatusCode::Unavailable, "a request must run alone"});
    executor.held_back = &run;
    return Dispatched::Full;
  }
  if (run.strikes > 0 && !executor.in_flight.empty()) {
    executor.held_back = &run;
    return Dispatched::Finished;  // The end of another one will say that there is room.
  }
  const Dispatched outcome = send(executor, run);
  if (outcome == Dispatched::Full) executor.held_back = &run;
  return outcome;
}

Dispatcher::Dispatched Dispatcher::send(ExecutorState& executor, Run& run) {
  if (run.kind == Run::Kind::Prepare) return send_prepare(executor, run);
  if (run.kind == Run::Kind::LaneCall) return send_lane_call(executor, run);
  const auto located = locate(executor, run);
  if (!located.has_value()) {
    const Status cause = located.error();
    settle(run, &cause, nullptr);
    return Dispatched::Finished;
  }
  const auto leased = lease_outbox(executor, run);
  if (!leased.has_value()) return refuse(executor, run, leased.error());
  if (!*leased) return Dispatched::Full;
  RunMessage message;
  message.run = run.number;
  message.plan = run.plan.get();
  message.tenant = run.uid;
  message.loads = loads_;
  message.stores = stores_;
  message.literals = run.literals;
  message.wait_events = run.options.wait_events;
  message.record_events = run.options.record_events;
  message.after = after_;
  message.segments = read_segments_;
  message.once_segments = once_segments_;
  message.session = run.session_id;
  message.request = run.id;
  message.profile = run.options.profile;
  message.background = run.options.priority < 0;
  message.device_memory = run.bound.device_memory;
  if (run.options.profile) run.sent_ns = host_.now_ns();
  const PushOutcome outcome = executor.link->push(message);
  // The run keeps them while it needs them; what is left here would keep a client's memory open.
  read_segments_.clear();
  once_segments_.clear();
  switch (outcome) {
    case PushOutcome::Sent:
      break;
    case PushOutcome::Full:
    case PushOutcome::Down:  // Its end comes as executor_down; the run waits for the next one.
      return_outbox(executor, run);
      return Dispatched::Full;
    case PushOutcome::TooLarge:
      return refuse(executor, run, Status(executor.link->too_large()));
  }
  run.state = Run::State::InFlight;
  run.executor = executor.link->identity().executor;
  executor.in_flight.push_back(&run);
  executor.alone = run.strikes > 0;
  if (has_several_devices()) remember_use(executor, run);
  if (options_.running_limit_ns != 0) run.started_ns = step_ns_;
  for (std::size_t i = 0; i < run.dependents.size(); ++i) enqueue_if_ready(*run.dependents[i]);
  return Dispatched::Sent;
}

// Ends a run that this executor, and any other like it, can't be sent.
Dispatcher::Dispatched Dispatcher::refuse(ExecutorState& executor, Run& run, const Status& cause) {
  return_outbox(executor, run);
  settle(run, &cause, nullptr);
  return Dispatched::Finished;
}

Dispatcher::Dispatched Dispatcher::send_prepare(ExecutorState& executor, Run& run) {
  const std::uint32_t plan = run.plan->id;
  const auto loaded = executor.loaded_plans.find(plan);
  if (loaded != executor.loaded_plans.end()) {
    run.state = Run::State::InFlight;
    settle(run, nullptr, nullptr);
    return Dispatched::Finished;
  }
  const PushOutcome outcome = executor.link->push_plan(*run.plan);
  if (outcome == PushOutcome::TooLarge) {
    return refuse(executor, run, Status(executor.link->too_large()));
  }
  if (outcome != PushOutcome::Sent) return Dispatched::Full;
  run.state = Run::State::InFlight;
  run.executor = executor.link->identity().executor;
  executor.in_flight.push_back(&run);
  executor.alone = run.strikes > 0;
  executor.preparing[plan].push_back(&run);
  run.started_ns = step_ns_;
  return Dispatched::Sent;
}

// Fills the scratch vectors with the places of the run's bytes as they are now: a version that was
// pending when the run was bound may be ready by now.
Result<void> Dispatcher::locate(ExecutorState& executor, Run& run) {
  loads_.clear();
  stores_.clear();
  after_.clear();
  read_segments_.clear();
  once_segments_.clear();
  for (const BoundLoad& load : run.bound.loads) {
    KAAS_RETURN_IF_ERROR(locate_load(executor, run, load));
  }
  for (BoundStore& store : run.bound.stores) {
    if (store.kind == BoundStore::Kind::Segment) {
      read_segments_.push_back(store.segment);
      stores_.emplace_back(0, store.offset, 0, store.bytes, store.segment->id);
      continue;
    }
    const VersionRef& version = store.version;
    // A slice is not the version that it becomes part of, so its device copy has no name.
    const bool whole = store.kind == BoundStore::Kind::Version;
    const std::uint64_t name = whole ? version->id() : 0;
    store.on_device =
        whole && executor.keeps_outputs && run.plan->plan->buffers[store.buffer].resident;
    if (store.on_device) {
      stores_.emplace_back(name, 0, 0, store.bytes, 0);
    } else if (version != nullptr && version->output_segment() != nullptr) {
      once_segments_.push_back(version->output_segment());
      stores_.emplace_back(name, 0, 0, store.bytes, version->output_segment()->id);
    } else {
      stores_.emplace_back(name, kNoOutbox, 0, store.bytes, kOutboxSegment);
    }
  }
  read_segments_.insert(read_segments_.end(), run.bound.events.begin(), run.bound.events.end());
  for (const Run* earlier : run.depends_on) {
    KAAS_CHECK(earlier->executor == executor.link->identity().executor);
    after_.push_back(earlier->number);
  }
  return {};
}

Result<void> Dispatcher::locate_load(const ExecutorState& executor, const Run& run,
                                     const BoundLoad& load) {
  if (load.segment != nullptr) {
    read_segments_.push_back(load.segment);
    loads_.emplace_back(0, load.offset, load.offset, load.available, load.segment->id);
    return {};
  }
  const ObjectVersion& version = *load.version;
  switch (version.state()) {
    case ObjectVersion::State::Failed:
      return Status{StatusCode::DependencyFailed,
                    "an earlier request of this ring that makes its input has failed"};
    case ObjectVersion::State::Lost:
      return version.loss();
    case ObjectVersion::State::Resident:
      KAAS_CHECK(version.executor() == executor.link->identity().executor);
      [[fallthrough]];
    case ObjectVersion::State::Pending:
      loads_.emplace_back(version.id(), 0, load.offset, load.available, 0);
      return {};
    case ObjectVersion::State::Ready:
      break;
  }
  KAAS_ASSIGN_OR_RETURN(const BytesPlace place, store_.readable_place(load.version, run.domain));
  read_segments_.push_back(place.segment);
  loads_.emplace_back(version.id(), place.offset + load.offset, load.offset, load.available,
                      place.segment->id);
  return {};
}

// False: no room now. Fails: there never is.
Result<bool> Dispatcher::lease_outbox(ExecutorState& executor, Run& run) {
  std::uint64_t wanted = 0;
  for (std::size_t i = 0; i < run.bound.stores.size(); ++i) {
    if (stores_[i].segment() == kOutboxSegment) wanted += Outbox::padded(run.bound.stores[i].bytes);
  }
  if (wanted > executor.link->outbox().bytes()) {
    return over_limit(StatusCode::ResourceExhausted, "bytes of the request's small outputs", wanted,
                      executor.link->outbox().bytes());
  }
  run.outbox_offsets.assign(run.bound.stores.size(), kNoOutbox);
  for (std::size_t i = 0; i < run.bound.stores.size(); ++i) {
    if (stores_[i].segment() != kOutboxSegment) continue;
    const auto offset =
        executor.link->outbox().lease(std::max<std::uint64_t>(run.bound.stores[i].bytes, 1));
    if (!offset) {
      return_outbox(executor, run);
      return false;
    }
    run.outbox_offsets[i] = *offset;
    const wire::Location& unplaced = stores_[i];
    stores_[i] = wire::Location(unplaced.version(), *offset, unplaced.object_offset(),
                                unplaced.available(), kOutboxSegment);
  }
  return true;
}

void Dispatcher::return_outbox(ExecutorState& executor, Run& run) {
  for (std::size_t i = 0; i < run.outbox_offsets.size(); ++i) {
    if (run.outbox_offsets[i] == kNoOutbox) continue;
    executor.link->outbox().give_back(run.outbox_offsets[i],
                                      std::max<std::uint64_t>(run.bound.stores[i].bytes, 1));
  }
  run.outbox_offsets.clear();
}

}  // namespace kaas
