#include "tools/demo_client/picture.h"

#include <png.h>

#include <algorithm>
#include <cstring>

namespace kaas {
namespace {

constexpr std::uint32_t kExtentMax = 1u << 14;

Status png_error(const std::string& path, const png_image& image) {
  return {StatusCode::InvalidArgument, path + ": " + image.message};
}

}  // namespace

Result<Picture> read_png(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_file(&image, path.c_str()) == 0) return png_error(path, image);
  if (image.width > kExtentMax || image.height > kExtentMax) {
    Status status = over_limit(StatusCode::InvalidArgument, path + ": extent",
                               std::max(image.width, image.height), kExtentMax);
    png_image_free(&image);
    return status;
  }
  image.format = PNG_FORMAT_RGB;
  Picture picture{image.width, image.height, 3, {}};
  picture.pixels.resize(PNG_IMAGE_SIZE(image));
  if (png_image_finish_read(&image, nullptr, picture.pixels.data(), 0, nullptr) == 0) {
    return png_error(path, image);
  }
  return picture;
}

Result<void> write_png(const std::string& path, const Picture& picture) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = picture.width;
  image.height = picture.height;
  image.format = picture.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  if (png_image_write_to_file(&image, path.c_str(), 0, picture.pixels.data(), 0, nullptr) == 0) {
    return png_error(path, image);
  }
  return {};
}

Result<Picture> crop(const Picture& picture, std::uint32_t x, std::uint32_t y, std::uint32_t width,
                     std::uint32_t height) {
  if (width == 0 || height == 0 || x > picture.width || width > picture.width - x ||
      y > picture.height || height > picture.height - y) {
    return Status{StatusCode::InvalidArgument,
                  "crop is " + std::to_string(x) + "," + std::to_string(y) + "," +
                      std::to_string(width) + "," + std::to_string(height) +
                      ", allowed: a part of " + std::to_string(picture.width) + " x " +
                      std::to_string(picture.height)};
  }
  Picture part{width, height, picture.channels, {}};
  const std::size_t row_bytes = std::size_t{width} * picture.channels;
  part.pixels.resize(row_bytes * height);
  for (std::uint32_t row = 0; row < height; ++row) {
    const std::size_t from = (std::size_t{y + row} * picture.width + x) * picture.channels;
    std::memcpy(part.pixels.data() + row * row_bytes, picture.pixels.data() + from, row_bytes);
  }
  return part;
}

}  // namespace kaas
