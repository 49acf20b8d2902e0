#include "daemon/store/object_version.h"

#include <utility>

#include "daemon/store/store_core.h"

namespace kaas {

ObjectVersion::ObjectVersion(std::shared_ptr<StoreCore> core, std::shared_ptr<Account> account,
                             uid_t owner_uid, std::uint64_t bytes) noexcept
    : core_(std::move(core)),
      account_(std::move(account)),
      id_(core_->next_version.fetch_add(1, std::memory_order_relaxed)),
      bytes_(bytes),
      owner_uid_(owner_uid) {
  account_->versions.fetch_add(1, std::memory_order_relaxed);
  account_->version_bytes.fetch_add(bytes_, std::memory_order_relaxed);
}

ObjectVersion::~ObjectVersion() {
  account_->versions.fetch_sub(1, std::memory_order_relaxed);
  account_->version_bytes.fetch_sub(bytes_, std::memory_order_relaxed);
  if (core_->dropped) core_->dropped(id_);
}

bool ObjectVersion::is_complete() const noexcept {
  const State now = state();
  return now == State::Ready || now == State::Resident;
}

wire::ObjectPlace ObjectVersion::place() const noexcept {
  switch (state()) {
    case State::Resident:
      return wire::ObjectPlace::Device;
    case State::Lost:
      return wire::ObjectPlace::Lost;
    case State::Pending:
    case State::Ready:
    case State::Failed:
      break;
  }
  return wire::ObjectPlace::Host;
}

std::span<const std::byte> ObjectVersion::small_bytes() const noexcept {
  if (!piece_ || state() != State::Ready) return {};
  return piece_.bytes().first(bytes_);
}

SegmentRef ObjectVersion::segment() const noexcept {
  return state() == State::Ready ? segment_ : nullptr;
}

}  // namespace kaas
