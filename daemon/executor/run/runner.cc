#include "daemon/executor/run/runner.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <utility>

#include "daemon/executor/run/run_preparation.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// Runs that hold memory and wait for a worker, per worker: enough that none is idle.
constexpr std::uint32_t kRunningPerWorker = 2;
// Runs beyond the oldest that a step looks at.
constexpr std::size_t kLooksBeyondOldest = 3;
// Runs that one message may wait for.
constexpr std::size_t kAfterMax = 65'536;

Result<void> check_locations(const flatbuffers::Vector<const wire::Location*>* locations,
                             std::size_t wanted, const char* what) {
  if (count(locations) == wanted) return {};
  return Status{StatusCode::InvalidArgument, std::string("run has ") +
                                                 std::to_string(count(locations)) + " " + what +
                                                 ", its plan " + std::to_string(wanted)};
}

void copy_locations(const flatbuffers::Vector<const wire::Location*>* from,
                    std::vector<wire::Location>& to) {
  to.clear();
  for (std::size_t i = 0; i < count(from); ++i) {
    to.push_back(value_at(from, i));
  }
}

Result<void> copy_events(const flatbuffers::Vector<std::uint32_t>* from,
                         std::vector<std::uint32_t>& to) {
  if (count(from) > kEventsPerRunMax) {
    return over_limit(StatusCode::InvalidArgument, "number of events", count(from),
                      kEventsPerRunMax);
  }
  for (std::size_t i = 0; i < count(from); ++i) to.push_back(value_at(from, i));
  return {};
}

// Whether it holds cached copies of what the host has, too.
bool has_copies(const RunTask& task) {
  for (std::size_t i = 0; i < task.pins.size() && i < task.loads.size(); ++i) {
    if (task.pins[i] && task.loads[i].segment() != 0) return true;
  }
  return false;
}

}  // namespace

ExecutorRunner::~ExecutorRunner() {
  if (parts_.workers != nullptr) {
    parts_.workers->drain();
    static_cast<void>(parts_.workers->take_finished());
  }
  for (RunTask* task : polled_) static_cast<void>(task->body.stream->wait());
  for (auto& task : tasks_) RunPreparation::release(*task);
}

// --- Arrival -------------------------------------------------------------------------------------

void ExecutorRunner::submit(const wire::Run& message, const Result<PlanRef>& plan) {
  RunTask& task = new_task(message.run());
  if (message.profile()) task.moments.taken_ns = parts_.now();
  if (!plan) {
    copy_locations(message.stores(), task.stores);
    task.failure = plan.error();
    finish(task);
    return;
  }
  task.plan = *plan;
  try {
    if (auto accepted = accept(task, message); !accepted) {
      task.failure = std::move(accepted).error();
    }
  } catch (const std::bad_alloc&) {
    task.failure = Status{StatusCode::ResourceExhausted, "no memory to take in a run"};
  }
  go_on(task);
}

// A task that was taken in, or refused, starts, waits or ends. One that is refused while it waits
// for others is known to these, and so ends behind them.
void ExecutorRunner::go_on(RunTask& task) {
  if (!task.failure && task.plan->failure) task.failure = task.plan->failure;
  if (task.failure && task.waits == 0) {
    finish(task);
    start_ready();
    return;
  }
  if (!task.failure && task.plan->loading) {
    task.plan->waiting.push_back(&task);
    ++task.waits;
  }
  // A run that needs memory does not overtake those that wait for some. A fetch needs none.
  const bool queues = !ready_.empty() && !task.plan->allocations.empty() && task.fetches == 0;
  Start outcome = Start::MustWait;
  if (task.waits == 0 && !queues) outcome = start(task, ready_.empty());
  if (outcome == Start::Done) {
    if (!ready_.empty()) start_ready();
    return;
  }
  active_.emplace(task.run, &task);
  if (outcome == Start::MustWait && task.waits == 0) ready_.push_back(&task);
}

