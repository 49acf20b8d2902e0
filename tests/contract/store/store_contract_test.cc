// What every store promises, on the plain one and on the real one with objects that lie in slabs,
// that have segments of their own, and both.
#include <gtest/gtest.h>

#include <random>

#include "tests/support/simple_store.h"
#include "tests/unit/store/store_fixture.h"

namespace kaas {
namespace {

// How large the n-th object of a test is.
struct SmallSizes {
  static std::size_t bytes(std::size_t n) { return 1 + n * 977 % kSlabObjectBytesMax; }
};
struct LargeSizes {
  static std::size_t bytes(std::size_t n) { return kSlabObjectBytesMax + 1 + n * 977 % 100'000; }
};
struct MixedSizes {
  static std::size_t bytes(std::size_t n) {
    return n % 2 == 0 ? SmallSizes::bytes(n) : LargeSizes::bytes(n);
  }
};

struct Simple {
  static std::size_t bytes(std::size_t n) { return MixedSizes::bytes(n); }
  SimpleStore store;
};

// The real store behind the calls of the plain one.
template <class Sizes>
struct Real {
  using Held = VersionRef;
  static std::size_t bytes(std::size_t n) { return Sizes::bytes(n); }

  struct Calls {
    Result<Held> put(uid_t uid, const std::string& key, Bytes bytes) {
      return store.put_bytes(uid, key, from(bytes));
    }
    // Through outputs, as a request does.
    Result<void> publish(uid_t uid, SimpleStore::Batch batch) {
      std::vector<Store::Entry> entries;
      for (const auto& [key, bytes] : batch) {
        KAAS_ASSIGN_OR_RETURN(VersionRef output, store.create_output(uid, key, bytes.size()));
        entries.push_back(Store::Entry{uid, key, std::move(output)});
      }
      std::vector<VersionRef> outputs;
      for (const Store::Entry& entry : entries) outputs.push_back(entry.version);
      KAAS_ASSIGN_OR_RETURN(Publication publication, store.prepare(std::move(entries)));
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        const OutputSlice all{0, batch[i].second.size(), from(batch[i].second)};
        KAAS_RETURN_IF_ERROR(store.settle(outputs[i], nullptr, {&all, 1}));
      }
      store.publish(std::move(publication));
      return {};
    }
    Result<Held> get(uid_t reader, uid_t uid, const std::string& key) const {
      return store.lookup(reader, uid, key);
    }
    bool remove(uid_t uid, const std::string& key) { return store.remove(uid, key); }
    Result<void> share(uid_t uid, const std::string& key, std::optional<uid_t> with, bool revoke) {
      return store.share(uid, key,
                         Grant{.everyone = !with, .uid = with.value_or(0), .revoke = revoke});
    }
    std::vector<std::string> list(uid_t reader, uid_t uid, const std::string& prefix,
                                  const std::string& after, std::size_t limit) const {
      std::vector<std::string> keys;
      const auto most = static_cast<std::uint32_t>(limit);
      for (const ObjectInfo& object : store.list(reader, uid, prefix, after, most).objects) {
        keys.push_back(object.key);
      }
      return keys;
    }
    [[nodiscard]] std::uint64_t objects() const { return store.usage().objects; }
    [[nodiscard]] std::uint64_t object_bytes() const { return store.usage().object_bytes; }
    static Bytes contents(const Held& held) { return kaas::contents(held); }
    static std::uint64_t id(const Held& held) { return held->id(); }

