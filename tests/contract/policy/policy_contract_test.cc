// What every policy promises, whatever its order between sessions: runs go where they may go, by
// priority, each once. A new policy is added to the list at the end.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <memory_resource>
#include <random>
#include <vector>

#include "daemon/schedule/policy.h"

namespace kaas {
namespace {

// The rules without any order between sessions: the oldest of the highest priority that may go.
class NaivePolicy {
 public:
  void add(const Candidate& candidate) { waiting_.push_back(candidate); }
  bool remove(std::uint64_t run) {
    const auto found = find(run);
    if (found == waiting_.end()) return false;
    waiting_.erase(found);
    return true;
  }
  static bool may_go(const Candidate& candidate, const Openings& openings) {
    const auto& places = openings.places;
    return candidate.domain == openings.domain && !places.empty() &&
           (candidate.place == kAnyPlace ||
            std::find(places.begin(), places.end(), candidate.place) != places.end());
  }
  [[nodiscard]] std::optional<std::uint64_t> best(const Openings& openings) const {
    const Candidate* chosen = nullptr;
    for (const Candidate& candidate : waiting_) {
      if (!may_go(candidate, openings)) continue;
      if (chosen == nullptr || candidate.priority > chosen->priority) chosen = &candidate;
    }
    return chosen == nullptr ? std::nullopt : std::optional(chosen->run);
  }
  [[nodiscard]] std::vector<Candidate>::iterator find(std::uint64_t run) {
    return std::find_if(waiting_.begin(), waiting_.end(),
                        [&](const Candidate& one) { return one.run == run; });
  }
  [[nodiscard]] std::vector<Candidate>& waiting() { return waiting_; }

 private:
  std::vector<Candidate> waiting_;  // In the order of adding.
};

struct Fifo {
  static std::unique_ptr<Policy> make() { return make_fifo_policy(); }
  static constexpr const char* kName = "fifo";
};

template <class Maker>
class PolicyContract : public testing::Test {
 protected:
  void add(std::uint64_t run, int priority = 0, std::uint32_t domain = 1,
           std::uint32_t place = kAnyPlace) {
    policy->add({run, priority, domain, 1, place, 0});
  }
  std::uint64_t take(std::uint32_t place = 1, std::uint32_t domain = 1) {
    return policy->take({domain, {&place, 1}}).value_or(0);
  }
  std::uint64_t take_at(const std::vector<std::uint32_t>& places) {
    return policy->take({1, places}).value_or(0);
  }
  std::unique_ptr<Policy> policy = Maker::make();
};
TYPED_TEST_SUITE_P(PolicyContract);

TYPED_TEST_P(PolicyContract, IsMadeByItsName) {
  EXPECT_TRUE(make_policy(TypeParam::kName).has_value());
  const auto unknown = make_policy("lifo");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find(TypeParam::kName), std::string::npos);
}

TYPED_TEST_P(PolicyContract, GivesEachRunOnceInOrder) {
  EXPECT_EQ(this->take(), 0u);
  for (std::uint64_t run = 1; run <= 5; ++run) this->add(run);
  EXPECT_EQ(this->policy->waiting(), 5u);
  for (std::uint64_t run = 1; run <= 5; ++run) EXPECT_EQ(this->take(), run);
  EXPECT_EQ(this->take(), 0u);
  EXPECT_EQ(this->policy->waiting(), 0u);
}

TYPED_TEST_P(PolicyContract, HigherPrioritiesGoFirst) {
  this->add(1, 0);
  this->add(2, 100);
  this->add(3, -100);
  this->add(4, 100);
  for (const std::uint64_t run : {2u, 4u, 1u, 3u}) EXPECT_EQ(this->take(), run);
}

TYPED_TEST_P(PolicyContract, RunsGoToTheirDomainOnly) {
  this->add(1, 0, 1);
  this->add(2, 0, 2);
  EXPECT_EQ(this->take(1, 3), 0u);
  EXPECT_EQ(this->take(1, 2), 2u);
  EXPECT_EQ(this->take(1, 2), 0u);
  EXPECT_EQ(this->take(1, 1), 1u);
}

TYPED_TEST_P(PolicyContract, BoundRunsGoToTheirPlaceOnly) {
  this->add(1, 0, 1, 7);
  this->add(2, 0, 1);
  EXPECT_EQ(this->take(8), 2u);
  EXPECT_EQ(this->take(8), 0u);
  EXPECT_EQ(this->take(7), 1u);
}

TYPED_TEST_P(PolicyContract, BoundAndFreeRunsKeepTheirCommonOrder) {
  this->add(1, 0, 1, 7);
  this->add(2, 0, 1);
  this->add(3, 0, 1, 7);
  this->add(4, 5, 1);
  for (const std::uint64_t run : {4u, 1u, 2u, 3u}) EXPECT_EQ(this->take(7), run);
}

TYPED_TEST_P(PolicyContract, RunsOfSeveralOpeningsKeepTheirCommonOrder) {
  this->add(1, 0, 1, 7);
  this->add(2, 0, 1, 9);
  this->add(3, 0, 1);
  this->add(4, 0, 1, 8);
  this->add(5, 3, 1, 8);
  EXPECT_EQ(this->take_at({}), 0u);
  for (const std::uint64_t run : {5u, 1u, 3u, 4u}) EXPECT_EQ(this->take_at({7, 8}), run);
  EXPECT_EQ(this->take_at({7, 8}), 0u) << "the last one is bound to another place";
  EXPECT_EQ(this->take_at({8, 9}), 2u);
}

TYPED_TEST_P(PolicyContract, RemovedRunsAreGone) {
  this->add(1);
  this->add(2);
  this->add(3);
  EXPECT_TRUE(this->policy->remove(2));
  EXPECT_FALSE(this->policy->remove(2));
  EXPECT_FALSE(this->policy->remove(9));
  EXPECT_EQ(this->policy->waiting(), 2u);
  EXPECT_EQ(this->take(), 1u);
  EXPECT_FALSE(this->policy->remove(1)) << "it was taken";
  EXPECT_EQ(this->take(), 3u);
}

// Counts what is allocated through it and not given back.
class CountingResource final : public std::pmr::memory_resource {
 public:
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    bytes_ += bytes;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* memory, std::size_t bytes, std::size_t alignment) override {
    bytes_ -= bytes;
    std::pmr::new_delete_resource()->deallocate(memory, bytes, alignment);
  }
  [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
    return this == &other;
  }

