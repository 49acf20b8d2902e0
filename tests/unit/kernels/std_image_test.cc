#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/unit/kernels/kernel_call.h"

namespace kaas {
namespace {

struct ImageSize {
  std::uint32_t width, height;

  [[nodiscard]] std::size_t pixels() const { return std::size_t{width} * height; }
};

const std::vector<ImageSize> kImageSizes = {{1, 1}, {1, 9}, {13, 1}, {2, 2}, {37, 23}, {64, 48}};

// Pixel of an image whose edges repeat for ever.
double pixel(const std::vector<float>& image, const ImageSize& size, std::int64_t x,
             std::int64_t y) {
  x = std::clamp<std::int64_t>(x, 0, size.width - 1);
  y = std::clamp<std::int64_t>(y, 0, size.height - 1);
  return image[static_cast<std::size_t>(y) * size.width + static_cast<std::size_t>(x)];
}

class StdImage : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (device_ != nullptr) library_ = std::make_unique<KernelLibrary>(*device_, "std");
  }

  // Calls f(size, shape) for each combination.
  template <class F>
  void for_each_case(const F& f) {
    for (const ImageSize& size : kImageSizes) {
      for (const LaunchShape& shape : launch_shapes()) {
        SCOPED_TRACE(std::to_string(size.width) + "x" + std::to_string(size.height) + ", " +
                     shape.text());
        f(size, shape);
        if (HasFatalFailure()) return;
      }
    }
  }

  [[nodiscard]] KernelCall call(const char* kernel, const LaunchShape& shape) {
    return {*device_, *library_, kernel, shape};
  }

  void check_gaussian(const ImageSize& size, const LaunchShape& shape, std::uint32_t radius,
                      bool along_x);

  std::unique_ptr<KernelLibrary> library_;
};

TEST_F(StdImage, LumaWeighsTheColours) {
  for_each_case([&](const ImageSize& size, const LaunchShape& shape) {
    const auto rgb = random_bytes(3 * size.pixels());
    auto luma = poisoned<float>(size.pixels());
    call("rgb_to_luma", shape).literal(std::uint64_t{size.pixels()}).in(rgb).out(&luma).run();
    for (std::size_t i = 0; i < luma.size(); ++i) {
      ASSERT_NEAR(luma[i], 0.299 * rgb[3 * i] + 0.587 * rgb[3 * i + 1] + 0.114 * rgb[3 * i + 2],
                  1e-4)
          << i;
    }
  });
}

std::vector<double> gaussian_weights(std::int64_t radius) {
  std::vector<double> weights;
  double total = 0;
  const double sigma = static_cast<double>(radius) / 2;
  for (std::int64_t offset = -radius; offset <= radius; ++offset) {
    const auto distance = static_cast<double>(offset);
    weights.push_back(radius == 0 ? 1.0 : std::exp(-distance * distance / (2 * sigma * sigma)));
    total += weights.back();
  }
  for (double& weight : weights) weight /= total;
  return weights;
}

void StdImage::check_gaussian(const ImageSize& size, const LaunchShape& shape, std::uint32_t radius,
                              bool along_x) {
  const auto in = random_floats(size.pixels(), 0.0F, 255.0F);
  auto out = poisoned<float>(size.pixels());
  call(along_x ? "gaussian_x" : "gaussian_y", shape)
      .literal(size.width)
      .literal(size.height)
      .literal(radius)
      .in(in)
      .out(&out)
      .run();
  const std::int64_t reach = std::min<std::int64_t>(radius, 64);
  const auto weights = gaussian_weights(reach);
  for (std::int64_t y = 0; y < size.height; ++y) {
    for (std::int64_t x = 0; x < size.width; ++x) {
      double sum = 0;
      for (std::int64_t offset = -reach; offset <= reach; ++offset) {
        sum += weights[static_cast<std::size_t>(offset + reach)] *
               pixel(in, size, along_x ? x + offset : x, along_x ? y : y + offset);
      }
      ASSERT_NEAR(pixel(out, size, x, y), sum, 1e-3) << "x " << x << ", y " << y;
    }
  }
}

