#include <numeric>

#include "tests/unit/kernels/kernel_call.h"
#include "tests/unit/kernels/probe_kernels.h"

namespace kaas {
namespace {

class BlockSemantics : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (device_ != nullptr) library_ = std::make_unique<KernelLibrary>(*device_, "probe");
  }

  [[nodiscard]] KernelCall call(const char* kernel, const LaunchShape& shape) {
    return {*device_, *library_, kernel, shape};
  }

  std::unique_ptr<KernelLibrary> library_;
};

// What the kernel `rounds` leaves in one block, computed round by round.
std::vector<std::uint32_t> expected_rounds(std::uint32_t threads, std::uint32_t count) {
  std::vector<std::uint32_t> state(threads);
  std::iota(state.begin(), state.end(), 1U);
  for (std::uint32_t round = 1; round <= count; ++round) {
    const auto published = state;
    for (std::uint32_t i = 0; i < threads; ++i) {
      state[i] += round * published[(i + 1) % threads];
    }
  }
  return state;
}

TEST_F(BlockSemantics, StateOfAThreadSurvivesBarriersAndSharedMemoryIsInStep) {
  for (const LaunchShape& shape : launch_shapes()) {
    SCOPED_TRACE(shape.text());
    const std::uint32_t threads = shape.threads();
    auto out = poisoned<std::uint32_t>(shape.blocks() * threads);
    call("rounds", shape).literal(9U).out(&out).run();
    const auto expected = expected_rounds(threads, 9);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], expected[i % threads]) << i;
  }
}

TEST_F(BlockSemantics, KernelsCanBeStepsOfAKernel) {
  for (const LaunchShape& shape : launch_shapes()) {
    SCOPED_TRACE(shape.text());
    const std::uint32_t threads = shape.threads();
    auto out = poisoned<std::uint32_t>(shape.blocks() * threads);
    call("steps", shape).literal(3U).out(&out).run();
    const auto state = expected_rounds(threads, 3);
    const std::uint32_t expected = state.front() + state.back();
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], expected) << i;
  }
}

TEST_F(BlockSemantics, AStepMayHaveASmallerBlock) {
  for (const LaunchShape& shape : launch_shapes()) {
    if (shape.threads() < 6) continue;
    SCOPED_TRACE(shape.text());
    auto out = poisoned<std::uint32_t>(shape.blocks() * 4 * 6);
    call("smaller_steps", shape).literal(5U).out(&out).run();
    const auto expected = expected_rounds(6, 5);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], expected[i % 6]) << i;
  }
}

TEST_F(BlockSemantics, EveryThreadKnowsWhereItIs) {
  for (const LaunchShape& shape : launch_shapes()) {
    SCOPED_TRACE(shape.text());
    auto out = poisoned<Coordinates>(shape.blocks() * shape.threads());
    call("coordinates", shape).out(&out).run();
    std::size_t i = 0;
    for (std::uint32_t block = 0; block < shape.blocks(); ++block) {
      for (std::uint32_t thread = 0; thread < shape.threads(); ++thread, ++i) {
        const Coordinates& found = out[i];
        ASSERT_EQ(found.linear, thread);
        const std::uint32_t block_parts[] = {block % shape.grid[0],
                                             block / shape.grid[0] % shape.grid[1],
                                             block / shape.grid[0] / shape.grid[1]};
        const std::uint32_t thread_parts[] = {thread % shape.block[0],
                                              thread / shape.block[0] % shape.block[1],
                                              thread / shape.block[0] / shape.block[1]};
        for (std::size_t axis = 0; axis < 3; ++axis) {
          ASSERT_EQ(found.index[axis], block_parts[axis]) << "axis " << axis;
          ASSERT_EQ(found.thread[axis], thread_parts[axis]) << "axis " << axis;
          ASSERT_EQ(found.grid[axis], shape.grid[axis]);
          ASSERT_EQ(found.dim[axis], shape.block[axis]);
        }
      }
    }
  }
}

