#include "tools/bench/relay.h"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "schema/ipc/clock.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"
#include "schema/ipc/socket.h"

namespace kaas {
namespace {

constexpr std::uint64_t kLookAgainNs = 100'000'000;
// From so many cores on, a spinner yields only at each kSpinsPerYield-th look.
constexpr unsigned kFewCores = 4;
constexpr unsigned kSpinsPerYield = 64;
constexpr RingGeometry kGeometry{kRingSlotsDefault, kRingHeapBytes};

Status system_error(const char* what) {
  return {StatusCode::ResourceExhausted, std::string(what) + ": " + std::strerror(errno)};
}

// Two segments, mapped before the processes fork, so that all three see them.
struct RelayRing {
  Mapping near_memory, far_memory;  // Written by the party nearer to the client, and by the other.
  RingView near, far;

  static Result<RelayRing> create() {
    RelayRing ring;
    for (Mapping* memory : {&ring.near_memory, &ring.far_memory}) {
      KAAS_ASSIGN_OR_RETURN(const Descriptor file,
                            create_segment("kaas-bench-relay", kGeometry.segment_bytes()));
      KAAS_ASSIGN_OR_RETURN(*memory, Mapping::create(file.get(), kGeometry.segment_bytes(),
                                                     Mapping::Mode::ReadWrite, "relay ring"));
    }
    ring.near = RingView::at(ring.near_memory.data(), kGeometry);
    ring.far = RingView::at(ring.far_memory.data(), kGeometry);
    ring.near.initialise(1);
    ring.far.initialise(1);
    return ring;
  }
};

// One party's end of a ring.
struct RelayEnd {
  RingWriter writer;
  RingReader reader;
  RingHeader* own = nullptr;

  static RelayEnd near_of(const RelayRing& ring) { return make(ring.near, ring.far); }
  static RelayEnd far_of(const RelayRing& ring) { return make(ring.far, ring.near); }

 private:
  static RelayEnd make(const RingView& own, const RingView& peer) {
    return {RingWriter(own, peer.header), RingReader(peer, own.header), own.header};
  }
};

// Copies what waits at `from` to `to`. Returns how many slots. A full ring leaves the rest waiting.
std::size_t move_slots(RelayEnd& from, RelayEnd& to, MessageBuffer& buffer) {
  std::size_t count = 0;
  std::span<const std::byte> message;
  while (from.reader.read(buffer, message) == ReadOutcome::Message) {
    if (!to.writer.try_write(message)) break;
    from.reader.advance();
    ++count;
  }
  from.reader.publish();
  return count;
}

void wake_client(RingHeader& own) {
  own.wake_word.fetch_add(1, std::memory_order_release);
  futex_wake_all(own.wake_word);
}

// Waits in epoll on doorbells, as kaasd and executors do.
class DoorbellSleep {
 public:
  explicit DoorbellSleep(std::initializer_list<const Doorbell*> doorbells)
      : epoll_(::epoll_create1(EPOLL_CLOEXEC)), doorbells_(doorbells) {
    for (const Doorbell* doorbell : doorbells_) {
      epoll_event event{};
      event.events = EPOLLIN | EPOLLRDHUP;
      event.data.fd = doorbell->descriptor();
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, doorbell->descriptor(), &event);
    }
  }
  // False: a peer has hung up.
  [[nodiscard]] bool wait() const {
    std::array<epoll_event, 4> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   static_cast<int>(kLookAgainNs / 1'000'000));
    bool connected = count >= 0 || errno == EINTR;
    for (int i = 0; i < count; ++i) {
      for (const Doorbell* doorbell : doorbells_) {
        if (events[static_cast<std::size_t>(i)].data.fd == doorbell->descriptor()) {
          connected = doorbell->clear() && connected;
        }
      }
    }
    return connected;
  }

 private:
  Descriptor epoll_;
  std::vector<const Doorbell*> doorbells_;
};

// Calls step() until it has moved nothing for the budget, then sleeps; ends on a hang-up.
template <class Step, class Waiting, class Announce, class Retract>
void run_party(std::uint64_t spin_ns, const DoorbellSleep& sleep, Step step, Waiting waiting,
               Announce announce, Retract retract) {
  const bool yield_at_once = std::thread::hardware_concurrency() <= kFewCores;
  std::uint64_t idle_since_ns = 0;
  for (unsigned looks = 0;; ++looks) {
    if (step() > 0) {
      idle_since_ns = 0;
      continue;
    }
    const std::uint64_t now = now_ns();
    if (idle_since_ns == 0) idle_since_ns = now;
    if (now - idle_since_ns <= spin_ns) {
      if (yield_at_once || looks % kSpinsPerYield == 0) ::sched_yield();
      continue;
    }
    announce();
    const bool connected = waiting() || sleep.wait();
    retract();
    if (!connected) return;
    idle_since_ns = 0;
  }
}