void ExecutorRunner::plan_loaded(ExecutorPlan& plan, const Status* failure) {
  for (RunTask* task : std::exchange(plan.waiting, {})) {
    if (failure != nullptr && !task->failure) task->failure = *failure;
    if (--task->waits == 0) ready_.push_back(task);
  }
  start_ready();
}

RunTask& ExecutorRunner::new_task(std::uint64_t run) {
  if (idle_tasks_.empty()) {
    tasks_.push_back(std::make_unique<RunTask>());
    idle_tasks_.push_back(tasks_.back().get());
  }
  RunTask& task = *idle_tasks_.back();
  idle_tasks_.pop_back();
  task.run = run;
  task.sink = nullptr;
  task.clock = parts_.now;
  return task;
}

Result<void> ExecutorRunner::accept(RunTask& task, const wire::Run& message) {
  KAAS_RETURN_IF_ERROR(read_terms(message, *task.plan, task));
  if (message.run() >= kFirstFetch) {
    return over_limit(StatusCode::InvalidArgument, "a run's number", message.run(),
                      kFirstFetch - 1);
  }
  if (!active_.empty() && active_.count(task.run) != 0) {
    return Status{StatusCode::InvalidArgument,
                  "run " + std::to_string(task.run) + " has not ended yet"};
  }
  if (count(message.after()) > kAfterMax) {
    return over_limit(StatusCode::InvalidArgument, "number of runs waited for",
                      count(message.after()), kAfterMax);
  }
  for (std::size_t i = 0; i < count(message.after()); ++i) {
    wait_for(task, value_at(message.after(), i), false);
  }
  if (!task.loads.empty()) pin_pending(task);
  if (!task.stores.empty()) expect_outputs(task);
  return {};
}

Result<void> ExecutorRunner::read_terms(const wire::Run& message, const ExecutorPlan& plan,
                                        RunTerms& terms) {
  terms.tenant = message.tenant();
  terms.profile = message.profile();
  terms.device_memory = message.device_memory();
  terms.background = message.background();
  terms.tag = {message.session(), message.request()};
  // Copied first: whatever else is wrong, once-segments of the stores are to be forgotten.
  copy_locations(message.loads(), terms.loads);
  copy_locations(message.stores(), terms.stores);
  KAAS_RETURN_IF_ERROR(check_locations(message.loads(), plan.loads.size(), "loads"));
  KAAS_RETURN_IF_ERROR(check_locations(message.stores(), plan.stores.size(), "stores"));
  KAAS_RETURN_IF_ERROR(copy_events(message.wait_events(), terms.wait_events));
  KAAS_RETURN_IF_ERROR(copy_events(message.record_events(), terms.record_events));
  if (message.literals() == nullptr) return {};
  const std::size_t literals_max = std::size_t{kKernelsMax} * kLiteralsPerKernelMax;
  if (message.literals()->size() > literals_max) {
    return over_limit(StatusCode::InvalidArgument, "number of literal overrides",
                      message.literals()->size(), literals_max);
  }
  for (const wire::LiteralOverride* literal : *message.literals()) {
    RunLiteral copy{literal->kernel(), literal->literal(), literal->bits(), {}};
    if (literal->raw() != nullptr) {
      const auto* bytes = reinterpret_cast<const std::byte*>(literal->raw()->data());
      copy.raw.assign(bytes, bytes + literal->raw()->size());
    }
    if (literal->type().has_value()) copy.type = *literal->type();
    terms.literals.push_back(std::move(copy));
  }
  return {};
}

// --- Start ---------------------------------------------------------------------------------------

bool ExecutorRunner::is_brief(const ExecutorPlan& plan) const noexcept {
  if (parts_.workers == nullptr) return true;
  return plan.cost_ns == 0 ? plan.starts_inline : plan.cost_ns <= kInlineCostMaxNs;
}

