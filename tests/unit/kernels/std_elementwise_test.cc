#include <cmath>

#include "tests/unit/kernels/kernel_call.h"

namespace kaas {
namespace {

const std::vector<std::size_t> kSizes = {0, 1, 2, 31, 255, 256, 257, 1000, 4099};

class StdElementwise : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (device_ != nullptr) library_ = std::make_unique<KernelLibrary>(*device_, "std");
  }

  // Calls f(size, shape) for each combination.
  template <class F>
  void for_each_case(const F& f) {
    for (const std::size_t size : kSizes) {
      for (const LaunchShape& shape : launch_shapes()) {
        SCOPED_TRACE(std::to_string(size) + " elements, " + shape.text());
        f(size, shape);
        if (HasFatalFailure()) return;
      }
    }
  }

  [[nodiscard]] KernelCall call(const char* kernel, const LaunchShape& shape) {
    return {*device_, *library_, kernel, shape};
  }

  std::unique_ptr<KernelLibrary> library_;
};

// The float next to the exact result; both are sums or products of two floats.
void expect_rounded(const std::vector<float>& found, std::size_t i, double exact,
                    double magnitude) {
  ASSERT_NEAR(found[i], exact, 1.2e-7 * magnitude) << "element " << i;
}

TEST_F(StdElementwise, NoopRunsWithoutArguments) {
  for (const LaunchShape& shape : launch_shapes()) call("noop", shape).run();
}

TEST_F(StdElementwise, CopyCopiesEveryByteAndNoMore) {
  for_each_case([&](std::size_t size, const LaunchShape& shape) {
    const auto in = random_bytes(size);
    auto out = poisoned<std::uint8_t>(size);
    call("copy", shape).literal(std::uint64_t{size}).in(in).out(&out).run();
    ASSERT_EQ(out, in);
  });
}

TEST_F(StdElementwise, CopyOfAPrefixLeavesTheRest) {
  const auto in = random_bytes(100);
  auto out = poisoned<std::uint8_t>(100);
  call("copy", {{2, 1, 1}, {32, 1, 1}}).literal(std::uint64_t{37}).in(in).out(&out).run();
  for (std::size_t i = 0; i < 100; ++i) ASSERT_EQ(out[i], i < 37 ? in[i] : 0xA5) << i;
}

TEST_F(StdElementwise, FillWritesTheValueInBothTypes) {
  for_each_case([&](std::size_t size, const LaunchShape& shape) {
    const auto number = static_cast<std::uint32_t>(random_());
    auto numbers = poisoned<std::uint32_t>(size);
    call("fill_u32", shape).literal(std::uint64_t{size}).literal(number).out(&numbers).run();
    ASSERT_EQ(numbers, std::vector<std::uint32_t>(size, number));

    const float value = random_floats(1)[0];
    auto floats = poisoned<float>(size);
    call("fill_f32", shape).literal(std::uint64_t{size}).literal(value).out(&floats).run();
    ASSERT_EQ(floats, std::vector<float>(size, value));
  });
}

TEST_F(StdElementwise, AddAndProductMatchDoublePrecision) {
  for_each_case([&](std::size_t size, const LaunchShape& shape) {
    const auto a = random_floats(size);
    const auto b = random_floats(size);
    auto sum = poisoned<float>(size);
    auto product = poisoned<float>(size);
    call("add", shape).literal(std::uint64_t{size}).in(a).in(b).out(&sum).run();
    call("product", shape).literal(std::uint64_t{size}).in(a).in(b).out(&product).run();
    for (std::size_t i = 0; i < size; ++i) {
      expect_rounded(sum, i, double{a[i]} + double{b[i]}, 2.0);
      expect_rounded(product, i, double{a[i]} * double{b[i]}, 1.0);
    }
  });
}

TEST_F(StdElementwise, AddMayWriteOverAnInput) {
  const auto a = random_floats(1000);
  const auto b = random_floats(1000);
  auto both = b;
  call("add", {{2, 1, 1}, {128, 1, 1}}).literal(std::uint64_t{1000}).in(a).in_place(&both).run();
  for (std::size_t i = 0; i < a.size(); ++i) {
    expect_rounded(both, i, double{a[i]} + double{b[i]}, 2.0);
  }
}

TEST_F(StdElementwise, ScaleByTwoDoublesInPlace) {
  for_each_case([&](std::size_t size, const LaunchShape& shape) {
    const auto before = random_floats(size);
    auto x = before;
    call("scale", shape).literal(std::uint64_t{size}).literal(2.0F).out(&x).run();
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(x[i], before[i] + before[i]) << i;
  });
}

TEST_F(StdElementwise, SaxpyAddsToWhatIsThere) {
  for_each_case([&](std::size_t size, const LaunchShape& shape) {
    const float a = random_floats(1)[0];
    const auto x = random_floats(size);
    const auto before = random_floats(size);
    auto y = before;
    call("saxpy", shape).literal(std::uint64_t{size}).literal(a).in(x).out(&y).run();
    for (std::size_t i = 0; i < size; ++i) {
      expect_rounded(y, i, double{a} * double{x[i]} + double{before[i]}, 2.0);
    }
  });
}

}  // namespace
}  // namespace kaas
