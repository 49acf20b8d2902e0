// Against the definition: compare each access with each access of each run.
#include "daemon/session/access_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>

#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

using Accesses = std::vector<SegmentAccess>;

struct TestRun {
  std::uint64_t number = 0;
  Accesses accesses;
};

// The latest run first, up to one that writes all bytes of the access.
void follow(const std::vector<TestRun>& runs, const SegmentAccess& access,
            std::set<std::uint64_t>& followed) {
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    bool covers = false;
    for (const SegmentAccess& earlier : run->accesses) {
      if (earlier.segment != access.segment || !(earlier.writes || access.writes) ||
          !ranges_overlap(earlier.offset, earlier.bytes, access.offset, access.bytes)) {
        continue;
      }
      followed.insert(run->number);
      covers = covers || (earlier.writes && earlier.offset <= access.offset &&
                          access.offset + access.bytes <= earlier.offset + earlier.bytes);
    }
    if (covers) return;
  }
}

std::set<std::uint64_t> found_by(const AccessIndex& index, const Accesses& accesses) {
  std::vector<std::uint64_t> runs;
  EXPECT_LT(index.find_conflicts(accesses, runs), AccessIndex::kStepsMax);
  return {runs.begin(), runs.end()};
}

// Runs that come and go, of few accesses or many, crowded or not, of like sizes or not.
class RunMaker {
 public:
  explicit RunMaker(std::uint64_t seed) : random_(seed) {
    segments_ = pick(1, 3);
    room_ = std::uint64_t{1} << pick(4, 14);
    size_bits_max_ = pick(0, 12);
    accesses_max_ = pick(0, 3) == 0 ? 150 : pick(1, 12);
    writes_percent_ = pick(0, 100);
  }
  Accesses accesses() {
    Accesses made(pick(0, accesses_max_));
    for (SegmentAccess& access : made) {
      access.segment = static_cast<std::uint32_t>(pick(1, segments_));
      access.offset = pick(0, room_);
      access.bytes = pick(0, std::uint64_t{1} << pick(0, size_bits_max_));
      access.writes = pick(1, 100) <= writes_percent_;
    }
    return made;
  }
  std::uint64_t pick(std::uint64_t least, std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(least, most)(random_);
  }

 private:
  std::mt19937_64 random_;
  std::uint64_t segments_;
  std::uint64_t room_;
  std::uint64_t size_bits_max_;
  std::uint64_t accesses_max_;
  std::uint64_t writes_percent_;
};

void check_seed(std::uint64_t seed) {
  RunMaker maker(seed);
  AccessIndex index;
  std::vector<TestRun> runs;
  std::uint64_t number = 0;
  for (int step = 0; step < 60; ++step) {
    const Accesses accesses = maker.accesses();
    std::set<std::uint64_t> expected;
    for (const SegmentAccess& access : accesses) follow(runs, access, expected);
    ASSERT_EQ(found_by(index, accesses), expected);
    number += maker.pick(1, 1000);
    runs.push_back({number, accesses});
    index.add(number, accesses);
    // Most end in their order.
    while (!runs.empty() && maker.pick(0, 2) == 0) {
      const std::size_t which = maker.pick(0, 3) == 0 ? maker.pick(0, runs.size() - 1) : 0;
      index.remove(runs[which].number, runs[which].accesses);
      runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(which));
    }
  }
  for (const TestRun& run : runs) index.remove(run.number, run.accesses);
  EXPECT_TRUE(index.empty());
}

TEST(AccessIndex, FindsWhatComparingAllWithAllFinds) {
  const char* given = std::getenv("KAAS_TEST_SEED");
  const std::uint64_t first =
      given == nullptr ? std::random_device{}() : std::strtoull(given, nullptr, 10);
  const std::uint64_t last = given == nullptr ? first + 400 : first;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    check_seed(seed);
    ASSERT_FALSE(testing::Test::HasFailure()) << "KAAS_TEST_SEED=" << seed;
  }
}

Accesses row_of(std::size_t count, std::uint64_t offset, bool writes) {
  Accesses row;
  for (std::size_t i = 0; i < count; ++i) row.push_back({1, offset + i * 64, 64, writes});
  return row;
}

// Steps that it takes to find what `count` accesses have to follow behind `runs` runs of as many.
std::size_t steps_of(std::size_t runs, std::size_t count, bool writes, std::uint64_t shift) {
  AccessIndex index;
  for (std::size_t n = 0; n < runs; ++n) {
    index.add(n + 1, row_of(count, n * shift, writes));
  }
  std::vector<std::uint64_t> found;
  const std::size_t steps = index.find_conflicts(row_of(count, runs * shift, writes), found);
  EXPECT_LT(steps, AccessIndex::kStepsMax);
  return steps;
}

TEST(AccessIndex, StepsGrowWithTheAccessesOfTheRequestAlone) {
  for (const std::uint64_t shift : {0, 16, 1 << 20}) {
    for (const bool writes : {true, false}) {
      const std::size_t steps = steps_of(100, 2000, writes, shift);
      EXPECT_LT(steps, 30u * 2000) << shift << " " << writes;
      EXPECT_LE(steps_of(200, 2000, writes, shift), steps + steps / 10) << shift << " " << writes;
    }
  }
}

TEST(AccessIndex, RunsThatNobodyHasToFollowAreNotLookedAt) {
  AccessIndex index;
  for (std::uint64_t n = 1; n <= 1000; ++n) index.add(n, row_of(200, 0, false));
  std::vector<std::uint64_t> found;
  EXPECT_LT(index.find_conflicts(row_of(200, 0, false), found), 200u * 10);
  EXPECT_TRUE(found.empty());
}

// Ranges of one run that overlap by the thousand.
TEST(AccessIndex, SearchGivesUpWhenTooMuchOverlaps) {
  Accesses crowded;
  for (std::uint64_t i = 0; i < 8192; ++i) crowded.push_back({1, i, 8192, true});
  AccessIndex index;
  index.add(1, crowded);
  for (SegmentAccess& access : crowded) access.bytes = 8193;
  std::vector<std::uint64_t> found;
  EXPECT_EQ(index.find_conflicts(crowded, found), AccessIndex::kStepsMax);
  EXPECT_LT(found.size(), 10'000u);
}

TEST(AccessIndex, RunsFoundManyTimesAreKeptOnce) {
  AccessIndex index;
  for (std::uint64_t n = 1; n <= 100; ++n) index.add(n, row_of(2000, 0, false));
  std::vector<std::uint64_t> found;
  EXPECT_LT(index.find_conflicts(row_of(2000, 0, true), found), AccessIndex::kStepsMax);
  EXPECT_LT(found.size(), 3'000u);
}

}  // namespace
}  // namespace kaas
