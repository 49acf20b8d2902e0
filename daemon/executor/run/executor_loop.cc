#include "daemon/executor/run/executor_loop.h"

#include <new>
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

const Result<PlanRef>& unknown_plan() {
  static const Result<PlanRef> kUnknown(Status{StatusCode::NotFound, "the plan is not loaded"});
  return kUnknown;
}

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
      lanes_(runner_, segments_, reports_, *parts.work.header),
      exporter_(
          ExporterParts{parts.device, cache_, segments_, reports_, parts.exports, parts.wake}) {
  cache_.set_reclaim([this] {
    bool released = false;
    for (const auto& [id, plan] : plans_) {
      if (plan.has_value()) released = (*plan)->release_blocks() || released;
    }
    return released;
  });
}

void ExecutorLoop::add_segment(std::uint32_t segment, std::shared_ptr<ExecutorSegment> attached) {
  segments_.add({segment, std::move(attached)});
}

void ExecutorLoop::report_ready() {
  const DeviceLimits& limits = parts_.device.limits();
  reports_.ready(limits.model.empty() ? limits.name : limits.model, parts_.memory_limit_bytes,
                 limits.keeps_outputs);
}

StepOutcome ExecutorLoop::step() {
  if (!closed_reason_.empty()) return StepOutcome::Closed;
  bool progress = runner_.advance();
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
    handle(*item);
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

void ExecutorLoop::handle(const wire::WorkItem& item) {
  switch (item.work_type()) {
    case wire::Work::Run:
      return run(*item.work_as_Run());
    case wire::Work::LoadLibrary:
      return load_library(*item.work_as_LoadLibrary());
    case wire::Work::LoadPlan:
      return load_plan(*item.work_as_LoadPlan());
    case wire::Work::DropPlan:
      plans_.erase(item.work_as_DropPlan()->plan());
      return;
    case wire::Work::DropLibrary:
      libraries_.erase(item.work_as_DropLibrary()->library());
      return;
    case wire::Work::DropVersions:
      return drop_versions(*item.work_as_DropVersions());
    case wire::Work::DetachSegment: {
      const auto& detach = *item.work_as_DetachSegment();
      // Its attachment may still be on the way through the socket.
      segments_.poll();
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
                             plan_of(*item.work_as_AddLaneCall()->run()));
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

void ExecutorLoop::load_library(const wire::LoadLibrary& message) {
  SeenFile file;
  file.path = view(message.path());
  file.file_bytes = message.file_bytes();
  file.mtime_ns = message.mtime_ns();
  file.inode = message.inode();
  Result<std::shared_ptr<OpenedLibrary>> opened =
      Status{StatusCode::ResourceExhausted, "no memory to load a library"};
  try {
    const auto call = parts_.device.library_call();  // For its open hook.
    opened = parts_.libraries.open(file);
  } catch (const std::bad_alloc&) {
    // Refused with what `opened` says.
  }
  if (closes_as_lost()) return;
  LibraryReport report;
  report.library = message.library();
  if (opened) {
    report.name = (*opened)->name();
    report.stateful = (*opened)->stateful();
    report.kernels = (*opened)->kernel_names();
  }
  reports_.library_loaded(report, opened ? nullptr : &opened.error());
  libraries_.insert_or_assign(message.library(), std::move(opened));
}

void ExecutorLoop::load_plan(const wire::LoadPlan& message) {
  Result<PlanRef> plan = Status{StatusCode::ResourceExhausted, "no memory to load a plan"};
  try {
    plan = build_plan(message, libraries_, parts_.device, parts_.memory_limit_bytes);
  } catch (const std::bad_alloc&) {
    // Refused with what `plan` says.
  }
  if (closes_as_lost()) return;
  PlanReport report;
  report.plan = message.plan();
  if (plan) {
    report.working_set_bytes = (*plan)->working_set_bytes;
    report.stateful = (*plan)->stateful;
  }
  reports_.plan_loaded(report, plan ? nullptr : &plan.error());
  plans_.insert_or_assign(message.plan(), std::move(plan));
}

void ExecutorLoop::run(const wire::Run& message) {
  runner_.submit(message, plan_of(message));
}

const Result<PlanRef>& ExecutorLoop::plan_of(const wire::Run& message) const {
  const auto plan = plans_.find(message.plan());
  return plan == plans_.end() ? unknown_plan() : plan->second;
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
  if (!work && !finished && !lanes_wait && !runner_.must_poll()) return true;
  retract_sleep();
  return false;
}

void ExecutorLoop::retract_sleep() noexcept {
  kaas::retract_sleep(*parts_.report.header);
  lanes_.retract_sleep();
  if (parts_.workers != nullptr) parts_.workers->retract_sleep();
}

}  // namespace kaas
