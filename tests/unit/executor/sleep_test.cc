// What ends an executor's sleep: kaasd's doorbell, and the bells of lanes.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <optional>
#include <set>
#include <vector>

#include "daemon/executor/run/process.h"

namespace kaas {
namespace {

constexpr int kNow = 0;
constexpr int kPatienceMs = 10'000;

struct Bell {
  Bell() {
    auto ends = Doorbell::create_pair();
    KAAS_CHECK(ends.has_value());
    ours = std::move(ends->first);
    theirs = std::move(ends->second);
  }
  Doorbell ours;
  Doorbell theirs;
};

class ExecutorSleepTest : public testing::Test {
 protected:
  ExecutorSleepTest() {
    int ends[2];
    KAAS_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    socket_ = Descriptor(ends[0]);
    kaasd_socket_ = Descriptor(ends[1]);
    auto sleep = ExecutorSleep::create(kaasd_.ours.descriptor(), socket_.get());
    KAAS_CHECK(sleep.has_value());
    sleep_.emplace(*std::move(sleep));
  }
  // False: kaasd has hung up.
  bool wait(int timeout_ms = kNow) { return sleep_->wait(kaasd_.ours, timeout_ms); }
  [[nodiscard]] std::vector<std::uint32_t> rung() const {
    return {sleep_->rung_lanes().begin(), sleep_->rung_lanes().end()};
  }

  Bell kaasd_;
  Descriptor socket_;
  Descriptor kaasd_socket_;
  std::optional<ExecutorSleep> sleep_;
};

TEST_F(ExecutorSleepTest, BellEndsItUntilItIsCleared) {
  const Bell bell;
  ASSERT_TRUE(sleep_->listen(0xffff'ffffu, bell.ours.descriptor()));
  EXPECT_TRUE(wait());
  EXPECT_TRUE(rung().empty());
  bell.theirs.ring();
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(wait(kPatienceMs));
    EXPECT_EQ(rung(), (std::vector<std::uint32_t>{0xffff'ffffu}));
  }
  bell.ours.clear();
  EXPECT_TRUE(wait());
  EXPECT_TRUE(rung().empty());
}

TEST_F(ExecutorSleepTest, KaasdAndWorkersAreHeardBesideBellsThatNobodyClears) {
  std::vector<Bell> bells(40);
  for (std::uint32_t lane = 0; lane < bells.size(); ++lane) {
    ASSERT_TRUE(sleep_->listen(lane + 1, bells[lane].ours.descriptor()));
    bells[lane].theirs.ring();
  }
  std::set<std::uint32_t> heard;
  kaasd_.theirs = Doorbell();
  bool connected = true;
  for (int i = 0; i < 10; ++i) {
    connected = wait(kPatienceMs) && connected;
    for (const std::uint32_t lane : rung()) heard.insert(lane);
  }
  EXPECT_EQ(heard.size(), bells.size());
  EXPECT_FALSE(connected) << "kaasd has hung up";
}

TEST_F(ExecutorSleepTest, BellThatIsClosedIsNotKaasdsEnd) {
  Bell bell;
  ASSERT_TRUE(sleep_->listen(3, bell.ours.descriptor()));
  bell.theirs = Doorbell();
  EXPECT_TRUE(wait(kPatienceMs));
  EXPECT_EQ(rung(), (std::vector<std::uint32_t>{3}));
}

TEST_F(ExecutorSleepTest, IgnoredBellIsNotHeard) {
  const Bell bell;
  ASSERT_TRUE(sleep_->listen(3, bell.ours.descriptor()));
  bell.theirs.ring();
  sleep_->ignore(bell.ours.descriptor());
  EXPECT_TRUE(wait());
  EXPECT_TRUE(rung().empty());
  EXPECT_FALSE(sleep_->listen(3, -1));
}

TEST_F(ExecutorSleepTest, LaneBellIsHeardAsLongAsItLives) {
  Bell bell;
  SegmentTerms terms;
  terms.segment = 20;
  auto segment = ExecutorSegment::of_bell(terms, bell.ours.release());
  {
    auto heard = LaneBell::create(*sleep_, 5, segment);
    ASSERT_TRUE(heard);
    const LaneBell moved = *std::move(heard);
    bell.theirs.ring();
    EXPECT_TRUE(wait(kPatienceMs));
    EXPECT_EQ(rung(), (std::vector<std::uint32_t>{5}));
  }
  EXPECT_TRUE(wait());
  EXPECT_TRUE(rung().empty());
  auto again = LaneBell::create(*sleep_, 6, segment);
  ASSERT_TRUE(again);
  EXPECT_TRUE(wait(kPatienceMs));
  EXPECT_EQ(rung(), (std::vector<std::uint32_t>{6}));
  EXPECT_TRUE(again->rang());
  EXPECT_TRUE(wait());
  EXPECT_TRUE(rung().empty());
}

}  // namespace
}  // namespace kaas