bool ExecutorRunner::has_room(const ExecutorPlan& plan) const noexcept {
  if (!parts_.device.limits().synchronous) {
    return running_ < kEnqueuedMax && plan.frames_in_use() < kFramesMax;
  }
  return is_brief(plan) || running_ < parts_.workers->threads() * kRunningPerWorker;
}

ExecutorRunner::Start ExecutorRunner::start(RunTask& task, bool alone) {
  if (task.failure) {  // Cancelled while it waited.
    finish(task);
    return Start::Done;
  }
  if (!has_room(*task.plan)) return Start::MustWait;
  if (task.kept) return start_kept(task);
  const auto memory_comes = [&] { return running_ > 0 || awaits_acknowledgement() || !alone; };
  const auto is_short = [](const Result<void>& outcome) {
    return !outcome && outcome.error().code == StatusCode::OutOfMemory;
  };
  Result<void> prepared = prepare(task, false);
  if (is_short(prepared) && release_kept()) {
    RunPreparation::release(task);
    prepared = prepare(task, false);
  }
  if (is_short(prepared) && !memory_comes() && has_copies(task)) {
    RunPreparation::release(task);
    prepared = prepare(task, true);
  }
  if (prepared && task.slow && task.unordered != 0) {
    // A worker may be done with it before those that it follows have ended.
    RunPreparation::release(task);
    return Start::MustWait;
  }
  if (prepared) prepared = open_stream(task);
  if (prepared) prepared = follow_earlier(task);
  if (!prepared) {
    RunPreparation::release(task);
    if (is_short(prepared) && (awaits_acknowledgement() || ask_for_room(task) || memory_comes())) {
      return Start::MustWait;
    }
    if (parts_.device.lost()) {
      ++running_;
      return Start::Running;
    }
    task.failure = std::move(prepared).error();
    finish(task);
    return Start::Done;
  }
  prepare_program(task);
  const bool stores_nothing =
      std::all_of(task.body.stores.begin(), task.body.stores.end(), [](const StoreStep& step) {
        return step.moved || (step.staged != nullptr &&
                              step.from == reinterpret_cast<DeviceAddress>(step.staged));
      });
  task.body.program.last = stores_nothing && task.body.records.empty();
  task.body.program.tag_end = parts_.tag_end;
  return begin(task);
}

// A prepared task goes to where it is executed.
ExecutorRunner::Start ExecutorRunner::begin(RunTask& task) {
  task.started = true;
  task.start = ++starts_;
  task.plan->placement.started();
  if (!parts_.device.limits().synchronous && task.fetches == 0) {
    output_is_mixed_ = output_is_mixed_ || (output_due_ && output_tag_ != task.tag);
    output_tag_ = task.tag;
    output_due_ = true;
  }
  const bool synchronous = parts_.device.limits().synchronous;
  const bool here = parts_.workers == nullptr || (synchronous ? is_brief(*task.plan) : !task.slow);
  task.body.program.brief = here;
  if (here) return execute_here(task);
  ++running_;
  parts_.workers->enqueue(task);
  return Start::Running;
}

Result<void> ExecutorRunner::prepare(RunTask& task, bool avoid_copies) {
  const CacheFigures before = parts_.cache.figures();
  RunPreparation preparation(task, parts_.device, parts_.cache, parts_.segments);
  if (avoid_copies) preparation.avoid_copies();
  Result<void> outcome = preparation.prepare();
  const CacheFigures& after = parts_.cache.figures();
  task.prepared_counters = task.counters;
  task.counters.evictions = after.evictions - before.evictions;
  task.counters.evicted_bytes = after.evicted_bytes - before.evicted_bytes;
  return outcome;
}

Result<void> ExecutorRunner::open_stream(RunTask& task) {
  if (task.body.stream != nullptr) return {};
  KAAS_ASSIGN_OR_RETURN(task.body.stream, parts_.device.open_stream());
  return {};
}

