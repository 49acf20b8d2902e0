// Objects whose bytes are on a device only: outputs that asked to stay there. Whoever needs one
// elsewhere has it fetched; then it is an object like any other.
#include <algorithm>

#include "daemon/dispatch/dispatcher.h"
#include "daemon/dispatch/report_status.h"

namespace kaas {
namespace {

// As in executors: a copy at such an address can be an allocation of a run itself.
constexpr std::uint64_t kDeviceAlignmentBytes = 256;

}  // namespace

void Dispatcher::keep_on_device(ExecutorState& executor, const VersionRef& version) {
  const ExecutorIdentity& identity = executor.link->identity();
  Store::settle_on_device(version, identity.executor, identity.device);
  executor.residents[version->id()] = version;
  had_residents_ = true;
}

// --- Fetching ------------------------------------------------------------------------------------

// Begins the fetch of a Resident version, or finds the one that is under way.
Dispatcher::Fetching& Dispatcher::fetch(const VersionRef& version) {
  auto& fetches = executors_.at(version->executor())->fetches;
  const auto [found, is_new] = fetches.try_emplace(version->id());
  if (is_new) {
    found->second.version = version;
    fetches_due_ = true;
  }
  return found->second;
}

void Dispatcher::send_fetches() {
  fetches_due_ = false;
  for (auto& [id, executor] : executors_) {
    for (auto& [number, fetching] : executor->fetches) {
      if (fetching.sent) continue;
      const ObjectVersion& version = *fetching.version;
      const PushOutcome outcome =
          executor->link->push_fetch(number, version.bytes(), version.output_segment());
      fetching.sent = outcome == PushOutcome::Sent;
      if (outcome == PushOutcome::Full) fetches_due_ = true;
      if (outcome != PushOutcome::Sent) break;  // If it is down, its end tells those who wait.
    }
  }
}

// False: the report breaks the protocol.
bool Dispatcher::fetched(ExecutorState& executor, const wire::Fetched& report) {
  const auto found = executor.fetches.find(report.version());
  if (found == executor.fetches.end() || !found->second.sent) return false;
  if (!is_known(report.code())) return false;
  const VersionRef version = found->second.version;
  if (report.code() != wire::StatusCode::Ok) {
    // It is still there, and may be asked for again.
    executor.idle_since_ns = step_ns_;
    end_fetch(executor, version->id(), status_of(report.code(), report.message()));
    return true;
  }
  OutputSlice slice{0, version->bytes(), std::nullopt};
  if (version->is_small()) {
    if (count(report.data()) != version->bytes()) return false;
    const auto* bytes = reinterpret_cast<const std::byte*>(report.data()->data());
    slice.source = std::span(bytes, version->bytes());
  }
  const auto settled = store_.settle(version, nullptr, {&slice, 1});
  executor.residents.erase(version->id());
  end_fetch(executor, version->id(), settled);
  return true;
}

// Answers those who read it, and sends those on their way who wait for it.
void Dispatcher::end_fetch(ExecutorState& executor, std::uint64_t number,
                           const Result<void>& outcome) {
  const auto node = executor.fetches.extract(number);
  const Fetching& ended = node.mapped();
  for (const Fetching::Read& read : ended.reads) {
    Session* session = find_session(read.session);
    if (session == nullptr) continue;
    RingState& ring = *session->rings[read.ring];
    if (outcome.has_value()) {
      answer_object(*session, ring, read.wanted, ended.version);
    } else {
      fail(*session, ring, read.wanted.id, outcome.error());
    }
  }
  resume_exports(*ended.version, outcome);
  for (const std::uint64_t waiting : ended.runs) {
    Run* run = runs_.find(waiting);
    if (run == nullptr || run->state != Run::State::Waiting) continue;
    if (outcome.has_value()) {
      enqueue_if_ready(*run);
    } else {
      give_up(*run, outcome.error());
    }
  }
}

// Runs of the executor wait for memory that resident versions hold.
void Dispatcher::memory_short(ExecutorState& executor, const wire::MemoryShort& report) {
  for (std::size_t i = 0; i < count(report.versions()); ++i) {
    const auto found = executor.residents.find(value_at(report.versions(), i));
    if (found == executor.residents.end()) continue;  // Being dropped, or unknown: no matter.
    if (const VersionRef version = found->second.lock()) fetch(version);
  }
}

// Has all that only this executor's device has brought to the host. True: there is nothing.
bool Dispatcher::write_back(ExecutorState& executor) {
  bool all = true;
  for (const auto& [number, resident] : executor.residents) {
    const VersionRef version = resident.lock();
    if (version == nullptr) continue;
    fetch(version);
    all = false;
  }
  return all;
}

// --- The end of an executor ----------------------------------------------------------------------

void Dispatcher::lose_residents(ExecutorState& executor, const std::string& cause) {
  for (const auto& [number, resident] : executor.residents) {
    if (const VersionRef version = resident.lock()) Store::lose(version, cause);
  }
  executor.residents.clear();
}

void Dispatcher::end_lost_fetches(ExecutorState& executor) {
  while (!executor.fetches.empty()) {
    const auto& [number, fetching] = *executor.fetches.begin();
    const Status loss = fetching.version->loss();
    end_fetch(executor, number, loss);
  }
}

// --- Runs that need them -------------------------------------------------------------------------

Dispatcher::RunResidents Dispatcher::residents_of(const Run& run) const {
  RunResidents residents;
  if (!had_residents_) return residents;
  const PlanTemplate& plan = *run.plan->plan;
  residents.needed_bytes = plan.working_set_bytes;
  std::unordered_set<const ObjectVersion*> read;
  for (std::size_t i = 0; i < run.bound.loads.size(); ++i) {
    const BoundLoad& load = run.bound.loads[i];
    if (load.version == nullptr || load.version->state() != ObjectVersion::State::Resident)
      continue;
    read.insert(load.version.get());
    residents.versions.push_back({load.version, true});
    const TemplateBuffer& buffer = plan.buffers[plan.loads[i]];
    const bool in_place =
        !buffer.written && !buffer.shared && load.offset % kDeviceAlignmentBytes == 0;
    residents.needed_bytes += load.version->bytes() - (in_place ? load.available : 0);
  }
  for (const BoundStore& store : run.bound.stores) {
    if (store.kind != BoundStore::Kind::Slice) continue;
    auto base = store_.lookup(run.uid, store.namespace_uid, store.key);
    if (base.has_value() && (*base)->state() == ObjectVersion::State::Resident) {
      const bool is_read = read.contains(base->get());
      residents.versions.push_back({*std::move(base), is_read});
    }
  }
  return residents;
}

// Whether the executor has the version for the run to read, and room for both.
bool Dispatcher::may_run_beside(const ExecutorState& executor, const Run& run,
                                const RunResidents& residents, bool is_read) const {
  const ExecutorIdentity& identity = executor.link->identity();
  return is_read && identity.domain == run.domain && is_active(identity.place) &&
         residents.needed_bytes <= executor.device_bytes;
}

// Where most would be read in place, so far as one can tell by the first; kAnyPlace: nowhere.
std::uint32_t Dispatcher::place_of_residents(const Run& run) const {
  const RunResidents residents = residents_of(run);
  for (const auto& [version, is_read] : residents.versions) {
    const ExecutorState& executor = *executors_.at(version->executor());
    if (may_run_beside(executor, run, residents, is_read)) {
      return executor.link->identity().place;
    }
  }
  return kAnyPlace;
}

// The run's place, if it may go there now: that of its resident inputs if it may go anywhere.
// Nothing: it waits until those that are elsewhere are on the host.
std::optional<std::uint32_t> Dispatcher::await_residents(const Run& run, std::uint32_t place) {
  bool waits = false;
  const RunResidents residents = residents_of(run);
  for (const auto& [version, is_read] : residents.versions) {
    const ExecutorState& executor = *executors_.at(version->executor());
    const std::uint32_t its = executor.link->identity().place;
    if ((place == kAnyPlace || place == its) && may_run_beside(executor, run, residents, is_read)) {
      place = its;
      continue;
    }
    auto& waiting = fetch(version).runs;
    if (std::find(waiting.begin(), waiting.end(), run.number) == waiting.end()) {
      waiting.push_back(run.number);
    }
    waits = true;
  }
  if (waits) return std::nullopt;
  return place;
}

}  // namespace kaas
