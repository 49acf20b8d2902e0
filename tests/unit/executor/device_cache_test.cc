#include "daemon/executor/cache/device_cache.h"

#include <gtest/gtest.h>

#include "tests/support/fake_device.h"

namespace kaas {
namespace {

constexpr std::uint32_t kTenant = 1;

class DeviceCacheTest : public testing::Test {
 protected:
  BlockRef take(std::uint64_t bytes, std::uint32_t tenant = kTenant) {
    auto taken = cache_.allocate(bytes, tenant);
    EXPECT_TRUE(taken.has_value());
    return taken ? taken->block : BlockRef();
  }
  void insert(std::uint64_t version, std::uint64_t bytes, std::uint64_t offset = 0) {
    cache_.insert({version, offset, bytes}, take(bytes), 0);
  }

  FakeDevice device_{FakeDevice::Options{.memory_bytes = 4096}};
  DeviceCache cache_{device_, 4096};
};

TEST_F(DeviceCacheTest, CoversRangesOfTheSameVersionOnly) {
  insert(5, 512, 256);
  EXPECT_TRUE(cache_.find({5, 256, 512}));
  EXPECT_TRUE(cache_.find({5, 300, 4}));
  EXPECT_TRUE(cache_.find({5, 764, 4}));
  EXPECT_FALSE(cache_.find({5, 766, 4}));
  EXPECT_FALSE(cache_.find({5, 252, 8}));
  EXPECT_FALSE(cache_.find({6, 256, 512}));
  EXPECT_FALSE(cache_.find({5, 256, ~std::uint64_t{0}}));
}

TEST_F(DeviceCacheTest, LongestUnusedIsEvictedFirst) {
  insert(1, 1024);
  insert(2, 1024);
  insert(3, 1024);
  insert(4, 1024);
  EXPECT_TRUE(cache_.find({1, 0, 1024}));  // Used now, so version 2 is the oldest.
  const BlockRef block = take(1024);
  EXPECT_TRUE(cache_.find({1, 0, 1024}));
  EXPECT_FALSE(cache_.find({2, 0, 1024}));
  EXPECT_EQ(cache_.figures().evictions, 1u);
  EXPECT_EQ(cache_.figures().evicted_bytes, 1024u);
}

TEST_F(DeviceCacheTest, PinnedCopiesAreNotEvictedAndTheErrorHasTheNumbers) {
  insert(1, 2048);
  insert(2, 2048);
  const CachePin first = cache_.find({1, 0, 2048});
  const CachePin second = cache_.find({2, 0, 2048});
  const auto refused = cache_.allocate(256, kTenant);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, StatusCode::OutOfMemory);
  EXPECT_EQ(refused.error().message, "allocation of 256 bytes, device limit 4096, in use 4096");
  EXPECT_EQ(cache_.figures().evictions, 0u);
}

TEST_F(DeviceCacheTest, ResidentCopiesStayUntilTheirVersionIsDropped) {
  {
    const CachePin pin = cache_.expect({9, 0, 4096}, 1);
    cache_.settle(*pin, take(4096), 0, true);
  }
  EXPECT_FALSE(cache_.allocate(256, kTenant).has_value());
  cache_.drop(9);
  EXPECT_TRUE(cache_.allocate(256, kTenant).has_value());
}

TEST_F(DeviceCacheTest, DroppedVersionStaysForThoseWhoHoldIt) {
  insert(1, 512);
  CachePin pin = cache_.find({1, 0, 512});
  cache_.drop(1);
  EXPECT_FALSE(cache_.find({1, 0, 512}));
  EXPECT_EQ(cache_.pool().used_bytes(), 512u);
  EXPECT_NE(pin->address(), 0u);
  pin = CachePin();
  EXPECT_EQ(cache_.pool().used_bytes(), 0u);
}

TEST_F(DeviceCacheTest, PendingPartsArePinnedAndSettle) {
  CachePin low = cache_.expect({3, 0, 256}, 41);
  CachePin high = cache_.expect({3, 256, 256}, 42);
  const auto parts = cache_.find_parts({3, 128, 256});
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0]->state(), CacheEntry::State::Pending);
  EXPECT_EQ(parts[1]->producer(), 42u);
  EXPECT_FALSE(cache_.find({3, 0, 256}));
  cache_.settle(*low, take(256), 0, false);
  cache_.fail(*high);
  EXPECT_EQ(parts[0]->state(), CacheEntry::State::Ready);
  EXPECT_EQ(parts[1]->state(), CacheEntry::State::Failed);
  EXPECT_TRUE(cache_.find({3, 0, 256}));
  EXPECT_TRUE(cache_.find_parts({3, 512, 8}).empty());
}