// A frame that is used again will be used often. Where a plan has chosen a way, it never goes the
// other one again.
void ExecutorRunner::prepare_program(RunTask& task) {
  ParameterFrame::Prepared& prepared = task.frame->prepared(task.way);
  if (task.plan->placement.decided()) task.frame->prepared(other(task.way)).program.reset();
  if (task.body.program.background || ++prepared.runs != 2) return;
  prepared.program = parts_.device.prepare(task.body.program);
  task.body.program.prepared = prepared.program.get();
}

// On a synchronous device to the end; on another one the task goes on to the polled ones.
ExecutorRunner::Start ExecutorRunner::execute_here(RunTask& task) {
  try {
    Result<void> outcome = enqueue(task);
    if (outcome && !parts_.device.limits().synchronous) {
      polled_.push_back(&task);
      ++running_;
      enqueued(task);
      return Start::Running;
    }
    if (outcome) outcome = collect(task);
    if (!outcome) task.failure = std::move(outcome).error();
  } catch (const std::bad_alloc&) {
    task.failure = Status{StatusCode::ResourceExhausted, "no memory to execute a run"};
  }
  if (task.failure && parts_.device.lost()) {
    ++running_;  // For ever: nothing of this process is worth reporting any more.
    return Start::Running;
  }
  if (task.failure && !parts_.device.limits().synchronous) {
    // What the device was given before the failure may still use the run's memory.
    polled_.push_back(&task);
    ++running_;
    return Start::Running;
  }
  finish(task);
  return Start::Done;
}

bool ExecutorRunner::cancel(std::uint64_t run) {
  const auto found = active_.find(run);
  if (found == active_.end() || found->second->started) return false;
  RunTask& task = *found->second;
  task.failure = Status{StatusCode::Cancelled, "the request was cancelled before it was started"};
  const auto ready = std::find(ready_.begin(), ready_.end(), &task);
  if (ready == ready_.end()) return true;  // Those it waits for refer to it.
  ready_.erase(ready);
  finish(task);
  start_ready();
  return true;
}

bool ExecutorRunner::advance() {
  bool progress = false;
  if (parts_.workers != nullptr) {
    for (RunTask* task = parts_.workers->take_finished(); task != nullptr;) {
      RunTask* next = std::exchange(task->next_finished, nullptr);
      if (task->failure && parts_.device.lost()) return false;
      --running_;
      finish(*task);
      task = next;
      progress = true;
    }
  }
  // A look costs the driver's time, and runs end nearly in order: the oldest are looked at until
  // one is not done, and a few of the others in turn.
  while (!polled_.empty() && poll_one(0)) progress = true;
  for (std::size_t looks = 0; looks < kLooksBeyondOldest && polled_.size() > 1; ++looks) {
    if (next_polled_ == 0 || next_polled_ >= polled_.size()) next_polled_ = 1;
    if (poll_one(next_polled_)) {
      progress = true;
    } else {
      ++next_polled_;
    }
  }
  if (parts_.device.lost()) return false;
  if (!ready_.empty()) start_ready();
  return progress;
}

// Whether the run was done, well or badly.
bool ExecutorRunner::poll_one(std::size_t index) {
  RunTask& task = *polled_[index];
  if (task.unordered != 0) return false;
  const Result<bool> idle = task.body.stream->poll();
  if (idle && !*idle) return false;
  if (!idle && parts_.device.lost()) return false;
  polled_.erase(polled_.begin() + static_cast<std::ptrdiff_t>(index));
  --running_;
  if (!task.failure) {
    const Result<void> outcome = idle ? collect(task) : Result<void>(idle.error());
    if (!outcome) task.failure = outcome.error();
  }
  finish(task);
  return true;
}

// In order of readiness; the first that must wait for others to end keeps those behind it waiting.
// If nobody executes, those behind it go first: they may hold what it needs. All may wait for
// memory that kaasd was asked to free.
void ExecutorRunner::start_ready() {
  std::size_t refused = 0;
  while (!ready_.empty()) {
    RunTask& task = *ready_.front();
    const Start outcome = start(task, refused + 1 >= ready_.size());
    // start() may have made others ready, but only behind this one.
    if (outcome != Start::MustWait) {
      ready_.pop_front();
      refused = 0;
      continue;
    }
    if (running_ > 0 || awaits_acknowledgement() || ++refused >= ready_.size()) return;
    ready_.pop_front();
    ready_.push_back(&task);
  }
}

