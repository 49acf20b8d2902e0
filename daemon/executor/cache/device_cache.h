// Device copies of object versions. A version never changes, so a copy is never stale; what is not
// in use may be dropped at any time to make room.
//
// An entry is bytes [offset, offset + bytes) of a version. Its states and who moves them:
//
//   Pending ── settle(): the run that produces it has ended well ──> Ready
//   Pending ── fail():   it has not ──────────────────────────────> Failed
//   Ready   ── evicted, replaced or dropped ──────────────────────> gone when its last pin is
//
// Ready entries without a pin are evicted, longest unused first, when an allocation needs room;
// resident ones, whose bytes are nowhere else, are not. They have to be brought to the host first:
// take_residents() says which, written_back() makes them like the others. Nothing ever writes a
// cached copy: a run that writes an allocation gets one of its own.
// Threads: main thread only, destructors of CachePin included.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "daemon/executor/cache/memory_pool.h"
#include "schema/ipc/result.h"

namespace kaas {

struct CacheKey {
  std::uint64_t version = 0;  // Not 0.
  std::uint64_t offset = 0;   // In the object.
  std::uint64_t bytes = 0;
};

class DeviceCache;

class CacheEntry : public boost::intrusive::list_base_hook<> {
 public:
  enum class State : std::uint8_t { Pending, Ready, Failed };

  [[nodiscard]] const CacheKey& key() const noexcept { return key_; }
  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] std::uint64_t producer() const noexcept { return producer_; }  // Run that makes it.
  // Bytes of a small output that is not in device memory; null: they are there.
  [[nodiscard]] const std::byte* host_bytes() const noexcept { return host_bytes_.get(); }
  // Where byte key().offset of the object is. Ready entries without host_bytes() only.
  [[nodiscard]] DeviceAddress address() const noexcept { return block_.address() + block_offset_; }
  [[nodiscard]] const BlockRef& block() const noexcept { return block_; }
  [[nodiscard]] std::uint64_t block_offset() const noexcept { return block_offset_; }
  // Whether bytes [offset, offset + bytes) of the object are all in it.
  [[nodiscard]] bool covers(std::uint64_t offset, std::uint64_t bytes) const noexcept;

 private:
  friend class CachePin;
  friend class DeviceCache;
  CacheKey key_;
  State state_ = State::Pending;
  bool resident_ = false;
  bool taken_ = false;   // Resident: by take_residents(), and not written back yet.
  bool kept_ = false;    // Resident: writing it back has failed; it is not taken again.
  bool indexed_ = true;  // Can be found; else only its pins keep it.
  std::uint32_t pins_ = 0;
  std::uint64_t producer_ = 0;
  BlockRef block_;
  std::uint64_t block_offset_ = 0;
  std::unique_ptr<std::byte[]> host_bytes_;
};

// Keeps an entry. Move-only.
class CachePin {
 public:
  CachePin() noexcept = default;
  CachePin(DeviceCache& cache, CacheEntry& entry) noexcept;
  CachePin(CachePin&& other) noexcept
      : cache_(other.cache_), entry_(std::exchange(other.entry_, nullptr)) {}
  CachePin& operator=(CachePin&& other) noexcept {
    CachePin dropped(std::move(other));
    std::swap(cache_, dropped.cache_);
    std::swap(entry_, dropped.entry_);
    return *this;
  }
  ~CachePin();

  [[nodiscard]] explicit operator bool() const noexcept { return entry_ != nullptr; }
  CacheEntry& operator*() const noexcept { return *entry_; }
  CacheEntry* operator->() const noexcept { return entry_; }

 private:
  DeviceCache* cache_ = nullptr;
  CacheEntry* entry_ = nullptr;
};

struct CacheFigures {
  std::uint64_t evictions = 0;
  std::uint64_t evicted_bytes = 0;
  std::size_t entries = 0;    // That can be found, whatever their state.
  std::size_t residents = 0;  // Of these, whose bytes are nowhere else.
};

class DeviceCache {
 public:
  // `device` must outlive this, and this all its pins and blocks.
  DeviceCache(Device& device, std::uint64_t limit_bytes) : pool_(device, limit_bytes) {}
  ~DeviceCache();
  DeviceCache(const DeviceCache&) = delete;
  DeviceCache& operator=(const DeviceCache&) = delete;

