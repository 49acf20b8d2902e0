#include "daemon/plan/template_cache.h"

#include <gtest/gtest.h>

#include <string>

namespace kaas {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

CompiledRequest compiled(std::uint64_t n_iter) {
  auto plan = std::make_shared<PlanTemplate>();
  plan->n_iter = n_iter;
  return {nullptr, std::move(plan)};
}

// n_iter of what is kept under `text`; 0: nothing.
std::uint64_t found(TemplateCache& cache, const std::string& text) {
  const CompiledRequest* entry = cache.find(bytes_of(text));
  return entry == nullptr ? 0 : entry->plan->n_iter;
}

TEST(TemplateCache, FindsWhatWasInsertedAndNothingElse) {
  TemplateCache cache(4, 1000);
  cache.insert(bytes_of("one"), compiled(1));
  cache.insert(bytes_of("two"), compiled(2));
  EXPECT_EQ(found(cache, "one"), 1u);
  EXPECT_EQ(found(cache, "two"), 2u);
  EXPECT_EQ(found(cache, "on"), 0u);
  EXPECT_EQ(found(cache, "one "), 0u);
  EXPECT_EQ(found(cache, ""), 0u);
  EXPECT_EQ(cache.hits(), 2u);
  EXPECT_EQ(cache.misses(), 3u);
}

TEST(TemplateCache, InsertReplaces) {
  TemplateCache cache(4, 1000);
  cache.insert(bytes_of("one"), compiled(1));
  cache.insert(bytes_of("one"), compiled(9));
  EXPECT_EQ(found(cache, "one"), 9u);
  EXPECT_EQ(cache.entries(), 1u);
  EXPECT_EQ(cache.bytes(), 3u);
}

TEST(TemplateCache, LeastRecentlyUsedGoesFirst) {
  TemplateCache cache(2, 1000);
  cache.insert(bytes_of("one"), compiled(1));
  cache.insert(bytes_of("two"), compiled(2));
  EXPECT_EQ(found(cache, "one"), 1u);
  cache.insert(bytes_of("three"), compiled(3));
  EXPECT_EQ(found(cache, "two"), 0u);
  EXPECT_EQ(found(cache, "one"), 1u);
  EXPECT_EQ(found(cache, "three"), 3u);
}

TEST(TemplateCache, BytesAreBounded) {
  TemplateCache cache(100, 10);
  cache.insert(bytes_of("aaaa"), compiled(1));
  cache.insert(bytes_of("bbbb"), compiled(2));
  cache.insert(bytes_of("cccc"), compiled(3));
  EXPECT_EQ(cache.bytes(), 8u);
  EXPECT_EQ(found(cache, "aaaa"), 0u);
  cache.insert(bytes_of("dddddddddd"), compiled(4));
  EXPECT_EQ(cache.entries(), 1u);
  EXPECT_EQ(cache.bytes(), 10u);
  cache.insert(bytes_of("too long for it"), compiled(5));
  EXPECT_EQ(found(cache, "too long for it"), 0u);
  EXPECT_EQ(found(cache, "dddddddddd"), 4u);
}

TEST(TemplateCache, TemplatesOutliveTheirEntry) {
  TemplateCache cache(1, 1000);
  cache.insert(bytes_of("one"), compiled(1));
  const auto plan = cache.find(bytes_of("one"))->plan;
  cache.clear();
  EXPECT_EQ(cache.bytes(), 0u);
  EXPECT_EQ(found(cache, "one"), 0u);
  EXPECT_EQ(plan->n_iter, 1u);
}

TEST(TemplateCache, KeepsNothingWithoutEntries) {
  TemplateCache cache(0, 1000);
  cache.insert(bytes_of("one"), compiled(1));
  EXPECT_EQ(found(cache, "one"), 0u);
}

}  // namespace
}  // namespace kaas
