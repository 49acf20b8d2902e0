// Names: who finds which version under which key.
//
// Locks, in this order: Index::writers, then one element's accessor, then those of versions and
// slabs. A version is never let go of under the first two: its listener is not ours.
#include "daemon/store/store.h"

#include <tbb/concurrent_hash_map.h>

#include <algorithm>
#include <boost/container/small_vector.hpp>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "daemon/store/store_core.h"
#include "schema/limits.h"

namespace kaas {
namespace {

struct ObjectKey {
  uid_t namespace_uid = 0;
  std::string key;
  bool operator==(const ObjectKey&) const = default;
};

struct ObjectKeyHash {
  static std::size_t hash(const ObjectKey& key) {
    constexpr std::size_t kSpread = 0x9e37'79b9'7f4a'7c15u;  // Odd: every uid has its own.
    return std::hash<std::string>()(key.key) ^ (key.namespace_uid * kSpread);
  }
  static bool equal(const ObjectKey& a, const ObjectKey& b) { return a == b; }
};

struct Reader {
  uid_t uid = 0;
  bool everyone = false;
  bool write = false;
};

// What a key stands for. Without a version it is a place that a publication has prepared.
struct KeyState {
  VersionRef version;
  std::uint32_t prepared = 0;  // Publications that will write it.
  std::vector<Reader> readers;

  [[nodiscard]] bool readable_by(uid_t uid) const noexcept {
    return std::any_of(readers.begin(), readers.end(),
                       [uid](const Reader& r) { return r.everyone || r.uid == uid; });
  }
  [[nodiscard]] bool writable_by(uid_t uid) const noexcept {
    return std::any_of(readers.begin(), readers.end(),
                       [uid](const Reader& r) { return r.write && (r.everyone || r.uid == uid); });
  }
};

using Map = tbb::concurrent_hash_map<ObjectKey, KeyState, ObjectKeyHash>;
using Names = std::set<std::string, std::less<>>;

// The names of one namespace in order, since the map cannot be iterated while others erase. A
// foreign reader walks the names that are shared with it and no others: time tells it nothing.
struct NameLists {
  Names all;
  Names for_everyone;
  std::map<uid_t, Names> for_uid;

  void share(const Reader& reader, const std::string& key) {
    (reader.everyone ? for_everyone : for_uid[reader.uid]).insert(key);
  }
  void unshare(const Reader& reader, const std::string& key) noexcept {
    if (reader.everyone) {
      for_everyone.erase(key);
      return;
    }
    const auto found = for_uid.find(reader.uid);
    if (found == for_uid.end()) return;
    found->second.erase(key);
    if (found->second.empty()) for_uid.erase(found);
  }
  [[nodiscard]] const Names& of_uid(uid_t uid) const noexcept {
    static const Names none;
    const auto found = for_uid.find(uid);
    return found == for_uid.end() ? none : found->second;
  }
};

// Walks two ordered sets as one, each name once, from the first that a page may show.
class NameWalk {
 public:
  NameWalk(const Names& a, const Names& b, std::string_view prefix, std::string_view after)
      : prefix_(prefix),
        a_(start(a, prefix, after)),
        b_(start(b, prefix, after)),
        a_end_(a.end()),
        b_end_(b.end()) {}

  // Null at the end of the prefix.
  const std::string* next() {
    const bool from_a = a_ != a_end_ && (b_ == b_end_ || *a_ <= *b_);
    const bool from_b = b_ != b_end_ && (a_ == a_end_ || *b_ <= *a_);
    if (!from_a && !from_b) return nullptr;
    const std::string* name = from_a ? &*a_ : &*b_;
    if (from_a) ++a_;
    if (from_b) ++b_;
    return name->starts_with(prefix_) ? name : nullptr;
  }

 private:
  static Names::const_iterator start(const Names& names, std::string_view prefix,
                                     std::string_view after) {
    return after < prefix ? names.lower_bound(prefix) : names.upper_bound(after);
  }

