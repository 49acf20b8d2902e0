#include "daemon/plan/compile.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <limits>
#include <string>

#include "schema/limits.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

using wire::Access;
using wire::LiteralType;
using wire::Where;
using Indices = std::vector<std::uint16_t>;

PlanTemplate compiled(const RequestSpec& request, std::vector<ParameterValue> parameters = {}) {
  auto plan = compile(request, parameters);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan.has_value() ? *std::move(plan) : PlanTemplate{};
}

std::string fault_of(const RequestSpec& request, std::vector<ParameterValue> parameters = {}) {
  auto plan = compile(request, parameters);
  return plan.has_value() ? "compiled" : plan.error().message;
}

RequestSpec request_of(std::vector<BufferSpec> buffers,
                       std::vector<std::vector<ArgumentSpec>> kernels) {
  RequestSpec request;
  request.buffers = std::move(buffers);
  for (std::size_t k = 0; k < kernels.size(); ++k) {
    request.kernels.push_back(kernel_on("k" + std::to_string(k), kernels[k]));
  }
  return request;
}

// --- Loads, stores, temporaries ------------------------------------------------------------------

TEST(Compile, InputsAreLoadedAndOutputsStored) {
  const PlanTemplate plan = compiled(saxpy_request());
  EXPECT_EQ(plan.loads, (Indices{0, 1}));
  EXPECT_EQ(plan.stores, (Indices{1}));
  EXPECT_EQ(plan.allocations, (std::vector<std::uint64_t>{4096, 4096}));
  EXPECT_EQ(plan.working_set_bytes, 8192u);
  EXPECT_TRUE(plan.idempotent) << "a store output is a fresh version";
  EXPECT_FALSE(plan.has_shared_allocations);
}

TEST(Compile, BufferThatIsTemporaryThenInputThenOutputIsOnlyStored) {
  const PlanTemplate plan = compiled(request_of(
      {store_buffer("b", 64)}, {{{0, Access::Temporary}}, {{0, Access::In}}, {{0, Access::Out}}}));
  EXPECT_TRUE(plan.loads.empty());
  EXPECT_EQ(plan.stores, (Indices{0}));
  EXPECT_EQ(plan.kernels[1].after, (Indices{0}));
  EXPECT_EQ(plan.kernels[2].after, (Indices{1})) << "0 follows from 1";
}

TEST(Compile, EphemeralBuffersAndOnlyTemporaryOnesAreNotStored) {
  RequestSpec request = request_of(
      {store_buffer("e", 64), store_buffer("t", 64)},
      {{{0, Access::Out}, {1, Access::Temporary}}, {{0, Access::InOut}, {1, Access::In}}});
  request.buffers[0].ephemeral = true;
  const PlanTemplate plan = compiled(request);
  EXPECT_TRUE(plan.loads.empty());
  EXPECT_TRUE(plan.stores.empty());
  EXPECT_FALSE(plan.buffers[0].object);
  EXPECT_FALSE(plan.buffers[1].object);
}

TEST(Compile, EphemeralInputIsLoadedAndNotStored) {
  RequestSpec request = request_of({store_buffer("e", 64)}, {{{0, Access::InOut}}});
  request.buffers[0].ephemeral = true;
  const PlanTemplate plan = compiled(request);
  EXPECT_EQ(plan.loads, (Indices{0}));
  EXPECT_TRUE(plan.stores.empty());
}

TEST(Compile, StoresAreInDeclaredOrder) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("a", 8), store_buffer("b", 8), store_buffer("c", 8)},
                          {{{2, Access::Out}, {1, Access::Temporary}},
                           {{1, Access::Out}, {0, Access::Out}},
                           {{2, Access::Out}}}));
  EXPECT_EQ(plan.stores, (Indices{2, 1, 0}));
}

TEST(Compile, UnusedBuffersHaveNoAllocation) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("unused", 64), store_buffer("b", 8)}, {{{1, Access::In}}}));
  EXPECT_FALSE(plan.buffers[0].used);
  EXPECT_EQ(plan.allocations, (std::vector<std::uint64_t>{8}));
  EXPECT_EQ(plan.buffers[1].allocation, 0);
}

