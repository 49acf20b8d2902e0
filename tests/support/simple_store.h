// The store's rules in the plainest form: maps of byte vectors. The contract suite runs on it as on
// the real one, and random operations are compared with it.
// Threads: one.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

class SimpleStore {
 public:
  using Bytes = std::vector<std::byte>;
  struct Version {
    std::uint64_t id = 0;
    Bytes bytes;
  };
  // Keeps a version readable after its key has another.
  using Held = std::shared_ptr<const Version>;
  using Batch = std::vector<std::pair<std::string, Bytes>>;

  Result<Held> put(uid_t uid, const std::string& key, Bytes bytes) {
    if (key.empty()) return Status{StatusCode::InvalidArgument, "key is empty"};
    Object& object = objects_[{uid, key}];
    object.version = std::make_shared<Version>(Version{++last_id_, std::move(bytes)});
    return object.version;
  }
  Result<void> publish(uid_t uid, Batch batch) {
    std::set<std::string> keys;
    for (const auto& [key, bytes] : batch) {
      if (key.empty()) return Status{StatusCode::InvalidArgument, "key is empty"};
      if (!keys.insert(key).second) return Status{StatusCode::InvalidArgument, "key twice"};
    }
    for (auto& [key, bytes] : batch) (void)put(uid, key, std::move(bytes));
    return {};
  }
  Result<Held> get(uid_t reader, uid_t uid, const std::string& key) const {
    const auto found = objects_.find({uid, key});
    if (found == objects_.end() || !found->second.readable_by(reader, uid)) {
      return Status{StatusCode::NotFound, "no object"};
    }
    return found->second.version;
  }
  bool remove(uid_t uid, const std::string& key) { return objects_.erase({uid, key}) != 0; }

  // `with` absent: everyone.
  Result<void> share(uid_t uid, const std::string& key, std::optional<uid_t> with, bool revoke) {
    const auto found = objects_.find({uid, key});
    if (found == objects_.end()) return Status{StatusCode::NotFound, "no object"};
    auto& readers = found->second.readers;
    std::erase(readers, with);
    if (!revoke) readers.push_back(with);
    return {};
  }
  std::vector<std::string> list(uid_t reader, uid_t uid, const std::string& prefix,
                                const std::string& after, std::size_t limit) const {
    std::vector<std::string> keys;
    for (const auto& [name, object] : objects_) {
      const bool listed = name.first == uid && name.second.starts_with(prefix) &&
                          name.second > after && object.readable_by(reader, uid);
      if (listed && keys.size() < limit) keys.push_back(name.second);
    }
    return keys;
  }

  [[nodiscard]] std::uint64_t objects() const { return objects_.size(); }
  [[nodiscard]] std::uint64_t object_bytes() const {
    std::uint64_t bytes = 0;
    for (const auto& [name, object] : objects_) bytes += object.version->bytes.size();
    return bytes;
  }

  static Bytes contents(const Held& held) { return held->bytes; }
  static std::uint64_t id(const Held& held) { return held->id; }

 private:
  struct Object {
    Held version;
    std::vector<std::optional<uid_t>> readers;

    [[nodiscard]] bool readable_by(uid_t reader, uid_t owner) const {
      return reader == owner ||
             std::any_of(readers.begin(), readers.end(),
                         [reader](const auto& r) { return !r.has_value() || *r == reader; });
    }
  };
  std::map<std::pair<uid_t, std::string>, Object> objects_;
  std::uint64_t last_id_ = 0;
};

}  // namespace kaas
