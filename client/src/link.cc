#include "client/src/link.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace kaas {
inline namespace v1 {
namespace {

// A call looks this often whether a thread that read the socket for another reason has taken its
// answer in.
constexpr std::uint64_t kSliceNs = 1'000'000;

Status status_of(const wire::ControlReply& reply) {
  return Status{reply.code(), std::string(view(reply.message()))};
}

// What send_message says with BadDescriptor, by errno.
Status bad_descriptor(std::span<const int> descriptors) {
  const std::string cause = std::strerror(errno);
  std::string numbers;
  for (const int descriptor : descriptors) {
    numbers += (numbers.empty() ? "" : ", ") + std::to_string(descriptor);
  }
  return Status{StatusCode::InvalidArgument, "the descriptor " + numbers + ": " + cause};
}

}  // namespace

Link::Link(Descriptor socket, std::string path)
    : socket_(std::move(socket)),
      path_(std::move(path)),
      buffer_(std::make_unique_for_overwrite<std::uint64_t[]>(kControlMessageBytesMax / 8)) {}

// WouldBlock: kaasd has made no room by the deadline.
SendOutcome Link::send(std::span<const std::byte> message, std::span<const int> descriptors,
                       std::uint64_t deadline_ns) {
  while (!dead()) {
    const SendOutcome outcome = send_message(socket_.get(), message, descriptors);
    if (outcome != SendOutcome::WouldBlock || now_ns() >= deadline_ns) return outcome;
    wait_writable(socket_.get(), kSliceNs);
  }
  return SendOutcome::HungUp;
}

Result<ControlAnswer> Link::exchange(std::uint64_t id, std::span<const std::byte> message,
                                     std::span<const int> descriptors, std::uint64_t timeout_ns) {
  if (message.size() > kControlMessageBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "bytes of the administration request",
                      message.size(), kControlMessageBytesMax);
  }
  const std::uint64_t deadline_ns = now_ns() + timeout_ns;
  {
    const std::lock_guard lock(mutex_);
    awaited_id_ = id;
    answer_.reset();
  }
  const SendOutcome sent = send(message, descriptors, deadline_ns);
  if (sent == SendOutcome::BadDescriptor) return bad_descriptor(descriptors);
  if (sent != SendOutcome::Sent && check()) {
    return Status{StatusCode::Unavailable, "kaasd at " + path_ + " does not read its socket"};
  }
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      drain_locked();
      if (answer_) {
        awaited_id_ = 0;
        ControlAnswer answer = std::move(*answer_);
        answer_.reset();
        if (answer.root->code() != StatusCode::Ok) return status_of(*answer.root);
        return answer;
      }
      if (dead() || now_ns() >= deadline_ns) {
        awaited_id_ = 0;
        if (dead()) return reason_;
        ++unanswered_;
        return Status{StatusCode::DeadlineExceeded,
                      "kaasd at " + path_ + " did not answer within " +
                          std::to_string(timeout_ns / 1'000'000) + " ms"};
      }
    }
    wait_readable(socket_.get(), kSliceNs);
  }
}

void Link::send_posted(std::uint64_t id, std::span<const std::byte> message,
                       std::span<const int> descriptors) {
  if (!expect_posted()) {
    // kaasd answers in order: those before this one are read with it.
    static_cast<void>(exchange(id, message, descriptors, kCallTimeoutNs));
    return;
  }
  if (send(message, descriptors, now_ns() + kCallTimeoutNs) == SendOutcome::Sent) return;
  const std::lock_guard lock(mutex_);
  if (unanswered_ > 0) --unanswered_;
}

// Whether there is room for one more answer that nobody waits for; it is counted then.
bool Link::expect_posted() {
  const std::lock_guard lock(mutex_);
  drain_locked();
  if (unanswered_ >= kUnansweredMax) return false;
  ++unanswered_;
  return true;
}

void Link::drain() {
  const std::lock_guard lock(mutex_);
  drain_locked();
}

