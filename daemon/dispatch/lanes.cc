// Lanes: granted to rings, watched, and ended before anything happens that one must not overlook.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/dispatch/dispatcher.h"
#include "daemon/dispatch/report_status.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/socket.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

// How often the executor's words are read while something happens.
constexpr std::uint64_t kLaneLookNs = 1'000'000;
// How long runs may wait for room beside lanes, and for how long then none is granted.
constexpr std::uint64_t kLanesYieldNs = 1'000'000;
constexpr std::uint64_t kLanesHoldOffNs = 100'000'000;

Status not_for_a_lane(std::string why) {
  return Status{StatusCode::InvalidArgument, "a lane " + std::move(why)};
}

bool uses(const BoundRun& bound, std::uint32_t segment) {
  return std::any_of(bound.accesses.begin(), bound.accesses.end(),
                     [=](const SegmentAccess& access) { return access.segment == segment; });
}

}  // namespace

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        OpenLaneOperation& operation) {
  const auto plan = prepared_plan(session, operation.plan);
  if (!plan.has_value()) return fail(session, ring, id, plan.error());
  RunOptions options;
  const auto started = start({session,
                              ring,
                              id,
                              (*plan)->compiled,
                              (*plan)->instance,
                              &operation.bindings,
                              &operation.literals,
                              {},
                              &options,
                              Run::Kind::LaneCall});
  if (!started.has_value()) fail(session, ring, id, started.error());
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        DropLaneCallOperation& operation) {
  const auto found = lanes_.find(operation.lane);
  // It may have ended meanwhile.
  if (found != lanes_.end() && found->second->session == session.id &&
      found->second->calls.erase(operation.call) != 0) {
    const auto executor = executors_.find(found->second->executor);
    if (executor != executors_.end()) {
      executor->second->link->remove_lane_call(operation.lane, operation.call);
    }
  }
  answer(session, ring, {.id = id});
}

// Whether what was bound can go by a lane. `keys` receives what it reads of the store.
Result<void> Dispatcher::check_lane_call(const Run& run, const PlanTemplate& plan,
                                         std::vector<LaneKey>& keys) const {
  for (const BoundStore& store : run.bound.stores) {
    if (store.kind == BoundStore::Kind::Segment) continue;
    return not_for_a_lane("has outputs in segments of the session only; buffer '" +
                          plan.buffers[store.buffer].name + "' is elsewhere");
  }
  for (std::size_t i = 0; i < run.bound.loads.size(); ++i) {
    const BoundLoad& load = run.bound.loads[i];
    if (load.version == nullptr) continue;
    const TemplateBuffer& buffer = plan.buffers[plan.loads[i]];
    if (load.version->state() == ObjectVersion::State::Resident) {
      return Status{StatusCode::Unavailable,
                    "the input of buffer '" + buffer.name + "' is in the memory of a device only"};
    }
    if (load.version->state() == ObjectVersion::State::Lost) return load.version->loss();
    if (load.version->state() != ObjectVersion::State::Ready) {
      return Status{StatusCode::Unavailable,
                    "the input of buffer '" + buffer.name + "' is not there yet"};
    }
    const Place& place = *places_[plan.loads[i]].place;
    if (place.where != wire::Where::Store) continue;  // Inline: the plan's own, never changes.
    const auto key = parse_key(place.key, run.uid);
    if (!key.has_value() || key->namespace_uid != run.uid) {
      return not_for_a_lane("reads keys of its own user only; buffer '" + buffer.name +
                            "' is key '" + place.key + "'");
    }
    keys.push_back({std::string(key->key), load.version->id()});
  }
  return {};
}

