#include "client/src/encode.h"

#include <boost/container/small_vector.hpp>
#include <utility>

#include "client/src/thread_own.h"
#include "schema/ipc/messages.h"

namespace kaas {
inline namespace v1 {
namespace {

using flatbuffers::Offset;
using Builder = flatbuffers::FlatBufferBuilder;
using Bytes = Offset<flatbuffers::Vector<std::uint8_t>>;

// A message that needed more memory than this gives it back after the next one.
constexpr std::size_t kKeptBytes = 64u << 10;
// Present in the message whatever its value, so that it can be replaced.
constexpr std::uint64_t kIdToCome = ~std::uint64_t{0};

constexpr std::size_t kInitialBytes = 1024;

struct ThreadBuilder : Builder {
  ThreadBuilder() : Builder(kInitialBytes) {}
};

// Of a thread at its end, between fresh_builder() and finish(). Without a destructor, see there.
thread_local Builder* last_builder = nullptr;

// The thread's builder, empty. Its memory is used again and again, but at the thread's end.
Builder& fresh_builder() {
  Builder* builder = thread_own<ThreadBuilder>();
  if (builder == nullptr) {
    if (last_builder == nullptr) last_builder = new Builder(kInitialBytes);
    builder = last_builder;
  }
  if (builder->GetSize() > kKeptBytes) {
    builder->Reset();
  } else {
    builder->Clear();
  }
  return *builder;
}

template <class Table>
EncodedSubmission finish(Builder& builder, Offset<Table> table) {
  builder.Finish(wire::CreateSubmission(builder, kIdToCome,
                                        wire::OperationTraits<Table>::enum_value, table.Union()));
  std::uint8_t* bytes = builder.GetBufferPointer();
  const auto* root = flatbuffers::GetRoot<flatbuffers::Table>(bytes);
  const std::uint8_t* id = root->GetAddressOf(wire::Submission::VT_ID);
  EncodedSubmission message{{reinterpret_cast<std::byte*>(bytes), builder.GetSize()},
                            static_cast<std::size_t>(id - bytes)};
  if (&builder == last_builder) message.builder.reset(std::exchange(last_builder, nullptr));
  return message;
}

flatbuffers::Optional<std::uint32_t> optional_uid(std::optional<std::uint32_t> uid) {
  if (!uid) return flatbuffers::nullopt;
  return *uid;
}

Offset<flatbuffers::String> text(Builder& builder, std::string_view value) {
  return builder.CreateString(value.data(), value.size());
}

// kaasd reads a request in place after one copy: its bytes are aligned like a root.
Bytes request_bytes(Builder& builder, std::span<const std::byte> request) {
  builder.ForceVectorAlignment(request.size(), 1, alignof(std::uint64_t));
  return write_octets(builder, request);
}

// Whether the message can say what the options say; the rest is for kaasd to check.
Result<void> check_options(const RunOptions& options) {
  if (options.priority >= kPriorityMin && options.priority <= kPriorityMax) return {};
  return Status{StatusCode::InvalidArgument, "priority is " + std::to_string(options.priority) +
                                                 ", allowed " + std::to_string(kPriorityMin) +
                                                 " to " + std::to_string(kPriorityMax)};
}

Result<void> check_bindings(const BindingsData* data) {
  if (data == nullptr || !data->failure) return {};
  return *data->failure;
}

Offset<wire::RunOptions> write_options(Builder& builder, const RunOptions& options) {
  if (options == RunOptions()) return {};
  std::uint64_t deadline_ns = 0;
  if (options.deadline) {
    // steady_clock is CLOCK_MONOTONIC. One that is past is still a deadline.
    const auto since = options.deadline->time_since_epoch();
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
    deadline_ns = ns > 0 ? static_cast<std::uint64_t>(ns) : 1;
  }
  Offset<flatbuffers::String> tenant;
  if (!options.tenant.empty()) tenant = text(builder, options.tenant);
  Offset<flatbuffers::Vector<std::uint32_t>> waits;
  if (!options.wait_events.empty()) waits = builder.CreateVector(options.wait_events);
  Offset<flatbuffers::Vector<std::uint32_t>> records;
  if (!options.record_events.empty()) records = builder.CreateVector(options.record_events);
  return wire::CreateRunOptions(builder, static_cast<std::int8_t>(options.priority), deadline_ns,
                                options.tag, options.profile, tenant, waits, records);
}

Offset<wire::Binding> write_binding(Builder& builder, const BufferNames* names,
                                    const BindingData& binding) {
  std::uint16_t index = 0;
  Offset<flatbuffers::String> name;
  const auto known = names == nullptr ? BufferNames::const_iterator() : names->find(binding.buffer);
  if (names != nullptr && known != names->end()) {
    index = known->second;
  } else {
    name = text(builder, binding.buffer);
  }
  Offset<flatbuffers::String> key;
  if (!binding.key.empty()) key = text(builder, binding.key);
  Bytes data;
  if (!binding.bytes.empty()) data = write_octets(builder, binding.bytes);
  const auto ipc = write_ipc(builder, binding.ipc);
  flatbuffers::Optional<std::uint64_t> offset = flatbuffers::nullopt;
  if (binding.offset) offset = *binding.offset;
  const auto part = wire_part(binding.memory);
  return wire::CreateBinding(builder, index, name, binding.where, binding.segment, offset, key,
                             data, ipc, part ? &*part : nullptr);
}

using BindingVector = Offset<flatbuffers::Vector<Offset<wire::Binding>>>;
using OverrideVector = Offset<flatbuffers::Vector<Offset<wire::LiteralOverride>>>;

BindingVector write_bindings(Builder& builder, const BufferNames* names, const BindingsData* data) {
  if (data == nullptr || data->bindings.empty()) return {};
  boost::container::small_vector<Offset<wire::Binding>, 16> tables;
  for (const BindingData& binding : data->bindings) {
    tables.push_back(write_binding(builder, names, binding));
  }
  return builder.CreateVector(tables.data(), tables.size());
}

OverrideVector write_overrides(Builder& builder, const BindingsData* data) {
  if (data == nullptr || data->literals.empty()) return {};
  std::vector<Offset<wire::LiteralOverride>> tables;
  for (const LiteralOverrideData& literal : data->literals) {
    Bytes raw;
    if (!literal.raw.empty()) raw = write_octets(builder, literal.raw);
    flatbuffers::Optional<wire::LiteralType> type = flatbuffers::nullopt;
    if (literal.type) type = *literal.type;
    tables.push_back(wire::CreateLiteralOverride(builder, literal.kernel, literal.literal,
                                                 literal.bits, raw, type));
  }
  return builder.CreateVector(tables);
}

}  // namespace

Bytes write_octets(Builder& builder, std::span<const std::byte> bytes) {
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Offset<wire::IpcHandle> write_ipc(Builder& builder, const std::optional<IpcHandle>& ipc) {
  if (!ipc) return {};
  return wire::CreateIpcHandle(builder, write_octets(builder, ipc->handle), ipc->base_offset,
                               ipc->base_bytes);
}

BufferNames buffer_names(std::span<const std::byte> request) {
  BufferNames names;
  const auto* root = verified_root<wire::Request>(request);
  if (root == nullptr || root->buffers() == nullptr || root->buffers()->size() > kBuffersMax) {
    return names;
  }
  for (const wire::Buffer* buffer : *root->buffers()) {
    names.emplace(view(buffer->name()), static_cast<std::uint16_t>(names.size()));
  }
  return names;
}

std::optional<wire::SegmentRange> wire_part(const std::optional<MemoryPart>& memory) noexcept {
  if (!memory || memory->is_segment) return std::nullopt;
  return wire::SegmentRange(memory->offset, memory->bytes);
}

Result<EncodedSubmission> encode_submit(std::span<const std::byte> request,
                                        const RunOptions& options) {
  KAAS_RETURN_IF_ERROR(check_options(options));
  Builder& builder = fresh_builder();
  const auto bytes = request_bytes(builder, request);
  const auto run = write_options(builder, options);
  return finish(builder, wire::CreateSubmit(builder, bytes, run));
}

EncodedSubmission encode_prepare(std::span<const std::byte> request) {
  Builder& builder = fresh_builder();
  return finish(builder, wire::CreatePrepare(builder, request_bytes(builder, request)));
}

Result<EncodedSubmission> encode_invoke(std::uint32_t plan, const BufferNames& names,
                                        const Bindings& bindings, const RunOptions& options) {
  const BindingsData* data = BindingsAccess::data(bindings);
  KAAS_RETURN_IF_ERROR(check_bindings(data));
  KAAS_RETURN_IF_ERROR(check_options(options));
  Builder& builder = fresh_builder();
  const auto bound = write_bindings(builder, &names, data);
  const auto overrides = write_overrides(builder, data);
  const auto run = write_options(builder, options);
  return finish(builder, wire::CreateInvoke(builder, plan, bound, overrides, run));
}

Result<EncodedSubmission> encode_open_lane(std::uint32_t plan, const BufferNames& names,
                                           const Bindings& bindings) {
  const BindingsData* data = BindingsAccess::data(bindings);
  KAAS_RETURN_IF_ERROR(check_bindings(data));
  Builder& builder = fresh_builder();
  const auto bound = write_bindings(builder, &names, data);
  const auto overrides = write_overrides(builder, data);
  return finish(builder, wire::CreateOpenLane(builder, plan, bound, overrides));
}

EncodedSubmission encode_drop_lane_call(std::uint32_t lane, std::uint32_t call) {
  Builder& builder = fresh_builder();
  return finish(builder, wire::CreateDropLaneCall(builder, lane, call));
}

Result<EncodedSubmission> encode_call(std::string_view function, std::uint32_t version,
                                      std::span<const Parameter> parameters,
                                      const Bindings& bindings, const RunOptions& options) {
  const BindingsData* data = BindingsAccess::data(bindings);
  KAAS_RETURN_IF_ERROR(check_bindings(data));
  KAAS_RETURN_IF_ERROR(check_options(options));
  Builder& builder = fresh_builder();
  const auto name = text(builder, function);
  std::vector<Offset<wire::NamedInteger>> values;
  for (const Parameter& parameter : parameters) {
    const auto parameter_name = text(builder, parameter.name);
    values.push_back(wire::CreateNamedInteger(builder, parameter_name, parameter.value));
  }
  const auto value_vector = builder.CreateVector(values);
  const auto bound = write_bindings(builder, nullptr, data);
  const auto overrides = write_overrides(builder, data);
  const auto run = write_options(builder, options);
  return finish(builder,
                wire::CreateCall(builder, name, version, value_vector, bound, overrides, run));
}

EncodedSubmission encode_deploy(std::string_view function, std::span<const std::byte> request) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, function);
  return finish(builder, wire::CreateDeploy(builder, name, request_bytes(builder, request)));
}

EncodedSubmission encode_release(std::uint32_t plan) {
  Builder& builder = fresh_builder();
  return finish(builder, wire::CreateReleasePlan(builder, plan));
}

EncodedSubmission encode_put(std::string_view key, std::span<const std::byte> bytes) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, key);
  const auto data = write_octets(builder, bytes);
  return finish(builder, wire::CreatePut(builder, name, data));
}

