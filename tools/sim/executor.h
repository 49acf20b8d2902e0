// An executor inside the simulation: the real ExecutorLoop on a FakeDevice, with real segments and
// sockets, stepped by hand on the same thread.
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "daemon/executor/run/executor_loop.h"
#include "daemon/executor/run/process.h"
#include "daemon/supervise/executor_link.h"
#include "tests/support/fake_device.h"
#include "tests/support/heard_bells.h"

namespace kaas {

struct SimExecutorOptions {
  RingGeometry geometry{64, 256u << 10};
  std::uint64_t outbox_bytes = 1u << 20;
  FakeDevice::Options device;
};

// FakeLibraries for files in the simulation's folder: "stateful.so" and "missing.so" are what their
// names say, all others are the plain library.
class SimLibraries final : public LibraryOpener {
 public:
  explicit SimLibraries(const Device& device) : libraries_(device) {}
  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override;

 private:
  FakeLibraries libraries_;
};

// Whether executors end a batch of work at their first look at the clock, or when it is full. For
// all executors of the process.
void set_short_batches(bool short_batches);

class SimExecutor {
 public:
  // Makes both ends; kaasd's go into `link`.
  static std::unique_ptr<SimExecutor> create(const SimExecutorOptions& options,
                                             ExecutorIdentity identity,
                                             std::unique_ptr<ExecutorLink>& link);

  StepOutcome step() { return loop_->step(); }
  [[nodiscard]] ExecutorLoop& loop() noexcept { return *loop_; }
  [[nodiscard]] FakeDevice& device() noexcept { return *device_; }
  [[nodiscard]] std::uint32_t number() const noexcept { return identity_.executor; }
  [[nodiscard]] std::uint32_t domain() const noexcept { return identity_.domain; }
  [[nodiscard]] std::uint32_t place() const noexcept { return identity_.place; }
  // The report segment, which an executor may fill with anything.
  [[nodiscard]] RingView report() const noexcept { return RingView::at(report_.data(), geometry_); }
  [[nodiscard]] RingView work() const noexcept { return RingView::at(work_.data(), geometry_); }
  // Writes a report behind those of the loop, which must not be stepped again.
  void forge_report(std::span<const std::byte> report);
  [[nodiscard]] const Doorbell& doorbell() const noexcept { return doorbell_; }
  [[nodiscard]] const HeardBells& bells() const noexcept { return bells_; }

 private:
  SimExecutor() = default;
  bool make_ends(const SimExecutorOptions& options, ExecutorEndpoints& kaasd);

  ExecutorIdentity identity_;
  RingGeometry geometry_;
  Mapping work_;
  Mapping report_;
  Descriptor socket_;
  Doorbell doorbell_;
  std::shared_ptr<ExecutorSegment> outbox_;
  std::unique_ptr<FakeDevice> device_;
  std::unique_ptr<SimLibraries> libraries_;
  std::unique_ptr<SocketSegmentSource> source_;
  std::unique_ptr<SocketExportSink> exports_;
  HeardBells bells_;
  std::unique_ptr<ExecutorLoop> loop_;
};

}  // namespace kaas
