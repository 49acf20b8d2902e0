// Two parties of a ring in plain memory: A writes to B and B to A.
#pragma once

#include <gtest/gtest.h>
#include <algorithm>

#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "schema/ipc/ring.h"

namespace kaas {

class RingSegment {
 public:
  explicit RingSegment(RingGeometry geometry)
      : memory_(static_cast<std::byte*>(
            ::operator new (geometry.segment_bytes(), std::align_val_t{kPairBytes}))),
        view_(RingView::at(memory_.get(), geometry)) {
    std::memset(memory_.get(), 0, geometry.segment_bytes());
    view_.initialise(7);
  }
  [[nodiscard]] const RingView& view() const noexcept { return view_; }
  [[nodiscard]] RingHeader& header() const noexcept { return *view_.header; }

 private:
  struct Release {
    void operator()(std::byte* memory) const noexcept {
      ::operator delete (memory, std::align_val_t{kPairBytes});
    }
  };
  std::unique_ptr<std::byte, Release> memory_;
  RingView view_;
};

// One direction: what A writes and B reads.
struct RingPair {
  explicit RingPair(RingGeometry geometry = {8, 4096})
      : a(geometry),
        b(geometry),
        writer(a.view(), b.view().header),
        reader(a.view(), b.view().header),
        buffer(geometry.heap_bytes) {}

  // A message whose bytes say its number.
  static std::vector<std::byte> message(std::size_t bytes, std::uint32_t number) {
    std::vector<std::byte> made(bytes);
    for (std::size_t i = 0; i < bytes; ++i) made[i] = static_cast<std::byte>(number * 31 + i);
    return made;
  }
  bool write(std::size_t bytes, std::uint32_t number) {
    return writer.try_write(message(bytes, number));
  }
  ReadOutcome look() { return reader.read(buffer, seen); }
  // Takes the next message, which must be that one.
  void expect(std::size_t bytes, std::uint32_t number) {
    ASSERT_EQ(look(), ReadOutcome::Message);
    const auto wanted = message(bytes, number);
    ASSERT_EQ(seen.size(), bytes);
    EXPECT_TRUE(std::equal(seen.begin(), seen.end(), wanted.begin())) << "message " << number;
    reader.advance();
    reader.publish();
  }

  RingSegment a;
  RingSegment b;
  RingWriter writer;
  RingReader reader;
  MessageBuffer buffer;
  std::span<const std::byte> seen;
};

}  // namespace kaas