  std::string_view prefix_;
  Names::const_iterator a_, b_;
  const Names::const_iterator a_end_, b_end_;
};

Status not_found(uid_t reader, uid_t namespace_uid, std::string_view key) {
  std::string message = "no object '" + std::string(key) + "'";
  if (reader != namespace_uid) {
    message += " of uid " + std::to_string(namespace_uid) + " that is shared with uid " +
               std::to_string(reader);
  }
  return Status{StatusCode::NotFound, std::move(message)};
}

Result<void> check_key(std::string_view key) {
  if (key.empty()) return Status{StatusCode::InvalidArgument, "key is empty"};
  if (key.size() > kKeyBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "length of a key", key.size(), kKeyBytesMax);
  }
  return {};
}

}  // namespace

struct Publication::Item {
  ObjectKey key;
  VersionRef version;
  bool counted = false;  // In KeyState::prepared.
};

struct Store::Index {
  Map map;
  std::mutex writers;
  std::unordered_map<uid_t, NameLists> names;  // Under writers.

  // Under writers. The key is shared with nobody any more.
  void forget_name(const ObjectKey& key) noexcept {
    const auto lists = names.find(key.namespace_uid);
    if (lists == names.end()) return;
    lists->second.all.erase(key.key);
    if (lists->second.all.empty()) names.erase(lists);
  }
};

Publication::Publication() noexcept = default;
Publication::Publication(Publication&& other) noexcept = default;

Publication& Publication::operator=(Publication&& other) noexcept {
  Publication dropped(std::move(other));
  std::swap(store_, dropped.store_);
  std::swap(items_, dropped.items_);
  return *this;
}

Publication::~Publication() {
  if (store_ != nullptr && !items_.empty()) store_->abandon(*this);
}

Store::Store(ByteBudget& budget, SegmentRegistry& registry, Dropped dropped)
    : core_(std::make_shared<StoreCore>(budget, registry, std::move(dropped))),
      index_(std::make_unique<Index>()) {}

ByteBudget& Store::budget() noexcept {
  return core_->budget;
}

Store::~Store() = default;

// --- Reading -------------------------------------------------------------------------------------

Result<VersionRef> Store::lookup(uid_t reader, uid_t namespace_uid, std::string_view key) const {
  Map::const_accessor found;
  const bool exists = index_->map.find(found, ObjectKey{namespace_uid, std::string(key)});
  if (!exists || found->second.version == nullptr ||
      (reader != namespace_uid && !found->second.readable_by(reader))) {
    return not_found(reader, namespace_uid, key);
  }
  return found->second.version;
}

Result<ObjectInfo> Store::stat(uid_t reader, uid_t namespace_uid, std::string_view key) const {
  Map::const_accessor found;
  const bool exists = index_->map.find(found, ObjectKey{namespace_uid, std::string(key)});
  if (!exists || found->second.version == nullptr ||
      (reader != namespace_uid && !found->second.readable_by(reader))) {
    return not_found(reader, namespace_uid, key);
  }
  const KeyState& state = found->second;
  ObjectInfo info{std::string(key), namespace_uid, state.version->id(), state.version->bytes(),
                  !state.readers.empty()};
  info.place = state.version->place();
  if (info.place != wire::ObjectPlace::Host) info.device = state.version->device();
  return info;
}

Result<void> Store::check_write(uid_t writer, uid_t namespace_uid, std::string_view key) const {
  if (writer == namespace_uid) return {};
  Map::const_accessor found;
  const bool exists = index_->map.find(found, ObjectKey{namespace_uid, std::string(key)});
  if (exists && found->second.version != nullptr && found->second.writable_by(writer)) return {};
  return Status{StatusCode::PermissionDenied, "uid " + std::to_string(writer) +
                                                  " may not write object '" + std::string(key) +
                                                  "' of uid " + std::to_string(namespace_uid)};
}

ObjectList Store::list(uid_t reader, uid_t namespace_uid, std::string_view prefix,
                       std::string_view after, std::uint32_t limit) const {
  const std::size_t wanted = limit == 0 ? kListLimitMax : std::min(limit, kListLimitMax);
  const bool foreign = reader != namespace_uid;
  ObjectList list;
  const std::lock_guard lock(index_->writers);
  const auto lists = index_->names.find(namespace_uid);
  if (lists == index_->names.end()) return list;
  static const Names none;
  const NameLists& of = lists->second;
  NameWalk walk = foreign ? NameWalk(of.for_everyone, of.of_uid(reader), prefix, after)
                          : NameWalk(of.all, none, prefix, after);
  while (const std::string* name = walk.next()) {
    const Result<ObjectInfo> info = stat(reader, namespace_uid, *name);
    if (!info) continue;  // Prepared by a publication, no version yet.
    if (list.objects.size() == wanted) {
      list.more = true;
      break;
    }
    list.objects.push_back(*info);
  }
  return list;
}

