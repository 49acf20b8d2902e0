// Runs: from a verified message to exactly one report.
//
// A run waits for its plan, for those it names in `after` and for those that produce versions it
// reads. It then takes its memory, all or nothing, and is executed: here and at once if runs of its
// plan are known to be short, else by a worker. A run that finds no memory while others hold some
// waits for them; alone, it has kaasd fetch resident versions, which hold memory too, and fails if
// there are none.
//
// What a run stored, or a fetch brought to the host, stays on the device until kaasd is known to
// have read the report and all work sent before that is taken in: until then kaasd may send runs
// that count on its being there.
//
// When the device is lost, runs that were under way are not reported: any of them may have done it.
//
// What is run again and again in the same terms is prepared once: its tasks keep their memory,
// steps and program until somebody needs the memory, or a segment is detached.
//
// Memory that no load fills is zeroed before a run unless the same tenant used it last: a run may
// find what its own tenant left there, never anyone else's bytes.
// Threads: main thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "daemon/executor/cache/device_cache.h"
#include "daemon/executor/run/counters.h"
#include "daemon/executor/run/plan.h"
#include "daemon/executor/run/reports.h"
#include "daemon/executor/run/run_task.h"
#include "daemon/executor/run/segments.h"
#include "daemon/executor/run/workers.h"

namespace kaas {

struct RunnerParts {
  // Borrowed; all must outlive the runner.
  Device& device;
  DeviceCache& cache;
  ExecutorSegments& segments;
  ExecutorReports& reports;
  ExecutorWorkers* workers = nullptr;  // Null: everything is executed by the main thread.
  RunTagEnd tag_end = nullptr;
  std::uint64_t (*now)() noexcept = &now_ns;  // Of profiled runs' moments.
};

class ExecutorRunner {
 public:
  // A run of a plan that costs at most this is executed by the main thread: handing it to another
  // one costs about half of it.
  static constexpr std::uint64_t kInlineCostMaxNs = 50'000;

  // Runs that are enqueued on an asynchronous device at a time, and of one plan: enough that it is
  // never idle. Each costs a stream, or an instance of the plan.
  static constexpr std::uint32_t kEnqueuedMax = 64;
  static constexpr std::uint32_t kFramesMax = 16;
  // Tasks that are kept prepared, of all plans together, and the pinned memory of their frames.
  static constexpr std::uint32_t kKeptMax = 256;
  static constexpr std::uint64_t kKeptStagingBytesMax = 64u << 20;

  // Numbers of kaasd's runs are below; a fetch has that of its version on top of the first.
  static constexpr std::uint64_t kFirstFetch = std::uint64_t{1} << 62;
  static constexpr std::uint64_t kFirstOwnRun = std::uint64_t{1} << 63;

  explicit ExecutorRunner(const RunnerParts& parts) : parts_(parts) {}
  ~ExecutorRunner();
  ExecutorRunner(const ExecutorRunner&) = delete;
  ExecutorRunner& operator=(const ExecutorRunner&) = delete;

  // Takes a run of `plan`, or the reason why there is no such plan. Everything that is wrong with
  // it ends in its report. While the plan is loading, the run waits for plan_loaded().
  void submit(const wire::Run& message, const Result<PlanRef>& plan);
  // The plan is complete, or never will be: `failure` is then that of all runs that waited.
  void plan_loaded(ExecutorPlan& plan, const Status* failure);

  // Checks and copies what the message says besides its number and what it waits for.
  static Result<void> read_terms(const wire::Run& message, const ExecutorPlan& plan,
                                 RunTerms& terms);
  // A run of its own kind: what becomes of it is told to `sink`, which must outlive it, with
  // `ticket`. It comes behind the runs `after`. Returns its number, which no run of kaasd has.
  std::uint64_t submit(RepeatedRun& repeated, std::span<const std::uint64_t> after, RunSink& sink,
                       std::uint64_t ticket);
  // It is not asked for any more. What is under way of it ends as any other.
  void forget(RepeatedRun& repeated);
  // Gives up what tasks keep for their next run: all of it, or what has this segment open. Returns
  // whether there was anything.
  bool release_kept(std::optional<std::uint32_t> segment = std::nullopt);
  // Brings a resident version to the host; its Fetched report is the answer, whatever comes.
  void fetch(const wire::Fetch& message);

  // Ends a run that waits, for others, memory or a worker: it is reported Cancelled, at once or
  // when what it waits for has ended. False: it has been started, or is not known.
  bool cancel(std::uint64_t run);

  // Takes in what has been executed, and starts what can be now. Returns whether anything was done.
  bool advance();

  // kaasd has read so many reports, and all that it sent before it had read the last of these has
  // been submitted.
  void acknowledged(std::uint64_t reports);
  [[nodiscard]] bool awaits_acknowledgement() const noexcept { return !unacknowledged_.empty(); }

