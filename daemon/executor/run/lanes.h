// The executor's end of lanes (schema/ipc/lane.h): takes invocations from clients, has the runner
// execute them, answers.
//
// An invocation is a run whose terms kaasd has sent with AddLaneCall, checked as those of any run.
// Runs of one lane that touch the same bytes, at least one of them writing, keep their order.
// Trust:   a lane's `in` segment is its client's. A slot that breaks the protocol ends the lane.
// Threads: main thread only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/executor/run/lane_bell.h"
#include "daemon/executor/run/plan.h"
#include "daemon/executor/run/reports.h"
#include "daemon/executor/run/run_task.h"
#include "daemon/executor/run/runner.h"
#include "daemon/executor/run/segments.h"
#include "schema/ipc/lane.h"

namespace kaas {

class ExecutorLane final : public RunSink {
 public:
  // The runner must outlive it.
  ExecutorLane(std::uint32_t lane, std::shared_ptr<ExecutorSegment> in,
               std::shared_ptr<ExecutorSegment> out, LaneBell bell, ExecutorRunner& runner);
  ~ExecutorLane() override;
  ExecutorLane(const ExecutorLane&) = delete;
  ExecutorLane& operator=(const ExecutorLane&) = delete;

  // Replaces nothing: a number that is known is refused, as is one call too many.
  Result<void> add_call(std::uint32_t call, RunTerms terms, PlanRef plan);
  // What is under way of it ends as any other. A client that breaks the rule that nothing is loses
  // the order between that and what it sends next.
  void remove_call(std::uint32_t call);

  // Takes at most `most` invocations while `may_take()`. Returns how many.
  template <class MayTake>
  std::size_t take(MessageBuffer& buffer, std::size_t most, MayTake may_take);
  // A client that rings on and on for nothing ends the lane.
  void bell_rang();
  // Takes nothing more, and hears the bell no longer. The first reason counts.
  void end(Status reason);
  [[nodiscard]] bool has_ended() const noexcept {
    return reason_.has_value() && in_flight_.empty();
  }
  [[nodiscard]] const Status& reason() const noexcept { return *reason_; }

  // Makes what was answered visible to a client that sleeps.
  void flush();
  [[nodiscard]] bool announce_sleep();
  void retract_sleep() noexcept { kaas::retract_sleep(*out_view_.header); }

 private:
  struct Call {
    RepeatedRun run;
    std::vector<Call*> conflicts;        // Others that touch the same bytes.
    bool conflicts_with_itself = false;  // Two runs of it do.
    std::uint64_t last_run = 0;          // The latest that was submitted.
  };

  void run_ended(const RunTask& task) override;
  [[nodiscard]] Call* find(std::uint32_t call);
  [[nodiscard]] bool has_credit();
  bool submit_next(std::span<const std::byte> message);

  std::uint32_t lane_;
  ExecutorRunner& runner_;
  std::shared_ptr<ExecutorSegment> in_;
  std::shared_ptr<ExecutorSegment> out_;
  LaneBell bell_;
  RingView out_view_;
  RingReader reader_;
  RingWriter writer_;
  std::map<std::uint32_t, std::unique_ptr<Call>> calls_;
  Call* latest_ = nullptr;  // The call that was named last.
  std::uint32_t latest_number_ = 0;
  std::vector<std::uint64_t> after_;  // Scratch.
  // Invocations under way, in the order in which they were taken.
  struct Invocation {
    std::uint64_t number = 0;  // How many were taken before it.
    std::uint64_t id = 0;
  };
  std::vector<Invocation> in_flight_;
  std::uint64_t taken_ = 0;
  std::uint64_t woken_for_ = 0;  // Answers written when the client's sleep was last looked at.
  std::uint64_t busy_ns_ = 0;
  std::optional<Status> reason_;  // Why nothing more is taken.
};

class ExecutorLanes {
 public:
  // All must outlive this. `work` is the header of kaasd's segment.
  ExecutorLanes(const Device& device, ExecutorRunner& runner, ExecutorSegments& segments,
                ExecutorReports& reports, LaneBells& bells, const RingHeader& work)
      : device_(device),
        runner_(runner),
        segments_(segments),
        reports_(reports),
        bells_(bells),
        work_(work) {}

  void start(const wire::StartLane& message);
  void add_call(const wire::AddLaneCall& message, const Result<PlanRef>& plan);
  void remove_call(const wire::RemoveLaneCall& message);
  void end(const wire::EndLane& message);

  // Takes a batch from each lane, unless the device is lost, and lets go of those that have ended.
  // Returns whether anything was taken.
  bool step();
  // As ExecutorLoop's. False: there is work.
  [[nodiscard]] bool announce_sleep();
  void retract_sleep() noexcept;
  // The lane may have ended meanwhile.
  void bell_rang(std::uint32_t lane);
  [[nodiscard]] std::size_t size() const noexcept { return lanes_.size(); }

 private:
  Result<void> try_start(const wire::StartLane& message);

  const Device& device_;
  ExecutorRunner& runner_;
  ExecutorSegments& segments_;
  ExecutorReports& reports_;
  LaneBells& bells_;
  const RingHeader& work_;
  MessageBuffer buffer_{kLaneGeometry.message_bytes_max()};
  std::map<std::uint32_t, std::unique_ptr<ExecutorLane>> lanes_;
  std::uint64_t ends_seen_ = 0;  // EndLane items.
};

}  // namespace kaas