TEST(Compile, UntilIsReadAfterTheLastKernel) {
  RequestSpec request =
      request_of({store_buffer("x", 8), store_buffer("flag", 4)}, {{{0, Access::In}}});
  request.until = 1;
  EXPECT_EQ(compiled(request).loads, (Indices{0, 1}));
  request.kernels[0].arguments.push_back({1, Access::Out});
  EXPECT_EQ(compiled(request).loads, (Indices{0}));
}

TEST(Compile, ZeroFillIsHandedOn) {
  RequestSpec request = saxpy_request();
  request.buffers[0].zero_fill = true;
  EXPECT_TRUE(compiled(request).buffers[0].zero_fill);
}

TEST(Compile, ConstantsThatTheRequestWritesAreNone) {
  RequestSpec request = saxpy_request();
  request.buffers[0].constant = request.buffers[1].constant = true;
  const PlanTemplate plan = compiled(request);
  EXPECT_TRUE(plan.buffers[0].constant);
  EXPECT_FALSE(plan.buffers[1].constant);
}

// --- Shared memory -------------------------------------------------------------------------------

TEST(Compile, OverlappingSlicesOfOneObjectShareAnAllocation) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("left", 64, "k", 0), store_buffer("both", 100, "k", 32),
                           store_buffer("other", 64, "k", 512)},
                          {{{0, Access::Out}}, {{1, Access::In}, {2, Access::In}}}));
  EXPECT_TRUE(plan.has_shared_allocations);
  EXPECT_EQ(plan.buffers[0].allocation, plan.buffers[1].allocation);
  EXPECT_NE(plan.buffers[0].allocation, plan.buffers[2].allocation);
  EXPECT_EQ(plan.buffers[1].allocation_offset - plan.buffers[0].allocation_offset, 32u);
  EXPECT_EQ(plan.allocations[plan.buffers[0].allocation], 132u);
  EXPECT_EQ(plan.loads, (Indices{1, 2})) << "bytes 64 to 131 were not written";
  EXPECT_EQ(plan.kernels[1].after, (Indices{0}));
}

TEST(Compile, BytesWrittenThroughAnotherBufferAreNotLoaded) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("whole", 100, "k"), store_buffer("part", 10, "k", 5)},
                          {{{0, Access::Out}}, {{1, Access::In}}}));
  EXPECT_TRUE(plan.loads.empty());
}

TEST(Compile, AReaderThatReachesOverTwoWrittenSlicesJoinsThem) {
  const PlanTemplate plan = compiled(
      request_of({store_buffer("left", 8, "k"), store_buffer("right", 8, "k", 32),
                  store_buffer("far", 8, "k", 100), store_buffer("all", 40, "k")},
                 {{{0, Access::Out}}, {{1, Access::Out}}, {{2, Access::Out}}, {{3, Access::In}}}));
  EXPECT_EQ(plan.buffers[0].allocation, plan.buffers[1].allocation);
  EXPECT_EQ(plan.buffers[0].allocation, plan.buffers[3].allocation);
  EXPECT_NE(plan.buffers[0].allocation, plan.buffers[2].allocation);
  EXPECT_EQ(plan.kernels[3].after, (Indices{0, 1}));
  EXPECT_EQ(plan.loads, (Indices{3}));
}

TEST(Compile, BuffersThatOnlyReadTheSameBytesStayApart) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("a", 100, "k"), store_buffer("b", 100, "k", 50)},
                          {{{0, Access::In}, {1, Access::In}}}));
  EXPECT_FALSE(plan.has_shared_allocations);
  EXPECT_EQ(plan.allocations.size(), 2u);
}

TEST(Compile, NeighbouringSlicesAreIndependent) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("a", 50, "k"), store_buffer("b", 50, "k", 50)},
                          {{{0, Access::InOut}}, {{1, Access::InOut}}}));
  EXPECT_FALSE(plan.has_shared_allocations);
  EXPECT_TRUE(plan.kernels[1].after.empty());
}

TEST(Compile, SharedBuffersKeepTheAlignmentOfTheirObject) {
  const PlanTemplate plan =
      compiled(request_of({segment_buffer("a", 100, 16, 1004), segment_buffer("b", 64, 16, 1024)},
                          {{{0, Access::In}, {1, Access::Out}}}));
  EXPECT_EQ(plan.buffers[1].allocation_offset % 256, 0u);
  EXPECT_EQ(plan.buffers[0].allocation_offset % 256, 1004u % 256);
}

