#include "daemon/executor/run/segments.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <numeric>
#include <vector>

#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

SegmentTerms terms(std::uint32_t id, std::uint64_t bytes) {
  SegmentTerms result;
  result.segment = id;
  result.bytes = bytes;
  return result;
}

TEST(ExecutorSegment, SealedSegmentIsMapped) {
  Descriptor memory = *create_segment("test", 8192);
  Descriptor copy = *duplicate(memory.get());
  SegmentTerms wanted = terms(16, 8192);
  wanted.writable = true;
  const auto segment = ExecutorSegment::create(wanted, std::move(copy));
  ASSERT_TRUE(segment.has_value()) << segment.error().message;
  (*segment)->mapped()[100] = std::byte{7};
  char byte = 0;
  ASSERT_EQ(::pread(memory.get(), &byte, 1, 100), 1);
  EXPECT_EQ(byte, 7);
}

TEST(ExecutorSegment, SegmentThatMayShrinkIsNotMapped) {
  Descriptor memory(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memory.get(), 4096), 0);
  const auto segment = ExecutorSegment::create(terms(16, 4096), std::move(memory));
  ASSERT_FALSE(segment.has_value());
  EXPECT_EQ(segment.error().message, "segment 16 is not sealed against shrinking");
}

TEST(ExecutorSegment, SegmentSmallerThanAnnouncedIsRefused) {
  const auto segment = ExecutorSegment::create(terms(16, 8192), *create_segment("test", 4096));
  ASSERT_FALSE(segment.has_value());
  EXPECT_EQ(segment.error().message, "segment 16 has 4096 bytes, announced 8192");
}

TEST(ExecutorSegment, SegmentOfNoOrTooManyBytesIsRefused) {
  EXPECT_FALSE(ExecutorSegment::create(terms(16, 0), *create_segment("test", 64)).has_value());
  const auto segment =
      ExecutorSegment::create(terms(16, ~std::uint64_t{0}), *create_segment("test", 64));
  EXPECT_FALSE(segment.has_value());
}

TEST(ExecutorSegment, GuardedSegmentThatShrinksIsAnErrorNotAFault) {
  Descriptor memory(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), 4096), 0);
  SegmentTerms wanted = terms(16, 4096);
  wanted.guarded = true;
  wanted.writable = true;
  const auto created = ExecutorSegment::create(wanted, *duplicate(memory.get()));
  ASSERT_TRUE(created.has_value());
  const ExecutorSegment& segment = **created;
  EXPECT_EQ(segment.mapped(), nullptr);
  std::vector<std::byte> bytes(128, std::byte{3});
  ASSERT_TRUE(segment.write(1000, bytes).has_value());
  std::vector<std::byte> read(128);
  ASSERT_TRUE(segment.read(1000, read).has_value());
  EXPECT_EQ(read, bytes);
  ASSERT_EQ(::ftruncate(memory.get(), 1050), 0);
  const auto short_read = segment.read(1000, read);
  ASSERT_FALSE(short_read.has_value());
  EXPECT_EQ(short_read.error().code, StatusCode::DataLost);
  EXPECT_EQ(short_read.error().message,
            "segment 16 ends at byte 1050, it was registered with 4096");
  EXPECT_FALSE(segment.write(1000, bytes).has_value());
  EXPECT_EQ(*segment_bytes_of(memory.get(), "test"), 1050u) << "it must not be made longer";
}

TEST(ExecutorSegments, UnknownSegmentIsLookedForInWhatHasArrived) {
  QueuedSegments source;
  FakeDevice device({});
  ExecutorSegments segments(source, device);
  EXPECT_EQ(segments.find(16).error().message, "segment 16 is not attached");
  std::vector<std::byte> memory(64);
  source.queue.push_back({16, ExecutorSegment::around(terms(16, 64), memory)});
  source.queue.push_back({17, Status{StatusCode::ResourceExhausted, "no room to map it"}});
  EXPECT_TRUE(segments.find(16).has_value());
  EXPECT_EQ(segments.find(17).error().message, "no room to map it");
  const auto held = *segments.find(16);
  segments.detach(16);
  EXPECT_FALSE(segments.find(16).has_value());
  EXPECT_EQ(held->mapped(), memory.data());
}

// A whole run through guarded memory, larger than one staging piece.
TEST(ExecutorSegments, RunReadsAndWritesGuardedSegments) {
  constexpr std::uint64_t kWords = 700'000;
  LoopHarness harness({.memory_bytes = 16u << 20});
  harness.load_library();
  TestPlan plan;
  plan.kernels[0].kernel = "add_one";
  plan.kernels[0].literals = {u64(kWords)};
  plan.kernels[0].arguments = {argument(0, kWords * 4, wire::Access::InOut)};
  plan.allocations = {kWords * 4};
  plan.loads = {wire::PlanRange(0, kWords * 4, 0, false)};
  plan.stores = {wire::PlanRange(0, kWords * 4, 0, false)};
  harness.load_plan(plan);
  harness.settle();

  Descriptor memory(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), kWords * 4), 0);
  std::vector<std::uint32_t> words(kWords);
  std::iota(words.begin(), words.end(), 0u);
  ASSERT_EQ(::pwrite(memory.get(), words.data(), kWords * 4, 0), static_cast<ssize_t>(kWords * 4));
  SegmentTerms wanted = terms(16, kWords * 4);
  wanted.guarded = true;
  wanted.writable = true;
  harness.source.queue.push_back({16, ExecutorSegment::create(wanted, *duplicate(memory.get()))});
  harness.run({.loads = {at(16, 0)}, .stores = {at(16, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  ASSERT_EQ(::pread(memory.get(), words.data(), kWords * 4, 0), static_cast<ssize_t>(kWords * 4));
  for (std::uint32_t i = 0; i < kWords; ++i) ASSERT_EQ(words[i], i + 1);

  ASSERT_EQ(::ftruncate(memory.get(), 100), 0);
  harness.run({.run = 2, .loads = {at(16, 0)}, .stores = {at(16, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::DataLost);
}

}  // namespace
}  // namespace kaas
