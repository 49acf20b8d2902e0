#include "client/src/session.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <bit>

#include "client/src/encode.h"
#include "client/src/received.h"
#include "client/src/thread_rings.h"
#include "schema/ipc/clock.h"

namespace kaas {
inline namespace v1 {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

std::uint64_t next_serial() noexcept {
  static std::atomic<std::uint64_t> serial{0};
  return serial.fetch_add(1, std::memory_order_relaxed) + 1;
}

std::uint64_t nanoseconds(std::chrono::nanoseconds duration) noexcept {
  return duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0;
}

Status violation(const std::string& what) {
  return {StatusCode::ProtocolViolation, "kaasd's handshake: " + what};
}

}  // namespace

Session::Session(std::shared_ptr<Link> link, const ClientOptions& options)
    : link_(std::move(link)),
      serial_(next_serial()),
      spin_ns_(nanoseconds(options.spin)),
      ring_slots_(options.ring_slots),
      lanes_(options.lanes),
      administration_only_(options.administration_only) {}

Result<std::shared_ptr<Session>> Session::connect(const ClientOptions& options) {
  if (options.name.size() > kClientNameBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "bytes of the client's name",
                      options.name.size(), kClientNameBytesMax);
  }
  const std::vector<std::string> paths =
      options.socket.empty() ? default_socket_paths() : std::vector{options.socket};
  const std::uint64_t deadline_ns = now_ns() + nanoseconds(options.connect_timeout);
  Status failure;
  std::string tried;
  for (const std::string& path : paths) {
    Result<Descriptor> socket = connect_socket(path);
    if (!socket.has_value()) {
      failure = std::move(socket).error();
      tried += (tried.empty() ? "" : "; ") + failure.message;
      continue;
    }
    auto link = std::make_shared<Link>(*std::move(socket), path);
    if (!link->fork_guard().works()) {
      return Status{StatusCode::ResourceExhausted, "no memory for a page that guards against fork"};
    }
    std::shared_ptr<Session> session(new Session(std::move(link), options));
    KAAS_RETURN_IF_ERROR(session->greet(options, deadline_ns));
    return session;
  }
  if (paths.size() == 1 && failure.code != StatusCode::Unavailable) return failure;
  return Status{failure.code, "no kaasd answers; tried " + tried};
}

Result<void> Session::greet(const ClientOptions& options, std::uint64_t deadline_ns) {
  // A program's name may be longer than kaasd allows; the caller's own has been checked.
  const std::string name = (options.name.empty() ? program_invocation_short_name : options.name)
                               .substr(0, kClientNameBytesMax);
  const std::uint64_t now = now_ns();
  auto answer = link_->call(
      [&](flatbuffers::FlatBufferBuilder& builder) {
        const auto text = builder.CreateString(name);
        return wire::CreateHello(builder, kProtocolVersion, text, options.arena_bytes,
                                 options.ring_slots, !options.administration_only);
      },
      {}, deadline_ns > now ? deadline_ns - now : 0);
  if (!answer.has_value()) return std::move(answer).error();
  const wire::ControlReply& reply = *answer->root;
  if (reply.protocol_version() != kProtocolVersion) {
    return Status{StatusCode::VersionMismatch,
                  "kaasd speaks protocol version " + std::to_string(reply.protocol_version()) +
                      ", this library " + std::to_string(kProtocolVersion)};
  }
  id_ = reply.session();
  epoch_ = reply.epoch();
  daemon_version_ = view(reply.daemon_version());
  if (options.administration_only) return {};
  if (reply.ring() == nullptr || reply.arena() == nullptr || answer->descriptors.size() != 4) {
    return violation("ring, arena and four descriptors are expected, found " +
                     std::to_string(answer->descriptors.size()) + " descriptors");
  }
  const std::span<Descriptor> descriptors(answer->descriptors);
  auto parts = open_ring(*reply.ring(), descriptors.first(3));
  if (!parts.has_value()) return std::move(parts).error();
  channels_.push_back({std::make_shared<Channel>(link_, *std::move(parts)), 0});
  return open_arena(*reply.arena(), descriptors[3].get());
}

