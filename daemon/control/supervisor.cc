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
constexpr std::size_t kOutputLineMax = 4096;
constexpr char kKernelLineMark = '\x1e';

}  // namespace

Supervisor::~Supervisor() {
  for (auto& [executor, child] : children_) {
    events_.unwatch(child->process.pidfd.get());
    events_.unwatch(child->process.log.get());
    kill_process(child->process.pidfd, SIGKILL);
    reap(child->process.pid);
  }
}

void Supervisor::want(std::uint32_t domain) {
  DomainState& state = domains_[domain];
  if (state.executor == 0 && state.retry == 0) start(domain);
}

void Supervisor::start(std::uint32_t domain) {
  DomainState& state = domains_[domain];
  state.retry = 0;
  state.is_ready = false;
  ExecutorCommand command = command_;
  command.uid = domain;
  auto process = start_executor(command);
  if (!process.has_value()) return failed(domain, process.error());
  const std::uint32_t executor = next_executor_++;
  auto child = std::make_unique<Child>();
  child->domain = domain;
  child->process = *std::move(process);
  auto link = std::make_unique<ExecutorLink>(
      ExecutorIdentity{executor, domain, command.device, child->process.pid},
      std::move(child->process.endpoints));
  state.executor = executor;
  Child* raw = child.get();
  const auto death =
      events_.watch(child->process.pidfd.get(), [this, executor] { died(executor); });
  const auto output = events_.watch(child->process.log.get(), [this, raw] { read_output(*raw); });
  children_[executor] = std::move(child);
  if (!death.has_value() || !output.has_value()) kill(executor, "no descriptors are left");
  // Dispatcher::Command must be copyable.
  auto shared = std::make_shared<std::unique_ptr<ExecutorLink>>(std::move(link));
  dispatcher_.post(
      [shared](Dispatcher& dispatcher) { dispatcher.executor_up(std::move(*shared)); });
  log_.write(spdlog::level::info, "executor " + std::to_string(executor) + " (" + command.device +
                                      ", domain " + std::to_string(domain) + ") started, process " +
                                      std::to_string(raw->process.pid));
}

void Supervisor::failed(std::uint32_t domain, const Status& cause) {
  DomainState& state = domains_[domain];
  state.last_cause = cause.message;
  ++state.failures_in_row;
  log_.write(spdlog::level::err,
             "executor of domain " + std::to_string(domain) + ": " + cause.message);
  if (state.failures_in_row >= kFailuresMax) {
    const Status status{StatusCode::Unavailable,
                        "no executor can be started (" + cause.message + ")"};
    dispatcher_.post(
        [domain, status](Dispatcher& dispatcher) { dispatcher.executor_failed(domain, status); });
  }
  const std::uint64_t delay =
      std::min(kBackoffMaxNs, kBackoffNs << std::min(state.failures_in_row, 6u));
  state.retry = events_.after(delay, [this, domain] { start(domain); });
}

void Supervisor::ready(std::uint32_t executor) {
  const auto child = children_.find(executor);
  if (child == children_.end()) return;
  DomainState& state = domains_[child->second->domain];
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
  read_output(*child);  // What it said last.
  if (!child->partial_line.empty()) print_line(*child, child->partial_line);
  std::string cause = reap(child->process.pid);
  if (!child->reason.empty()) cause = child->reason;
  DomainState& state = domains_[child->domain];
  const bool was_ready = state.is_ready;
  state.executor = 0;
  state.is_ready = false;
  state.last_cause = cause;
  ++state.restarts;
  log_.write(spdlog::level::warn, "executor " + std::to_string(executor) + " ended: " + cause);
  dispatcher_.post(
      [executor, cause](Dispatcher& dispatcher) { dispatcher.executor_down(executor, cause); });
  if (was_ready) {
    start(child->domain);
  } else {
    failed(child->domain,
           Status{StatusCode::Unavailable, "it ended before it was ready: " + cause});
  }
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
void Supervisor::print_line(const Child& child, std::string_view line) {
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
  log_.write_kernel_line(child.domain, session, request, std::string(line));
}

}  // namespace kaas
