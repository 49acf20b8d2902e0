#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/unit/kernels/kernel_call.h"

namespace kaas {
namespace {

struct MatrixCase {
  std::uint32_t m, n, k;
};

// One element, single rows and columns, exact tiles, and shapes that end within a tile.
const std::vector<MatrixCase> kMatrixCases = {{1, 1, 1},    {1, 70, 3},   {67, 1, 5},   {3, 5, 130},
                                              {64, 64, 64}, {65, 63, 17}, {129, 70, 33}};

class StdLinearAlgebra : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (device_ != nullptr) library_ = std::make_unique<KernelLibrary>(*device_, "std");
  }

  [[nodiscard]] KernelCall call(const char* kernel, const LaunchShape& shape) {
    return {*device_, *library_, kernel, shape};
  }

  std::unique_ptr<KernelLibrary> library_;
};

std::vector<double> exact_product(const MatrixCase& shape, const std::vector<float>& a,
                                  const std::vector<float>& b) {
  std::vector<double> c(std::size_t{shape.m} * shape.n);
  for (std::size_t i = 0; i < shape.m; ++i) {
    for (std::size_t j = 0; j < shape.n; ++j) {
      double sum = 0;
      for (std::size_t p = 0; p < shape.k; ++p) {
        sum += double{a[i * shape.k + p]} * double{b[p * shape.n + j]};
      }
      c[i * shape.n + j] = sum;
    }
  }
  return c;
}

TEST_F(StdLinearAlgebra, MatmulMatchesDoublePrecisionForAnyBlockShape) {
  for (const MatrixCase& matrix : kMatrixCases) {
    const auto a = random_floats(std::size_t{matrix.m} * matrix.k);
    const auto b = random_floats(std::size_t{matrix.k} * matrix.n);
    const auto exact = exact_product(matrix, a, b);
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE(shape.text());
      auto c = poisoned<float>(exact.size());
      call("matmul", shape)
          .literal(matrix.m)
          .literal(matrix.n)
          .literal(matrix.k)
          .in(a)
          .in(b)
          .out(&c)
          .run();
      for (std::size_t i = 0; i < exact.size(); ++i) {
        ASSERT_NEAR(c[i], exact[i], 2e-7 * (matrix.k + 1))
            << matrix.m << "x" << matrix.n << "x" << matrix.k << ", element " << i;
      }
    }
  }
}

TEST_F(StdLinearAlgebra, SgemmScalesAndAddsToC) {
  const LaunchShape shape{{2, 2, 1}, {16, 16, 1}};
  for (const MatrixCase& matrix : kMatrixCases) {
    const auto a = random_floats(std::size_t{matrix.m} * matrix.k);
    const auto b = random_floats(std::size_t{matrix.k} * matrix.n);
    const auto before = random_floats(std::size_t{matrix.m} * matrix.n);
    const auto exact = exact_product(matrix, a, b);
    const float alpha = random_floats(1)[0];
    const float beta = random_floats(1, 0.5F, 1.0F)[0];
    auto c = before;
    call("sgemm", shape)
        .literal(matrix.m)
        .literal(matrix.n)
        .literal(matrix.k)
        .literal(alpha)
        .literal(beta)
        .in(a)
        .in(b)
        .out(&c)
        .run();
    for (std::size_t i = 0; i < exact.size(); ++i) {
      ASSERT_NEAR(c[i], double{alpha} * exact[i] + double{beta} * double{before[i]},
                  2e-7 * (matrix.k + 4))
          << i;
    }
  }
}

TEST_F(StdLinearAlgebra, SgemmWithBetaZeroDoesNotReadC) {
  const std::vector<float> one{1.0F};
  std::vector<float> c{std::numeric_limits<float>::quiet_NaN()};
  call("sgemm", {{1, 1, 1}, {32, 1, 1}})
      .literal(1U)
      .literal(1U)
      .literal(1U)
      .literal(3.0F)
      .literal(0.0F)
      .in(one)
      .in(one)
      .out(&c)
      .run();
  EXPECT_EQ(c[0], 3.0F);
}

TEST_F(StdLinearAlgebra, SgemmWithEmptyInnerExtentOnlyScalesC) {
  std::vector<float> c{2.0F, 4.0F};
  call("sgemm", {{1, 1, 1}, {32, 1, 1}})
      .literal(1U)
      .literal(2U)
      .literal(0U)
      .literal(3.0F)
      .literal(0.5F)
      .in(std::vector<float>{})
      .in(std::vector<float>{})
      .out(&c)
      .run();
  EXPECT_EQ(c, (std::vector<float>{1.0F, 2.0F}));
}

