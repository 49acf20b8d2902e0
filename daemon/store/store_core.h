// What object versions share with their store, so that a version may outlive it. Internal to
// daemon/store.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "daemon/flow/segments.h"
#include "daemon/store/budget.h"
#include "daemon/store/slab.h"

namespace kaas {

// The figures of one namespace. Each is on its own: no two need to agree at any moment.
struct Account {
  std::atomic<std::uint64_t> objects{0};
  std::atomic<std::uint64_t> object_bytes{0};
  std::atomic<std::uint64_t> versions{0};
  std::atomic<std::uint64_t> version_bytes{0};
};

struct StoreCore {
  StoreCore(ByteBudget& of_budget, SegmentRegistry& of_registry,
            std::function<void(std::uint64_t)> listener)
      : budget(of_budget),
        registry(of_registry),
        slabs(of_budget, of_registry),
        dropped(std::move(listener)) {}

  // The account of a uid. Kept for good once made: there are few uids.
  std::shared_ptr<Account> account(uid_t uid) {
    const std::lock_guard lock(accounts_mutex);
    std::shared_ptr<Account>& found = accounts[uid];
    if (found == nullptr) found = std::make_shared<Account>();
    return found;
  }

  ByteBudget& budget;
  SegmentRegistry& registry;
  SlabPool slabs;
  const std::function<void(std::uint64_t)> dropped;
  std::atomic<std::uint64_t> next_version{1};
  std::mutex accounts_mutex;
  std::map<uid_t, std::shared_ptr<Account>> accounts;  // Under accounts_mutex.
};

}  // namespace kaas
