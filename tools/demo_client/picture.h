// Pictures in memory and in PNG files.
// Threads: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// Rows from the top, pixels from the left, `channels` bytes a pixel, without padding.
struct Picture {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t channels = 3;
  std::vector<std::uint8_t> pixels;
};

// As 8-bit RGB, whatever the file has. InvalidArgument names the file and what is wrong.
Result<Picture> read_png(const std::string& path);

// 8-bit RGB or grey.
Result<void> write_png(const std::string& path, const Picture& picture);

// The part that begins at (x, y). InvalidArgument: not within the picture.
Result<Picture> crop(const Picture& picture, std::uint32_t x, std::uint32_t y, std::uint32_t width,
                     std::uint32_t height);

}  // namespace kaas
