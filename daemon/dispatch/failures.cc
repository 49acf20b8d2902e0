// What becomes of runs when a session or an executor is gone, or their time is up.
#include <algorithm>

#include "daemon/dispatch/dispatcher.h"
#include "daemon/session/access_index.h"
#include "schema/ipc/socket.h"

namespace kaas {
namespace {

// Why the run may not be executed a second time; null: it may.
const char* why_once_only(const Run& run) {
  if (run.kind == Run::Kind::Prepare) return nullptr;
  if (run.plan->stateful) return "a library keeps state";
  if (run.bound.device_memory) return "it uses device memory of its client";
  if (!run.bound.events.empty()) return "it waits for or records events of its client";
  if (run.input_is_lost) return "a later request may have overwritten its input";
  return run.bound.idempotent ? nullptr : "it overwrites its input in place";
}

// Of runs in flight on one executor: who overwrites what another one reads comes behind it, and may
// be done already when the other one is to be run again.
void find_lost_inputs(const std::vector<Run*>& in_flight) {
  std::vector<Run*> runs = in_flight;
  std::sort(runs.begin(), runs.end(),
            [](const Run* a, const Run* b) { return a->number < b->number; });
  AccessIndex inputs;
  std::vector<SegmentAccess> accesses;
  for (const Run* run : runs) {
    accesses.clear();
    for (const BoundLoad& load : run->bound.loads) {
      if (load.segment == nullptr) continue;
      accesses.push_back({load.segment->id, load.offset, load.available, false});
    }
    inputs.add(run->number, accesses);
  }
  std::vector<std::uint64_t> overwritten;
  for (const Run* later : runs) {
    if (!touches_bytes(*later)) continue;
    accesses.clear();
    for (const BoundStore& store : later->bound.stores) {
      if (store.kind != BoundStore::Kind::Segment) continue;
      accesses.push_back({store.segment->id, store.offset, store.bytes, true});
    }
    overwritten.clear();
    const bool too_many = inputs.find_conflicts(accesses, overwritten) >= AccessIndex::kStepsMax;
    std::sort(overwritten.begin(), overwritten.end());
    for (Run* earlier : later->depends_on) {
      if (earlier->state != Run::State::InFlight) continue;
      if (too_many || std::binary_search(overwritten.begin(), overwritten.end(), earlier->number)) {
        earlier->input_is_lost = true;
      }
    }
  }
}

}  // namespace

// Ends a run that is not in flight; one that is in flight is answered and its result discarded.
void Dispatcher::give_up(Run& run, const Status& cause) {
  if (run.state == Run::State::InFlight) {
    answer_run(run, &cause, nullptr, nullptr);
    run.answered = true;
    work_ += run.bound.stores.size();
    for (const BoundStore& store : run.bound.stores) {
      if (store.version != nullptr) Store::fail(store.version);
    }
    return cancel_at_executor(run);
  }
  if (run.state == Run::State::Queued && !policy_->remove(run.number)) {
    for (auto& [id, executor] : executors_) {
      if (executor->held_back == &run) executor->held_back = nullptr;
    }
  }
  settle(run, &cause, nullptr);
}

// What an executor has not started yet it need not start any more.
void Dispatcher::cancel_at_executor(const Run& run) {
  const auto executor = executors_.find(run.executor);
  if (run.kind != Run::Kind::Execute || executor == executors_.end()) return;
  executor->second->link->cancel_run(run.number);
}

void Dispatcher::cancel(std::uint64_t session_id, std::uint32_t ring_index, std::uint64_t id,
                        Cancelled done) {
  Session* session = find_session(session_id);
  if (session == nullptr || ring_index >= session->rings.size()) {
    return done(Status{StatusCode::NotFound, "no session " + std::to_string(session_id) +
                                                 " with ring " + std::to_string(ring_index)});
  }
  const auto& runs = session->rings[ring_index]->runs;
  const auto found = std::find_if(runs.begin(), runs.end(),
                                  [id](const Run* run) { return run->id == id && !run->answered; });
  if (found == runs.end()) {
    return done(Status{StatusCode::NotFound,
                       "request " + std::to_string(id) + " is not under way in this ring"});
  }
  Run& run = **found;
  run.cancels.push_back(std::move(done));
  if (run.state == Run::State::InFlight) {
    if (run.cancels.size() == 1) cancel_at_executor(run);  // One answer tells all.
    return;
  }
  give_up(run, Status{StatusCode::Cancelled, "the request was cancelled before it was started"});
}

bool Dispatcher::cancel_done(const ExecutorState& executor, const wire::CancelDone& report) {
  Run* run = runs_.find(report.run());
  if (run == nullptr || report.cancelled()) return true;  // Settling it tells those who wait.
  if (run->executor != executor.link->identity().executor) return true;  // Not its own to tell of.
  const Status started{StatusCode::InvalidArgument,
                       "request " + std::to_string(run->id) +
                           " has been started already; only waiting requests can be cancelled"};
  std::vector<Cancelled> cancels;
  cancels.swap(run->cancels);
  for (const Cancelled& done : cancels) done(started);
  return true;
}

void Dispatcher::close_session(std::uint64_t session_id, const Status& reason) {
  const auto found = sessions_.find(session_id);
  if (found == sessions_.end()) return;
  const std::unique_ptr<Session> session = std::move(found->second);
  sessions_.erase(found);
  // Before the rings are closed: who sees that looks here for the reason.
  builder_.Clear();
  const auto message = builder_.CreateString(reason.message);
  wire::ControlReplyBuilder reply(builder_);
  reply.add_code(reason.code);
  reply.add_message(message);
  builder_.Finish(reply.Finish());
  static_cast<void>(send_message(session->socket->get(), finished(builder_)));
  std::vector<Run*> queued;
  for (const auto& ring : session->rings) {
    host_.unwatch(ring->ring.doorbell_descriptor());
    ring->ring.close(static_cast<std::uint32_t>(reason.code));
    if (ring->stalled_token != 0) --stalled_tokens_;
    for (Run* run : ring->runs) {
      run->session = nullptr;
      if (run->state == Run::State::InFlight) {
        cancel_at_executor(*run);
      } else {
        queued.push_back(run);
      }
    }
  }
  // The latest first: nobody waits for it any more, and none becomes ready meanwhile.
  for (auto run = queued.rbegin(); run != queued.rend(); ++run) give_up(**run, reason);
  end_lanes(reason, [session_id](const Lane& lane) { return lane.session == session_id; });
  fail_exports(reason, [&](const Export& one) { return one.session == session_id; });
  host_.session_closed(session_id, reason);
  pump_due_ = true;
}

void Dispatcher::executor_up(std::unique_ptr<ExecutorLink> link) {
  const ExecutorIdentity identity = link->identity();
  PlaceState& place = places_of(identity.domain)[identity.place - 1];
  if (!is_active(identity.place)) {  // It was wanted before the device was suspended.
    place.given_back = true;
    return host_.release_executor(std::move(link));
  }
  KAAS_CHECK(place.executor == 0);
  place = PlaceState{};
  place.executor = identity.executor;
  host_.watch(link->doorbell_descriptor(), 0, identity.executor);
  auto state = std::make_unique<ExecutorState>();
  state->link = std::move(link);
  state->idle_since_ns = step_ns_;
  executors_[identity.executor] = std::move(state);
  pump_due_ = true;
}

void Dispatcher::executor_down(std::uint32_t id, const std::string& cause) {
  const auto found = executors_.find(id);
  if (found == executors_.end()) return;
  // What it reported before its end has happened.
  found->second->condemned = true;
  while (take_reports(*found->second) != 0) {
  }
  const std::unique_ptr<ExecutorState> executor = std::move(found->second);
  executors_.erase(found);
  const ExecutorIdentity& identity = executor->link->identity();
  places_of(identity.domain)[identity.place - 1].executor = 0;
  lose_residents(*executor, "its executor ended: " + cause);
  forget_state(identity.domain, identity.place);
  host_.unwatch(executor->link->doorbell_descriptor());
  const bool lanes_were_busy = lose_lanes(*executor, cause);
  find_lost_inputs(executor->in_flight);
  // All are taken back before any is ended or tried again: ending one may start its dependents.
  if (executor->held_back != nullptr) executor->held_back->state = Run::State::Waiting;
  for (Run* run : executor->in_flight) {
    run->state = Run::State::Waiting;
    run->executor = 0;
    run->outbox_offsets.clear();
    if (run->kind == Run::Kind::Prepare && run->session == nullptr) run->answered = true;
  }
  std::vector<std::uint64_t> numbers;
  for (const Run* run : executor->in_flight) numbers.push_back(run->number);
  for (const std::uint64_t number : numbers) {
    Run* run = runs_.find(number);
    if (run == nullptr) continue;
    after_death(*run, numbers.size() == 1 && !lanes_were_busy, executor->over_limit, cause);
  }
  end_lost_fetches(*executor);
  std::vector<std::uint32_t> segments;
  for (const auto& [segment, waiting] : detaching_) {
    if (waiting.executors.contains(id)) segments.push_back(segment);
  }
  for (const std::uint32_t segment : segments) detached(segment, id);
  requeue_domain(identity.domain);
  requeue_exports(id, cause);
}

// A run whose executor died with it in flight: tried again alone, or ended with the cause.
void Dispatcher::after_death(Run& run, bool only_one, bool over_limit, const std::string& cause) {
  if (run.kind == Run::Kind::LaneCall) {
    const Status failure{StatusCode::Unavailable, "the lane's executor has ended: " + cause};
    return settle(run, &failure, nullptr);
  }
  ++run.strikes;
  if (run.session == nullptr || run.answered) {
    const Status given_up{StatusCode::Cancelled, "the request was given up"};
    return settle(run, &given_up, nullptr);
  }
  if (over_limit && only_one) {
    const Status failure{StatusCode::DeadlineExceeded,
                         "the request ran longer than the operator's limit of " +
                             std::to_string(options_.running_limit_ns / 1'000'000) + " ms"};
    return settle(run, &failure, nullptr);
  }
  const char* once_only = why_once_only(run);
  if (only_one && run.strikes >= kStrikesMax) {
    const Status failure{StatusCode::KernelFault,
                         "its executor ended twice while it ran: " + cause};
    return settle(run, &failure, nullptr);
  }
  if (once_only != nullptr) {
    const Status failure{StatusCode::UnknownOutcome,
                         "its executor ended while it may have run, and it can't be run again (" +
                             std::string(once_only) + "): " + cause};
    return settle(run, &failure, nullptr);
  }
  if (!run.cancels.empty()) {  // Its executor ended before it said whether it had begun.
    const Status failure{StatusCode::Cancelled,
                         "the request was cancelled, and is not tried again"};
    return settle(run, &failure, nullptr);
  }
}

// Everything of a domain that waits goes to the policy anew, in its old order: what was bound to
// an executor that is gone is not any more.
void Dispatcher::requeue_domain(std::uint32_t domain) {
  std::vector<Run*> waiting;
  runs_.for_each([&](Run& run) {
    if (run.domain != domain || run.state == Run::State::InFlight) return;
    if (run.state == Run::State::Queued && !policy_->remove(run.number)) return;  // Held back.
    run.state = Run::State::Waiting;
    waiting.push_back(&run);
  });
  std::sort(waiting.begin(), waiting.end(),
            [](const Run* a, const Run* b) { return a->number < b->number; });
  for (Run* run : waiting) enqueue_if_ready(*run);
}

void Dispatcher::executor_failed(std::uint32_t domain, std::uint32_t place_number,
                                 const Status& cause) {
  auto& places = places_of(domain);
  PlaceState& place = places[place_number - 1];
  if (place.executor != 0 || !is_active(place_number)) return;  // It was overtaken.
  place.wanted = false;
  place.failed = true;
  forget_state(domain, place_number);
  const bool others = std::any_of(places.begin(), places.end(), [](const PlaceState& other) {
    return other.executor != 0 || other.wanted || other.idle;
  });
  fail_exports(cause, [&](const Export& one) {
    const bool may_go_elsewhere = others && one.place != place_number;
    return one.domain == domain && !may_go_elsewhere;
  });
  if (others) return requeue_domain(domain);
  std::vector<std::uint64_t> numbers;
  runs_.for_each([&](const Run& run) {
    if (run.domain == domain && run.state != Run::State::InFlight) numbers.push_back(run.number);
  });
  for (const std::uint64_t number : numbers) {
    if (Run* run = runs_.find(number); run != nullptr) give_up(*run, cause);
  }
}

// False: there are more, after the others' turns.
bool Dispatcher::expire() {
  work_ = 0;
  while (!deadlines_.empty() && deadlines_.begin()->first <= step_ns_) {
    if (work_ >= kWorkPerTurn) return false;
    Run* run = runs_.find(deadlines_.begin()->second);
    deadlines_.erase(deadlines_.begin());
    if (run == nullptr || run->answered) continue;
    const bool in_flight = run->state == Run::State::InFlight;
    give_up(*run, Status{StatusCode::DeadlineExceeded,
                         in_flight ? "the deadline passed while the request ran; its result is "
                                     "discarded"
                                   : "the deadline passed while the request was queued"});
  }
  return true;
}

// A run over the limit ends its executor. The others are tried again, alone, so that the one that
// exceeds it a second time is known to be the one.
void Dispatcher::check_running_limit() {
  if (options_.running_limit_ns == 0) return;
  for (auto& [id, executor] : executors_) {
    if (executor->condemned || executor->in_flight.empty()) continue;
    const Run& oldest = *executor->in_flight.front();
    if (oldest.started_ns + options_.running_limit_ns > step_ns_) continue;
    executor->condemned = executor->over_limit = true;
    host_.kill_executor(id, "a request ran longer than the limit");
  }
}

}  // namespace kaas