// The executor is to serve the call; a lane is made if the ring has none.
Dispatcher::Dispatched Dispatcher::send_lane_call(ExecutorState& executor, Run& run) {
  if (run.session == nullptr) return refuse(executor, run, {StatusCode::Cancelled, "given up"});
  RingState& ring = *run.session->rings[run.ring];
  auto chosen = lane_for(executor, *run.session, ring);
  if (!chosen.has_value()) return refuse(executor, run, chosen.error());
  Lane& lane = **chosen;
  const auto give_up = [&](const Status& cause) {
    end_if_unused(lane, cause);
    return refuse(executor, run, cause);
  };
  const auto located = locate(executor, run);
  if (!located.has_value()) return give_up(located.error());
  read_segments_.push_back(lane.in);
  read_segments_.push_back(lane.out);
  read_segments_.push_back(lane.bell);
  RunMessage message;
  message.plan = run.plan.get();
  message.tenant = run.uid;
  message.loads = loads_;
  message.stores = stores_;
  message.literals = run.literals;
  message.segments = read_segments_;
  message.session = run.session_id;
  message.request = run.id;
  message.device_memory = run.bound.device_memory;
  const LaneTerms terms{lane.id,      lane.next_call, lane.in->id,
                        lane.out->id, lane.bell->id,  !lane.announced};
  const PushOutcome outcome = executor.link->push_lane_call(message, terms);
  read_segments_.clear();
  if (outcome == PushOutcome::TooLarge) return give_up(Status(executor.link->too_large()));
  if (outcome != PushOutcome::Sent) return Dispatched::Full;
  lane.announced = true;
  ++lane.adding;
  run.lane = lane.id;
  run.lane_call = lane.next_call++;
  run.state = Run::State::InFlight;
  run.executor = executor.link->identity().executor;
  executor.in_flight.push_back(&run);
  run.started_ns = step_ns_;
  return Dispatched::Sent;
}

Result<Lane*> Dispatcher::lane_for(ExecutorState& executor, Session& session, RingState& ring) {
  const std::uint32_t number = executor.link->identity().executor;
  if (drained_) return Status{StatusCode::Unavailable, "the daemon is shutting down"};
  if (step_ns_ < executor.lanes_refused_until_ns) {
    return Status{StatusCode::Unavailable, "others wait for the device"};
  }
  if (ring.lane != 0) {
    Lane& lane = *lanes_.at(ring.lane);
    if (lane.reason) return Status{StatusCode::Unavailable, "the ring's lane is ending"};
    if (lane.executor != number) {
      return Status{StatusCode::Unavailable, "the ring's lane is on another device"};
    }
    if (lane.calls.size() + lane.adding >= kLaneCallsMax) {
      return over_limit(StatusCode::ResourceExhausted, "calls of the ring's lane",
                        lane.calls.size() + lane.adding + 1, kLaneCallsMax);
    }
    return &lane;
  }
  KAAS_ASSIGN_OR_RETURN(std::unique_ptr<Lane> made, make_lane(session, ring));
  made->executor = number;
  ring.lane = made->id;
  return lanes_.emplace(made->id, std::move(made)).first->second.get();
}

Result<std::unique_ptr<Lane>> Dispatcher::make_lane(const Session& session, const RingState& ring) {
  const std::size_t bytes = kLaneGeometry.segment_bytes();
  KAAS_ASSIGN_OR_RETURN(Reservation reservation, store_.budget().reserve(2 * bytes, "lane"));
  const auto charge = std::make_shared<Reservation>(std::move(reservation));
  auto lane = std::make_unique<Lane>();
  lane->session = session.id;
  lane->ring = ring.ring.index();
  lane->uid = session.uid;
  KAAS_ASSIGN_OR_RETURN(lane->client_in, create_segment("kaas-lane-in", bytes));
  KAAS_RETURN_IF_ERROR(add_seals(lane->client_in.get(), Seals::Seal));
  Segment in;
  KAAS_ASSIGN_OR_RETURN(in.descriptor, reopen_read_only(lane->client_in.get()));
  Segment out;
  KAAS_ASSIGN_OR_RETURN(out.descriptor, create_segment("kaas-lane-out", bytes));
  KAAS_ASSIGN_OR_RETURN(lane->out_mapping, Mapping::create(out.descriptor.get(), bytes,
                                                           Mapping::Mode::ReadOnly, "a lane"));
  out.writable = true;
  in.bytes = out.bytes = bytes;
  in.kind = out.kind = SegmentKind::Lane;
  auto ends = Doorbell::create_pair();
  if (!ends) {
    return Status{StatusCode::ResourceExhausted,
                  std::string("the bell of a lane: ") + std::strerror(errno)};
  }
  lane->client_bell = std::move(ends->first);
  Segment bell;
  bell.descriptor = ends->second.release();
  bell.kind = SegmentKind::Bell;
  for (Segment* segment : {&in, &out, &bell}) {
    segment->owner_uid = session.uid;
    segment->session = session.id;
    segment->charge = charge;
  }
  lane->in = segments_.add(std::move(in));
  lane->out = segments_.add(std::move(out));
  lane->bell = segments_.add(std::move(bell));
  lane->id = ++last_lane_;
  lane->counted_ns = host_.now_ns();
  return lane;
}

