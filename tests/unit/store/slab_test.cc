#include "daemon/store/slab.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "tests/unit/store/store_fixture.h"

namespace kaas {
namespace {

struct SlabPoolTest : testing::Test {
  void TearDown() override {
    EXPECT_EQ(pool.usage().slabs, 0u);
    EXPECT_EQ(pool.usage().pieces, 0u);
    EXPECT_EQ(budget.used_bytes(), 0u);
    EXPECT_EQ(registry.alive(), 0u);
  }
  SlabPiece piece(uid_t uid, std::uint64_t bytes) {
    Result<SlabPiece> made = pool.allocate(uid, bytes, "object");
    EXPECT_TRUE(made) << to_string(made.error());
    return *std::move(made);
  }

  ByteBudget budget{ByteBudget::Options{16u << 20, nullptr}};
  SegmentRegistry registry{nullptr};
  SlabPool pool{budget, registry};
};

TEST_F(SlabPoolTest, PieceHoldsItsBytesWhereTheSegmentSaysSo) {
  SlabPiece held = piece(kAlice, 1000);
  const Bytes bytes = pattern(1000, 1);
  ASSERT_GE(held.bytes().size(), 1000u);
  std::memcpy(held.bytes().data(), bytes.data(), bytes.size());
  EXPECT_EQ(read_descriptor(held.segment()->descriptor.get(), held.offset(), 1000), bytes);
  EXPECT_EQ(held.segment()->kind, SegmentKind::Slab);
  EXPECT_EQ(held.segment()->owner_uid, kAlice);
  EXPECT_EQ(held.segment()->bytes, kSlabBytes);
}

TEST_F(SlabPoolTest, ReceiverOfASlabCanOnlyRead) {
  const SlabPiece held = piece(kAlice, 64);
  const int descriptor = held.segment()->descriptor.get();
  EXPECT_EQ(::mmap(nullptr, kSlabBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
            MAP_FAILED);
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  const Descriptor writable(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (writable) {
    EXPECT_EQ(::pwrite(writable.get(), "x", 1, 0), -1);
    EXPECT_EQ(::ftruncate(writable.get(), 0), -1);
    EXPECT_EQ(::mmap(nullptr, kSlabBytes, PROT_READ | PROT_WRITE, MAP_SHARED, writable.get(), 0),
              MAP_FAILED);
    EXPECT_EQ(::fallocate(writable.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  }
  EXPECT_TRUE(has_seals(seals_of(descriptor), Seals::Size | Seals::FutureWrite | Seals::Seal));
}

TEST_F(SlabPoolTest, UidsNeverShareASlab) {
  const SlabPiece alice = piece(kAlice, 64);
  const SlabPiece bob = piece(kBob, 64);
  EXPECT_NE(alice.segment()->id, bob.segment()->id);
  EXPECT_EQ(pool.usage().slabs, 2u);
}

TEST_F(SlabPoolTest, SizesMixInOneSlabAndTheBudgetIsChargedByChunks) {
  std::vector<SlabPiece> held;
  for (std::uint64_t bytes = kSlabPieceBytesMin; bytes <= kSlabObjectBytesMax; bytes *= 2) {
    held.push_back(piece(kAlice, bytes));
  }
  EXPECT_EQ(pool.usage().slabs, 1u);
  EXPECT_EQ(pool.usage().charged_bytes, held.size() * kSlabChunkBytes);
  EXPECT_EQ(budget.used_bytes(), held.size() * kSlabChunkBytes);
}

TEST_F(SlabPoolTest, EmptyChunkServesAnotherSizeWithoutANewCharge) {
  const SlabPiece keeps_the_slab = piece(kAlice, 64);
  { const SlabPiece gone = piece(kAlice, 64 << 10); }
  const std::uint64_t charged = pool.usage().charged_bytes;
  EXPECT_EQ(charged, 2 * kSlabChunkBytes);
  const SlabPiece other = piece(kAlice, 4096);
  EXPECT_EQ(pool.usage().charged_bytes, charged);
}

TEST_F(SlabPoolTest, RefusedPieceLeavesNothingBehind) {
  std::vector<SlabPiece> held;
  for (std::uint64_t i = 0; i < (16u << 20) / kSlabChunkBytes; ++i) {
    held.push_back(piece(kAlice, kSlabObjectBytesMax));
  }
  const SlabPool::Usage before = pool.usage();
  const Result<SlabPiece> refused = pool.allocate(kAlice, kSlabObjectBytesMax, "object 'x'");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, StatusCode::ResourceExhausted);
  EXPECT_NE(refused.error().message.find("object 'x'"), std::string::npos);
  EXPECT_FALSE(pool.allocate(kBob, 1, "another uid's"));
  EXPECT_EQ(pool.usage().slabs, before.slabs);
  EXPECT_EQ(pool.usage().pieces, before.pieces);
  held.pop_back();
  EXPECT_TRUE(pool.allocate(kAlice, kSlabObjectBytesMax, "object 'x'"));
}

TEST_F(SlabPoolTest, RandomPiecesNeverOverlap) {
  std::mt19937 random(7);
  struct Held {
    SlabPiece piece;
    Bytes bytes;
  };
  std::vector<Held> held;
  for (unsigned step = 0; step < 4000; ++step) {
    if (held.size() > 300 || (!held.empty() && random() % 3 == 0)) {
      const std::size_t index = random() % held.size();
      const auto found = held[index].piece.bytes().first(held[index].bytes.size());
      ASSERT_TRUE(std::equal(found.begin(), found.end(), held[index].bytes.begin()));
      std::swap(held[index], held.back());
      held.pop_back();
      continue;
    }
    const std::size_t bytes = 1 + random() % (std::size_t{1} << (random() % 15));
    Held made{piece(random() % 2 == 0 ? kAlice : kBob, bytes), pattern(bytes, step)};
    std::memcpy(made.piece.bytes().data(), made.bytes.data(), bytes);
    held.push_back(std::move(made));
  }
}

TEST_F(SlabPoolTest, ThreadsAllocateAndGiveBack) {
  std::vector<std::jthread> threads;
  for (unsigned thread = 0; thread < 4; ++thread) {
    threads.emplace_back([this, thread] {
      std::mt19937 random(thread);
      std::vector<SlabPiece> held;
      for (int step = 0; step < 3000; ++step) {
        const auto mark = static_cast<std::byte>(thread + 1);
        Result<SlabPiece> made = pool.allocate(kAlice + thread % 2, 1 + random() % 2000, "object");
        if (made) {
          std::fill(made->bytes().begin(), made->bytes().end(), mark);
          held.push_back(*std::move(made));
        }
        if (held.size() < 40) continue;
        for (const SlabPiece& mine : held) {
          ASSERT_TRUE(std::all_of(mine.bytes().begin(), mine.bytes().end(),
                                  [mark](std::byte byte) { return byte == mark; }));
        }
        held.clear();
      }
    });
  }
}

}  // namespace
}  // namespace kaas
