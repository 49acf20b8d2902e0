// Exports: bytes of an object, copied into device memory of their own for another process to map.
//
//   begin() ── memory taken ──> copied, on a thread of its own ──> descriptor sent, reported, and
//                                                                  the memory is a segment for runs
//
// What fails on the way leaves nothing. The memory beyond the object's bytes is zero before anybody
// else sees it. It is freed when its segment is detached; another process may have it mapped still.
// Threads: main thread only. The copy's thread sees one job at a time, and the main thread none
//          that it has.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "daemon/executor/cache/device_cache.h"
#include "daemon/executor/run/reports.h"
#include "daemon/executor/run/segments.h"

namespace kaas {

// The way of a descriptor to kaasd.
class ExportSink {
 public:
  virtual ~ExportSink() = default;
  // Sends a copy of the descriptor, which stays the caller's. Never blocks; false: not sent.
  virtual bool send(std::uint64_t number, int descriptor) = 0;
};

struct ExporterParts {
  // Borrowed; all must outlive the exporter.
  Device& device;
  DeviceCache& cache;
  ExecutorSegments& segments;
  ExecutorReports& reports;
  ExportSink& sink;
  // Called by the copy's thread when it has finished something. Empty: the main thread copies.
  std::function<void()> wake;
};

class Exporter {
 public:
  explicit Exporter(ExporterParts parts) : parts_(std::move(parts)) {}
  // Waits for the copy that is under way.
  ~Exporter();
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  // Exactly one ExportDone answers it.
  void begin(const wire::ExportObject& message);
  // Reports what has been copied. Whether anything was.
  bool advance();
  // Whether advance() has something to do.
  [[nodiscard]] bool has_finished();
  [[nodiscard]] bool executing() const noexcept { return !jobs_.empty(); }

 private:
  struct Job {
    std::uint64_t number = 0;
    std::uint32_t segment = 0;
    std::uint64_t bytes = 0;
    std::shared_ptr<const ExportableMemory> memory;
    CachePin cached;                          // The copy on the device, if there is one ...
    DeviceAddress from = 0;                   // ... and where the bytes are in it.
    std::shared_ptr<ExecutorSegment> source;  // Else what host memory has them ...
    std::span<const std::byte> host;          // ... and where.
    std::unique_ptr<DeviceStream> stream;
    std::optional<Status> failure;
  };

  Result<void> prepare(const wire::ExportObject& message, Job& job);
  Result<void> find_source(const wire::Location& location, Job& job);
  static Result<void> copy(Job& job);
  void hand_over(Job& job);
  void run();
  void finish(std::unique_ptr<Job> job);
  Result<void> publish(const Job& job);

  ExporterParts parts_;
  std::vector<std::unique_ptr<Job>> jobs_;  // That the thread has.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job*> waiting_;    // Under mutex_.
  std::vector<Job*> finished_;  // Under mutex_.
  bool ending_ = false;         // Under mutex_.
  std::thread thread_;          // From the first export on.
};

}  // namespace kaas