  std::size_t bytes_ = 0;
};

// Of a policy that takes its memory from a memory resource.
TYPED_TEST_P(PolicyContract, RemovedRunsTakeNoRoomBehindOneThatWaits) {
  CountingResource memory;
  std::pmr::memory_resource* const before = std::pmr::set_default_resource(&memory);
  this->policy = TypeParam::make();
  std::pmr::set_default_resource(before);
  this->add(1);
  for (std::uint64_t run = 2; run < 100'000; ++run) {
    this->add(run);
    ASSERT_TRUE(this->policy->remove(run));
  }
  EXPECT_LT(memory.bytes(), 64u << 10);
  EXPECT_EQ(this->take(), 1u);
  EXPECT_EQ(this->take(), 0u);
  this->policy.reset();
}

// As after the end of an executor: what was bound to it, or to none, comes again, bound anew.
TYPED_TEST_P(PolicyContract, RemovedRunComesAgainUnderItsNewTermsOnly) {
  this->add(1, 0, 1);
  ASSERT_TRUE(this->policy->remove(1));
  this->add(1, 0, 1, 7);
  EXPECT_EQ(this->take(8), 0u) << "it is bound to another one now";
  EXPECT_EQ(this->take(7), 1u);
  EXPECT_EQ(this->take(7), 0u);
}

TYPED_TEST_P(PolicyContract, RemovedRunThatComesAgainIsLast) {
  this->add(1);
  this->add(2);
  ASSERT_TRUE(this->policy->remove(1));
  this->add(1);
  EXPECT_EQ(this->take(), 2u);
  EXPECT_EQ(this->take(), 1u);
  EXPECT_EQ(this->take(), 0u);
}

TYPED_TEST_P(PolicyContract, RunIsTakenAndComesAgain) {
  this->add(1);
  EXPECT_EQ(this->take(), 1u);
  this->add(1);
  EXPECT_EQ(this->take(), 1u);
}

// Against the naive one: which of several sessions goes first is the policy's own, but it never
// gives a lower priority than the highest that may go, nor overtakes within a session, and never
// gives nothing when something may go.
TYPED_TEST_P(PolicyContract, AgreesWithThePlainRules) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    auto tried = TypeParam::make();
    NaivePolicy naive;
    std::uint64_t next = 1;
    std::vector<std::uint64_t> removed;
    for (int step = 0; step < 400; ++step) {
      const std::uint32_t choice = below(10);
      if (choice < 5) {
        Candidate candidate{next++,       static_cast<int>(below(3)) - 1,   1 + below(2),
                            1 + below(3), below(3) == 0 ? 1 + below(3) : 0, below(1000)};
        if (!removed.empty() && below(3) == 0) {
          candidate.run = removed.back();
          removed.pop_back();
        }
        tried->add(candidate);
        naive.add(candidate);
      } else if (choice < 6) {
        const std::uint64_t run = 1 + below(static_cast<std::uint32_t>(next));
        const bool was_waiting = naive.remove(run);
        ASSERT_EQ(tried->remove(run), was_waiting);
        if (was_waiting) removed.push_back(run);
      } else {
        std::vector<std::uint32_t> places;
        for (std::uint32_t place = 1; place <= 3; ++place) {
          if (below(2) == 0) places.push_back(place);
        }
        const Openings openings{1 + below(2), places};
        const auto wanted = naive.best(openings);
        const auto given = tried->take(openings);
        ASSERT_EQ(given.has_value(), wanted.has_value());
        if (!given) continue;
        const auto found = naive.find(*given);
        ASSERT_NE(found, naive.waiting().end()) << "it was not waiting";
        ASSERT_TRUE(NaivePolicy::may_go(*found, openings));
        ASSERT_EQ(found->priority, naive.find(*wanted)->priority);
        for (const Candidate& other : naive.waiting()) {
          if (other.run == *given) break;  // The rest came later.
          ASSERT_FALSE(NaivePolicy::may_go(other, openings) && other.session == found->session &&
                       other.priority == found->priority)
              << *given << " overtakes " << other.run;
        }
        naive.remove(*given);
      }
      ASSERT_EQ(tried->waiting(), naive.waiting().size());
    }
  }
}

REGISTER_TYPED_TEST_SUITE_P(PolicyContract, IsMadeByItsName, GivesEachRunOnceInOrder,
                            HigherPrioritiesGoFirst, RunsGoToTheirDomainOnly,
                            RunsOfSeveralOpeningsKeepTheirCommonOrder, BoundRunsGoToTheirPlaceOnly,
                            BoundAndFreeRunsKeepTheirCommonOrder, RemovedRunsAreGone,
                            RemovedRunsTakeNoRoomBehindOneThatWaits,
                            RemovedRunComesAgainUnderItsNewTermsOnly,
                            RemovedRunThatComesAgainIsLast, RunIsTakenAndComesAgain,
                            AgreesWithThePlainRules);
using Policies = testing::Types<Fifo>;
INSTANTIATE_TYPED_TEST_SUITE_P(Real, PolicyContract, Policies);

}  // namespace
}  // namespace kaas
