// Memory for small objects: 4 MiB segments that hold the objects of one uid, because executors map
// whole segments and must never see another uid's bytes.
//
//   slab (kSlabBytes)    | chunk | chunk | chunk | ...           kSlabChunkBytes each
//   chunk in use         | piece | piece | ...                   all of one power of two
//   piece sizes          kSlabPieceBytesMin, x 2, ... kSlabObjectBytesMax (a whole chunk)
//
// A chunk belongs to no size until it is needed and again when its last piece is given back. The
// budget is charged by chunks, when their pages are first used; a slab without pieces is given
// back to the system at once, and its charge with it. A piece is not zeroed in between: whoever
// may map the slab could read its former bytes anyway.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "daemon/flow/segments.h"
#include "daemon/store/budget.h"
#include "schema/ipc/result.h"
#include "schema/limits.h"

namespace kaas {

inline constexpr std::uint64_t kSlabPieceBytesMin = 64;
inline constexpr std::uint64_t kSlabChunkBytes = 64u << 10;
inline constexpr std::uint64_t kSlabChunks = kSlabBytes / kSlabChunkBytes;
static_assert(kSlabObjectBytesMax <= kSlabChunkBytes && kSlabBytes % kSlabChunkBytes == 0);

class SlabPool;
struct Slab;

// A piece of a slab; given back when it dies. Move-only. The pool must outlive it.
// Threads: one owner; bytes() and the place from several.
class [[nodiscard]] SlabPiece {
 public:
  SlabPiece() noexcept = default;
  SlabPiece(SlabPiece&& other) noexcept;
  SlabPiece& operator=(SlabPiece&& other) noexcept;
  ~SlabPiece();

  [[nodiscard]] explicit operator bool() const noexcept { return slab_ != nullptr; }
  // Its bytes in kaasd's mapping, the only writable one there is; at least as many as asked for.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept;
  [[nodiscard]] const SegmentRef& segment() const noexcept;
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }

 private:
  friend class SlabPool;
  SlabPiece(SlabPool* pool, Slab* slab, std::uint32_t offset, std::uint32_t bytes) noexcept
      : pool_(pool), slab_(slab), offset_(offset), bytes_(bytes) {}

  SlabPool* pool_ = nullptr;
  Slab* slab_ = nullptr;
  std::uint32_t offset_ = 0;
  std::uint32_t bytes_ = 0;
};

// All slabs of all uids.
// Owns:    the slabs; budget and registry must outlive it, and it its pieces.
// Threads: all functions from any thread.
class SlabPool {
 public:
  SlabPool(ByteBudget& budget, SegmentRegistry& registry);
  ~SlabPool();
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  // A piece of at least `bytes`, at most kSlabObjectBytesMax (checked by the caller), in a slab of
  // `uid`. Fails with ResourceExhausted when budget, descriptors or address space are used up;
  // `what` is the noun of the message.
  Result<SlabPiece> allocate(uid_t uid, std::uint64_t bytes, const std::string& what);

  struct Usage {
    std::uint64_t slabs = 0;
    std::uint64_t pieces = 0;
    std::uint64_t charged_bytes = 0;
  };
  [[nodiscard]] Usage usage() const;

 private:
  friend class SlabPiece;
  struct State;
  void give_back(Slab* slab, std::uint32_t offset) noexcept;

  const std::unique_ptr<State> state_;
};

}  // namespace kaas