// Descriptors: submit ring, completion ring, doorbell.
Result<ChannelParts> Session::open_ring(const wire::RingInfo& info,
                                        std::span<Descriptor> descriptors) const {
  const RingGeometry geometry{info.slot_count(), info.heap_bytes()};
  if (!std::has_single_bit(geometry.slot_count) || geometry.slot_count < kRingSlotsMin ||
      geometry.slot_count > kRingSlotsMax) {
    return violation("slot_count is " + std::to_string(geometry.slot_count) +
                     ", allowed are powers of two from " + std::to_string(kRingSlotsMin) + " to " +
                     std::to_string(kRingSlotsMax));
  }
  if (geometry.heap_bytes < kSlotBytes || geometry.heap_bytes % kCacheLineBytes != 0 ||
      geometry.heap_bytes > kWorkHeapBytes) {
    return violation("heap_bytes is " + std::to_string(geometry.heap_bytes));
  }
  ChannelParts parts;
  parts.geometry = geometry;
  parts.ring = info.ring();
  parts.epoch = epoch_;
  parts.spin_ns = spin_ns_;
  parts.lanes = lanes_;
  KAAS_ASSIGN_OR_RETURN(parts.submit, map_received(descriptors[0].get(), geometry.segment_bytes(),
                                                   Mapping::Mode::ReadWrite, "the submit ring"));
  KAAS_ASSIGN_OR_RETURN(parts.completion,
                        map_received(descriptors[1].get(), geometry.segment_bytes(),
                                     Mapping::Mode::ReadOnly, "the completion ring"));
  parts.doorbell = Doorbell(std::move(descriptors[2]));
  const RingView view = RingView::at(parts.completion.data(), geometry);
  if (view.header->epoch != epoch_) return violation("the ring belongs to another life of kaasd");
  return parts;
}

Result<void> Session::open_arena(const wire::SegmentInfo& info, int descriptor) {
  KAAS_ASSIGN_OR_RETURN(Mapping mapping, map_received(descriptor, info.bytes(),
                                                      Mapping::Mode::ReadWrite, "the arena"));
  arenas_.push_back({info.segment(), std::move(mapping), Arena(info.bytes())});
  if (arena_bytes_ == 0) arena_bytes_ = info.bytes();
  return {};
}

Session::~Session() {
  if (!forked()) {
    close();
    return;
  }
  // The locks may be held by threads that do not exist here: the channels are left alone, for ever.
  static_cast<void>(new std::vector<Slot>(std::move(channels_)));
}

void Session::close() {
  if (forked()) return;
  link_->kill({StatusCode::Unavailable, "the client was closed"});
  std::vector<Slot> channels;
  {
    const std::lock_guard lock(channels_mutex_);
    channels.swap(channels_);
  }
  const Status reason = link_->reason();
  for (const Slot& slot : channels) slot.channel->close(reason);
  if (ThreadRings* rings = ThreadRings::mine()) rings->tidy();
}

// --- Channels ------------------------------------------------------------------------------------

Result<std::shared_ptr<Channel>> Session::channel() {
  if (forked()) return link_->forked_status();
  ThreadRings* rings = ThreadRings::mine();
  if (link_->dead()) {
    if (rings != nullptr) rings->tidy();
    return Status{StatusCode::Unavailable, link_->reason().message};
  }
  if (rings != nullptr) {
    // `rings` keeps it: a count of it would cost each call two atomic operations.
    if (Channel* mine = rings->find(serial_))
      return std::shared_ptr<Channel>(std::shared_ptr<void>(), mine);
  }
  return assign_channel(rings);
}

