// Names: namespaces, sharing, lists, publications.
#include "daemon/store/store.h"

#include "schema/limits.h"
#include "tests/unit/store/store_fixture.h"

namespace kaas {
namespace {

using StoreNames = StoreFixture;

std::vector<std::string> keys(const ObjectList& list) {
  std::vector<std::string> found;
  for (const ObjectInfo& object : list.objects) found.push_back(object.key);
  return found;
}

TEST_F(StoreNames, ErrorsForForeignKeysDoNotTellWhetherTheyExist) {
  put(kAlice, "there", pattern(10, 1));
  const Result<VersionRef> hidden = store.lookup(kBob, kAlice, "there");
  const Result<VersionRef> absent = store.lookup(kBob, kAlice, "where");
  ASSERT_FALSE(hidden);
  ASSERT_FALSE(absent);
  EXPECT_EQ(hidden.error().code, absent.error().code);
  std::string same = absent.error().message;
  same.replace(same.find("where"), 5, "there");
  EXPECT_EQ(hidden.error().message, same);
  EXPECT_EQ(store.stat(kBob, kAlice, "there").error().message, hidden.error().message);
  EXPECT_EQ(store.check_write(kBob, kAlice, "there").error().code,
            store.check_write(kBob, kAlice, "where").error().code);
}

TEST_F(StoreNames, SharingIsPerKeyPerUidAndCanBeRevoked) {
  put(kAlice, "x", pattern(10, 1));
  put(kAlice, "y", pattern(10, 2));
  ASSERT_TRUE(store.share(kAlice, "x", Grant{.uid = kBob}));
  EXPECT_TRUE(store.lookup(kBob, kAlice, "x"));
  EXPECT_FALSE(store.lookup(kBob, kAlice, "y"));
  EXPECT_FALSE(store.lookup(kCarol, kAlice, "x"));
  EXPECT_FALSE(store.check_write(kBob, kAlice, "x"));
  ASSERT_TRUE(store.share(kAlice, "x", Grant{.uid = kBob, .write = true}));
  EXPECT_TRUE(store.check_write(kBob, kAlice, "x"));
  ASSERT_TRUE(store.share(kAlice, "x", Grant{.uid = kBob, .revoke = true}));
  EXPECT_FALSE(store.lookup(kBob, kAlice, "x"));
  EXPECT_FALSE(store.check_write(kBob, kAlice, "x"));
  EXPECT_FALSE(store.stat(kAlice, kAlice, "x")->shared);
}

TEST_F(StoreNames, SharingWithEveryoneLetsAnyUidReadAndOutlastsNewVersions) {
  put(kAlice, "x", pattern(10, 1));
  ASSERT_TRUE(store.share(kAlice, "x", Grant{.everyone = true}));
  put(kAlice, "x", pattern(20, 2));
  EXPECT_EQ((*store.lookup(kCarol, kAlice, "x"))->bytes(), 20u);
  EXPECT_TRUE(store.stat(kCarol, kAlice, "x")->shared);
  EXPECT_FALSE(store.check_write(kCarol, kAlice, "x"));
  ASSERT_TRUE(store.share(kAlice, "x", Grant{.everyone = true, .revoke = true}));
  EXPECT_FALSE(store.lookup(kCarol, kAlice, "x"));
}

TEST_F(StoreNames, RemovalEndsSharing) {
  put(kAlice, "other", pattern(10, 1));
  put(kAlice, "x", pattern(10, 1));
  ASSERT_TRUE(store.share(kAlice, "x", Grant{.uid = kBob}));
  EXPECT_TRUE(store.remove(kAlice, "x"));
  EXPECT_FALSE(store.remove(kAlice, "x"));
  EXPECT_EQ(store.index_size().shared_names, 0u);
  put(kAlice, "x", pattern(10, 2));
  EXPECT_FALSE(store.lookup(kBob, kAlice, "x"));
  EXPECT_TRUE(store.list(kBob, kAlice, "", "", 0).objects.empty());
}

TEST_F(StoreNames, OnlyWhatExistsCanBeSharedAndGrantsAreLimited) {
  EXPECT_EQ(store.share(kAlice, "x", Grant{.uid = kBob}).error().code, StatusCode::NotFound);
  put(kAlice, "x", pattern(10, 1));
  for (uid_t uid = 0; uid < Store::kGrantsPerKeyMax; ++uid) {
    ASSERT_TRUE(store.share(kAlice, "x", Grant{.uid = 5000 + uid}));
  }
  const Result<void> refused = store.share(kAlice, "x", Grant{.uid = kBob});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, StatusCode::ResourceExhausted);
  EXPECT_TRUE(store.share(kAlice, "x", Grant{.uid = 5000, .write = true}));
  EXPECT_TRUE(store.share(kAlice, "x", Grant{.uid = 5001, .revoke = true}));
  EXPECT_TRUE(store.share(kAlice, "x", Grant{.uid = kBob}));
}

TEST_F(StoreNames, ListIsSortedByBytesAndPaged) {
  for (const char* key : {"b", "a/2", "a/1", "a", "\xff", "B", "a/10"}) {
    put(kAlice, key, pattern(3, 1));
  }
  put(kBob, "a/0", pattern(3, 1));
  EXPECT_EQ(keys(store.list(kAlice, kAlice, "", "", 0)),
            (std::vector<std::string>{"B", "a", "a/1", "a/10", "a/2", "b", "\xff"}));
  const ObjectList page = store.list(kAlice, kAlice, "a/", "", 2);
  EXPECT_EQ(keys(page), (std::vector<std::string>{"a/1", "a/10"}));
  EXPECT_TRUE(page.more);
  const ObjectList rest = store.list(kAlice, kAlice, "a/", page.objects.back().key, 2);
  EXPECT_EQ(keys(rest), (std::vector<std::string>{"a/2"}));
  EXPECT_FALSE(rest.more);
  EXPECT_TRUE(store.list(kAlice, kAlice, "a/", "a/2", 2).objects.empty());
  EXPECT_TRUE(store.list(kAlice, kAlice, "zz", "", 2).objects.empty());
  EXPECT_EQ(keys(store.list(kAlice, kAlice, "a", "A", 1)), std::vector<std::string>{"a"});
}

TEST_F(StoreNames, ListAnswersWithAtMostTheLimitOfThePage) {
  for (std::uint32_t i = 0; i < kListLimitMax + 5; ++i) {
    put(kAlice, "k" + std::to_string(i), pattern(1, i));
  }
  const ObjectList list = store.list(kAlice, kAlice, "", "", 1'000'000);
  EXPECT_EQ(list.objects.size(), kListLimitMax);
  EXPECT_TRUE(list.more);
}

TEST_F(StoreNames, ForeignListShowsWhatIsSharedOnceAndInOrder) {
  for (const char* key : {"a", "b", "c", "d", "e"}) put(kAlice, key, pattern(3, 1));
  ASSERT_TRUE(store.share(kAlice, "d", Grant{.everyone = true}));
  ASSERT_TRUE(store.share(kAlice, "a", Grant{.uid = kBob}));
  ASSERT_TRUE(store.share(kAlice, "d", Grant{.uid = kBob}));
  ASSERT_TRUE(store.share(kAlice, "e", Grant{.uid = kCarol}));
  EXPECT_EQ(keys(store.list(kBob, kAlice, "", "", 0)), (std::vector<std::string>{"a", "d"}));
  EXPECT_EQ(keys(store.list(kCarol, kAlice, "", "", 0)), (std::vector<std::string>{"d", "e"}));
  EXPECT_EQ(keys(store.list(kBob, kAlice, "", "a", 0)), (std::vector<std::string>{"d"}));
  ASSERT_TRUE(store.share(kAlice, "d", Grant{.everyone = true, .revoke = true}));
  EXPECT_EQ(keys(store.list(kCarol, kAlice, "", "", 0)), (std::vector<std::string>{"e"}));
}

TEST_F(StoreNames, KeysOutsideTheLimitsAreRefused) {
  const Bytes bytes = pattern(4, 1);
  EXPECT_EQ(store.put_bytes(kAlice, "", from(bytes)).error().code, StatusCode::InvalidArgument);
  EXPECT_TRUE(store.put_bytes(kAlice, std::string(kKeyBytesMax, 'k'), from(bytes)));
  const auto refused = store.put_bytes(kAlice, std::string(kKeyBytesMax + 1, 'k'), from(bytes));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "length of a key is 1025, limit 1024");
}

