// Many threads on one store. Under ThreadSanitizer this is where a race shows.
#include <atomic>
#include <random>
#include <thread>

#include "tests/unit/store/store_fixture.h"

namespace kaas {
namespace {

constexpr int kThreads = 4;
constexpr int kSteps = 1500;

using StoreThreads = StoreFixture;

// Every byte is the first one, so that a mixture of two versions shows.
bool is_whole(const Bytes& bytes) {
  for (const std::byte byte : bytes) {
    if (byte != bytes.front()) return false;
  }
  return !bytes.empty();
}

TEST_F(StoreThreads, PutGetRemoveListAndShareBesideEachOther) {
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      std::mt19937 random(static_cast<unsigned>(thread));
      for (int step = 0; step < kSteps; ++step) {
        const std::string key = "k" + std::to_string(random() % 16);
        const auto fill = static_cast<std::byte>(random());
        switch (random() % 8) {
          case 0:
          case 1:
          case 2: {
            const std::size_t bytes = random() % 10 == 0 ? kLargeBytes : 1 + random() % 5000;
            ASSERT_TRUE(store.put_bytes(kAlice, key, from(Bytes(bytes, fill))));
            break;
          }
          case 3:
            store.remove(kAlice, key);
            break;
          case 4:
            (void)store.share(kAlice, key, Grant{.uid = kBob, .revoke = random() % 2 == 0});
            break;
          case 5: {
            const ObjectList list = store.list(random() % 2 ? kAlice : kBob, kAlice, "k", "", 8);
            for (std::size_t i = 1; i < list.objects.size(); ++i) {
              ASSERT_LT(list.objects[i - 1].key, list.objects[i].key);
            }
            break;
          }
          default: {
            const auto found = store.lookup(kAlice, kAlice, key);
            if (!found) break;
            ASSERT_TRUE(is_whole(contents(*found)));
            const auto place = store.readable_place(*found, kBob + random() % 2);
            ASSERT_TRUE(place);
            ASSERT_TRUE(is_whole(contents(*place)));
          }
        }
      }
    });
  }
}

TEST_F(StoreThreads, PublicationsAreWholeInEveryList) {
  std::atomic<bool> done{false};
  std::atomic<int> lists{0};
  std::jthread reader([&] {
    while (!done.load()) {
      const ObjectList list = store.list(kAlice, kAlice, "", "", 0);
      for (const ObjectInfo& object : list.objects) {
        ASSERT_EQ(object.bytes, list.objects.front().bytes);
      }
      lists.fetch_add(1);
    }
  });
  for (std::size_t round = 1; round <= 300 || lists.load() < 10; ++round) {
    std::vector<Store::Entry> entries;
    for (const char* key : {"a", "b", "c", "d"}) {
      entries.push_back(
          {kAlice, key, *store.make_from_bytes(kAlice, key, from(Bytes(round % 4000 + 1)))});
    }
    Publication publication = *store.prepare(std::move(entries));
    store.publish(std::move(publication));
  }
  done.store(true);
}

}  // namespace
}  // namespace kaas
