// The executor's main loop: takes work from its ring, has it done, reports. Knows of no process,
// socket or thread: the rings are memory, segments come through a SegmentSource, sleeping is the
// caller's.
//
//   for (;;) {
//     switch (loop.step()) { case Progress: continue; case Closed: stop; case Idle: break; }
//     if (loop.announce_sleep()) { sleep until the doorbell, the socket, a worker, the loader, or
//                                  the bell of a lane, of which bell_rang() is told }
//     loop.retract_sleep();
//   }
//
// Trust:   work items are copied to private memory and verified before use; one that is not valid
//          closes the loop with a reason, since nothing of it can be answered.
// Threads: main thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "daemon/executor/cache/device_cache.h"
#include "daemon/executor/device/device.h"
#include "daemon/executor/library/opened_library.h"
#include "daemon/executor/run/executor_code.h"
#include "daemon/executor/run/exporter.h"
#include "daemon/executor/run/lanes.h"
#include "daemon/executor/run/reports.h"
#include "daemon/executor/run/runner.h"
#include "daemon/executor/run/segments.h"
#include "daemon/executor/run/workers.h"
#include "schema/ipc/clock.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/ring.h"

namespace kaas {

enum class StepOutcome {
  Idle,      // Nothing to do now.
  Progress,  // Something was done; there may be more.
  Closed     // For ever; closed_reason() says why.
};

struct ExecutorParts {
  // Borrowed; all must outlive the loop.
  RingView work;    // kaasd's segment; only read.
  RingView report;  // Our segment.
  Device& device;
  LibraryOpener& libraries;
  SegmentSource& segments;
  ExportSink& exports;
  LaneBells& bells;
  ExecutorWorkers* workers = nullptr;  // Null: everything is executed within step().
  CodeLoader* loader = nullptr;        // Null: libraries are loaded within step().
  SegmentPinner* pinner = nullptr;     // Null: segments are used as they are mapped.
  std::uint64_t memory_limit_bytes = 0;
  std::function<void()> wake_kaasd;           // Called when reports are there and kaasd sleeps.
  std::function<void()> wake;                 // See ExporterParts.
  RunTagEnd tag_end = nullptr;                // See run_tag.h.
  std::uint64_t (*now)() noexcept = &now_ns;  // Batches, moments; a simulation has its own.
};

class ExecutorLoop {
 public:
  explicit ExecutorLoop(const ExecutorParts& parts);
  ExecutorLoop(const ExecutorLoop&) = delete;
  ExecutorLoop& operator=(const ExecutorLoop&) = delete;

  // A segment that is there from the start, such as the outbox.
  void add_segment(std::uint32_t segment, std::shared_ptr<ExecutorSegment> attached);
  // Tells kaasd that work can be sent, and how this process is confined, see confinement.h.
  void report_ready(const std::string& confinement = "off");

  // Takes a batch of work, executes what is short, hands on what is not, publishes reports with
  // one fence. Blocks for as long as short runs take.
  StepOutcome step();

  // Before sleeping: raises the flags and looks once more. False: there is work, don't sleep.
  [[nodiscard]] bool announce_sleep();
  void retract_sleep() noexcept;
  // The bell of that lane has ended a sleep.
  void bell_rang(std::uint32_t lane) { lanes_.bell_rang(lane); }
  // Something waits for kaasd to read reports. kaasd does not ring then: sleep briefly only.
  [[nodiscard]] bool has_backlog() const noexcept {
    return reports_.waiting() != 0 || runner_.stalled();
  }

  [[nodiscard]] const std::string& closed_reason() const noexcept { return closed_reason_; }
  // Whether runs or exports are executing on other threads or a device, or libraries are being
  // loaded.
  [[nodiscard]] bool executing() const {
    return runner_.executing() || exporter_.executing() || code_.is_loading();
  }
  [[nodiscard]] const DeviceCache& cache() const noexcept { return cache_; }
  [[nodiscard]] std::size_t unfinished_runs() const noexcept { return runner_.unfinished(); }
  [[nodiscard]] std::uint64_t started_runs() const noexcept { return runner_.started(); }
  [[nodiscard]] std::size_t kept_runs() const noexcept { return runner_.kept(); }
  [[nodiscard]] std::size_t attached_segments() const noexcept { return segments_.size(); }
  [[nodiscard]] std::size_t open_lanes() const noexcept { return lanes_.size(); }
  [[nodiscard]] std::size_t open_handles() { return segments_.open_handles(); }

 private:
  bool take_work();
  void handle(const wire::WorkItem& item, std::span<const std::byte> bytes);
  void drop_versions(const wire::DropVersions& message);
  bool closes_as_lost();
  void close(std::string reason);

  ExecutorParts parts_;
  RingReader reader_;
  MessageBuffer buffer_;
  ExecutorReports reports_;
  DeviceCache cache_;
  ExecutorSegments segments_;  // Exported memory in it is the cache's.
  ExecutorRunner runner_;
  ExecutorCode code_;
  ExecutorLanes lanes_;
  Exporter exporter_;
  std::uint64_t published_ = 0;  // Reports after which kaasd was woken if it slept.
  std::string closed_reason_;
};

}  // namespace kaas