bool Dispatcher::lane_call_added(ExecutorState& executor, const wire::LaneCallAdded& report) {
  const auto& in_flight = executor.in_flight;
  const auto waiting = std::find_if(in_flight.begin(), in_flight.end(), [&](const Run* run) {
    return run->kind == Run::Kind::LaneCall && run->lane == report.lane() &&
           run->lane_call == report.call();
  });
  if (waiting == in_flight.end() || !is_known(report.code())) return false;
  Run& run = **waiting;
  const auto found = lanes_.find(report.lane());
  Lane* lane = found == lanes_.end() ? nullptr : found->second.get();  // The executor ended it.
  if (lane != nullptr) --lane->adding;
  Status failure{StatusCode::Ok, ""};
  if (report.code() != StatusCode::Ok) {
    failure = status_of(report.code(), report.message());
  } else if (run.session == nullptr || lane == nullptr || lane->reason) {
    failure = {StatusCode::Unavailable, "the lane is ending"};
  } else if (const auto granted = grant(*lane, run); !granted.has_value()) {
    failure = granted.error();
    executor.link->remove_lane_call(report.lane(), report.call());  // Nobody knows of it.
  }
  if (failure.code == StatusCode::Ok) {
    settle(run, nullptr, nullptr);
    return true;
  }
  settle(run, &failure, nullptr);
  if (lane != nullptr) end_if_unused(*lane, failure);
  return true;
}

// Whether all that the call was bound to is still what it would be bound to now.
bool Dispatcher::is_current(const Run& run) const {
  if (run.lane_is_stale) return false;
  return std::all_of(run.lane_keys.begin(), run.lane_keys.end(), [&](const LaneKey& read) {
    const auto version = store_.lookup(run.uid, run.uid, read.key);
    return version.has_value() && (*version)->id() == read.version;
  });
}

// The client gets its answer, and before the first one the lane's segments.
Result<void> Dispatcher::grant(Lane& lane, Run& run) {
  Session& session = *run.session;
  if (!is_current(run)) {
    return Status{StatusCode::Unavailable, "what the call is bound to has changed"};
  }
  LaneGrantSpec spec;
  spec.lane = lane.id;
  spec.call = run.lane_call;
  spec.replayable = run.bound.idempotent && !run.plan->stateful && !run.bound.device_memory;
  if (!lane.granted) {
    // The executor has mapped it: nobody else ever will, but to read.
    const int out = lane.out->descriptor.get();
    if (!has_seals(seals_of(out), Seals::Seal)) {  // Unless the socket had no room the last time.
      KAAS_RETURN_IF_ERROR(add_seals(out, Seals::FutureWrite | Seals::Seal));
    }
    KAAS_ASSIGN_OR_RETURN(const Descriptor readable, reopen_read_only(out));
    KAAS_ASSIGN_OR_RETURN(spec.in_token,
                          send_descriptor(session, lane.client_in.get(), lane.in->bytes));
    KAAS_ASSIGN_OR_RETURN(spec.out_token,
                          send_descriptor(session, readable.get(), lane.out->bytes));
    KAAS_ASSIGN_OR_RETURN(spec.bell_token,
                          send_descriptor(session, lane.client_bell.descriptor(), 0));
    lane.client_in = Descriptor();
    lane.client_bell = Doorbell();
    lane.granted = true;
  }
  answer(session, *session.rings[run.ring],
         {.id = run.id, .outputs = outputs_of(run, nullptr), .lane = &spec});
  run.answered = true;
  session.rings[run.ring]->accesses.remove(run.number, run.bound.accesses);
  LaneCall& call = lane.calls[run.lane_call];
  call.plan = run.plan;
  call.bound = std::move(run.bound);
  call.keys = std::move(run.lane_keys);
  run.bound.clear();
  return {};
}

// Nothing is taken from it any more by the time that this returns; what was taken goes on.
void Dispatcher::end_lane(Lane& lane, const Status& reason) {
  if (lane.reason) return;
  lane.reason = reason;
  const auto executor = executors_.find(lane.executor);
  if (executor != executors_.end() && lane.announced) {
    executor->second->link->end_lane(lane.id);
  } else {
    forget_lane(lane.id);
  }
}

