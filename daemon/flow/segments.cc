#include "daemon/flow/segments.h"

#include <mutex>
#include <unordered_map>
#include <utility>

#include "schema/limits.h"

namespace kaas {
namespace {

// Freeing this much takes about as long as waking another thread.
constexpr std::uint64_t kSlowToFreeBytes = 1u << 20;

}  // namespace

// Shared with the deleters of all segments, so that a segment may outlive its registry.
struct SegmentRegistry::State {
  State(Released listener, Closer* of_large) : released(std::move(listener)), closer(of_large) {}

  const Released released;
  Closer* const closer;
  std::mutex mutex;
  std::uint32_t next = kFirstSegment;                                     // Under mutex.
  std::unordered_map<std::uint32_t, std::weak_ptr<const Segment>> alive;  // Under mutex.

  // A number that no living segment has. Under mutex.
  std::uint32_t take_number() {
    while (next < kFirstSegment || alive.contains(next)) ++next;
    return next++;
  }

  void release(Segment* segment) noexcept {
    const std::uint32_t id = segment->id;
    if (closer != nullptr && segment->bytes >= kSlowToFreeBytes) {
      closer->close(std::move(segment->descriptor), std::move(segment->charge));
    }
    delete segment;
    // The number leaves the table last: it cannot be given out again before the listener knows.
    if (released) released(id);
    const std::lock_guard lock(mutex);
    alive.erase(id);
  }
};

SegmentRegistry::SegmentRegistry(Released released, Closer* closer)
    : state_(std::make_shared<State>(std::move(released), closer)) {}

SegmentRegistry::~SegmentRegistry() = default;

SegmentRef SegmentRegistry::add(Segment segment) {
  auto owned = std::make_unique<Segment>(std::move(segment));
  {
    const std::lock_guard lock(state_->mutex);
    owned->id = state_->take_number();
    state_->alive.try_emplace(owned->id);
  }
  return adopt(std::move(owned));
}

SegmentNumber SegmentRegistry::reserve() {
  SegmentNumber number;
  number.give_up_ = [state = state_](std::uint32_t id) {
    const std::lock_guard lock(state->mutex);
    state->alive.erase(id);
  };
  const std::lock_guard lock(state_->mutex);
  const std::uint32_t id = state_->take_number();
  state_->alive.try_emplace(id);
  number.id_ = id;
  return number;
}

SegmentRef SegmentRegistry::add(Segment segment, SegmentNumber number) {
  auto owned = std::make_unique<Segment>(std::move(segment));
  owned->id = std::exchange(number.id_, 0);
  return adopt(std::move(owned));
}

// Its number is taken already.
SegmentRef SegmentRegistry::adopt(std::unique_ptr<Segment> owned) {
  // If this throws, shared_ptr calls the deleter: the number is freed and the listener told.
  SegmentRef added(owned.release(), [state = state_](Segment* gone) { state->release(gone); });
  const std::lock_guard lock(state_->mutex);
  state_->alive[added->id] = added;
  return added;
}

SegmentRef SegmentRegistry::find(std::uint32_t id) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->alive.find(id);
  return found == state_->alive.end() ? nullptr : found->second.lock();
}

std::size_t SegmentRegistry::alive() const {
  const std::lock_guard lock(state_->mutex);
  return state_->alive.size();
}

}  // namespace kaas
