#include "daemon/executor/run/reports.h"

#include <algorithm>
#include <string_view>

#include "schema/ipc/messages.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// Kernel names of one library that a report lists; it is for people, and must fit a message.
constexpr std::size_t kKernelsListedMax = 1024;

std::string_view cut(std::string_view text) {
  return text.substr(0, kStatusMessageBytesMax);
}

StatusCode code_of(const Status* outcome) noexcept {
  return outcome == nullptr ? StatusCode::Ok : outcome->code;
}

flatbuffers::Offset<flatbuffers::String> message_of(flatbuffers::FlatBufferBuilder& builder,
                                                    const Status* outcome) {
  if (outcome == nullptr) return 0;
  const std::string_view text = cut(outcome->message);
  return builder.CreateString(text.data(), text.size());
}

}  // namespace

template <class T>
void ExecutorReports::send(wire::Report type, flatbuffers::Offset<T> report) {
  builder_.Finish(wire::CreateReportItem(builder_, type, report.Union()));
  const auto bytes = finished(builder_);
  if (!waiting_.empty() || !writer_.try_write(bytes)) {
    waiting_.emplace_back(bytes.begin(), bytes.end());
  }
  builder_.Clear();
}

std::size_t ExecutorReports::flush() {
  while (!waiting_.empty() && writer_.try_write(waiting_.front())) waiting_.pop_front();
  return waiting_.size();
}

void ExecutorReports::ready(const std::string& device, std::uint64_t device_bytes,
                            bool keeps_outputs, const std::string& confinement) {
  const auto name = builder_.CreateString(device);
  const auto confined = builder_.CreateString(confinement);
  send(wire::Report::Ready,
       wire::CreateReady(builder_, name, device_bytes, keeps_outputs, confined));
}

void ExecutorReports::library_loaded(const LibraryReport& report, const Status* outcome) {
  const auto message = message_of(builder_, outcome);
  const std::string_view name_text = cut(report.name);
  const auto name = builder_.CreateString(name_text.data(), name_text.size());
  std::vector<flatbuffers::Offset<flatbuffers::String>> names;
  for (std::size_t i = 0; i < std::min(report.kernels.size(), kKernelsListedMax); ++i) {
    names.push_back(builder_.CreateString(report.kernels[i]));
  }
  const auto kernels = builder_.CreateVector(names);
  send(wire::Report::LibraryLoaded,
       wire::CreateLibraryLoaded(builder_, report.library, code_of(outcome), message,
                                 report.stateful, name, kernels));
}

void ExecutorReports::plan_loaded(const PlanReport& report, const Status* outcome) {
  const auto message = message_of(builder_, outcome);
  send(wire::Report::PlanLoaded,
       wire::CreatePlanLoaded(builder_, report.plan, code_of(outcome), message,
                              report.working_set_bytes, report.stateful));
}

void ExecutorReports::run_done(const RunReport& report, const Status* outcome) {
  const auto message = message_of(builder_, outcome);
  const wire::RunTimes times(report.load_ns, report.run_ns, report.store_ns);
  wire::RunDoneBuilder done(builder_);
  done.add_run(report.run);
  done.add_code(code_of(outcome));
  if (outcome != nullptr) done.add_message(message);
  done.add_times(&times);
  wire::Counters counters;
  if (report.counters != nullptr) {
    counters = report.counters->to_wire();
    done.add_counters(&counters);
    done.add_way(report.way);
    done.add_why_stream(report.why_stream);
  }
  wire::RunMoments moments;
  if (report.moments != nullptr) {
    moments = wire::RunMoments(report.moments->taken_ns, report.moments->started_ns,
                               report.moments->launched_ns, report.moments->ended_ns);
    done.add_moments(&moments);
  }
  send(wire::Report::RunDone, done.Finish());
}

void ExecutorReports::segment_detached(std::uint32_t segment) {
  send(wire::Report::SegmentDetached, wire::CreateSegmentDetached(builder_, segment));
}

void ExecutorReports::lane_call_added(std::uint32_t lane, std::uint32_t call,
                                      const Status* outcome) {
  const auto message = message_of(builder_, outcome);
  send(wire::Report::LaneCallAdded,
       wire::CreateLaneCallAdded(builder_, lane, call, code_of(outcome), message));
}

void ExecutorReports::lane_ended(std::uint32_t lane, const Status& reason) {
  const auto message = message_of(builder_, &reason);
  send(wire::Report::LaneEnded, wire::CreateLaneEnded(builder_, lane, reason.code, message));
}

void ExecutorReports::fetched(std::uint64_t version, std::span<const std::byte> data,
                              const Status* outcome) {
  const auto message = message_of(builder_, outcome);
  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> bytes;
  if (outcome == nullptr && !data.empty()) {
    bytes = builder_.CreateVector(reinterpret_cast<const std::uint8_t*>(data.data()), data.size());
  }
  send(wire::Report::Fetched,
       wire::CreateFetched(builder_, version, code_of(outcome), message, bytes));
}

void ExecutorReports::memory_short(const std::vector<std::uint64_t>& versions) {
  send(wire::Report::MemoryShort,
       wire::CreateMemoryShort(builder_, builder_.CreateVector(versions)));
}

void ExecutorReports::export_done(const ExportReport& report, const Status* outcome) {
  const auto message = message_of(builder_, outcome);
  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> gpu;
  if (outcome == nullptr) {
    gpu = builder_.CreateVector(reinterpret_cast<const std::uint8_t*>(report.gpu.data()),
                                report.gpu.size());
  }
  send(wire::Report::ExportDone,
       wire::CreateExportDone(builder_, report.number, code_of(outcome), message,
                              outcome == nullptr ? report.allocation_bytes : 0, gpu));
}

void ExecutorReports::cancel_done(std::uint64_t run, bool cancelled) {
  send(wire::Report::CancelDone, wire::CreateCancelDone(builder_, run, cancelled));
}

void ExecutorReports::counters(const ExecutorCounters& counters, std::uint64_t used_bytes,
                               std::uint64_t limit_bytes) {
  const wire::Counters figures = counters.to_wire();
  send(wire::Report::CountersReport,
       wire::CreateCountersReport(builder_, &figures, used_bytes, limit_bytes));
}

}  // namespace kaas
