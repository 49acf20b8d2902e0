#include <deque>
#include <functional>
#include <map>
#include <memory_resource>
#include <unordered_map>

#include "daemon/flow/policies.h"
#include "daemon/schedule/policy.h"

namespace kaas {
namespace {

// A queue a (domain, place) and priority, so that taking never looks at runs that can't go.
// Removed runs stay in their queue, as entries that `waiting_` does not know, until their turn or
// until there are more of them than of others.
class FifoPolicy final : public Policy {
 public:
  void add(const Candidate& candidate) override {
    KAAS_CHECK(waiting_.try_emplace(candidate.run, next_order_).second);
    const Target target{candidate.domain, candidate.place};
    auto found = queues_.find(target);
    if (found == queues_.end()) {
      drop_removed();
      found = queues_.try_emplace(target).first;
    }
    const auto queue = found->second.try_emplace(candidate.priority, &memory_).first;
    queue->second.push_back({next_order_++, candidate.run});
  }

  std::optional<std::uint64_t> take(const Openings& openings) override {
    if (waiting_.empty() || openings.places.empty()) return std::nullopt;
    std::optional<Queue> chosen = best({openings.domain, kAnyPlace});
    for (const std::uint32_t place : openings.places) {
      const std::optional<Queue> bound = best({openings.domain, place});
      if (bound && (!chosen || before(*bound, *chosen))) chosen = bound;
    }
    if (!chosen) return std::nullopt;
    const std::uint64_t run = chosen->runs->front().run;
    chosen->runs->pop_front();
    waiting_.erase(run);
    return run;
  }

  bool remove(std::uint64_t run) override {
    if (waiting_.erase(run) == 0) return false;
    if (++removed_ > waiting_.size() + kRemovedMin) drop_removed();
    return true;
  }
  [[nodiscard]] std::size_t waiting() const override { return waiting_.size(); }

 private:
  static constexpr std::size_t kRemovedMin = 64;

  struct Entry {
    std::uint64_t order;
    std::uint64_t run;
  };
  using Target = std::pair<std::uint32_t, std::uint32_t>;
  using ByPriority = std::map<int, std::pmr::deque<Entry>, std::greater<>>;
  struct Queue {
    int priority;
    std::pmr::deque<Entry>* runs;
  };

  [[nodiscard]] bool is_waiting(const Entry& entry) const {
    const auto found = waiting_.find(entry.run);
    return found != waiting_.end() && found->second == entry.order;
  }

  // Domains come and go, and queues with them: what is left of the gone ones is dropped as well.
  void drop_removed() {
    removed_ = 0;
    for (auto target = queues_.begin(); target != queues_.end();) {
      auto& by_priority = target->second;
      for (auto one = by_priority.begin(); one != by_priority.end();) {
        std::erase_if(one->second, [&](const Entry& entry) { return !is_waiting(entry); });
        one = one->second.empty() ? by_priority.erase(one) : std::next(one);
      }
      target = by_priority.empty() ? queues_.erase(target) : std::next(target);
    }
  }

  static bool before(const Queue& a, const Queue& b) {
    if (a.priority != b.priority) return a.priority > b.priority;
    return a.runs->front().order < b.runs->front().order;
  }

  // The first queue of a target that holds a waiting run; drops what was removed on the way.
  std::optional<Queue> best(const Target& target) {
    const auto found = queues_.find(target);
    if (found == queues_.end()) return std::nullopt;
    for (auto& [priority, runs] : found->second) {
      while (!runs.empty() && !is_waiting(runs.front())) {
        runs.pop_front();
        --removed_;
      }
      if (!runs.empty()) return Queue{priority, &runs};
    }
    return std::nullopt;
  }

  // What one entry gave back serves the next: no allocation for each run.
  std::pmr::unsynchronized_pool_resource memory_;
  std::map<Target, ByPriority> queues_;
  std::pmr::unordered_map<std::uint64_t, std::uint64_t> waiting_{&memory_};  // Its entry's order.
  std::uint64_t next_order_ = 0;
  std::size_t removed_ = 0;  // Entries of removed runs in all queues.
};

}  // namespace

std::unique_ptr<Policy> make_fifo_policy() {
  return std::make_unique<FifoPolicy>();
}

Result<std::unique_ptr<Policy>> make_policy(const std::string& name) {
  if (name == "fifo") return make_fifo_policy();
  return Status{StatusCode::InvalidArgument, "policy is '" + name + "', allowed: " + kPolicies};
}

}  // namespace kaas
