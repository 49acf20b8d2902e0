// Handlers of control requests. What changes a session's state is done by a command on the
// dispatcher thread, which then replies: when the client has the reply, its rings see the change.
#include <unistd.h>

#include "daemon/control/control.h"
#include "schema/ipc/clock.h"

namespace kaas {
namespace {

using Socket = std::shared_ptr<const Descriptor>;

void reply_status(const Socket& socket, std::uint64_t id, const Result<void>& result) {
  if (!result.has_value()) {
    send_failure(*socket, id, result.error());
    return;
  }
  ReplyFields fields;
  fields.id = id;
  send_reply(*socket, fields);
}

void reply_json(const Socket& socket, std::uint64_t id, std::string json) {
  ReplyFields fields;
  fields.id = id;
  fields.json = std::move(json);
  send_reply(*socket, fields);
}

Status no_descriptor(const char* what) {
  return Status{StatusCode::InvalidArgument,
                std::string(what) + " came with 0 descriptors, wanted is 1"};
}

Status too_many_segments(const Session& session) {
  return over_limit(StatusCode::ResourceExhausted, "segments of this session",
                    session.segments.size() + 1, kSegmentsPerSessionMax);
}

Status operator_only(const char* what) {
  return Status{StatusCode::PermissionDenied,
                std::string(what) + " is for the operator: root, or the user that runs kaasd"};
}

std::string printable_name(std::string_view name) {
  std::string result(name.substr(0, kClientNameBytesMax));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return result;
}

}  // namespace

Caller Control::caller_of(const Connection& connection) const {
  const auto uid = static_cast<std::uint32_t>(connection.peer.uid);
  return {uid, domain_of(config_, uid), uid == 0 || uid == ::geteuid()};
}

DaemonFacts Control::facts() const {
  DaemonFacts facts;
  facts.version = parts_.version;
  facts.epoch = parts_.epoch;
  facts.socket = listener_.path();
  facts.started_ns = started_ns_;
  facts.arenas_ready = arenas_.ready();
  facts.config_json = config_json(config_);
  facts.health = "ok";
  for (const auto& [key, state] : parts_.supervisor.states()) {
    ExecutorFacts& executor = facts.executors[key];
    executor.restarts = state.restarts;
    if (!state.is_wanted || state.is_ready) continue;
    const std::string name = "the executor of " + parts_.supervisor.name_of(key);
    if (state.failures_in_row > 0) {
      executor.failure = state.last_cause;
      facts.health = "degraded";
      facts.health_reason = name + " does not start: " + state.last_cause;
    } else if (facts.health == "ok") {
      facts.health = "starting";
      facts.health_reason = name + " is starting";
    }
  }
  return facts;
}

void Control::hello(Asked asked, const wire::Hello& hello) {
  Connection& connection = asked.connection;
  if (hello.protocol_version() != kProtocolVersion) {
    const Status mismatch{StatusCode::VersionMismatch,
                          "protocol_version is " + std::to_string(hello.protocol_version()) +
                              ", this kaasd (" + parts_.version + ") speaks " +
                              std::to_string(kProtocolVersion)};
    send_failure(*connection.socket, asked.id, mismatch);
    return close(connection.id, mismatch);
  }
  connection.greeted = true;
  parts_.events.cancel(connection.hello_timer);
  ReplyFields fields;
  fields.id = asked.id;
  fields.session = connection.id;
  fields.epoch = parts_.epoch;
  fields.daemon_version = parts_.version;
  if (!hello.rings()) {
    send_reply(*connection.socket, fields);
    return;
  }
  auto ring = make_ring(parts_.budget, hello.ring_slots(), parts_.epoch);
  auto arena = ring.has_value()
                   ? arenas_.take(hello.arena_bytes(),
                                  static_cast<std::uint32_t>(connection.peer.uid), connection.id)
                   : Result<Segment>(ring.error());
  if (!arena.has_value()) {
    send_failure(*connection.socket, asked.id, arena.error());
    return close(connection.id, arena.error());
  }
  const SegmentRef segment = parts_.dispatcher.segments().add(*std::move(arena));
  auto session = std::make_unique<Session>();
  session->id = connection.id;
  session->uid = static_cast<std::uint32_t>(connection.peer.uid);
  session->domain = domain_of(config_, session->uid);
  session->pid = connection.peer.pid;
  session->name = printable_name(view(hello.name()));
  session->connected_ns = now_ns();
  session->socket = connection.socket;
  session->segments[segment->id] = segment;
  fields.has_ring = true;
  fields.ring_slots = ring->endpoints.submit.geometry.slot_count;
  fields.has_arena = true;
  fields.segment = segment->id;
  fields.bytes = segment->bytes;
  session->rings.push_back(std::make_unique<RingState>(0, std::move(ring->endpoints)));
  connection.has_rings = true;
  connection.rings = 1;
  const auto shared = std::make_shared<std::unique_ptr<Session>>(std::move(session));
  parts_.dispatcher.post(
      [shared](Dispatcher& dispatcher) { dispatcher.add_session(std::move(*shared)); });
  send_reply(*connection.socket, fields,
             {ring->submit.get(), ring->completion.get(), ring->client_doorbell.get(),
              segment->descriptor.get()});
  refill_arenas_later();
}

void Control::add_ring(Asked asked, const wire::AddRing& wanted) {
  Connection& connection = asked.connection;
  if (connection.rings >= kRingsPerSessionMax) {
    send_failure(*connection.socket, asked.id,
                 over_limit(StatusCode::ResourceExhausted, "rings of this session",
                            connection.rings + 1u, kRingsPerSessionMax));
    return;
  }
  auto ring = make_ring(parts_.budget, wanted.ring_slots(), parts_.epoch);
  if (!ring.has_value()) {
    send_failure(*connection.socket, asked.id, ring.error());
    return;
  }
  const std::uint32_t index = connection.rings++;
  const auto memory = std::make_shared<RingMemory>(*std::move(ring));
  parts_.dispatcher.post([memory, index, id = asked.id, session_id = connection.id,
                          socket = connection.socket](Dispatcher& dispatcher) {
    Session* session = dispatcher.find_session(session_id);
    if (session == nullptr) return;  // It has ended: its socket says so.
    ReplyFields fields;
    fields.id = id;
    fields.session = session_id;
    fields.has_ring = true;
    fields.ring = index;
    fields.ring_slots = memory->endpoints.submit.geometry.slot_count;
    dispatcher.add_ring(*session, std::make_unique<RingState>(index, std::move(memory->endpoints)));
    send_reply(*socket, fields,
               {memory->submit.get(), memory->completion.get(), memory->client_doorbell.get()});
  });
}

void Control::add_arena(Asked asked, const wire::AddArena& wanted) {
  Connection& connection = asked.connection;
  auto arena =
      arenas_.take(wanted.bytes(), static_cast<std::uint32_t>(connection.peer.uid), connection.id);
  if (!arena.has_value()) {
    send_failure(*connection.socket, asked.id, arena.error());
    return;
  }
  add_segment(asked, *std::move(arena), true);
}

void Control::register_region(Asked asked, const wire::RegisterRegion& wanted) {
  Connection& connection = asked.connection;
  if (asked.descriptors.empty()) {
    send_failure(*connection.socket, asked.id, no_descriptor("RegisterRegion"));
    return;
  }
  auto region =
      import_region(std::move(asked.descriptors.front()), wanted.bytes(), wanted.writable(),
                    static_cast<std::uint32_t>(connection.peer.uid), connection.id);
  if (!region.has_value()) {
    send_failure(*connection.socket, asked.id, region.error());
    return;
  }
  add_segment(asked, *std::move(region), false);
}

// Numbers a segment, gives it to the session, and replies; an arena's descriptor goes with it.
void Control::add_segment(Asked asked, Segment segment, bool send_descriptor) {
  const Connection& connection = asked.connection;
  const SegmentRef added = parts_.dispatcher.segments().add(std::move(segment));
  parts_.dispatcher.post([added, send_descriptor, id = asked.id, session_id = connection.id,
                          socket = connection.socket](Dispatcher& dispatcher) {
    Session* session = dispatcher.find_session(session_id);
    if (session == nullptr) return;  // It has ended: its socket says so.
    if (session->segments.size() >= kSegmentsPerSessionMax) {
      send_failure(*socket, id, too_many_segments(*session));
      return;
    }
    session->segments[added->id] = added;
    ReplyFields fields;
    fields.id = id;
    fields.session = session_id;
    fields.has_arena = send_descriptor;
    fields.segment = added->id;
    fields.bytes = added->bytes;
    std::vector<int> descriptors;
    if (send_descriptor) descriptors.push_back(added->descriptor.get());
    send_reply(*socket, fields, std::move(descriptors));
  });
}

void Control::register_device_memory(Asked asked, const wire::RegisterDeviceMemory& wanted) {
  const Connection& connection = asked.connection;
  Descriptor descriptor;
  if (!asked.descriptors.empty()) descriptor = std::move(asked.descriptors.front());
  auto imported =
      import_device_memory(*wanted.memory(), std::move(descriptor),
                           static_cast<std::uint32_t>(connection.peer.uid), connection.id);
  if (!imported.has_value()) {
    send_failure(*connection.socket, asked.id, imported.error());
    return;
  }
  const auto memory = std::make_shared<Segment>(*std::move(imported));
  parts_.dispatcher.post([memory, id = asked.id, session_id = connection.id,
                          socket = connection.socket](Dispatcher& dispatcher) {
    Session* session = dispatcher.find_session(session_id);
    if (session == nullptr) return;  // It has ended: its socket says so.
    if (session->segments.size() >= kSegmentsPerSessionMax) {
      send_failure(*socket, id, too_many_segments(*session));
      return;
    }
    const std::uint64_t bytes = memory->bytes;
    const auto added =
        session->device_memory.add_registered(std::move(*memory), dispatcher.segments());
    if (!added.has_value()) {
      send_failure(*socket, id, added.error());
      return;
    }
    session->segments[(*added)->id] = *added;
    ReplyFields fields;
    fields.id = id;
    fields.session = session_id;
    fields.segment = (*added)->id;
    fields.bytes = bytes;
    send_reply(*socket, fields);
  });
}

void Control::register_event(Asked asked, const wire::RegisterEvent& wanted) {
  const Connection& connection = asked.connection;
  auto event = import_event(wanted, static_cast<std::uint32_t>(connection.peer.uid), connection.id);
  if (!event.has_value()) {
    send_failure(*connection.socket, asked.id, event.error());
    return;
  }
  add_segment(asked, *std::move(event), false);
}

void Control::donate(Asked asked, const wire::Donate& donated) {
  Connection& connection = asked.connection;
  if (asked.descriptors.empty()) {
    send_failure(*connection.socket, asked.id, no_descriptor("Donate"));
    return;
  }
  if (donated.token() == 0) {
    send_failure(*connection.socket, asked.id,
                 Status{StatusCode::InvalidArgument, "token is 0, allowed: any other number"});
    return;
  }
  const auto descriptor = std::make_shared<Descriptor>(std::move(asked.descriptors.front()));
  parts_.dispatcher.post([descriptor, token = donated.token(), bytes = donated.bytes(),
                          id = asked.id, session_id = connection.id,
                          socket = connection.socket](Dispatcher& dispatcher) {
    Session* session = dispatcher.find_session(session_id);
    if (session == nullptr) return;  // It has ended: its socket says so.
    reply_status(socket, id,
                 dispatcher.add_donation(*session, token, {std::move(*descriptor), bytes}));
  });
}

void Control::list_objects(Asked asked, const wire::ListObjects& wanted) {
  const auto uid = static_cast<std::uint32_t>(asked.connection.peer.uid);
  const std::uint32_t owner = wanted.owner_uid().value_or(uid);
  reply_json(asked.connection.socket, asked.id,
             list_json(parts_.dispatcher.store().list(uid, owner, view(wanted.prefix()),
                                                      view(wanted.after()), wanted.limit())));
}

void Control::share(Asked asked, const wire::Share& wanted) {
  Grant grant;
  grant.everyone = wanted.everyone();
  grant.uid = wanted.uid();
  grant.write = wanted.write();
  grant.revoke = wanted.revoke();
  reply_status(
      asked.connection.socket, asked.id,
      parts_.dispatcher.store().share(asked.connection.peer.uid, view(wanted.key()), grant));
}

// Everything that only asks or orders. Runs on the dispatcher's thread where it needs its state.
void Control::administer(Asked asked, const wire::ControlRequest& request) {
  const Socket socket = asked.connection.socket;
  const std::uint64_t id = asked.id;
  const Caller caller = caller_of(asked.connection);
  Dispatcher& dispatcher = parts_.dispatcher;
  switch (request.control_type()) {
    case wire::Control::GetStatus:
      dispatcher.post([=, facts = facts(), &budget = parts_.budget](Dispatcher& d) {
        reply_json(socket, id, status_json(d, budget, facts, caller));
        d.ask_for_counters();  // For the next time: this reply does not wait for executors.
      });
      return;
    case wire::Control::GetClients:
      return dispatcher.post(
          [=](Dispatcher& d) { reply_json(socket, id, clients_json(d, caller, now_ns())); });
    case wire::Control::GetFunctions:
      return dispatcher.post(
          [=](Dispatcher& d) { reply_json(socket, id, functions_json(d, caller)); });
    case wire::Control::GetLibraries:
      return dispatcher.post(
          [=](Dispatcher& d) { reply_json(socket, id, libraries_json(d, caller)); });
    case wire::Control::GetLogs: {
      const auto& wanted = *request.control_as_GetLogs();
      return reply_json(socket, id,
                        logs_json(parts_.log, caller, wanted.after(),
                                  std::min<std::size_t>(wanted.limit(), 1000)));
    }
    case wire::Control::Undeploy: {
      const auto& wanted = *request.control_as_Undeploy();
      return dispatcher.post([=, name = std::string(view(wanted.function())),
                              version = wanted.version()](Dispatcher& d) {
        reply_status(socket, id, d.functions().undeploy(caller.uid, name, version));
      });
    }
    case wire::Control::MakeCurrent: {
      const auto& wanted = *request.control_as_MakeCurrent();
      return dispatcher.post([=, name = std::string(view(wanted.function())),
                              version = wanted.version()](Dispatcher& d) {
        reply_status(socket, id, d.functions().make_current(caller.uid, name, version));
      });
    }
    case wire::Control::DropSegment:
    case wire::Control::CancelRequest:
    case wire::Control::Kick:
      return command_session(asked, request);
    case wire::Control::SuspendDevice:
    case wire::Control::ResumeDevice:
      if (!caller.is_operator) {
        return reply_status(socket, id, operator_only("suspending and resuming devices"));
      }
      return command_device(asked, request);
    case wire::Control::Reload:
      if (!caller.is_operator) return reply_status(socket, id, operator_only("reload"));
      return reload([=](const Result<void>& done) { reply_status(socket, id, done); });
    default:
      reply_status(socket, id, Status{StatusCode::InvalidArgument, "unknown control request"});
  }
}

// Only its executor knows whether a request that was sent there has begun, and it may be in a
// kernel that never ends: who asks waits for a bounded time.
void Control::cancel_request(Asked asked, const wire::CancelRequest& wanted) {
  const Socket socket = asked.connection.socket;
  const std::uint64_t id = asked.id;
  const auto is_open = std::make_shared<bool>(true);  // Of this thread alone.
  const std::string name = std::to_string(wanted.session()) + "." + std::to_string(wanted.ring()) +
                           "." + std::to_string(wanted.id());
  const std::uint64_t timer = parts_.events.after(kCancelAnswerNs, [=] {
    *is_open = false;
    reply_status(socket, id,
                 Status{StatusCode::DeadlineExceeded,
                        "the executor of request " + name + " has not answered within " +
                            std::to_string(kCancelAnswerNs / 1'000'000) +
                            " ms: a kernel keeps it busy; the request is dropped if it has not "
                            "begun by then"});
  });
  const auto reply = [=, &events = parts_.events](const Result<void>& cancelled) {
    events.post([=, &events] {
      if (!*is_open) return;
      events.cancel(timer);
      reply_status(socket, id, cancelled);
    });
  };
  parts_.dispatcher.post([=, caller = caller_of(asked.connection), target = wanted.session(),
                          ring = wanted.ring(), number = wanted.id()](Dispatcher& d) {
    const Session* session = d.find_session(target);
    if (session == nullptr || !caller.may_see(session->uid)) {
      return reply(
          Status{StatusCode::NotFound, "no session " + std::to_string(target) + " of yours"});
    }
    d.cancel(target, ring, number, reply);
  });
}

// Orders that concern one session.
void Control::command_session(Asked asked, const wire::ControlRequest& request) {
  const Socket socket = asked.connection.socket;
  const std::uint64_t id = asked.id;
  const Caller caller = caller_of(asked.connection);
  const std::uint64_t own_session = asked.connection.id;
  Dispatcher& dispatcher = parts_.dispatcher;
  switch (request.control_type()) {
    case wire::Control::DropSegment: {
      const std::uint32_t segment = request.control_as_DropSegment()->segment();
      return dispatcher.post([=](Dispatcher& d) {
        Session* session = d.find_session(own_session);
        if (session == nullptr) return;  // It has ended: its socket says so.
        const auto found = session->segments.find(segment);
        if (found == session->segments.end()) {
          return reply_status(socket, id,
                              Status{StatusCode::NotFound, "segment " + std::to_string(segment) +
                                                               " is not one of this session"});
        }
        d.end_lanes_using(segment);
        if (found->second->kind != SegmentKind::Device) {
          session->segments.erase(found);
          return reply_status(socket, id, {});
        }
        if (!session->device_memory.drop(segment)) return reply_status(socket, id, {});
        // Who has the answer may free the memory.
        d.when_detached(segment, [=] { reply_status(socket, id, {}); });
        session->segments.erase(found);
      });
    }
    case wire::Control::CancelRequest:
      return cancel_request(asked, *request.control_as_CancelRequest());
    case wire::Control::Kick: {
      const std::uint64_t target = request.control_as_Kick()->session();
      return dispatcher.post([=](Dispatcher& d) {
        const Session* session = d.find_session(target);
        if (session == nullptr || !caller.may_see(session->uid)) {
          reply_status(
              socket, id,
              Status{StatusCode::NotFound, "no session " + std::to_string(target) + " of yours"});
          return;
        }
        d.close_session(target, Status{StatusCode::Cancelled, "the session was kicked"});
        reply_status(socket, id, {});
      });
    }
    default:
      return;
  }
}

}  // namespace kaas
