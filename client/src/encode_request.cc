#include "client/src/encode.h"

#include <unordered_map>

#include "schema/ipc/messages.h"

namespace kaas {
inline namespace v1 {
namespace {

using flatbuffers::Offset;
using Builder = flatbuffers::FlatBufferBuilder;
using BufferIndex = std::unordered_map<std::string, std::uint16_t>;

wire::Dim3 wire_dim(const Dim3& dim) {
  return {dim.x, dim.y, dim.z};
}

Offset<flatbuffers::String> text(Builder& builder, const std::string& value) {
  return value.empty() ? Offset<flatbuffers::String>() : builder.CreateString(value);
}

Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> dim_texts(
    Builder& builder, const std::optional<DimExpression>& dim) {
  if (!dim) return {};
  std::vector<Offset<flatbuffers::String>> texts;
  for (const std::string* axis : {&dim->x, &dim->y, &dim->z}) {
    texts.push_back(builder.CreateString(*axis));
  }
  return builder.CreateVector(texts);
}

Status too_many(const char* what, std::size_t found, std::size_t limit) {
  return over_limit(StatusCode::InvalidArgument, what, found, limit);
}

// Where the index of a buffer goes, the name of one that is declared.
Result<std::uint16_t> index_of(const BufferIndex& buffers, const std::string& name,
                               const std::string& user) {
  const auto found = buffers.find(name);
  if (found != buffers.end()) return found->second;
  return Status{StatusCode::InvalidArgument,
                user + " names buffer '" + name + "', which the request does not declare"};
}

Result<Offset<wire::Literal>> write_literal(Builder& builder, const BufferIndex& buffers,
                                            const LiteralData& literal, const std::string& user) {
  std::vector<wire::AddressSlot> slots;
  for (const AddressSlot& slot : literal.slots) {
    KAAS_ASSIGN_OR_RETURN(const std::uint16_t buffer, index_of(buffers, slot.buffer, user));
    slots.emplace_back(slot.offset, buffer);
  }
  const auto expression = text(builder, literal.expression);
  Offset<flatbuffers::Vector<std::uint8_t>> raw;
  if (literal.type == wire::LiteralType::Raw) raw = write_octets(builder, literal.raw);
  Offset<flatbuffers::Vector<const wire::AddressSlot*>> places;
  if (!slots.empty()) places = builder.CreateVectorOfStructs(slots);
  return wire::CreateLiteral(builder, literal.type, literal.bits, expression, raw, places);
}

Result<Offset<wire::Kernel>> write_kernel(Builder& builder, const BufferIndex& buffers,
                                          const KernelData& kernel, std::size_t number) {
  const std::string user = "kernel " + std::to_string(number) + " '" + kernel.kernel + "'";
  std::vector<Offset<wire::Literal>> literals;
  for (const LiteralData& literal : kernel.literals) {
    KAAS_ASSIGN_OR_RETURN(const auto table, write_literal(builder, buffers, literal, user));
    literals.push_back(table);
  }
  std::vector<wire::Argument> arguments;
  for (const auto& [name, access] : kernel.arguments) {
    KAAS_ASSIGN_OR_RETURN(const std::uint16_t buffer, index_of(buffers, name, user));
    arguments.emplace_back(buffer, access);
  }
  const auto library = builder.CreateString(kernel.library);
  const auto name = builder.CreateString(kernel.kernel);
  const auto grid_texts = dim_texts(builder, kernel.grid_expression);
  const auto block_texts = dim_texts(builder, kernel.block_expression);
  const auto literal_vector = builder.CreateVector(literals);
  const auto argument_vector = builder.CreateVectorOfStructs(arguments);
  Offset<flatbuffers::Vector<std::uint16_t>> order;
  if (!kernel.order.empty()) order = builder.CreateVector(kernel.order);

  const wire::Dim3 grid = wire_dim(kernel.grid);
  const wire::Dim3 block = wire_dim(kernel.block);
  const wire::Dim3 cluster = wire_dim(kernel.cluster.value_or(Dim3{}));
  wire::KernelBuilder table(builder);
  table.add_library(library);
  table.add_kernel(name);
  table.add_grid(&grid);
  table.add_block(&block);
  table.add_grid_expression(grid_texts);
  table.add_block_expression(block_texts);
  table.add_shared_bytes(kernel.shared_bytes);
  if (kernel.cluster) table.add_cluster(&cluster);
  table.add_cooperative(kernel.cooperative);
  table.add_literals(literal_vector);
  table.add_arguments(argument_vector);
  table.add_order(order);
  table.add_programmatic(kernel.programmatic);
  return table.Finish();
}

Offset<wire::Buffer> write_buffer(Builder& builder, const BufferData& buffer) {
  const auto name = builder.CreateString(buffer.name);
  const auto size_text = text(builder, buffer.size_expression);
  const auto offset_text = text(builder, buffer.offset_expression);
  const auto key = text(builder, buffer.key);
  Offset<flatbuffers::Vector<std::uint8_t>> data;
  if (!buffer.bytes.empty()) data = write_octets(builder, buffer.bytes);
  const auto ipc = write_ipc(builder, buffer.ipc);
  // Numbers have been checked here.
  const bool is_checked = buffer.where != wire::Where::Segment || !buffer.has_expressions();
  const auto part = is_checked ? std::nullopt : wire_part(buffer.memory);
  return wire::CreateBuffer(builder, name, buffer.size, buffer.offset, size_text, offset_text, key,
                            buffer.ephemeral, buffer.constant, buffer.zero_fill, buffer.resident,
                            buffer.where, buffer.segment, data, ipc, part ? &*part : nullptr);
}

// Bytes that are not in the memory that the buffer was said to be in.
Result<void> check_memory(const BufferData& buffer) {
  const bool is_known = buffer.where == wire::Where::Segment && buffer.memory.has_value();
  if (!is_known || buffer.has_expressions()) return {};
  // Of a whole segment kaasd fills what an input lacks.
  if (buffer.memory->is_segment && buffer.zero_fill) return {};
  return check_inside(*buffer.memory, buffer.name, buffer.offset, buffer.size);
}

Result<BufferIndex> number_buffers(const std::vector<BufferData>& buffers) {
  if (buffers.size() > kBuffersMax) {
    return too_many("number of buffers", buffers.size(), kBuffersMax);
  }
  BufferIndex index;
  for (const BufferData& buffer : buffers) {
    KAAS_RETURN_IF_ERROR(check_memory(buffer));
    const auto number = static_cast<std::uint16_t>(index.size());
    if (!index.emplace(buffer.name, number).second) {
      return Status{StatusCode::InvalidArgument, "buffer '" + buffer.name + "' is declared twice"};
    }
  }
  return index;
}

Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> write_parameters(
    Builder& builder, const std::vector<std::string>& names) {
  return names.empty() ? Offset<flatbuffers::Vector<Offset<flatbuffers::String>>>()
                       : builder.CreateVectorOfStrings(names);
}

}  // namespace

Result<std::vector<std::byte>> encode_request(const RequestData& request) {
  if (request.kernels.size() > kKernelsMax) {
    return too_many("number of kernels", request.kernels.size(), kKernelsMax);
  }
  KAAS_ASSIGN_OR_RETURN(const BufferIndex index, number_buffers(request.buffers));
  std::int32_t until = -1;
  if (!request.until.empty()) {
    KAAS_ASSIGN_OR_RETURN(until, index_of(index, request.until, "until"));
  }
  Builder builder(1024);
  std::vector<Offset<wire::Kernel>> kernels;
  for (const KernelData& kernel : request.kernels) {
    KAAS_ASSIGN_OR_RETURN(const auto table, write_kernel(builder, index, kernel, kernels.size()));
    kernels.push_back(table);
  }
  std::vector<Offset<wire::Buffer>> buffers;
  for (const BufferData& buffer : request.buffers) {
    buffers.push_back(write_buffer(builder, buffer));
  }
  const auto kernel_vector = builder.CreateVector(kernels);
  const auto buffer_vector = builder.CreateVector(buffers);
  const auto iterations = text(builder, request.n_iter_expression);
  const auto parameters = write_parameters(builder, request.parameters);
  builder.Finish(wire::CreateRequest(builder, kernel_vector, buffer_vector, request.n_iter,
                                     iterations, until, parameters));
  const auto bytes = finished(builder);
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

}  // namespace v1
}  // namespace kaas
