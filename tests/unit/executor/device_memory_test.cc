// Device memory of other processes: opened when it is needed and once, closed when nobody has it.
#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "daemon/executor/device/host_device.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

using wire::Access;
using Words = std::vector<std::uint32_t>;

constexpr std::uint64_t kWords = 64;
constexpr std::uint64_t kBytes = kWords * 4;
constexpr std::byte kHandle{1};

class DeviceMemoryTest : public testing::TestWithParam<bool> {
 protected:
  DeviceMemoryTest() : harness_({.asynchronous = GetParam()}) {
    std::iota(memory_.begin(), memory_.end(), 0u);
    device().offer(kHandle, std::as_writable_bytes(std::span(memory_)));
    harness_.load_library();
    TestPlan plan;
    plan.kernels[0].kernel = "add_one";
    plan.kernels[0].literals = {u64(kWords)};
    plan.kernels[0].arguments = {argument(0, kBytes, Access::InOut)};
    plan.allocations = {kBytes};
    plan.loads = {wire::PlanRange(0, kBytes, 0, false)};
    plan.stores = {wire::PlanRange(0, kBytes, 0, false)};
    load(plan);
  }
  ~DeviceMemoryTest() override {
    for (const std::uint32_t segment : attached_) detach(segment);
    harness_.settle();
    EXPECT_EQ(device().mapped(), 0u);
    EXPECT_EQ(harness_.loop->open_handles(), 0u);
    harness_.loop.reset();
  }

  void load(const TestPlan& plan) {
    harness_.load_plan(plan);
    for (const SeenReport& report : harness_.settle()) {
      EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
    }
  }
  FakeDevice& device() { return *harness_.fake; }

  void attach(std::uint32_t segment, std::uint64_t bytes = 0, std::byte handle = kHandle) {
    SegmentTerms terms;
    terms.segment = segment;
    terms.bytes = bytes;
    terms.writable = true;
    auto memory =
        ExecutorSegment::of_device(terms, FakeDevice::request_for(handle, bytes), Descriptor());
    harness_.source.queue.push_back({segment, std::move(memory)});
    attached_.push_back(segment);
  }
  void attach_event(std::uint32_t segment, std::byte handle) {
    SegmentTerms terms;
    terms.segment = segment;
    auto event = ExecutorSegment::of_event(terms, std::vector<std::byte>(kIpcHandleBytes, handle));
    harness_.source.queue.push_back({segment, std::move(event)});
    attached_.push_back(segment);
  }
  void detach(std::uint32_t segment) {
    harness_.send(wire::Work::DetachSegment, [segment](flatbuffers::FlatBufferBuilder& b) {
      return wire::CreateDetachSegment(b, segment);
    });
  }
  // Adds one to kWords words of the segment.
  SeenReport add_one(std::uint32_t segment, std::uint64_t offset = 0) {
    harness_.run({.run = ++runs_,
                  .loads = {at(segment, offset)},
                  .stores = {at(segment, offset)},
                  .device_memory = true});
    return harness_.only_report();
  }

