#include "client/src/arena.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace kaas {
namespace {

TEST(Arena, PiecesAreAlignedAndDoNotOverlap) {
  Arena arena(4096);
  const auto first = arena.allocate(1);
  const auto second = arena.allocate(300);
  const auto third = arena.allocate(256);
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(*first, 0u);
  EXPECT_EQ(*second, 256u);
  EXPECT_EQ(*third, 768u);
}

TEST(Arena, IsFullWhenNoPieceIsLargeEnough) {
  Arena arena(1024);
  EXPECT_FALSE(arena.allocate(1025));
  ASSERT_TRUE(arena.allocate(1024));
  EXPECT_FALSE(arena.allocate(1));
}

TEST(Arena, ALastPieceThatIsNotAMultipleOfTheAlignmentCanBeUsedWhole) {
  Arena arena(300);
  ASSERT_TRUE(arena.allocate(256));
  const auto tail = arena.allocate(44);
  ASSERT_TRUE(tail);
  EXPECT_EQ(*tail, 256u);
  arena.give_back(256, 44);
  arena.give_back(0, 256);
  EXPECT_TRUE(arena.empty());
}

TEST(Arena, NeighboursThatAreGivenBackBecomeOnePieceInAnyOrder) {
  Arena arena(1024);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(arena.allocate(256));
  for (const std::uint64_t offset : {256u, 768u, 0u, 512u}) arena.give_back(offset, 256);
  EXPECT_TRUE(arena.empty());
  EXPECT_TRUE(arena.allocate(1024));
}

TEST(Arena, RandomUseNeverHandsOutAByteTwice) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  constexpr std::uint64_t kBytes = 65'536 + 100;
  Arena arena(kBytes);
  std::vector<bool> used(kBytes, false);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces;
  for (int i = 0; i < 20'000; ++i) {
    if (random() % 2 == 0 || pieces.empty()) {
      const std::uint64_t bytes = 1 + random() % 5000;
      const auto offset = arena.allocate(bytes);
      if (!offset) continue;
      ASSERT_LE(*offset + bytes, kBytes);
      for (std::uint64_t at = *offset; at < *offset + bytes; ++at) {
        ASSERT_FALSE(used[at]);
        used[at] = true;
      }
      pieces.emplace_back(*offset, bytes);
    } else {
      const std::size_t chosen = random() % pieces.size();
      const auto [offset, bytes] = pieces[chosen];
      for (std::uint64_t at = offset; at < offset + bytes; ++at) used[at] = false;
      arena.give_back(offset, bytes);
      pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
  }
  for (const auto& [offset, bytes] : pieces) arena.give_back(offset, bytes);
  EXPECT_TRUE(arena.empty());
}

}  // namespace
}  // namespace kaas
