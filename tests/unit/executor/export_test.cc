// Exports in the executor: a copy in an allocation of its own, nothing else in it, freed on every
// path.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <numeric>

#include "daemon/executor/device/host_device.h"
#include "schema/ipc/segment.h"
#include "tests/support/eventually.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

using wire::Access;
using Words = std::vector<std::uint32_t>;

constexpr std::uint64_t kWords = 100;
constexpr std::uint64_t kBytes = kWords * 4;
constexpr std::uint64_t kPiece = FakeDevice::kExportPieceBytes;
constexpr std::uint64_t kVersion = 5;
constexpr std::uint32_t kObject = 20;  // Segment.
constexpr std::uint32_t kMemory = 30;  // Segment that an export becomes.

Words counted(std::size_t words) {
  Words values(words);
  std::iota(values.begin(), values.end(), 1u);
  return values;
}

class ExportTest : public testing::TestWithParam<bool> {
 protected:
  ExportTest() : harness_({.asynchronous = GetParam()}) {
    harness_.segment(kObject, counted(kWords), false);
    harness_.load_library();
    harness_.load_plan(copy_plan(1, kWords));
    TestPlan plan;
    plan.plan = 2;
    plan.kernels[0].kernel = "add_one";
    plan.kernels[0].literals = {u64(kWords)};
    plan.kernels[0].arguments = {argument(0, kBytes, Access::InOut)};
    plan.allocations = {kBytes};
    plan.loads = {wire::PlanRange(0, kBytes, 0, false)};
    plan.stores = {wire::PlanRange(0, kBytes, 0, false)};
    harness_.load_plan(plan);
    for (const SeenReport& report : harness_.settle()) {
      EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
    }
  }
  ~ExportTest() override {
    harness_.loop.reset();
    EXPECT_EQ(device().exports(), 0u);
    EXPECT_EQ(device().allocated_bytes(), 0u);
  }

  FakeDevice& device() { return *harness_.fake; }
  SeenReport exported(std::uint64_t number = 1, std::uint32_t segment = kMemory,
                      std::uint64_t offset = 0, std::uint64_t bytes = kBytes) {
    harness_.export_object(number, segment, at(kObject, offset, kVersion, offset), bytes);
    return harness_.only_report();
  }
  void detach(std::uint32_t segment) {
    harness_.send(wire::Work::DetachSegment, [segment](flatbuffers::FlatBufferBuilder& b) {
      return wire::CreateDetachSegment(b, segment);
    });
    harness_.settle();
  }
  // What another process sees of an export.
  Words seen(std::uint64_t number = 1) {
    const int descriptor = harness_.exports.sent.at(number).get();
    Words words(*segment_bytes_of(descriptor, "an export") / 4);
    EXPECT_EQ(::pread(descriptor, words.data(), words.size() * 4, 0),
              static_cast<ssize_t>(words.size() * 4));
    return words;
  }
  // What it writes there.
  void write(std::uint32_t value, std::uint64_t number = 1) {
    ASSERT_EQ(::pwrite(harness_.exports.sent.at(number).get(), &value, sizeof value, 0),
              static_cast<ssize_t>(sizeof value));
  }
  // Loads the object into the device cache.
  void cache_object() {
    harness_.segment(21, Words(kWords));
    harness_.run({.run = 1, .loads = {at(kObject, 0, kVersion)}, .stores = {at(21, 0)}});
    EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
    EXPECT_EQ(harness_.loop->cache().figures().entries, 1u);
  }

