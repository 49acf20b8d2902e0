#include <cmath>
#include <limits>

#include "tests/unit/kernels/kernel_call.h"

namespace kaas {
namespace {

const std::vector<std::size_t> kSizes = {1, 2, 33, 255, 256, 257, 4099, 20000};

class StdReduce : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (device_ != nullptr) library_ = std::make_unique<KernelLibrary>(*device_, "std");
  }

  // The two launches of a reduction: partial results of each block, then one block over those.
  float reduce(const char* kernel, const LaunchShape& shape, const std::vector<float>& in) {
    auto partial = poisoned<float>(shape.blocks());
    KernelCall(*device_, *library_, kernel, shape)
        .literal(std::uint64_t{in.size()})
        .in(in)
        .out(&partial)
        .run();
    auto result = poisoned<float>(1);
    KernelCall(*device_, *library_, kernel, {{1, 1, 1}, shape.block})
        .literal(std::uint64_t{partial.size()})
        .in(partial)
        .out(&result)
        .run();
    return result[0];
  }

  std::uint32_t converged(const LaunchShape& shape, float eps, const std::vector<float>& x,
                          const std::vector<float>& y) {
    auto flag = poisoned<std::uint32_t>(1);
    KernelCall(*device_, *library_, "converged", shape)
        .literal(std::uint64_t{x.size()})
        .literal(eps)
        .in(x)
        .in(y)
        .out(&flag)
        .run();
    return flag[0];
  }

  std::unique_ptr<KernelLibrary> library_;
};

TEST_F(StdReduce, SumInTwoLaunchesIsTheWholeSum) {
  for (const std::size_t size : kSizes) {
    const auto in = random_floats(size);
    double exact = 0;
    for (const float value : in) exact += value;
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE(std::to_string(size) + " elements, " + shape.text());
      const float found = reduce("sum", shape, in);
      ASSERT_NEAR(found, exact, 1e-6 * static_cast<double>(size));
    }
  }
}

TEST_F(StdReduce, SumOfNothingIsZeroInEveryBlock) {
  auto partial = poisoned<float>(3);
  KernelCall(*device_, *library_, "sum", {{3, 1, 1}, {64, 1, 1}})
      .literal(std::uint64_t{0})
      .in(std::vector<float>{})
      .out(&partial)
      .run();
  EXPECT_EQ(partial, std::vector<float>(3, 0.0F));
}

TEST_F(StdReduce, MaxFindsTheLargestWhereverItIs) {
  for (const std::size_t size : kSizes) {
    auto in = random_floats(size, -2.0F, -1.0F);
    const std::size_t place = random_() % size;
    in[place] = -0.5F;
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE(std::to_string(size) + " elements, largest at " + std::to_string(place) + ", " +
                   shape.text());
      ASSERT_EQ(reduce("max", shape, in), -0.5F);
    }
  }
}

TEST_F(StdReduce, DotProductIsProductThenSum) {
  constexpr std::size_t kCount = 3001;
  const LaunchShape shape{{5, 1, 1}, {96, 1, 1}};
  const auto a = random_floats(kCount);
  const auto b = random_floats(kCount);
  auto products = poisoned<float>(kCount);
  KernelCall(*device_, *library_, "product", shape)
      .literal(std::uint64_t{kCount})
      .in(a)
      .in(b)
      .out(&products)
      .run();
  double exact = 0;
  for (std::size_t i = 0; i < kCount; ++i) exact += double{a[i]} * double{b[i]};
  EXPECT_NEAR(reduce("sum", shape, products), exact, 1e-6 * kCount);
}

TEST_F(StdReduce, ConvergedOnlyIfEveryDifferenceIsBelowEps) {
  for (const std::size_t size : kSizes) {
    const auto x = random_floats(size);
    auto near = x;
    for (float& value : near) value += 0.001F;
    auto far = near;
    far[random_() % size] += 1.0F;
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE(std::to_string(size) + " elements, " + shape.text());
      ASSERT_EQ(converged(shape, 0.01F, x, near), 1U);
      ASSERT_EQ(converged(shape, 0.01F, x, far), 0U);
      ASSERT_EQ(converged(shape, 0.0F, x, x), 0U) << "the comparison is strict";
    }
  }
}

TEST_F(StdReduce, NanIsNotConvergence) {
  const auto x = random_floats(1000);
  auto y = x;
  y[777] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(converged({{1, 1, 1}, {128, 1, 1}}, 1.0F, x, y), 0U);
}

}  // namespace
}  // namespace kaas
