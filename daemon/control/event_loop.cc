#include "daemon/control/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "schema/ipc/clock.h"

namespace kaas {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  std::unique_ptr<EventLoop> loop(new EventLoop());
  loop->epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  loop->wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->epoll_ || !loop->wake_) {
    return Status{StatusCode::ResourceExhausted, std::string("epoll: ") + std::strerror(errno)};
  }
  EventLoop* self = loop.get();
  KAAS_RETURN_IF_ERROR(loop->watch(loop->wake_.get(), [self] {
    std::uint64_t wakes = 0;
    [[maybe_unused]] const auto bytes = ::read(self->wake_.get(), &wakes, sizeof wakes);
  }));
  return loop;
}

Result<void> EventLoop::watch(int descriptor, std::function<void()> readable) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.fd = descriptor;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) {
    return Status{StatusCode::ResourceExhausted, std::string("epoll: ") + std::strerror(errno)};
  }
  watched_[descriptor] = std::make_shared<std::function<void()>>(std::move(readable));
  return {};
}

void EventLoop::unwatch(int descriptor) {
  if (watched_.erase(descriptor) != 0) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
  }
}

std::uint64_t EventLoop::after(std::uint64_t delay_ns, std::function<void()> call) {
  const std::uint64_t id = next_timer_++;
  timers_.emplace(now_ns() + delay_ns, Timer{id, std::move(call)});
  return id;
}

void EventLoop::cancel(std::uint64_t timer) {
  const auto found = std::find_if(timers_.begin(), timers_.end(),
                                  [timer](const auto& entry) { return entry.second.id == timer; });
  if (found != timers_.end()) timers_.erase(found);
}

void EventLoop::post(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(call));
  }
  wake();
}

void EventLoop::stop() noexcept {
  stopping_.store(true);
  wake();
}

void EventLoop::wake() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::run_posted() {
  std::vector<std::function<void()>> calls;
  {
    const std::lock_guard lock(mutex_);
    calls.swap(posted_);
  }
  for (auto& call : calls) call();
}

// Runs what is due; returns how long the next may wait, in milliseconds, or -1.
int EventLoop::run_timers() {
  const std::uint64_t now = now_ns();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const auto call = std::move(timers_.begin()->second.call);
    timers_.erase(timers_.begin());
    call();
  }
  if (timers_.empty()) return -1;
  const std::uint64_t due = timers_.begin()->first;
  return due <= now
             ? 0
             : static_cast<int>(std::min<std::uint64_t>((due - now + 999'999) / 1'000'000, 60'000));
}

void EventLoop::run() {
  std::array<epoll_event, 64> ready;
  while (!stopping_.load()) {
    const int timeout_ms = run_timers();
    const int count =
        ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), timeout_ms);
    for (int i = 0; i < count && !stopping_.load(); ++i) {
      // An earlier callback of this round may have unwatched it.
      const auto found = watched_.find(ready[static_cast<std::size_t>(i)].data.fd);
      if (found == watched_.end()) continue;
      const auto call = found->second;
      (*call)();
    }
    run_posted();
  }
}

}  // namespace kaas