// The middle process: the part of kaasd.
void run_relay(const RelayRing& client_ring, const RelayRing& end_ring, const Doorbell& to_client,
               const Doorbell& to_end, std::uint64_t spin_ns) {
  RelayEnd client = RelayEnd::far_of(client_ring);
  RelayEnd end = RelayEnd::near_of(end_ring);
  MessageBuffer buffer;
  run_party(
      spin_ns, DoorbellSleep({&to_client, &to_end}),
      [&] {
        const std::size_t down = move_slots(client, end, buffer);
        if (down > 0 && end.writer.wake_due()) to_end.ring();
        const std::size_t up = move_slots(end, client, buffer);
        if (up > 0 && client.writer.wake_due()) wake_client(*client.own);
        return down + up;
      },
      [&] { return client.reader.waiting() || end.reader.waiting(); },
      [&] {
        announce_sleep(*client.own);
        announce_sleep(*end.own);
      },
      [&] {
        retract_sleep(*client.own);
        retract_sleep(*end.own);
      });
}

// The far process: the part of an executor. Sends back what comes.
void run_end(const RelayRing& ring, const Doorbell& to_relay, std::uint64_t spin_ns) {
  RelayEnd relay = RelayEnd::far_of(ring);
  MessageBuffer buffer;
  run_party(
      spin_ns, DoorbellSleep({&to_relay}),
      [&] {
        const std::size_t count = move_slots(relay, relay, buffer);
        if (count > 0 && relay.writer.wake_due()) to_relay.ring();
        return count;
      },
      [&] { return relay.reader.waiting(); }, [&] { announce_sleep(*relay.own); },
      [&] { retract_sleep(*relay.own); });
}

// Forks a process that runs `party`. It holds no descriptor but those of `keep`, so that hang-ups
// are seen, and dies with this one.
template <class Party>
Result<pid_t> fork_party(std::vector<int> keep, Party party) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("fork");
  if (pid > 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  std::sort(keep.begin(), keep.end());
  unsigned from = STDERR_FILENO + 1;
  for (const int descriptor : keep) {
    if (static_cast<unsigned>(descriptor) > from) {
      ::close_range(from, static_cast<unsigned>(descriptor) - 1, 0);
    }
    from = static_cast<unsigned>(descriptor) + 1;
  }
  ::close_range(from, ~0u, 0);
  party();
  ::_exit(0);
}

void end_process(pid_t pid) {
  if (pid <= 0) return;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

struct Relay::Impl {
  RelayRing client_ring, end_ring;
  RelayEnd client;
  Doorbell doorbell;  // To the relay.
  MessageBuffer buffer;
  RelayWaits waits;
  pid_t relay = -1;
  pid_t end = -1;

  ~Impl() {
    end_process(relay);
    end_process(end);
  }

  // As the client library waits for an answer.
  Result<void> wait_for_slot() {
    std::uint64_t spin_until_ns = 0;
    std::span<const std::byte> message;
    for (;;) {
      if (client.reader.read(buffer, message) == ReadOutcome::Message) {
        client.reader.advance();
        client.reader.publish();
        return {};
      }
      const std::uint64_t now = now_ns();
      if (spin_until_ns == 0) spin_until_ns = now + waits.client_spin_ns;
      if (now < spin_until_ns) {
        ::sched_yield();
        continue;
      }
      announce_sleep(*client.own);
      const std::atomic<std::uint32_t>& wake_word = client_ring.far.header->wake_word;
      const std::uint32_t word = wake_word.load(std::memory_order_acquire);
      if (!client.reader.waiting()) futex_wait(wake_word, word, kLookAgainNs);
      retract_sleep(*client.own);
      if (!client.reader.waiting() && hung_up(doorbell.descriptor())) {
        return Status{StatusCode::Unavailable, "the relay's process has ended"};
      }
    }
  }
};

Relay::Relay(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Relay::Relay(Relay&& other) noexcept = default;
Relay& Relay::operator=(Relay&& other) noexcept = default;
Relay::~Relay() = default;

Result<Relay> Relay::start(const RelayWaits& waits) {
  auto impl = std::make_unique<Impl>();
  impl->waits = waits;
  KAAS_ASSIGN_OR_RETURN(impl->client_ring, RelayRing::create());
  KAAS_ASSIGN_OR_RETURN(impl->end_ring, RelayRing::create());
  impl->client = RelayEnd::near_of(impl->client_ring);
  auto near = Doorbell::create_pair();
  auto far = Doorbell::create_pair();
  if (!near || !far) return system_error("socketpair");
  const Doorbell& relay_to_client = near->second;
  const Doorbell& relay_to_end = far->first;
  const Doorbell& end_to_relay = far->second;
  KAAS_ASSIGN_OR_RETURN(impl->relay,
                        fork_party({relay_to_client.descriptor(), relay_to_end.descriptor()}, [&] {
                          run_relay(impl->client_ring, impl->end_ring, relay_to_client,
                                    relay_to_end, waits.daemon_spin_ns);
                        }));
  KAAS_ASSIGN_OR_RETURN(impl->end, fork_party({end_to_relay.descriptor()}, [&] {
                          run_end(impl->end_ring, end_to_relay, waits.daemon_spin_ns);
                        }));
  impl->doorbell = std::move(near->first);
  return Relay(std::move(impl));
}

Result<void> Relay::round_trip() {
  static constexpr std::array<std::byte, kSlotPayloadBytes> kWholeSlot{};
  if (!impl_->client.writer.try_write(kWholeSlot)) {
    return Status{StatusCode::ResourceExhausted, "the relay's ring is full"};
  }
  if (impl_->client.writer.wake_due()) impl_->doorbell.ring();
  return impl_->wait_for_slot();
}

}  // namespace kaas
