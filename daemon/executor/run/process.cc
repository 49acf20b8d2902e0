#include "daemon/executor/run/process.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "daemon/executor/run/work_rhythm.h"
#include "schema/ipc/clock.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/socket.h"
#include "schema/ipc/spin_budget.h"
#include "schema/limits.h"

namespace kaas {
namespace {

constexpr std::size_t kHelloDescriptors = 4;
// While reports wait for room in the ring.
constexpr int kBacklogSleepMs = 1;

Status violation(std::string what) {
  return Status{StatusCode::ProtocolViolation, std::move(what)};
}

Status system_error(const char* what) {
  return Status{StatusCode::ResourceExhausted, std::string(what) + ": " + std::strerror(errno)};
}

Result<RingGeometry> check_geometry(const wire::ExecutorHello& hello) {
  const std::uint32_t slots = hello.slot_count();
  if (slots < kRingSlotsMin || slots > kRingSlotsMax || !std::has_single_bit(slots)) {
    return violation("hello: slot_count is " + std::to_string(slots) + ", allowed powers of two, " +
                     std::to_string(kRingSlotsMin) + " to " + std::to_string(kRingSlotsMax));
  }
  const std::uint32_t heap = hello.work_heap_bytes();
  if (heap < 2 * kSlotBytes || heap > kWorkHeapBytes || heap % kCacheLineBytes != 0) {
    return violation("hello: work_heap_bytes is " + std::to_string(heap) + ", limit " +
                     std::to_string(kWorkHeapBytes));
  }
  return RingGeometry{slots, heap};
}

Result<Mapping> map_ring(int descriptor, const RingGeometry& geometry, Mapping::Mode mode,
                         const char* what) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t bytes, segment_bytes_of(descriptor, what));
  if (bytes < geometry.segment_bytes()) {
    return violation(std::string(what) + " has " + std::to_string(bytes) + " bytes, needs " +
                     std::to_string(geometry.segment_bytes()));
  }
  return Mapping::create(descriptor, geometry.segment_bytes(), mode, what);
}

Result<ExecutorChannel> open_channel(const wire::ExecutorHello& hello,
                                     std::vector<Descriptor>& descriptors) {
  if (hello.protocol_version() != kProtocolVersion) {
    return Status{StatusCode::VersionMismatch,
                  "kaasd speaks protocol version " + std::to_string(hello.protocol_version()) +
                      ", this executor " + std::to_string(kProtocolVersion)};
  }
  if (descriptors.size() != kHelloDescriptors) {
    return violation("hello came with " + std::to_string(descriptors.size()) +
                     " descriptors, needs " + std::to_string(kHelloDescriptors));
  }
  ExecutorChannel channel;
  KAAS_ASSIGN_OR_RETURN(channel.geometry, check_geometry(hello));
  KAAS_ASSIGN_OR_RETURN(channel.work, map_ring(descriptors[0].get(), channel.geometry,
                                               Mapping::Mode::ReadOnly, "work ring"));
  KAAS_ASSIGN_OR_RETURN(channel.report, map_ring(descriptors[1].get(), channel.geometry,
                                                 Mapping::Mode::ReadWrite, "report ring"));
  SegmentTerms outbox;
  outbox.segment = kOutboxSegment;
  outbox.bytes = hello.outbox_bytes();
  outbox.writable = true;
  KAAS_ASSIGN_OR_RETURN(channel.outbox, ExecutorSegment::create(outbox, std::move(descriptors[2])));
  channel.doorbell = Doorbell(std::move(descriptors[3]));
  channel.device_limit_bytes = hello.device_limit_bytes();
  return channel;
}

std::vector<std::byte> bytes_of(const flatbuffers::Vector<std::uint8_t>* from) {
  if (from == nullptr) return {};
  const auto* begin = reinterpret_cast<const std::byte*>(from->data());
  return {begin, begin + from->size()};
}

bool has_no_descriptor(const wire::AttachSegment& message) {
  if (message.event() != nullptr) return true;
  return message.device_memory() != nullptr &&
         message.device_memory()->kind() == wire::DeviceMemoryKind::Legacy;
}

ImportRequest request_of(const wire::DeviceMemory& memory) {
  ImportRequest request;
  request.kind = memory.kind();
  request.handle = bytes_of(memory.handle());
  request.bytes = memory.bytes();
  if (count(memory.gpu()) == kGpuUuidBytes) {
    request.gpu.emplace();
    std::memcpy(request.gpu->data(), memory.gpu()->data(), kGpuUuidBytes);
  }
  return request;
}

Result<std::shared_ptr<ExecutorSegment>> attached(const wire::AttachSegment& message,
                                                  const SegmentTerms& terms,
                                                  Descriptor descriptor) {
  if (message.event() != nullptr) {
    return ExecutorSegment::of_event(terms, bytes_of(message.event()));
  }
  if (message.bell()) return ExecutorSegment::of_bell(terms, std::move(descriptor));
  if (message.device_memory() == nullptr) {
    return ExecutorSegment::create(terms, std::move(descriptor));
  }
  return ExecutorSegment::of_device(terms, request_of(*message.device_memory()),
                                    std::move(descriptor));
}