Result<void> Session::check_serves_requests() const {
  if (!administration_only_) return {};
  return Status{StatusCode::InvalidArgument,
                "this client is administration_only: it has no ring and no shared memory; connect "
                "another one for requests, objects and memory"};
}

// Without `rings` the thread is at its end: it uses a channel for this one operation.
Result<std::shared_ptr<Channel>> Session::assign_channel(ThreadRings* rings) {
  KAAS_RETURN_IF_ERROR(check_serves_requests());
  std::unique_lock lock(channels_mutex_);
  const auto fewer_threads = [](const Slot& a, const Slot& b) { return a.threads < b.threads; };
  auto free = std::min_element(channels_.begin(), channels_.end(), fewer_threads);
  if (free == channels_.end() || free->threads > 0) {
    const Result<void> added = add_channel(lock);
    // Rings are shared where there can be no more: their lock allows it.
    free = std::min_element(channels_.begin(), channels_.end(), fewer_threads);
    if (free == channels_.end()) return added.error();
  }
  if (rings != nullptr) {
    ++free->threads;
    rings->add(serial_, weak_from_this(), free->channel);
  }
  return free->channel;
}

// Fails also when the session has ended meanwhile; then it has no channels.
Result<void> Session::add_channel(std::unique_lock<std::mutex>& lock) {
  if (channels_.size() + opening_ >= kRingsPerSessionMax) {
    return over_limit(StatusCode::ResourceExhausted, "rings of the session",
                      channels_.size() + opening_ + 1, kRingsPerSessionMax);
  }
  // Without the lock: others may use their channels and poll while kaasd is asked.
  ++opening_;
  lock.unlock();
  auto parts = ask_for_channel();
  lock.lock();
  --opening_;
  if (link_->dead()) return Status{StatusCode::Unavailable, link_->reason().message};
  if (!parts.has_value()) return std::move(parts).error();
  channels_.push_back({std::make_shared<Channel>(link_, *std::move(parts)), 0});
  if (epoll_) watch(*channels_.back().channel);
  return {};
}

Result<ChannelParts> Session::ask_for_channel() {
  auto answer = link_->call([&](flatbuffers::FlatBufferBuilder& builder) {
    return wire::CreateAddRing(builder, ring_slots_);
  });
  if (!answer.has_value()) return std::move(answer).error();
  if (answer->root->ring() == nullptr || answer->descriptors.size() != 3) {
    return violation("a further ring came without its three descriptors");
  }
  return open_ring(*answer->root->ring(), answer->descriptors);
}

void Session::give_back(const Channel& channel) noexcept {
  if (forked()) return;
  const std::lock_guard lock(channels_mutex_);
  for (Slot& slot : channels_) {
    if (slot.channel.get() == &channel) --slot.threads;
  }
}

// --- Shared memory -------------------------------------------------------------------------------

Result<Buffer> Session::allocate(std::uint64_t bytes) {
  if (forked()) return link_->forked_status();
  KAAS_RETURN_IF_ERROR(check_serves_requests());
  if (bytes == 0 || bytes > kSegmentBytesMax) {
    return Status{StatusCode::InvalidArgument, "bytes of a buffer is " + std::to_string(bytes) +
                                                   ", allowed 1 to " +
                                                   std::to_string(kSegmentBytesMax)};
  }
  const std::lock_guard lock(arenas_mutex_);
  if (auto buffer = allocate_locked(bytes)) return *std::move(buffer);
  KAAS_RETURN_IF_ERROR(add_arena(bytes));
  auto buffer = allocate_locked(bytes);
  KAAS_CHECK(buffer.has_value());  // add_arena checked that it is large enough.
  return *std::move(buffer);
}

