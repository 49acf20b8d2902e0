#include "daemon/store/budget.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "schema/ipc/clock.h"

namespace kaas {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kBytesMax = std::numeric_limits<std::uint64_t>::max();

// What memory really takes. Saturates: such a number fits no limit.
std::uint64_t whole_pages(std::uint64_t bytes) noexcept {
  if (bytes > kBytesMax - kPageBytes) return kBytesMax;
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) noexcept {
  return a > kBytesMax - b ? kBytesMax : a + b;
}

}  // namespace

Reservation::Reservation(Reservation&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      touched_bytes_(std::exchange(other.touched_bytes_, 0)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  Reservation dropped(std::move(other));
  std::swap(budget_, dropped.budget_);
  std::swap(bytes_, dropped.bytes_);
  std::swap(touched_bytes_, dropped.touched_bytes_);
  return *this;
}

Reservation::~Reservation() {
  shrink_to(0);
}

void Reservation::mark_touched(std::uint64_t bytes) noexcept {
  const std::uint64_t touched = std::min(whole_pages(bytes), bytes_);
  if (budget_ == nullptr || touched <= touched_bytes_) return;
  budget_->touched_bytes_.fetch_add(touched - touched_bytes_, std::memory_order_relaxed);
  touched_bytes_ = touched;
}

void Reservation::shrink_to(std::uint64_t bytes) noexcept {
  const std::uint64_t kept = whole_pages(bytes);
  if (budget_ == nullptr || kept >= bytes_) return;
  const std::uint64_t kept_touched = std::min(touched_bytes_, kept);
  budget_->give_back(bytes_ - kept, touched_bytes_ - kept_touched);
  bytes_ = kept;
  touched_bytes_ = kept_touched;
}

void Reservation::absorb(Reservation other) noexcept {
  if (other.budget_ == nullptr) return;
  KAAS_CHECK(budget_ == nullptr || budget_ == other.budget_);
  budget_ = std::exchange(other.budget_, nullptr);
  bytes_ += std::exchange(other.bytes_, 0);
  touched_bytes_ += std::exchange(other.touched_bytes_, 0);
}

ByteBudget::ByteBudget(Options options)
    : configured_bytes_(options.limit_bytes),
      source_(std::move(options.source)),
      reread_ns_(options.reread_ns),
      limit_bytes_(configured_bytes_.value_or(source_ == nullptr ? kBytesMax : 0)),
      bound_(configured_bytes_    ? "configured"
             : source_ == nullptr ? "no limit"
                                  : "the machine's memory is unknown; configure a limit") {
  refresh_if_due();
}

ByteBudget::~ByteBudget() {
  KAAS_CHECK(used_bytes() == 0);
}

Result<Reservation> ByteBudget::reserve(std::uint64_t bytes, const std::string& what) {
  refresh_if_due();
  if (auto taken = try_reserve(bytes)) return *std::move(taken);
  if (last_resort_) {
    last_resort_();
    if (auto taken = try_reserve(bytes)) return *std::move(taken);
  }
  return refusal(bytes, what);
}

Result<Reservation> ByteBudget::reserve_existing(std::uint64_t bytes, const std::string& what) {
  if (auto taken = try_reserve(bytes)) return *std::move(taken);
  return reserve(bytes, what);
}

std::optional<Reservation> ByteBudget::try_reserve(std::uint64_t bytes) noexcept {
  const std::uint64_t wanted = whole_pages(bytes);
  std::uint64_t used = used_bytes_.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint64_t limit_now = limit_bytes_.load(std::memory_order_relaxed);
    if (wanted > limit_now || used > limit_now - wanted) return std::nullopt;
    if (used_bytes_.compare_exchange_weak(used, used + wanted, std::memory_order_relaxed)) {
      return Reservation(this, wanted);
    }
  }
}

Status ByteBudget::refusal(std::uint64_t bytes, const std::string& what) {
  const std::lock_guard lock(source_mutex_);
  return Status{StatusCode::ResourceExhausted,
                what + " of " + std::to_string(bytes) + " bytes does not fit: used " +
                    std::to_string(used_bytes()) + " of limit " +
                    std::to_string(limit_bytes_.load(std::memory_order_relaxed)) + " (" + bound_ +
                    ")"};
}

std::uint64_t ByteBudget::used_bytes() const noexcept {
  return used_bytes_.load(std::memory_order_relaxed);
}

ByteBudget::Limit ByteBudget::limit() {
  refresh_if_due();
  const std::lock_guard lock(source_mutex_);
  return Limit{limit_bytes_.load(std::memory_order_relaxed), bound_};
}

void ByteBudget::refresh_if_due() {
  if (source_ == nullptr) return;
  if (now_ns() < reread_due_ns_.load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(source_mutex_, std::try_to_lock);
  if (!lock) return;  // Another thread reads it right now.
  // The touched bytes before the reading: pages that come into being in between are then counted
  // twice for a moment, never overlooked.
  const std::uint64_t touched = touched_bytes_.load(std::memory_order_relaxed);
  Result<MemoryReading> reading = source_->read();
  reread_due_ns_.store(now_ns() + reread_ns_, std::memory_order_relaxed);
  if (!reading) return;
  std::uint64_t cap = reading->total_bytes / 4 * 3;
  std::string bound = "3/4 of the memory";
  if (configured_bytes_) {
    cap = *configured_bytes_;
    bound = "configured";
  }
  // The headroom does not contain our touched pages, so they come on top; reserved pages that do
  // not exist yet have to fit into it, and do: used - touched <= limit - touched <= headroom.
  const std::uint64_t room = saturating_sum(touched, reading->headroom_bytes);
  if (room < cap) {
    cap = room;
    bound = reading->bound;
  }
  bound_ = std::move(bound);
  limit_bytes_.store(cap, std::memory_order_relaxed);
}

void ByteBudget::give_back(std::uint64_t bytes, std::uint64_t touched_bytes) noexcept {
  touched_bytes_.fetch_sub(touched_bytes, std::memory_order_relaxed);
  used_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

}  // namespace kaas
