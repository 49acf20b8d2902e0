// The control thread: accepts clients, greets them, answers their sockets, keeps executors, obeys
// signals. Never on a request's way.
// Threads: run() on one thread; everything else on that thread, except where it says otherwise.
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "daemon/config.h"
#include "daemon/control/admin.h"
#include "daemon/control/event_loop.h"
#include "daemon/control/listener.h"
#include "daemon/control/log_book.h"
#include "daemon/control/session_memory.h"
#include "daemon/control/supervisor.h"
#include "schema/ipc/socket.h"

namespace kaas {

// What main() made and owns.
struct ControlParts {
  EventLoop& events;
  Dispatcher& dispatcher;
  ByteBudget& budget;
  LogBook& log;
  Supervisor& supervisor;
  std::uint64_t epoch = 0;
  std::string version;
  // The whole configuration anew, from the file, the environment and the flags: for SIGHUP.
  std::function<Result<Config>()> configure;
};

class Control {
 public:
  Control(ControlParts parts, Config config, Listener listener);
  ~Control();

  // Watches the socket and `signals` (a signalfd). The first executors are started.
  Result<void> start(int signals);

  // From the dispatcher: its session is gone.
  void session_closed(std::uint64_t session, const Status& reason);

 private:
  struct Connection {
    std::uint64_t id = 0;
    std::shared_ptr<const Descriptor> socket;
    PeerCredentials peer;
    Descriptor pidfd;  // A fork may keep the socket open after the client died.
    std::uint64_t hello_timer = 0;
    bool greeted = false;
    bool has_rings = false;
    std::uint32_t rings = 0;
  };
  // One request of a connection, while it is handled. `descriptors` are what came with it.
  struct Asked {
    Connection& connection;
    std::uint64_t id;
    std::vector<Descriptor>& descriptors;
  };

  void accept();
  void readable(std::uint64_t connection);
  bool handle(Connection& connection, const wire::ControlRequest& request,
              std::vector<Descriptor>& descriptors);
  void close(std::uint64_t connection, const Status& reason);
  void on_signal(int signals);
  void reload(const std::function<void(Result<void>)>& done);
  void drain();
  void refill_arenas();
  void refill_arenas_later();

  // requests.cc
  void hello(Asked asked, const wire::Hello& hello);
  void add_ring(Asked asked, const wire::AddRing& wanted);
  void add_arena(Asked asked, const wire::AddArena& wanted);
  void register_region(Asked asked, const wire::RegisterRegion& wanted);
  void add_segment(Asked asked, Segment segment, bool send_descriptor);
  void register_device_memory(Asked asked, const wire::RegisterDeviceMemory& wanted);
  void register_event(Asked asked, const wire::RegisterEvent& wanted);
  void donate(Asked asked, const wire::Donate& donated);
  void administer(Asked asked, const wire::ControlRequest& request);
  void cancel_request(Asked asked, const wire::CancelRequest& wanted);
  void command_session(Asked asked, const wire::ControlRequest& request);
  void list_objects(Asked asked, const wire::ListObjects& wanted);
  void share(Asked asked, const wire::Share& wanted);
  // device_requests.cc
  void command_device(Asked asked, const wire::ControlRequest& request);
  [[nodiscard]] Caller caller_of(const Connection& connection) const;
  [[nodiscard]] DaemonFacts facts() const;

  ControlParts parts_;
  Config config_;
  Listener listener_;
  ArenaPool arenas_;
  std::uint64_t refill_timer_ = 0;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::uint64_t next_session_ = 1;
  std::uint64_t started_ns_;
  bool draining_ = false;
  std::vector<std::byte> buffer_;
};

// A reply on a session's socket. Any thread; never blocks.
struct ReplyFields {
  std::uint64_t id = 0;
  StatusCode code = StatusCode::Ok;
  std::string message;
  std::uint64_t session = 0;
  std::uint64_t epoch = 0;
  std::string daemon_version;
  bool has_ring = false;
  std::uint32_t ring = 0;
  std::uint32_t ring_slots = 0;
  bool has_arena = false;
  std::uint32_t segment = 0;
  std::uint64_t bytes = 0;
  std::string json;  // One that is too long for a message goes in a sealed memfd of `bytes`.
};
SendOutcome send_reply(const Descriptor& socket, const ReplyFields& fields,
                       std::vector<int> descriptors = {});
SendOutcome send_failure(const Descriptor& socket, std::uint64_t id, const Status& status);

}  // namespace kaas
