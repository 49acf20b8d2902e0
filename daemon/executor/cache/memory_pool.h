// Device memory under a limit, kept for reuse when it is given back. Each block remembers which
// tenant used it last, so that nobody reads what another one left.
// Threads: main thread only, destructors of BlockRef included.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "daemon/executor/device/device.h"
#include "daemon/executor/device/exportable_memory.h"

namespace kaas {

class MemoryPool;

// One allocation of the pool and how many refer to it.
struct MemoryBlock {
  DeviceMemory memory;
  MemoryPool* pool = nullptr;
  std::uint32_t references = 0;
  std::optional<std::uint32_t> last_tenant;  // Nobody yet: what is in it is unknown.
};

// Shares a block; the last one gives it back to the pool.
class BlockRef {
 public:
  BlockRef() noexcept = default;
  explicit BlockRef(MemoryBlock* block) noexcept : block_(block) {
    if (block_ != nullptr) ++block_->references;
  }
  BlockRef(const BlockRef& other) noexcept : BlockRef(other.block_) {}
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef();

  [[nodiscard]] explicit operator bool() const noexcept { return block_ != nullptr; }
  [[nodiscard]] DeviceAddress address() const noexcept { return block_->memory.address(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return block_->memory.bytes(); }
  // What is in it may be anybody's: it is foreign to whoever takes it next.
  void forget_tenant() const noexcept { block_->last_tenant.reset(); }
  // Whether nobody else refers to the block.
  [[nodiscard]] bool unique() const noexcept { return block_->references == 1; }

 private:
  MemoryBlock* block_ = nullptr;
};

struct TakenBlock {
  BlockRef block;
  bool foreign = true;  // Not last used by the tenant who takes it: zero what is not written over.
};

class MemoryPool {
 public:
  // `device` must outlive this, and this all that it gave out.
  MemoryPool(Device& device, std::uint64_t limit_bytes)
      : device_(device), limit_bytes_(limit_bytes) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // What an allocation of `bytes` counts: rounded up to the device's alignment.
  [[nodiscard]] static std::uint64_t counted_bytes(std::uint64_t bytes) noexcept {
    return (bytes + kDeviceAlignmentBytes - 1) & ~std::uint64_t{kDeviceAlignmentBytes - 1};
  }

  // A block of at least `bytes` (1 .. kBufferBytesMax) for `tenant`. Idle blocks that don't fit are
  // given back to the device to make room. nullopt: no room within the limit or on the device.
  std::optional<TakenBlock> try_take(std::uint64_t bytes, std::uint32_t tenant);

  // Memory of at least `bytes` that others can map. It counts within the limit as long as somebody
  // here has it, and is never used again. OutOfMemory: no room; else what the device says.
  Result<std::shared_ptr<const ExportableMemory>> take_exportable(std::uint64_t bytes);

  [[nodiscard]] std::uint64_t limit_bytes() const noexcept { return limit_bytes_; }
  [[nodiscard]] std::uint64_t used_bytes() const noexcept { return used_bytes_; }  // By holders.
  [[nodiscard]] std::uint64_t idle_bytes() const noexcept { return idle_bytes_; }

 private:
  friend class BlockRef;
  using BlockPtr = std::unique_ptr<MemoryBlock>;

  void give_back(MemoryBlock* block) noexcept;
  BlockPtr take_idle(std::uint64_t wanted, std::uint32_t tenant);
  BlockPtr allocate(std::uint64_t wanted);
  bool make_room(std::uint64_t wanted);
  void release_idle(std::uint64_t bytes);

  Device& device_;
  std::uint64_t limit_bytes_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t idle_bytes_ = 0;
  std::map<std::uint64_t, std::vector<BlockPtr>> idle_;  // By size.
};

}  // namespace kaas
