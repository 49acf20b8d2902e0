#include "daemon/store/slab.h"

#include <algorithm>
#include <array>
#include <bit>
#include <list>
#include <mutex>
#include <unordered_map>

#include "schema/ipc/segment.h"

namespace kaas {
namespace {

constexpr std::size_t kPieceSizes =
    std::countr_zero(kSlabObjectBytesMax) - std::countr_zero(kSlabPieceBytesMin) + 1;
constexpr std::size_t kPiecesPerChunkMax = kSlabChunkBytes / kSlabPieceBytesMin;
static_assert(std::has_single_bit(kSlabObjectBytesMax) && std::has_single_bit(kSlabPieceBytesMin));

struct Home;

// 64 KiB of a slab. In exactly one list of its home, by what it can still give.
struct Chunk {
  Slab* slab = nullptr;
  std::list<Chunk*>* list = nullptr;
  std::list<Chunk*>::iterator node;
  std::uint32_t piece_bytes = 0;  // 0: free.
  std::uint32_t used = 0;         // Pieces.
  bool touched = false;           // Its pages exist, or may, and are charged to the budget.
  std::array<std::uint64_t, kPiecesPerChunkMax / 64> free_pieces{};  // Bit set: free.

  [[nodiscard]] std::uint32_t pieces() const noexcept {
    return static_cast<std::uint32_t>(kSlabChunkBytes / piece_bytes);
  }

  void begin(std::uint32_t bytes) noexcept {
    piece_bytes = bytes;
    free_pieces.fill(0);
    for (std::uint32_t piece = 0; piece < pieces(); ++piece) {
      free_pieces[piece / 64] |= std::uint64_t{1} << (piece % 64);
    }
  }
  [[nodiscard]] std::uint32_t take_piece() noexcept {
    const auto word = std::find_if(free_pieces.begin(), free_pieces.end(),
                                   [](std::uint64_t bits) { return bits != 0; });
    KAAS_CHECK(word != free_pieces.end());
    const auto bit = static_cast<std::uint32_t>(std::countr_zero(*word));
    *word &= *word - 1;
    ++used;
    return static_cast<std::uint32_t>(word - free_pieces.begin()) * 64 + bit;
  }
  void return_piece(std::uint32_t piece) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (piece % 64);
    KAAS_CHECK(used > 0 && (free_pieces[piece / 64] & bit) == 0);
    free_pieces[piece / 64] |= bit;
    --used;
  }
};

}  // namespace

struct Slab {
  SegmentRef segment;
  Mapping mapping;
  Reservation charge;
  Home* home = nullptr;
  std::list<Slab>::iterator node;
  std::uint32_t used = 0;  // Pieces.
  std::array<Chunk, kSlabChunks> chunks;
};

namespace {

// Moves a chunk to the front of another list. Allocates nothing, so giving back cannot fail.
void move_chunk(Chunk& chunk, std::list<Chunk*>& to) noexcept {
  to.splice(to.begin(), *chunk.list, chunk.node);
  chunk.list = &to;
}

// The slabs of one uid.
struct Home {
  uid_t uid = 0;
  std::list<Slab> slabs;
  std::list<Chunk*> free;  // Touched ones first.
  std::list<Chunk*> full;
  std::array<std::list<Chunk*>, kPieceSizes> partial;
};

std::size_t size_index(std::uint32_t piece_bytes) noexcept {
  return std::countr_zero(piece_bytes) - std::countr_zero(kSlabPieceBytesMin);
}

// A slab nobody has seen, mapped by kaasd and sealed against every other writer.
Result<std::list<Slab>> create_slab(uid_t uid, SegmentRegistry& registry) {
  KAAS_ASSIGN_OR_RETURN(const Descriptor memory, create_segment("kaas-slab", kSlabBytes));
  std::list<Slab> one(1);
  Slab& slab = one.front();
  KAAS_ASSIGN_OR_RETURN(
      slab.mapping, Mapping::create(memory.get(), kSlabBytes, Mapping::Mode::ReadWrite, "a slab"));
  KAAS_RETURN_IF_ERROR(add_seals(memory.get(), Seals::FutureWrite | Seals::Seal));
  KAAS_ASSIGN_OR_RETURN(Descriptor read_only, reopen_read_only(memory.get()));
  Segment segment;
  segment.descriptor = std::move(read_only);
  segment.bytes = kSlabBytes;
  segment.kind = SegmentKind::Slab;
  segment.owner_uid = uid;
  slab.segment = registry.add(std::move(segment));
  return one;
}

}  // namespace

struct SlabPool::State {
  State(ByteBudget& of_budget, SegmentRegistry& of_registry)
      : budget(of_budget), registry(of_registry) {}

  ByteBudget& budget;
  SegmentRegistry& registry;
  mutable std::mutex mutex;
  std::unordered_map<uid_t, Home> homes;  // Under mutex, with all in it. Nodes do not move.
  std::uint64_t slabs = 0;                // Under mutex.
  std::uint64_t pieces = 0;               // Under mutex.
  std::uint64_t charged_bytes = 0;        // Under mutex.

  Result<void> add_slab(Home& home);
  Result<void> open_chunk(Home& home, std::uint32_t piece_bytes, const std::string& what);
  std::list<Slab> remove_slab(Slab& slab) noexcept;
};