// Epoll data: a descriptor, or this bit and the lane whose bell it is.
constexpr std::uint64_t kLaneBit = std::uint64_t{1} << 63;

std::uint64_t tag_of(int descriptor) {
  return static_cast<std::uint32_t>(descriptor);
}

bool add_to_epoll(int epoll, int descriptor, std::uint32_t events, std::uint64_t tag) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0;
}

}  // namespace

Result<ExecutorChannel> ExecutorChannel::receive(Descriptor socket) {
  if (!wait_readable(socket.get(), kHelloDeadlineNs)) {
    return Status{StatusCode::Unavailable, "kaasd has not said hello"};
  }
  std::vector<std::byte> buffer(kControlMessageBytesMax);
  Received received = receive_message(socket.get(), buffer, kHelloDescriptors);
  if (received.outcome == ReceiveOutcome::HungUp) {
    return Status{StatusCode::Unavailable, "kaasd hung up before its hello"};
  }
  const wire::ExecutorHello* hello = nullptr;
  if (received.outcome == ReceiveOutcome::Message) {
    hello = verified_root<wire::ExecutorHello>(received.message);
  }
  if (hello == nullptr) return violation("kaasd's hello is malformed");
  KAAS_ASSIGN_OR_RETURN(ExecutorChannel channel, open_channel(*hello, received.descriptors));
  channel.socket = std::move(socket);
  return channel;
}

// --- SocketSegmentSource -------------------------------------------------------------------------

SocketSegmentSource::SocketSegmentSource(int socket)
    : socket_(socket), buffer_(kControlMessageBytesMax) {}

std::optional<AttachedSegment> SocketSegmentSource::next() {
  if (hung_up_ || !broken_.empty()) return std::nullopt;
  Received received = receive_message(socket_, buffer_, 1);
  switch (received.outcome) {
    case ReceiveOutcome::WouldBlock:
      return std::nullopt;
    case ReceiveOutcome::HungUp:
      hung_up_ = true;
      return std::nullopt;
    case ReceiveOutcome::Violation:
      broken_ = "a message of kaasd is too long or carries too many descriptors";
      return std::nullopt;
    case ReceiveOutcome::Message:
      break;
  }
  const auto* message = verified_root<wire::AttachSegment>(received.message);
  const bool brings_none = message != nullptr && has_no_descriptor(*message);
  if (message == nullptr || received.descriptors.size() != (brings_none ? 0 : 1)) {
    broken_ = "a message of kaasd is no AttachSegment with its descriptor";
    return std::nullopt;
  }
  SegmentTerms terms;
  terms.segment = message->segment();
  terms.bytes = message->bytes();
  terms.writable = message->writable();
  terms.guarded = message->guarded();
  terms.once = message->once();
  Descriptor descriptor;
  if (!brings_none) descriptor = std::move(received.descriptors[0]);
  auto outcome = attached(*message, terms, std::move(descriptor));
  return AttachedSegment{terms.segment, std::move(outcome)};
}

bool SocketExportSink::send(std::uint64_t number, int descriptor) {
  flatbuffers::FlatBufferBuilder builder(64);
  builder.Finish(wire::CreateExportedMemory(builder, number));
  return send_message(socket_, finished(builder), {&descriptor, 1}) == SendOutcome::Sent;
}

// --- ExecutorSleep -------------------------------------------------------------------------------

Result<ExecutorSleep> ExecutorSleep::create(int doorbell, int socket) {
  ExecutorSleep sleep;
  sleep.epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  if (!sleep.epoll_) return system_error("epoll_create1");
  sleep.event_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!sleep.event_) return system_error("eventfd");
  const int epoll = sleep.epoll_.get();
  // The event and the socket are edge-triggered: their content is read elsewhere, or not at all.
  const int event = sleep.event_.get();
  if (!add_to_epoll(epoll, doorbell, EPOLLIN | EPOLLRDHUP, tag_of(doorbell)) ||
      !add_to_epoll(epoll, socket, EPOLLIN | EPOLLRDHUP | EPOLLET, tag_of(socket)) ||
      !add_to_epoll(epoll, event, EPOLLIN | EPOLLET, tag_of(event))) {
    return system_error("epoll_ctl");
  }
  return sleep;
}

bool ExecutorSleep::wait(const Doorbell& doorbell, int timeout_ms) noexcept {
  std::array<epoll_event, kEventsMax> events;
  rung_ = 0;
  const int count =
      ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  bool connected = true;
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if ((event.data.u64 & kLaneBit) != 0) {
      rung_lanes_[rung_++] = static_cast<std::uint32_t>(event.data.u64);
      continue;  // Its hang-up is not kaasd's.
    }
    if (event.data.u64 == tag_of(doorbell.descriptor())) connected = doorbell.clear() && connected;
    if ((event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) connected = false;
  }
  return connected;
}

