#include "daemon/plan/template_cache.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

namespace kaas {
namespace {

std::uint64_t hash_of(std::span<const std::byte> bytes) {
  return std::hash<std::string_view>{}(
      std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace

TemplateCache::Entries::iterator TemplateCache::find_entry(std::span<const std::byte> request,
                                                           std::uint64_t hash) {
  const auto [first, last] = by_hash_.equal_range(hash);
  const auto found = std::find_if(
      first, last, [&](const auto& entry) { return same_bytes(entry.second->request, request); });
  return found == last ? recent_.end() : found->second;
}

const CompiledRequest* TemplateCache::find(std::span<const std::byte> request) {
  // The one request that a client sends again and again needs no hash.
  auto entry = recent_.begin();
  if (entry == recent_.end() || !same_bytes(entry->request, request)) {
    entry = find_entry(request, hash_of(request));
  }
  if (entry == recent_.end()) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  recent_.splice(recent_.begin(), recent_, entry);
  return &entry->compiled;
}

void TemplateCache::insert(std::span<const std::byte> request, CompiledRequest compiled) {
  const std::uint64_t hash = hash_of(request);
  if (const auto old = find_entry(request, hash); old != recent_.end()) erase(old);
  if (request.size() > bytes_max_ || entries_max_ == 0) return;
  while (recent_.size() >= entries_max_ || bytes_ + request.size() > bytes_max_) {
    erase(std::prev(recent_.end()));
  }
  recent_.push_front({hash, {request.begin(), request.end()}, std::move(compiled)});
  by_hash_.emplace(hash, recent_.begin());
  bytes_ += request.size();
}

void TemplateCache::erase(Entries::iterator entry) {
  const auto [first, last] = by_hash_.equal_range(entry->hash);
  by_hash_.erase(
      std::find_if(first, last, [&](const auto& indexed) { return indexed.second == entry; }));
  bytes_ -= entry->request.size();
  recent_.erase(entry);
}

void TemplateCache::clear() {
  by_hash_.clear();
  recent_.clear();
  bytes_ = 0;
}

}  // namespace kaas
