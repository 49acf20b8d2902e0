#include "tools/bench/load.h"

#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "schema/ipc/clock.h"
#include "tools/bench/statistics.h"

namespace kaas {
namespace {

// Open loop: what one client has under way at most. Starts beyond it wait, and their latency says
// so.
constexpr std::size_t kUnderWayMax = 200;
// A sleep ends late by about this much; the rest is spent looking for answers.
constexpr std::uint64_t kSleepSlackNs = 80'000;
constexpr std::uint64_t kLookNs = 20'000'000;

void sleep_until(std::uint64_t at_ns) {
  const timespec time{static_cast<time_t>(at_ns / 1'000'000'000),
                      static_cast<long>(at_ns % 1'000'000'000)};
  ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
}

// What the clients' threads and the one that measures share.
struct LoadState {
  std::atomic<bool> stop{false};
  std::atomic<unsigned> ready{0};          // Partner: the measuring thread's wait.
  std::atomic<std::uint64_t> start_ns{0};  // 0: not yet. Partner: wait_for_start.
};

// One client's thread.
class LoadWorker {
 public:
  LoadWorker(const LoadPlan& plan, unsigned number, LoadState& state)
      : plan_(plan), number_(number), state_(state) {}

  void run(const MakeLoadClient& make) {
    ::prctl(PR_SET_TIMERSLACK, 1);
    auto client = make(number_);
    if (!client) {
      fail(std::move(client).error());
      return;
    }
    state_.ready.fetch_add(1, std::memory_order_release);
    while (state_.start_ns.load(std::memory_order_acquire) == 0 && !stopping()) {
      sleep_until(now_ns() + 1'000'000);
    }
    if (plan_.rate > 0) {
      run_open(client->send);
    } else {
      run_closed(client->send);
    }
    while (!under_way_.empty()) take_front(false);
  }

  // Moves what was measured since the last call to `into`. Any thread.
  std::uint64_t collect(LatencyHistogram& into) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t count = latency_.count();
    into.merge(latency_);
    latency_.clear();
    return count;
  }
  std::optional<Status> failure() {
    const std::lock_guard lock(mutex_);
    return failure_;
  }
  [[nodiscard]] std::uint64_t late_max_ns() const {
    return late_max_ns_.load(std::memory_order_relaxed);
  }

 private:
  struct UnderWay {
    Future<Reply> future;
    std::uint64_t start_ns;  // Closed loop: when sent. Open loop: when it should have been.
  };

  [[nodiscard]] bool stopping() const { return state_.stop.load(std::memory_order_relaxed); }

  void fail(Status status) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::move(status);
    state_.stop.store(true, std::memory_order_relaxed);
  }

  void take_front(bool count) {
    UnderWay front = std::move(under_way_.front());
    under_way_.pop_front();
    auto reply = front.future.get();
    const std::uint64_t latency_ns = now_ns() - front.start_ns;
    if (!reply) {
      fail(std::move(reply).error());
    } else if (count) {
      const std::lock_guard lock(mutex_);
      latency_.add(latency_ns);
    }
  }

  void run_closed(const SendRequest& send) {
    while (!stopping()) {
      while (under_way_.size() < plan_.depth) under_way_.push_back({send(), now_ns()});
      take_front(true);
    }
  }

  void run_open(const SendRequest& send) {
    const double distance_ns = 1e9 * plan_.clients / plan_.rate;
    std::mt19937_64 random(plan_.seed * 1000003 + number_);
    std::exponential_distribution<double> exponential(1.0);
    // The clients' equal distances interleave.
    double next_ns = static_cast<double>(state_.start_ns.load(std::memory_order_acquire)) +
                     distance_ns * number_ / plan_.clients;
    while (!stopping()) {
      const std::uint64_t now = now_ns();
      const auto due_ns = static_cast<std::uint64_t>(next_ns);
      if (now >= due_ns && under_way_.size() < kUnderWayMax) {
        late_max_ns_.store(std::max(late_max_ns(), now - due_ns), std::memory_order_relaxed);
        under_way_.push_back({send(), due_ns});
        next_ns += plan_.poisson ? distance_ns * exponential(random) : distance_ns;
        continue;
      }
      wait_for_answer_or(due_ns, now);
    }
  }

  // Takes an answer if there is one until `due_ns`, which may be over when too much is under way.
  void wait_for_answer_or(std::uint64_t due_ns, std::uint64_t now) {
    const std::uint64_t until_ns =
        under_way_.size() < kUnderWayMax ? std::min(due_ns, now + kLookNs) : now + kLookNs;
    if (under_way_.empty()) {
      if (until_ns > now + kSleepSlackNs) sleep_until(until_ns - kSleepSlackNs);
      return;
    }
    if (under_way_.front().future.wait(std::chrono::nanoseconds(until_ns - now))) take_front(true);
  }

  const LoadPlan& plan_;
  const unsigned number_;
  LoadState& state_;
  std::deque<UnderWay> under_way_;
  std::atomic<std::uint64_t> late_max_ns_{0};  // Partner: run_load, after the round.
  std::mutex mutex_;
  LatencyHistogram latency_;       // Guarded by mutex_.
  std::optional<Status> failure_;  // Guarded by mutex_.
};

// Stops and joins all threads, however run_load ends.
class LoadThreads {
 public:
  explicit LoadThreads(LoadState& state) : state_(state) {}
  LoadThreads(const LoadThreads&) = delete;
  LoadThreads& operator=(const LoadThreads&) = delete;
  ~LoadThreads() { join(); }
  template <class Function>
  void add(Function function) {
    threads_.emplace_back(std::move(function));
  }
  void join() {
    state_.stop.store(true, std::memory_order_relaxed);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  LoadState& state_;
  std::vector<std::thread> threads_;
};

std::optional<Status> first_failure(const std::vector<std::unique_ptr<LoadWorker>>& workers) {
  for (const auto& worker : workers) {
    if (auto failure = worker->failure()) return failure;
  }
  return std::nullopt;
}

bool enough(const LoadResult& result, const LoadPlan& plan) {
  if (result.rates.size() < plan.rounds_min) return false;
  return estimate(result.rates).spread() <= plan.spread_max;
}

}  // namespace

Result<LoadResult> run_load(const LoadPlan& plan, const MakeLoadClient& make) {
  LoadState state;
  std::vector<std::unique_ptr<LoadWorker>> workers;
  for (unsigned i = 0; i < plan.clients; ++i) {
    workers.push_back(std::make_unique<LoadWorker>(plan, i, state));
  }
  LoadThreads threads(state);
  for (const auto& worker : workers) {
    threads.add([&worker = *worker, &make] { worker.run(make); });
  }
  while (state.ready.load(std::memory_order_acquire) < plan.clients) {
    if (auto failure = first_failure(workers)) return *std::move(failure);
    sleep_until(now_ns() + 1'000'000);
  }
  LoadResult result;
  result.plan = plan;
  state.start_ns.store(now_ns(), std::memory_order_release);
  sleep_until(now_ns() + static_cast<std::uint64_t>(plan.warm_up_seconds * 1e9));
  LatencyHistogram warm_up;
  for (const auto& worker : workers) worker->collect(warm_up);

  const std::uint64_t begin_ns = now_ns();
  std::uint64_t round_begin_ns = begin_ns;
  while (!result.stable) {
    sleep_until(round_begin_ns + static_cast<std::uint64_t>(plan.round_seconds * 1e9));
    std::uint64_t count = 0;
    for (const auto& worker : workers) count += worker->collect(result.latency);
    const std::uint64_t end_ns = now_ns();
    result.rates.push_back(static_cast<double>(count) * 1e9 /
                           static_cast<double>(end_ns - round_begin_ns));
    round_begin_ns = end_ns;
    if (auto failure = first_failure(workers)) return *std::move(failure);
    result.stable = enough(result, plan);
    if (static_cast<double>(end_ns - begin_ns) >= plan.seconds_max * 1e9) break;
  }
  for (const auto& worker : workers) {
    result.late_max_ns = std::max(result.late_max_ns, worker->late_max_ns());
  }
  threads.join();
  if (auto failure = first_failure(workers)) return *std::move(failure);
  return result;
}

}  // namespace kaas