  alignas(kDeviceAlignmentBytes) std::array<std::uint32_t, 4 * kWords> memory_{};
  std::uint64_t runs_ = 0;
  std::vector<std::uint32_t> attached_;
  LoopHarness harness_;
};
INSTANTIATE_TEST_SUITE_P(Devices, DeviceMemoryTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

TEST_P(DeviceMemoryTest, RunReadsAndWritesIt) {
  attach(20);
  const SeenReport report = add_one(20, kBytes);
  ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  for (std::uint32_t i = 0; i < memory_.size(); ++i) {
    ASSERT_EQ(memory_[i], i >= kWords && i < 2 * kWords ? i + 1 : i);
  }
  EXPECT_EQ(report.counters->host_to_device_bytes(), 0u);
  EXPECT_EQ(report.counters->device_to_host_bytes(), 0u);
}

TEST_P(DeviceMemoryTest, ItIsOpenedByTheFirstRunAndKept) {
  attach(20);
  harness_.settle();
  EXPECT_EQ(device().imports(), 0u);
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
  EXPECT_EQ(device().imports(), 1u);
  EXPECT_EQ(device().mapped(), 1u);
}

TEST_P(DeviceMemoryTest, OneHandleInTwoSegmentsIsOneMapping) {
  attach(20);
  attach(21, 4 * kBytes);
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
  EXPECT_EQ(add_one(21).code, StatusCode::Ok);
  EXPECT_EQ(device().imports(), 1u);
  EXPECT_EQ(harness_.loop->open_handles(), 1u);
  detach(20);
  harness_.settle();
  EXPECT_EQ(device().mapped(), 1u) << "the other segment still has it";
  EXPECT_EQ(add_one(21).code, StatusCode::Ok);
  EXPECT_EQ(memory_[0], 3u);
}

TEST_P(DeviceMemoryTest, ItIsClosedWithTheLastSegmentAndOpenedAnew) {
  for (std::uint32_t round = 0; round < 1000; ++round) {
    attach(20 + round);
    ASSERT_EQ(add_one(20 + round).code, StatusCode::Ok);
    detach(20 + round);
    harness_.settle();
    ASSERT_EQ(device().mapped(), 0u);
  }
  attached_.clear();
  EXPECT_EQ(device().imports(), 1000u);
  EXPECT_EQ(harness_.loop->open_handles(), 0u);
  EXPECT_EQ(memory_[0], 1000u);
}

TEST_P(DeviceMemoryTest, RunThatIsUnderWayKeepsItOpen) {
  if (!GetParam()) GTEST_SKIP() << "a synchronous device's runs end before anything else is done";
  attach(20);
  harness_.run({.run = 1, .loads = {at(20, 0)}, .stores = {at(20, 0)}});
  detach(20);
  attached_.clear();
  harness_.loop->step();
  EXPECT_EQ(device().mapped(), 1u);
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(device().mapped(), 0u);
  EXPECT_EQ(memory_[0], 1u);
}

TEST_P(DeviceMemoryTest, BytesPastItsEndAreRefused) {
  attach(20);
  attach(21, 2 * kBytes);
  const SeenReport report = add_one(20, 3 * kBytes + 4);
  EXPECT_EQ(report.code, StatusCode::InvalidArgument);
  EXPECT_NE(report.message.find("segment 20"), std::string::npos) << report.message;
  EXPECT_NE(report.message.find(std::to_string(4 * kBytes)), std::string::npos) << report.message;
  EXPECT_EQ(add_one(20, 3 * kBytes).code, StatusCode::Ok);
  EXPECT_EQ(add_one(20, ~std::uint64_t{0} - 3).code, StatusCode::InvalidArgument);
  // Of an allocation that was registered in part, the rest is out of bounds.
  EXPECT_EQ(add_one(21, kBytes).code, StatusCode::Ok);
  EXPECT_EQ(add_one(21, kBytes + 4).code, StatusCode::InvalidArgument);
}

TEST_P(DeviceMemoryTest, AllocationSmallerThanItsOwnerSaidIsRefused) {
  attach(20, 5 * kBytes);
  const SeenReport report = add_one(20);
  EXPECT_EQ(report.code, StatusCode::InvalidArgument);
  EXPECT_EQ(report.message,
            "device memory of segment 20: the allocation has 1024 bytes, its owner "
            "said 1280");
  EXPECT_EQ(device().mapped(), 0u);
}

TEST_P(DeviceMemoryTest, HandleThatNamesNothingIsTheErrorOfItsUserOnly) {
  attach(20, 0, std::byte{9});
  attach(21);
  const SeenReport report = add_one(20);
  EXPECT_EQ(report.code, StatusCode::InvalidArgument);
  EXPECT_EQ(report.message,
            "device memory of segment 20: the handle names no memory of the fake device");
  EXPECT_EQ(add_one(21).code, StatusCode::Ok);
}

TEST_P(DeviceMemoryTest, WhatCouldNotBeOpenedIsTriedAgain) {
  attach(20, 0, std::byte{9});
  EXPECT_EQ(add_one(20).code, StatusCode::InvalidArgument);
  device().offer(std::byte{9}, std::as_writable_bytes(std::span(memory_)));
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
}

TEST_P(DeviceMemoryTest, ExporterThatIsGoneDoesNotTakeItAway) {
  attach(20);
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
  device().withdraw(kHandle);
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
  EXPECT_EQ(memory_[0], 2u);
}

// --- In place ------------------------------------------------------------------------------------

TEST_P(DeviceMemoryTest, KernelsWorkInTheClientsMemory) {
  attach(20);
  device().fail_allocation(1);
  EXPECT_EQ(add_one(20, kBytes).code, StatusCode::Ok) << "no memory of the device's own is taken";
  EXPECT_EQ(memory_[kWords], kWords + 1);
}

// They share no staging memory that would keep them apart.
TEST_P(DeviceMemoryTest, RunsInOneClientsMemoryFollowOneAnother) {
  if (!GetParam()) GTEST_SKIP() << "a synchronous device's runs end one by one";
  attach(20);
  for (std::uint64_t run = 1; run <= 3; ++run) {
    harness_.run({.run = run,
                  .loads = {at(20, 0)},
                  .stores = {at(20, 0)},
                  .after = {run - 1},
                  .device_memory = true});
  }
  EXPECT_EQ(harness_.settle().size(), 3u);
  EXPECT_EQ(device().follows(), 2u);
  EXPECT_EQ(memory_[0], 3u);
}

TEST_P(DeviceMemoryTest, BytesThatAreNotAlignedAreCopied) {
  attach(20);
  EXPECT_EQ(add_one(20, 4).code, StatusCode::Ok);
  EXPECT_EQ(memory_[0], 0u);
  EXPECT_EQ(memory_[1], 2u);
  EXPECT_EQ(memory_[kWords], kWords + 1);
  EXPECT_EQ(memory_[kWords + 1], kWords + 1);
}

TEST_P(DeviceMemoryTest, InputThatAKernelChangesForItselfIsCopied) {
  TestPlan plan;
  plan.plan = 2;
  plan.kernels[0].kernel = "add_one";
  plan.kernels[0].literals = {u64(kWords)};
  plan.kernels[0].arguments = {argument(0, kBytes, Access::InOut)};
  plan.allocations = {kBytes};
  plan.loads = {wire::PlanRange(0, kBytes, 0, false)};
  load(plan);
  attach(20);
  harness_.run({.run = 1, .plan = 2, .loads = {at(20, 0)}, .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(memory_[0], 0u);
}

// Two halves of one allocation: in place only if they are neighbours where they come from, too.
TEST_P(DeviceMemoryTest, PartsOfAnAllocationMustLieTogether) {
  constexpr std::uint64_t kHalf = kBytes / 2;
  TestPlan plan;
  plan.plan = 2;
  plan.kernels[0].kernel = "add_one";
  plan.kernels[0].literals = {u64(kWords)};
  plan.kernels[0].arguments = {argument(0, kBytes, Access::InOut)};
  plan.allocations = {kBytes};
  plan.loads = {wire::PlanRange(0, kHalf, 0, false), wire::PlanRange(kHalf, kHalf, 0, false)};
  plan.stores = plan.loads;
  load(plan);
  attach(20);
  device().fail_allocation(1);
  const std::vector<wire::Location> together = {at(20, 0), at(20, kHalf)};
  harness_.run({.run = 1, .plan = 2, .loads = together, .stores = together, .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  device().fail_allocation(0);
  const std::vector<wire::Location> apart = {at(20, kBytes), at(20, 3 * kBytes)};
  harness_.run({.run = 2, .plan = 2, .loads = apart, .stores = apart, .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  for (std::uint32_t i = 0; i < memory_.size(); ++i) {
    const std::uint32_t inside = i % kWords;
    const bool changed = i < kWords || (inside < kWords / 2 && (i / kWords) % 2 == 1);
    ASSERT_EQ(memory_[i], changed ? i + 1 : i) << i;
  }
}

TEST_P(DeviceMemoryTest, OneSideInHostMemoryIsCopied) {
  auto& host = harness_.segment(40, Words(kWords, 100));
  attach(20);
  harness_.run({.run = 1, .loads = {at(40, 0)}, .stores = {at(20, 0)}, .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(memory_[0], 101u);
  EXPECT_EQ(host[0], 100u);
  harness_.run({.run = 2, .loads = {at(20, kBytes)}, .stores = {at(40, 0)}, .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(host[1], kWords + 2);
  EXPECT_EQ(memory_[kWords + 1], kWords + 1);
}

// --- Events --------------------------------------------------------------------------------------

TEST_P(DeviceMemoryTest, RunWaitsForEventsBeforeItAndRecordsThoseAfterIt) {
  device().offer_event(std::byte{1});
  device().offer_event(std::byte{2});
  attach_event(30, std::byte{1});
  attach_event(31, std::byte{2});
  attach(20);
  harness_.run({.run = 1,
                .loads = {at(20, 0)},
                .stores = {at(20, 0)},
                .wait_events = {30, 31},
                .record_events = {31},
                .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(device().event_log(),
            (std::vector<std::string>{"wait 1 after 0 launches", "wait 2 after 0 launches",
                                      "record 2 after 1 launches"}));
}

TEST_P(DeviceMemoryTest, EventIsOpenedOnceAndClosedWithItsSegments) {
  device().offer_event(std::byte{1});
  attach_event(30, std::byte{1});
  attach_event(31, std::byte{1});
  attach(20);
  harness_.run({.run = 1,
                .loads = {at(20, 0)},
                .stores = {at(20, 0)},
                .wait_events = {30},
                .record_events = {31},
                .device_memory = true});
  EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(device().open_events(), 1u);
  detach(30);
  harness_.settle();
  EXPECT_EQ(device().open_events(), 1u);
  detach(31);
  harness_.settle();
  EXPECT_EQ(device().open_events(), 0u);
}

TEST_P(DeviceMemoryTest, EventThatNamesNothingOrIsNoneIsRefused) {
  attach_event(30, std::byte{9});
  attach(20);
  TestRun run{.run = 1, .loads = {at(20, 0)}, .stores = {at(20, 0)}, .wait_events = {30}};
  harness_.run(run);
  SeenReport report = harness_.only_report();
  EXPECT_EQ(report.code, StatusCode::InvalidArgument);
  EXPECT_EQ(report.message, "event of segment 30: the handle names no event of the fake device");
  run.run = 2;
  run.wait_events = {20};
  harness_.run(run);
  report = harness_.only_report();
  EXPECT_EQ(report.message, "segment 20 is no event");
  run.run = 3;
  run.wait_events.assign(kEventsPerRunMax + 1, 30);
  harness_.run(run);
  EXPECT_EQ(harness_.only_report().message, "number of events is 17, limit 16");
  EXPECT_EQ(memory_[0], 0u) << "nothing has run";
}

// Kernels of this GPU can't use it: it is copied in and out.
TEST_P(DeviceMemoryTest, MemoryThatKernelsCantReachIsCopied) {
  Words far(kWords, 7);
  device().offer(std::byte{2}, std::as_writable_bytes(std::span(far)), /*direct=*/false);
  attach(20, kBytes, std::byte{2});
  EXPECT_EQ(add_one(20).code, StatusCode::Ok);
  EXPECT_EQ(far, Words(kWords, 8));
}

TEST(DeviceMemoryOfTheHost, IsRefusedWithWhatToUse) {
  HostDevice device(1u << 20, 1);
  ImportCache cache(device);
  const auto opened = cache.open(FakeDevice::request_for(kHandle));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, StatusCode::InvalidArgument);
  EXPECT_EQ(opened.error().message,
            "the host device has no memory that other processes could share with it; use a buffer "
            "in the store, in an arena or in a registered region");
}

TEST(DeviceMemoryOfTheHost, EventsAreRefusedWithWhatToDo) {
  HostDevice device(1u << 20, 1);
  ImportCache cache(device);
  const auto opened = cache.open_event(std::vector<std::byte>(kIpcHandleBytes));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().message,
            "the host device has no events that other processes could share with it; send the "
            "request when what it depends on has ended");
}

TEST(DeviceMemorySegment, WrongHandleOrDescriptorIsRefused) {
  SegmentTerms terms;
  terms.segment = 20;
  ImportRequest request = FakeDevice::request_for(kHandle);
  request.handle.pop_back();
  const auto short_handle = ExecutorSegment::of_device(terms, request, Descriptor());
  ASSERT_FALSE(short_handle.has_value());
  EXPECT_EQ(short_handle.error().message, "segment 20: a handle of 63 bytes, wanted 64");
  request = FakeDevice::request_for(kHandle);
  EXPECT_FALSE(ExecutorSegment::of_device(terms, request, *create_segment("x", 64)).has_value());
  request.kind = wire::DeviceMemoryKind::CuMem;
  EXPECT_FALSE(ExecutorSegment::of_device(terms, request, Descriptor()).has_value());
  request.handle.clear();
  EXPECT_TRUE(ExecutorSegment::of_device(terms, request, *create_segment("x", 64)).has_value());
}

}  // namespace
}  // namespace kaas
