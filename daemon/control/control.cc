#include "daemon/control/control.h"

#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "schema/ipc/clock.h"

namespace kaas {
namespace {

// Without a new client for so long, arenas are made for the next ones.
constexpr std::uint64_t kRefillDelayNs = 20'000'000;

// Messages of one connection in one round, so that none starves the others.
constexpr int kMessagesPerRound = 32;
// How long SIGTERM waits for what is under way.
constexpr std::uint64_t kDrainNs = 10'000'000'000;

// What concerns the rings and the memory of the session that asks.
bool needs_rings(wire::Control type) {
  switch (type) {
    case wire::Control::AddRing:
    case wire::Control::AddArena:
    case wire::Control::RegisterRegion:
    case wire::Control::RegisterDeviceMemory:
    case wire::Control::RegisterEvent:
    case wire::Control::Donate:
    case wire::Control::DropSegment:
      return true;
    default:
      return false;
  }
}

}  // namespace

Control::Control(ControlParts parts, Config config, Listener listener)
    : parts_(std::move(parts)),
      config_(std::move(config)),
      listener_(std::move(listener)),
      arenas_(parts_.budget, config_.arena_bytes, config_.arenas_ready),
      started_ns_(now_ns()),
      buffer_(kControlMessageBytesMax) {}

Control::~Control() = default;

Result<void> Control::start(int signals) {
  KAAS_RETURN_IF_ERROR(parts_.events.watch(listener_.descriptor(), [this] { accept(); }));
  KAAS_RETURN_IF_ERROR(parts_.events.watch(signals, [this, signals] { on_signal(signals); }));
  parts_.supervisor.want_everywhere(domain_of(config_, ::geteuid()));
  refill_arenas();
  return {};
}

void Control::refill_arenas() {
  if (arenas_.refill_one()) parts_.events.post([this] { refill_arenas(); });
}

// Touching an arena's pages takes milliseconds of a processor, which the client that has just
// connected may need for its first request.
void Control::refill_arenas_later() {
  if (refill_timer_ != 0) parts_.events.cancel(refill_timer_);
  refill_timer_ = parts_.events.after(kRefillDelayNs, [this] {
    refill_timer_ = 0;
    refill_arenas();
  });
}

void Control::accept() {
  for (;;) {
    Descriptor socket = listener_.accept();
    if (!socket) return;
    const auto peer = peer_credentials(socket.get());
    if (!peer.has_value()) continue;
    // No user has more sessions than it leaves to the others.
    const auto own = static_cast<std::size_t>(
        std::count_if(connections_.begin(), connections_.end(),
                      [&](const auto& entry) { return entry.second->peer.uid == peer->uid; }));
    const std::size_t room = kSessionsMax - connections_.size();
    if (own >= room) {
      send_failure(
          socket, 0,
          over_limit(StatusCode::ResourceExhausted, "sessions of this user", own + 1, room));
      continue;
    }
    auto connection = std::make_unique<Connection>();
    const std::uint64_t id = next_session_++;
    connection->id = id;
    connection->peer = *peer;
    connection->pidfd = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, peer->pid, 0)));
    connection->socket = std::make_shared<const Descriptor>(std::move(socket));
    const auto watched =
        parts_.events.watch(connection->socket->get(), [this, id] { readable(id); });
    if (!watched.has_value()) continue;
    // No pidfd: the peer is in another pid namespace or gone; its socket tells alone.
    if (connection->pidfd) {
      const auto death = parts_.events.watch(connection->pidfd.get(), [this, id] {
        close(id, Status{StatusCode::Cancelled, "the client's process has ended"});
      });
      if (!death.has_value()) connection->pidfd = Descriptor();
    }
    connection->hello_timer = parts_.events.after(kHelloDeadlineNs, [this, id] {
      close(id, Status{StatusCode::DeadlineExceeded,
                       "no hello within " + std::to_string(kHelloDeadlineNs / 1'000'000) + " ms"});
    });
    connections_[id] = std::move(connection);
  }
}

void Control::readable(std::uint64_t id) {
  for (int i = 0; i < kMessagesPerRound; ++i) {
    const auto found = connections_.find(id);
    if (found == connections_.end()) return;
    Connection& connection = *found->second;
    Received received = receive_message(connection.socket->get(), buffer_, 1);
    switch (received.outcome) {
      case ReceiveOutcome::WouldBlock:
        return;
      case ReceiveOutcome::HungUp:
        return close(id, Status{StatusCode::Cancelled, "the client has closed its socket"});
      case ReceiveOutcome::Violation:
        return close(id, Status{StatusCode::ProtocolViolation,
                                "a control message is too long or carries too many descriptors"});
      case ReceiveOutcome::Message:
        break;
    }
    // FlatBuffers wants its bytes aligned; a vector's are.
    const auto* request = verified_root<wire::ControlRequest>(received.message);
    if (request == nullptr || !handle(connection, *request, received.descriptors)) {
      return close(id,
                   Status{StatusCode::ProtocolViolation, "a control message breaks the protocol"});
    }
  }
}

