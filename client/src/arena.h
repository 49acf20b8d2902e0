// Hands out pieces of one shared segment.
// Threads: one at a time; the session's lock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace kaas {
inline namespace v1 {

class Arena {
 public:
  static constexpr std::uint64_t kAlignmentBytes = 256;

  explicit Arena(std::uint64_t bytes) : bytes_(bytes) {
    if (bytes > 0) free_.emplace(0, bytes);
  }

  // The offset of a free piece, the first that is large enough. `bytes` > 0.
  std::optional<std::uint64_t> allocate(std::uint64_t bytes) {
    if (bytes > bytes_) return std::nullopt;
    const std::uint64_t wanted = rounded(bytes);
    for (auto piece = free_.begin(); piece != free_.end(); ++piece) {
      const auto [offset, size] = *piece;
      if (size < bytes) continue;
      free_.erase(piece);
      // The last piece of a segment may be shorter than its rounded size.
      if (size > wanted) free_.emplace(offset + wanted, size - wanted);
      return offset;
    }
    return std::nullopt;
  }

  // `offset` and `bytes` are those of an earlier allocate().
  void give_back(std::uint64_t offset, std::uint64_t bytes) {
    std::uint64_t size = rounded(bytes);
    if (size > bytes_ - offset) size = bytes_ - offset;
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && offset + size == next->first) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        before->second += size;
        return;
      }
    }
    free_.emplace_hint(next, offset, size);
  }

  [[nodiscard]] bool empty() const noexcept {
    return bytes_ == 0 || (free_.size() == 1 && free_.begin()->second == bytes_);
  }

 private:
  static std::uint64_t rounded(std::uint64_t bytes) noexcept {
    return (bytes + kAlignmentBytes - 1) & ~(kAlignmentBytes - 1);
  }

  std::uint64_t bytes_;
  std::map<std::uint64_t, std::uint64_t> free_;  // Offset -> bytes; no two touch.
};

}  // namespace v1
}  // namespace kaas
