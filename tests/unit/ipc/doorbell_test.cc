#include "schema/ipc/doorbell.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <thread>
#include <vector>

#include "schema/ipc/clock.h"

namespace kaas {
namespace {

bool readable(const Doorbell& doorbell) {
  pollfd waiting{doorbell.descriptor(), POLLIN | POLLRDHUP, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

TEST(Doorbell, RingIsSeenOnceAndClearedWhole) {
  auto ends = Doorbell::create_pair();
  ASSERT_TRUE(ends.has_value());
  EXPECT_FALSE(readable(ends->second));
  for (int i = 0; i < 1000; ++i) ends->first.ring();
  EXPECT_TRUE(readable(ends->second));
  EXPECT_FALSE(readable(ends->first)) << "one's own ring does not wake oneself";
  EXPECT_TRUE(ends->second.clear());
  EXPECT_FALSE(readable(ends->second));
}

TEST(Doorbell, PeerThatNeverClearsDoesNotBlockWhoRings) {
  auto ends = Doorbell::create_pair();
  ASSERT_TRUE(ends.has_value());
  for (int i = 0; i < 1'000'000; ++i) {
    ends->first.ring();
    // Full once a ring adds nothing; going on would only take time.
    if (i % 1000 == 999) {
      const char byte = 1;
      if (::send(ends->first.descriptor(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break;
    }
  }
  const char byte = 1;
  ASSERT_LT(::send(ends->first.descriptor(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL), 0);
  ends->first.ring();
  EXPECT_TRUE(readable(ends->second));
  while (readable(ends->second)) ASSERT_TRUE(ends->second.clear());
  ends->first.ring();
  EXPECT_TRUE(readable(ends->second));
}

// The peer has the same open socket in its hands, with all of its flags.
TEST(Doorbell, PeerThatClearsNonBlockingModeDoesNotBlockClear) {
  auto ends = Doorbell::create_pair();
  ASSERT_TRUE(ends.has_value());
  ::fcntl(ends->second.descriptor(), F_SETFL, 0);
  EXPECT_TRUE(ends->second.clear());
}

TEST(Doorbell, PeerThatRingsOnAndOnDoesNotHoldWhoClears) {
  auto ends = Doorbell::create_pair();
  ASSERT_TRUE(ends.has_value());
  std::atomic<bool> cleared{false};
  std::atomic<bool> flooding{false};
  bool gave_up = false;
  std::thread flood([&] {
    const std::vector<char> bytes(64u << 10, 1);
    const std::uint64_t end = now_ns() + 5'000'000'000;
    while (!cleared.load() && !gave_up) {
      ::send(ends->first.descriptor(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      flooding = true;
      gave_up = now_ns() > end;
    }
  });
  while (!flooding.load()) {
  }
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(ends->second.clear());
  cleared = true;
  flood.join();
  EXPECT_FALSE(gave_up);
}

TEST(Doorbell, HangUpIsSeenBehindAsManyRingsAsFit) {
  auto ends = Doorbell::create_pair();
  ASSERT_TRUE(ends.has_value());
  const std::vector<char> bytes(4096, 1);
  while (::send(ends->first.descriptor(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >
         0) {
  }
  ends->first = Doorbell();
  EXPECT_FALSE(ends->second.clear());
}

TEST(Doorbell, HangUpIsSeenBySleeperAndHarmlessToRinger) {
  auto ends = Doorbell::create_pair();
  ASSERT_TRUE(ends.has_value());
  ends->first.ring();
  ends->first = Doorbell();
  EXPECT_TRUE(readable(ends->second));
  EXPECT_TRUE(ends->second.clear()) << "the last rings come first";
  EXPECT_TRUE(readable(ends->second));
  EXPECT_FALSE(ends->second.clear());
  ends->second.ring();  // No SIGPIPE.
}

TEST(Futex, ReturnsAtOnceWhenTheWordHasChanged) {
  std::atomic<std::uint32_t> word{5};
  const std::uint64_t begin = now_ns();
  futex_wait(word, 4, 10'000'000'000);
  EXPECT_LT(now_ns() - begin, 5'000'000'000u);
}

TEST(Futex, TimesOut) {
  std::atomic<std::uint32_t> word{5};
  const std::uint64_t begin = now_ns();
  futex_wait(word, 5, 2'000'000);
  EXPECT_GE(now_ns() - begin, 1'900'000u);
}

TEST(Futex, WakesASleeper) {
  std::atomic<std::uint32_t> word{0};
  std::thread sleeper([&] {
    while (word.load() == 0) futex_wait(word, 0, 10'000'000'000);
  });
  word.store(1);
  futex_wake_all(word);
  sleeper.join();
}

}  // namespace
}  // namespace kaas