// --- Publishing ----------------------------------------------------------------------------------

Result<Publication> Store::prepare(std::vector<Entry> entries) {
  Publication publication;
  publication.items_.reserve(entries.size());
  publication.store_ = this;
  boost::container::small_vector<std::pair<uid_t, std::string_view>, 8> keys;
  for (const Entry& entry : entries) {
    KAAS_CHECK(entry.version != nullptr && entry.version->owner_uid() == entry.namespace_uid);
    KAAS_RETURN_IF_ERROR(check_key(entry.key));
    keys.emplace_back(entry.namespace_uid, entry.key);
  }
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) {
    return Status{StatusCode::InvalidArgument,
                  "two outputs have the key '" + std::string(twice->second) + "'"};
  }
  const std::lock_guard lock(index_->writers);
  for (Entry& entry : entries) {
    publication.items_.push_back(Publication::Item{ObjectKey{entry.namespace_uid, entry.key},
                                                   std::move(entry.version), false});
    Publication::Item& item = publication.items_.back();
    // Whatever throws from here on, the publication's destructor takes it back.
    index_->names[entry.namespace_uid].all.insert(entry.key);
    Map::accessor place;
    index_->map.insert(place, item.key);
    ++place->second.prepared;
    item.counted = true;
  }
  return publication;
}

void Store::publish(Publication publication) noexcept {
  // Taken apart so that old versions, swapped into the items, go after the lock.
  std::vector<Publication::Item> items = std::move(publication.items_);
  publication.items_.clear();
  const std::lock_guard lock(index_->writers);
  for (Publication::Item& item : items) {
    KAAS_CHECK(item.version->is_complete());
    Map::accessor place;
    KAAS_CHECK(index_->map.find(place, item.key));
    --place->second.prepared;
    Account& account = *item.version->account_;
    account.object_bytes.fetch_add(item.version->bytes(), std::memory_order_relaxed);
    std::swap(place->second.version, item.version);
    if (item.version == nullptr) {
      account.objects.fetch_add(1, std::memory_order_relaxed);
    } else {
      account.object_bytes.fetch_sub(item.version->bytes(), std::memory_order_relaxed);
    }
  }
}

void Store::abandon(Publication& publication) noexcept {
  std::vector<Publication::Item> items = std::move(publication.items_);
  publication.items_.clear();
  const std::lock_guard lock(index_->writers);
  for (const Publication::Item& item : items) {
    Map::accessor place;
    if (!index_->map.find(place, item.key)) {
      index_->forget_name(item.key);
      continue;
    }
    if (item.counted) --place->second.prepared;
    if (place->second.version != nullptr || place->second.prepared != 0) continue;
    index_->map.erase(place);
    index_->forget_name(item.key);
  }
}

Result<VersionRef> Store::put_bytes(uid_t namespace_uid, std::string_view key,
                                    const ByteSource& source) {
  KAAS_RETURN_IF_ERROR(check_key(key));
  KAAS_ASSIGN_OR_RETURN(VersionRef version, make_from_bytes(namespace_uid, key, source));
  KAAS_RETURN_IF_ERROR(publish_one(namespace_uid, key, version));
  return version;
}

Result<VersionRef> Store::put_donated(uid_t namespace_uid, std::string_view key, Descriptor donated,
                                      std::uint64_t bytes) {
  KAAS_RETURN_IF_ERROR(check_key(key));
  KAAS_ASSIGN_OR_RETURN(VersionRef version, adopt(namespace_uid, key, std::move(donated), bytes));
  KAAS_RETURN_IF_ERROR(publish_one(namespace_uid, key, version));
  return version;
}