TEST_F(StoreNames, PublicationIsInvisibleUntilPublishedAndThenWhole) {
  const VersionRef old = put(kAlice, "x", pattern(8, 1));
  std::vector<Store::Entry> entries;
  for (const char* key : {"x", "y", "z"}) {
    entries.push_back({kAlice, key, *store.make_from_bytes(kAlice, key, from(pattern(9, 2)))});
  }
  Publication publication = *store.prepare(std::move(entries));
  EXPECT_EQ(*store.lookup(kAlice, kAlice, "x"), old);
  EXPECT_FALSE(store.lookup(kAlice, kAlice, "y"));
  EXPECT_FALSE(store.stat(kAlice, kAlice, "y"));
  EXPECT_EQ(store.share(kAlice, "y", Grant{.uid = kBob}).error().code, StatusCode::NotFound);
  EXPECT_FALSE(store.remove(kAlice, "y"));
  EXPECT_EQ(store.list(kAlice, kAlice, "", "", 0).objects.size(), 1u);
  EXPECT_EQ(store.usage(kAlice).objects, 1u);
  store.publish(std::move(publication));
  EXPECT_EQ(store.list(kAlice, kAlice, "", "", 0).objects.size(), 3u);
  EXPECT_EQ((*store.lookup(kAlice, kAlice, "x"))->bytes(), 9u);
  EXPECT_EQ(store.usage(kAlice).objects, 3u);
  EXPECT_EQ(store.usage(kAlice).object_bytes, 27u);
  EXPECT_EQ(store.usage(kAlice).versions, 4u);  // The old one is held here.
}