std::optional<Buffer> Session::allocate_locked(std::uint64_t bytes) {
  for (SharedArena& shared : arenas_) {
    const auto offset = shared.arena.allocate(bytes);
    if (!offset) continue;
    Buffer buffer;
    buffer.session_ = shared_from_this();
    buffer.bytes_ = {shared.mapping.data() + *offset, bytes};
    buffer.offset_ = *offset;
    buffer.segment_ = shared.segment;
    return buffer;
  }
  return std::nullopt;
}

Result<void> Session::add_arena(std::uint64_t bytes) {
  const std::uint64_t pages = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  const std::uint64_t wanted = std::max(pages, arena_bytes_);
  auto answer = link_->call([&](flatbuffers::FlatBufferBuilder& builder) {
    return wire::CreateAddArena(builder, wanted);
  });
  if (!answer.has_value()) return std::move(answer).error();
  const wire::SegmentInfo* info = answer->root->arena();
  if (info == nullptr || answer->descriptors.size() != 1 || info->bytes() < bytes) {
    return violation("a further arena came without its segment, or smaller than " +
                     std::to_string(bytes) + " bytes");
  }
  return open_arena(*info, answer->descriptors.front().get());
}

void Session::free(const Buffer& buffer) noexcept {
  if (forked()) return;
  const std::lock_guard lock(arenas_mutex_);
  for (std::size_t i = 0; i < arenas_.size(); ++i) {
    SharedArena& shared = arenas_[i];
    if (shared.segment != buffer.segment_) continue;
    shared.arena.give_back(buffer.offset_, buffer.bytes_.size());
    // One that was made for a large buffer goes with it; the usual size is kept for the next.
    if (!shared.arena.empty() || shared.mapping.bytes() <= arena_bytes_) return;
    const std::uint32_t segment = shared.segment;
    arenas_.erase(arenas_.begin() + static_cast<std::ptrdiff_t>(i));
    link_->post([segment](flatbuffers::FlatBufferBuilder& builder) {
      return wire::CreateDropSegment(builder, segment);
    });
    return;
  }
}

Result<Region> Session::register_region(int descriptor, std::uint64_t bytes, bool writable) {
  KAAS_RETURN_IF_ERROR(check_serves_requests());
  const int descriptors[] = {descriptor};
  auto answer = call(
      [&](flatbuffers::FlatBufferBuilder& builder) {
        return wire::CreateRegisterRegion(builder, bytes, writable);
      },
      descriptors);
  if (!answer.has_value()) return std::move(answer).error();
  Region region;
  region.session_ = shared_from_this();
  region.size_ = bytes;
  region.segment_ = answer->root->segment();
  return region;
}

Result<Region> Session::register_device_memory(const DeviceAllocation& memory) {
  KAAS_RETURN_IF_ERROR(check_serves_requests());
  const std::size_t descriptors = memory.descriptor >= 0 ? 1 : 0;
  auto answer = call(
      [&](flatbuffers::FlatBufferBuilder& builder) {
        const auto handle = write_octets(builder, memory.handle);
        const auto gpu = memory.gpu.empty() ? 0 : write_octets(builder, memory.gpu);
        return wire::CreateRegisterDeviceMemory(
            builder,
            wire::CreateDeviceMemory(builder, static_cast<wire::DeviceMemoryKind>(memory.kind),
                                     handle, memory.bytes, gpu));
      },
      {&memory.descriptor, descriptors});
  if (!answer.has_value()) return std::move(answer).error();
  Region region;
  region.session_ = shared_from_this();
  region.size_ = memory.bytes;
  region.segment_ = answer->root->segment();
  region.must_be_closed_ = true;
  return region;
}

Result<Region> Session::register_event(std::span<const std::byte> handle) {
  KAAS_RETURN_IF_ERROR(check_serves_requests());
  auto answer = call([&](flatbuffers::FlatBufferBuilder& builder) {
    return wire::CreateRegisterEvent(builder, write_octets(builder, handle));
  });
  if (!answer.has_value()) return std::move(answer).error();
  Region region;
  region.session_ = shared_from_this();
  region.segment_ = answer->root->segment();
  return region;
}