// A lane of which the client has no call.
void Dispatcher::end_if_unused(Lane& lane, const Status& reason) {
  if (lane.calls.empty() && lane.adding == 0) end_lane(lane, reason);
}

void Dispatcher::end_lanes(const Status& reason, const std::function<bool(const Lane&)>& which) {
  std::vector<Lane*> chosen;
  for (const auto& [id, lane] : lanes_) {
    if (!lane->reason && which(*lane)) chosen.push_back(lane.get());
  }
  for (Lane* lane : chosen) end_lane(*lane, reason);
}

void Dispatcher::end_lanes_of_executor(std::uint32_t executor, const Status& reason) {
  end_lanes(reason, [=](const Lane& lane) { return lane.executor == executor; });
}

void Dispatcher::end_lanes_reading(std::uint32_t namespace_uid, std::string_view key) {
  const auto reads = [&](const Lane& lane) {
    if (lane.uid != namespace_uid) return false;
    return std::any_of(lane.calls.begin(), lane.calls.end(), [&](const auto& call) {
      const auto& keys = call.second.keys;
      return std::any_of(keys.begin(), keys.end(),
                         [&](const LaneKey& read) { return read.key == key; });
    });
  };
  // Asked for each output of each run, and nearly always in vain.
  if (std::none_of(lanes_.begin(), lanes_.end(),
                   [&](const auto& entry) { return reads(*entry.second); })) {
    return;
  }
  end_lanes({StatusCode::Unavailable, "a key that it reads has changed"}, reads);
}

void Dispatcher::end_lanes_using(std::uint32_t segment) {
  end_lanes({StatusCode::Unavailable, "a segment that it uses was dropped"}, [&](const Lane& lane) {
    return std::any_of(lane.calls.begin(), lane.calls.end(),
                       [&](const auto& call) { return uses(call.second.bound, segment); });
  });
  runs_.for_each([&](Run& run) {
    if (run.kind == Run::Kind::LaneCall && uses(run.bound, segment)) run.lane_is_stale = true;
  });
}

// Each lane that was announced to an executor ends once.
bool Dispatcher::lane_ended(const ExecutorState& executor, const wire::LaneEnded& report) {
  const auto found = lanes_.find(report.lane());
  if (found == lanes_.end() || found->second->executor != executor.link->identity().executor ||
      !is_known(report.code()) || report.code() == StatusCode::Ok) {
    return false;
  }
  // Without a reason of ours it is the executor's decision: the client broke the protocol.
  Lane& lane = *found->second;
  if (!lane.reason) lane.reason = status_of(report.code(), report.message());
  forget_lane(lane.id);
  return true;
}

// It is over: the client, if there is one, hears why.
void Dispatcher::forget_lane(std::uint32_t id) {
  const auto found = lanes_.find(id);
  const std::unique_ptr<Lane> lane = std::move(found->second);
  lanes_.erase(found);
  count_lane(*lane);
  Session* session = find_session(lane->session);
  if (session == nullptr) return;
  RingState& ring = *session->rings[lane->ring];
  ring.lane = 0;
  if (!lane->granted) return;
  // Before the word is set: who sees it looks here for the reason.
  builder_.Clear();
  const auto message = builder_.CreateString(lane->reason->message);
  wire::ControlReplyBuilder reply(builder_);
  reply.add_code(lane->reason->code);
  reply.add_message(message);
  reply.add_ended_lane(id);
  builder_.Finish(reply.Finish());
  static_cast<void>(send_message(session->socket->get(), finished(builder_)));
  ring.ring.tell_lane_ended(id);
  // A client that waits for the lane sleeps on the executor's word.
  futex_wake_all(lane->out_header().wake_word);
}

// Their executor is gone: what it had not answered it never will. Returns whether that is anything.
// What ran longer than the limit is known only if nothing else was under way.
bool Dispatcher::lose_lanes(const ExecutorState& executor, const std::string& cause) {
  std::vector<Lane*> lost;
  std::size_t busy = 0;
  for (const auto& [id, lane] : lanes_) {
    if (lane->executor != executor.link->identity().executor) continue;
    count_lane(*lane);
    busy += lane->busy ? 1 : 0;
    lost.push_back(lane.get());
  }
  const bool only_one = busy == 1 && executor.in_flight.empty();
  for (Lane* lane : lost) {
    lane->reason = Status{StatusCode::UnknownOutcome, cause};
    if (executor.over_limit && only_one && lane->busy) {
      lane->reason = Status{StatusCode::DeadlineExceeded,
                            "the request ran longer than the operator's limit of " +
                                std::to_string(options_.running_limit_ns / 1'000'000) + " ms"};
    }
    forget_lane(lane->id);
  }
  return busy != 0;
}

