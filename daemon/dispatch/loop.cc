#include "daemon/dispatch/loop.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

#include "schema/ipc/clock.h"
#include "schema/ipc/doorbell.h"

namespace kaas {
namespace {

// Epoll data: whose doorbell it is. Sessions and executors are numbered apart.
constexpr std::uint64_t kExecutorBit = std::uint64_t{1} << 63;
constexpr std::uint64_t kWakeTag = ~std::uint64_t{0};

constexpr std::uint64_t kSpinNsMin = 20'000;
constexpr std::uint64_t kSpinNsMax = 100'000;

}  // namespace

Result<std::unique_ptr<DispatcherLoop>> DispatcherLoop::create(LoopEvents events,
                                                               std::uint64_t spin_ns) {
  std::unique_ptr<DispatcherLoop> loop(new DispatcherLoop(std::move(events), spin_ns));
  loop->epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  loop->wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeTag;
  if (!loop->epoll_ || !loop->wake_ ||
      ::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_.get(), &event) != 0) {
    return Status{StatusCode::ResourceExhausted, std::string("epoll: ") + std::strerror(errno)};
  }
  return loop;
}

std::uint64_t DispatcherLoop::now_ns() {
  return kaas::now_ns();
}

void DispatcherLoop::run(Dispatcher& dispatcher) {
  std::uint64_t idle_since_ns = 0;
  SpinPause pause;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (dispatcher.step() != 0) {
      idle_since_ns = 0;
      continue;
    }
    const std::uint64_t now = kaas::now_ns();
    if (idle_since_ns == 0) idle_since_ns = now;
    if (now - idle_since_ns < spin_.ns()) {
      pause();
      continue;
    }
    sleep(dispatcher);
    spin_.slept(kaas::now_ns() - now);
    idle_since_ns = 0;
  }
}

void DispatcherLoop::sleep(Dispatcher& dispatcher) {
  std::uint64_t wake_at_ns = 0;
  if (!dispatcher.prepare_to_sleep(wake_at_ns)) {
    dispatcher.finish_sleep();
    return;
  }
  int timeout_ms = -1;
  if (wake_at_ns != 0) {
    const std::uint64_t now = kaas::now_ns();
    const std::uint64_t left = wake_at_ns > now ? wake_at_ns - now : 0;
    timeout_ms = static_cast<int>(std::min<std::uint64_t>((left + 999'999) / 1'000'000, 60'000));
  }
  std::array<epoll_event, 64> events;
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  dispatcher.finish_sleep();
  // Whoever rang is waiting: its message first, the bells after it. What comes in between rings
  // again, or is seen before the next sleep.
  dispatcher.step();
  for (int i = 0; i < count; ++i) {
    const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
    if (tag == kWakeTag) {
      std::uint64_t wakes = 0;
      [[maybe_unused]] const auto bytes = ::read(wake_.get(), &wakes, sizeof wakes);
    } else if ((tag & kExecutorBit) != 0) {
      dispatcher.doorbell(0, static_cast<std::uint32_t>(tag));
    } else {
      dispatcher.doorbell(tag, 0);
    }
  }
}

void DispatcherLoop::stop() noexcept {
  stopping_.store(true);
  wake();
}

void DispatcherLoop::wake() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(wake_.get(), &one, sizeof one);
}

void DispatcherLoop::watch(int descriptor, std::uint64_t session, std::uint32_t executor) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.u64 = executor != 0 ? executor | kExecutorBit : session;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) {
    events_.log(StatusCode::ResourceExhausted,
                std::string("watching a doorbell: ") + std::strerror(errno));
  }
}

void DispatcherLoop::unwatch(int descriptor) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
}

std::uint64_t measure_wake_ns() {
  constexpr std::uint32_t kRounds = 32;
  std::atomic<std::uint32_t> word{0};
  std::atomic<std::uint64_t> woken_ns{0};
  std::thread sleeper([&] {
    for (std::uint32_t round = 0; round < kRounds; ++round) {
      while (word.load() == round) futex_wait(word, round, 10'000'000);
      woken_ns.store(now_ns());
    }
  });
  std::vector<std::uint64_t> costs;
  for (std::uint32_t round = 0; round < kRounds; ++round) {
    // Long enough for the other to fall asleep.
    const timespec pause{0, 100'000};
    ::nanosleep(&pause, nullptr);
    woken_ns.store(0);
    const std::uint64_t before = now_ns();
    word.fetch_add(1);
    futex_wake_all(word);
    while (woken_ns.load() == 0) ::sched_yield();
    costs.push_back(woken_ns.load() - before);
  }
  sleeper.join();
  std::nth_element(costs.begin(), costs.begin() + kRounds / 2, costs.end());
  // A busy machine wakes quickly, because no core is idle; the floor is for when it is not.
  return std::clamp<std::uint64_t>(costs[kRounds / 2], kSpinNsMin, kSpinNsMax);
}

}  // namespace kaas