// Level-triggered: what is not cleared rings again.
Result<void> ExecutorSleep::listen(std::uint32_t lane, int descriptor) {
  if (add_to_epoll(epoll_.get(), descriptor, EPOLLIN, kLaneBit | lane)) return {};
  return system_error("epoll_ctl for the bell of a lane");
}

void ExecutorSleep::ignore(int descriptor) noexcept {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, descriptor, nullptr);
}

void ExecutorSleep::wake() const noexcept {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then a wake is under way.
  static_cast<void>(::write(event_.get(), &one, sizeof one) == sizeof one);
}

// --- The loop ------------------------------------------------------------------------------------

std::uint64_t measure_wake_ns() {
  constexpr int kRounds = 9;
  constexpr std::uint64_t kLeastNs = 5'000;
  constexpr std::uint64_t kMostNs = 100'000;
  auto pair = Doorbell::create_pair();
  if (!pair) return kMostNs;
  Doorbell& here = pair->first;
  std::thread echo([there = std::move(pair->second)] {
    while (wait_readable(there.descriptor(), 1'000'000'000) && there.clear()) there.ring();
  });
  std::array<std::uint64_t, kRounds> rounds{};
  for (std::uint64_t& round : rounds) {
    const std::uint64_t begin = now_ns();
    here.ring();
    static_cast<void>(wait_readable(here.descriptor(), 1'000'000'000));
    here.clear();
    round = (now_ns() - begin) / 2;  // There and back are two wakes.
  }
  here = Doorbell();
  echo.join();
  std::sort(rounds.begin(), rounds.end());
  return std::clamp(rounds[kRounds / 2], kLeastNs, kMostNs);
}

namespace {

constexpr std::uint64_t kMillisecondNs = 1'000'000;

// Until shortly before work is awaited; -1: for ever.
int sleep_ms(const WorkRhythm& rhythm, std::uint64_t now) {
  if (!rhythm.is_awaited(now)) return -1;
  const std::uint64_t wake_ns = rhythm.due_ns() - rhythm.window_ns();
  return now < wake_ns ? static_cast<int>((wake_ns - now) / kMillisecondNs) : 0;
}

// Whether it is so late that work may come at any moment.
bool is_due(const WorkRhythm& rhythm, std::uint64_t now) {
  return rhythm.is_awaited(now) && sleep_ms(rhythm, now) == 0;
}

// Steps until there has been nothing to do for `spin_ns`; while work is due, until that is over.
// False: the loop is closed.
bool step_until_idle(ExecutorLoop& loop, std::uint64_t spin_ns, WorkRhythm& rhythm) {
  const std::uint64_t starts = loop.started_runs();
  bool awaits = is_due(rhythm, now_ns());
  bool has_come = false;
  std::uint64_t idle_since_ns = 0;
  SpinPause pause;
  for (;;) {
    switch (loop.step()) {
      case StepOutcome::Closed:
        return false;
      case StepOutcome::Progress:
        idle_since_ns = 0;
        if (has_come || loop.started_runs() == starts) continue;
        has_come = true;
        awaits = false;
        rhythm.came(now_ns());
        continue;
      case StepOutcome::Idle:
        break;
    }
    const std::uint64_t now = now_ns();
    if (idle_since_ns == 0) idle_since_ns = now;
    if (awaits && !rhythm.is_awaited(now)) {
      rhythm.missed();
      awaits = false;
    }
    if (!awaits && now - idle_since_ns > spin_ns) return true;
    pause();
  }
}

}  // namespace

ExecutorEnding run_executor(ExecutorLoop& loop, const ExecutorChannel& channel,
                            const SocketSegmentSource& source, ExecutorSleep& sleep) {
  SpinBudget spin(measure_wake_ns());
  WorkRhythm rhythm;
  ExecutorEnding ending;
  for (;;) {
    if (!step_until_idle(loop, spin.ns(), rhythm)) {
      ending = {ExecutorEnd::Violation, loop.closed_reason(), false};
      break;
    }
    bool connected = true;
    // What announce_sleep() reads from the socket wakes nobody any more.
    const bool may_sleep = loop.announce_sleep() && source.broken().empty() && !source.hung_up();
    if (may_sleep) {
      const std::uint64_t begin_ns = now_ns();
      const int most_ms = loop.has_backlog() ? kBacklogSleepMs : sleep_ms(rhythm, begin_ns);
      connected = sleep.wait(channel.doorbell, most_ms);
      spin.slept(now_ns() - begin_ns);
    }
    loop.retract_sleep();
    if (may_sleep) {
      for (const std::uint32_t lane : sleep.rung_lanes()) loop.bell_rang(lane);
    }
    if (!source.broken().empty()) {
      ending = {ExecutorEnd::Violation, source.broken(), false};
      break;
    }
    if (!connected || source.hung_up()) {
      ending = {ExecutorEnd::KaasdGone, "kaasd has hung up", false};
      break;
    }
  }
  ending.executing = loop.executing();
  return ending;
}

}  // namespace kaas
