// The short way: a channel's lane, from the question for it to its end.
#include <algorithm>
#include <cstring>

#include "client/src/channel.h"
#include "client/src/received.h"
#include "schema/ipc/clock.h"

namespace kaas {
inline namespace v1 {

// --- BoundCall -----------------------------------------------------------------------------------

bool BoundCall::wants_lane(std::uint64_t now_ns) noexcept {
  if (never_.load(std::memory_order_relaxed) || asks_.load(std::memory_order_relaxed)) return false;
  if (runs_.fetch_add(1, std::memory_order_relaxed) + 1 < kRunsFirst) return false;
  if (now_ns < again_ns_.load(std::memory_order_relaxed)) return false;
  asks_.store(true, std::memory_order_relaxed);
  return true;
}

void BoundCall::refused(StatusCode code, std::uint64_t now_ns) noexcept {
  asks_.store(false, std::memory_order_relaxed);
  if (code == StatusCode::Ok) {
    wait_ns_.store(kWaitFirstNs, std::memory_order_relaxed);
    return;
  }
  const bool can_not = code == StatusCode::InvalidArgument || code == StatusCode::NotFound;
  never_.store(can_not, std::memory_order_relaxed);
  const std::uint64_t wait_ns = wait_ns_.load(std::memory_order_relaxed);
  again_ns_.store(now_ns + wait_ns, std::memory_order_relaxed);
  wait_ns_.store(std::min(wait_ns * 2, kWaitMaxNs), std::memory_order_relaxed);
}

// --- Sending -------------------------------------------------------------------------------------

Result<Pending*> Channel::submit(const std::shared_ptr<BoundCall>& bound, WhenFull when_full) {
  const StoredSubmission& invoke = bound->invoke;
  if (invoke.bytes.size() > message_bytes_max()) {
    return over_limit(StatusCode::InvalidArgument, "bytes of the message", invoke.bytes.size(),
                      message_bytes_max());
  }
  Lock lock(mutex_);
  if (lane_ != nullptr) {
    if (Pending* pending = try_lane(bound)) return pending;
  }
  const bool asks = parts_.lanes && event_ < 0 && !is_served(*bound) && bound->wants_lane(now_ns());
  // The call may be shared by operations under way: the id goes into a copy.
  std::vector<std::byte> message = invoke.bytes;
  auto pending = submit_locked(lock, {message, invoke.id_offset}, Effect::Changes, 0, when_full);
  if (pending.has_value()) (*pending)->bound = bound;
  if (asks) ask_for_lane(bound);
  return pending;
}

bool Channel::serves(const BoundCall& bound) {
  const Lock lock(mutex_);
  if (!leading_) take_in(Show::Yes);
  return is_served(bound);
}

// Answers on a lane ring no event loop: beside one, no lane serves, be it here or yet to come.
bool Channel::is_served(const BoundCall& bound) const noexcept {
  return lane_ != nullptr && event_ < 0 && bound.ticket() >> 32 == lane_->number() &&
         peer().lanes_ended.load(std::memory_order_acquire) < lane_->number();
}

// Null: it goes by the ring.
Pending* Channel::try_lane(const std::shared_ptr<BoundCall>& bound) {
  if (!is_served(*bound) || in_ring() != 0 || !again_.empty() || failed_ ||
      on_lane_ >= kLaneGeometry.slot_count) {
    return nullptr;
  }
  const LaneInvoke invoke{0, static_cast<std::uint32_t>(bound->ticket()), 0};
  RingWriter& writer = lane_->writer();
  if (!writer.can_write(sizeof invoke)) return nullptr;
  Pending* pending = claim(Effect::Changes, 0);
  pending->bound = bound;
  pending->on_lane = true;
  pending->lane_position = writer.written();
  ++on_lane_;
  LaneInvoke message = invoke;
  message.id = pending->id;
  KAAS_CHECK(writer.try_write(lane_message(message)));
  lane_->wake_executor();
  return pending;
}

// Best effort: without room in the ring it is asked another time.
void Channel::ask_for_lane(const std::shared_ptr<BoundCall>& bound) {
  std::vector<std::byte> message = bound->open.bytes;
  if (failed_ || !has_room(message.size())) {
    return bound->refused(StatusCode::ResourceExhausted, now_ns());
  }
  Pending* pending = claim(Effect::Reads, 0);
  --futures_;  // Nobody waits for it.
  pending->wanted = false;
  pending->bound = bound;
  pending->opens_lane = true;
  std::memcpy(message.data() + bound->open.id_offset, &pending->id, sizeof pending->id);
  KAAS_CHECK(writer_.try_write(message));
  wake_daemon();
}

// --- Grant ---------------------------------------------------------------------------------------

void Channel::take_grant(Pending& pending, const wire::Answer& answer) {
  BoundCall& bound = *pending.bound;
  const wire::LaneGrant* grant = answer.lane();
  if (answer.code() != StatusCode::Ok || grant == nullptr) {
    const bool is_odd = answer.code() == StatusCode::Ok;
    return bound.refused(is_odd ? StatusCode::InvalidArgument : answer.code(), now_ns());
  }
  // Until all of it is here. A lane that kaasd thinks is here and is not never will be.
  const bool is_here = lane_ != nullptr && lane_->number() == grant->lane();
  const bool comes = grant->in_token() != 0;
  bound.refused(comes || is_here ? StatusCode::Unavailable : StatusCode::InvalidArgument, now_ns());
  if (!comes && !is_here) return;
  if (comes) {
    auto in = link_->take_token(grant->in_token());
    auto out = link_->take_token(grant->out_token());
    auto bell = link_->take_token(grant->bell_token());
    if (!in || !out || !bell || grant->slot_count() != kLaneGeometry.slot_count ||
        grant->heap_bytes() != kLaneGeometry.heap_bytes) {
      return;
    }
    const std::size_t bytes = kLaneGeometry.segment_bytes();
    auto in_mapping = map_received(in->get(), bytes, Mapping::Mode::ReadWrite, "a lane");
    auto out_mapping = map_received(out->get(), bytes, Mapping::Mode::ReadOnly, "a lane");
    if (!in_mapping.has_value() || !out_mapping.has_value()) return;
    lane_ = std::make_unique<ClientLane>(grant->lane(), *std::move(in_mapping),
                                         *std::move(out_mapping), Doorbell(*std::move(bell)));
  }
  std::vector<Output> outputs;
  for (std::size_t i = 0; i < count(answer.outputs()); ++i) {
    const wire::Output& output = *answer.outputs()->Get(static_cast<unsigned>(i));
    outputs.push_back({output.buffer(), std::string(view(output.name())), output.bytes(), 0, {}});
  }
  bound.refused(StatusCode::Ok, now_ns());
  bound.granted(BoundCall::ticket_of(grant->lane(), grant->call()), grant->replayable(),
                std::move(outputs));
}

// --- Answers -------------------------------------------------------------------------------------

std::size_t Channel::read_lane() {
  if (failed_) return 0;
  std::size_t count = 0;
  if (lane_ != nullptr) {
    RingReader& reader = lane_->reader();
    // Bounded, as read_answers().
    while (count < kLaneGeometry.slot_count) {
      std::span<const std::byte> message;
      const ReadOutcome outcome = reader.read(buffer_, message);
      if (outcome == ReadOutcome::Empty) break;
      if (outcome == ReadOutcome::Violation || !take_lane_answer(message)) {
        const Status reason{StatusCode::ProtocolViolation,
                            "an executor sent a malformed answer on a lane"};
        link_->kill(reason);
        fail(reason);
        return count;
      }
      reader.advance();
      ++count;
    }
    if (count > 0) reader.publish();
    if (count == 0) end_lane_if_over();
  }
  send_again();
  return count;
}

bool Channel::take_lane_answer(std::span<const std::byte> message) {
  LaneAnswer answer{};
  if (!read_lane_message(message, answer) ||
      answer.code > static_cast<std::uint32_t>(wire::StatusCode::MAX) ||
      message.size() - sizeof answer != answer.text_bytes) {
    return false;
  }
  Pending*& place = table_[answer.id & table_mask()];
  if (place == nullptr || place->id != answer.id || !place->on_lane) return false;
  Pending& pending = *place;
  place = nullptr;
  --in_flight_;
  --on_lane_;
  pending.answered = true;
  if (!pending.wanted) {
    recycle(&pending);
    return true;
  }
  pending.code = static_cast<StatusCode>(answer.code);
  if (answer.text_bytes != 0) {
    pending.failure.assign(reinterpret_cast<const char*>(message.data()) + sizeof answer,
                           answer.text_bytes);
  }
  return true;
}

// What an ended lane did not take goes by the ring; what it took and did not answer, too, if it may
// be run again with the same outcome.
void Channel::end_lane_if_over() {
  if (peer().lanes_ended.load(std::memory_order_acquire) < lane_->number()) return;
  if (lane_->reader().waiting()) return;  // Answered before the end.
  const std::uint64_t taken = lane_->taken();
  const std::uint32_t number = lane_->number();
  lane_.reset();
  std::vector<Pending*> left;
  for (Pending* pending : table_) {
    if (pending != nullptr && pending->on_lane) left.push_back(pending);
  }
  std::sort(left.begin(), left.end(),
            [](const Pending* a, const Pending* b) { return a->lane_position < b->lane_position; });
  on_lane_ = 0;
  const Status reason = link_->lane_reason(number);
  // A call does not overwrite its own input, but another one behind it may have.
  const auto is_taken = [&](const Pending* pending) { return pending->lane_position < taken; };
  const auto end = std::partition_point(left.begin(), left.end(), is_taken);
  auto repeatable = end;
  while (repeatable != left.begin() && (*(repeatable - 1))->bound == (*(end - 1))->bound) {
    --repeatable;
  }
  for (auto at = left.begin(); at != left.end(); ++at) {
    Pending* pending = *at;
    pending->on_lane = false;
    const bool may_have_run = is_taken(pending);
    const bool can_repeat = at >= repeatable && pending->bound->replayable() &&
                            reason.code != StatusCode::DeadlineExceeded;
    if (!may_have_run || can_repeat) {
      again_.push_back(pending);
      continue;
    }
    table_[pending->id & table_mask()] = nullptr;
    --in_flight_;
    pending->answered = true;
    if (!pending->wanted) {
      recycle(pending);
      continue;
    }
    pending->code = reason.code == StatusCode::DeadlineExceeded ? StatusCode::DeadlineExceeded
                                                                : StatusCode::UnknownOutcome;
    pending->failure = "its executor ended while it may have run: " + reason.message;
  }
}

void Channel::send_again() {
  while (!again_.empty()) {
    Pending* pending = again_.front();
    std::vector<std::byte> message = pending->bound->invoke.bytes;
    std::memcpy(message.data() + pending->bound->invoke.id_offset, &pending->id,
                sizeof pending->id);
    if (!writer_.try_write(message)) return;
    again_.pop_front();
    wake_daemon();
  }
}

// The sleep protocol of ring.h, on the executor's word. kaasd wakes it too when the lane ends.
void Channel::sleep_on_lane(Lock& lock, std::uint64_t slice_ns) {
  announce_sleep(lane_->own());
  const std::uint32_t word = lane_->peer().wake_word.load(std::memory_order_acquire);
  const bool goes_on = peer().closed.load(std::memory_order_acquire) == 0 &&
                       peer().lanes_ended.load(std::memory_order_acquire) < lane_->number();
  if (goes_on && !lane_->reader().waiting()) {
    // Another thread may find the session dead meanwhile, and end the lane: the address is only
    // passed on, and the kernel refuses one that is not mapped any more.
    const std::atomic<std::uint32_t>& sleeps_on = lane_->peer().wake_word;
    lock.unlock();
    futex_wait(sleeps_on, word, slice_ns);
    lock.lock();
  }
  if (lane_ != nullptr) retract_sleep(lane_->own());
}

}  // namespace v1
}  // namespace kaas
