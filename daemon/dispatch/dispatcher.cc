#include "daemon/dispatch/dispatcher.h"

#include <algorithm>

namespace kaas {
namespace {

constexpr std::size_t kTemplatesMax = 1024;
constexpr std::size_t kTemplateBytesMax = 32u << 20;
constexpr std::size_t kInstancesMax = 4096;
// When something waits for a peer that will not ring: heap or socket room.
constexpr std::uint64_t kRetryNs = 1'000'000;

}  // namespace

Dispatcher::Dispatcher(DispatcherOptions options, DispatcherHost& host, Store& store,
                       SegmentRegistry& segments, std::unique_ptr<Policy> policy)
    : options_(std::move(options)),
      host_(host),
      store_(store),
      segments_(segments),
      policy_(std::move(policy)),
      templates_(kTemplatesMax, kTemplateBytesMax),
      instances_(options_.libraries, kInstancesMax) {
  KAAS_CHECK(!options_.devices.empty());
  for (const DeviceSpec& device : options_.devices) devices_.push_back({device});
}

Dispatcher::~Dispatcher() {
  while (!sessions_.empty()) {
    close_session(sessions_.begin()->first,
                  Status{StatusCode::Unavailable, "the daemon is shutting down"});
  }
}

std::size_t Dispatcher::step() {
  step_ns_ = host_.now_ns();
  std::size_t moved = run_commands();
  for (auto& [id, executor] : executors_) moved += take_reports(*executor);
  // Handlers may close sessions: walk by number.
  for (auto session = sessions_.begin(); session != sessions_.end();) {
    const std::uint64_t id = session->first;
    moved += take_turn(*session->second);
    session = sessions_.upper_bound(id);
  }
  if (stalled_tokens_ != 0) expire_donations();
  if (!resumable_.empty()) moved += resume_rings();
  if (!deadlines_.empty() && !expire()) ++moved;
  check_running_limit();
  if (!lanes_.empty()) watch_lanes();
  if (!suspensions_.empty()) check_suspensions();
  if (pump_due_ && !pump()) ++moved;
  if (options_.idle_release_ns != 0) release_idle();
  if (fetches_due_) send_fetches();
  tell_dropped();
  for (auto& [id, executor] : executors_) {
    executor->link->flush();
    if (executor->link->is_overrun() && !executor->distrusted) {
      distrust(*executor, "it has not read what kaasd has for it");
    }
  }
  for (auto& [id, session] : sessions_) {
    for (auto& ring : session->rings) ring->ring.flush();
  }
  if (drained_) check_drained();
  return moved;
}

bool Dispatcher::prepare_to_sleep(std::uint64_t& wake_at_ns) {
  wake_at_ns = deadlines_.empty() ? 0 : deadlines_.begin()->first;
  const auto at_the_latest = [&](std::uint64_t when) {
    wake_at_ns = wake_at_ns == 0 ? when : std::min(wake_at_ns, when);
  };
  bool waiting = mailbox_full_.load() || !resumable_.empty();
  // A client tells nobody that it uses its lane.
  if (!lanes_.empty() && options_.running_limit_ns != 0) {
    at_the_latest(step_ns_ + options_.running_limit_ns / 2);
  }
  for (auto& [id, executor] : executors_) {
    executor->link->announce();
    waiting = waiting || (!executor->condemned && executor->link->waiting());
    if (options_.running_limit_ns != 0 && !executor->in_flight.empty() && !executor->condemned) {
      at_the_latest(executor->in_flight.front()->started_ns + options_.running_limit_ns);
    }
    if (options_.idle_release_ns != 0 && is_idle(*executor)) {
      at_the_latest(executor->idle_since_ns + options_.idle_release_ns);
    }
  }
  for (const Suspension& suspension : suspensions_) at_the_latest(suspension.deadline_ns);
  for (auto& [id, session] : sessions_) {
    for (auto& ring : session->rings) {
      ring->ring.announce();
      if (!ring->stalled() && ring->ring.waiting()) waiting = true;
      if (ring->stalled_token != 0) {
        at_the_latest(ring->stalled_until_ns);
        // The descriptor is nearly always there within microseconds.
        waiting = waiting || step_ns_ < ring->stalled_until_ns - kDonationWaitNs + kDonationSpinNs;
      }
      if (ring->ring.blocked()) at_the_latest(step_ns_ + kRetryNs);
    }
  }
  if (pump_due_ || fetches_due_) at_the_latest(step_ns_ + kRetryNs);
  return !waiting;
}

void Dispatcher::finish_sleep() {
  for (auto& [id, executor] : executors_) executor->link->retract();
  for (auto& [id, session] : sessions_) {
    for (auto& ring : session->rings) ring->ring.retract();
  }
}

void Dispatcher::doorbell(std::uint64_t session_id, std::uint32_t executor_id) {
  if (executor_id != 0) {
    const auto executor = executors_.find(executor_id);
    // Its hang-up is the supervisor's to notice, which knows the cause; the doorbell only must not
    // be watched any more, or it would keep us awake.
    if (executor != executors_.end() && !executor->second->link->clear_doorbell()) {
      host_.unwatch(executor->second->link->doorbell_descriptor());
    }
    return;
  }
  Session* session = find_session(session_id);
  if (session == nullptr) return;
  for (auto& ring : session->rings) {
    if (ring->ring.clear_doorbell()) continue;
    close_session(session_id, Status{StatusCode::Cancelled, "the client has closed a ring"});
    return;
  }
}

void Dispatcher::post(Command command) {
  {
    const std::lock_guard lock(mailbox_mutex_);
    mailbox_.push_back(std::move(command));
    mailbox_full_.store(true);
  }
  if (wake_) wake_();
}

std::size_t Dispatcher::run_commands() {
  if (!mailbox_full_.load(std::memory_order_relaxed)) return 0;
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mailbox_mutex_);
    commands.swap(mailbox_);
    mailbox_full_.store(false);
  }
  for (Command& command : commands) command(*this);
  return commands.size();
}