TEST(Compile, IpcBuffersAreComparedInTheirAllocation) {
  const auto ipc = [](std::string name, std::uint64_t base, std::uint64_t offset, int handle) {
    BufferSpec buffer = store_buffer(std::move(name), 16);
    buffer.place = {};
    buffer.place.where = Where::Ipc;
    buffer.place.ipc_handle.assign(kIpcHandleBytes, static_cast<std::byte>(handle));
    buffer.place.ipc_base_offset = base;
    buffer.offset.value = offset;
    return buffer;
  };
  const PlanTemplate plan =
      compiled(request_of({ipc("a", 0, 24, 1), ipc("b", 16, 0, 1), ipc("c", 16, 0, 2)},
                          {{{0, Access::InOut}}, {{1, Access::In}}, {{2, Access::In}}}));
  EXPECT_TRUE(plan.buffers[0].shared && plan.buffers[1].shared);
  EXPECT_FALSE(plan.buffers[2].shared);
  EXPECT_FALSE(plan.idempotent);
}

TEST(Compile, InPlaceOutputsAreIdempotentUnlessTheyAreLoaded) {
  EXPECT_TRUE(compiled(request_of({segment_buffer("a", 16, 16)}, {{{0, Access::Out}}})).idempotent);
  EXPECT_FALSE(
      compiled(request_of({segment_buffer("a", 16, 16)}, {{{0, Access::InOut}}})).idempotent);
  EXPECT_FALSE(compiled(request_of({segment_buffer("a", 16, 16), segment_buffer("b", 16, 16, 15)},
                                   {{{0, Access::In}, {1, Access::Out}}}))
                   .idempotent);
  EXPECT_TRUE(compiled(request_of({segment_buffer("a", 16, 16), segment_buffer("b", 16, 17, 15)},
                                  {{{0, Access::In}, {1, Access::Out}}}))
                  .idempotent);
}

TEST(Compile, TwoOutputsToOneKeyMustBeDisjoint) {
  EXPECT_EQ(fault_of(request_of({store_buffer("a", 64, "k"), store_buffer("b", 64, "k", 63)},
                                {{{0, Access::Out}}, {{1, Access::Out}}})),
            "two outputs to key 'k' overlap: buffer 0 ('a') and buffer 1 ('b'); only disjoint "
            "slices are allowed");
  EXPECT_EQ(fault_of(request_of({store_buffer("a", 64, "k"), store_buffer("b", 64, "k", 64)},
                                {{{0, Access::Out}}, {{1, Access::Out}}})),
            "compiled");
  BufferSpec kept = segment_buffer("b", 64, 16);
  kept.place.key = "k";
  EXPECT_EQ(fault_of(request_of({store_buffer("a", 64, "k", 4096), kept},
                                {{{0, Access::Out}}, {{1, Access::Out}}})),
            "two outputs to key 'k' overlap: buffer 1 ('b') and buffer 0 ('a'); only disjoint "
            "slices are allowed");
}

// --- Dependencies --------------------------------------------------------------------------------

TEST(Compile, ReadersRunSideBySideAndTheNextWriterWaitsForAll) {
  const PlanTemplate plan =
      compiled(request_of({store_buffer("x", 8), store_buffer("a", 8), store_buffer("b", 8)},
                          {{{0, Access::Out}},
                           {{0, Access::In}, {1, Access::Out}},
                           {{0, Access::In}, {2, Access::Out}},
                           {{0, Access::Out}}}));
  EXPECT_EQ(plan.kernels[1].after, (Indices{0}));
  EXPECT_EQ(plan.kernels[2].after, (Indices{0}));
  EXPECT_EQ(plan.kernels[3].after, (Indices{1, 2}));
}

TEST(Compile, LongestChainHasOnePredecessorEach) {
  RequestSpec request = request_of({store_buffer("x", 8), store_buffer("c", 8)}, {});
  for (std::uint32_t k = 0; k < kKernelsMax; ++k) {
    request.kernels.push_back(kernel_on("k", {{0, Access::InOut}, {1, Access::In}}));
  }
  const PlanTemplate plan = compiled(request);
  for (std::uint32_t k = 1; k < kKernelsMax; ++k) {
    ASSERT_EQ(plan.kernels[k].after, (Indices{static_cast<std::uint16_t>(k - 1)}));
  }
}

