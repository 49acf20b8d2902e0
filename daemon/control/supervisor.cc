#include "daemon/control/supervisor.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace kaas {
namespace {

// Deaths before Ready, in a row, after which waiting requests are told.
constexpr std::uint32_t kFailuresMax = 3;
constexpr std::uint64_t kBackoffNs = 100'000'000;
constexpr std::uint64_t kBackoffMaxNs = 5'000'000'000;
// For an executor that was let go: a device may take its time to free its memory.
constexpr std::uint64_t kReleaseNs = 5'000'000'000;
constexpr std::size_t kOutputLineMax = 4096;
constexpr char kKernelLineMark = '\x1e';
// The executor's own lines begin so.
constexpr std::string_view kOwnLine = "kaas-executor: ";

}  // namespace

Supervisor::~Supervisor() {
  for (auto& [executor, child] : children_) {
    events_.unwatch(child->process.pidfd.get());
    events_.unwatch(child->process.log.get());
    kill_process(child->process.pidfd, SIGKILL);
    reap(child->process.pid);
  }
}

std::string Supervisor::name_of(Key key) const {
  return devices_[key.second - 1].id + ", domain " + std::to_string(key.first);
}

void Supervisor::want(std::uint32_t domain, std::uint32_t place) {
  State& state = states_[{domain, place}];
  state.is_wanted = true;
  if (state.executor == 0 && state.retry == 0) start({domain, place});
  tell_waiting();
}

void Supervisor::want_everywhere(std::uint32_t domain) {
  for (std::uint32_t place = 1; place <= devices_.size(); ++place) want(domain, place);
}

void Supervisor::unwant(std::uint32_t domain, std::uint32_t place) {
  State& state = states_[{domain, place}];
  state.is_wanted = false;
  state.failures_in_row = 0;
  if (state.retry != 0) events_.cancel(state.retry);
  state.retry = 0;
}

void Supervisor::release(std::shared_ptr<ExecutorLink> link) {
  const std::uint32_t executor = link->identity().executor;
  const auto child = children_.find(executor);
  if (child == children_.end()) return;
  states_[child->second->key].is_wanted = false;
  child->second->is_released = true;
  child->second->patience = events_.after(
      kReleaseNs, [this, executor] { kill(executor, "it did not end when it was let go"); });
}

void Supervisor::start(Key key) {
  State& state = states_[key];
  state.retry = 0;
  state.is_ready = false;
  const DeviceSpec& device = devices_[key.second - 1];
  ExecutorCommand command = command_;
  command.uid = key.first;
  command.is_joined = std::find(joined_.begin(), joined_.end(), key.first) != joined_.end();
  command.device = device.argument;
  command.memory_limit_bytes = device.memory_limit_bytes;
  auto process = start_executor(command);
  if (!process.has_value()) return failed(key, process.error(), false);
  const std::uint32_t executor = next_executor_++;
  auto child = std::make_unique<Child>();
  child->key = key;
  child->process = *std::move(process);
  const int pid = child->process.pid;
  auto link = std::make_unique<ExecutorLink>(
      ExecutorIdentity{executor, key.first, key.second, device.id, pid},
      std::move(child->process.endpoints));
  state.executor = executor;
  watch(executor, std::move(child));
  // Dispatcher::Command must be copyable.
  auto shared = std::make_shared<std::unique_ptr<ExecutorLink>>(std::move(link));
  dispatcher_.post(
      [shared](Dispatcher& dispatcher) { dispatcher.executor_up(std::move(*shared)); });
  log_.write(spdlog::level::info, "executor " + std::to_string(executor) + " (" + name_of(key) +
                                      ") started, process " + std::to_string(pid));
}

void Supervisor::watch(std::uint32_t executor, std::unique_ptr<Child> child) {
  Child* raw = child.get();
  const auto death =
      events_.watch(child->process.pidfd.get(), [this, executor] { died(executor); });
  const auto output = events_.watch(child->process.log.get(), [this, raw] { read_output(*raw); });
  children_[executor] = std::move(child);
  if (!death.has_value() || !output.has_value()) kill(executor, "no descriptors are left");
}

// `is_final`: trying again soon will not help. It is tried again all the same, but who waits is
// told at once.
void Supervisor::failed(Key key, const Status& cause, bool is_final) {
  State& state = states_[key];
  ++state.failures_in_row;
  // A device that can't be had for long would fill the log.
  const bool is_news = state.failures_in_row <= kFailuresMax || state.last_cause != cause.message;
  state.last_cause = cause.message;
  log_.write(is_news ? spdlog::level::err : spdlog::level::debug,
             "executor of " + name_of(key) + ": " + cause.message);
  if (is_final || state.failures_in_row >= kFailuresMax) {
    const Status status{StatusCode::Unavailable, "no executor can be started on " +
                                                     devices_[key.second - 1].id + " (" +
                                                     cause.message + ")"};
    dispatcher_.post([key, status](Dispatcher& dispatcher) {
      dispatcher.executor_failed(key.first, key.second, status);
    });
  }
  if (!state.is_wanted) return;
  const std::uint64_t delay =
      std::min(kBackoffMaxNs, kBackoffNs << std::min(state.failures_in_row, 6u));
  state.retry = events_.after(delay, [this, key] { start(key); });
}