    ByteBudget budget{ByteBudget::Options{std::uint64_t{1} << 30, nullptr}};
    SegmentRegistry registry{nullptr};
    Store store{budget, registry, nullptr};
  };
  Calls store;
};

template <class Fixture>
class StoreContract : public testing::Test, protected Fixture {
 protected:
  Bytes made(std::size_t n) const { return pattern(this->bytes(n), static_cast<unsigned>(n)); }
  auto put(uid_t uid, const std::string& key, std::size_t n) {
    auto held = this->store.put(uid, key, made(n));
    EXPECT_TRUE(held);
    return *held;
  }
  std::optional<Bytes> get(uid_t reader, uid_t uid, const std::string& key) {
    const auto held = this->store.get(reader, uid, key);
    if (!held) return std::nullopt;
    return this->store.contents(*held);
  }
};

TYPED_TEST_SUITE_P(StoreContract);

TYPED_TEST_P(StoreContract, GetGivesTheBytesOfThePut) {
  for (std::size_t n = 0; n < 20; ++n) this->put(kAlice, "k" + std::to_string(n), n);
  for (std::size_t n = 0; n < 20; ++n) {
    EXPECT_EQ(this->get(kAlice, kAlice, "k" + std::to_string(n)), this->made(n));
  }
  EXPECT_EQ(this->store.objects(), 20u);
}

TYPED_TEST_P(StoreContract, NewVersionReplacesTheOldOneWhichItsHoldersKeep) {
  const auto old = this->put(kAlice, "x", 1);
  const auto fresh = this->put(kAlice, "x", 2);
  EXPECT_NE(this->store.id(old), this->store.id(fresh));
  EXPECT_EQ(this->store.contents(old), this->made(1));
  EXPECT_EQ(this->get(kAlice, kAlice, "x"), this->made(2));
  EXPECT_EQ(this->store.objects(), 1u);
  EXPECT_EQ(this->store.object_bytes(), this->bytes(2));
}

TYPED_TEST_P(StoreContract, RemovedKeyIsAbsentAndItsHoldersKeepTheBytes) {
  const auto held = this->put(kAlice, "x", 1);
  EXPECT_TRUE(this->store.remove(kAlice, "x"));
  EXPECT_FALSE(this->store.remove(kAlice, "x"));
  EXPECT_EQ(this->store.get(kAlice, kAlice, "x").error().code, StatusCode::NotFound);
  EXPECT_EQ(this->store.contents(held), this->made(1));
  EXPECT_EQ(this->store.objects(), 0u);
  EXPECT_EQ(this->store.object_bytes(), 0u);
}

TYPED_TEST_P(StoreContract, NamespacesAreSeparate) {
  this->put(kAlice, "x", 1);
  this->put(kBob, "x", 2);
  EXPECT_EQ(this->get(kAlice, kAlice, "x"), this->made(1));
  EXPECT_EQ(this->get(kBob, kBob, "x"), this->made(2));
  EXPECT_TRUE(this->store.remove(kAlice, "x"));
  EXPECT_EQ(this->get(kBob, kBob, "x"), this->made(2));
}

TYPED_TEST_P(StoreContract, ForeignKeysAreAbsentUntilShared) {
  this->put(kAlice, "x", 1);
  EXPECT_EQ(this->store.get(kBob, kAlice, "x").error().code, StatusCode::NotFound);
  EXPECT_TRUE(this->store.share(kAlice, "x", kBob, false));
  EXPECT_EQ(this->get(kBob, kAlice, "x"), this->made(1));
  EXPECT_FALSE(this->get(kCarol, kAlice, "x"));
  EXPECT_TRUE(this->store.share(kAlice, "x", std::nullopt, false));
  EXPECT_EQ(this->get(kCarol, kAlice, "x"), this->made(1));
  EXPECT_TRUE(this->store.share(kAlice, "x", std::nullopt, true));
  EXPECT_FALSE(this->get(kCarol, kAlice, "x"));
  EXPECT_EQ(this->get(kBob, kAlice, "x"), this->made(1));
}

TYPED_TEST_P(StoreContract, PublishedBatchIsThereAsAWhole) {
  this->put(kAlice, "a", 1);
  SimpleStore::Batch batch{{"a", this->made(2)}, {"b", this->made(3)}, {"c", this->made(4)}};
  EXPECT_TRUE(this->store.publish(kAlice, std::move(batch)));
  EXPECT_EQ(this->get(kAlice, kAlice, "a"), this->made(2));
  EXPECT_EQ(this->get(kAlice, kAlice, "b"), this->made(3));
  EXPECT_EQ(this->get(kAlice, kAlice, "c"), this->made(4));
}

TYPED_TEST_P(StoreContract, RefusedBatchChangesNothing) {
  this->put(kAlice, "a", 1);
  SimpleStore::Batch twice{{"a", this->made(2)}, {"b", this->made(3)}, {"b", this->made(4)}};
  EXPECT_EQ(this->store.publish(kAlice, std::move(twice)).error().code,
            StatusCode::InvalidArgument);
  EXPECT_EQ(this->store.put(kAlice, "", this->made(1)).error().code, StatusCode::InvalidArgument);
  EXPECT_EQ(this->get(kAlice, kAlice, "a"), this->made(1));
  EXPECT_EQ(this->store.objects(), 1u);
}

TYPED_TEST_P(StoreContract, RandomOperationsAgreeWithThePlainStore) {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    SimpleStore model;
    TypeParam fresh;
    auto& tested = fresh.store;
    const uid_t uids[] = {kAlice, kBob, kCarol};
    for (std::size_t step = 0; step < 300; ++step) {
      const uid_t uid = uids[random() % 3];
      const uid_t other = uids[random() % 3];
      const std::string key(1 + random() % 2, static_cast<char>('a' + random() % 3));
      const std::string prefix(random() % 2, 'a');
      const auto with = random() % 3 == 0 ? std::nullopt : std::optional<uid_t>(other);
      const bool revoke = random() % 3 == 0;
      switch (random() % 6) {
        case 0:
          ASSERT_EQ(tested.put(uid, key, this->made(step)).has_value(),
                    model.put(uid, key, this->made(step)).has_value());
          break;
        case 1: {
          const SimpleStore::Batch batch{{key, this->made(step)}, {"b", this->made(step + 1)}};
          ASSERT_EQ(tested.publish(uid, batch).has_value(), model.publish(uid, batch).has_value());
          break;
        }
        case 2:
          ASSERT_EQ(tested.remove(uid, key), model.remove(uid, key));
          break;
        case 3:
          ASSERT_EQ(tested.share(uid, key, with, revoke).has_value(),
                    model.share(uid, key, with, revoke).has_value());
          break;
        case 4:
          ASSERT_EQ(tested.list(other, uid, prefix, key, 1 + step % 4),
                    model.list(other, uid, prefix, key, 1 + step % 4));
          break;
        default: {
          const auto found = tested.get(other, uid, key);
          const auto expected = model.get(other, uid, key);
          ASSERT_EQ(found.has_value(), expected.has_value());
          if (!found) break;
          ASSERT_EQ(tested.contents(*found), model.contents(*expected));
        }
      }
      ASSERT_EQ(tested.objects(), model.objects());
      ASSERT_EQ(tested.object_bytes(), model.object_bytes());
    }
  }
}

REGISTER_TYPED_TEST_SUITE_P(StoreContract, GetGivesTheBytesOfThePut,
                            NewVersionReplacesTheOldOneWhichItsHoldersKeep,
                            RemovedKeyIsAbsentAndItsHoldersKeepTheBytes, NamespacesAreSeparate,
                            ForeignKeysAreAbsentUntilShared, PublishedBatchIsThereAsAWhole,
                            RefusedBatchChangesNothing, RandomOperationsAgreeWithThePlainStore);

INSTANTIATE_TYPED_TEST_SUITE_P(Plain, StoreContract, Simple);
INSTANTIATE_TYPED_TEST_SUITE_P(SmallObjects, StoreContract, Real<SmallSizes>);
INSTANTIATE_TYPED_TEST_SUITE_P(LargeObjects, StoreContract, Real<LargeSizes>);
INSTANTIATE_TYPED_TEST_SUITE_P(MixedObjects, StoreContract, Real<MixedSizes>);

}  // namespace
}  // namespace kaas
