#include "daemon/flow/closer.h"

#include <new>
#include <utility>

namespace kaas {

Closer::~Closer() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Closer::close(Descriptor descriptor, std::shared_ptr<const void> charge) noexcept {
  Item item{std::move(descriptor), std::move(charge)};
  try {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(item));
  } catch (const std::bad_alloc&) {
    item.descriptor = Descriptor();
    return;
  }
  changed_.notify_all();
}

void Closer::drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return waiting_.empty() && !closing_; });
}

void Closer::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !waiting_.empty() || ending_; });
    if (waiting_.empty()) return;
    std::vector<Item> taken = std::exchange(waiting_, {});
    closing_ = true;
    lock.unlock();
    for (Item& item : taken) {
      item.descriptor = Descriptor();
      item.charge.reset();
    }
    lock.lock();
    closing_ = false;
    changed_.notify_all();
  }
}

}  // namespace kaas
