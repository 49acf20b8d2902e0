#include "daemon/flow/segments.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "schema/limits.h"

namespace kaas {
namespace {

Segment arena_of(std::uint64_t session) {
  Segment segment;
  segment.descriptor = Descriptor(::memfd_create("arena", MFD_CLOEXEC));
  segment.bytes = 4096;
  segment.session = session;
  segment.writable = true;
  return segment;
}

TEST(SegmentRegistry, NumbersStartAboveTheReservedOnesAndAreNotReused) {
  SegmentRegistry registry(nullptr);
  SegmentRef first = registry.add(arena_of(1));
  EXPECT_EQ(first->id, kFirstSegment);
  first.reset();
  EXPECT_EQ(registry.add(arena_of(1))->id, kFirstSegment + 1);
  EXPECT_EQ(registry.alive(), 0u);
}

TEST(SegmentRegistry, ReservedNumberIsNobodyElsesUntilItIsGivenUp) {
  std::vector<std::uint32_t> released;
  SegmentRegistry registry([&](std::uint32_t id) { released.push_back(id); });
  SegmentNumber number = registry.reserve();
  const std::uint32_t id = number.id();
  EXPECT_NE(registry.add(Segment())->id, id);
  EXPECT_EQ(registry.find(id), nullptr);
  SegmentRef made = registry.add(Segment(), std::move(number));
  EXPECT_EQ(made->id, id);
  EXPECT_EQ(registry.find(id), made);
  made.reset();
  EXPECT_EQ(released.back(), id);
  released.clear();
  {
    const SegmentNumber unused = registry.reserve();
    EXPECT_EQ(registry.alive(), 1u);
  }
  EXPECT_EQ(registry.alive(), 0u);
  EXPECT_TRUE(released.empty()) << "there was no segment";
}

TEST(SegmentRegistry, FindGivesLivingSegmentsOnly) {
  SegmentRegistry registry(nullptr);
  SegmentRef segment = registry.add(arena_of(7));
  const std::uint32_t id = segment->id;
  EXPECT_EQ(registry.find(id), segment);
  EXPECT_EQ(registry.find(id)->session, 7u);
  EXPECT_EQ(registry.find(id + 1), nullptr);
  segment.reset();
  EXPECT_EQ(registry.find(id), nullptr);
}

TEST(SegmentRegistry, ListenerIsToldOnceAndAfterTheDescriptorIsClosed) {
  int descriptor = -1;
  std::vector<std::uint32_t> told;
  SegmentRegistry registry([&](std::uint32_t id) {
    told.push_back(id);
    EXPECT_EQ(::fcntl(descriptor, F_GETFD), -1);
  });
  SegmentRef one = registry.add(arena_of(1));
  SegmentRef other = one;
  const std::uint32_t id = one->id;
  descriptor = one->descriptor.get();
  one.reset();
  EXPECT_TRUE(told.empty());
  other.reset();
  EXPECT_EQ(told, std::vector<std::uint32_t>{id});
}

TEST(SegmentRegistry, ChargeLivesAsLongAsTheSegment) {
  SegmentRegistry registry(nullptr);
  auto charge = std::make_shared<int>(1);
  Segment segment = arena_of(1);
  segment.charge = charge;
  SegmentRef held = registry.add(std::move(segment));
  EXPECT_EQ(charge.use_count(), 2);
  held.reset();
  EXPECT_EQ(charge.use_count(), 1);
}

TEST(SegmentRegistry, LargeSegmentsAreClosedElsewhereBeforeTheirChargeIsGivenBack) {
  Closer closer;
  SegmentRegistry registry(nullptr, &closer);
  Segment segment = arena_of(1);
  segment.bytes = 1u << 20;
  const int descriptor = segment.descriptor.get();
  std::atomic<int> open_at_the_end{-1};
  segment.charge = std::shared_ptr<const void>(
      &descriptor, [&](const void*) { open_at_the_end = ::fcntl(descriptor, F_GETFD); });
  SegmentRef held = registry.add(std::move(segment));
  held.reset();
  closer.drain();
  EXPECT_EQ(open_at_the_end, -1);
  EXPECT_EQ(::fcntl(descriptor, F_GETFD), -1);
  EXPECT_EQ(registry.alive(), 0u);
}

TEST(SegmentRegistry, SegmentMayOutliveTheRegistry) {
  std::vector<std::uint32_t> told;
  SegmentRef segment;
  {
    SegmentRegistry registry([&told](std::uint32_t id) { told.push_back(id); });
    segment = registry.add(arena_of(1));
  }
  segment.reset();
  EXPECT_EQ(told.size(), 1u);
}

TEST(SegmentRegistry, ThreadsGetDistinctNumbersAndEachReleaseIsTold) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kEach = 500;
  std::atomic<std::size_t> told{0};
  SegmentRegistry registry([&told](std::uint32_t) { told.fetch_add(1); });
  std::vector<std::vector<std::uint32_t>> seen(kThreads);
  {
    std::vector<std::jthread> threads;
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&registry, &numbers = seen[thread]] {
        for (std::size_t i = 0; i < kEach; ++i) {
          const SegmentRef segment = registry.add(arena_of(i));
          EXPECT_EQ(registry.find(segment->id), segment);
          numbers.push_back(segment->id);
        }
      });
    }
  }
  std::set<std::uint32_t> distinct;
  for (const auto& numbers : seen) distinct.insert(numbers.begin(), numbers.end());
  EXPECT_EQ(distinct.size(), kThreads * kEach);
  EXPECT_EQ(told.load(), kThreads * kEach);
  EXPECT_EQ(registry.alive(), 0u);
}

}  // namespace
}  // namespace kaas
