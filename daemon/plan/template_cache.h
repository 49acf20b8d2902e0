// Compiled requests by their wire bytes: a request that comes again is not decoded again.
// LRU, bounded by entries and by the bytes of the kept messages. A hit compares all bytes, so two
// requests with one hash are never confused.
// Owns:    copies of the messages, shares of the templates.
// Threads: one (the dispatcher).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "daemon/plan/compile.h"

namespace kaas {

class TemplateCache {
 public:
  TemplateCache(std::size_t entries_max, std::size_t bytes_max)
      : entries_max_(entries_max), bytes_max_(bytes_max) {}

  // Null: unknown. The pointer holds until the next insert or clear.
  [[nodiscard]] const CompiledRequest* find(std::span<const std::byte> request);

  // Keeps a copy of `request`; replaces what is there. A message over bytes_max is not kept.
  void insert(std::span<const std::byte> request, CompiledRequest compiled);

  // Forgets everything (the meaning of libraries or limits changed).
  void clear();

  [[nodiscard]] std::size_t entries() const noexcept { return recent_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t hits() const noexcept { return hits_; }
  [[nodiscard]] std::uint64_t misses() const noexcept { return misses_; }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::vector<std::byte> request;
    CompiledRequest compiled;
  };
  using Entries = std::list<Entry>;

  Entries::iterator find_entry(std::span<const std::byte> request, std::uint64_t hash);
  void erase(Entries::iterator entry);

  std::size_t entries_max_;
  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
  Entries recent_;  // Most recently used first.
  std::unordered_multimap<std::uint64_t, Entries::iterator> by_hash_;
};

}  // namespace kaas