TEST(Compile, WritersForgetTheReadersBeforeThem) {
  RequestSpec request = request_of({store_buffer("x", 8)}, {});
  for (std::uint16_t k = 0; k < 100; ++k) {
    request.kernels.push_back(kernel_on("k", {{0, k % 2 == 0 ? Access::Out : Access::In}}));
  }
  const PlanTemplate plan = compiled(request);
  for (std::uint16_t k = 1; k < 100; ++k) {
    ASSERT_EQ(plan.kernels[k].after, (Indices{static_cast<std::uint16_t>(k - 1)}));
  }
}

// Half of the kernels read slices that each of the other half writes: millions of pairs.
TEST(Compile, TooManyDependenciesBecomeTheOrderOfTheList) {
  RequestSpec request = request_of({store_buffer("whole", 4096, "k")}, {});
  for (std::uint16_t s = 0; s < kKernelsMax / 2; ++s) {
    request.buffers.push_back(store_buffer("s" + std::to_string(s), 2, "k", 2u * s));
  }
  for (std::uint32_t k = 0; k < kKernelsMax / 2; ++k) {
    request.kernels.push_back(kernel_on("read", {{0, Access::In}}));
  }
  for (std::uint32_t k = 0; k < kKernelsMax / 2; ++k) {
    request.kernels.push_back(
        kernel_on("write", {{static_cast<std::uint16_t>(k + 1), Access::InOut}}));
  }
  const auto begin = std::chrono::steady_clock::now();
  const PlanTemplate plan = compiled(request);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  EXPECT_TRUE(plan.kernels[0].after.empty());
  for (std::uint32_t k = 1; k < kKernelsMax; ++k) {
    ASSERT_EQ(plan.kernels[k].after, (Indices{static_cast<std::uint16_t>(k - 1)}));
  }
}

// --- Numbers -------------------------------------------------------------------------------------

RequestSpec with_parameters() {
  RequestSpec request = saxpy_request();
  request.parameters = {"n", "m"};
  return request;
}

