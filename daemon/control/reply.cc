// Replies on session sockets.
#include <unistd.h>

#include "daemon/control/control.h"

namespace kaas {
namespace {

// JSON that fits a message together with the rest of a reply.
constexpr std::size_t kJsonInMessageMax = kControlMessageBytesMax - 4096;

Result<Descriptor> memfd_of(const std::string& text) {
  KAAS_ASSIGN_OR_RETURN(Descriptor memfd, create_segment("kaas-reply", text.size()));
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::pwrite(memfd.get(), text.data() + written, text.size() - written,
                                   static_cast<off_t>(written));
    if (count <= 0) return Status{StatusCode::ResourceExhausted, "no memory for a reply"};
    written += static_cast<std::size_t>(count);
  }
  KAAS_RETURN_IF_ERROR(add_seals(memfd.get(), Seals::Write | Seals::Seal));
  return reopen_read_only(memfd.get());
}

}  // namespace

SendOutcome send_reply(const Descriptor& socket, const ReplyFields& fields,
                       std::vector<int> descriptors) {
  flatbuffers::FlatBufferBuilder builder;
  Descriptor long_json;
  std::uint64_t bytes = fields.bytes;
  if (fields.json.size() > kJsonInMessageMax) {
    auto memfd = memfd_of(fields.json);
    if (!memfd.has_value()) return send_failure(socket, fields.id, memfd.error());
    long_json = *std::move(memfd);
    bytes = fields.json.size();
    descriptors.push_back(long_json.get());
  }
  const auto message = fields.message.empty() ? 0 : builder.CreateString(fields.message);
  const auto version =
      fields.daemon_version.empty() ? 0 : builder.CreateString(fields.daemon_version);
  const auto json = fields.json.empty() || long_json ? 0 : builder.CreateString(fields.json);
  flatbuffers::Offset<wire::RingInfo> ring = 0;
  if (fields.has_ring) {
    ring = wire::CreateRingInfo(builder, fields.ring, fields.ring_slots, kRingHeapBytes);
  }
  flatbuffers::Offset<wire::SegmentInfo> arena = 0;
  if (fields.has_arena) arena = wire::CreateSegmentInfo(builder, fields.segment, fields.bytes);
  builder.Finish(wire::CreateControlReply(
      builder, fields.id, fields.code, message, kProtocolVersion, version, fields.session,
      fields.epoch, ring, arena, fields.has_arena ? 0 : fields.segment, 0, bytes, json));
  return send_message(socket.get(), finished(builder), descriptors);
}

SendOutcome send_failure(const Descriptor& socket, std::uint64_t id, const Status& status) {
  ReplyFields fields;
  fields.id = id;
  fields.code = status.code;
  fields.message = status.message.substr(0, kStatusMessageBytesMax);
  return send_reply(socket, fields);
}

}  // namespace kaas
