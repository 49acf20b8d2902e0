// A store with a budget of its own, and helpers to make and read bytes.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/segments.h"
#include "daemon/store/budget.h"
#include "daemon/store/store.h"
#include "schema/ipc/segment.h"

namespace kaas {

inline constexpr uid_t kAlice = 1000;
inline constexpr uid_t kBob = 1001;
inline constexpr uid_t kCarol = 1002;
inline constexpr std::uint64_t kLargeBytes = kSlabObjectBytesMax + 4097;  // No whole pages.

using Bytes = std::vector<std::byte>;

// `bytes` that differ from one another and by `seed`.
inline Bytes pattern(std::size_t bytes, unsigned seed) {
  Bytes made(bytes);
  std::uint32_t state = seed * 2654435761u + 1;
  for (std::byte& byte : made) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return made;
}

inline ByteSource from(const Bytes& bytes) {
  return std::span<const std::byte>(bytes);
}

inline Bytes read_descriptor(int descriptor, std::uint64_t offset, std::uint64_t bytes) {
  Bytes read(bytes);
  std::uint64_t done = 0;
  while (done < bytes) {
    const ssize_t count =
        ::pread(descriptor, read.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (count <= 0) break;
    done += static_cast<std::uint64_t>(count);
  }
  read.resize(done);
  return read;
}

// What a client that got this version reads.
inline Bytes contents(const VersionRef& version) {
  if (version->is_small()) {
    const auto bytes = version->small_bytes();
    return Bytes(bytes.begin(), bytes.end());
  }
  return read_descriptor(version->segment()->descriptor.get(), 0, version->bytes());
}

// What an executor reads there through the segment's descriptor.
inline Bytes contents(const BytesPlace& place) {
  return read_descriptor(place.segment->descriptor.get(), place.offset, place.bytes);
}

inline void write_descriptor(int descriptor, std::uint64_t offset, const Bytes& bytes) {
  ASSERT_EQ(::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
            static_cast<ssize_t>(bytes.size()));
}

inline constexpr int kAllDonationSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

// What the client library donates: a memfd with these bytes and seals.
inline Descriptor donation(const Bytes& bytes, int seals = kAllDonationSeals) {
  Descriptor memory(::memfd_create("donation", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_TRUE(memory);
  EXPECT_EQ(::ftruncate(memory.get(), static_cast<off_t>(bytes.size())), 0);
  write_descriptor(memory.get(), 0, bytes);
  if (seals != 0) {
    EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, seals), 0);
  }
  return memory;
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

// Ids that a listener was told, from any thread.
class IdLog {
 public:
  void add(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    ids_.push_back(id);
  }
  [[nodiscard]] std::vector<std::uint64_t> ids() const {
    const std::lock_guard lock(mutex_);
    return ids_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> ids_;
};

class StoreFixture : public testing::Test {
 protected:
  explicit StoreFixture(std::uint64_t limit_bytes = std::uint64_t{1} << 30)
      : budget(ByteBudget::Options{limit_bytes, nullptr}) {}

  // Nothing may be left when a test has let go of all it held.
  void TearDown() override {
    for (const uid_t uid : {kAlice, kBob, kCarol}) {
      while (true) {
        const ObjectList list = store.list(uid, uid, "", "", 0);
        for (const ObjectInfo& object : list.objects) EXPECT_TRUE(store.remove(uid, object.key));
        if (!list.more) break;
      }
    }
    EXPECT_EQ(store.usage().objects, 0u);
    EXPECT_EQ(store.usage().object_bytes, 0u);
    EXPECT_EQ(store.usage().versions, 0u);
    EXPECT_EQ(store.usage().version_bytes, 0u);
    EXPECT_EQ(store.index_size().keys, 0u);
    EXPECT_EQ(store.index_size().names, 0u);
    EXPECT_EQ(store.index_size().shared_names, 0u);
    EXPECT_EQ(store.slab_usage().slabs, 0u);
    EXPECT_EQ(store.slab_usage().charged_bytes, 0u);
    EXPECT_EQ(budget.used_bytes(), 0u);
    EXPECT_EQ(registry.alive(), 0u);
  }

  VersionRef put(uid_t uid, const std::string& key, const Bytes& bytes) {
    Result<VersionRef> version = store.put_bytes(uid, key, from(bytes));
    EXPECT_TRUE(version) << to_string(version.error());
    return *version;
  }
  Result<void> publish(uid_t uid, const std::string& key, const VersionRef& version) {
    std::vector<Store::Entry> entries;
    entries.push_back(Store::Entry{uid, key, version});
    KAAS_ASSIGN_OR_RETURN(Publication publication, store.prepare(std::move(entries)));
    store.publish(std::move(publication));
    return {};
  }

  IdLog released_segments;
  IdLog dropped_versions;
  ByteBudget budget;
  SegmentRegistry registry{[this](std::uint32_t id) { released_segments.add(id); }};
  Store store{budget, registry, [this](std::uint64_t id) { dropped_versions.add(id); }};
};

}  // namespace kaas
