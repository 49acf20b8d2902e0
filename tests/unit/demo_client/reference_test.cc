#include "tools/demo_client/reference.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

// Grey level 40 left of `edge_x`, 200 from there on.
Picture step_picture(std::uint32_t width, std::uint32_t height, std::uint32_t edge_x) {
  Picture picture{width, height, 3, {}};
  for (std::uint32_t y = 0; y < height; ++y) {
    for (std::uint32_t x = 0; x < width; ++x) {
      picture.pixels.insert(picture.pixels.end(), 3, x < edge_x ? 40 : 200);
    }
  }
  return picture;
}

TEST(ReferenceEdges, AreBlackOnAPlainPicture) {
  const Picture edges = reference_edges(step_picture(9, 7, 0), 2);
  EXPECT_EQ(edges.pixels, std::vector<std::uint8_t>(63, 0));
}

TEST(ReferenceEdges, AreBrightestAtAStepAndSymmetricToIt) {
  const Picture edges = reference_edges(step_picture(16, 5, 8), 2);
  for (std::size_t y = 0; y < 5; ++y) {
    const std::uint8_t* row = &edges.pixels[y * 16];
    EXPECT_EQ(row[7], 255);
    EXPECT_EQ(row[8], 255);
    EXPECT_EQ(row[6], row[9]);
    EXPECT_LT(row[6], 255);
    EXPECT_GT(row[6], 0);
    EXPECT_EQ(row[0], 0);
    EXPECT_EQ(row[15], 0);
  }
}

// Without a blur, Sobel of a step of height h is 4 h at both sides of it.
TEST(ReferenceEdges, WithoutBlurAreTwoPixelsWide) {
  const Picture edges = reference_edges(step_picture(8, 3, 4), 0);
  for (std::size_t x = 0; x < 8; ++x) {
    EXPECT_EQ(edges.pixels[8 + x], x == 3 || x == 4 ? 255 : 0) << x;
  }
}

// A single bright column, blurred with radius 2 (sigma 1), then differentiated: by hand.
TEST(ReferenceEdges, OfALineFollowTheGaussiansDerivative) {
  Picture picture = step_picture(21, 1, 21);
  for (std::size_t channel = 0; channel < 3; ++channel) picture.pixels[10 * 3 + channel] = 140;
  const Picture edges = reference_edges(picture, 2);
  // Weights e^0, e^-0.5, e^-2 around 10; differences of neighbours two apart.
  const double one = 0.60653065971;
  const double two = 0.13533528324;
  const double peak = 1 - two;  // At distance 1: |w(0) - w(2)|; at 2: |w(1) - w(3)| with w(3) = 0.
  EXPECT_EQ(edges.pixels[10], 0);
  EXPECT_EQ(edges.pixels[9], 255);
  EXPECT_EQ(edges.pixels[11], 255);
  EXPECT_EQ(edges.pixels[8], static_cast<std::uint8_t>(255 * one / peak + 0.5));
  EXPECT_EQ(edges.pixels[7], static_cast<std::uint8_t>(255 * two / peak + 0.5));
  EXPECT_EQ(edges.pixels[6], 0);
}

TEST(Difference, CountsPixelsAndFindsTheLargest) {
  const Picture a{4, 1, 1, {10, 20, 30, 255}};
  const std::uint8_t b[] = {10, 21, 25, 255};
  const Difference found = difference_of(a, b);
  EXPECT_EQ(found.pixels, 2u);
  EXPECT_EQ(found.largest, 5);
}

}  // namespace
}  // namespace kaas
