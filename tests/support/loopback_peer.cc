#include "tests/support/loopback_peer.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace kaas {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;

Descriptor listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  KAAS_CHECK(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Descriptor listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  KAAS_CHECK(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  KAAS_CHECK(::listen(listener.get(), 16) == 0);
  return listener;
}

std::vector<int> borrowed(const std::vector<Descriptor>& descriptors) {
  std::vector<int> numbers;
  for (const Descriptor& descriptor : descriptors) numbers.push_back(descriptor.get());
  return numbers;
}

std::string text_of(const flatbuffers::Vector<std::uint8_t>* bytes) {
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

}  // namespace

// --- PeerRing ------------------------------------------------------------------------------------

void PeerRing::answer(std::uint64_t id, const Fields& fields) {
  Builder builder;
  const auto text = fields.message.empty() ? 0 : builder.CreateString(fields.message);
  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> data;
  if (!fields.data.empty()) {
    data = builder.CreateVector(reinterpret_cast<const std::uint8_t*>(fields.data.data()),
                                fields.data.size());
  }
  std::vector<flatbuffers::Offset<wire::Output>> outputs;
  for (const auto& [name, bytes] : fields.outputs) {
    const auto name_text = builder.CreateString(name);
    const auto octets =
        builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    outputs.push_back(wire::CreateOutput(builder, static_cast<std::uint16_t>(outputs.size()),
                                         name_text, bytes.size(), 0, octets));
  }
  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<wire::Output>>> output_vector;
  if (!outputs.empty()) output_vector = builder.CreateVector(outputs);
  flatbuffers::Offset<wire::Profile> profile;
  if (fields.profile) {
    const wire::Stages stages(1, 2, 3, 4, 5, 6, 7, 8);
    const wire::Counters counters(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    const auto device = builder.CreateString("host");
    profile = wire::CreateProfile(builder, &stages, &counters, device, wire::RunWay::Stream,
                                  wire::WhyStream::FirstUse);
  }
  flatbuffers::Offset<wire::Exported> exported;
  if (fields.exported_segment != 0) {
    const auto gpu = builder.CreateVector(std::vector<std::uint8_t>(fields.gpu_bytes, 9));
    const auto device = builder.CreateString("GPU-9");
    exported =
        wire::CreateExported(builder, fields.exported_segment, kPeerAllocationBytes, gpu, device);
  }
  builder.Finish(wire::CreateAnswer(builder, id, fields.code, text, fields.plan, fields.version,
                                    fields.bytes, data, fields.token, output_vector, profile, 0,
                                    wire::ObjectPlace::Host, 0, exported));
  write(finished(builder));
  --unanswered;
}

void PeerRing::write(std::span<const std::byte> message) {
  KAAS_CHECK(writer.try_write(message));
}

void PeerRing::wake() {
  reader.publish();
  if (writer.written() == shown || !writer.wake_due()) return;
  shown = writer.written();
  completion.header->wake_word.fetch_add(1, std::memory_order_release);
  futex_wake_all(completion.header->wake_word);
  if (submit.header->sleeps_on_doorbell.load(std::memory_order_relaxed) != 0) doorbell.ring();
}

// --- LoopbackPeer: the thread --------------------------------------------------------------------

LoopbackPeer::LoopbackPeer(PeerOptions wanted) : options(wanted) {
  char folder[] = "/tmp/kaas-peer-XXXXXX";
  KAAS_CHECK(::mkdtemp(folder) != nullptr);
  folder_ = folder;
  path_ = folder_ + "/kaasd.sock";
  listener_ = listen_at(path_);
  task_event_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  thread_ = std::thread([this] { loop(); });
}

LoopbackPeer::~LoopbackPeer() {
  stop_.store(true);
  ::eventfd_write(task_event_.get(), 1);
  thread_.join();
  ::unlink(path_.c_str());
  ::rmdir(folder_.c_str());
}

void LoopbackPeer::run(const std::function<void(LoopbackPeer&)>& action) {
  std::unique_lock lock(mutex_);
  bool done = false;
  tasks_.push_back([&] {
    action(*this);
    done = true;
  });
  ::eventfd_write(task_event_.get(), 1);
  done_.wait(lock, [&] { return done; });
}

void LoopbackPeer::die() {
  run([](LoopbackPeer& peer) {
    peer.sessions_.clear();
    peer.listener_ = Descriptor();
    peer.dead_ = true;
  });
}

void LoopbackPeer::loop() {
  while (!stop_.load()) {
    while (step()) {
    }
    wait_for_work();
    std::uint64_t count = 0;
    ::eventfd_read(task_event_.get(), &count);
    const std::lock_guard lock(mutex_);
    for (const auto& task : tasks_) task();
    tasks_.clear();
    for (const auto& session : sessions_) {
      for (const auto& ring : session->rings) ring->wake();
    }
    done_.notify_all();
  }
}

// One look at everything. False: nothing was there.
bool LoopbackPeer::step() {
  if (dead_) return false;
  bool worked = false;
  for (std::size_t i = 0; i < sessions_.size();) {
    if (!receive_control(*sessions_[i])) {
      sessions_.erase(sessions_.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    for (const auto& ring : sessions_[i]->rings) worked |= serve(*sessions_[i], *ring);
    ++i;
  }
  return worked;
}

bool LoopbackPeer::wait_for_work() {
  std::vector<pollfd> waits{{task_event_.get(), POLLIN, 0}};
  if (listener_) waits.push_back({listener_.get(), POLLIN, 0});
  bool waiting = false;
  for (const auto& session : sessions_) {
    waits.push_back({session->socket.get(), POLLIN, 0});
    for (const auto& ring : session->rings) {
      waits.push_back({ring->doorbell.descriptor(), POLLIN, 0});
      announce_sleep(*ring->completion.header);
      waiting |= ring->reader.waiting() && ring->unanswered < ring->submit.geometry.slot_count;
    }
  }
  if (!waiting) ::poll(waits.data(), waits.size(), -1);
  for (const auto& session : sessions_) {
    for (const auto& ring : session->rings) {
      retract_sleep(*ring->completion.header);
      ring->doorbell.clear();
    }
  }
  if (listener_) accept_session();
  return true;
}

void LoopbackPeer::accept_session() {
  Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  auto session = std::make_unique<PeerSession>();
  session->id = sessions_.size() + 1;
  session->socket = std::move(socket);
  sessions_.push_back(std::move(session));
}

// --- The socket ----------------------------------------------------------------------------------

// False: the client has gone.
bool LoopbackPeer::receive_control(PeerSession& session) {
  for (;;) {
    Received received =
        receive_message(session.socket.get(), {buffer_.data(), kControlMessageBytesMax}, 8);
    if (received.outcome == ReceiveOutcome::WouldBlock) return true;
    if (received.outcome != ReceiveOutcome::Message) return false;
    const auto* request = verified_root<wire::ControlRequest>(received.message);
    KAAS_CHECK(request != nullptr);
    control_log.emplace_back(wire::EnumNameControl(request->control_type()));
    if (on_control && on_control(session, *request)) continue;
    handle_control(session, *request, std::move(received.descriptors));
  }
}

Result<std::vector<Descriptor>> LoopbackPeer::add_ring(PeerSession& session, std::uint32_t slots) {
  const RingGeometry geometry{slots == 0 ? options.slot_count : slots, options.heap_bytes};
  KAAS_ASSIGN_OR_RETURN(Descriptor submit, create_segment("submit", geometry.segment_bytes()));
  KAAS_ASSIGN_OR_RETURN(Descriptor completion,
                        create_segment("completion", geometry.segment_bytes()));
  auto ring = std::make_unique<PeerRing>();
  ring->number = static_cast<std::uint32_t>(session.rings.size());
  KAAS_ASSIGN_OR_RETURN(
      ring->submit_mapping,
      Mapping::create(submit.get(), geometry.segment_bytes(), Mapping::Mode::ReadWrite, "submit"));
  KAAS_ASSIGN_OR_RETURN(ring->completion_mapping,
                        Mapping::create(completion.get(), geometry.segment_bytes(),
                                        Mapping::Mode::ReadWrite, "completion"));
  ring->submit = RingView::at(ring->submit_mapping.data(), geometry);
  ring->completion = RingView::at(ring->completion_mapping.data(), geometry);
  ring->submit.initialise(options.ring_epoch);
  ring->completion.initialise(options.ring_epoch);
  KAAS_RETURN_IF_ERROR(add_seals(completion.get(), Seals::FutureWrite));
  ring->writer = RingWriter(ring->completion, ring->submit.header);
  ring->reader = RingReader(ring->submit, ring->completion.header);
  ring->socket = session.socket.get();
  auto ends = Doorbell::create_pair();
  KAAS_CHECK(ends.has_value());
  ring->doorbell = std::move(ends->first);
  std::vector<Descriptor> descriptors;
  descriptors.push_back(std::move(submit));
  descriptors.push_back(std::move(completion));
  descriptors.push_back(ends->second.release());
  session.rings.push_back(std::move(ring));
  return descriptors;
}

void LoopbackPeer::handle_control(PeerSession& session, const wire::ControlRequest& request,
                                  std::vector<Descriptor> received) {
  Builder builder;
  std::vector<Descriptor> sent;
  StatusCode code = StatusCode::Ok;
  flatbuffers::Offset<wire::RingInfo> ring;
  flatbuffers::Offset<wire::SegmentInfo> arena;
  std::uint32_t segment = 0;
  const auto add_ring_to_reply = [&](std::uint32_t slots) {
    sent = *add_ring(session, slots);
    ring =
        wire::CreateRingInfo(builder, session.rings.back()->number,
                             session.rings.back()->submit.geometry.slot_count, options.heap_bytes);
  };
  const auto add_arena_to_reply = [&](std::uint64_t bytes) {
    Descriptor memory = *create_segment("arena", bytes);
    session.segments.emplace(
        next_segment_, *Mapping::create(memory.get(), bytes, Mapping::Mode::ReadWrite, "arena"));
    sent.push_back(std::move(memory));
    arena = wire::CreateSegmentInfo(builder, next_segment_++, bytes);
  };
  if (const auto* hello = request.control_as_Hello()) {
    if (!options.answer_hello) return;
    session.name = view(hello->name());
    if (hello->rings()) {
      add_ring_to_reply(hello->ring_slots());
      add_arena_to_reply(hello->arena_bytes() == 0 ? options.arena_bytes : hello->arena_bytes());
    }
  } else if (const auto* more = request.control_as_AddRing()) {
    if (session.rings.size() < options.rings_max) {
      add_ring_to_reply(more->ring_slots());
    } else {
      code = StatusCode::ResourceExhausted;
    }
  } else if (const auto* wanted = request.control_as_AddArena()) {
    add_arena_to_reply(wanted->bytes());
  } else if (request.control_as_RegisterRegion() != nullptr) {
    segment = next_segment_++;
  } else if (const auto* offered = request.control_as_RegisterDeviceMemory()) {
    const wire::DeviceMemory& memory = *offered->memory();
    device_memory.push_back({memory.kind(), count(memory.handle()), count(memory.gpu()),
                             memory.bytes(), received.size()});
    segment = next_segment_++;
  } else if (const auto* drop = request.control_as_DropSegment()) {
    dropped.push_back(drop->segment());
    session.segments.erase(drop->segment());
  } else if (const auto* donated = request.control_as_Donate()) {
    const Seals wanted_seals = Seals::Size | Seals::Write | Seals::Seal;
    const bool sealed =
        received.size() == 1 && has_seals(seals_of(received.front().get()), wanted_seals);
    if (!sealed) code = StatusCode::InvalidArgument;
    if (sealed) session.donations.emplace(donated->token(), std::move(received.front()));
  } else if (request.control_as_Kick() != nullptr) {
    code = StatusCode::NotFound;
  }
  const auto message = builder.CreateString(code == StatusCode::Ok ? "" : "the peer said no");
  const auto version = builder.CreateString("loopback");
  const auto json = builder.CreateString("{\"asked\":\"" + control_log.back() + "\"}");
  builder.Finish(wire::CreateControlReply(builder, request.id(), code, message,
                                          options.protocol_version, version, session.id,
                                          options.epoch, ring, arena, segment, 0, 0, json));
  send_message(session.socket.get(), finished(builder), borrowed(sent));
}

std::uint64_t LoopbackPeer::send_object(int socket, const std::string& data, Seals seals) {
  Descriptor memory = *create_segment("object", data.size());
  KAAS_CHECK(::pwrite(memory.get(), data.data(), data.size(), 0) ==
             static_cast<ssize_t>(data.size()));
  if (seals != Seals::None) KAAS_CHECK(add_seals(memory.get(), seals).has_value());
  Descriptor read_only = *reopen_read_only(memory.get());
  Builder builder;
  builder.Finish(
      wire::CreateControlReply(builder, 0, StatusCode::Ok, 0, 0, 0, 0, 0, 0, 0, 0, next_token_));
  const int descriptors[] = {read_only.get()};
  KAAS_CHECK(send_message(socket, finished(builder), descriptors) == SendOutcome::Sent);
  return next_token_++;
}

// --- The rings -----------------------------------------------------------------------------------

bool LoopbackPeer::serve(PeerSession& session, PeerRing& ring) {
  bool worked = false;
  // Room for the answers, as kaasd keeps it.
  while (ring.unanswered + ring.writer.written() - ring.writer.consumed() <
         ring.completion.geometry.slot_count) {
    std::span<const std::byte> message;
    const ReadOutcome outcome = ring.reader.read(buffer_, message);
    KAAS_CHECK(outcome != ReadOutcome::Violation);
    if (outcome == ReadOutcome::Empty) break;
    ring.reader.advance();
    ++ring.unanswered;
    worked = true;
    const auto* submission = verified_root<wire::Submission>(message);
    KAAS_CHECK(submission != nullptr);
    if (on_submission && on_submission(session, ring, *submission)) continue;
    handle(session, ring, *submission);
  }
  ring.wake();
  return worked;
}

void LoopbackPeer::handle(PeerSession& session, PeerRing& ring,
                          const wire::Submission& submission) {
  PeerRing::Fields fields;
  const auto found_or_not = [&](const flatbuffers::String* key) {
    const auto object = store.find(key->str());
    if (object == store.end()) {
      fields.code = StatusCode::NotFound;
      fields.message = "no object '" + key->str() + "'";
      return static_cast<const std::string*>(nullptr);
    }
    fields.version = 1;
    fields.bytes = object->second.size();
    return static_cast<const std::string*>(&object->second);
  };
  if (const auto* put = submission.operation_as_Put()) {
    std::string& object = store[put->key()->str()];
    if (put->token() != 0) {
      const Descriptor memory = std::move(session.donations.at(put->token()));
      session.donations.erase(put->token());
      const std::uint64_t bytes = *segment_bytes_of(memory.get(), "donation");
      object.resize(bytes);
      KAAS_CHECK(::pread(memory.get(), object.data(), bytes, 0) == static_cast<ssize_t>(bytes));
    } else if (put->segment() != 0) {
      const Mapping& mapping = session.segments.at(put->segment());
      object.assign(reinterpret_cast<const char*>(mapping.data()) + put->offset(), put->bytes());
    } else {
      object = text_of(put->data());
    }
    fields.version = 1;
    fields.bytes = object.size();
  } else if (const auto* get = submission.operation_as_Get()) {
    if (const std::string* object = found_or_not(get->key())) {
      if (object->size() <= kSlabObjectBytesMax) {
        fields.data = *object;
      } else {
        fields.token = send_object(ring.socket, *object);
      }
    }
  } else if (const auto* exported = submission.operation_as_Export()) {
    export_log.push_back({exported->key()->str(), exported->offset(), exported->bytes(),
                          exported->device() == nullptr ? "" : exported->device()->str()});
    if (const std::string* object = found_or_not(exported->key())) {
      fields.token = send_object(ring.socket, *object);
      fields.exported_segment = next_segment_++;
    }
  } else if (const auto* stat = submission.operation_as_Stat()) {
    found_or_not(stat->key());
  } else if (const auto* remove = submission.operation_as_Remove()) {
    if (found_or_not(remove->key()) != nullptr) store.erase(remove->key()->str());
  } else if (submission.operation_as_Prepare() != nullptr) {
    fields.plan = 41;
  } else if (submission.operation_as_Deploy() != nullptr) {
    fields.version = 3;
  }
  ring.answer(submission.id(), fields);
}

}  // namespace kaas
