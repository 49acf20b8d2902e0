// What happens when something runs out, and what large amounts cost.
#include <sys/stat.h>

#include <chrono>

#include "tests/support/descriptor_limit.h"
#include "tests/unit/store/store_fixture.h"

namespace kaas {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kManyObjects = 100'000;
#else
constexpr std::size_t kManyObjects = 1'000'000;
#endif

struct SmallBudget : StoreFixture {
  SmallBudget() : StoreFixture(1u << 20) {}
};

TEST_F(SmallBudget, FullStoreRefusesWithBothNumbersAndKeepsWhatItHas) {
  const Bytes kept = pattern(600'000, 1);
  put(kAlice, "kept", kept);
  const std::uint64_t used = budget.used_bytes();
  const std::size_t descriptors = open_descriptors();
  const Bytes large = pattern(600'000, 2);
  const auto refused = store.put_bytes(kAlice, "x", from(large));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, StatusCode::ResourceExhausted);
  EXPECT_EQ(refused.error().message, "object 'x' of 600000 bytes does not fit: used " +
                                         std::to_string(used) + " of limit 1048576 (configured)");
  EXPECT_FALSE(store.create_output(kAlice, "x", 600'000));
  EXPECT_FALSE(store.create_output(kAlice, "x", ~std::uint64_t{0}));
  EXPECT_FALSE(store.put_donated(kAlice, "x", donation(large), large.size()));
  EXPECT_EQ(budget.used_bytes(), used);
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ(store.usage().versions, 1u);
  EXPECT_EQ(contents(*store.lookup(kAlice, kAlice, "kept")), kept);
  EXPECT_TRUE(store.remove(kAlice, "kept"));
  EXPECT_TRUE(store.put_bytes(kAlice, "x", from(large)));
}

TEST_F(SmallBudget, FailedOverwriteKeepsTheOldVersion) {
  put(kAlice, "x", pattern(600'000, 1));
  EXPECT_FALSE(store.put_bytes(kAlice, "x", from(pattern(600'000, 2))));
  EXPECT_EQ(contents(*store.lookup(kAlice, kAlice, "x")), pattern(600'000, 1));
}

TEST_F(SmallBudget, CopyForAForeignExecutorIsChargedToo) {
  const VersionRef version = put(kAlice, "x", pattern(kSlabObjectBytesMax, 1));
  ASSERT_TRUE(store.readable_place(version, kCarol));
  put(kAlice, "rest", pattern((1u << 20) - 2 * kSlabChunkBytes, 1));
  const Result<BytesPlace> refused = store.readable_place(version, kBob);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, StatusCode::ResourceExhausted);
  EXPECT_TRUE(store.readable_place(version, kAlice));
  EXPECT_TRUE(store.readable_place(version, kCarol));  // Its copy is there already.
}

using StoreLimits = StoreFixture;

TEST_F(StoreLimits, OutOfDescriptorsIsARefusalThatNamesTheLimitAndLosesNothing) {
  const Bytes bytes = pattern(kLargeBytes, 1);
  const VersionRef output = *store.create_output(kAlice, "output", kLargeBytes);
  std::size_t made = 0;
  {
    const DescriptorLimit limit(64);
    Result<VersionRef> last = store.put_bytes(kAlice, "0", from(bytes));
    while (last) last = store.put_bytes(kAlice, std::to_string(++made), from(bytes));
    ASSERT_GT(made, 10u);
    EXPECT_EQ(last.error().code, StatusCode::ResourceExhausted);
    EXPECT_NE(last.error().message.find("limit 64 (RLIMIT_NOFILE)"), std::string::npos)
        << last.error().message;
    // A small object of a new uid needs a slab.
    EXPECT_EQ(store.put_bytes(kBob, "x", from(pattern(8, 1))).error().code,
              StatusCode::ResourceExhausted);
    // What was promised before can still be kept.
    const OutputSlice all{0, kLargeBytes, from(bytes)};
    EXPECT_TRUE(store.settle(output, nullptr, {&all, 1}));
    EXPECT_TRUE(publish(kAlice, "output", output));
    EXPECT_TRUE(store.remove(kAlice, "0"));
    EXPECT_TRUE(store.remove(kAlice, "1"));
    EXPECT_TRUE(store.put_bytes(kAlice, "again", from(bytes)));
  }
  EXPECT_EQ(store.usage().objects, made);
  EXPECT_EQ(store.usage().versions, made);
  EXPECT_EQ(contents(*store.lookup(kAlice, kAlice, "2")), bytes);
  EXPECT_EQ(contents(*store.lookup(kAlice, kAlice, "output")), bytes);
}

TEST_F(StoreLimits, ManySmallObjectsCostFewDescriptors) {
  const std::size_t before = open_descriptors();
  const Bytes bytes = pattern(64, 1);
  for (std::size_t i = 0; i < kManyObjects; ++i) {
    ASSERT_TRUE(store.put_bytes(kAlice, std::to_string(i), from(bytes)));
  }
  const std::size_t slabs = (kManyObjects * 64 + kSlabBytes - 1) / kSlabBytes;
  EXPECT_EQ(open_descriptors(), before + slabs);
  EXPECT_EQ(store.usage(kAlice).objects, kManyObjects);
  EXPECT_EQ(store.list(kAlice, kAlice, "9999", "", 10).objects.size(), 10u);
}

TEST_F(StoreLimits, PutAndGetOfALargeDonatedObjectCopyNothing) {
  constexpr std::uint64_t kBytes = 256u << 20;
  Descriptor memory = *create_segment("client", kBytes);
  write_descriptor(memory.get(), kBytes - 5, pattern(5, 1));
  ASSERT_TRUE(add_seals(memory.get(), Seals::Write | Seals::Seal));
  const auto put = store.put_donated(kAlice, "x", std::move(memory), kBytes);
  ASSERT_TRUE(put) << to_string(put.error());
  const VersionRef got = *store.lookup(kAlice, kAlice, "x");
  const Mapping mapping =
      *Mapping::create(got->segment()->descriptor.get(), kBytes, Mapping::Mode::ReadOnly, "object");
  EXPECT_EQ(Bytes(mapping.data() + kBytes - 5, mapping.data() + kBytes), pattern(5, 1));
  // A copy would have filled the holes of the client's file, or of another.
  struct stat file {};
  ASSERT_EQ(::fstat(got->segment()->descriptor.get(), &file), 0);
  EXPECT_LE(file.st_blocks * 512, 2 << 20);
  EXPECT_EQ(store.readable_place(got, kBob)->segment, got->segment());
  EXPECT_EQ(budget.used_bytes(), kBytes);
}

}  // namespace
}  // namespace kaas
