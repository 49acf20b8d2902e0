// What the executor tells kaasd: builds reports and writes them into the report ring. What finds
// the ring full waits here, in order.
// Threads: main thread only.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "daemon/executor/run/counters.h"
#include "schema/ipc/result.h"
#include "schema/ipc/ring.h"
#include "schema/limits.h"

namespace kaas {

struct LibraryReport {
  std::uint32_t library = 0;
  bool stateful = false;
  std::string name;
  std::vector<std::string> kernels;
};

struct PlanReport {
  std::uint32_t plan = 0;
  std::uint64_t working_set_bytes = 0;
  bool stateful = false;
};

// When a profiled run passed each point, on CLOCK_MONOTONIC; Moments in the schema say which.
struct RunMoments {
  std::uint64_t taken_ns = 0;
  std::uint64_t started_ns = 0;
  std::uint64_t launched_ns = 0;
  std::uint64_t ended_ns = 0;
};

struct RunReport {
  std::uint64_t run = 0;
  std::uint64_t load_ns = 0;
  std::uint64_t run_ns = 0;
  std::uint64_t store_ns = 0;
  // Null: not asked for, nor the way.
  const ExecutorCounters* counters = nullptr;
  const RunMoments* moments = nullptr;
  wire::RunWay way = wire::RunWay::Unknown;
  wire::WhyStream why_stream = wire::WhyStream::None;
};

struct ExportReport {
  std::uint64_t number = 0;
  std::uint64_t allocation_bytes = 0;
  std::array<std::byte, kGpuUuidBytes> gpu{};
};

class ExecutorReports {
 public:
  // `own` is the report segment, `peer` the header of the work segment.
  ExecutorReports(RingView own, const RingHeader* peer) : writer_(own, peer), builder_(1024) {}

  void ready(const std::string& device, std::uint64_t device_bytes, bool keeps_outputs,
             const std::string& confinement);
  // `outcome` null: it is loaded. Texts are cut to kStatusMessageBytesMax.
  void library_loaded(const LibraryReport& report, const Status* outcome);
  void plan_loaded(const PlanReport& report, const Status* outcome);
  void run_done(const RunReport& report, const Status* outcome);
  void cancel_done(std::uint64_t run, bool cancelled);
  void segment_detached(std::uint32_t segment);
  // `outcome` null: it is added.
  void lane_call_added(std::uint32_t lane, std::uint32_t call, const Status* outcome);
  void lane_ended(std::uint32_t lane, const Status& reason);
  // `data`: what goes into the report.
  void fetched(std::uint64_t version, std::span<const std::byte> data, const Status* outcome);
  void memory_short(const std::vector<std::uint64_t>& versions);
  // `outcome` null: the memory's descriptor has been sent.
  void export_done(const ExportReport& report, const Status* outcome);
  void counters(const ExecutorCounters& counters, std::uint64_t used_bytes,
                std::uint64_t limit_bytes);

  // Writes what waits. Returns how many reports still do.
  std::size_t flush();
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }
  // Whether kaasd sleeps and there are reports that it was not woken for yet.
  [[nodiscard]] bool wake_due() noexcept {
    if (writer_.written() == woken_for_) return false;
    woken_for_ = writer_.written();
    return writer_.wake_due();
  }
  // Reports written into the ring, and of these read by kaasd.
  [[nodiscard]] std::uint64_t written() const noexcept { return writer_.written(); }
  [[nodiscard]] std::uint64_t read() noexcept { return writer_.consumed(); }
  [[nodiscard]] bool peer_is_sane() const noexcept { return writer_.peer_is_sane(); }

 private:
  template <class T>
  void send(wire::Report type, flatbuffers::Offset<T> report);

  RingWriter writer_;
  flatbuffers::FlatBufferBuilder builder_;
  std::uint64_t woken_for_ = 0;  // Reports written when kaasd's sleep was last looked at.
  std::deque<std::vector<std::byte>> waiting_;
};

}  // namespace kaas