void ExecutorRunner::flush_output() {
  if (!output_due_ || running_ != 0) return;
  const RunTagScope tag(output_is_mixed_ ? RunTag{} : output_tag_, parts_.tag_end);
  parts_.device.flush_output();
  output_due_ = output_is_mixed_ = false;
}

// --- End -----------------------------------------------------------------------------------------

void ExecutorRunner::finish(RunTask& task) {
  const bool ended_well = !task.failure;
  if (task.kept) unkeep(task);
  if (task.repeated != nullptr) --task.repeated->under_way;
  if (ended_well) {
    const std::uint64_t took_ns = task.load_ns + task.run_ns + task.store_ns;
    task.plan->measured(took_ns);
    const bool was_alone = task.start == starts_ && running_ == 0;
    const auto& [runs, prepared] = task.frame->prepared(task.way);
    const bool is_typical =
        !task.body.program.background && (prepared == nullptr ? runs > 2 : !prepared->pending());
    if (was_alone && is_typical && task.plan->has_choice) {
      task.plan->placement.measured(task.way, took_ns);
    }
    const std::uint32_t kernels = static_cast<std::uint32_t>(task.plan->kernels.size());
    task.counters.kernel_misses = std::exchange(task.plan->kernel_misses, 0u);
    task.counters.kernel_hits = kernels - task.counters.kernel_misses;
    if (!task.loads.empty()) keep_loaded(task);
  }
  if (!task.stores.empty()) {
    settle_outputs(task);
    forget_once_segments(task);
  }
  const bool keeps = ended_well && may_keep(task);
  if (!keeps) RunPreparation::release(task);
  counters_ += task.counters;
  report(task);
  if (ended_well && !task.outputs.empty()) hold_stored(task);
  if (const auto found = active_.find(task.run); found != active_.end() && found->second == &task) {
    active_.erase(found);
  }
  pass_on_order(task);
  forget_followed(task);
  release_dependents(task);
  if (keeps) {
    keep(task);
  } else {
    recycle(task);
  }
}

void ExecutorRunner::report(RunTask& task) {
  if (task.sink != nullptr) return task.sink->run_ended(task);
  if (task.fetches != 0) return report_fetched(task);
  RunReport report;
  report.run = task.run;
  report.load_ns = task.load_ns;
  report.run_ns = task.run_ns;
  report.store_ns = task.store_ns;
  if (task.profile) {
    task.stamp(&RunMoments::ended_ns);
    report.counters = &task.counters;
    report.moments = &task.moments;
  }
  report.way = task.way_taken;
  report.why_stream = task.why_stream;
  parts_.reports.run_done(report, task.failure ? &*task.failure : nullptr);
}

// What is of one run, and not of what it was to do.
void ExecutorRunner::forget_run(RunTask& task) {
  task.enqueued = false;
  task.waits = 0;
  task.dependents.clear();
  task.failure.reset();
  task.counters = {};
  task.way_taken = wire::RunWay::Unknown;
  task.why_stream = wire::WhyStream::None;
  task.moments = {};
  task.load_ns = task.run_ns = task.store_ns = 0;
  task.handed.store(false, std::memory_order_relaxed);
}

void ExecutorRunner::recycle(RunTask& task) {
  forget_run(task);
  task.plan.reset();
  task.repeated = nullptr;
  task.loads.clear();
  task.stores.clear();
  task.fetches = 0;
  task.fetched = {};
  task.literals.clear();
  task.wait_events.clear();
  task.record_events.clear();
  task.started = false;
  task.parts.clear();
  task.outputs.clear();
  idle_tasks_.push_back(&task);
}

}  // namespace kaas