void Dispatcher::add_session(std::unique_ptr<Session> session) {
  for (const auto& ring : session->rings) {
    host_.watch(ring->ring.doorbell_descriptor(), session->id, 0);
  }
  want_executors(session->domain);
  const std::uint64_t id = session->id;
  sessions_[id] = std::move(session);
}

Session* Dispatcher::find_session(std::uint64_t session) {
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : found->second.get();
}

void Dispatcher::add_ring(Session& session, std::unique_ptr<RingState> ring) {
  host_.watch(ring->ring.doorbell_descriptor(), session.id, 0);
  session.rings.push_back(std::move(ring));
}

void Dispatcher::answer(Session&, RingState& ring, const AnswerSpec& spec) {
  auto bytes = encode_answer(builder_, spec);
  const std::size_t limit = ring.ring.answer_bytes_max();
  if (bytes.size() > limit) {
    // Thousands of outputs with long names: their indices say as much.
    std::vector<AnswerOutput> unnamed(spec.outputs.begin(), spec.outputs.end());
    for (AnswerOutput& output : unnamed) output.name = {};
    AnswerSpec shorter = spec;
    shorter.outputs = unnamed;
    bytes = encode_answer(builder_, shorter);
  }
  if (bytes.size() > limit) {
    const Status refused =
        over_limit(StatusCode::ResourceExhausted, "bytes of the answer", bytes.size(), limit);
    bytes =
        encode_answer(builder_, {.id = spec.id, .code = refused.code, .message = refused.message});
  }
  ring.ring.answer(bytes);
}

void Dispatcher::fail(Session& session, RingState& ring, std::uint64_t id, const Status& status) {
  answer(session, ring, {.id = id, .code = status.code, .message = status.message});
}

void Dispatcher::segment_released(std::uint32_t segment) noexcept {
  const std::lock_guard lock(gone_mutex_);
  gone_segments_.push_back(segment);
  gone_.store(true);
}