TEST_F(StdImage, GaussianMatchesDoublePrecisionInBothDirections) {
  for_each_case([&](const ImageSize& size, const LaunchShape& shape) {
    for (const std::uint32_t radius : {0U, 1U, 2U, 7U}) {
      SCOPED_TRACE("radius " + std::to_string(radius));
      check_gaussian(size, shape, radius, true);
      check_gaussian(size, shape, radius, false);
    }
  });
}

TEST_F(StdImage, GaussianRadiusIsBoundedBySixtyFour) {
  for (const std::uint32_t radius : {64U, 65U, 0xFFFFFFFFU}) {
    SCOPED_TRACE("radius " + std::to_string(radius));
    check_gaussian({37, 23}, {{2, 2, 1}, {16, 8, 1}}, radius, true);
  }
}

TEST_F(StdImage, SobelIsTheLengthOfTheGradient) {
  for_each_case([&](const ImageSize& size, const LaunchShape& shape) {
    const auto in = random_floats(size.pixels(), 0.0F, 255.0F);
    auto out = poisoned<float>(size.pixels());
    call("sobel", shape).literal(size.width).literal(size.height).in(in).out(&out).run();
    for (std::int64_t y = 0; y < size.height; ++y) {
      for (std::int64_t x = 0; x < size.width; ++x) {
        double dx = 0;
        double dy = 0;
        for (int step = -1; step <= 1; ++step) {
          const double weight = step == 0 ? 2 : 1;
          dx += weight * (pixel(in, size, x + 1, y + step) - pixel(in, size, x - 1, y + step));
          dy += weight * (pixel(in, size, x + step, y + 1) - pixel(in, size, x + step, y - 1));
        }
        ASSERT_NEAR(pixel(out, size, x, y), std::hypot(dx, dy), 1e-3) << "x " << x << ", y " << y;
      }
    }
  });
}

TEST_F(StdImage, NormaliseMapsTheMaximumTo255) {
  for_each_case([&](const ImageSize& size, const LaunchShape& shape) {
    auto in = random_floats(size.pixels(), 0.0F, 100.0F);
    const std::vector<float> max{*std::max_element(in.begin(), in.end())};
    auto out = poisoned<std::uint8_t>(size.pixels());
    call("normalise", shape).literal(std::uint64_t{in.size()}).in(in).in(max).out(&out).run();
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double level = 255.0 * double{in[i]} / double{max[0]};
      ASSERT_NEAR(out[i], level, 0.5 + 1e-4) << i;
    }
    ASSERT_EQ(*std::max_element(out.begin(), out.end()), 255);
  });
}

TEST_F(StdImage, NormaliseBoundsWhatIsOutsideTheRange) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> in{-5.0F, 20.0F, nan, infinity, -infinity, 10.0F, 5.0F};
  auto out = poisoned<std::uint8_t>(in.size());
  const LaunchShape shape{{1, 1, 1}, {4, 1, 1}};
  call("normalise", shape)
      .literal(std::uint64_t{in.size()})
      .in(in)
      .in(std::vector<float>{10.0F})
      .out(&out)
      .run();
  EXPECT_EQ(out, (std::vector<std::uint8_t>{0, 255, 0, 255, 0, 255, 128}));
}

TEST_F(StdImage, NormaliseOfABlackImageIsBlack) {
  const std::vector<float> in(10, 0.0F);
  auto out = poisoned<std::uint8_t>(in.size());
  call("normalise", {{1, 1, 1}, {4, 1, 1}})
      .literal(std::uint64_t{10})
      .in(in)
      .in(std::vector<float>{0.0F})
      .out(&out)
      .run();
  EXPECT_EQ(out, std::vector<std::uint8_t>(10, 0));
}

}  // namespace
}  // namespace kaas
