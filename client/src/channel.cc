#include "client/src/channel.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "schema/ipc/clock.h"
#include "schema/ipc/spin_budget.h"

namespace kaas {
inline namespace v1 {
namespace {

// A dead daemon wakes nobody: the longest time until a sleeper looks. Spinning and the check come
// on top of it, and all of it must stay below 100 ms.
constexpr std::uint64_t kLookAgainNs = 80'000'000;
// Room in the submit ring comes without a wake when kaasd takes messages that it answers later.
constexpr std::uint64_t kRoomLookNs = 1'000'000;
// The longest time until someone who waits for the lane to be empty looks again.
constexpr std::uint64_t kLaneLookNs = 1'000'000;
// Callers that poll look for a hang-up this often, not at each call.
constexpr std::uint64_t kPollCheckNs = 10'000'000;
constexpr std::size_t kChunkRecords = 64;
// Answers keep their allocation for the next use up to this size.
constexpr std::size_t kKeptWords = 512;

Status lost(const Status& reason, Effect effect) {
  if (effect == Effect::Reads) return {StatusCode::Unavailable, reason.message};
  return {StatusCode::UnknownOutcome, "sent, but the answer was lost: " + reason.message};
}

}  // namespace

Channel::Channel(std::shared_ptr<Link> link, ChannelParts parts)
    : link_(std::move(link)),
      parts_(std::move(parts)),
      submit_view_(RingView::at(parts_.submit.data(), parts_.geometry)),
      completion_view_(RingView::at(parts_.completion.data(), parts_.geometry)),
      writer_(submit_view_, completion_view_.header),
      reader_(completion_view_, submit_view_.header),
      buffer_(parts_.geometry.message_bytes_max()),
      // A peer that keeps the protocol has at most two rings' worth under way.
      table_(std::size_t{parts_.geometry.slot_count} * 4) {}

// --- Sending -------------------------------------------------------------------------------------

Result<Pending*> Channel::submit(EncodedSubmission message, Effect effect, std::uint64_t tag,
                                 WhenFull when_full) {
  if (message.bytes.size() > message_bytes_max()) {
    return over_limit(StatusCode::InvalidArgument, "bytes of the message", message.bytes.size(),
                      message_bytes_max());
  }
  Lock lock(mutex_);
  return submit_locked(lock, std::move(message), effect, tag, when_full);
}

Result<Pending*> Channel::submit_locked(Lock& lock, EncodedSubmission message, Effect effect,
                                        std::uint64_t tag, WhenFull when_full) {
  if (link_->dead() && !failed_) fail(link_->reason());
  if (!failed_ && on_lane_ != 0) KAAS_RETURN_IF_ERROR(leave_lane(lock, when_full));
  if (!failed_ && !has_room(message.bytes.size())) {
    if (!leading_) take_in(Show::Yes);
    if (!failed_ && !has_room(message.bytes.size())) {
      if (when_full == WhenFull::Fail) {
        return over_limit(StatusCode::ResourceExhausted, "operations under way on this ring",
                          in_flight_, parts_.geometry.slot_count);
      }
      wait_for(
          lock, [&] { return failed_ || has_room(message.bytes.size()); }, kNoDeadline,
          kRoomLookNs);
    }
  }
  if (failed_) return Status{StatusCode::Unavailable, failed_->message};
  Pending* pending = claim(effect, tag);
  std::memcpy(message.bytes.data() + message.id_offset, &pending->id, sizeof pending->id);
  KAAS_CHECK(writer_.try_write(message.bytes));
  wake_daemon();
  return pending;
}

// Waits until nothing is on the lane any more.
Result<void> Channel::leave_lane(Lock& lock, WhenFull when_full) {
  if (!leading_) take_in(Show::Yes);
  if (on_lane_ == 0) return {};
  if (when_full == WhenFull::Fail) {
    return Status{StatusCode::ResourceExhausted,
                  std::to_string(on_lane_) +
                      " runs of bound plans are under way on the lane, which "
                      "must end first"};
  }
  wait_for(
      lock, [&] { return failed_ || on_lane_ == 0; }, kNoDeadline, kLaneLookNs);
  return {};
}

bool Channel::has_room(std::size_t bytes) {
  return again_.empty() && in_flight_ < table_.size() / 2 && writer_.can_write(bytes);
}

void Channel::wake_daemon() {
  if (writer_.wake_due()) parts_.doorbell.ring();
}

Pending* Channel::claim(Effect effect, std::uint64_t tag) {
  if (free_ == nullptr) {
    auto chunk = std::make_unique<Pending[]>(kChunkRecords);
    for (std::size_t i = 0; i < kChunkRecords; ++i) {
      chunk[i].channel = this;
      chunk[i].next_free = free_;
      free_ = &chunk[i];
    }
    chunks_.push_back(std::move(chunk));
  }
  Pending* pending = free_;
  free_ = pending->next_free;
  // An old operation may still have the place of this number; numbers need not be dense.
  while (table_[next_id_ & table_mask()] != nullptr) ++next_id_;
  pending->id = next_id_++;
  pending->effect = effect;
  pending->tag = tag;
  pending->wanted = true;
  pending->answered = false;
  pending->code = StatusCode::Ok;
  table_[pending->id & table_mask()] = pending;
  ++in_flight_;
  ++futures_;
  return pending;
}

void Channel::recycle(Pending* pending) {
  if (pending->words.capacity() > kKeptWords) {
    pending->words = {};
  } else {
    pending->words.clear();
  }
  pending->descriptor = Descriptor();
  pending->failure.clear();
  pending->bound.reset();
  pending->opens_lane = false;
  pending->on_lane = false;
  pending->wanted = false;
  pending->next_free = free_;
  free_ = pending;
}

void Channel::release(Pending* pending) {
  std::shared_ptr<Channel> last;  // Outlives the lock.
  const Lock lock(mutex_);
  --futures_;
  if (pending->answered) {
    recycle(pending);
  } else {
    pending->wanted = false;
  }
  if (futures_ == 0) last = std::move(self_);
}

// --- Taking answers in ---------------------------------------------------------------------------

std::size_t Channel::take_in(Show show) {
  std::size_t count = read_answers();
  if (lane_ != nullptr || !again_.empty()) count += read_lane();
  if (count == 0) return 0;
  if (followers_ > 0) led_.notify_all();
  if (event_ >= 0 && show == Show::Yes) ::eventfd_write(event_, 1);
  return count;
}

std::size_t Channel::read_answers() {
  if (failed_) return 0;
  std::size_t count = 0;
  bool freed_heap = false;
  // Bounded, so that a daemon that answers for ever can't keep a caller here.
  while (count < parts_.geometry.slot_count) {
    std::span<const std::byte> message;
    const ReadOutcome outcome = reader_.read(buffer_, message);
    if (outcome == ReadOutcome::Empty) break;
    const wire::Answer* answer = nullptr;
    if (outcome == ReadOutcome::Message) answer = verified_root<wire::Answer>(message);
    if (answer == nullptr || !take_answer(*answer, message)) {
      const Status reason{StatusCode::ProtocolViolation,
                          "kaasd at " + link_->path() + " sent a malformed answer"};
      link_->kill(reason);
      fail(reason);
      break;
    }
    freed_heap |= message.size() > kSlotPayloadBytes;
    reader_.advance();
    ++count;
  }
  if (count > 0) publish_and_wake(count, freed_heap);
  return count;
}

bool Channel::take_answer(const wire::Answer& answer, std::span<const std::byte> message) {
  Pending*& place = table_[answer.id() & table_mask()];
  if (place == nullptr || place->id != answer.id() || place->on_lane) return false;
  Pending& pending = *place;
  std::optional<Descriptor> descriptor;
  if (answer.token() != 0) {
    descriptor = link_->take_token(answer.token());
    if (!descriptor) return false;
  }
  place = nullptr;
  --in_flight_;
  pending.answered = true;
  if (pending.opens_lane) take_grant(pending, answer);
  if (!pending.wanted) {
    recycle(&pending);
    return true;
  }
  keep_answer(pending, answer, message);
  if (descriptor) pending.descriptor = std::move(*descriptor);
  return true;
}

void Channel::keep_answer(Pending& pending, const wire::Answer& answer,
                          std::span<const std::byte> message) {
  pending.code = answer.code();
  pending.plan = answer.plan();
  pending.version = answer.version();
  pending.bytes = answer.bytes();
  const bool says_more = answer.message() != nullptr || answer.data() != nullptr ||
                         answer.outputs() != nullptr || answer.profile() != nullptr ||
                         answer.device() != nullptr || answer.exported() != nullptr;
  if (!says_more) return;
  try {
    pending.words.resize((message.size() + 7) / 8);
  } catch (const std::bad_alloc&) {
    pending.code = StatusCode::ResourceExhausted;
    return;
  }
  std::memcpy(pending.words.data(), message.data(), message.size());
}

// kaasd stops taking submissions when a ring's worth of answers is unread, and holds answers back
// when the heap is full; it may sleep then.
void Channel::publish_and_wake(std::size_t count, bool freed_heap) {
  reader_.publish();
  if (freed_heap || in_flight_ + count >= parts_.geometry.slot_count) wake_daemon();
}

// --- Waiting -------------------------------------------------------------------------------------

bool Channel::ready(Pending& pending) {
  const Lock lock(mutex_);
  if (pending.answered) return true;
  if (leading_) return false;
  if (take_in(Show::Yes) == 0) check_sometimes();
  return pending.answered;
}

bool Channel::wait(Pending& pending, std::uint64_t deadline_ns) {
  Lock lock(mutex_);
  if (pending.answered) return true;
  return wait_for(
      lock, [&] { return pending.answered; }, deadline_ns, kLookAgainNs);
}

template <class Done>
bool Channel::wait_for(Lock& lock, Done done, std::uint64_t deadline_ns, std::uint64_t look_ns) {
  while (!done()) {
    if (leading_) {
      const std::uint64_t now = now_ns();
      if (now >= deadline_ns) return false;
      ++followers_;
      led_.wait_for(lock, std::chrono::nanoseconds(std::min(deadline_ns - now, kLookAgainNs)));
      --followers_;
      continue;
    }
    lead(lock, done, deadline_ns, look_ns);
    if (!done() && now_ns() >= deadline_ns) return false;
  }
  return true;
}

template <class Done>
void Channel::lead(Lock& lock, Done done, std::uint64_t deadline_ns, std::uint64_t look_ns) {
  leading_ = true;
  std::uint64_t now = 0;
  std::uint64_t spin_until_ns = 0;
  SpinPause pause;
  for (;;) {
    const bool progress = take_in(Show::Yes) > 0;
    if (done()) break;
    now = now_ns();
    if (now >= deadline_ns) break;
    if (progress || spin_until_ns == 0) spin_until_ns = now + parts_.spin_ns;
    if (now < spin_until_ns) {
      lock.unlock();
      pause();
      lock.lock();
      continue;
    }
    sleep(lock, std::min(look_ns, deadline_ns - now));
    if (!done()) check_alive();
  }
  leading_ = false;
  if (followers_ > 0) led_.notify_all();
}

// The sleep protocol of ring.h, on the daemon's word.
void Channel::sleep(Lock& lock, std::uint64_t slice_ns) {
  if (on_lane_ != 0) return sleep_on_lane(lock, slice_ns);
  const bool on_doorbell = own().sleeps_on_doorbell.exchange(0, std::memory_order_relaxed) != 0;
  // An event loop's announcement may have been answered already, and is not answered twice.
  retract_sleep(own());
  announce_sleep(own());
  const std::uint32_t word = peer().wake_word.load(std::memory_order_acquire);
  if (!reader_.waiting() && peer().closed.load(std::memory_order_acquire) == 0) {
    lock.unlock();
    futex_wait(peer().wake_word, word, slice_ns);
    lock.lock();
  }
  retract_sleep(own());
  if (on_doorbell) {
    own().sleeps_on_doorbell.store(1, std::memory_order_relaxed);
    announce_sleep(own());
  }
}

std::size_t Channel::poll(bool rearm) {
  const Lock lock(mutex_);
  // Before the leader check: a ringing doorbell that nobody clears would keep an event loop awake.
  if (rearm) parts_.doorbell.clear();
  if (leading_) return 0;
  std::size_t count = 0;
  if (rearm) {
    retract_sleep(own());
    count = take_in(Show::No);
    own().sleeps_on_doorbell.store(1, std::memory_order_relaxed);
    announce_sleep(own());  // Before the last look, so that an answer after it rings.
  }
  count += take_in(Show::No);
  if (count == 0) check_sometimes();
  return count;
}

void Channel::show_answers_on(int event) {
  Lock lock(mutex_);
  event_ = event;  // First of all, so that nothing more goes by the lane.
  if (on_lane_ != 0) (void)leave_lane(lock, WhenFull::Wait);
}

// --- The end -------------------------------------------------------------------------------------

void Channel::check_sometimes() {
  if (link_->dead() || now_ns() - checked_ns_ > kPollCheckNs) check_alive();
}

void Channel::check_alive() {
  if (failed_) return;
  const std::uint32_t closed = peer().closed.load(std::memory_order_acquire);
  (void)writer_.consumed();  // Looks at the daemon's counter.
  Status reason;
  // First of all: the words of another life mean nothing.
  if (__atomic_load_n(&peer().epoch, __ATOMIC_RELAXED) != parts_.epoch) {
    reason = {StatusCode::Unavailable, "the ring belongs to another life of kaasd"};
  } else if (closed != 0) {
    // Why is on the socket, sent before the ring was closed.
    link_->drain();
    const bool known = closed <= static_cast<std::uint32_t>(wire::StatusCode::MAX);
    reason = {known ? static_cast<StatusCode>(closed) : StatusCode::Unavailable,
              "kaasd at " + link_->path() + " has closed the ring"};
    if (link_->dead()) reason = link_->reason();
  } else if (!writer_.peer_is_sane()) {
    reason = {StatusCode::ProtocolViolation,
              "kaasd at " + link_->path() + " has consumed what was never sent"};
  } else if (!link_->check()) {
    reason = link_->reason();
  } else {
    checked_ns_ = now_ns();
    return;
  }
  link_->kill(reason);
  fail(reason);
}

// Answers that have arrived stay readable; what is still in flight ends here.
void Channel::fail(const Status& reason) {
  if (failed_) return;
  if (reason.code != StatusCode::ProtocolViolation) {
    while (read_answers() + (lane_ != nullptr ? read_lane() : 0) > 0) {
    }
    if (failed_) return;  // By what the last answers were.
  }
  failed_ = reason;
  lane_.reset();
  on_lane_ = 0;
  again_.clear();
  for (Pending*& place : table_) {
    if (place == nullptr) continue;
    Pending& pending = *place;
    place = nullptr;
    pending.answered = true;
    if (!pending.wanted) {
      recycle(&pending);
      continue;
    }
    Status status = lost(reason, pending.effect);
    pending.code = status.code;
    pending.failure = std::move(status.message);
  }
  in_flight_ = 0;
  led_.notify_all();
  if (event_ >= 0) ::eventfd_write(event_, 1);
}

void Channel::close(const Status& reason) {
  const Lock lock(mutex_);
  fail(reason);
  event_ = -1;
  if (futures_ > 0) self_ = shared_from_this();
}

}  // namespace v1
}  // namespace kaas
