// The key-value store: (namespace, key) -> immutable object version.
//
// A namespace belongs to a uid. A key's current version is replaced, never changed; who holds the
// old one keeps reading it. Bytes come in three ways: copied (put_bytes), donated (adopt), or as a
// request's output, which is Pending until it is settled and in nobody's sight until published.
//
// Readers (lookup, stat) run beside each other and beside writers; writers (prepare, publish,
// remove, share) take turns. Every function may be called from any thread unless it says
// otherwise. std::bad_alloc may pass through where a function is not noexcept; nothing is changed
// then.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/flow/segments.h"
#include "daemon/store/budget.h"
#include "daemon/store/object_version.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"
#include "schema/kaas_generated.h"

namespace kaas {

// Bytes to copy from: memory of kaasd, or a range of a descriptor that is read by pread, so that a
// peer that shortens it cannot kill us. Borrowed for the call.
struct FileRange {
  int descriptor = -1;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};
using ByteSource = std::variant<std::span<const std::byte>, FileRange>;

// Bytes of an output. Without `source` the executor has written them into the version's own
// segment already (large versions only).
struct OutputSlice {
  std::uint64_t offset = 0;  // In the object.
  std::uint64_t bytes = 0;
  std::optional<ByteSource> source;
};

struct ObjectInfo {
  std::string key;
  uid_t owner_uid = 0;
  std::uint64_t version = 0;
  std::uint64_t bytes = 0;
  bool shared = false;  // With anybody. Always true in what a foreign reader sees.
  wire::ObjectPlace place = wire::ObjectPlace::Host;
  std::string device{};  // Whose memory has, or had, the only bytes; empty: the host has them.
};

struct ObjectList {
  std::vector<ObjectInfo> objects;  // Sorted by key, bytewise.
  bool more = false;                // There are more after the last one.
};

// Whom a key is shared with: one uid, or everyone.
struct Grant {
  bool everyone = false;
  uid_t uid = 0;  // Unless everyone.
  bool write = false;
  bool revoke = false;  // Takes read and write away.
};

// Figures of one namespace, or of all.
struct StoreUsage {
  std::uint64_t objects = 0;        // Keys with a version.
  std::uint64_t object_bytes = 0;   // Of these.
  std::uint64_t versions = 0;       // Alive: also replaced, pending and failed ones still held.
  std::uint64_t version_bytes = 0;  // Of these, as asked for; without slab round-up and copies.
};

class Store;

// A set of keys about to get new versions, with all memory that publishing needs. Dropped without
// being published, it leaves nothing behind. Move-only; the Store must outlive it.
class [[nodiscard]] Publication {
 public:
  Publication() noexcept;
  Publication(Publication&& other) noexcept;
  Publication& operator=(Publication&& other) noexcept;
  ~Publication();

 private:
  friend class Store;
  struct Item;
  Store* store_ = nullptr;
  std::vector<Item> items_;
};

class Store {
 public:
  // `dropped(version)` is called once for each version, on the thread that let its last reference
  // go: the dispatcher tells executors DropVersions. It must be safe on any thread, must not throw
  // and must not call the store. May be empty.
  using Dropped = std::function<void(std::uint64_t version)>;

  // Budget and registry must outlive the store and all versions.
  Store(ByteBudget& budget, SegmentRegistry& registry, Dropped dropped);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // --- Reading ---------------------------------------------------------------------------------

  // The current version: Ready, Resident or Lost. NotFound if there is none, with the same words if
  // it is another uid's and not shared with `reader`: existence is not told.
  Result<VersionRef> lookup(uid_t reader, uid_t namespace_uid, std::string_view key) const;
  Result<ObjectInfo> stat(uid_t reader, uid_t namespace_uid, std::string_view key) const;

  // Keys with `prefix`, bytewise after `after`, at most `limit` (0 or more than kListLimitMax:
  // kListLimitMax) of those that `reader` may read.
  ObjectList list(uid_t reader, uid_t namespace_uid, std::string_view prefix,
                  std::string_view after, std::uint32_t limit) const;

  // Whether `writer` may give the key a new version: its owner, and others if the key exists and
  // is shared with the write right. PermissionDenied otherwise, existing or not.
  Result<void> check_write(uid_t writer, uid_t namespace_uid, std::string_view key) const;

  // Where an executor of `domain_uid` reads a Ready version. A small one of another uid is copied
  // into a slab of that domain, once for each domain, and stays until the version is gone.
  // Whether the domain may read it at all was checked by lookup. DependencyFailed if the version
  // Failed, Unavailable if it is Pending or Resident, DataLost if Lost, ResourceExhausted if the
  // copy does not fit.
  Result<BytesPlace> readable_place(const VersionRef& version, uid_t domain_uid);

  // --- Making versions -------------------------------------------------------------------------
  // `owner_uid` is the namespace it will be published in, `key` the name in error messages.
  // ResourceExhausted when the budget, descriptors or address space are used up.

