// Who may use which bytes of an executor's outbox: offsets only, the bytes are the executor's.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace kaas {

// First-fit allocator of byte ranges, neighbours joined when given back.
class Outbox {
 public:
  explicit Outbox(std::uint64_t bytes) : bytes_(bytes) { free_.emplace(0, bytes); }

  // A range of `bytes` > 0, aligned to 64; nullopt: no room now.
  std::optional<std::uint64_t> lease(std::uint64_t bytes) {
    const std::uint64_t wanted = padded(bytes);
    for (auto range = free_.begin(); range != free_.end(); ++range) {
      if (range->second < wanted) continue;
      const std::uint64_t offset = range->first;
      const std::uint64_t left = range->second - wanted;
      free_.erase(range);
      if (left > 0) free_.emplace(offset + wanted, left);
      leased_ += wanted;
      return offset;
    }
    return std::nullopt;
  }

  // Returns a range of lease() with the same `bytes`.
  void give_back(std::uint64_t offset, std::uint64_t bytes) {
    std::uint64_t length = padded(bytes);
    leased_ -= length;
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + length) {
      length += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        before->second += length;
        return;
      }
    }
    free_.emplace(offset, length);
  }

  [[nodiscard]] std::uint64_t leased_bytes() const noexcept { return leased_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

  // What a lease of `bytes` takes.
  [[nodiscard]] static std::uint64_t padded(std::uint64_t bytes) noexcept {
    return (bytes + 63) & ~std::uint64_t{63};
  }

 private:
  std::uint64_t bytes_;
  std::uint64_t leased_ = 0;
  std::map<std::uint64_t, std::uint64_t> free_;  // Offset to length.
};

}  // namespace kaas