TEST_F(BlockSemantics, EveryElementIsVisitedOnceWhateverTheGrid) {
  for (const std::uint32_t width : {0U, 1U, 33U, 500U}) {
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE("width " + std::to_string(width) + ", " + shape.text());
      constexpr std::uint32_t kHeight = 5;
      std::vector<std::uint32_t> elements(std::size_t{width} * kHeight);
      std::vector<std::uint32_t> pixels(elements.size());
      std::vector<std::uint32_t> in_block(width);
      call("visits", shape)
          .literal(width)
          .literal(kHeight)
          .out(&elements)
          .out(&pixels)
          .out(&in_block)
          .run();
      ASSERT_EQ(elements, std::vector<std::uint32_t>(elements.size(), 1));
      ASSERT_EQ(pixels, std::vector<std::uint32_t>(pixels.size(), 1));
      const auto blocks = static_cast<std::uint32_t>(shape.blocks());
      ASSERT_EQ(in_block, std::vector<std::uint32_t>(width, blocks)) << "once in each block";
    }
  }
}

TEST_F(BlockSemantics, ParametersOfEveryTypeArriveInAnyOrder) {
  Raw raw{};
  raw = {17, 2.5, {1, 2, 3}};
  std::vector<Everything> out(1);
  call("parameters", {})
      .out(&out)
      .literal(std::int32_t{-5})
      .literal(std::uint32_t{0xF0000001})
      .literal(std::int64_t{-6000000000})
      .literal(std::uint64_t{0xF000000000000001})
      .literal(1.25F)
      .literal(-0.1)
      .literal(raw)
      .run();
  EXPECT_EQ(out[0].a, -5);
  EXPECT_EQ(out[0].b, 0xF0000001U);
  EXPECT_EQ(out[0].c, -6000000000);
  EXPECT_EQ(out[0].d, 0xF000000000000001U);
  EXPECT_EQ(out[0].e, 1.25F);
  EXPECT_EQ(out[0].f, -0.1);
  EXPECT_EQ(out[0].raw.first, 17);
  EXPECT_EQ(out[0].raw.second, 2.5);
  EXPECT_EQ(out[0].raw.third[2], 3);
}

TEST_F(BlockSemantics, ABlockThatChangesItsArgumentDoesNotChangeTheNextOnes) {
  const LaunchShape shape{{4, 3, 2}, {8, 1, 1}};
  auto out = poisoned<std::uint32_t>(shape.blocks());
  call("consume", shape).literal(7U).out(&out).run();
  EXPECT_EQ(out, std::vector<std::uint32_t>(shape.blocks(), 7));
}

TEST_F(BlockSemantics, AtomicAddLosesNothing) {
  for (const LaunchShape& shape : launch_shapes()) {
    SCOPED_TRACE(shape.text());
    std::vector<std::uint64_t> integer{0xF00000000};
    std::vector<std::int32_t> negative{5};
    std::vector<float> single{1};
    std::vector<double> real{1};
    call("totals", shape)
        .literal(std::uint64_t{1000})
        .out(&integer)
        .out(&negative)
        .out(&single)
        .out(&real)
        .run();
    EXPECT_EQ(integer[0], 0xF00000000 + 499500);
    EXPECT_EQ(negative[0], -995);
    EXPECT_EQ(single[0], 501.0F);
    EXPECT_EQ(real[0], 251.0);
  }
}

TEST_F(BlockSemantics, SharedMemoryIsWhatTheKernelNeedsOrTheRequestAsksFor) {
  const LaunchShape shape{{1, 1, 1}, {16, 1, 1}};
  auto bytes = poisoned<std::uint64_t>(1);
  call("shared_size", shape).out(&bytes).run();
  EXPECT_EQ(bytes[0], 100U + 16 * 8);
  call("shared_size", shape).shared_bytes(1000).out(&bytes).run();
  EXPECT_EQ(bytes[0], 1000U);
}

}  // namespace
}  // namespace kaas
