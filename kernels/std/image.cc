// Image filters. Images are row-major without padding; pixels beyond an edge repeat the edge.
#include "kernels/std/reduce.h"

#include <cmath>

namespace kaas {
namespace {

constexpr uint32_t kGaussianRadiusMax = 64;

// Brightness of interleaved 8-bit RGB with the weights of ITU-R BT.601, 0 to 255.
KAAS_FUNCTION void rgb_to_luma(Block& block, uint64_t pixels, const uint8_t* rgb, float* luma) {
  block.for_each_element(pixels, [&](uint64_t i) {
    luma[i] = 0.299F * static_cast<float>(rgb[3 * i]) +
              0.587F * static_cast<float>(rgb[3 * i + 1]) +
              0.114F * static_cast<float>(rgb[3 * i + 2]);
  });
}

// `position` moved by `offset`, kept within [0, extent).
KAAS_FUNCTION uint64_t clamp_shift(uint32_t position, int32_t offset, uint32_t extent) {
  const int64_t moved = int64_t{position} + offset;
  if (moved < 0) return 0;
  return moved < int64_t{extent} ? static_cast<uint64_t>(moved) : uint64_t{extent} - 1;
}

// Leaves the weights of a Gaussian with sigma = radius / 2, normalised to sum 1, in shared memory:
// weight of offset o at [o + radius]. Every thread may read them afterwards.
KAAS_FUNCTION const float* gaussian_weights(Block& block, uint32_t radius) {
  auto* weights = block.shared<float>();
  const uint32_t count = 2 * radius + 1;
  const float sigma = static_cast<float>(radius) / 2.0F;
  block.for_each_in_block(count, [&](uint32_t, uint64_t i) {
    const float distance = static_cast<float>(i) - static_cast<float>(radius);
    weights[i] = radius == 0 ? 1.0F : expf(-distance * distance / (2.0F * sigma * sigma));
  });
  block.barrier();
  // The same sum for every thread, in the same order; too short for a tree.
  float total = 0.0F;
  for (uint32_t i = 0; i < count; ++i) total += weights[i];
  block.barrier();
  block.for_each_in_block(count, [&](uint32_t, uint64_t i) { weights[i] /= total; });
  block.barrier();
  return weights;
}

// Pixels side by side that one thread of the Gaussian computes, so that it uses vector loads.
constexpr uint32_t kRun = 4;

// What the Gaussian knows about its images.
struct Filter {
  uint32_t width, height;
  int32_t reach;
  const float* weights;
  const float* in;
};

// kRun weighted sums from (x, y) on, where no neighbour along x is beyond an edge.
template <bool along_x>
KAAS_FUNCTION void weigh_run(const Filter& filter, uint32_t x, uint32_t y, float* sums) {
  for (int32_t offset = -filter.reach; offset <= filter.reach; ++offset) {
    const uint64_t row = along_x ? y : clamp_shift(y, offset, filter.height);
    const float* from = filter.in + row * filter.width + x + (along_x ? offset : 0);
    const float weight = filter.weights[offset + filter.reach];
    for (uint32_t i = 0; i < kRun; ++i) sums[i] += weight * from[i];
  }
}

// The weighted sum at (x, y), wherever that is.
template <bool along_x>
KAAS_FUNCTION float weigh_pixel(const Filter& filter, uint32_t x, uint32_t y) {
  float sum = 0.0F;
  for (int32_t offset = -filter.reach; offset <= filter.reach; ++offset) {
    const uint64_t row = along_x ? y : clamp_shift(y, offset, filter.height);
    const uint64_t column = along_x ? clamp_shift(x, offset, filter.width) : x;
    sum += filter.weights[offset + filter.reach] * filter.in[row * filter.width + column];
  }
  return sum;
}

// One direction of the separable filter: `along_x` chooses which neighbours are weighed. A radius
// beyond kGaussianRadiusMax counts as that.
template <bool along_x>
KAAS_FUNCTION void gaussian(Block& block, uint32_t width, uint32_t height, uint32_t radius,
                            const float* in, float* out) {
  const uint32_t reach = radius < kGaussianRadiusMax ? radius : kGaussianRadiusMax;
  const Filter filter{width, height, static_cast<int32_t>(reach), gaussian_weights(block, reach),
                      in};
  const uint32_t runs = width / kRun + (width % kRun == 0 ? 0 : 1);
  block.for_each_element_2d(runs, height, [&](uint32_t run, uint32_t y) {
    const uint32_t x = run * kRun;
    float* to = out + uint64_t{y} * width + x;
    const uint64_t end = uint64_t{x} + kRun;
    if (end <= width && (!along_x || (x >= reach && end + reach <= width))) {
      float sums[kRun] = {};
      weigh_run<along_x>(filter, x, y, sums);
      for (uint32_t i = 0; i < kRun; ++i) to[i] = sums[i];
      return;
    }
    for (uint32_t i = 0; i < kRun && x + i < width; ++i) {
      to[i] = weigh_pixel<along_x>(filter, x + i, y);
    }
  });
}

// Length of the gradient by the 3 x 3 Sobel operator.
KAAS_FUNCTION void sobel(Block& block, uint32_t width, uint32_t height, const float* in,
                         float* out) {
  block.for_each_element_2d(width, height, [&](uint32_t x, uint32_t y) {
    const float* above = in + clamp_shift(y, -1, height) * width;
    const float* here = in + uint64_t{y} * width;
    const float* below = in + clamp_shift(y, 1, height) * width;
    const uint64_t left = clamp_shift(x, -1, width);
    const uint64_t right = clamp_shift(x, 1, width);
    const float dx = (above[right] - above[left]) + 2.0F * (here[right] - here[left]) +
                     (below[right] - below[left]);
    const float dy =
        (below[left] - above[left]) + 2.0F * (below[x] - above[x]) + (below[right] - above[right]);
    out[uint64_t{y} * width + x] = sqrtf(dx * dx + dy * dy);
  });
}

// 0 .. max[0] to 0 .. 255, rounded to nearest. What is below 0, and a NaN, becomes 0; what is above
// the maximum 255; all is 0 if the maximum is not positive.
KAAS_FUNCTION void normalise(Block& block, uint64_t count, const float* in, const float* max,
                             uint8_t* out) {
  const float factor = max[0] > 0.0F ? 255.0F / max[0] : 0.0F;
  block.for_each_element(count, [&](uint64_t i) {
    const float level = in[i] * factor;
    const float bounded = level > 0.0F ? (level < 255.0F ? level : 255.0F) : 0.0F;
    out[i] = static_cast<uint8_t>(static_cast<int32_t>(bounded + 0.5F));
  });
}

constexpr KernelOptions kGaussianOptions =
    KernelOptions().shared_fixed((2 * kGaussianRadiusMax + 1) * sizeof(float));

}  // namespace

KAAS_KERNEL(rgb_to_luma);
KAAS_KERNEL_AS("gaussian_x", gaussian<true>, kGaussianOptions);
KAAS_KERNEL_AS("gaussian_y", gaussian<false>, kGaussianOptions);
KAAS_KERNEL(sobel);
KAAS_KERNEL(normalise);

}  // namespace kaas
