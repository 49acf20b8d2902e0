// The executor as a process: its socket to kaasd, its segments, its sleep.
// Threads: main thread only, but for the wake that workers call.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "daemon/executor/device/device.h"
#include "daemon/executor/run/executor_loop.h"
#include "daemon/executor/run/lane_bell.h"
#include "daemon/executor/run/segments.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"
#include "schema/ipc/segment.h"

namespace kaas {

// What kaasd's ExecutorHello brings. Both rings have the geometry it names.
struct ExecutorChannel {
  Descriptor socket;
  Doorbell doorbell;
  RingGeometry geometry;
  std::uint64_t device_limit_bytes = 0;  // 0: as much as the device says.
  Mapping work;                          // Read-only.
  Mapping report;                        // Read-write.
  std::shared_ptr<ExecutorSegment> outbox;

  // Waits for the hello on `socket`. VersionMismatch names both protocol versions; Unavailable:
  // kaasd hung up or said nothing for kHelloDeadlineNs.
  static Result<ExecutorChannel> receive(Descriptor socket);
};

// Attachments from the socket. A message that is not one ends the connection: next() gives nothing
// any more and broken() says why.
class SocketSegmentSource final : public SegmentSource {
 public:
  // `socket` is borrowed.
  explicit SocketSegmentSource(int socket);
  std::optional<AttachedSegment> next() override;
  [[nodiscard]] bool hung_up() const noexcept { return hung_up_; }
  [[nodiscard]] const std::string& broken() const noexcept { return broken_; }

 private:
  int socket_;
  std::vector<std::byte> buffer_;
  bool hung_up_ = false;
  std::string broken_;
};

// Descriptors of exports, over the same socket.
class SocketExportSink final : public ExportSink {
 public:
  // `socket` is borrowed.
  explicit SocketExportSink(int socket) noexcept : socket_(socket) {}
  bool send(std::uint64_t number, int descriptor) override;

 private:
  int socket_;
};

// Sleeps until kaasd rings, sends something, hangs up, a client rings the bell of its lane, or a
// worker has finished.
class ExecutorSleep final : public LaneBells {
 public:
  // Borrows both descriptors. Fails with ResourceExhausted.
  static Result<ExecutorSleep> create(int doorbell, int socket);

  // At most `timeout_ms`, -1: for ever. False: kaasd has hung up.
  [[nodiscard]] bool wait(const Doorbell& doorbell, int timeout_ms) noexcept;
  // The lanes whose bells rang in the last wait(), some of them if there are many: the others end
  // the next one.
  [[nodiscard]] std::span<const std::uint32_t> rung_lanes() const noexcept {
    return {rung_lanes_.data(), rung_};
  }
  Result<void> listen(std::uint32_t lane, int descriptor) override;
  void ignore(int descriptor) noexcept override;
  // Ends a wait() from any thread. Never blocks.
  void wake() const noexcept;

 private:
  static constexpr std::size_t kEventsMax = 16;

  Descriptor epoll_;
  Descriptor event_;
  std::array<std::uint32_t, kEventsMax> rung_lanes_{};
  std::size_t rung_ = 0;
};

// How long sleeping and being woken takes on this machine now, measured; within reason.
std::uint64_t measure_wake_ns();

// Why run_executor() came back.
enum class ExecutorEnd { KaasdGone, Violation };

struct ExecutorEnding {
  ExecutorEnd end = ExecutorEnd::KaasdGone;
  std::string reason;
  bool executing = false;  // Something still runs; it may never end.
};

// Runs the loop until kaasd is gone or breaks the protocol.
ExecutorEnding run_executor(ExecutorLoop& loop, const ExecutorChannel& channel,
                            const SocketSegmentSource& source, ExecutorSleep& sleep);

}  // namespace kaas
