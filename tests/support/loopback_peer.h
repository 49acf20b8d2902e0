// The daemon's side of socket and rings in a thread of the test: enough of it to talk to the client
// library, and ways to talk to it wrongly. Keeps objects in a map; runs nothing.
// Threads: everything runs on the peer's thread; a test gets there with run() and the hooks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "schema/ipc/doorbell.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"
#include "schema/ipc/socket.h"

namespace kaas {

class LoopbackPeer;

// One ring, the daemon's end.
struct PeerRing {
  std::uint32_t number = 0;
  Mapping submit_mapping;
  Mapping completion_mapping;
  RingView submit;
  RingView completion;
  Doorbell doorbell;
  RingWriter writer;
  RingReader reader;
  std::uint64_t unanswered = 0;
  std::uint64_t shown = 0;  // Answers that the client was last woken for.
  int socket = -1;          // Of the session, for descriptors.

  // What an answer is made of. Zero and empty fields are left out.
  struct Fields {
    StatusCode code = StatusCode::Ok;
    std::string message;
    std::uint32_t plan = 0;
    std::uint64_t version = 0;
    std::uint64_t bytes = 0;
    std::string data;
    std::uint64_t token = 0;
    std::vector<std::pair<std::string, std::string>> outputs;  // Name and inline bytes.
    bool profile = false;
    std::uint32_t exported_segment = 0;  // Not 0: of an Export.
    std::size_t gpu_bytes = 16;
  };
  void answer(std::uint64_t id, const Fields& fields);
  void answer(std::uint64_t id) { answer(id, Fields()); }
  // Any bytes as an answer.
  void write(std::span<const std::byte> message);
  // Wakes the client if it sleeps and there is something new to see.
  void wake();
};

// Of what it exports.
inline constexpr std::uint64_t kPeerAllocationBytes = 2u << 20;

struct PeerSession {
  std::uint64_t id = 0;
  Descriptor socket;
  std::string name;
  std::vector<std::unique_ptr<PeerRing>> rings;
  std::map<std::uint32_t, Mapping> segments;
  std::map<std::uint64_t, Descriptor> donations;
};

struct PeerOptions {
  std::uint32_t slot_count = 64;
  std::uint32_t heap_bytes = kRingHeapBytes;
  std::uint64_t arena_bytes = 1u << 20;
  std::uint32_t protocol_version = kProtocolVersion;
  std::uint64_t epoch = 7;
  std::uint64_t ring_epoch = 7;  // In the segments; another one than `epoch` is a lie.
  std::uint32_t rings_max = 64;
  bool answer_hello = true;
};

class LoopbackPeer {
 public:
  explicit LoopbackPeer(PeerOptions options = {});
  ~LoopbackPeer();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  // Return true: the message has been dealt with, or is to be ignored. To be set in run() or
  // before a client connects.
  std::function<bool(PeerSession&, PeerRing&, const wire::Submission&)> on_submission;
  std::function<bool(PeerSession&, const wire::ControlRequest&)> on_control;

  // Does something on the peer's thread, and waits until it is done.
  void run(const std::function<void(LoopbackPeer&)>& action);
  // The daemon dies: every descriptor is closed, nothing is answered any more.
  void die();

  // For run() and the hooks:
  [[nodiscard]] std::vector<std::unique_ptr<PeerSession>>& sessions() noexcept { return sessions_; }
  PeerRing& ring(std::size_t session = 0, std::size_t ring = 0) {
    return *sessions_.at(session)->rings.at(ring);
  }
  void handle(PeerSession& session, PeerRing& ring, const wire::Submission& submission);
  // Sends a memfd with `data` to the client, under a new token.
  std::uint64_t send_object(int socket, const std::string& data, Seals seals = Seals::Size);
  PeerOptions options;
  std::map<std::string, std::string> store;
  // Of dropped segments and kicked sessions, as administration asked for them.
  std::vector<std::uint64_t> dropped;
  std::vector<std::string> control_log;
  struct SeenDeviceMemory {
    wire::DeviceMemoryKind kind;
    std::size_t handle_bytes;
    std::size_t gpu_bytes;
    std::uint64_t bytes;
    std::size_t descriptors;
  };
  std::vector<SeenDeviceMemory> device_memory;  // As it was registered.
  struct SeenExport {
    std::string key;
    std::uint64_t offset;
    std::uint64_t bytes;
    std::string device;
  };
  std::vector<SeenExport> export_log;  // As they were asked for.

 private:
  void loop();
  bool wait_for_work();
  bool step();
  void accept_session();
  bool receive_control(PeerSession& session);
  void handle_control(PeerSession& session, const wire::ControlRequest& request,
                      std::vector<Descriptor> descriptors);
  bool serve(PeerSession& session, PeerRing& ring);
  Result<std::vector<Descriptor>> add_ring(PeerSession& session, std::uint32_t slots);

  std::string folder_;
  std::string path_;
  Descriptor listener_;
  Descriptor task_event_;
  MessageBuffer buffer_;
  std::vector<std::unique_ptr<PeerSession>> sessions_;
  std::uint64_t next_token_ = 1;
  std::uint32_t next_segment_ = kFirstSegment;
  bool dead_ = false;

  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::function<void()>> tasks_;
  std::atomic<bool> stop_{false};
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace kaas