void Link::drain_locked() {
  while (!dead()) {
    const std::span<std::byte> buffer(reinterpret_cast<std::byte*>(buffer_.get()),
                                      kControlMessageBytesMax);
    Received received = receive_message(socket_.get(), buffer, kDescriptorsPerMessageMax);
    switch (received.outcome) {
      case ReceiveOutcome::WouldBlock:
        return;
      case ReceiveOutcome::HungUp:
        kill_locked({StatusCode::Unavailable, "kaasd at " + path_ + " has ended the session"});
        return;
      case ReceiveOutcome::Violation: {
        // The kernel drops descriptors that the process has no room for.
        const Descriptor probe(::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0));
        if (!probe) {
          kill_locked({StatusCode::ResourceExhausted,
                       "this process has no file descriptors left; one from kaasd is lost"});
        } else {
          kill_locked({StatusCode::ProtocolViolation, "kaasd sent a message beyond the limits"});
        }
        return;
      }
      case ReceiveOutcome::Message:
        take_in(std::move(received));
        break;
    }
  }
}

void Link::take_in(Received received) {
  const auto* reply = verified_root<wire::ControlReply>(received.message);
  if (reply == nullptr) {
    kill_locked({StatusCode::ProtocolViolation, "kaasd sent a malformed message"});
    return;
  }
  if (reply->id() == 0 && reply->ended_lane() != 0) {
    ended_lanes_.insert_or_assign(reply->ended_lane(),
                                  Status{reply->code(), std::string(view(reply->message()))});
    return;
  }
  if (reply->id() == 0) {
    if (reply->token() == 0 && reply->code() != StatusCode::Ok) {  // Why kaasd ends the session.
      kill_locked({reply->code(), std::string(view(reply->message()))});
      return;
    }
    if (reply->token() == 0 || received.descriptors.size() != 1) {
      kill_locked({StatusCode::ProtocolViolation, "kaasd sent a message without a purpose"});
      return;
    }
    tokens_.insert_or_assign(reply->token(), std::move(received.descriptors.front()));
    return;
  }
  if (reply->id() != awaited_id_ || answer_) {  // Posted, or its caller has given up.
    if (unanswered_ > 0) --unanswered_;
    return;
  }
  ControlAnswer& answer = answer_.emplace();
  answer.words.resize((received.message.size() + 7) / 8);
  std::memcpy(answer.words.data(), received.message.data(), received.message.size());
  // A private copy of what was just verified.
  answer.root = flatbuffers::GetRoot<wire::ControlReply>(answer.words.data());
  answer.descriptors = std::move(received.descriptors);
}

std::optional<Descriptor> Link::take_token(std::uint64_t token) {
  const std::lock_guard lock(mutex_);
  auto found = tokens_.find(token);
  if (found == tokens_.end()) {
    drain_locked();
    found = tokens_.find(token);
    if (found == tokens_.end()) return std::nullopt;
  }
  std::optional<Descriptor> descriptor(std::move(found->second));
  tokens_.erase(found);
  return descriptor;
}

Status Link::lane_reason(std::uint32_t lane) {
  const std::lock_guard lock(mutex_);
  drain_locked();
  const auto found = ended_lanes_.find(lane);
  if (found == ended_lanes_.end()) return {StatusCode::UnknownOutcome, "its lane has ended"};
  Status reason = std::move(found->second);
  ended_lanes_.erase(found);
  return reason;
}

bool Link::check() {
  if (dead()) return false;
  if (!hung_up(socket_.get())) return true;
  drain();  // Finds the end, after what was sent before it.
  return !dead();
}

Status Link::reason() {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void Link::kill(Status reason) {
  const std::lock_guard lock(mutex_);
  kill_locked(std::move(reason));
}

void Link::kill_locked(Status reason) {
  if (dead()) return;
  reason_ = std::move(reason);
  dead_.store(true, std::memory_order_release);
  ::shutdown(socket_.get(), SHUT_RDWR);
}

Status Link::forked_status() const {
  return Status{StatusCode::Unavailable,
                "this session belongs to the parent of this process; a forked child connects for "
                "itself"};
}

}  // namespace v1
}  // namespace kaas
