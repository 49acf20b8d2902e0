// What a LoadPlan may say: every refusal names the field, what was found and what is allowed.
#include <gtest/gtest.h>

#include "schema/limits.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

using wire::Access;

// y = fill(count 4, value) into allocation 0.
TestKernel fill_kernel() {
  TestKernel kernel;
  kernel.kernel = "fill";
  kernel.literals = {u64(4), u32(3)};
  kernel.arguments = {argument(0, 16, Access::Out)};
  return kernel;
}

TestPlan fill_plan() {
  TestPlan plan;
  plan.kernels = {fill_kernel()};
  plan.allocations = {16};
  plan.stores = {wire::PlanRange(0, 16, 0, false)};
  plan.buffers = {wire::PlanBufferAddress(0, 0)};
  return plan;
}

class PlanTest : public testing::Test {
 protected:
  PlanTest() {
    harness_.load_library();
    EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
  }
  SeenReport load(const TestPlan& plan) {
    harness_.load_plan(plan);
    return harness_.only_report();
  }
  void expect_refused(const TestPlan& plan, const std::string& message,
                      StatusCode code = StatusCode::InvalidArgument) {
    const SeenReport report = load(plan);
    EXPECT_EQ(report.type, wire::Report::PlanLoaded);
    EXPECT_EQ(report.code, code);
    EXPECT_EQ(report.message, message);
    // The next plan works, and a run of the refused one says why there is none.
    TestRun run;
    harness_.run(run);
    const SeenReport done = harness_.only_report();
    EXPECT_EQ(done.code, code);
    EXPECT_EQ(done.message, message);
    EXPECT_EQ(load(fill_plan()).code, StatusCode::Ok);
  }

  LoopHarness harness_;
};

TEST_F(PlanTest, GoodPlanIsLoadedWithItsWorkingSet) {
  const SeenReport report = load(fill_plan());
  EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
  EXPECT_EQ(report.working_set_bytes, 256u);
  EXPECT_FALSE(report.stateful);
}

TEST_F(PlanTest, StatefulLibraryMakesStatefulPlans) {
  harness_.load_library(2, "/stateful/x");
  EXPECT_TRUE(harness_.only_report().stateful);
  TestPlan plan = fill_plan();
  plan.kernels[0].library = 2;
  EXPECT_TRUE(load(plan).stateful);
}

TEST_F(PlanTest, UnknownKernelIsNotFoundWithTheNearestNames) {
  TestPlan plan = fill_plan();
  plan.kernels[0].kernel = "fil";
  expect_refused(plan, "library 'fake' has no kernel 'fil'; nearest: 'fail', 'fill'",
                 StatusCode::NotFound);
}

TEST_F(PlanTest, UnknownLibraryIsNotFound) {
  TestPlan plan = fill_plan();
  plan.kernels[0].library = 9;
  expect_refused(plan, "kernel 'fill': library number 9 is not loaded", StatusCode::NotFound);
}

TEST_F(PlanTest, FailureOfALibraryIsThatOfItsPlans) {
  harness_.load_library(3, "/missing/x.so");
  EXPECT_EQ(harness_.only_report().code, StatusCode::NotFound);
  TestPlan plan = fill_plan();
  plan.kernels[0].library = 3;
  expect_refused(plan, "library '/missing/x.so': no such file", StatusCode::NotFound);
}

TEST_F(PlanTest, LiteralOfAnotherTypeIsRefused) {
  TestPlan plan = fill_plan();
  plan.kernels[0].literals[1].type = wire::LiteralType::F64;
  expect_refused(plan, "kernel 0 ('fill') literal 1 is f64, signature wants u32");
}

TEST_F(PlanTest, RawLiteralOfAnotherSizeIsRefused) {
  TestPlan plan = fill_plan();
  plan.kernels[0] = TestKernel{};
  plan.kernels[0].kernel = "store_raw";
  plan.kernels[0].literals = {{wire::LiteralType::Raw, 0, std::vector<std::uint8_t>(12), {}}};
  expect_refused(plan,
                 "kernel 0 ('store_raw') literal 0 is 12 raw bytes, signature wants 16 raw bytes");
}

TEST_F(PlanTest, AddressSlotOutsideItsLiteralIsRefused) {
  TestPlan plan = fill_plan();
  plan.kernels[0] = TestKernel{};
  plan.kernels[0].kernel = "store_raw";
  plan.kernels[0].literals = {
      {wire::LiteralType::Raw, 0, std::vector<std::uint8_t>(16), {wire::AddressSlot(9, 0)}}};
  expect_refused(plan,
                 "kernel 0 ('store_raw') literal 0 slot 0 range [9, 9 + 8) is outside 16 bytes");
  plan.kernels[0].literals[0].slots = {wire::AddressSlot(0, 1)};
  expect_refused(plan, "kernel 0 ('store_raw') literal 0 slot 0 names buffer 1 of 1");
}

TEST_F(PlanTest, NumberOfParametersIsChecked) {
  TestPlan plan = fill_plan();
  plan.kernels[0].literals.pop_back();
  expect_refused(plan,
                 "kernel 0 ('fill') gets 2 parameters (1 literals, 1 buffers), signature wants 3");
}

