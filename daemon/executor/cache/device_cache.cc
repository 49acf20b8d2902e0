#include "daemon/executor/cache/device_cache.h"

#include <algorithm>

#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

// Versions whose failure is remembered until kaasd drops them. It always does; this bounds what a
// kaasd that does not can cost.
constexpr std::size_t kFailedVersionsMax = 65'536;
// Versions of which it is remembered that they were asked for.
constexpr std::size_t kAskedVersionsMax = 16'384;

}  // namespace

bool CacheEntry::covers(std::uint64_t offset, std::uint64_t bytes) const noexcept {
  return offset >= key_.offset && range_fits(offset - key_.offset, bytes, key_.bytes);
}

DeviceCache::~DeviceCache() {
  while (!versions_.empty()) drop(versions_.begin()->first);
}

Result<TakenBlock> DeviceCache::allocate(std::uint64_t bytes, std::uint32_t tenant) {
  for (;;) {
    if (auto taken = pool_.try_take(bytes, tenant)) return *std::move(taken);
    if (reclaim_ && reclaim_()) continue;
    if (!evict_one()) break;
  }
  return Status{StatusCode::OutOfMemory, "allocation of " + std::to_string(bytes) +
                                             " bytes, device limit " +
                                             std::to_string(pool_.limit_bytes()) + ", in use " +
                                             std::to_string(pool_.used_bytes())};
}

Result<std::shared_ptr<const ExportableMemory>> DeviceCache::allocate_exportable(
    std::uint64_t bytes) {
  for (;;) {
    auto taken = pool_.take_exportable(bytes);
    if (taken || taken.error().code != StatusCode::OutOfMemory) return taken;
    if (reclaim_ && reclaim_()) continue;
    if (evict_one()) continue;
    return Status{StatusCode::OutOfMemory,
                  "export of " + std::to_string(bytes) + " bytes, device limit " +
                      std::to_string(pool_.limit_bytes()) + ", in use " +
                      std::to_string(pool_.used_bytes()) + ": " + taken.error().message};
  }
}

CacheEntry* DeviceCache::find_exact(const CacheKey& key) {
  const auto version = versions_.find(key.version);
  if (version == versions_.end()) return nullptr;
  for (CacheEntry* entry : version->second) {
    if (entry->key_.offset == key.offset && entry->key_.bytes == key.bytes) return entry;
  }
  return nullptr;
}

CachePin DeviceCache::find(const CacheKey& key) {
  const auto version = versions_.find(key.version);
  if (version == versions_.end()) return {};
  for (CacheEntry* entry : version->second) {
    if (entry->state_ == CacheEntry::State::Ready && entry->host_bytes_ == nullptr &&
        entry->covers(key.offset, key.bytes)) {
      return CachePin(*this, *entry);
    }
  }
  return {};
}

std::vector<CachePin> DeviceCache::find_parts(const CacheKey& key) {
  std::vector<CachePin> parts;
  const auto version = versions_.find(key.version);
  if (version == versions_.end()) return parts;
  for (CacheEntry* entry : version->second) {
    if (ranges_overlap(entry->key_.offset, entry->key_.bytes, key.offset, key.bytes)) {
      parts.emplace_back(*this, *entry);
    }
  }
  return parts;
}

CacheEntry& DeviceCache::add(const CacheKey& key) {
  auto entry = std::make_unique<CacheEntry>();
  entry->key_ = key;
  versions_[key.version].push_back(entry.get());
  ++figures_.entries;
  return *entry.release();
}

CachePin DeviceCache::expect(const CacheKey& key, std::uint64_t producer) {
  if (CacheEntry* old = find_exact(key)) {
    unindex(*old);
    keep_or_delete(*old);
  }
  CacheEntry& entry = add(key);
  entry.producer_ = producer;
  return CachePin(*this, entry);
}

void DeviceCache::settle(CacheEntry& entry, BlockRef block, std::uint64_t offset, bool resident) {
  entry.block_ = std::move(block);
  entry.block_offset_ = offset;
  entry.resident_ = resident;
  if (resident) ++figures_.residents;
  entry.state_ = CacheEntry::State::Ready;
}

void DeviceCache::settle_on_host(CacheEntry& entry, std::unique_ptr<std::byte[]> bytes) {
  entry.host_bytes_ = std::move(bytes);
  entry.state_ = CacheEntry::State::Ready;
}

bool DeviceCache::asked_before(std::uint64_t version) {
  if (asked_.count(version) != 0) return true;
  if (asked_.size() >= kAskedVersionsMax) asked_.clear();
  asked_.insert(version);
  return false;
}