TEST_F(StdLinearAlgebra, JacobiStepMatchesDoublePrecision) {
  for (const std::size_t n : {1UL, 2UL, 31UL, 100UL, 257UL}) {
    auto a = random_floats(n * n);
    for (std::size_t i = 0; i < n; ++i) a[i * n + i] = static_cast<float>(n) + 1.0F;
    const auto b = random_floats(n);
    const auto x = random_floats(n);
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE(std::to_string(n) + " unknowns, " + shape.text());
      auto x_new = poisoned<float>(n);
      call("jacobi", shape).literal(std::uint64_t{n}).in(a).in(b).in(x).out(&x_new).run();
      for (std::size_t i = 0; i < n; ++i) {
        double others = 0;
        for (std::size_t j = 0; j < n; ++j) {
          if (j != i) others += double{a[i * n + j]} * double{x[j]};
        }
        ASSERT_NEAR(x_new[i], (double{b[i]} - others) / double{a[i * n + i]}, 1e-6) << i;
      }
    }
  }
}

TEST_F(StdLinearAlgebra, JacobiStepsApproachTheSolution) {
  constexpr std::size_t kUnknowns = 50;
  const LaunchShape shape{{4, 1, 1}, {64, 1, 1}};
  auto a = random_floats(kUnknowns * kUnknowns);
  for (std::size_t i = 0; i < kUnknowns; ++i) a[i * kUnknowns + i] = 2.0F * kUnknowns;
  const auto solution = random_floats(kUnknowns);
  std::vector<float> b(kUnknowns);
  for (std::size_t i = 0; i < kUnknowns; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < kUnknowns; ++j) {
      sum += double{a[i * kUnknowns + j]} * double{solution[j]};
    }
    b[i] = static_cast<float>(sum);
  }
  std::vector<float> x(kUnknowns, 0.0F);
  for (int step = 0; step < 40; ++step) {
    auto x_new = poisoned<float>(kUnknowns);
    call("jacobi", shape).literal(std::uint64_t{kUnknowns}).in(a).in(b).in(x).out(&x_new).run();
    x = x_new;
  }
  for (std::size_t i = 0; i < kUnknowns; ++i) EXPECT_NEAR(x[i], solution[i], 1e-5) << i;
}

std::vector<double> exact_softmax(const std::vector<float>& in, std::size_t columns) {
  std::vector<double> out(in.size());
  for (std::size_t row = 0; row < in.size(); row += columns) {
    double largest = in[row];
    for (std::size_t j = 0; j < columns; ++j) largest = std::max(largest, double{in[row + j]});
    double total = 0;
    for (std::size_t j = 0; j < columns; ++j) {
      out[row + j] = std::exp(double{in[row + j]} - largest);
      total += out[row + j];
    }
    for (std::size_t j = 0; j < columns; ++j) out[row + j] /= total;
  }
  return out;
}

TEST_F(StdLinearAlgebra, SoftmaxMatchesDoublePrecision) {
  const std::vector<std::array<std::size_t, 2>> cases = {{1, 1}, {1, 1000}, {7, 33}, {70, 3}};
  for (const auto& [rows, columns] : cases) {
    const auto in = random_floats(rows * columns, -20.0F, 20.0F);
    const auto exact = exact_softmax(in, columns);
    for (const LaunchShape& shape : launch_shapes()) {
      SCOPED_TRACE(std::to_string(rows) + "x" + std::to_string(columns) + ", " + shape.text());
      auto out = poisoned<float>(in.size());
      call("softmax", shape)
          .literal(std::uint64_t{rows})
          .literal(std::uint64_t{columns})
          .in(in)
          .out(&out)
          .run();
      for (std::size_t i = 0; i < in.size(); ++i) ASSERT_NEAR(out[i], exact[i], 2e-6) << i;
    }
  }
}

TEST_F(StdLinearAlgebra, SoftmaxTakesLargeValuesAndWorksInPlace) {
  std::vector<float> x{1000.0F, 999.0F, -1000.0F};
  const auto exact = exact_softmax(x, 3);
  call("softmax", {{1, 1, 1}, {2, 1, 1}})
      .literal(std::uint64_t{1})
      .literal(std::uint64_t{3})
      .in_place(&x)
      .run();
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], exact[i], 1e-6) << i;
}

}  // namespace
}  // namespace kaas