TEST_F(PlanTest, BufferWhereALiteralBelongsIsRefused) {
  TestPlan plan = fill_plan();
  plan.kernels[0].order = {2, 1, 0};
  expect_refused(plan, "kernel 0 ('fill') argument 0 is a buffer, signature wants u64");
  plan.kernels[0].order = {0, 1, 1};
  expect_refused(plan, "kernel 0 ('fill') literal 1 is u32, signature wants an output buffer");
  plan.kernels[0].order = {0, 1, 3};
  expect_refused(plan, "kernel 0 ('fill') order names parameter 3 of 3");
}

TEST_F(PlanTest, DirectionOfArgumentsIsChecked) {
  TestPlan plan = fill_plan();
  plan.kernels[0].arguments[0] = argument(0, 16, Access::In);
  expect_refused(plan,
                 "kernel 0 ('fill') argument 0 is 'i', but the kernel may write it; "
                 "allowed: o, io, t");
  plan.kernels[0].kernel = "copy";
  plan.kernels[0].literals = {u64(16)};
  plan.kernels[0].arguments = {argument(0, 16, Access::Out), argument(0, 16, Access::Out)};
  expect_refused(plan,
                 "kernel 0 ('copy') argument 0 is 'o', but the kernel only reads it; "
                 "allowed: i, io, t");
}

TEST_F(PlanTest, RangesOutsideTheirAllocationAreRefused) {
  TestPlan plan = fill_plan();
  plan.kernels[0].arguments[0] = argument(0, 16, Access::Out, 4);
  expect_refused(plan, "kernel 0 ('fill') argument 0 range [4, 4 + 16) is outside 16 bytes");
  plan = fill_plan();
  plan.kernels[0].arguments[0] = argument(1, 16, Access::Out);
  expect_refused(plan, "kernel 0 ('fill') argument 0 names allocation 1 of 1");
  plan = fill_plan();
  plan.stores = {wire::PlanRange(~std::uint64_t{0} - 3, 8, 0, false)};
  expect_refused(plan,
                 "store 0 range [18446744073709551612, 18446744073709551612 + 8) is outside "
                 "16 bytes");
  plan = fill_plan();
  plan.loads = {wire::PlanRange(0, 0, 0, false)};
  expect_refused(plan, "load 0 has 0 bytes");
}

TEST_F(PlanTest, GridAndBlockHaveLimits) {
  TestPlan plan = fill_plan();
  plan.kernels[0].grid = {0, 1, 1};
  expect_refused(plan, "kernel 0 ('fill') grid[0] is 0, allowed 1 to 2147483647");
  plan.kernels[0].grid = {1, 65'536, 1};
  expect_refused(plan, "kernel 0 ('fill') grid[1] is 65536, allowed 1 to 65535");
  plan.kernels[0].grid = {1, 1, 1};
  plan.kernels[0].block = {1, 1, 65};
  expect_refused(plan, "kernel 0 ('fill') block[2] is 65, allowed 1 to 64");
  plan.kernels[0].block = {64, 64, 1};
  expect_refused(plan, "kernel 0 ('fill') threads of a block is 4096, limit 1024");
  plan.kernels[0].block = {1024, 1, 1};
  plan.kernels[0].grid = {2147483647u, 65'535, 65'535};
  expect_refused(plan, "kernel 0 ('fill') has more than 2^63 threads");
  plan.kernels[0].grid = {1, 1, 1};
  plan.kernels[0].shared_bytes = kSharedBytesMax + 1;
  expect_refused(plan, "kernel 0 ('fill') shared_bytes is 232449, limit 232448");
}

TEST_F(PlanTest, RepetitionIsChecked) {
  TestPlan plan = fill_plan();
  plan.n_iter = 0;
  expect_refused(plan, "n_iter is 0, allowed 1 to 4294967296");
  plan.n_iter = 2;
  plan.until = 1;
  expect_refused(plan, "until names buffer 1 of 1");
  plan.until = 0;
  plan.buffers = {wire::PlanBufferAddress(13, 0)};
  expect_refused(plan, "until range [13, 13 + 4) is outside 16 bytes");
}

TEST_F(PlanTest, KernelsWaitForEarlierOnesOnly) {
  TestPlan plan = fill_plan();
  plan.kernels[0].after = {0};
  expect_refused(plan, "kernel 0 ('fill') waits for kernel 0, which does not come before it");
}

TEST_F(PlanTest, WorkingSetAboveTheLimitIsRefusedWithBothNumbers) {
  TestPlan plan = fill_plan();
  plan.allocations = {16, 1u << 20};
  expect_refused(plan, "working set is 1048832 bytes, device limit 1048576",
                 StatusCode::OutOfMemory);
}

TEST_F(PlanTest, AllocationsHaveASize) {
  TestPlan plan = fill_plan();
  plan.allocations = {0};
  expect_refused(plan, "allocation 0 has 0 bytes, allowed 1 to 1099511627776");
  plan.allocations = {kBufferBytesMax + 1};
  expect_refused(plan, "allocation 0 has 1099511627777 bytes, allowed 1 to 1099511627776");
}

TEST_F(PlanTest, PlanWithoutKernelsIsRefused) {
  TestPlan plan;
  plan.kernels.clear();
  expect_refused(plan, "plan has no kernels");
}

}  // namespace
}  // namespace kaas