  // One copy. Ready. InvalidArgument if a FileRange ends early.
  Result<VersionRef> make_from_bytes(uid_t owner_uid, std::string_view key,
                                     const ByteSource& source);

  // Takes a client's memfd of exactly `bytes` as it is: Ready, nothing copied (a small one is
  // copied into a slab, and the memfd closed). It must be ordinary shared memory with the seals
  // SHRINK, GROW and WRITE, in pages of at most its size. SEAL is added if it can be. That it can't
  // (a descriptor opened read-only) does not matter: no further seal changes bytes or size.
  // InvalidArgument otherwise, naming what is missing.
  Result<VersionRef> adopt(uid_t owner_uid, std::string_view key, Descriptor donated,
                           std::uint64_t bytes);

  // An output of a request. Pending, with all memory and descriptors that settling needs: a piece
  // of a slab, or a segment of its own that the executor writes (ObjectVersion::output_segment).
  Result<VersionRef> create_output(uid_t owner_uid, std::string_view key, std::uint64_t bytes);

  // Pending or Resident -> Ready: `slices` over the bytes of `base` over zeros. `base` may be null,
  // larger or smaller. Slices are applied in order and must lie inside the object
  // (InvalidArgument). A large version is sealed here: the executor must have unmapped it. If
  // somebody still maps it writable it is sealed against new writers only. ProtocolViolation if the
  // executor has put seals of its own on it. After an error the version is Failed, or Lost if it
  // was Resident.
  // Threads: one call a version, ever; not beside fail() or lose() of the same version.
  Result<void> settle(const VersionRef& version, const VersionRef& base,
                      std::span<const OutputSlice> slices);

  // Pending -> Failed.
  static void fail(const VersionRef& version) noexcept;
  // The same, and Ready or Resident -> Failed: of a version that was never published, because
  // another output of its request could not be settled. Those who are to read it see that.
  static void retract(const VersionRef& version) noexcept;

  // Pending -> Resident: its bytes are in the memory of that executor's device. The room on the
  // host stays reserved, so that they can always be brought here.
  static void settle_on_device(const VersionRef& version, std::uint32_t executor,
                               const std::string& device);
  // Resident -> Lost, for a reason that whoever reads it is told. Gives its room back.
  static void lose(const VersionRef& version, const std::string& cause);

  // --- Publishing ------------------------------------------------------------------------------

  struct Entry {
    uid_t namespace_uid = 0;
    std::string key;
    VersionRef version;
  };
  // Allocates all that publishing these needs. Versions may still be Pending. InvalidArgument for
  // an empty key or one over kKeyBytesMax, or for two entries of one key.
  Result<Publication> prepare(std::vector<Entry> entries);

  // Makes them current, all together as `list` and other writers see it. All must be Ready or
  // Resident.
  void publish(Publication publication) noexcept;

  // make_from_bytes or adopt, published: the whole of a put.
  Result<VersionRef> put_bytes(uid_t namespace_uid, std::string_view key, const ByteSource& source);
  Result<VersionRef> put_donated(uid_t namespace_uid, std::string_view key, Descriptor donated,
                                 std::uint64_t bytes);

  // Takes the key away, and whom it was shared with. False if there was none.
  bool remove(uid_t namespace_uid, std::string_view key);

  // Shares, or stops sharing, a key of one's own. Outlasts new versions of the key, not its
  // removal. NotFound if there is no such key; ResourceExhausted past kGrantsPerKeyMax.
  Result<void> share(uid_t namespace_uid, std::string_view key, const Grant& grant);
  static constexpr std::size_t kGrantsPerKeyMax = 1024;

  [[nodiscard]] ByteBudget& budget() noexcept;

  // --- Figures ---------------------------------------------------------------------------------
  [[nodiscard]] StoreUsage usage() const;
  [[nodiscard]] StoreUsage usage(uid_t namespace_uid) const;
  [[nodiscard]] SlabPool::Usage slab_usage() const;

  // What the index holds, so that a leak shows: all are 0 when no key and no publication is left.
  struct IndexSize {
    std::size_t keys = 0;          // With a version, or prepared by a publication.
    std::size_t names = 0;         // In the lists of their namespaces.
    std::size_t shared_names = 0;  // Once for each uid that may read them, once for everyone.
  };
  [[nodiscard]] IndexSize index_size() const;

 private:
  friend class Publication;
  struct Index;
  VersionRef new_version(uid_t owner_uid, std::uint64_t bytes) const;
  static Result<void> compose_output(ObjectVersion& version, const ObjectVersion* base,
                                     std::span<const OutputSlice> slices);
  Result<void> publish_one(uid_t namespace_uid, std::string_view key, VersionRef version);
  void abandon(Publication& publication) noexcept;

  const std::shared_ptr<StoreCore> core_;
  const std::unique_ptr<Index> index_;
};

}  // namespace kaas