  LoopHarness harness_;
};
INSTANTIATE_TEST_SUITE_P(Devices, ExportTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

TEST_P(ExportTest, BytesAreCopiedAndTheRestIsZero) {
  const SeenReport report = exported();
  ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(report.id, 1u);
  EXPECT_EQ(report.allocation_bytes, kPiece);
  EXPECT_EQ(report.gpu_bytes, 16u);
  Words wanted = counted(kWords);
  wanted.resize(kPiece / 4);
  EXPECT_EQ(seen(), wanted);
}

TEST_P(ExportTest, PartOfAnObjectIsThatPartOnly) {
  ASSERT_EQ(exported(1, kMemory, 40, 8).code, StatusCode::Ok);
  Words wanted{11, 12};
  wanted.resize(kPiece / 4);
  EXPECT_EQ(seen(), wanted);
}

TEST_P(ExportTest, CopyOnTheDeviceIsTakenWhereThereIsOne) {
  cache_object();
  harness_.export_object(1, kMemory, at(0, 0, kVersion, 8), 8);
  const SeenReport report = harness_.only_report();
  ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(seen()[0], 3u);
  EXPECT_EQ(seen()[2], 0u);
}

TEST_P(ExportTest, WhatAnImporterWritesIsInNoCache) {
  cache_object();
  ASSERT_EQ(exported().code, StatusCode::Ok);
  write(77);
  Words& out = harness_.segment(22, Words(kWords));
  harness_.run({.run = 2, .loads = {at(kObject, 0, kVersion)}, .stores = {at(22, 0)}});
  ASSERT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(out, counted(kWords));
}

TEST_P(ExportTest, TwoExportsAreTwoCopies) {
  ASSERT_EQ(exported(1, kMemory).code, StatusCode::Ok);
  ASSERT_EQ(exported(2, kMemory + 1).code, StatusCode::Ok);
  EXPECT_EQ(device().exports(), 2u);
  write(77, 1);
  EXPECT_EQ(seen(1)[0], 77u);
  EXPECT_EQ(seen(2)[0], 1u);
}

TEST_P(ExportTest, RunsUseItInPlaceAndDoNotOpenIt) {
  ASSERT_EQ(exported().code, StatusCode::Ok);
  const std::uint64_t imports = device().imports();
  harness_.run({.run = 3,
                .plan = 2,
                .loads = {at(kMemory, 0)},
                .stores = {at(kMemory, 0)},
                .device_memory = true});
  ASSERT_EQ(harness_.only_report().code, StatusCode::Ok);
  EXPECT_EQ(seen()[0], 2u);
  EXPECT_EQ(seen()[kWords - 1], kWords + 1);
  EXPECT_EQ(seen()[kWords], 0u);
  EXPECT_EQ(device().imports(), imports);
}

TEST_P(ExportTest, RangeBeyondItIsRefused) {
  ASSERT_EQ(exported().code, StatusCode::Ok);
  harness_.run({.run = 3,
                .plan = 2,
                .loads = {at(kMemory, kPiece - 4)},
                .stores = {at(kMemory, kPiece - 4)},
                .device_memory = true});
  const SeenReport report = harness_.only_report();
  EXPECT_EQ(report.code, StatusCode::InvalidArgument);
  EXPECT_NE(report.message.find(std::to_string(kPiece)), std::string::npos) << report.message;
}

TEST_P(ExportTest, DetachingFreesItAndLeavesTheImportersMapping) {
  ASSERT_EQ(exported().code, StatusCode::Ok);
  EXPECT_EQ(device().exported_bytes(), kPiece);
  detach(kMemory);
  EXPECT_EQ(device().exports(), 0u);
  EXPECT_EQ(device().exported_bytes(), 0u);
  EXPECT_EQ(seen()[1], 2u);
}

TEST_P(ExportTest, TwoHundredLeaveNothing) {
  for (std::uint32_t i = 1; i <= 200; ++i) {
    ASSERT_EQ(exported(i, kMemory + i).code, StatusCode::Ok) << i;
    detach(kMemory + i);
    harness_.exports.sent.clear();
    ASSERT_EQ(device().exported_bytes(), 0u);
  }
  EXPECT_EQ(device().exports_made(), 200u);
  EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), 0u);
}

// --- Memory --------------------------------------------------------------------------------------

TEST_P(ExportTest, ItCountsWithinTheLimitOfTheExecutor) {
  ASSERT_EQ(exported().code, StatusCode::Ok);
  EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), kPiece);
  detach(kMemory);
  EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), 0u);
}

TEST_P(ExportTest, CachedCopiesMakeRoomForIt) {
  cache_object();
  harness_.segment(23, Words((1u << 20) / 4), false);
  harness_.export_object(1, kMemory, at(23, 0, 6), (1u << 20) - kPiece + 1);
  const SeenReport report = harness_.only_report();
  ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(harness_.loop->cache().figures().evictions, 1u);
  EXPECT_EQ(report.allocation_bytes, 1u << 20);
}

TEST_P(ExportTest, WhatDoesNotFitIsRefusedWithTheNumbers) {
  harness_.segment(23, Words((2u << 20) / 4), false);
  harness_.export_object(1, kMemory, at(23, 0, 6), 2u << 20);
  const SeenReport report = harness_.only_report();
  EXPECT_EQ(report.code, StatusCode::OutOfMemory);
  EXPECT_NE(report.message.find("export of 2097152 bytes, device limit 1048576, in use 0"),
            std::string::npos)
      << report.message;
  EXPECT_TRUE(harness_.exports.sent.empty());
}

