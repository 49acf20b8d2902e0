// Deals pieces out of a few big chunks of memory that it never touches: best fit, neighbours joined
// when they come back. What device memory is cut with, since asking a driver for each piece costs
// tens of microseconds.
// Owns:    numbers only; the chunks are the caller's.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace kaas {

class BlockHeap {
 public:
  using Address = std::uintptr_t;
  struct Chunk {
    Address address = 0;
    std::uint64_t bytes = 0;
  };

  // All sizes are multiples of `alignment`, and so are the addresses of chunks.
  explicit BlockHeap(std::uint64_t alignment) noexcept : alignment_(alignment) {}

  void add(const Chunk& chunk);
  // The smallest free piece that is large enough is cut. nullopt: there is none.
  std::optional<Address> take(std::uint64_t bytes);
  // A piece that take() gave, with the same size.
  void give_back(Address address, std::uint64_t bytes);
  // Removes a chunk of which nothing is taken, the largest one.
  std::optional<Chunk> remove_idle();

  [[nodiscard]] std::uint64_t free_bytes() const noexcept { return free_bytes_; }
  [[nodiscard]] std::uint64_t chunk_bytes() const noexcept { return chunk_bytes_; }

 private:
  using Pieces = std::map<Address, std::uint64_t>;
  [[nodiscard]] std::uint64_t rounded(std::uint64_t bytes) const noexcept {
    return (bytes + alignment_ - 1) / alignment_ * alignment_;
  }
  void insert(Address address, std::uint64_t bytes);
  void erase(Pieces::iterator piece);
  [[nodiscard]] bool begins_chunk(Address address) const { return chunks_.count(address) != 0; }

  std::uint64_t alignment_;
  std::uint64_t free_bytes_ = 0;
  std::uint64_t chunk_bytes_ = 0;
  std::map<Address, std::uint64_t> chunks_;
  Pieces free_;                                             // By address; never beyond a chunk.
  std::set<std::pair<std::uint64_t, Address>> free_sizes_;  // The same, smallest first.
};

}  // namespace kaas