DeviceCopy Session::adopt(ExportAnswer answer) {
  auto impl = std::make_unique<DeviceCopy::Impl>();
  impl->region.session_ = shared_from_this();
  impl->region.size_ = answer.allocation_bytes;
  impl->region.segment_ = answer.segment;
  impl->region.must_be_closed_ = true;
  impl->answer = std::move(answer);
  return DeviceCopy(std::move(impl));
}

void Session::free(const Region& region) noexcept {
  if (forked()) return;
  const std::uint32_t segment = region.segment_;
  if (region.must_be_closed_) {
    const auto closed = call([segment](flatbuffers::FlatBufferBuilder& builder) {
      return wire::CreateDropSegment(builder, segment);
    });
    static_cast<void>(closed);  // A daemon that is gone has nothing open, nor have its executors.
    return;
  }
  link_->post([segment](flatbuffers::FlatBufferBuilder& builder) {
    return wire::CreateDropSegment(builder, segment);
  });
}

Result<std::uint64_t> Session::donate(int descriptor, std::uint64_t bytes) {
  KAAS_RETURN_IF_ERROR(check_serves_requests());
  static std::atomic<std::uint64_t> next_token{1};
  const std::uint64_t token = next_token.fetch_add(1, std::memory_order_relaxed);
  const int descriptors[] = {descriptor};
  const auto donate = [&](flatbuffers::FlatBufferBuilder& builder) {
    return wire::CreateDonate(builder, token, bytes);
  };
  // The put that follows waits in kaasd for its descriptor, so nobody waits here; but now and then,
  // so that kaasd never holds more of them than it allows.
  if (token % (kDonationsPendingMax / 2) != 0 && link_->check()) {
    link_->post(donate, descriptors);
    return token;
  }
  auto answer = call(donate, descriptors);
  if (!answer.has_value()) return std::move(answer).error();
  return token;
}

// --- Event loops ---------------------------------------------------------------------------------

void Session::watch(Channel& channel) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = channel.doorbell_descriptor();
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, channel.doorbell_descriptor(), &event);
  channel.show_answers_on(event_.get());
}

int Session::event_fd() noexcept {
  if (forked()) return -1;
  {
    const std::lock_guard lock(channels_mutex_);
    if (epoll_) return epoll_.get();
    Descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
    Descriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!epoll || !event) return -1;
    epoll_ = std::move(epoll);
    event_ = std::move(event);
    for (const int descriptor : {event_.get(), link_->socket()}) {
      epoll_event wanted{};
      wanted.events = EPOLLIN | EPOLLRDHUP;
      wanted.data.fd = descriptor;
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, descriptor, &wanted);
    }
    watching_daemon_ = true;
    for (const Slot& slot : channels_) watch(*slot.channel);
  }
  poll();
  ::eventfd_write(event_.get(), 1);  // Shows what has been taken in before and by this.
  return epoll_.get();
}

std::size_t Session::poll() noexcept {
  if (forked()) return 0;
  std::size_t count = 0;
  const std::lock_guard lock(channels_mutex_);
  const bool rearm = static_cast<bool>(epoll_);
  if (rearm) {
    std::uint64_t value = 0;
    ::eventfd_read(event_.get(), &value);
    link_->drain();
  }
  for (const Slot& slot : channels_) count += slot.channel->poll(rearm);
  // The hang-up has been seen; it would keep the descriptor readable for ever.
  if (link_->dead() && watching_daemon_) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link_->socket(), nullptr);
    for (const Slot& slot : channels_) {
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, slot.channel->doorbell_descriptor(), nullptr);
    }
    watching_daemon_ = false;
  }
  return count;
}

Result<void> Session::alive() noexcept {
  if (forked()) return link_->forked_status();
  if (link_->check()) return {};
  return link_->reason();
}

}  // namespace v1
}  // namespace kaas
