// The ring between two threads that fall asleep and wake one another. Every wait has a long limit,
// which a lost wake-up runs into.
#include <poll.h>
#include <sched.h>

#include <random>
#include <thread>

#include "schema/ipc/clock.h"
#include "schema/ipc/doorbell.h"
#include "tests/unit/ipc/ring_pair.h"

namespace kaas {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint32_t kMessages = 40'000;
#else
constexpr std::uint32_t kMessages = 400'000;
#endif
constexpr std::uint64_t kLostNs = 5'000'000'000;

// How B sleeps and A wakes it.
struct FutexWay {
  bool await_wake(const RingHeader& of_a, std::uint32_t word) {
    const std::uint64_t begin = now_ns();
    futex_wait(of_a.wake_word, word, kLostNs);
    return now_ns() - begin < kLostNs;
  }
  void wake(RingHeader& of_a) {
    of_a.wake_word.fetch_add(1, std::memory_order_release);
    futex_wake_all(of_a.wake_word);
  }
};

struct DoorbellWay {
  DoorbellWay() : ends(*Doorbell::create_pair()) {}
  bool await_wake(const RingHeader&, std::uint32_t) {
    pollfd waiting{ends.second.descriptor(), POLLIN, 0};
    const bool rung = ::poll(&waiting, 1, static_cast<int>(kLostNs / 1'000'000)) > 0;
    ends.second.clear();
    return rung;
  }
  void wake(RingHeader&) { ends.first.ring(); }
  std::pair<Doorbell, Doorbell> ends;
};

void pause(std::mt19937& random) {
  switch (random() % 16) {
    case 0:
      ::sched_yield();
      break;
    case 1:
      for (std::uint64_t n = random() % 2000; n > 0; --n)
        std::atomic_signal_fence(std::memory_order_seq_cst);
      break;
    default:
      break;
  }
}

template <class Way>
void write_all(RingPair& ring, Way& way) {
  std::mt19937 random(1);
  for (std::uint32_t n = 0; n < kMessages;) {
    std::uint32_t batch = 1 + random() % 4;
    while (batch-- > 0 && n < kMessages) {
      const std::size_t bytes = n % 7 == 0 ? 500 : 16;
      if (!ring.write(bytes, n)) break;
      ++n;
    }
    if (ring.writer.wake_due()) way.wake(ring.a.header());
    // The reader may be behind: let it run.
    if (!ring.writer.can_write(500)) ::sched_yield();
    pause(random);
  }
}

// Returns how often it slept; 0 if a wake-up was lost.
template <class Way>
std::uint64_t read_all(RingPair& ring, Way& way) {
  std::mt19937 random(2);
  std::uint64_t sleeps = 0;
  for (std::uint32_t n = 0; n < kMessages;) {
    if (ring.look() == ReadOutcome::Message) {
      const auto wanted = RingPair::message(n % 7 == 0 ? 500 : 16, n);
      if (ring.seen.size() != wanted.size() ||
          std::memcmp(ring.seen.data(), wanted.data(), wanted.size()) != 0) {
        ADD_FAILURE() << "message " << n << " is another";
        return 0;
      }
      ring.reader.advance();
      ring.reader.publish();
      ++n;
      pause(random);
      continue;
    }
    announce_sleep(ring.b.header());
    const std::uint32_t word = ring.a.header().wake_word.load(std::memory_order_acquire);
    if (!ring.reader.waiting()) {
      ++sleeps;
      if (!way.await_wake(ring.a.header(), word)) {
        ADD_FAILURE() << "a wake-up was lost before message " << n;
        return 0;
      }
    }
    retract_sleep(ring.b.header());
  }
  return sleeps;
}

template <class Way>
class RingThreads : public testing::Test {};
using Ways = testing::Types<FutexWay, DoorbellWay>;
TYPED_TEST_SUITE(RingThreads, Ways);

TYPED_TEST(RingThreads, NoMessageAndNoWakeUpIsLost) {
  RingPair ring({16, 8192});
  TypeParam way;
  std::uint64_t sleeps = 0;
  std::thread reader([&] { sleeps = read_all(ring, way); });
  write_all(ring, way);
  reader.join();
  EXPECT_GT(sleeps, 0u) << "nobody ever slept: nothing was tested";
  EXPECT_TRUE(ring.writer.peer_is_sane());
}

// Ping-pong: each message is waited for, so every one goes over the edge of sleep.
TYPED_TEST(RingThreads, PingPongSleepsAtEveryTurn) {
  constexpr std::uint32_t kTurns = kMessages / 20;
  RingPair there;
  RingPair back;
  TypeParam there_way;
  TypeParam back_way;
  const auto take = [](RingPair& ring, TypeParam& way) {
    while (ring.look() != ReadOutcome::Message) {
      announce_sleep(ring.b.header());
      const std::uint32_t word = ring.a.header().wake_word.load(std::memory_order_acquire);
      const bool woken = ring.reader.waiting() || way.await_wake(ring.a.header(), word);
      retract_sleep(ring.b.header());
      if (!woken) return false;
    }
    ring.reader.advance();
    ring.reader.publish();
    return true;
  };
  const auto give = [](RingPair& ring, TypeParam& way, std::uint32_t n) {
    if (!ring.write(8, n)) return false;
    if (ring.writer.wake_due()) way.wake(ring.a.header());
    return true;
  };
  std::thread peer([&] {
    for (std::uint32_t n = 0; n < kTurns; ++n) {
      ASSERT_TRUE(take(there, there_way)) << "lost at " << n;
      ASSERT_TRUE(give(back, back_way, n));
    }
  });
  for (std::uint32_t n = 0; n < kTurns; ++n) {
    ASSERT_TRUE(give(there, there_way, n));
    ASSERT_TRUE(take(back, back_way)) << "lost at " << n;
  }
  peer.join();
}

}  // namespace
}  // namespace kaas
