#include "tools/sim/client.h"

#include <sys/socket.h>

#include <algorithm>

#include "schema/ipc/socket.h"

namespace kaas {

SimClient::SimClient(std::uint64_t session, std::uint32_t uid, std::size_t rings,
                     RingGeometry geometry)
    : session_(session), uid_(uid) {
  int sockets[2];
  KAAS_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
  socket_ = Descriptor(sockets[0]);
  kaasd_socket_ = Descriptor(sockets[1]);
  for (std::size_t i = 0; i < rings; ++i) {
    auto ring = std::make_unique<Ring>(geometry);
    ring->writer = RingWriter(ring->submit.view(), ring->completion.view().header);
    ring->reader = RingReader(ring->completion.view(), ring->submit.view().header);
    auto doorbell = Doorbell::create_pair();
    KAAS_CHECK(doorbell.has_value());
    ring->doorbell = std::move(doorbell->first);
    kaasd_doorbells_.push_back(std::move(doorbell->second));
    rings_.push_back(std::move(ring));
  }
}

std::unique_ptr<Session> SimClient::make_session() {
  auto session = std::make_unique<Session>();
  session->id = session_;
  session->uid = session->domain = uid_;
  session->name = "sim";
  session->socket = std::make_shared<const Descriptor>(std::move(kaasd_socket_));
  for (std::size_t i = 0; i < rings_.size(); ++i) {
    RingEndpoints endpoints;
    endpoints.submit = rings_[i]->submit.view();
    endpoints.completion = rings_[i]->completion.view();
    endpoints.doorbell = std::move(kaasd_doorbells_[i]);
    session->rings.push_back(
        std::make_unique<RingState>(static_cast<std::uint32_t>(i), std::move(endpoints)));
  }
  return session;
}

void SimClient::map_arena(const SegmentRef& arena) {
  auto mapping =
      Mapping::create(arena->descriptor.get(), arena->bytes, Mapping::Mode::ReadWrite, "arena");
  KAAS_CHECK(mapping.has_value());
  arena_ = *std::move(mapping);
  arena_id_ = arena->id;
}

std::vector<SeenAnswer> SimClient::read(std::size_t index, std::size_t limit) {
  std::vector<SeenAnswer> answers;
  Ring& ring = *rings_[index];
  std::span<const std::byte> message;
  while (answers.size() < limit && ring.reader.read(buffer_, message) == ReadOutcome::Message) {
    auto answer = decode_answer(message);
    KAAS_CHECK(answer.has_value());
    answers.push_back(*std::move(answer));
    ring.reader.advance();
  }
  ring.reader.publish();
  return answers;
}

void SimClient::collect_packets() {
  std::vector<std::byte> buffer(kControlMessageBytesMax);
  for (;;) {
    Received received = receive_message(socket_.get(), buffer, 1);
    if (received.outcome != ReceiveOutcome::Message) return;
    const auto* reply = verified_root<wire::ControlReply>(received.message);
    KAAS_CHECK(reply != nullptr);
    if (reply->ended_lane() != 0) {
      const Status reason{reply->code(), std::string(view(reply->message()))};
      KAAS_CHECK(ended_lanes_.emplace(reply->ended_lane(), reason).second);
      continue;
    }
    if (reply->token() == 0) continue;  // Why kaasd ends the session.
    KAAS_CHECK(received.descriptors.size() == 1);
    arrived_.push_back({reply->token(), reply->bytes(), std::move(received.descriptors[0])});
  }
}

std::optional<SimClient::Arrived> SimClient::take_arrived(std::uint64_t token) {
  collect_packets();
  const auto found = std::find_if(arrived_.begin(), arrived_.end(),
                                  [&](const Arrived& one) { return one.token == token; });
  if (found == arrived_.end()) return std::nullopt;
  Arrived taken = std::move(*found);
  arrived_.erase(found);
  return taken;
}

std::optional<Bytes> SimClient::receive(std::uint64_t token) {
  const auto arrived = take_arrived(token);
  if (!arrived) return std::nullopt;
  const auto mapping =
      Mapping::create(arrived->descriptor.get(), arrived->bytes, Mapping::Mode::ReadOnly, "object");
  KAAS_CHECK(mapping.has_value());
  return Bytes(mapping->data(), mapping->data() + mapping->bytes());
}

std::optional<Descriptor> SimClient::take_descriptor(std::uint64_t token) {
  auto arrived = take_arrived(token);
  if (!arrived) return std::nullopt;
  return std::move(arrived->descriptor);
}

std::optional<Status> SimClient::lane_end(std::uint32_t lane) {
  collect_packets();
  const auto found = ended_lanes_.find(lane);
  if (found == ended_lanes_.end()) return std::nullopt;
  return found->second;
}

std::unique_ptr<SimLane> SimClient::map_lane(const SeenGrant& grant) {
  if (grant.in_token == 0) return nullptr;
  auto in = take_descriptor(grant.in_token);
  auto out = take_descriptor(grant.out_token);
  auto bell = take_descriptor(grant.bell_token);
  KAAS_CHECK(in.has_value() && out.has_value() && bell.has_value());
  return std::make_unique<SimLane>(grant.lane, *std::move(in), *std::move(out),
                                   Doorbell(*std::move(bell)));
}

void SimClient::hang_up() {
  for (auto& ring : rings_) ring->doorbell = Doorbell();
  socket_ = Descriptor();
  arrived_.clear();
}

}  // namespace kaas