void DeviceCache::fail(CacheEntry& entry) {
  entry.state_ = CacheEntry::State::Failed;
  failed_versions_.push_back(entry.key_.version);
  while (failed_versions_.size() > kFailedVersionsMax) {
    forget_failed(failed_versions_.front());
    failed_versions_.pop_front();
  }
}

void DeviceCache::fail_version(std::uint64_t version) {
  const CachePin whole = expect({version, 0, UINT64_MAX}, 0);
  fail(*whole);
}

void DeviceCache::forget_failed(std::uint64_t version) {
  const auto found = versions_.find(version);
  if (found == versions_.end()) return;
  const Entries entries = found->second;  // A copy: unindex() changes the list.
  for (CacheEntry* entry : entries) {
    if (entry->state_ != CacheEntry::State::Failed) continue;
    unindex(*entry);
    keep_or_delete(*entry);
  }
}

void DeviceCache::insert(const CacheKey& key, BlockRef block, std::uint64_t offset) {
  if (find_exact(key) != nullptr) return;
  CacheEntry& entry = add(key);
  settle(entry, std::move(block), offset, false);
  evictable_.push_back(entry);
}

void DeviceCache::drop(std::uint64_t version) {
  const auto found = versions_.find(version);
  if (found == versions_.end()) return;
  const Entries entries = std::move(found->second);
  versions_.erase(found);
  for (CacheEntry* entry : entries) {
    end_residence(*entry);
    entry->indexed_ = false;
    --figures_.entries;
    keep_or_delete(*entry);
  }
  asked_.erase(version);
}

// The entry can't be found any more.
void DeviceCache::unindex(CacheEntry& entry) noexcept {
  end_residence(entry);
  const auto version = versions_.find(entry.key_.version);
  Entries& entries = version->second;
  entries.erase(std::find(entries.begin(), entries.end(), &entry));
  if (entries.empty()) versions_.erase(version);
  entry.indexed_ = false;
  --figures_.entries;
}

void DeviceCache::unpin(CacheEntry& entry) noexcept {
  --entry.pins_;
  keep_or_delete(entry);
}

// What becomes of an entry whose pins or index changed.
void DeviceCache::keep_or_delete(CacheEntry& entry) noexcept {
  if (entry.pins_ != 0) return;
  if (entry.indexed_ && entry.host_bytes_ != nullptr) unindex(entry);
  if (!entry.indexed_) {
    unlink(entry);
    delete &entry;
    return;
  }
  if (entry.state_ != CacheEntry::State::Ready || entry.is_linked()) return;
  if (!entry.resident_) {
    evictable_.push_back(entry);
  } else if (!entry.taken_ && !entry.kept_) {
    residents_.push_back(entry);
  }
}

void DeviceCache::unlink(CacheEntry& entry) noexcept {
  if (!entry.is_linked()) return;
  auto& list = entry.resident_ ? residents_ : evictable_;
  list.erase(list.iterator_to(entry));
}

// Whether its bytes are elsewhere too does not matter any more.
void DeviceCache::end_residence(CacheEntry& entry) noexcept {
  if (!entry.resident_) return;
  unlink(entry);
  if (entry.taken_) --residents_taken_;
  --figures_.residents;
  entry.resident_ = entry.taken_ = entry.kept_ = false;
}

std::vector<std::uint64_t> DeviceCache::take_residents(std::uint64_t bytes) {
  std::vector<std::uint64_t> versions;
  for (std::uint64_t taken = 0; taken < bytes && !residents_.empty();) {
    CacheEntry& oldest = residents_.front();
    residents_.pop_front();
    oldest.taken_ = true;
    ++residents_taken_;
    taken += oldest.key_.bytes;
    versions.push_back(oldest.key_.version);
  }
  return versions;
}

void DeviceCache::written_back(std::uint64_t version) {
  const auto found = versions_.find(version);
  if (found == versions_.end()) return;
  for (CacheEntry* entry : found->second) {
    if (!entry->resident_) continue;
    end_residence(*entry);
    keep_or_delete(*entry);
  }
}

void DeviceCache::not_written_back(std::uint64_t version) {
  const auto found = versions_.find(version);
  if (found == versions_.end()) return;
  for (CacheEntry* entry : found->second) {
    if (!entry->resident_) continue;
    unlink(*entry);
    if (entry->taken_) --residents_taken_;
    entry->taken_ = false;
    entry->kept_ = true;
  }
}

bool DeviceCache::evict_one() {
  if (evictable_.empty()) return false;
  CacheEntry& oldest = evictable_.front();
  ++figures_.evictions;
  figures_.evicted_bytes += oldest.key_.bytes;
  unindex(oldest);
  keep_or_delete(oldest);
  return true;
}

}  // namespace kaas