  // Whether runs are executing, and whether on a device that has to be polled.
  [[nodiscard]] bool executing() const noexcept { return running_ != 0; }
  [[nodiscard]] bool must_poll() const noexcept { return !polled_.empty(); }
  // Whether runs wait for memory, and nobody but kaasd's reading can end that.
  [[nodiscard]] bool stalled() const noexcept { return running_ == 0 && !ready_.empty(); }
  [[nodiscard]] std::size_t unfinished() const noexcept { return active_.size(); }
  [[nodiscard]] std::uint64_t started() const noexcept { return starts_; }  // Ever.
  [[nodiscard]] std::size_t kept() const noexcept { return kept_; }
  [[nodiscard]] const ExecutorCounters& counters() const noexcept { return counters_; }
  // When nothing executes: what kernels have printed since the last time goes to the log, with the
  // request that ran, or with none if it was more than one.
  void flush_output();

 private:
  enum class Start {
    Done,     // Finished and reported; the task is another's from now on.
    Running,  // Will be finished by advance().
    MustWait  // For memory or a worker; nothing was taken.
  };

  // Arrival.
  RunTask& new_task(std::uint64_t run);
  Result<void> accept(RunTask& task, const wire::Run& message);
  void go_on(RunTask& task);
  void wait_for(RunTask& task, std::uint64_t run, bool until_end);
  void come_behind(RunTask& task, RunTask& earlier, bool until_end);
  void pass_on_order(RunTask& task);
  [[nodiscard]] bool may_follow(const RunTask& task, const RunTask& earlier) const;
  [[nodiscard]] static bool is_overwritten_at_end(const RunTask& task, const RunTask& earlier);
  [[nodiscard]] bool is_device_memory(std::uint32_t segment) const;
  Result<void> follow_earlier(RunTask& task);
  void enqueued(RunTask& task);
  static void forget_followed(RunTask& task);
  void release_dependents(RunTask& task);
  void pin_pending(RunTask& task);
  void expect_outputs(RunTask& task);

  // Start.
  // `alone`: nobody else who is ready could free memory by going first.
  Start start(RunTask& task, bool alone);
  Start start_kept(RunTask& task);
  Start begin(RunTask& task);
  Result<void> prepare(RunTask& task, bool avoid_copies);
  bool ask_for_room(const RunTask& task);
  [[nodiscard]] bool is_brief(const ExecutorPlan& plan) const noexcept;
  [[nodiscard]] bool has_room(const ExecutorPlan& plan) const noexcept;
  Result<void> open_stream(RunTask& task);
  void prepare_program(RunTask& task);
  bool poll_one(std::size_t index);
  Start execute_here(RunTask& task);

  // End.
  void finish(RunTask& task);
  void settle_outputs(RunTask& task);
  void keep_loaded(RunTask& task);
  void forget_once_segments(RunTask& task);
  void report(RunTask& task);
  void report_fetched(RunTask& task);
  void hold_stored(RunTask& task);
  [[nodiscard]] bool may_keep(const RunTask& task) const;
  void keep(RunTask& task);
  void unkeep(RunTask& task);
  void uncount(RunTask& task);
  void make_room_to_keep(const RunTask& task);
  static void forget_run(RunTask& task);
  void recycle(RunTask& task);
  void start_ready();

  RunnerParts parts_;
  // By run; those that did not end at once.
  std::pmr::unsynchronized_pool_resource nodes_;
  std::pmr::unordered_map<std::uint64_t, RunTask*> active_{&nodes_};
  // Runs that ended before others which they were to come behind, and those others: kaasd may name
  // only the former to a run that comes behind both.
  std::unordered_map<std::uint64_t, std::vector<std::uint64_t>> ended_early_;
  std::deque<RunTask*> ready_;    // Wait for memory or a worker.
  std::vector<RunTask*> polled_;  // Enqueued on an asynchronous device.
  std::size_t next_polled_ = 0;   // Of polled_, beyond the oldest.
  std::uint32_t running_ = 0;
  std::uint64_t starts_ = 0;
  std::uint64_t next_own_run_ = kFirstOwnRun;
  // Requests that ran on an asynchronous device since its output was flushed.
  bool output_due_ = false;
  bool output_is_mixed_ = false;
  RunTag output_tag_;
  struct Unacknowledged {
    std::uint64_t reports;  // Written by then.
    CachePin stored;
  };
  std::deque<Unacknowledged> unacknowledged_;    // In order of their reports.
  std::vector<std::unique_ptr<RunTask>> tasks_;  // All there are.
  std::vector<RunTask*> idle_tasks_;
  std::uint32_t kept_ = 0;
  std::uint64_t kept_staging_bytes_ = 0;
  ExecutorCounters counters_;
};

}  // namespace kaas
