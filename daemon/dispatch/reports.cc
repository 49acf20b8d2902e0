// Reports of executors, and settling: what became of a run, published, answered and cleaned up.
#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>

#include "daemon/dispatch/dispatcher.h"
#include "daemon/dispatch/report_status.h"

namespace kaas {
namespace {

// Reports of one executor in one step: one that never stops must not hold the others.
constexpr std::size_t kReportsPerStep = 256;

// Words of a profile that this daemon does not know would mean nothing to its clients.
bool is_known_way(const wire::RunDone& report) {
  return report.way() <= wire::RunWay::MAX && report.why_stream() <= wire::WhyStream::MAX;
}

wire::Stages stages_of(const Run& run, const wire::RunDone& report, std::uint64_t now_ns) {
  const wire::RunTimes times = report.times() == nullptr ? wire::RunTimes() : *report.times();
  return {run.decoded_ns - run.accepted_ns,
          run.planned_ns - run.decoded_ns,
          run.sent_ns - run.planned_ns,
          times.load_ns(),
          times.run_ns(),
          times.store_ns(),
          run.reported_ns - run.sent_ns,
          now_ns - run.reported_ns};
}

wire::Moments moments_of(const Run& run, const wire::RunDone& report, std::uint64_t now_ns) {
  const wire::RunMoments there =
      report.moments() == nullptr ? wire::RunMoments() : *report.moments();
  return {
      run.accepted_ns,    run.decoded_ns,      run.planned_ns,   run.sent_ns,     there.taken_ns(),
      there.started_ns(), there.launched_ns(), there.ended_ns(), run.reported_ns, now_ns};
}

// Puts `others` in the place of the run. Each once, and both lists ascend by number, as before.
void replace(std::vector<Run*>& runs, const Run& run, const std::vector<Run*>& others) {
  const auto by_number = [](const Run* a, const Run* b) { return a->number < b->number; };
  const auto own = std::lower_bound(runs.begin(), runs.end(), &run, by_number);
  KAAS_CHECK(own != runs.end() && *own == &run);
  runs.erase(own);
  if (others.empty()) return;
  std::vector<Run*> all;
  all.reserve(runs.size() + others.size());
  std::set_union(runs.begin(), runs.end(), others.begin(), others.end(), std::back_inserter(all),
                 by_number);
  runs.swap(all);
}

// Numbers of the run's stores that are slices, ascending, by namespace and key.
using SlicesByKey = std::map<std::pair<uid_t, std::string_view>, std::vector<std::size_t>>;

SlicesByKey slices_by_key(const Run& run) {
  SlicesByKey slices;
  for (std::size_t i = 0; i < run.bound.stores.size(); ++i) {
    const BoundStore& store = run.bound.stores[i];
    if (store.kind == BoundStore::Kind::Slice)
      slices[{store.namespace_uid, store.key}].push_back(i);
  }
  return slices;
}

}  // namespace

std::size_t Dispatcher::take_reports(ExecutorState& executor) {
  std::size_t taken = 0;
  std::size_t work = 0;
  while (taken < kReportsPerStep && work < kWorkPerTurn && !executor.distrusted) {
    bool violation = false;
    work_ = 0;
    const wire::ReportItem* report = executor.link->next_report(violation);
    if (report != nullptr && handle_report(executor, *report)) {
      ++taken;
      work += counted_work(work_);
      continue;
    }
    if (report == nullptr && !violation) break;
    distrust(executor, "its reports break the protocol");
  }
  return taken;
}

// Nothing of it is read any more, and it is to end.
void Dispatcher::distrust(ExecutorState& executor, const std::string& reason) {
  executor.distrusted = true;
  if (!executor.condemned) host_.kill_executor(executor.link->identity().executor, reason);
  executor.condemned = true;
}

// False: the report breaks the protocol.
bool Dispatcher::handle_report(ExecutorState& executor, const wire::ReportItem& item) {
  // The verifier lets an absent value with a known type pass.
  if (item.report() == nullptr) return false;
  switch (item.report_type()) {
    case wire::Report::Ready:
      if (executor.link->ready()) return false;
      executor_ready(executor, *item.report_as_Ready());
      return true;
    case wire::Report::RunDone:
      return run_done(executor, *item.report_as_RunDone());
    case wire::Report::PlanLoaded:
      return plan_loaded(executor, *item.report_as_PlanLoaded());
    case wire::Report::LibraryLoaded:
      return library_loaded(executor, *item.report_as_LibraryLoaded());
    case wire::Report::CountersReport: {
      executor.link->counters_have_come();
      const auto& report = *item.report_as_CountersReport();
      if (report.counters() != nullptr) executor.counters = *report.counters();
      executor.used_bytes = report.device_used_bytes();
      executor.limit_bytes = report.device_limit_bytes();
      return true;
    }
    case wire::Report::SegmentDetached:
      detached(item.report_as_SegmentDetached()->segment(), executor.link->identity().executor);
      return true;
    case wire::Report::LaneCallAdded:
      return lane_call_added(executor, *item.report_as_LaneCallAdded());
    case wire::Report::LaneEnded:
      return lane_ended(executor, *item.report_as_LaneEnded());
    case wire::Report::Fetched:
      return fetched(executor, *item.report_as_Fetched());
    case wire::Report::MemoryShort:
      memory_short(executor, *item.report_as_MemoryShort());
      return true;
    case wire::Report::CancelDone:
      return cancel_done(executor, *item.report_as_CancelDone());
    case wire::Report::ExportDone: {
      const auto& report = *item.report_as_ExportDone();
      return is_known(report.code()) &&
             export_done(executor, report, status_of(report.code(), report.message()));
    }
    case wire::Report::NONE:
      break;
  }
  return false;
}

void Dispatcher::executor_ready(ExecutorState& executor, const wire::Ready& report) {
  const ExecutorIdentity& identity = executor.link->identity();
  executor.device_bytes = report.device_bytes();
  executor.keeps_outputs = report.keeps_outputs();
  executor.idle_since_ns = step_ns_;
  executor.link->mark_ready();
  executor.device_name = view(report.device()).substr(0, kNameBytesMax);
  executor.confinement = view(report.confinement()).substr(0, kNameBytesMax);
  host_.executor_ready(identity.executor);
  pump_due_ = true;
}

bool Dispatcher::library_loaded(ExecutorState& executor, const wire::LibraryLoaded& report) {
  if (!is_known(report.code()) || !executor.link->knows_library(report.library())) return false;
  const auto library = instances_.libraries().find(report.library());
  if (library == instances_.libraries().end()) return true;
  Instances::Library& known = library->second;
  ++known.loads;
  if (report.code() == wire::StatusCode::Ok) {
    known.is_good = true;
    known.name = std::string(view(report.name()).substr(0, kNameBytesMax));
    known.kernels.clear();
    for (std::size_t i = 0; i < std::min<std::size_t>(count(report.kernels()), 4096); ++i) {
      known.kernels.emplace_back(
          view(report.kernels()->Get(static_cast<unsigned>(i))).substr(0, kNameBytesMax));
    }
    return true;
  }
  host_.log(report.code(), "library '" + known.version->path +
                               "': " + status_of(report.code(), report.message()).message);
  executor.link->drop_library(report.library());
  // Whoever has it keeps it, with its state: another domain, or device, could not load it.
  if (!known.is_good) instances_.forget_library(report.library());
  return true;
}

bool Dispatcher::plan_loaded(ExecutorState& executor, const wire::PlanLoaded& report) {
  if (!is_known(report.code()) || !executor.link->knows_plan(report.plan())) return false;
  std::vector<Run*> waiting;
  const auto preparing = executor.preparing.find(report.plan());
  if (preparing != executor.preparing.end()) {
    waiting.swap(preparing->second);
    executor.preparing.erase(preparing);
  }
  if (report.code() == wire::StatusCode::Ok) {
    executor.loaded_plans.insert(report.plan());
  } else {
    // Runs of it that are in flight end with the same error; the next request tries anew.
    executor.link->drop_plan(report.plan());
    instances_.forget_plan(report.plan());
  }
  const Status failure = status_of(report.code(), report.message());
  const std::shared_ptr<PlanInstance> plan = find_plan(executor, report.plan());
  if (plan != nullptr && (report.code() == wire::StatusCode::Ok || report.stateful())) {
    learn_state(executor, *plan, report.stateful());
  }
  for (Run* run : waiting) {
    settle(*run, report.code() == wire::StatusCode::Ok ? nullptr : &failure, nullptr);
  }
  return true;
}

// By its number, if a run still names it: most likely one of those that are in flight there.
std::shared_ptr<PlanInstance> Dispatcher::find_plan(const ExecutorState& executor,
                                                    std::uint32_t plan) const {
  for (const Run* run : executor.in_flight) {
    if (run->plan->id == plan) return run->plan;
  }
  std::shared_ptr<PlanInstance> found;
  runs_.for_each([&](const Run& run) {
    if (run.plan->id == plan) found = run.plan;
  });
  return found;
}

bool Dispatcher::run_done(ExecutorState& executor, const wire::RunDone& report) {
  Run* run = runs_.find(report.run());
  if (run == nullptr || run->state != Run::State::InFlight || run->kind != Run::Kind::Execute ||
      run->executor != executor.link->identity().executor || !is_known(report.code()) ||
      !is_known_way(report)) {
    return false;
  }
  if (run->options.profile) run->reported_ns = host_.now_ns();
  if (report.code() == wire::StatusCode::Ok) {
    settle(*run, nullptr, &report);
  } else {
    const Status failure = status_of(report.code(), report.message());
    settle(*run, &failure, &report);
  }
  return true;
}

// Publishes, answers, frees. Every run ends here, exactly once.
void Dispatcher::settle(Run& run, const Status* failure, const wire::RunDone* report) {
  const auto found = executors_.find(run.executor);
  ExecutorState* executor = found == executors_.end() ? nullptr : found->second.get();
  if (executor != nullptr) {
    auto& in_flight = executor->in_flight;
    const auto place = std::find(in_flight.begin(), in_flight.end(), &run);
    const bool was_first = place == in_flight.begin();
    if (place != in_flight.end()) in_flight.erase(place);
    // The next one may have waited behind it until now: that is not running.
    if (was_first && !in_flight.empty()) in_flight.front()->started_ns = step_ns_;
    if (run.strikes > 0) executor->alone = false;
    ++executor->finished;
    executor->idle_since_ns = step_ns_;
    pump_due_ = true;
  }
  // It may have been queued since its executor ended: by the end of what it waited for.
  if (run.state == Run::State::Queued) policy_->remove(run.number);
  work_ += run.bound.loads.size() + run.bound.stores.size();
  Status cause;
  if (failure == nullptr && run.kind == Run::Kind::Execute) {
    auto published = publish(run, executor);
    if (!published.has_value()) {
      cause = std::move(published).error();
      failure = &cause;
    }
  }
  if (failure != nullptr) {
    // None of them was published; some may be settled already.
    for (const BoundStore& store : run.bound.stores) {
      if (store.version == nullptr) continue;
      if (executor != nullptr) executor->residents.erase(store.version->id());
      Store::retract(store.version);
    }
  }
  answer_run(run, failure, report, executor);
  if (executor != nullptr) return_outbox(*executor, run);
  finish(run, failure);
}

// The transaction: all outputs become versions, then all are published together.
Result<void> Dispatcher::publish(Run& run, ExecutorState* executor) {
  if (run.session == nullptr || run.answered) {
    return Status{StatusCode::Cancelled, "the request was given up"};
  }
  for (const BoundLoad& load : run.bound.loads) {
    if (load.version != nullptr && load.version->state() == ObjectVersion::State::Failed) {
      return Status{StatusCode::DependencyFailed,
                    "an earlier request of this ring that makes its input has failed"};
    }
  }
  if (run.bound.stores.empty()) return {};
  KAAS_CHECK(executor != nullptr);
  std::vector<Store::Entry> entries;
  SlicesByKey slices;
  for (std::size_t i = 0; i < run.bound.stores.size(); ++i) {
    BoundStore& store = run.bound.stores[i];
    if (store.kind == BoundStore::Kind::Slice) {
      // When the first of a key is met.
      if (slices.empty()) slices = slices_by_key(run);
      const std::vector<std::size_t>& own = slices.at({store.namespace_uid, store.key});
      if (own.front() == i) KAAS_RETURN_IF_ERROR(join_slices(run, *executor, own, entries));
      continue;
    }
    if (store.kind != BoundStore::Kind::Version) continue;
    if (store.on_device) {
      keep_on_device(*executor, store.version);
      entries.push_back({store.namespace_uid, store.key, store.version});
      continue;
    }
    OutputSlice slice{0, store.bytes, std::nullopt};
    if (run.outbox_offsets[i] != kNoOutbox) {
      slice.source = executor->link->outbox_bytes(run.outbox_offsets[i], store.bytes);
      work_ += work_of_copying(store.bytes);
    }
    KAAS_RETURN_IF_ERROR(store_.settle(store.version, nullptr, {&slice, 1}));
    entries.push_back({store.namespace_uid, store.key, store.version});
  }
  for (const Store::Entry& entry : entries) end_lanes_reading(entry.namespace_uid, entry.key);
  KAAS_ASSIGN_OR_RETURN(Publication publication, store_.prepare(std::move(entries)));
  store_.publish(std::move(publication));
  return {};
}

// Makes the version of the key that these stores of the run are slices of.
Result<void> Dispatcher::join_slices(Run& run, ExecutorState& executor,
                                     std::span<const std::size_t> stores,
                                     std::vector<Store::Entry>& entries) {
  const BoundStore& key = run.bound.stores[stores.front()];
  std::vector<OutputSlice> slices;
  std::uint64_t bytes = 0;
  bool replaces = false;  // A slice at 0 makes the object anew.
  for (const std::size_t i : stores) {
    const BoundStore& store = run.bound.stores[i];
    OutputSlice slice{store.offset, store.bytes, std::nullopt};
    if (run.outbox_offsets[i] != kNoOutbox) {
      slice.source = executor.link->outbox_bytes(run.outbox_offsets[i], store.bytes);
    } else {
      slice.source = FileRange{store.version->output_segment()->descriptor.get(), 0, store.bytes};
    }
    slices.push_back(slice);
    bytes = std::max(bytes, store.offset + store.bytes);
    replaces = replaces || store.offset == 0;
  }
  VersionRef base;
  if (!replaces) {
    auto current = store_.lookup(run.uid, key.namespace_uid, key.key);
    if (current.has_value()) base = *std::move(current);
    if (base != nullptr) bytes = std::max(bytes, base->bytes());
  }
  work_ += work_of_object(bytes) + work_of_copying(bytes);
  KAAS_ASSIGN_OR_RETURN(const VersionRef joined,
                        store_.create_output(key.namespace_uid, key.key, bytes));
  KAAS_RETURN_IF_ERROR(store_.settle(joined, base, slices));
  entries.push_back({key.namespace_uid, key.key, joined});
  return {};
}

// `executor` has the bytes of inline outputs; null: there are none. Until the next call.
std::span<const AnswerOutput> Dispatcher::outputs_of(const Run& run,
                                                     const ExecutorState* executor) {
  outputs_.clear();
  for (std::size_t i = 0; i < run.bound.stores.size(); ++i) {
    const BoundStore& store = run.bound.stores[i];
    AnswerOutput output{store.buffer,
                        run.plan->plan->buffers[store.buffer].name,
                        store.bytes,
                        store.version == nullptr ? 0 : store.version->id(),
                        {}};
    if (store.kind == BoundStore::Kind::Inline) {
      output.data = executor->link->outbox_bytes(run.outbox_offsets[i], store.bytes);
    }
    outputs_.push_back(output);
  }
  return outputs_;
}

void Dispatcher::answer_run(Run& run, const Status* failure, const wire::RunDone* report,
                            ExecutorState* executor) {
  if (run.session == nullptr || run.answered) return;
  Session& session = *run.session;
  RingState& ring = *session.rings[run.ring];
  AnswerSpec spec{.id = run.id};
  if (failure != nullptr) {
    if (run.kind == Run::Kind::Prepare) session.plans.erase(run.prepared_plan);
    run.answered = true;
    ++session.counters.failed;
    fail(session, ring, run.id, *failure);
    if (!run.cancels.empty()) tell_cancels(run, failure->code == StatusCode::Cancelled);
    return;
  }
  spec.plan = run.prepared_plan;
  spec.outputs = outputs_of(run, executor);
  wire::Stages stages;
  wire::Moments moments;
  if (run.options.profile && report != nullptr) {
    const std::uint64_t now = host_.now_ns();
    stages = stages_of(run, *report, now);
    moments = moments_of(run, *report, now);
    spec.stages = &stages;
    spec.moments = &moments;
    spec.counters = report->counters();
    spec.device = executor->link->identity().device;
    spec.way = report->way();
    spec.why_stream = report->why_stream();
  }
  run.answered = true;
  answer(session, ring, spec);
  if (!run.cancels.empty()) tell_cancels(run, false);
}

// Takes the run out of the graph. One that ends before those it waits for leaves them to those
// behind it: the order between them stands.
void Dispatcher::unlink(Run& run) {
  for (Run* earlier : run.depends_on) {
    replace(earlier->dependents, run, run.dependents);
    work_ += work_of_searching(earlier->dependents.size());
  }
  for (Run* dependent : run.dependents) {
    replace(dependent->depends_on, run, run.depends_on);
    work_ += work_of_searching(dependent->depends_on.size());
  }
}

// The run publishes nothing under its keys any more. If it failed, a writer before it may still.
void Dispatcher::forget_pending(RingState& ring, const Run& run, bool failed) {
  for (const BoundStore& store : run.bound.stores) {
    if (store.kind != BoundStore::Kind::Version && store.kind != BoundStore::Kind::Slice) continue;
    const auto found = ring.pending.find(pending_name(store.namespace_uid, store.key));
    if (found == ring.pending.end()) continue;
    PendingWrites& writes = found->second;
    auto& earlier = writes.earlier;
    const auto own = std::lower_bound(
        earlier.begin(), earlier.end(), run.number,
        [](const PendingWrite& write, std::uint64_t number) { return write.run < number; });
    const bool is_latest = writes.latest.run == run.number;
    const bool is_listed = own != earlier.end() && own->run == run.number;
    if (!is_latest && !is_listed) continue;  // Another of its stores went to this key.
    // What it has published stands: those before it will not be seen any more.
    const auto last = is_listed ? own + 1 : own;
    earlier.erase(failed ? own : earlier.begin(), last);
    if (!is_latest) continue;
    if (earlier.empty()) {
      ring.pending.erase(found);
    } else {
      writes.latest = std::move(earlier.back());
      earlier.pop_back();
    }
  }
}

// Whether the client was told that the run is cancelled, to those who asked for that.
void Dispatcher::tell_cancels(Run& run, bool was_cancelled) {
  std::vector<Cancelled> cancels;
  cancels.swap(run.cancels);
  for (const Cancelled& done : cancels) {
    done(was_cancelled ? Result<void>()
                       : Status{StatusCode::InvalidArgument,
                                "request " + std::to_string(run.id) + " has ended already"});
  }
}

// Takes the run out of everything that knows it.
void Dispatcher::finish(Run& run, const Status* failure) {
  unlink(run);
  std::vector<Run*> dependents;
  dependents.swap(run.dependents);
  if (!run.cancels.empty()) tell_cancels(run, false);  // Its client is gone.
  if (Session* session = run.session; session != nullptr) {
    --session->runs;
    RingState& ring = *session->rings[run.ring];
    ring.runs.erase(std::find(ring.runs.begin(), ring.runs.end(), &run));
    if (touches_bytes(run)) ring.accesses.remove(run.number, run.bound.accesses);
    forget_pending(ring, run, failure != nullptr);
    if (ring.stalled_on == run.number) resumable_.emplace_back(session->id, run.ring);
    for (const DeferredRead& wanted : run.reads) {
      if (failure == nullptr) {
        read(*session, ring, wanted);
      } else {
        fail(*session, ring, wanted.id,
             Status{StatusCode::DependencyFailed,
                    "the request that makes '" + wanted.key + "' failed: " + failure->message});
      }
    }
  }
  if (run.options.deadline_ns != 0) deadlines_.erase({run.options.deadline_ns, run.number});
  runs_.destroy(run);
  for (Run* dependent : dependents) enqueue_if_ready(*dependent);
}

}  // namespace kaas
