#include "daemon/reply/answer.h"

#include <boost/container/small_vector.hpp>

#include "schema/ipc/lane.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

Offset<flatbuffers::Vector<std::uint8_t>> encode_bytes(FlatBufferBuilder& builder,
                                                       std::span<const std::byte> bytes) {
  if (bytes.empty()) return 0;
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Offset<flatbuffers::String> encode_text(FlatBufferBuilder& builder, std::string_view text) {
  if (text.empty()) return 0;
  return builder.CreateString(text.data(), text.size());
}

Offset<flatbuffers::Vector<Offset<wire::Output>>> encode_outputs(
    FlatBufferBuilder& builder, std::span<const AnswerOutput> outputs) {
  if (outputs.empty()) return 0;
  boost::container::small_vector<Offset<wire::Output>, 16> encoded;
  for (const AnswerOutput& output : outputs) {
    const auto name = encode_text(builder, output.name);
    const auto data = encode_bytes(builder, output.data);
    encoded.push_back(
        wire::CreateOutput(builder, output.buffer, name, output.bytes, output.version, data));
  }
  return builder.CreateVector(encoded.data(), encoded.size());
}

}  // namespace

std::span<const std::byte> encode_answer(FlatBufferBuilder& builder, const AnswerSpec& answer) {
  builder.Clear();
  const auto message = encode_text(builder, answer.message.substr(0, kStatusMessageBytesMax));
  const auto data = encode_bytes(builder, answer.data);
  const auto outputs = encode_outputs(builder, answer.outputs);
  Offset<wire::Profile> profile = 0;
  if (answer.stages != nullptr) {
    const auto device = encode_text(builder, answer.device);
    profile = wire::CreateProfile(builder, answer.stages, answer.counters, device, answer.way,
                                  answer.why_stream, answer.moments);
  }
  Offset<wire::LaneGrant> lane = 0;
  if (answer.lane != nullptr) {
    const LaneGrantSpec& grant = *answer.lane;
    lane = wire::CreateLaneGrant(builder, grant.lane, grant.call, kLaneGeometry.slot_count,
                                 kLaneGeometry.heap_bytes, grant.in_token, grant.out_token,
                                 grant.replayable, grant.bell_token);
  }
  const auto object_device = encode_text(builder, answer.object_device);
  Offset<wire::Exported> exported = 0;
  if (answer.exported != nullptr) {
    const auto gpu = encode_bytes(builder, answer.exported->gpu);
    const auto device = encode_text(builder, answer.exported->device);
    exported = wire::CreateExported(builder, answer.exported->segment,
                                    answer.exported->allocation_bytes, gpu, device);
  }
  wire::AnswerBuilder table(builder);
  table.add_id(answer.id);
  table.add_version(answer.version);
  table.add_bytes(answer.bytes);
  table.add_token(answer.token);
  if (!message.IsNull()) table.add_message(message);
  if (!data.IsNull()) table.add_data(data);
  if (!outputs.IsNull()) table.add_outputs(outputs);
  if (!profile.IsNull()) table.add_profile(profile);
  if (!lane.IsNull()) table.add_lane(lane);
  if (!object_device.IsNull()) table.add_device(object_device);
  if (!exported.IsNull()) table.add_exported(exported);
  table.add_plan(answer.plan);
  table.add_place(answer.place);
  table.add_code(answer.code);
  builder.Finish(table.Finish());
  return finished(builder);
}

}  // namespace kaas
