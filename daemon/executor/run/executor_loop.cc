#include "daemon/executor/run/executor_loop.h"

#include <utility>

#include "schema/limits.h"

namespace kaas {
namespace {

// Work items taken before reports are published, and for how long at most.
constexpr std::size_t kBatchMax = 64;
constexpr std::uint64_t kBatchNs = 20'000;
// Items between two looks at the clock.
constexpr std::size_t kClockEvery = 8;
// Reports that wait for room in the ring; beyond it no work is taken until kaasd has read some.
constexpr std::size_t kReportsWaitingMax = 1024;

}  // namespace

ExecutorLoop::ExecutorLoop(const ExecutorParts& parts)
    : parts_(parts),
      reader_(parts.work, parts.report.header),
      buffer_(parts.work.geometry.message_bytes_max()),
      reports_(parts.report, parts.work.header),
      cache_(parts.device, parts.memory_limit_bytes),
      segments_(parts.segments, parts.device, parts.pinner),
      runner_(RunnerParts{parts.device, cache_, segments_, reports_, parts.workers, parts.tag_end,
                          parts.now}),
      code_(CodeParts{parts.device, parts.libraries, reports_, runner_, parts.loader,
                      parts.memory_limit_bytes}),
      lanes_(parts.device, runner_, segments_, reports_, parts.bells, *parts.work.header),
      exporter_(
          ExporterParts{parts.device, cache_, segments_, reports_, parts.exports, parts.wake}) {
  cache_.set_reclaim([this] {
    // What tasks keep may go back to their plans' frames first.
    const bool released = runner_.release_kept();
    return code_.release_blocks() || released;
  });
}

void ExecutorLoop::add_segment(std::uint32_t segment, std::shared_ptr<ExecutorSegment> attached) {
  segments_.add({segment, std::move(attached)});
}

void ExecutorLoop::report_ready(const std::string& confinement) {
  const DeviceLimits& limits = parts_.device.limits();
  reports_.ready(limits.model.empty() ? limits.name : limits.model, parts_.memory_limit_bytes,
                 limits.keeps_outputs, confinement);
}

StepOutcome ExecutorLoop::step() {
  if (!closed_reason_.empty()) return StepOutcome::Closed;
  bool progress = runner_.advance();
  progress = code_.advance() || progress;
  progress = exporter_.advance() || progress;
  if (closes_as_lost()) return StepOutcome::Closed;
  if (reports_.waiting() != 0) reports_.flush();
  progress = take_work() || progress;
  progress = lanes_.step() || progress;
  if (!reports_.peer_is_sane()) close("kaasd's count of read reports is impossible");
  if (reports_.written() != published_) {
    // One fence for the whole batch.
    published_ = reports_.written();
    if (reports_.wake_due() && parts_.wake_kaasd) parts_.wake_kaasd();
  }
  if (!closed_reason_.empty()) return StepOutcome::Closed;
  return progress || runner_.must_poll() ? StepOutcome::Progress : StepOutcome::Idle;
}

bool ExecutorLoop::take_work() {
  std::uint64_t begin_ns = 0;
  std::size_t taken = 0;
  // Before the ring is looked at: what kaasd sent before it read these reports is in it by then.
  const std::uint64_t read = runner_.awaits_acknowledgement() ? reports_.read() : 0;
  for (; taken < kBatchMax && reports_.waiting() < kReportsWaitingMax; ++taken) {
    std::span<const std::byte> message;
    const ReadOutcome outcome = reader_.read(buffer_, message);
    if (outcome == ReadOutcome::Empty) {
      runner_.acknowledged(read);
      break;
    }
    const wire::WorkItem* item = nullptr;
    if (outcome == ReadOutcome::Message) item = verified_root<wire::WorkItem>(message);
    if (item == nullptr || item->work() == nullptr) {
      close("work item " + std::to_string(reader_.position()) + " is malformed");
      break;
    }
    reader_.advance();
    handle(*item, message);
    if (!closed_reason_.empty()) break;
    if (taken % kClockEvery == 0) {
      // Short runs add up; what is done already must not wait for all of them.
      const std::uint64_t now = parts_.now();
      if (begin_ns == 0) begin_ns = now;
      if (now - begin_ns > kBatchNs) {
        ++taken;
        break;
      }
    }
  }
  reader_.publish();
  return taken != 0;
}

void ExecutorLoop::handle(const wire::WorkItem& item, std::span<const std::byte> bytes) {
  switch (item.work_type()) {
    case wire::Work::Run: {
      const auto& run = *item.work_as_Run();
      return runner_.submit(run, code_.plan(run.plan()));
    }
    case wire::Work::LoadLibrary:
      code_.load_library(*item.work_as_LoadLibrary());
      closes_as_lost();
      return;
    case wire::Work::LoadPlan:
      code_.load_plan(*item.work_as_LoadPlan(), bytes);
      closes_as_lost();
      return;
    case wire::Work::DropPlan:
      code_.drop_plan(item.work_as_DropPlan()->plan());
      return;
    case wire::Work::DropLibrary:
      code_.drop_library(item.work_as_DropLibrary()->library());
      return;
    case wire::Work::DropVersions:
      return drop_versions(*item.work_as_DropVersions());
    case wire::Work::DetachSegment: {
      const auto& detach = *item.work_as_DetachSegment();
      // Its attachment may still be on the way through the socket.
      segments_.poll();
      runner_.release_kept(detach.segment());
      segments_.detach(detach.segment());
      if (detach.acknowledge()) reports_.segment_detached(detach.segment());
      return;
    }
    case wire::Work::CancelRun: {
      const std::uint64_t run = item.work_as_CancelRun()->run();
      reports_.cancel_done(run, runner_.cancel(run));
      return;
    }
    case wire::Work::StartLane:
      segments_.poll();
      return lanes_.start(*item.work_as_StartLane());
    case wire::Work::AddLaneCall:
      return lanes_.add_call(*item.work_as_AddLaneCall(),
                             code_.plan(item.work_as_AddLaneCall()->run()->plan()));
    case wire::Work::RemoveLaneCall:
      return lanes_.remove_call(*item.work_as_RemoveLaneCall());
    case wire::Work::EndLane:
      return lanes_.end(*item.work_as_EndLane());
    case wire::Work::Fetch:
      return runner_.fetch(*item.work_as_Fetch());
    case wire::Work::ExportObject:
      return exporter_.begin(*item.work_as_ExportObject());
    case wire::Work::ReportCounters:
      reports_.counters(runner_.counters(), cache_.pool().used_bytes(),
                        cache_.pool().limit_bytes());
      return;
    case wire::Work::NONE:
      break;
  }
  close("work item " + std::to_string(reader_.position()) + " is of an unknown type");
}

void ExecutorLoop::drop_versions(const wire::DropVersions& message) {
  for (std::size_t i = 0; i < count(message.versions()); ++i) {
    cache_.drop(value_at(message.versions(), i));
  }
}

// Nothing that fails from now on says anything about what was asked for, so it is not reported.
bool ExecutorLoop::closes_as_lost() {
  if (!parts_.device.lost()) return false;
  close("the device is lost: " + parts_.device.lost_reason());
  return true;
}

void ExecutorLoop::close(std::string reason) {
  if (closed_reason_.empty()) closed_reason_ = std::move(reason);
}

bool ExecutorLoop::announce_sleep() {
  runner_.flush_output();
  segments_.poll();
  kaas::announce_sleep(*parts_.report.header);
  const bool work = reader_.waiting() && reports_.waiting() < kReportsWaitingMax;
  const bool ran = parts_.workers != nullptr && !parts_.workers->announce_sleep();
  const bool finished = ran || exporter_.has_finished();
  const bool lanes_wait = !lanes_.announce_sleep();
  // A loader that finishes from here on wakes, whether anybody sleeps or not.
  const bool loaded = code_.has_finished();
  if (!work && !finished && !lanes_wait && !loaded && !runner_.must_poll()) return true;
  retract_sleep();
  return false;
}

void ExecutorLoop::retract_sleep() noexcept {
  kaas::retract_sleep(*parts_.report.header);
  lanes_.retract_sleep();
  if (parts_.workers != nullptr) parts_.workers->retract_sleep();
}

}  // namespace kaas
