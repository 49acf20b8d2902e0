// Schedule and execute: which run goes to which executor, and what it is told of it.
#include <algorithm>

#include "daemon/dispatch/dispatcher.h"

namespace kaas {

// A run may go to the policy when everything it depends on is settled, or in flight on one
// executor: that executor then keeps the order.
void Dispatcher::enqueue_if_ready(Run& run) {
  if (run.state != Run::State::Waiting) return;
  std::uint32_t executor = 0;
  for (const Run* earlier : run.depends_on) {
    if (earlier->state != Run::State::InFlight) return;
    if (executor != 0 && executor != earlier->executor) return;
    executor = earlier->executor;
  }
  run.state = Run::State::Queued;
  policy_->add({run.number, run.options.priority, run.domain, run.session_id, executor,
                run.plan->plan->working_set_bytes});
  pump_due_ = true;
  want_executor(run.domain);
}

void Dispatcher::want_executor(std::uint32_t domain) {
  const bool exists = std::any_of(executors_.begin(), executors_.end(), [&](const auto& entry) {
    return entry.second->link->identity().domain == domain;
  });
  if (exists || !wanted_domains_.insert(domain).second) return;
  host_.want_executor(domain);
}

void Dispatcher::pump() {
  pump_due_ = false;
  for (auto& [id, executor] : executors_) {
    if (executor->link->ready() && !pump(*executor)) pump_due_ = true;
  }
}

// Sends what the policy gives until the executor has no room. False: it must be tried again.
bool Dispatcher::pump(ExecutorState& executor) {
  for (;;) {
    // A run that an executor died with goes alone, so that it can be told from the others.
    if (executor.alone || executor.in_flight.size() >= options_.runs_per_executor) return true;
    Run* run = executor.held_back;
    executor.held_back = nullptr;
    if (run == nullptr) {
      const auto next =
          policy_->take({executor.link->identity().executor, executor.link->identity().domain,
                         static_cast<std::uint32_t>(executor.in_flight.size())});
      if (!next) return true;
      run = runs_.find(*next);
      KAAS_CHECK(run != nullptr);
    }
    if (run->strikes > 0 && !executor.in_flight.empty()) {
      executor.held_back = run;
      return true;
    }
    if (send(executor, *run) == Dispatched::Full) {
      executor.held_back = run;
      return false;
    }
  }
}

Dispatcher::Dispatched Dispatcher::send(ExecutorState& executor, Run& run) {
  if (run.kind == Run::Kind::Prepare) return send_prepare(executor, run);
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
  message.after = after_;
  message.segments = read_segments_;
  message.once_segments = once_segments_;
  message.session = run.session_id;
  message.request = run.id;
  message.profile = run.options.profile;
  if (run.options.profile) run.sent_ns = host_.now_ns();
  switch (executor.link->push(message)) {
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
  for (const BoundLoad& load : run.bound.loads) KAAS_RETURN_IF_ERROR(locate_load(run, load));
  for (const BoundStore& store : run.bound.stores) {
    if (store.kind == BoundStore::Kind::Segment) {
      read_segments_.push_back(store.segment);
      stores_.emplace_back(0, store.offset, 0, store.bytes, store.segment->id);
      continue;
    }
    const VersionRef& version = store.version;
    // A slice is not the version that it becomes part of, so its device copy has no name.
    const bool whole = store.kind == BoundStore::Kind::Version;
    const std::uint64_t name = whole ? version->id() : 0;
    if (version != nullptr && version->output_segment() != nullptr) {
      once_segments_.push_back(version->output_segment());
      stores_.emplace_back(name, 0, 0, store.bytes, version->output_segment()->id);
    } else {
      stores_.emplace_back(name, kNoOutbox, 0, store.bytes, kOutboxSegment);
    }
  }
  for (const Run* earlier : run.depends_on) {
    KAAS_CHECK(earlier->executor == executor.link->identity().executor);
    after_.push_back(earlier->number);
  }
  return {};
}

Result<void> Dispatcher::locate_load(const Run& run, const BoundLoad& load) {
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
