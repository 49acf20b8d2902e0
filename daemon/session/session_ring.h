// kaasd's end of one client ring.
// Trust:   the submit segment is the client's: messages are copied before anyone looks at them.
// Threads: dispatcher only, once constructed.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "schema/ipc/doorbell.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"

namespace kaas {

// The memory and the doorbell of one ring, kaasd's side. In tests the memory need not be mapped:
// `submit` and `completion` are what counts, the mappings only keep it alive.
struct RingEndpoints {
  std::shared_ptr<const void> charge;  // Of both segments, in the byte budget. Goes last.
  Mapping submit_mapping;              // Read-only.
  Mapping completion_mapping;          // Read-write; kaasd is its only writer.
  RingView submit;
  RingView completion;
  Doorbell doorbell;
};

class SessionRing {
 public:
  SessionRing(std::uint32_t index, RingEndpoints endpoints)
      : index_(index),
        endpoints_(std::move(endpoints)),
        writer_(endpoints_.completion, endpoints_.submit.header),
        reader_(endpoints_.submit, endpoints_.completion.header) {}

  [[nodiscard]] std::uint32_t index() const noexcept { return index_; }
  [[nodiscard]] int doorbell_descriptor() const noexcept {
    return endpoints_.doorbell.descriptor();
  }

  // The next message, if there is one and an answer to it is sure to have a slot: a ring takes on
  // at most slot_count operations that are unanswered, or answered and not yet read.
  // The caller answers each Message exactly once.
  [[nodiscard]] ReadOutcome take(MessageBuffer& buffer, std::span<const std::byte>& message) {
    if (!has_credit()) return writer_.peer_is_sane() ? ReadOutcome::Empty : ReadOutcome::Violation;
    const ReadOutcome outcome = reader_.read(buffer, message);
    if (outcome == ReadOutcome::Message) {
      reader_.advance();
      ++unanswered_;
    }
    return outcome;
  }

  // Of one answer.
  [[nodiscard]] std::size_t answer_bytes_max() const noexcept {
    return endpoints_.completion.geometry.message_bytes_max();
  }

  // Publishes one answer of at most answer_bytes_max(), or keeps it until the client has made room
  // in the heap.
  void answer(std::span<const std::byte> bytes) {
    --unanswered_;
    if (backlog_.empty() && writer_.try_write(bytes)) return;
    backlog_.emplace_back(bytes.begin(), bytes.end());
  }

  // Publishes what take() and answer() did and wakes the client if it sleeps. Once a step.
  void flush() {
    while (!backlog_.empty() && writer_.try_write(backlog_.front())) backlog_.pop_front();
    reader_.publish();
    // Who sleeps waits for an answer: without a new one nobody is woken.
    if (writer_.written() == woken_for_) return;
    woken_for_ = writer_.written();
    if (!writer_.wake_due()) return;
    endpoints_.completion.header->wake_word.fetch_add(1, std::memory_order_release);
    futex_wake_all(endpoints_.completion.header->wake_word);
    if (endpoints_.submit.header->sleeps_on_doorbell.load(std::memory_order_relaxed) != 0) {
      endpoints_.doorbell.ring();
    }
  }

  // Tells the client that kaasd has ended the ring, and why (a StatusCode).
  void close(std::uint32_t reason) {
    RingHeader& own = *endpoints_.completion.header;
    own.closed.store(reason, std::memory_order_release);
    own.wake_word.fetch_add(1, std::memory_order_release);
    futex_wake_all(own.wake_word);
    endpoints_.doorbell.ring();
  }

  // Sleep protocol of the dispatcher, as in ring.h.
  void announce() noexcept { announce_sleep(*endpoints_.completion.header); }
  void retract() noexcept { retract_sleep(*endpoints_.completion.header); }
  [[nodiscard]] bool waiting() { return reader_.waiting() && has_credit(); }
  // It waits for the client to read answers, which rings no doorbell.
  [[nodiscard]] bool blocked() { return !backlog_.empty() || (reader_.waiting() && !has_credit()); }
  // That lane has ended; why is on the socket.
  void tell_lane_ended(std::uint32_t lane) {
    RingHeader& own = *endpoints_.completion.header;
    own.lanes_ended.store(lane, std::memory_order_release);  // Partner: the client's Channel.
    own.wake_word.fetch_add(1, std::memory_order_release);
    futex_wake_all(own.wake_word);
    if (endpoints_.submit.header->sleeps_on_doorbell.load(std::memory_order_relaxed) != 0) {
      endpoints_.doorbell.ring();
    }
  }
  [[nodiscard]] bool clear_doorbell() const { return endpoints_.doorbell.clear(); }
  [[nodiscard]] std::uint64_t taken() const noexcept { return reader_.position(); }
  [[nodiscard]] std::uint64_t unanswered() const noexcept { return unanswered_; }

 private:
  // Answers that wait for heap room stop the intake, which bounds them.
  [[nodiscard]] bool has_credit() {
    if (!backlog_.empty()) return false;
    const std::uint64_t limit = endpoints_.completion.geometry.slot_count;
    if (unanswered_ + writer_.written() - consumed_ < limit) return true;
    consumed_ = writer_.consumed();
    return unanswered_ + writer_.written() - consumed_ < limit;
  }

  std::uint32_t index_;
  RingEndpoints endpoints_;
  RingWriter writer_;
  RingReader reader_;
  std::uint64_t unanswered_ = 0;
  std::uint64_t consumed_ = 0;
  std::uint64_t woken_for_ = 0;  // Answers written when the client's sleep was last looked at.
  std::deque<std::vector<std::byte>> backlog_;
};

}  // namespace kaas