// --- Failures: each leaves nothing ---------------------------------------------------------------

TEST_P(ExportTest, FailureOnTheWayLeavesNothing) {
  const auto expect_nothing = [&](const char* what, StatusCode code) {
    const SeenReport report = exported();
    EXPECT_EQ(report.code, code) << what << ": " << report.message;
    EXPECT_EQ(report.allocation_bytes, 0u) << what;
    EXPECT_EQ(device().exports(), 0u) << what;
    EXPECT_TRUE(harness_.exports.sent.empty()) << what;
    EXPECT_EQ(harness_.loop->cache().pool().used_bytes(), 0u) << what;
  };
  device().fail_export(1);
  expect_nothing("memory", StatusCode::OutOfMemory);
  device().fail_copy(1);
  expect_nothing("zeroing", StatusCode::Internal);
  device().fail_copy(2);
  expect_nothing("the copy", StatusCode::Internal);
  device().fail_export_descriptor(1);
  expect_nothing("the descriptor", StatusCode::ResourceExhausted);
  harness_.exports.refuse = true;
  expect_nothing("the way to kaasd", StatusCode::ResourceExhausted);
  harness_.exports.refuse = false;
  EXPECT_EQ(exported().code, StatusCode::Ok);
}

TEST_P(ExportTest, SourceThatIsNotThereIsRefused) {
  const auto refused = [&](const wire::Location& from, std::uint64_t bytes) {
    harness_.export_object(1, kMemory, from, bytes);
    return harness_.only_report();
  };
  EXPECT_EQ(refused(at(99, 0, 6), 8).code, StatusCode::InvalidArgument);
  EXPECT_EQ(refused(at(0, 0, 6), 8).code, StatusCode::Unavailable);
  EXPECT_EQ(refused(at(kObject, 0, 6), kBytes + 1).code, StatusCode::InvalidArgument);
  EXPECT_EQ(refused(at(kObject, UINT64_MAX, 6), 8).code, StatusCode::InvalidArgument);
  EXPECT_EQ(refused(at(kObject, 0, 6), 0).code, StatusCode::InvalidArgument);
  EXPECT_EQ(device().exports_made(), 0u);
}

TEST(ExportOnTheHost, IsRefusedWithWhatToUse) {
  HostDevice device(1u << 20, 1);
  FakeLibraries libraries(device);
  {
    LoopHarness harness({}, device, libraries);
    harness.segment(kObject, counted(kWords), false);
    harness.export_object(1, kMemory, at(kObject, 0, kVersion), kBytes);
    const SeenReport report = harness.only_report();
    EXPECT_EQ(report.code, StatusCode::InvalidArgument);
    EXPECT_EQ(report.message,
              "the host device has no memory that other processes could map; a get brings the "
              "bytes to host memory");
    harness.loop.reset();
  }
}

// --- With a thread of its own --------------------------------------------------------------------

TEST(ExportThread, CopiesWhileTheMainThreadGoesOnAndWakesIt) {
  std::atomic<int> woken{0};
  LoopHarness harness({.wake = [&] { ++woken; }});
  harness.segment(kObject, counted(kWords), false);
  constexpr std::uint64_t kExports = 50;
  for (std::uint64_t i = 1; i <= kExports; ++i) {
    harness.export_object(i, kMemory + static_cast<std::uint32_t>(i), at(kObject, 0, kVersion),
                          kBytes);
  }
  std::size_t reports = 0;
  ASSERT_TRUE(eventually([&] {
    for (const SeenReport& report : harness.settle()) {
      EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
      ++reports;
    }
    return reports == kExports;
  }));
  EXPECT_GE(woken.load(), 1);
  EXPECT_FALSE(harness.loop->executing());
  EXPECT_EQ(harness.fake->exports(), kExports);
  harness.loop.reset();
}

TEST(ExportThread, EndOfTheLoopWaitsForTheCopyUnderWay) {
  std::atomic<int> woken{0};
  LoopHarness harness({.wake = [&] { ++woken; }});
  harness.segment(kObject, counted(kWords), false);
  harness.export_object(1, kMemory, at(kObject, 0, kVersion), kBytes);
  harness.loop->step();
  harness.loop.reset();
  EXPECT_EQ(harness.fake->exports(), 0u);
}

}  // namespace
}  // namespace kaas