Result<void> Store::publish_one(uid_t namespace_uid, std::string_view key, VersionRef version) {
  std::vector<Entry> entry;
  entry.push_back(Entry{namespace_uid, std::string(key), std::move(version)});
  KAAS_ASSIGN_OR_RETURN(Publication publication, prepare(std::move(entry)));
  publish(std::move(publication));
  return {};
}

bool Store::remove(uid_t namespace_uid, std::string_view key) {
  const ObjectKey name{namespace_uid, std::string(key)};
  VersionRef removed;  // Goes after the lock.
  const std::lock_guard lock(index_->writers);
  Map::accessor place;
  if (!index_->map.find(place, name) || place->second.version == nullptr) return false;
  removed = std::exchange(place->second.version, nullptr);
  NameLists& lists = index_->names.find(namespace_uid)->second;
  for (const Reader& reader : place->second.readers) lists.unshare(reader, name.key);
  place->second.readers.clear();
  Account& account = *removed->account_;
  account.objects.fetch_sub(1, std::memory_order_relaxed);
  account.object_bytes.fetch_sub(removed->bytes(), std::memory_order_relaxed);
  if (place->second.prepared != 0) return true;
  index_->map.erase(place);
  index_->forget_name(name);
  return true;
}

Result<void> Store::share(uid_t namespace_uid, std::string_view key, const Grant& grant) {
  const std::lock_guard lock(index_->writers);
  Map::accessor place;
  if (!index_->map.find(place, ObjectKey{namespace_uid, std::string(key)}) ||
      place->second.version == nullptr) {
    return not_found(namespace_uid, namespace_uid, key);
  }
  std::vector<Reader>& readers = place->second.readers;
  const auto found = std::find_if(readers.begin(), readers.end(), [&grant](const Reader& r) {
    return r.everyone == grant.everyone && (r.everyone || r.uid == grant.uid);
  });
  NameLists& lists = index_->names.find(namespace_uid)->second;
  if (grant.revoke) {
    if (found == readers.end()) return {};
    lists.unshare(*found, place->first.key);
    readers.erase(found);
    return {};
  }
  if (found != readers.end()) {
    found->write = grant.write;
    return {};
  }
  if (readers.size() >= kGrantsPerKeyMax) {
    return over_limit(StatusCode::ResourceExhausted, "number of grants of a key",
                      readers.size() + 1, kGrantsPerKeyMax);
  }
  const Reader reader{grant.uid, grant.everyone, grant.write};
  readers.reserve(readers.size() + 1);  // So that nothing fails once the lists know.
  lists.share(reader, place->first.key);
  readers.push_back(reader);
  return {};
}

// --- Figures -------------------------------------------------------------------------------------

StoreUsage Store::usage() const {
  StoreUsage all;
  const std::lock_guard lock(core_->accounts_mutex);
  for (const auto& [uid, account] : core_->accounts) {
    all.objects += account->objects.load(std::memory_order_relaxed);
    all.object_bytes += account->object_bytes.load(std::memory_order_relaxed);
    all.versions += account->versions.load(std::memory_order_relaxed);
    all.version_bytes += account->version_bytes.load(std::memory_order_relaxed);
  }
  return all;
}

StoreUsage Store::usage(uid_t namespace_uid) const {
  const std::lock_guard lock(core_->accounts_mutex);
  const auto found = core_->accounts.find(namespace_uid);
  if (found == core_->accounts.end()) return {};
  const Account& account = *found->second;
  return StoreUsage{account.objects.load(std::memory_order_relaxed),
                    account.object_bytes.load(std::memory_order_relaxed),
                    account.versions.load(std::memory_order_relaxed),
                    account.version_bytes.load(std::memory_order_relaxed)};
}

SlabPool::Usage Store::slab_usage() const {
  return core_->slabs.usage();
}

Store::IndexSize Store::index_size() const {
  const std::lock_guard lock(index_->writers);
  IndexSize size;
  size.keys = index_->map.size();
  for (const auto& [uid, lists] : index_->names) {
    size.names += lists.all.size();
    size.shared_names += lists.for_everyone.size();
    for (const auto& [reader, names] : lists.for_uid) size.shared_names += names.size();
  }
  return size;
}

}  // namespace kaas
