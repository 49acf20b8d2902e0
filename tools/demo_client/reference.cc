#include "tools/demo_client/reference.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace kaas {
namespace {

// An image of numbers, in which pixels beyond an edge repeat the edge.
struct Plane {
  int width, height;
  std::vector<double> values;

  Plane(int w, int h) : width(w), height(h), values(static_cast<std::size_t>(w) * h) {}
  [[nodiscard]] double at(int x, int y) const {
    const int column = std::clamp(x, 0, width - 1);
    const int row = std::clamp(y, 0, height - 1);
    return values[static_cast<std::size_t>(row) * width + column];
  }
  double& here(int x, int y) { return values[static_cast<std::size_t>(y) * width + x]; }
};

template <class Compute>
Plane each_pixel(int width, int height, Compute compute) {
  Plane result(width, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) result.here(x, y) = compute(x, y);
  }
  return result;
}

// sigma is half the radius; the weights' sum is 1.
Plane gaussian(const Plane& image, int radius) {
  if (radius == 0) return image;
  const double sigma = radius / 2.0;
  const int side = 2 * radius + 1;
  std::vector<double> weights;
  double total = 0;
  for (int y = -radius; y <= radius; ++y) {
    for (int x = -radius; x <= radius; ++x) {
      weights.push_back(std::exp(-(x * x + y * y) / (2 * sigma * sigma)));
      total += weights.back();
    }
  }
  return each_pixel(image.width, image.height, [&](int x, int y) {
    double sum = 0;
    for (int i = 0; i < side * side; ++i) {
      sum += weights[static_cast<std::size_t>(i)] *
             image.at(x + i % side - radius, y + i / side - radius);
    }
    return sum / total;
  });
}

// The length of the gradient by Sobel's two 3 x 3 masks.
Plane sobel(const Plane& image) {
  static constexpr int kMask[3][3] = {{-1, 0, 1}, {-2, 0, 2}, {-1, 0, 1}};
  return each_pixel(image.width, image.height, [&](int x, int y) {
    double along_x = 0;
    double along_y = 0;
    for (int row = 0; row < 3; ++row) {
      for (int column = 0; column < 3; ++column) {
        const double value = image.at(x + column - 1, y + row - 1);
        along_x += kMask[row][column] * value;
        along_y += kMask[column][row] * value;
      }
    }
    return std::hypot(along_x, along_y);
  });
}

}  // namespace

Picture reference_edges(const Picture& rgb, int radius) {
  const int width = static_cast<int>(rgb.width);
  const int height = static_cast<int>(rgb.height);
  const Plane luma = each_pixel(width, height, [&](int x, int y) {
    const std::uint8_t* pixel = &rgb.pixels[(static_cast<std::size_t>(y) * rgb.width + x) * 3];
    return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
  });
  const Plane gradient = sobel(gaussian(luma, radius));
  const double peak = *std::max_element(gradient.values.begin(), gradient.values.end());
  Picture edges{rgb.width, rgb.height, 1, {}};
  edges.pixels.reserve(gradient.values.size());
  for (const double value : gradient.values) {
    edges.pixels.push_back(peak > 0 ? static_cast<std::uint8_t>(std::lround(255 * value / peak))
                                    : std::uint8_t{0});
  }
  return edges;
}

Difference difference_of(const Picture& a, const std::uint8_t* b) {
  Difference found;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const int distance = std::abs(int{a.pixels[i]} - int{b[i]});
    found.largest = std::max(found.largest, distance);
    found.pixels += distance != 0 ? 1 : 0;
  }
  return found;
}

}  // namespace kaas