Result<void> SlabPool::State::add_slab(Home& home) {
  KAAS_ASSIGN_OR_RETURN(std::list<Slab> fresh, create_slab(home.uid, registry));
  Slab& slab = fresh.front();
  std::list<Chunk*> chunks;
  for (Chunk& chunk : slab.chunks) {
    chunk.slab = &slab;
    chunk.list = &home.free;
    chunk.node = chunks.insert(chunks.end(), &chunk);
  }
  slab.home = &home;
  slab.node = fresh.begin();
  home.free.splice(home.free.end(), chunks);
  home.slabs.splice(home.slabs.end(), fresh);
  ++slabs;
  return {};
}

// Makes a free chunk one of pieces of this size.
Result<void> SlabPool::State::open_chunk(Home& home, std::uint32_t piece_bytes,
                                         const std::string& what) {
  Reservation charge;
  if (home.free.empty() || !home.free.front()->touched) {
    KAAS_ASSIGN_OR_RETURN(charge, budget.reserve(kSlabChunkBytes, what));
  }
  if (home.free.empty()) KAAS_RETURN_IF_ERROR(add_slab(home));
  Chunk& chunk = *home.free.front();
  if (!chunk.touched) {
    charge.mark_touched();
    charged_bytes += charge.bytes();
    chunk.slab->charge.absorb(std::move(charge));
    chunk.touched = true;
  }
  chunk.begin(piece_bytes);
  move_chunk(chunk, home.partial[size_index(piece_bytes)]);
  return {};
}

// Takes a slab without pieces out of its home; the caller drops it after unlocking.
std::list<Slab> SlabPool::State::remove_slab(Slab& slab) noexcept {
  for (Chunk& chunk : slab.chunks) chunk.list->erase(chunk.node);
  charged_bytes -= slab.charge.bytes();
  --slabs;
  std::list<Slab> removed;
  Home& home = *slab.home;
  removed.splice(removed.begin(), home.slabs, slab.node);
  if (home.slabs.empty()) homes.erase(uid_t{home.uid});
  return removed;
}

SlabPool::SlabPool(ByteBudget& budget, SegmentRegistry& registry)
    : state_(std::make_unique<State>(budget, registry)) {}

SlabPool::~SlabPool() {
  KAAS_CHECK(state_->pieces == 0);
}

Result<SlabPiece> SlabPool::allocate(uid_t uid, std::uint64_t bytes, const std::string& what) {
  KAAS_CHECK(bytes <= kSlabObjectBytesMax);
  const auto piece_bytes =
      static_cast<std::uint32_t>(std::bit_ceil(std::max(bytes, kSlabPieceBytesMin)));
  const std::lock_guard lock(state_->mutex);
  Home& home = state_->homes[uid];
  home.uid = uid;
  std::list<Chunk*>& partial = home.partial[size_index(piece_bytes)];
  if (partial.empty()) {
    Result<void> opened = state_->open_chunk(home, piece_bytes, what);
    if (!opened) {
      if (home.slabs.empty()) state_->homes.erase(uid);
      return std::move(opened).error();
    }
  }
  Chunk& chunk = *partial.front();
  const std::uint32_t piece = chunk.take_piece();
  if (chunk.used == chunk.pieces()) move_chunk(chunk, home.full);
  Slab& slab = *chunk.slab;
  ++slab.used;
  ++state_->pieces;
  const auto chunk_index = static_cast<std::uint32_t>(&chunk - slab.chunks.data());
  const auto offset =
      static_cast<std::uint32_t>(chunk_index * kSlabChunkBytes + piece * piece_bytes);
  return SlabPiece(this, &slab, offset, piece_bytes);
}

SlabPool::Usage SlabPool::usage() const {
  const std::lock_guard lock(state_->mutex);
  return Usage{state_->slabs, state_->pieces, state_->charged_bytes};
}

void SlabPool::give_back(Slab* slab, std::uint32_t offset) noexcept {
  std::list<Slab> removed;  // Dropped after the lock: the registry's listener is called then.
  const std::lock_guard lock(state_->mutex);
  Home& home = *slab->home;
  Chunk& chunk = slab->chunks[offset / kSlabChunkBytes];
  chunk.return_piece(static_cast<std::uint32_t>(offset % kSlabChunkBytes) / chunk.piece_bytes);
  --slab->used;
  --state_->pieces;
  if (chunk.used == 0) {
    chunk.piece_bytes = 0;
    move_chunk(chunk, home.free);
  } else if (chunk.list == &home.full) {
    move_chunk(chunk, home.partial[size_index(chunk.piece_bytes)]);
  }
  if (slab->used == 0) removed = state_->remove_slab(*slab);
}

SlabPiece::SlabPiece(SlabPiece&& other) noexcept
    : pool_(other.pool_),
      slab_(std::exchange(other.slab_, nullptr)),
      offset_(other.offset_),
      bytes_(other.bytes_) {}

SlabPiece& SlabPiece::operator=(SlabPiece&& other) noexcept {
  SlabPiece dropped(std::move(other));
  std::swap(pool_, dropped.pool_);
  std::swap(slab_, dropped.slab_);
  std::swap(offset_, dropped.offset_);
  std::swap(bytes_, dropped.bytes_);
  return *this;
}

SlabPiece::~SlabPiece() {
  if (slab_ != nullptr) pool_->give_back(slab_, offset_);
}

std::span<std::byte> SlabPiece::bytes() const noexcept {
  if (slab_ == nullptr) return {};
  return {slab_->mapping.data() + offset_, bytes_};
}

const SegmentRef& SlabPiece::segment() const noexcept {
  return slab_->segment;
}

}  // namespace kaas
