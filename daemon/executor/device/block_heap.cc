#include "daemon/executor/device/block_heap.h"

#include <iterator>

#include "schema/ipc/result.h"

namespace kaas {

void BlockHeap::add(const Chunk& chunk) {
  chunks_.emplace(chunk.address, chunk.bytes);
  chunk_bytes_ += chunk.bytes;
  insert(chunk.address, chunk.bytes);
}

std::optional<BlockHeap::Address> BlockHeap::take(std::uint64_t bytes) {
  const std::uint64_t wanted = rounded(bytes);
  if (wanted < bytes) return std::nullopt;  // Near 2^64.
  const auto best = free_sizes_.lower_bound({wanted, 0});
  if (best == free_sizes_.end()) return std::nullopt;
  const auto [found, address] = *best;
  erase(free_.find(address));
  if (found > wanted) insert(address + wanted, found - wanted);
  return address;
}

void BlockHeap::give_back(Address address, std::uint64_t bytes) {
  std::uint64_t joined = rounded(bytes);
  const auto next = free_.lower_bound(address);
  KAAS_CHECK(next == free_.end() || next->first >= address + joined);
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    KAAS_CHECK(previous->first + previous->second <= address);
    if (previous->first + previous->second == address && !begins_chunk(address)) {
      address = previous->first;
      joined += previous->second;
      erase(previous);
    }
  }
  if (next != free_.end() && next->first == address + joined && !begins_chunk(next->first)) {
    joined += next->second;
    erase(next);
  }
  insert(address, joined);
}

std::optional<BlockHeap::Chunk> BlockHeap::remove_idle() {
  auto best = chunks_.end();
  for (auto chunk = chunks_.begin(); chunk != chunks_.end(); ++chunk) {
    const auto piece = free_.find(chunk->first);
    if (piece == free_.end() || piece->second != chunk->second) continue;
    if (best == chunks_.end() || chunk->second > best->second) best = chunk;
  }
  if (best == chunks_.end()) return std::nullopt;
  const Chunk removed{best->first, best->second};
  erase(free_.find(removed.address));
  chunk_bytes_ -= removed.bytes;
  chunks_.erase(best);
  return removed;
}

void BlockHeap::insert(Address address, std::uint64_t bytes) {
  free_.emplace(address, bytes);
  free_sizes_.emplace(bytes, address);
  free_bytes_ += bytes;
}

void BlockHeap::erase(Pieces::iterator piece) {
  free_bytes_ -= piece->second;
  free_sizes_.erase({piece->second, piece->first});
  free_.erase(piece);
}

}  // namespace kaas