void Dispatcher::version_dropped(std::uint64_t version) noexcept {
  const std::lock_guard lock(gone_mutex_);
  gone_versions_.push_back(version);
  gone_.store(true);
}

void Dispatcher::tell_dropped() {
  DroppedPlans& plans = instances_.dropped();
  for (const std::uint32_t plan : plans) {
    for (auto& [id, executor] : executors_) {
      executor->loaded_plans.erase(plan);
      executor->link->drop_plan(plan);
    }
  }
  if (!plans.empty()) {
    plans.clear();
    for (const std::uint32_t library : instances_.collect_libraries()) {
      for (auto& [id, executor] : executors_) executor->link->drop_library(library);
    }
    forget_unused_libraries();
  }
  if (!gone_.load(std::memory_order_relaxed)) return;
  std::vector<std::uint32_t> segments;
  std::vector<std::uint64_t> versions;
  {
    const std::lock_guard lock(gone_mutex_);
    segments.swap(gone_segments_);
    versions.swap(gone_versions_);
    gone_.store(false);
  }
  for (const std::uint32_t segment : segments) detach_everywhere(segment);
  for (auto& [id, executor] : executors_) {
    for (const std::uint64_t version : versions) {
      executor->link->drop_version(version);
      executor->used_versions.erase(version);
      executor->residents.erase(version);
    }
  }
}

void Dispatcher::when_detached(std::uint32_t segment, std::function<void()> done) {
  detaching_[segment].done = std::move(done);
}

void Dispatcher::detach_everywhere(std::uint32_t segment) {
  const auto waiting = detaching_.find(segment);
  const bool acknowledge = waiting != detaching_.end();
  for (auto& [id, executor] : executors_) {
    const bool had_it = executor->link->detach_segment(segment, acknowledge);
    if (had_it && acknowledge) waiting->second.executors.insert(id);
  }
  if (acknowledge && waiting->second.executors.empty()) all_detached(segment);
}

// One executor has let go of it, or is gone.
void Dispatcher::detached(std::uint32_t segment, std::uint32_t executor) {
  const auto waiting = detaching_.find(segment);
  // One that was not asked says nothing of those that were, or will be.
  if (waiting == detaching_.end() || waiting->second.executors.erase(executor) == 0) return;
  if (waiting->second.executors.empty()) all_detached(segment);
}

void Dispatcher::all_detached(std::uint32_t segment) {
  const auto waiting = detaching_.find(segment);
  const std::function<void()> done = std::move(waiting->second.done);
  detaching_.erase(waiting);
  done();
}

void Dispatcher::drain(std::function<void()> drained) {
  drained_ = std::move(drained);
  end_lanes({StatusCode::Unavailable, "the daemon is shutting down"},
            [](const Lane&) { return true; });
  check_drained();
}

void Dispatcher::check_drained() {
  const bool has_work = runs_.size() != 0 || !lanes_.empty() || !exports_.empty();
  if (has_work || !drained_) return;
  const bool fetching = std::any_of(executors_.begin(), executors_.end(), [](const auto& entry) {
    return !entry.second->fetches.empty();
  });
  if (fetching) return;
  const bool backlog = std::any_of(sessions_.begin(), sessions_.end(), [](const auto& entry) {
    return std::any_of(entry.second->rings.begin(), entry.second->rings.end(),
                       [](const auto& ring) { return ring->stalled(); });
  });
  if (backlog) return;
  const std::function<void()> drained = drained_;
  drained_ = [] {};  // Still draining: new operations are refused until the end.
  drained();
}

void Dispatcher::reconfigure(std::uint64_t running_limit_ns,
                             std::vector<std::string> library_path) {
  options_.running_limit_ns = running_limit_ns;
  options_.libraries.search_path = std::move(library_path);
  instances_.set_rules(options_.libraries);
}

void Dispatcher::ask_for_counters() {
  for (auto& [id, executor] : executors_) {
    if (executor->link->ready()) executor->link->ask_for_counters();
  }
}

}  // namespace kaas