EncodedSubmission encode_put_segment(std::string_view key, std::uint32_t segment,
                                     std::uint64_t offset, std::uint64_t bytes) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, key);
  return finish(builder, wire::CreatePut(builder, name, 0, segment, offset, bytes));
}

EncodedSubmission encode_put_token(std::string_view key, std::uint64_t token) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, key);
  return finish(builder, wire::CreatePut(builder, name, 0, 0, 0, 0, token));
}

EncodedSubmission encode_get(std::string_view key, std::optional<std::uint32_t> owner_uid) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, key);
  return finish(builder, wire::CreateGet(builder, name, optional_uid(owner_uid)));
}

EncodedSubmission encode_export(std::string_view key, const ExportOptions& options) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, key);
  Offset<flatbuffers::String> device;
  if (!options.device.empty()) device = text(builder, options.device);
  return finish(builder, wire::CreateExport(builder, name, optional_uid(options.owner_uid),
                                            options.offset, options.bytes, device));
}

EncodedSubmission encode_stat(std::string_view key, std::optional<std::uint32_t> owner_uid) {
  Builder& builder = fresh_builder();
  const auto name = text(builder, key);
  return finish(builder, wire::CreateStat(builder, name, optional_uid(owner_uid)));
}

EncodedSubmission encode_remove(std::string_view key) {
  Builder& builder = fresh_builder();
  return finish(builder, wire::CreateRemove(builder, text(builder, key)));
}

EncodedSubmission encode_cancel(std::uint64_t id) {
  Builder& builder = fresh_builder();
  return finish(builder, wire::CreateCancel(builder, id));
}

}  // namespace v1
}  // namespace kaas