TEST(Compile, ExpressionsFillEveryField) {
  RequestSpec request = with_parameters();
  KernelSpec& kernel = request.kernels[0];
  kernel.grid[0].expression = "ceil_div(n, 256)";
  kernel.block[0].expression = "256";
  kernel.literals[0].expression = "n";
  kernel.literals.push_back({LiteralType::I32, 0, "-n", {}, {}});
  request.buffers[0].bytes.expression = "n * 4";
  request.buffers[1].offset.expression = "m";
  request.n_iter.expression = "m + 1";
  const PlanTemplate plan = compiled(request, {{"m", 16}, {"n", 1000}});
  EXPECT_EQ(plan.kernels[0].grid[0], 4u);
  EXPECT_EQ(plan.kernels[0].block[0], 256u);
  EXPECT_EQ(plan.kernels[0].literals[0].bits, 1000u);
  EXPECT_EQ(plan.kernels[0].literals[2].bits, 0xFFFF'FC18u);
  EXPECT_TRUE(plan.kernels[0].literals[0].expression.empty());
  EXPECT_EQ(plan.buffers[0].bytes, 4000u);
  EXPECT_EQ(plan.buffers[1].object_offset, 16u);
  EXPECT_EQ(plan.n_iter, 17u);
}

TEST(Compile, ParametersMustBeGivenOnceAndByName) {
  EXPECT_EQ(fault_of(with_parameters(), {{"n", 1}}),
            "parameter 'm' has no value; needed are 'n', 'm'");
  EXPECT_EQ(fault_of(with_parameters(), {{"n", 1}, {"m", 1}, {"widht", 1}}),
            "there is no parameter 'widht'; there are: 'm', 'n'");
  EXPECT_EQ(fault_of(with_parameters(), {{"n", 1}, {"n", 1}}), "parameter 'n' is given twice");
  EXPECT_EQ(fault_of(saxpy_request(), {{"n", 1}}), "there is no parameter 'n'");
}

TEST(Compile, ResultsBeyondTheirFieldNameFieldValueAndExpression) {
  struct Case {
    std::function<void(RequestSpec&)> make;
    std::int64_t n;
    const char* message;
  };
  const Case cases[] = {
      {[](RequestSpec& r) { r.kernels[0].grid[0].expression = "n"; }, -5,
       "kernel 0 ('saxpy') grid.x is -5 by expression 'n', allowed 1 to 2147483647"},
      {[](RequestSpec& r) { r.kernels[0].grid[1].expression = "n"; }, 65536,
       "kernel 0 ('saxpy') grid.y is 65536 by expression 'n', allowed 1 to 65535"},
      {[](RequestSpec& r) { r.kernels[0].block[0].expression = "n"; }, 0,
       "kernel 0 ('saxpy') block.x is 0 by expression 'n', allowed 1 to 1024"},
      {[](RequestSpec& r) { r.kernels[0].block[1].expression = "n"; }, 8,
       "kernel 0 ('saxpy') block's number of threads is 2048, allowed 1 to 1024"},
      {[](RequestSpec& r) {
         r.kernels[0].literals[0] = {LiteralType::I32, 0, "n", {}, {}};
       },
       1ll << 31,
       "kernel 0 ('saxpy') literal 0 value of type I32 is 2147483648 by expression 'n', allowed "
       "-2147483648 to 2147483647"},
      {[](RequestSpec& r) {
         r.kernels[0].literals[0] = {LiteralType::U32, 0, "n", {}, {}};
       },
       -1,
       "kernel 0 ('saxpy') literal 0 value of type U32 is -1 by expression 'n', allowed 0 to "
       "4294967295"},
      {[](RequestSpec& r) { r.kernels[0].literals[0].expression = "n"; }, -1,
       "kernel 0 ('saxpy') literal 0 value of type U64 is -1 by expression 'n', allowed 0 to "
       "9223372036854775807"},
      {[](RequestSpec& r) { r.buffers[1].bytes.expression = "n"; }, 0,
       "buffer 1 ('y') size is 0 by expression 'n', allowed 1 to 1099511627776"},
      {[](RequestSpec& r) { r.buffers[1].bytes.expression = "n"; }, (1ll << 40) + 1,
       "buffer 1 ('y') size is 1099511627777 by expression 'n', allowed 1 to 1099511627776"},
      {[](RequestSpec& r) { r.buffers[1].offset.expression = "n"; }, -4,
       "buffer 1 ('y') offset is -4 by expression 'n', allowed 0 to 18446744073709551615"},
      {[](RequestSpec& r) { r.n_iter.expression = "n"; }, 0,
       "n_iter is 0 by expression 'n', allowed 1 to 4294967296"},
      {[](RequestSpec& r) { r.kernels[0].grid[0].expression = "n + 1"; },
       std::numeric_limits<std::int64_t>::max(),
       "kernel 0 ('saxpy') grid.x expression 'n + 1', column 3: the result for "
       "9223372036854775807 and 1 exceeds 64 bits"},
      {[](RequestSpec& r) {
         r.until = 1;
         r.buffers[1].bytes.expression = "n";
       },
       3, "until's buffer 1 ('y') size is 3, allowed 4 to 1099511627776"},
      {[](RequestSpec& r) {
         r.buffers[1] = inline_buffer("y", 1, std::vector<std::byte>(9));
         r.buffers[1].bytes.expression = "n";
       },
       8, "buffer 1 ('y') inline data bytes: 9, limit 8"},
      {[](RequestSpec& r) {
         r.buffers[1] = inline_buffer("y", 1);
         r.buffers[1].bytes.expression = "n";
       },
       65537, "buffer 1 ('y') inline size is 65537, allowed 1 to 65536"},
      {[](RequestSpec& r) {
         r.kernels[0].cluster = {2, 1, 1};
         r.kernels[0].grid[0].expression = "n";
       },
       7, "kernel 0 ('saxpy') grid.x is 7, must be a multiple of the cluster's 2"},
  };
  for (const Case& wrong : cases) {
    RequestSpec request = with_parameters();
    wrong.make(request);
    EXPECT_EQ(fault_of(request, {{"n", wrong.n}, {"m", 0}}), wrong.message);
  }
}

TEST(Compile, OffsetNearTheEndOfNumbersIsChecked) {
  RequestSpec request = saxpy_request();
  request.buffers[0].offset.value = std::numeric_limits<std::uint64_t>::max() - 4095;
  EXPECT_EQ(fault_of(request),
            "buffer 0 ('x') offset 18446744073709547520 + size 4096 exceeds 18446744073709551615");
  request.buffers[0].offset.value -= 1;
  EXPECT_EQ(fault_of(request), "compiled");
}

TEST(Compile, InlineOutputsAreBoundedTogether) {
  RequestSpec request;
  request.kernels.push_back(kernel_on("k", {}));
  for (std::uint16_t b = 0; b < 4; ++b) {
    request.buffers.push_back(inline_buffer("b" + std::to_string(b), kInlineBytesMax));
    request.kernels[0].arguments.push_back({b, Access::Out});
  }
  EXPECT_EQ(fault_of(request), "compiled");
  request.buffers.push_back(inline_buffer("more", 1));
  request.kernels[0].arguments.push_back({4, Access::Out});
  auto plan = compile(request);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, StatusCode::ResourceExhausted);
  EXPECT_EQ(plan.error().message, "bytes of all inline outputs is 262145, limit 262144");
}

