#include "tools/sim/messages.h"

namespace kaas {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

template <class Create>
Bytes submission(std::uint64_t id, wire::Operation type, Create create) {
  FlatBufferBuilder builder;
  const auto operation = create(builder);
  builder.Finish(wire::CreateSubmission(builder, id, type, operation.Union()));
  const auto bytes = finished(builder);
  return {bytes.begin(), bytes.end()};
}

Offset<flatbuffers::Vector<std::uint8_t>> octets(FlatBufferBuilder& builder,
                                                 std::span<const std::byte> bytes) {
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Offset<wire::RunOptions> run_options(FlatBufferBuilder& builder, const RunOptions& options) {
  const auto waits = builder.CreateVector(options.wait_events);
  const auto records = builder.CreateVector(options.record_events);
  return wire::CreateRunOptions(builder, static_cast<std::int8_t>(options.priority),
                                options.deadline_ns, options.tag, options.profile, 0, waits,
                                records);
}

using Renames = std::vector<std::pair<std::string, std::string>>;

Offset<flatbuffers::Vector<Offset<wire::Binding>>> bindings(FlatBufferBuilder& builder,
                                                            const Renames& renames) {
  std::vector<Offset<wire::Binding>> list;
  for (const auto& [name, key] : renames) {
    const auto name_text = builder.CreateString(name);
    const auto key_text = builder.CreateString(key);
    wire::BindingBuilder binding(builder);
    binding.add_name(name_text);
    binding.add_key(key_text);
    list.push_back(binding.Finish());
  }
  return builder.CreateVector(list);
}

Bytes octets_of(const flatbuffers::Vector<std::uint8_t>* vector) {
  if (vector == nullptr) return {};
  const auto* data = reinterpret_cast<const std::byte*>(vector->data());
  return {data, data + vector->size()};
}

}  // namespace

Bytes submit_message(std::uint64_t id, std::span<const std::byte> request,
                     const RunOptions& options) {
  return submission(id, wire::Operation::Submit, [&](FlatBufferBuilder& b) {
    const auto bytes = octets(b, request);
    return wire::CreateSubmit(b, bytes, run_options(b, options));
  });
}

Bytes prepare_message(std::uint64_t id, std::span<const std::byte> request) {
  return submission(id, wire::Operation::Prepare, [&](FlatBufferBuilder& b) {
    return wire::CreatePrepare(b, octets(b, request));
  });
}

Bytes invoke_message(std::uint64_t id, std::uint32_t plan, const Renames& renames,
                     const RunOptions& options) {
  return submission(id, wire::Operation::Invoke, [&](FlatBufferBuilder& b) {
    const auto list = bindings(b, renames);
    return wire::CreateInvoke(b, plan, list, 0, run_options(b, options));
  });
}

Bytes open_lane_message(std::uint64_t id, std::uint32_t plan, const Renames& renames) {
  return submission(id, wire::Operation::OpenLane, [&](FlatBufferBuilder& b) {
    return wire::CreateOpenLane(b, plan, bindings(b, renames));
  });
}

Bytes drop_lane_call_message(std::uint64_t id, std::uint32_t lane, std::uint32_t call) {
  return submission(id, wire::Operation::DropLaneCall,
                    [&](FlatBufferBuilder& b) { return wire::CreateDropLaneCall(b, lane, call); });
}

Bytes release_message(std::uint64_t id, std::uint32_t plan) {
  return submission(id, wire::Operation::ReleasePlan,
                    [&](FlatBufferBuilder& b) { return wire::CreateReleasePlan(b, plan); });
}

Bytes put_message(std::uint64_t id, const std::string& key, std::span<const std::byte> data) {
  return submission(id, wire::Operation::Put, [&](FlatBufferBuilder& b) {
    const auto name = b.CreateString(key);
    return wire::CreatePut(b, name, octets(b, data));
  });
}

Bytes put_segment_message(std::uint64_t id, const std::string& key, std::uint32_t segment,
                          std::uint64_t offset, std::uint64_t bytes) {
  return submission(id, wire::Operation::Put, [&](FlatBufferBuilder& b) {
    return wire::CreatePut(b, b.CreateString(key), 0, segment, offset, bytes);
  });
}

Bytes put_donated_message(std::uint64_t id, const std::string& key, std::uint64_t token,
                          std::uint64_t bytes) {
  return submission(id, wire::Operation::Put, [&](FlatBufferBuilder& b) {
    return wire::CreatePut(b, b.CreateString(key), 0, 0, 0, bytes, token);
  });
}

Bytes get_message(std::uint64_t id, const std::string& key) {
  return submission(id, wire::Operation::Get,
                    [&](FlatBufferBuilder& b) { return wire::CreateGet(b, b.CreateString(key)); });
}

Bytes stat_message(std::uint64_t id, const std::string& key) {
  return submission(id, wire::Operation::Stat,
                    [&](FlatBufferBuilder& b) { return wire::CreateStat(b, b.CreateString(key)); });
}

Bytes remove_message(std::uint64_t id, const std::string& key) {
  return submission(id, wire::Operation::Remove, [&](FlatBufferBuilder& b) {
    return wire::CreateRemove(b, b.CreateString(key));
  });
}

Bytes export_message(std::uint64_t id, const std::string& key, const ExportSpec& wanted) {
  return submission(id, wire::Operation::Export, [&](FlatBufferBuilder& b) {
    const auto key_text = b.CreateString(key);
    const auto device = wanted.device.empty() ? 0 : b.CreateString(wanted.device);
    return wire::CreateExport(b, key_text, flatbuffers::nullopt, wanted.offset, wanted.bytes,
                              device);
  });
}

Bytes cancel_message(std::uint64_t id, std::uint64_t target) {
  return submission(id, wire::Operation::Cancel,
                    [&](FlatBufferBuilder& b) { return wire::CreateCancel(b, target); });
}

std::optional<SeenAnswer> decode_answer(std::span<const std::byte> message) {
  const auto* answer = verified_root<wire::Answer>(message);
  if (answer == nullptr) return std::nullopt;
  SeenAnswer seen;
  seen.id = answer->id();
  seen.code = answer->code();
  seen.message = view(answer->message());
  seen.plan = answer->plan();
  seen.version = answer->version();
  seen.bytes = answer->bytes();
  seen.token = answer->token();
  seen.data = octets_of(answer->data());
  seen.profiled = answer->profile() != nullptr;
  seen.place = answer->place();
  seen.device = view(answer->device());
  if (const wire::Exported* exported = answer->exported()) {
    seen.exported = SeenExport{exported->segment(), exported->allocation_bytes(),
                               count(exported->gpu()), std::string(view(exported->device()))};
  }
  if (const wire::LaneGrant* lane = answer->lane()) {
    seen.lane = SeenGrant{lane->lane(),      lane->call(),       lane->in_token(),
                          lane->out_token(), lane->bell_token(), lane->replayable()};
  }
  for (std::size_t i = 0; i < count(answer->outputs()); ++i) {
    const auto* output = answer->outputs()->Get(static_cast<flatbuffers::uoffset_t>(i));
    seen.outputs.push_back({std::string(view(output->name())), output->bytes(), output->version(),
                            octets_of(output->data())});
  }
  return seen;
}

}  // namespace kaas
