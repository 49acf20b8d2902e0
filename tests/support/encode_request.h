// A RequestSpec as the wire bytes that decode_request reads. Writes what it is given, faults
// included, so that tests can make any request that a client could send.
// Threads: pure function.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/request.h"
#include "schema/ipc/messages.h"

namespace kaas {

class RequestEncoder {
 public:
  // `until`: -1 for none; `spec.until` counts only when this is -1.
  std::vector<std::byte> encode(const RequestSpec& spec, std::int32_t until = -1) {
    std::vector<flatbuffers::Offset<wire::Buffer>> buffers;
    for (const BufferSpec& buffer : spec.buffers) buffers.push_back(encode_buffer(buffer));
    std::vector<flatbuffers::Offset<wire::Kernel>> kernels;
    for (const KernelSpec& kernel : spec.kernels) kernels.push_back(encode_kernel(kernel));
    const auto kernel_list = builder_.CreateVector(kernels);
    const auto buffer_list = builder_.CreateVector(buffers);
    const auto parameters =
        spec.parameters.empty() ? 0 : builder_.CreateVectorOfStrings(spec.parameters);
    const auto n_iter_expression = text(spec.n_iter.expression);
    wire::RequestBuilder request(builder_);
    request.add_kernels(kernel_list);
    request.add_buffers(buffer_list);
    request.add_n_iter(spec.n_iter.value);
    request.add_n_iter_expression(n_iter_expression);
    request.add_until(until == -1 && spec.until.has_value() ? *spec.until : until);
    request.add_parameters(parameters);
    builder_.Finish(request.Finish());
    const auto bytes = finished(builder_);
    return {bytes.begin(), bytes.end()};
  }

 private:
  flatbuffers::Offset<flatbuffers::String> text(const std::string& value) {
    return value.empty() ? 0 : builder_.CreateString(value);
  }

  flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> bytes(
      const std::vector<std::byte>& value) {
    if (value.empty()) return 0;
    return builder_.CreateVector(reinterpret_cast<const std::uint8_t*>(value.data()), value.size());
  }

  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>> expressions(
      const std::array<Integer, 3>& dimensions) {
    std::vector<std::string> texts;
    for (const Integer& dimension : dimensions) texts.push_back(dimension.expression);
    while (!texts.empty() && texts.back().empty()) texts.pop_back();
    return texts.empty() ? 0 : builder_.CreateVectorOfStrings(texts);
  }

  static wire::Dim3 numbers(const std::array<Integer, 3>& dimensions) {
    return {static_cast<std::uint32_t>(dimensions[0].value),
            static_cast<std::uint32_t>(dimensions[1].value),
            static_cast<std::uint32_t>(dimensions[2].value)};
  }

  flatbuffers::Offset<wire::Literal> encode_literal(const LiteralSpec& literal) {
    std::vector<wire::AddressSlot> slots;
    for (const RawSlot& slot : literal.slots) slots.emplace_back(slot.offset, slot.buffer);
    const auto expression = text(literal.expression);
    const auto raw = bytes(literal.raw);
    const auto slot_list = slots.empty() ? 0 : builder_.CreateVectorOfStructs(slots);
    return wire::CreateLiteral(builder_, literal.type, literal.bits, expression, raw, slot_list);
  }

  flatbuffers::Offset<wire::Kernel> encode_kernel(const KernelSpec& kernel) {
    std::vector<flatbuffers::Offset<wire::Literal>> literals;
    for (const LiteralSpec& literal : kernel.literals) literals.push_back(encode_literal(literal));
    std::vector<wire::Argument> arguments;
    for (const ArgumentSpec& a : kernel.arguments) arguments.emplace_back(a.buffer, a.access);
    const auto library = builder_.CreateSharedString(kernel.library);
    const auto name = builder_.CreateSharedString(kernel.kernel);
    const auto grid_expression = expressions(kernel.grid);
    const auto block_expression = expressions(kernel.block);
    const auto literal_list = literals.empty() ? 0 : builder_.CreateVector(literals);
    const auto argument_list = arguments.empty() ? 0 : builder_.CreateVectorOfStructs(arguments);
    const auto order = kernel.order.empty() ? 0 : builder_.CreateVector(kernel.order);
    const wire::Dim3 grid = numbers(kernel.grid);
    const wire::Dim3 block = numbers(kernel.block);
    const auto given = kernel.cluster.value_or(std::array<std::uint32_t, 3>{});
    const wire::Dim3 cluster(given[0], given[1], given[2]);
    return wire::CreateKernel(builder_, library, name, &grid, &block, grid_expression,
                              block_expression, kernel.shared_bytes,
                              kernel.cluster.has_value() ? &cluster : nullptr, kernel.cooperative,
                              literal_list, argument_list, order, kernel.programmatic);
  }

  flatbuffers::Offset<wire::Buffer> encode_buffer(const BufferSpec& buffer) {
    const auto name = builder_.CreateString(buffer.name);
    const auto size = text(buffer.bytes.expression);
    const auto offset = text(buffer.offset.expression);
    const auto key = text(buffer.place.key);
    const auto data = bytes(buffer.place.data);
    const auto handle = bytes(buffer.place.ipc_handle);
    const auto ipc = buffer.place.ipc_handle.empty()
                         ? 0
                         : wire::CreateIpcHandle(builder_, handle, buffer.place.ipc_base_offset,
                                                 buffer.place.ipc_base_bytes);
    const Place& place = buffer.place;
    const wire::SegmentRange part(place.part_offset, place.part_end - place.part_offset);
    const bool has_part =
        place.part_offset != Place().part_offset || place.part_end != Place().part_end;
    return wire::CreateBuffer(builder_, name, buffer.bytes.value, buffer.offset.value, size, offset,
                              key, buffer.ephemeral, buffer.constant, buffer.zero_fill,
                              buffer.resident, buffer.place.where, buffer.place.segment, data, ipc,
                              has_part ? &part : nullptr);
  }

  flatbuffers::FlatBufferBuilder builder_;
};

inline std::vector<std::byte> encode_request(const RequestSpec& spec, std::int32_t until = -1) {
  return RequestEncoder().encode(spec, until);
}

}  // namespace kaas
