#include "daemon/store/budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

namespace kaas {
namespace {

// A machine whose figures the test sets.
struct FakeMachine {
  MemoryReading reading{1u << 20, 1u << 30, "test memory"};
  bool fails = false;
  int reads = 0;
};

class FakeSource final : public MemorySource {
 public:
  explicit FakeSource(FakeMachine& machine) : machine_(machine) {}
  Result<MemoryReading> read() override {
    ++machine_.reads;
    if (machine_.fails) return Status{StatusCode::Internal, "no figures"};
    return machine_.reading;
  }

 private:
  FakeMachine& machine_;
};

ByteBudget::Options on(FakeMachine& machine, std::optional<std::uint64_t> limit = std::nullopt,
                       std::uint64_t reread_ns = 0) {
  return ByteBudget::Options{limit, std::make_unique<FakeSource>(machine), reread_ns};
}

TEST(ByteBudget, GivesUpToTheLimitAndRefusesWithBothNumbers) {
  ByteBudget budget({.limit_bytes = 64u << 10, .source = nullptr});
  Result<Reservation> first = budget.reserve(40'000, "arena");
  ASSERT_TRUE(first);
  EXPECT_EQ(budget.used_bytes(), 40'960u);  // Whole pages.
  const Result<Reservation> second = budget.reserve(30'000, "object 'x'");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, StatusCode::ResourceExhausted);
  EXPECT_EQ(second.error().message,
            "object 'x' of 30000 bytes does not fit: used 40960 of limit 65536 (configured)");
  EXPECT_EQ(budget.used_bytes(), 40'960u);
  EXPECT_TRUE(budget.reserve(24'576, "the rest"));
}

TEST(ByteBudget, SizesNearTheEndOfTheRangeDoNotWrap) {
  ByteBudget budget({.limit_bytes = 1u << 20, .source = nullptr});
  const Result<Reservation> held = budget.reserve(8192, "a");
  for (const std::uint64_t bytes :
       {std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max() - 4096,
        std::numeric_limits<std::uint64_t>::max() - 8191}) {
    EXPECT_FALSE(budget.reserve(bytes, "b")) << bytes;
  }
  EXPECT_EQ(budget.used_bytes(), 8192u);
}

TEST(ByteBudget, ReservationMovesShrinksAbsorbsAndReturnsItsBytes) {
  ByteBudget budget({.limit_bytes = 1u << 20, .source = nullptr});
  Reservation held;
  {
    Reservation made = *budget.reserve(5 * 4096, "a");
    held = std::move(made);
  }
  EXPECT_EQ(budget.used_bytes(), 5 * 4096u);
  held.shrink_to(4097);
  EXPECT_EQ(held.bytes(), 2 * 4096u);
  EXPECT_EQ(budget.used_bytes(), 2 * 4096u);
  held.absorb(*budget.reserve(4096, "b"));
  EXPECT_EQ(held.bytes(), 3 * 4096u);
  held = Reservation();
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(ByteBudget, AutomaticLimitIsAShareOfTheMachineOrWhatIsFree) {
  FakeMachine machine;
  machine.reading = {100u << 20, 16u << 20, "test memory"};
  ByteBudget budget(on(machine));
  EXPECT_EQ(budget.limit().bytes, 12u << 20);
  EXPECT_EQ(budget.limit().bound, "3/4 of the memory");
  machine.reading.headroom_bytes = 1u << 20;
  EXPECT_EQ(budget.limit().bytes, 1u << 20);
  EXPECT_EQ(budget.limit().bound, "test memory");
}

TEST(ByteBudget, ConfiguredLimitDoesNotPromiseMoreThanTheMachineHas) {
  FakeMachine machine;
  machine.reading = {1u << 20, 16u << 20, "test memory"};
  ByteBudget budget(on(machine, 8u << 20));
  EXPECT_EQ(budget.limit().bytes, 1u << 20);
  machine.reading.headroom_bytes = 100u << 20;
  EXPECT_EQ(budget.limit().bytes, 8u << 20);
  EXPECT_EQ(budget.limit().bound, "configured");
}

TEST(ByteBudget, PagesThatExistAreCountedOnce) {
  FakeMachine machine;
  machine.reading = {10u << 20, 1u << 30, "test memory"};
  ByteBudget budget(on(machine));
  Reservation held = *budget.reserve(6u << 20, "a");
  // Reserved but not yet there: it still has to come out of the headroom.
  EXPECT_FALSE(budget.reserve(5u << 20, "b"));
  // Touched: the machine now has 6 MiB less, and the budget knows whose they are.
  held.mark_touched();
  machine.reading.headroom_bytes = 4u << 20;
  EXPECT_EQ(budget.limit().bytes, 10u << 20);
  EXPECT_TRUE(budget.reserve(4u << 20, "c"));
  EXPECT_FALSE(budget.reserve(5u << 20, "d"));
  // Somebody else takes memory: what is promised shrinks with it.
  machine.reading.headroom_bytes = 1u << 20;
  EXPECT_FALSE(budget.reserve(2u << 20, "e"));
  EXPECT_TRUE(budget.reserve(1u << 20, "f"));
}

TEST(ByteBudget, TouchedBytesLeaveWithTheReservation) {
  FakeMachine machine;
  machine.reading = {8u << 20, 1u << 30, "test memory"};
  ByteBudget budget(on(machine));
  {
    Reservation held = *budget.reserve(4u << 20, "a");
    held.mark_touched(1u << 20);
    held.mark_touched(100);  // Never less than before.
    EXPECT_EQ(budget.limit().bytes, 9u << 20);
    Reservation moved = std::move(held);
    moved.shrink_to(512u << 10);
    EXPECT_EQ(budget.limit().bytes, (8u << 20) + (512u << 10));
  }
  EXPECT_EQ(budget.limit().bytes, 8u << 20);
}

TEST(ByteBudget, SourceIsReadAtMostOncePerInterval) {
  FakeMachine machine;
  ByteBudget budget(on(machine, std::nullopt, 3'600'000'000'000));
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(budget.reserve(4096, "a"));
  EXPECT_EQ(machine.reads, 1);
}

TEST(ByteBudget, ExistingMemoryIsTakenWithoutReadingTheSourceUnlessItSeemsNotToFit) {
  FakeMachine machine;
  ByteBudget budget(on(machine));
  const int reads = machine.reads;
  const Result<Reservation> first = budget.reserve_existing(4096, "a");
  EXPECT_TRUE(first);
  EXPECT_EQ(machine.reads, reads);
  machine.reading.headroom_bytes *= 2;
  machine.reading.total_bytes *= 2;
  EXPECT_TRUE(budget.reserve_existing(1'500u << 10, "b"));  // Fits what the machine has by now.
  EXPECT_GT(machine.reads, reads);
  EXPECT_FALSE(budget.reserve_existing(1u << 30, "c"));
}

TEST(ByteBudget, WaitsForWhatIsBeingGivenBackBeforeItRefuses) {
  ByteBudget budget({.limit_bytes = 64u << 10, .source = nullptr});
  Result<Reservation> held = budget.reserve(64u << 10, "a");
  ASSERT_TRUE(held);
  int asked = 0;
  budget.set_last_resort([&] {
    ++asked;
    *held = Reservation();
  });
  EXPECT_TRUE(budget.reserve(32u << 10, "b"));
  EXPECT_EQ(asked, 1);
}

TEST(ByteBudget, KeepsItsLastLimitWhenTheSourceFails) {
  FakeMachine machine;
  ByteBudget budget(on(machine));
  machine.fails = true;
  EXPECT_EQ(budget.limit().bytes, 1u << 20);
  EXPECT_TRUE(budget.reserve(4096, "a"));
}

TEST(ByteBudget, WithoutAnyFigureItRefusesAndSaysWhatToDo) {
  FakeMachine machine;
  machine.fails = true;
  ByteBudget budget(on(machine));
  const Result<Reservation> refused = budget.reserve(1, "a");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("configure a limit"), std::string::npos);
}

TEST(ByteBudget, ThreadsNeverTakeMoreThanTheLimit) {
  constexpr std::uint64_t kLimit = 64 * 4096;
  ByteBudget budget({.limit_bytes = kLimit, .source = nullptr});
  std::atomic<std::uint64_t> held{0};
  std::atomic<int> refusals{0};
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        std::vector<Reservation> mine;
        for (int i = 0; i < 5000; ++i) {
          Result<Reservation> got = budget.reserve(4096, "a");
          if (got) {
            EXPECT_LE(held.fetch_add(4096) + 4096, kLimit);
            mine.push_back(*std::move(got));
          } else {
            refusals.fetch_add(1);
          }
          if (!got || mine.size() == 30) {
            held.fetch_sub(4096 * mine.size());
            mine.clear();
          }
        }
        held.fetch_sub(4096 * mine.size());
      });
    }
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

}  // namespace
}  // namespace kaas
