#include "daemon/executor/cache/memory_pool.h"

#include <algorithm>
#include <new>

namespace kaas {
namespace {

// Sizes for which an empty list is kept, so that a steady load does not allocate list nodes.
constexpr std::size_t kSizesKept = 256;
// Blocks of one size that are looked through for one of the same tenant.
constexpr std::size_t kLookedThrough = 8;

}  // namespace

BlockRef::~BlockRef() {
  if (block_ != nullptr && --block_->references == 0) block_->pool->give_back(block_);
}

MemoryPool::~MemoryPool() {
  KAAS_CHECK(used_bytes_ == 0);
}

std::optional<TakenBlock> MemoryPool::try_take(std::uint64_t bytes, std::uint32_t tenant) {
  const std::uint64_t wanted = counted_bytes(bytes);
  BlockPtr block = take_idle(wanted, tenant);
  if (block == nullptr) block = allocate(wanted);
  if (block == nullptr) return std::nullopt;
  used_bytes_ += block->memory.bytes();
  TakenBlock taken;
  taken.foreign = block->last_tenant != tenant;
  block->last_tenant = tenant;
  taken.block = BlockRef(block.release());
  return taken;
}

// An idle block of that size, or at most an eighth larger; one of the same tenant if there is one.
MemoryPool::BlockPtr MemoryPool::take_idle(std::uint64_t wanted, std::uint32_t tenant) {
  auto size = idle_.lower_bound(wanted);
  while (size != idle_.end() && size->second.empty()) ++size;
  if (size == idle_.end() || size->first > wanted + wanted / 8) return nullptr;
  std::vector<BlockPtr>& blocks = size->second;
  const std::size_t looked = std::min(blocks.size(), kLookedThrough);
  auto chosen = blocks.end() - 1;
  for (std::size_t i = 1; i <= looked; ++i) {
    const auto candidate = blocks.end() - static_cast<std::ptrdiff_t>(i);
    if ((*candidate)->last_tenant == tenant) {
      chosen = candidate;
      break;
    }
  }
  std::swap(*chosen, blocks.back());
  BlockPtr block = std::move(blocks.back());
  blocks.pop_back();
  idle_bytes_ -= block->memory.bytes();
  if (blocks.empty() && idle_.size() > kSizesKept) idle_.erase(size);
  return block;
}

// Within the limit, by giving back what is idle. False: there is none.
bool MemoryPool::make_room(std::uint64_t wanted) {
  if (wanted > limit_bytes_ || used_bytes_ > limit_bytes_ - wanted) return false;
  const std::uint64_t room = limit_bytes_ - wanted - used_bytes_;
  if (idle_bytes_ > room) release_idle(idle_bytes_ - room);
  return true;
}

MemoryPool::BlockPtr MemoryPool::allocate(std::uint64_t wanted) {
  if (!make_room(wanted)) return nullptr;
  auto memory = device_.allocate(wanted);
  if (!memory && idle_bytes_ > 0) {
    // The device has less than it promised; what lies idle here may be what is missing.
    release_idle(idle_bytes_);
    memory = device_.allocate(wanted);
  }
  if (!memory) return nullptr;
  auto block = std::make_unique<MemoryBlock>();
  block->memory = *std::move(memory);
  block->pool = this;
  return block;
}

Result<std::shared_ptr<const ExportableMemory>> MemoryPool::take_exportable(std::uint64_t bytes) {
  if (!make_room(bytes)) {
    return Status{StatusCode::OutOfMemory, "the memory that is in use leaves no room"};
  }
  auto memory = device_.allocate_exportable(bytes);
  const bool is_full = !memory && memory.error().code == StatusCode::OutOfMemory;
  if (is_full && idle_bytes_ > 0) {
    release_idle(idle_bytes_);
    memory = device_.allocate_exportable(bytes);
  }
  if (!memory) return std::move(memory).error();
  used_bytes_ += (*memory)->bytes();
  return std::shared_ptr<const ExportableMemory>(memory->release(),
                                                 [this](const ExportableMemory* gone) {
                                                   used_bytes_ -= gone->bytes();
                                                   delete gone;
                                                 });
}

// Gives at least `bytes` of idle memory back to the device, the largest blocks first.
void MemoryPool::release_idle(std::uint64_t bytes) {
  std::uint64_t released = 0;
  for (auto size = idle_.rbegin(); size != idle_.rend() && released < bytes; ++size) {
    while (!size->second.empty() && released < bytes) {
      released += size->first;
      idle_bytes_ -= size->first;
      size->second.pop_back();
    }
  }
}

void MemoryPool::give_back(MemoryBlock* block) noexcept {
  BlockPtr owned(block);
  const std::uint64_t bytes = block->memory.bytes();
  used_bytes_ -= bytes;
  try {
    idle_[bytes].push_back(std::move(owned));
    idle_bytes_ += bytes;
  } catch (const std::bad_alloc&) {
    // Not kept for reuse then: `owned`, or its place in the list, has freed it.
  }
}

}  // namespace kaas