  // Called when memory is short, before anything is evicted: gives back blocks that are kept
  // without being used. Returns whether there were any.
  void set_reclaim(std::function<bool()> reclaim) { reclaim_ = std::move(reclaim); }

  // Memory for a run of `tenant`, evicting what nobody uses. OutOfMemory: what is left is pinned.
  Result<TakenBlock> allocate(std::uint64_t bytes, std::uint32_t tenant);

  // The same for memory that other processes can map; it is nobody's cached copy. Fails also with
  // what the device says.
  Result<std::shared_ptr<const ExportableMemory>> allocate_exportable(std::uint64_t bytes);

  // The Ready entry in device memory that covers the key, if there is one.
  CachePin find(const CacheKey& key);
  // Every entry that shares a byte with the key, in whatever state.
  std::vector<CachePin> find_parts(const CacheKey& key);

  // A run that was accepted will produce this. Replaces an entry of the same key.
  CachePin expect(const CacheKey& key, std::uint64_t producer);
  // The outcome of a Pending entry: its bytes are at `offset` of `block`.
  void settle(CacheEntry& entry, BlockRef block, std::uint64_t offset, bool resident);
  // The same for bytes that no device memory holds. They are here for as long as they are pinned.
  void settle_on_host(CacheEntry& entry, std::unique_ptr<std::byte[]> bytes);
  void fail(CacheEntry& entry);
  // All of a version that will not come, as nobody was expected to produce it.
  void fail_version(std::uint64_t version);

  // Bytes that were loaded from the host. Ignored if the key is there already.
  void insert(const CacheKey& key, BlockRef block, std::uint64_t offset);

  // Whether bytes of the version were asked for before, as far as is remembered: what is loaded
  // again is worth a place in device memory.
  bool asked_before(std::uint64_t version);

  // Resident versions without a pin, longest unused first, that hold `bytes` together, or all there
  // are. Each is given out once.
  std::vector<std::uint64_t> take_residents(std::uint64_t bytes);
  // How many of those that were taken are neither written back nor dropped.
  [[nodiscard]] std::size_t residents_taken() const noexcept { return residents_taken_; }
  // The host has the bytes of the version, or can't have them now.
  void written_back(std::uint64_t version);
  void not_written_back(std::uint64_t version);

  // Forgets all of a version. What is pinned stays until it is not.
  void drop(std::uint64_t version);

  [[nodiscard]] const MemoryPool& pool() const noexcept { return pool_; }
  [[nodiscard]] const CacheFigures& figures() const noexcept { return figures_; }

 private:
  friend class CachePin;
  using Entries = std::vector<CacheEntry*>;

  CacheEntry* find_exact(const CacheKey& key);
  CacheEntry& add(const CacheKey& key);
  void forget_failed(std::uint64_t version);
  void unlink(CacheEntry& entry) noexcept;
  void end_residence(CacheEntry& entry) noexcept;
  void unindex(CacheEntry& entry) noexcept;
  void unpin(CacheEntry& entry) noexcept;
  void keep_or_delete(CacheEntry& entry) noexcept;
  bool evict_one();

  MemoryPool pool_;
  std::unordered_map<std::uint64_t, Entries> versions_;
  // Ready, indexed, not resident, not pinned; longest unused first.
  boost::intrusive::list<CacheEntry> evictable_;
  // Ready, indexed, resident, not taken nor kept, not pinned; longest unused first.
  boost::intrusive::list<CacheEntry> residents_;
  std::size_t residents_taken_ = 0;
  std::deque<std::uint64_t> failed_versions_;  // Oldest first, bounded.
  std::function<bool()> reclaim_;
  std::unordered_set<std::uint64_t> asked_;  // Versions, of late.
  CacheFigures figures_;
};

inline CachePin::CachePin(DeviceCache& cache, CacheEntry& entry) noexcept
    : cache_(&cache), entry_(&entry) {
  ++entry.pins_;
  cache.unlink(entry);
}
inline CachePin::~CachePin() {
  if (entry_ != nullptr) cache_->unpin(*entry_);
}

}  // namespace kaas
