#include "daemon/store/copy.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace kaas {
namespace {

Result<void> copy_file(std::span<std::byte> target, const FileRange& range) {
  std::uint64_t done = 0;
  while (done < target.size()) {
    const ssize_t count = ::pread(range.descriptor, target.data() + done, target.size() - done,
                                  static_cast<off_t>(range.offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return Status{StatusCode::InvalidArgument,
                    std::string("shared memory cannot be read: ") + std::strerror(errno)};
    }
    if (count == 0) {
      return Status{StatusCode::InvalidArgument,
                    "shared memory ends after " + std::to_string(range.offset + done) +
                        " bytes, wanted " + std::to_string(range.bytes) + " at offset " +
                        std::to_string(range.offset)};
    }
    done += static_cast<std::uint64_t>(count);
  }
  return {};
}

}  // namespace

std::uint64_t bytes_of(const ByteSource& source) noexcept {
  if (const auto* range = std::get_if<FileRange>(&source)) return range->bytes;
  return std::get_if<std::span<const std::byte>>(&source)->size();
}

Result<void> copy_bytes(std::span<std::byte> target, const ByteSource& source) {
  KAAS_CHECK(target.size() == bytes_of(source));
  if (const auto* range = std::get_if<FileRange>(&source)) return copy_file(target, *range);
  const auto& memory = *std::get_if<std::span<const std::byte>>(&source);
  if (!memory.empty()) std::memcpy(target.data(), memory.data(), memory.size());
  return {};
}

ByteGaps gaps_between(std::span<const OutputSlice> slices, std::uint64_t object_bytes) {
  ByteGaps covered;
  for (const OutputSlice& slice : slices) covered.push_back(ByteGap{slice.offset, slice.bytes});
  std::sort(covered.begin(), covered.end(),
            [](const ByteGap& a, const ByteGap& b) { return a.offset < b.offset; });
  ByteGaps gaps;
  std::uint64_t reached = 0;
  for (const ByteGap& piece : covered) {
    if (piece.offset > reached) gaps.push_back(ByteGap{reached, piece.offset - reached});
    reached = std::max(reached, piece.offset + piece.bytes);
  }
  if (reached < object_bytes) gaps.push_back(ByteGap{reached, object_bytes - reached});
  return gaps;
}

}  // namespace kaas