// False: the message breaks the protocol.
bool Control::handle(Connection& connection, const wire::ControlRequest& request,
                     std::vector<Descriptor>& descriptors) {
  const Asked asked{connection, request.id(), descriptors};
  const auto type = request.control_type();
  if (request.control() == nullptr) return false;
  if (!connection.greeted) {
    if (type != wire::Control::Hello) return false;
    hello(asked, *request.control_as_Hello());
    return true;
  }
  if (!connection.has_rings && needs_rings(type)) {
    send_failure(
        *connection.socket, asked.id,
        Status{StatusCode::InvalidArgument,
               std::string(wire::EnumNameControl(type)) +
                   " needs rings and memory, and this session is for administration only"});
    return true;
  }
  switch (type) {
    case wire::Control::Hello:
    case wire::Control::NONE:
      return false;
    case wire::Control::AddRing:
      add_ring(asked, *request.control_as_AddRing());
      return true;
    case wire::Control::AddArena:
      add_arena(asked, *request.control_as_AddArena());
      return true;
    case wire::Control::RegisterRegion:
      register_region(asked, *request.control_as_RegisterRegion());
      return true;
    case wire::Control::RegisterDeviceMemory:
      register_device_memory(asked, *request.control_as_RegisterDeviceMemory());
      return true;
    case wire::Control::RegisterEvent:
      register_event(asked, *request.control_as_RegisterEvent());
      return true;
    case wire::Control::Donate:
      donate(asked, *request.control_as_Donate());
      return true;
    case wire::Control::ListObjects:
      list_objects(asked, *request.control_as_ListObjects());
      return true;
    case wire::Control::Share:
      share(asked, *request.control_as_Share());
      return true;
    default:
      administer(asked, request);
      return true;
  }
}

void Control::close(std::uint64_t id, const Status& reason) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const std::unique_ptr<Connection> connection = std::move(found->second);
  connections_.erase(found);
  parts_.events.unwatch(connection->socket->get());
  if (connection->pidfd) parts_.events.unwatch(connection->pidfd.get());
  parts_.events.cancel(connection->hello_timer);
  const auto level =
      reason.code == StatusCode::ProtocolViolation ? spdlog::level::warn : spdlog::level::debug;
  parts_.log.write(level, "session " + std::to_string(id) + " (uid " +
                              std::to_string(connection->peer.uid) + ", process " +
                              std::to_string(connection->peer.pid) + ") ended: " + reason.message);
  if (!connection->has_rings) return;
  parts_.dispatcher.post(
      [id, reason](Dispatcher& dispatcher) { dispatcher.close_session(id, reason); });
}

void Control::session_closed(std::uint64_t session, const Status& reason) {
  close(session, reason);
}

void Control::on_signal(int signals) {
  signalfd_siginfo info{};
  while (::read(signals, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) {
      reload([this](const Result<void>& done) {
        if (!done.has_value()) parts_.log.write(spdlog::level::err, done.error().message);
      });
    } else {
      drain();
    }
  }
}

void Control::reload(const std::function<void(Result<void>)>& done) {
  const auto fresh = parts_.configure();
  if (!fresh.has_value()) return done(fresh.error());
  const auto level = parts_.log.set_level(fresh->log_level);
  if (!level.has_value()) return done(level.error());
  config_.log_level = fresh->log_level;
  config_.running_limit_ms = fresh->running_limit_ms;
  config_.library_path = fresh->library_path;
  parts_.dispatcher.post([limit_ns = fresh->running_limit_ms * 1'000'000,
                          path = fresh->library_path](Dispatcher& dispatcher) {
    dispatcher.reconfigure(limit_ns, path);
  });
  parts_.log.write(spdlog::level::info, "configuration re-read");
  done({});
}

// The first signal waits for what is under way, the second does not.
void Control::drain() {
  if (draining_) return parts_.events.stop();
  draining_ = true;
  parts_.log.write(spdlog::level::info, "shutting down: " + std::to_string(connections_.size()) +
                                            " sessions, finishing what is under way");
  parts_.events.unwatch(listener_.descriptor());
  EventLoop& events = parts_.events;
  events.after(kDrainNs, [&events] { events.stop(); });
  parts_.dispatcher.post(
      [&events](Dispatcher& dispatcher) { dispatcher.drain([&events] { events.stop(); }); });
}

}  // namespace kaas