TEST_F(DeviceCacheTest, FailedVersionIsFoundWhateverTheRange) {
  cache_.fail_version(8);
  const auto parts = cache_.find_parts({8, 1u << 30, 16});
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0]->state(), CacheEntry::State::Failed);
}

TEST_F(DeviceCacheTest, FailedVersionsThatNobodyDropsAreForgottenInTheEnd) {
  for (std::uint64_t version = 1; version <= 70'000; ++version) cache_.fail_version(version);
  EXPECT_LE(cache_.figures().entries, 65'536u);
  EXPECT_TRUE(cache_.find_parts({1, 0, 1}).empty());
  EXPECT_FALSE(cache_.find_parts({70'000, 0, 1}).empty());
}

TEST_F(DeviceCacheTest, ReplacedEntryLivesAsLongAsItsPins) {
  insert(4, 256);
  const CachePin old = cache_.find({4, 0, 256});
  const DeviceAddress old_address = old->address();
  CachePin fresh = cache_.expect({4, 0, 256}, 1);
  cache_.settle(*fresh, take(256), 0, false);
  EXPECT_EQ(old->address(), old_address);
  EXPECT_NE(cache_.find({4, 0, 256})->address(), old_address);
}

TEST_F(DeviceCacheTest, TwoEntriesMayShareABlock) {
  {
    const BlockRef block = take(512);
    cache_.insert({1, 0, 256}, block, 0);
    cache_.insert({2, 0, 256}, block, 256);
  }
  EXPECT_EQ(cache_.find({2, 0, 256})->address(), cache_.find({1, 0, 256})->address() + 256);
  cache_.drop(1);
  EXPECT_EQ(cache_.pool().used_bytes(), 512u);
  cache_.drop(2);
  EXPECT_EQ(cache_.pool().used_bytes(), 0u);
}

TEST_F(DeviceCacheTest, FreedMemoryIsReusedAndKnowsItsTenant) {
  take(512, 1);
  EXPECT_EQ(device_.allocations(), 1u);
  auto same = cache_.allocate(500, 1);
  ASSERT_TRUE(same.has_value());
  EXPECT_FALSE(same->foreign);
  EXPECT_EQ(device_.allocations(), 1u);
  same->block = BlockRef();
  const auto other = cache_.allocate(512, 2);
  ASSERT_TRUE(other.has_value());
  EXPECT_TRUE(other->foreign);
}

TEST_F(DeviceCacheTest, FreshMemoryIsForeignToEveryone) {
  EXPECT_TRUE(cache_.allocate(256, 0)->foreign);
}

TEST_F(DeviceCacheTest, IdleMemoryOfOtherSizesMakesRoom) {
  {
    std::vector<BlockRef> small;
    for (int i = 0; i < 16; ++i) small.push_back(take(256));
  }
  EXPECT_EQ(cache_.pool().idle_bytes(), 4096u);
  EXPECT_TRUE(cache_.allocate(4096, kTenant).has_value());
  EXPECT_EQ(device_.allocations(), 1u);
}

TEST_F(DeviceCacheTest, RefusalOfTheDeviceEvictsBeforeItFails) {
  insert(1, 1024);
  device_.fail_allocation(1);
  EXPECT_TRUE(cache_.allocate(2048, kTenant).has_value());
  EXPECT_FALSE(cache_.find({1, 0, 1024}));
}

}  // namespace
}  // namespace kaas