void Supervisor::ready(std::uint32_t executor) {
  const auto child = children_.find(executor);
  if (child == children_.end()) return;
  State& state = states_[child->second->key];
  state.is_ready = true;
  state.failures_in_row = 0;
  const auto sealed = seal_executor_segments(child->second->process);
  if (!sealed.has_value()) kill(executor, sealed.error().message);
}

void Supervisor::kill(std::uint32_t executor, const std::string& reason) {
  const auto child = children_.find(executor);
  if (child == children_.end()) return;
  child->second->reason = reason;
  kill_process(child->second->process.pidfd, SIGKILL);
}

void Supervisor::died(std::uint32_t executor) {
  const auto found = children_.find(executor);
  const std::unique_ptr<Child> child = std::move(found->second);
  children_.erase(found);
  events_.unwatch(child->process.pidfd.get());
  events_.unwatch(child->process.log.get());
  if (child->patience != 0) events_.cancel(child->patience);
  read_output(*child);  // What it said last.
  if (!child->partial_line.empty()) print_line(*child, child->partial_line);
  const ProcessEnd end = reap(child->process.pid);
  std::string cause = child->reason.empty() ? end.text : child->reason;
  // Why it gave up, as it said itself.
  if (child->reason.empty() && child->says_why) cause += " (" + child->last_line + ")";
  State& state = states_[child->key];
  const bool was_ready = state.is_ready;
  state.executor = 0;
  state.is_ready = false;
  const bool as_asked = child->is_released && child->reason.empty();
  log_.write(as_asked ? spdlog::level::info : spdlog::level::warn,
             "executor " + std::to_string(executor) + " (" + name_of(child->key) +
                 ") ended: " + (as_asked ? "it was let go" : cause));
  dispatcher_.post(
      [executor, cause](Dispatcher& dispatcher) { dispatcher.executor_down(executor, cause); });
  if (child->is_released) {
    tell_waiting();
    if (state.is_wanted) start(child->key);  // Again, since.
    return;
  }
  ++state.restarts;
  if (was_ready) {
    state.last_cause = cause;
    if (state.is_wanted) start(child->key);
    return;
  }
  const bool is_final = end.exit_status == kExitDeviceUnavailable;
  const std::string said = child->last_line.empty() ? "" : ": " + child->last_line;
  failed(child->key,
         Status{StatusCode::Unavailable, is_final && !said.empty()
                                             ? child->last_line
                                             : "it ended before it was ready: " + cause + said},
         is_final);
}

void Supervisor::when_gone(std::vector<std::uint32_t> places, std::function<void()> gone) {
  waiting_.push_back({std::move(places), std::move(gone)});
  tell_waiting();
}

bool Supervisor::is_ending(const std::vector<std::uint32_t>& places) const {
  return std::any_of(children_.begin(), children_.end(), [&](const auto& entry) {
    const Child& child = *entry.second;
    // What is not wanted any more is released as soon as the dispatcher hears that it is there.
    return (child.is_released || !states_.at(child.key).is_wanted) &&
           std::find(places.begin(), places.end(), child.key.second) != places.end();
  });
}

void Supervisor::tell_waiting() {
  std::vector<Waiting> still;
  std::vector<Waiting> told;
  for (Waiting& one : waiting_) (is_ending(one.places) ? still : told).push_back(std::move(one));
  waiting_ = std::move(still);
  for (const Waiting& one : told) one.gone();
}

void Supervisor::read_output(Child& child) {
  char bytes[16384];
  for (;;) {
    const ssize_t count = ::read(child.process.log.get(), bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    child.partial_line.append(bytes, static_cast<std::size_t>(count));
    std::size_t end = 0;
    while ((end = child.partial_line.find('\n')) != std::string::npos) {
      print_line(child, std::string_view(child.partial_line).substr(0, end));
      child.partial_line.erase(0, end + 1);
    }
    // A line without an end must not grow for ever.
    if (child.partial_line.size() > kOutputLineMax) {
      print_line(child, child.partial_line);
      child.partial_line.clear();
    }
  }
}

// "\x1e<session> <request> <text>", or text that nobody can be named for.
void Supervisor::print_line(Child& child, std::string_view line) {
  std::uint64_t session = 0;
  std::uint64_t request = 0;
  if (!line.empty() && line.front() == kKernelLineMark) {
    const char* const end = line.data() + line.size();
    auto parsed = std::from_chars(line.data() + 1, end, session);
    if (parsed.ec == std::errc() && parsed.ptr != end) {
      parsed = std::from_chars(parsed.ptr + 1, end, request);
    }
    if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == ' ') {
      line = line.substr(static_cast<std::size_t>(parsed.ptr + 1 - line.data()));
    }
  }
  child.says_why = line.starts_with(kOwnLine);
  child.last_line = child.says_why ? line.substr(kOwnLine.size()) : line;
  log_.write_kernel_line(child.key.first, session, request, std::string(line));
}

}  // namespace kaas
