// Which runs under way touch which bytes of segments, to find those that a further run has to
// follow. Of two that touch a byte one follows the other if one of them writes it; behind one that
// writes all bytes of an access come only runs that it follows itself.
//
// Few accesses are kept in a list. More go to a map of byte ranges, by segment, size and beginning:
// the sizes up to a power of two are looked through together, since those that can reach into some
// bytes all begin near them. So a search costs about as much as it finds, and a request of few
// buffers allocates nothing.
// Threads: one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory_resource>
#include <span>
#include <tuple>
#include <vector>

#include "daemon/flow/bound.h"

namespace kaas {

class AccessIndex {
 public:
  // Of one search. Only ranges that overlap one another by the thousand need so many.
  static constexpr std::size_t kStepsMax = std::size_t{1} << 20;

  AccessIndex() = default;
  AccessIndex(const AccessIndex&) = delete;
  AccessIndex& operator=(const AccessIndex&) = delete;

  // The accesses of a run, each of at most kBufferBytesMax bytes. Its number is greater than those
  // of all runs before.
  void add(std::uint64_t run, std::span<const SegmentAccess> accesses);
  // Takes out what add() was given.
  void remove(std::uint64_t run, std::span<const SegmentAccess> accesses);

  // Appends the numbers of runs that a later run with these accesses has to follow, some of them
  // several times. Returns in how many steps. kStepsMax: it has given up, and some may be missing.
  std::size_t find_conflicts(std::span<const SegmentAccess> accesses,
                             std::vector<std::uint64_t>& runs) const;

  [[nodiscard]] bool empty() const noexcept { return recent_.empty() && ranges_.empty(); }

 private:
  struct Recent {
    std::uint64_t run = 0;
    SegmentAccess access;
  };
  // Bytes are [begin, begin + bytes) of the segment; at most 2^size_bits, and more than half that.
  struct Range {
    std::uint32_t segment = 0;
    std::uint32_t size_bits = 0;
    std::uint64_t begin = 0;
    std::uint64_t bytes = 0;

    friend bool operator<(const Range& a, const Range& b) {
      return std::tie(a.segment, a.size_bits, a.begin, a.bytes) <
             std::tie(b.segment, b.size_bits, b.begin, b.bytes);
    }
  };
  // Run numbers, ascending.
  struct Users {
    explicit Users(std::pmr::memory_resource* memory) : readers(memory), writers(memory) {}
    std::pmr::vector<std::uint64_t> readers;
    std::pmr::vector<std::uint64_t> writers;
  };
  static constexpr std::size_t kRecentMax = 64;
  static constexpr std::size_t kSizes = 64;

  class Search;

  [[nodiscard]] std::span<const Recent> recent() const noexcept {
    return std::span(recent_).subspan(recent_begin_);
  }
  void remove_recent(std::uint64_t run);
  static Range range_of(const SegmentAccess& access);
  void insert(std::uint64_t run, const SegmentAccess& access);
  void erase(std::uint64_t run, const SegmentAccess& access);

  // In the order of adding; of later runs than those in ranges_. Those before recent_begin_ are
  // removed.
  std::vector<Recent> recent_;
  std::size_t recent_begin_ = 0;
  std::pmr::unsynchronized_pool_resource memory_;  // What one range gave back serves the next.
  std::map<Range, Users, std::less<>,
           std::pmr::polymorphic_allocator<std::pair<const Range, Users>>>
      ranges_{&memory_};
  std::array<std::size_t, kSizes> count_of_size_{};  // Ranges of ranges_, by size_bits.
  std::uint64_t sizes_ = 0;                          // A bit for each of them that is not 0.
};

}  // namespace kaas