TEST_F(StoreNames, DroppedPublicationLeavesNothing) {
  put(kAlice, "x", pattern(8, 1));
  {
    const VersionRef version = *store.make_from_bytes(kAlice, "y", from(pattern(9, 2)));
    std::vector<Store::Entry> entries{{kAlice, "y", version}};
    const Publication first = *store.prepare(entries);
    const Publication second = *store.prepare(std::move(entries));
  }
  EXPECT_EQ(store.list(kAlice, kAlice, "", "", 0).objects.size(), 1u);
  EXPECT_EQ(store.usage(kAlice).versions, 1u);
}

TEST_F(StoreNames, KeyRemovedBetweenPrepareAndPublishComesBack) {
  put(kAlice, "x", pattern(8, 1));
  std::vector<Store::Entry> entries{
      {kAlice, "x", *store.make_from_bytes(kAlice, "x", from(pattern(9, 2)))}};
  Publication publication = *store.prepare(std::move(entries));
  EXPECT_TRUE(store.remove(kAlice, "x"));
  EXPECT_FALSE(store.lookup(kAlice, kAlice, "x"));
  store.publish(std::move(publication));
  EXPECT_EQ((*store.lookup(kAlice, kAlice, "x"))->bytes(), 9u);
  EXPECT_EQ(store.usage(kAlice).objects, 1u);
}

TEST_F(StoreNames, OneKeyTwiceInAPublicationIsRefused) {
  const VersionRef version = *store.make_from_bytes(kAlice, "x", from(pattern(9, 2)));
  std::vector<Store::Entry> entries{{kAlice, "x", version}, {kAlice, "x", version}};
  const Result<Publication> refused = store.prepare(std::move(entries));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "two outputs have the key 'x'");
}

TEST_F(StoreNames, VersionsAreDroppedOnceWhenTheLastHolderLetsGo) {
  VersionRef first = put(kAlice, "x", pattern(8, 1));
  const std::uint64_t id = first->id();
  put(kAlice, "x", pattern(8, 2));
  EXPECT_TRUE(dropped_versions.ids().empty());
  EXPECT_EQ(contents(first), pattern(8, 1));
  first.reset();
  EXPECT_EQ(dropped_versions.ids(), std::vector<std::uint64_t>{id});
  EXPECT_NE((*store.lookup(kAlice, kAlice, "x"))->id(), id);
}

TEST(StoreLife, VersionMayOutliveItsStore) {
  ByteBudget budget(ByteBudget::Options{1u << 20, nullptr});
  SegmentRegistry registry(nullptr);
  IdLog dropped;
  VersionRef held;
  {
    Store store(budget, registry, [&dropped](std::uint64_t id) { dropped.add(id); });
    held = *store.put_bytes(kAlice, "x", from(pattern(100, 1)));
  }
  EXPECT_EQ(contents(held), pattern(100, 1));
  EXPECT_TRUE(dropped.ids().empty());
  held.reset();
  EXPECT_EQ(dropped.ids().size(), 1u);
  EXPECT_EQ(budget.used_bytes(), 0u);
}

}  // namespace
}  // namespace kaas
