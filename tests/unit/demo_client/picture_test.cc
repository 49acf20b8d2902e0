#include "tools/demo_client/picture.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace kaas {
namespace {

Picture counted_picture(std::uint32_t width, std::uint32_t height, std::uint32_t channels) {
  Picture picture{width, height, channels, {}};
  for (std::uint32_t i = 0; i < width * height * channels; ++i) {
    picture.pixels.push_back(static_cast<std::uint8_t>(i * 7));
  }
  return picture;
}

std::string temporary(const char* name) {
  return (std::filesystem::path(testing::TempDir()) / name).string();
}

TEST(Png, ComesBackAsItWasWritten) {
  const std::string path = temporary("kaas_picture_test.png");
  const Picture picture = counted_picture(5, 3, 3);
  ASSERT_TRUE(write_png(path, picture).has_value());
  const auto read = read_png(path);
  ASSERT_TRUE(read.has_value()) << to_string(read.error());
  EXPECT_EQ(read->width, 5u);
  EXPECT_EQ(read->height, 3u);
  EXPECT_EQ(read->pixels, picture.pixels);
  std::filesystem::remove(path);
}

TEST(Png, GreyIsReadAsThreeEqualChannels) {
  const std::string path = temporary("kaas_grey_test.png");
  ASSERT_TRUE(write_png(path, {2, 1, 1, {9, 200}}).has_value());
  const auto read = read_png(path);
  ASSERT_TRUE(read.has_value()) << to_string(read.error());
  EXPECT_EQ(read->pixels, (std::vector<std::uint8_t>{9, 9, 9, 200, 200, 200}));
  std::filesystem::remove(path);
}

TEST(Png, WhatIsNoPngIsRefusedWithItsName) {
  const std::string path = temporary("kaas_no_picture_test.png");
  std::ofstream(path) << "this is text";
  for (const std::string& bad : {path, std::string("/no/such/picture.png")}) {
    const auto read = read_png(bad);
    ASSERT_FALSE(read.has_value());
    EXPECT_NE(read.error().message.find(bad), std::string::npos);
  }
  std::filesystem::remove(path);
}

TEST(Crop, TakesTheRightPixels) {
  const Picture picture = counted_picture(6, 4, 3);
  const auto part = crop(picture, 2, 1, 3, 2);
  ASSERT_TRUE(part.has_value());
  for (std::uint32_t y = 0; y < 2; ++y) {
    for (std::uint32_t i = 0; i < 9; ++i) {
      EXPECT_EQ(part->pixels[y * 9 + i], picture.pixels[((y + 1) * 6 + 2) * 3 + i]);
    }
  }
}

TEST(Crop, RefusesWhatIsNotInside) {
  const Picture picture = counted_picture(6, 4, 3);
  EXPECT_TRUE(crop(picture, 0, 0, 6, 4).has_value());
  EXPECT_FALSE(crop(picture, 0, 0, 7, 4).has_value());
  EXPECT_FALSE(crop(picture, 1, 0, 6, 4).has_value());
  EXPECT_FALSE(crop(picture, 0, 4, 1, 1).has_value());
  EXPECT_FALSE(crop(picture, 0, 0, 0, 1).has_value());
  EXPECT_FALSE(crop(picture, UINT32_MAX, 0, 2, 1).has_value());
}

}  // namespace
}  // namespace kaas