TEST(Compile, CheckExpressionsFindsEachField) {
  const std::function<Integer&(RequestSpec&)> fields[] = {
      [](RequestSpec& r) -> Integer& { return r.kernels[0].grid[2]; },
      [](RequestSpec& r) -> Integer& { return r.kernels[0].block[1]; },
      [](RequestSpec& r) -> Integer& { return r.buffers[0].bytes; },
      [](RequestSpec& r) -> Integer& { return r.buffers[1].offset; },
      [](RequestSpec& r) -> Integer& { return r.n_iter; }};
  const char* const messages[] = {"kernel 0 ('saxpy') grid.z", "kernel 0 ('saxpy') block.y",
                                  "buffer 0 ('x') size", "buffer 1 ('y') offset", "n_iter"};
  for (std::size_t n = 0; n < std::size(fields); ++n) {
    RequestSpec request = with_parameters();
    fields[n](request).expression = "n * m";
    EXPECT_TRUE(check_expressions(request).has_value());
    fields[n](request).expression = "n *";
    EXPECT_EQ(check_expressions(request).error().message,
              std::string(messages[n]) +
                  " expression 'n *', column 4: expected a number, a parameter or '(', found the "
                  "end");
  }
  RequestSpec request = with_parameters();
  request.kernels[0].literals[0].expression = ")";
  EXPECT_EQ(check_expressions(request).error().message.rfind("kernel 0 ('saxpy') literal 0", 0),
            0u);
}

TEST(Compile, BindingsReplacePlacesBeforeAnythingIsDerived) {
  BindingSpec binding;
  binding.name = "y";
  binding.place.key = "x";
  binding.offset = 0;
  auto plan = compile(saxpy_request(), {}, std::vector{binding});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_TRUE(plan->has_shared_allocations) << "x and y are now the same object";
  binding.name = "z";
  EXPECT_EQ(compile(saxpy_request(), {}, std::vector{binding}).error().message,
            "binding 0 names buffer 'z', which the request does not have; nearest: 'x', 'y'");
}

TEST(Compile, ThousandKernelsTakeMilliseconds) {
  RequestSpec request;
  for (std::uint16_t b = 0; b <= 1000; ++b) {
    request.buffers.push_back(store_buffer("b" + std::to_string(b), 4096));
  }
  for (std::uint16_t k = 0; k < 1000; ++k) {
    request.kernels.push_back(
        kernel_on("k", {{k, Access::In}, {static_cast<std::uint16_t>(k + 1), Access::Out}}));
  }
  auto best = std::chrono::steady_clock::duration::max();
  for (int run = 0; run < 5; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    const PlanTemplate plan = compiled(request);
    best = std::min(best, std::chrono::steady_clock::now() - begin);
    ASSERT_EQ(plan.loads, (Indices{0}));
    ASSERT_EQ(plan.stores.size(), 1000u);
  }
  // Generous: sanitizers run this too.
  EXPECT_LT(best, std::chrono::milliseconds(100));
  RecordProperty(
      "microseconds",
      static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(best).count()));
}

}  // namespace
}  // namespace kaas