// Takes the executor's words into the accounts. False: they can't be true.
bool Dispatcher::count_lane(Lane& lane) {
  const RingHeader& words = lane.out_header();
  const std::uint64_t answered = words.answered.load(std::memory_order_acquire);
  const std::uint64_t oldest = words.oldest.load(std::memory_order_relaxed);
  const std::uint64_t taken = words.consumed.load(std::memory_order_acquire);
  if (answered < lane.answered || answered > taken) return false;
  if (oldest < lane.oldest || oldest > taken) return false;
  const bool progress = answered != lane.answered;
  const bool busy = answered != taken;
  // Others may end while the oldest goes on.
  if (oldest != lane.oldest || !busy || !lane.busy) lane.busy_since_ns = step_ns_;
  lane.answered = answered;
  lane.oldest = oldest;
  lane.busy = busy;
  lane.busy_ns = words.busy_ns.load(std::memory_order_relaxed);
  // More than one in a nanosecond is a lie: no sum overflows in the lifetime of a machine.
  const std::uint64_t now = host_.now_ns();
  const std::uint64_t more =
      std::min(answered - lane.counted, now - lane.counted_ns + kLaneGeometry.slot_count);
  lane.counted += more;
  lane.counted_ns = now;
  if (Session* session = find_session(lane.session)) session->counters.requests += more;
  const auto executor = executors_.find(lane.executor);
  if (executor != executors_.end()) {
    executor->second->finished += more;
    if (progress || busy) executor->second->idle_since_ns = step_ns_;
  }
  return true;
}

void Dispatcher::count_lanes() {
  for (const auto& [id, lane] : lanes_) count_lane(*lane);
}

std::size_t Dispatcher::lanes_of(std::uint64_t session) const {
  return static_cast<std::size_t>(
      std::count_if(lanes_.begin(), lanes_.end(),
                    [session](const auto& entry) { return entry.second->session == session; }));
}

// Looks now and then at what executors do for lanes.
void Dispatcher::watch_lanes() {
  if (step_ns_ < lanes_looked_ns_ + kLaneLookNs) return;
  lanes_looked_ns_ = step_ns_;
  for (const auto& [id, lane] : lanes_) {
    const auto executor = executors_.find(lane->executor);
    if (executor == executors_.end()) continue;
    if (executor->second->condemned) continue;
    if (!count_lane(*lane)) {
      distrust(*executor->second, "its words of a lane break the protocol");
      continue;
    }
    if (options_.running_limit_ns == 0 || !lane->busy ||
        lane->busy_since_ns + options_.running_limit_ns > step_ns_) {
      continue;
    }
    executor->second->condemned = executor->second->over_limit = true;
    host_.kill_executor(lane->executor, "a request ran longer than the limit");
  }
}

// Lanes give way to runs that wait for room.
void Dispatcher::yield_lanes(const std::vector<PlaceState>& places) {
  for (const PlaceState& place : places) {
    const auto found = executors_.find(place.executor);
    if (found == executors_.end()) continue;
    ExecutorState& executor = *found->second;
    const bool is_full =
        executor.held_back != nullptr || executor.in_flight.size() >= options_.runs_per_executor;
    if (!is_full) {
      executor.waited_for_since_ns = 0;
      continue;
    }
    if (executor.waited_for_since_ns == 0) executor.waited_for_since_ns = step_ns_;
    if (step_ns_ < executor.waited_for_since_ns + kLanesYieldNs) continue;
    executor.lanes_refused_until_ns = step_ns_ + kLanesHoldOffNs;
    end_lanes_of_executor(place.executor, {StatusCode::Unavailable, "others wait for the device"});
  }
}

bool Dispatcher::has_lanes(std::uint32_t executor) const {
  return std::any_of(lanes_.begin(), lanes_.end(),
                     [executor](const auto& entry) { return entry.second->executor == executor; });
}

}  // namespace kaas
