#include "daemon/intake/decode.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/flow/text.h"
#include "daemon/intake/fields.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// What element n of a list is called: "argument 2".
auto label_of(const char* kind, std::size_t n) {
  return [kind, n] { return std::string(kind) + " " + std::to_string(n); };
}
// With its name, once that is known: "kernel 3 ('saxpy')".
auto label_of(const char* kind, std::size_t n, const std::string& name) {
  return [kind, n, &name] {
    return std::string(kind) + " " + std::to_string(n) + " (" + quoted(name) + ")";
  };
}

Result<Integer> decode_integer(std::uint64_t value, const flatbuffers::String* expression,
                               std::string_view field) {
  KAAS_RETURN_IF_ERROR(
      named([&] { return std::string(field); },
            check_count("expression bytes", count(expression), kExpressionBytesMax)));
  return Integer{value, std::string(view(expression))};
}

// --- Kernels -----------------------------------------------------------------------------------

// The grid or the block. Absent numbers are 1.
Result<std::array<Integer, 3>> decode_dimensions(const wire::Dim3* numbers,
                                                 const StringVector* expressions,
                                                 const std::array<std::uint32_t, 3>& limits,
                                                 const std::array<const char*, 3>& fields) {
  KAAS_RETURN_IF_ERROR(check_count("expressions", count(expressions), 3));
  const wire::Dim3 ones(1, 1, 1);
  const wire::Dim3& given = numbers == nullptr ? ones : *numbers;
  const std::array<std::uint32_t, 3> values{given.x(), given.y(), given.z()};
  std::array<Integer, 3> dimensions;
  for (unsigned axis = 0; axis < 3; ++axis) {
    const auto* expression = axis < count(expressions) ? expressions->Get(axis) : nullptr;
    KAAS_ASSIGN_OR_RETURN(dimensions[axis], decode_integer(values[axis], expression, fields[axis]));
    if (!dimensions[axis].expression.empty()) continue;
    KAAS_RETURN_IF_ERROR(check_between(fields[axis], values[axis], 1, limits[axis]));
  }
  return dimensions;
}

Result<void> decode_cluster(const wire::Dim3& wire, KernelSpec& kernel) {
  const std::array<std::uint32_t, 3> cluster{wire.x(), wire.y(), wire.z()};
  std::uint64_t blocks = 1;
  for (const std::uint32_t n : cluster) {
    KAAS_RETURN_IF_ERROR(check_between("cluster", n, 1, kClusterBlocksMax));
    blocks *= n;
  }
  KAAS_RETURN_IF_ERROR(check_between("cluster's number of blocks", blocks, 1, kClusterBlocksMax));
  kernel.cluster = cluster;
  return {};
}

Result<void> decode_shape(const wire::Kernel& wire, KernelSpec& kernel) {
  KAAS_ASSIGN_OR_RETURN(kernel.grid, decode_dimensions(wire.grid(), wire.grid_expression(),
                                                       kGridLimits, kGridFields));
  KAAS_ASSIGN_OR_RETURN(kernel.block, decode_dimensions(wire.block(), wire.block_expression(),
                                                        kBlockLimits, kBlockFields));
  const bool fixed = std::all_of(kernel.block.begin(), kernel.block.end(),
                                 [](const Integer& n) { return n.expression.empty(); });
  if (fixed) {
    KAAS_RETURN_IF_ERROR(
        check_block_threads({kernel.block[0].value, kernel.block[1].value, kernel.block[2].value}));
  }
  kernel.shared_bytes = wire.shared_bytes();
  KAAS_RETURN_IF_ERROR(check_between("shared_bytes", kernel.shared_bytes, 0, kSharedBytesMax));
  kernel.cooperative = wire.cooperative();
  kernel.programmatic = wire.programmatic();
  if (kernel.cooperative && kernel.programmatic) {
    return invalid("is cooperative and programmatic, of which a kernel can be one only");
  }
  if (wire.cluster() == nullptr) return {};
  return decode_cluster(*wire.cluster(), kernel);
}

// The address slots of a raw literal: inside it, apart from each other, and of known buffers.
Result<void> decode_slots(const wire::Literal& wire, std::size_t buffer_count,
                          LiteralSpec& literal) {
  KAAS_RETURN_IF_ERROR(check_count("address slots", count(wire.slots()), kAddressSlotsMax));
  std::vector<std::uint32_t> offsets;
  for (std::size_t n = 0; n < count(wire.slots()); ++n) {
    const wire::AddressSlot slot = value_at(wire.slots(), n);
    const auto label = label_of("address slot", n);
    if (!range_fits(slot.offset(), sizeof(std::uint64_t), literal.raw.size())) {
      return invalid(label() + " is at " + std::to_string(slot.offset()) +
                     ", its 8 bytes exceed the literal's " + std::to_string(literal.raw.size()));
    }
    KAAS_RETURN_IF_ERROR(named(label, check_buffer(slot.buffer(), buffer_count)));
    offsets.push_back(slot.offset());
    literal.slots.push_back({slot.offset(), slot.buffer()});
  }
  std::sort(offsets.begin(), offsets.end());
  for (std::size_t n = 1; n < offsets.size(); ++n) {
    if (offsets[n] - offsets[n - 1] < sizeof(std::uint64_t)) {
      return invalid("has address slots of 8 bytes at " + std::to_string(offsets[n - 1]) + " and " +
                     std::to_string(offsets[n]) + ", which overlap");
    }
  }
  return {};
}

Result<void> check_literal_kind(const wire::Literal& wire) {
  using wire::LiteralType;
  const LiteralType type = wire.type();
  if (type > LiteralType::MAX) {
    return invalid("has type " + std::to_string(static_cast<int>(type)) + ", limit " +
                   std::to_string(static_cast<int>(LiteralType::MAX)));
  }
  const std::string name = wire::EnumNameLiteralType(type);
  if (type != LiteralType::Raw && (count(wire.raw()) > 0 || count(wire.slots()) > 0)) {
    return invalid("has type " + name + " and raw bytes or address slots; only Raw may");
  }
  if (type > LiteralType::U64 && count(wire.expression()) > 0) {
    return invalid("has type " + name + " and an expression; only I32, U32, I64 and U64 may");
  }
  if (type == LiteralType::Raw && count(wire.raw()) == 0) {
    return invalid("has type Raw and no bytes");
  }
  return {};
}

Result<LiteralSpec> decode_literal(const wire::Literal& wire, std::size_t buffer_count,
                                   std::size_t& payload_bytes) {
  using wire::LiteralType;
  KAAS_RETURN_IF_ERROR(check_literal_kind(wire));
  LiteralSpec literal;
  literal.type = wire.type();
  const bool is_narrow = literal.type == LiteralType::I32 || literal.type == LiteralType::U32 ||
                         literal.type == LiteralType::F32;
  KAAS_ASSIGN_OR_RETURN(Integer integer, decode_integer(wire.bits(), wire.expression(), "its"));
  literal.bits = is_narrow ? integer.value & 0xFFFF'FFFFu : integer.value;
  literal.expression = std::move(integer.expression);
  if (literal.type != LiteralType::Raw) return literal;
  KAAS_RETURN_IF_ERROR(check_count("raw bytes", count(wire.raw()), kRawLiteralBytesMax));
  KAAS_RETURN_IF_ERROR(add_payload(payload_bytes, count(wire.raw())));
  literal.raw = to_bytes(wire.raw());
  KAAS_RETURN_IF_ERROR(decode_slots(wire, buffer_count, literal));
  return literal;
}

Result<ArgumentSpec> decode_argument(const wire::Argument& wire, std::size_t buffer_count) {
  KAAS_RETURN_IF_ERROR(check_buffer(wire.buffer(), buffer_count));
  if (wire.access() > wire::Access::MAX) {
    return invalid("has access " + std::to_string(static_cast<int>(wire.access())) + ", limit " +
                   std::to_string(static_cast<int>(wire::Access::MAX)));
  }
  return ArgumentSpec{wire.buffer(), wire.access()};
}

// Which arguments are also in an address slot. A slot's buffer must be an argument, because only an
// argument says how it is used.
Result<std::vector<bool>> arguments_in_slots(const KernelSpec& kernel) {
  std::vector<bool> in_slot(kernel.arguments.size(), false);
  for (std::size_t n = 0; n < kernel.literals.size(); ++n) {
    for (const RawSlot& slot : kernel.literals[n].slots) {
      bool found = false;
      for (std::size_t a = 0; a < kernel.arguments.size(); ++a) {
        if (kernel.arguments[a].buffer != slot.buffer) continue;
        in_slot[a] = found = true;
      }
      if (!found) {
        return invalid("literal " + std::to_string(n) + " has an address slot for buffer " +
                       std::to_string(slot.buffer) +
                       ", which must also be an argument of the kernel, to say how it is used");
      }
    }
  }
  return in_slot;
}

Result<void> decode_order(const wire::Kernel& wire, KernelSpec& kernel) {
  KAAS_ASSIGN_OR_RETURN(const auto in_slot, arguments_in_slots(kernel));
  if (count(wire.order()) == 0) return {};
  const std::size_t literals = kernel.literals.size();
  const std::size_t parameters = literals + kernel.arguments.size();
  KAAS_RETURN_IF_ERROR(check_count("order entries", count(wire.order()), parameters));
  std::vector<bool> seen(parameters, false);
  for (std::size_t n = 0; n < count(wire.order()); ++n) {
    const std::uint16_t index = value_at(wire.order(), n);
    if (index >= parameters) {
      return invalid("order names parameter " + std::to_string(index) + ", kernel has " +
                     std::to_string(literals) + " literals and " +
                     std::to_string(kernel.arguments.size()) + " arguments");
    }
    if (seen[index]) return invalid("order names parameter " + std::to_string(index) + " twice");
    seen[index] = true;
    kernel.order.push_back(index);
  }
  for (std::size_t index = 0; index < parameters; ++index) {
    if (seen[index] || (index >= literals && in_slot[index - literals])) continue;
    return invalid("order leaves out parameter " + std::to_string(index) +
                   "; it must name every literal and argument once");
  }
  return {};
}

Result<void> decode_kernel_body(const wire::Kernel& wire, std::size_t buffer_count,
                                std::size_t& payload_bytes, KernelSpec& kernel) {
  KAAS_ASSIGN_OR_RETURN(kernel.library, decode_name(wire.library(), "library", kPathBytesMax));
  KAAS_RETURN_IF_ERROR(decode_shape(wire, kernel));
  KAAS_RETURN_IF_ERROR(check_count("literals", count(wire.literals()), kLiteralsPerKernelMax));
  kernel.literals.reserve(count(wire.literals()));
  for (std::size_t n = 0; n < count(wire.literals()); ++n) {
    const auto& literal = *wire.literals()->Get(static_cast<unsigned>(n));
    KAAS_ASSIGN_OR_RETURN(
        auto decoded,
        named(label_of("literal", n), decode_literal(literal, buffer_count, payload_bytes)));
    kernel.literals.push_back(std::move(decoded));
  }
  KAAS_RETURN_IF_ERROR(check_count("arguments", count(wire.arguments()), kArgumentsPerKernelMax));
  kernel.arguments.reserve(count(wire.arguments()));
  for (std::size_t n = 0; n < count(wire.arguments()); ++n) {
    const wire::Argument argument = value_at(wire.arguments(), n);
    KAAS_ASSIGN_OR_RETURN(auto decoded,
                          named(label_of("argument", n), decode_argument(argument, buffer_count)));
    kernel.arguments.push_back(decoded);
  }
  return decode_order(wire, kernel);
}

Result<KernelSpec> decode_kernel(const wire::Kernel& wire, std::size_t index,
                                 std::size_t buffer_count, std::size_t& payload_bytes) {
  KernelSpec kernel;
  KAAS_ASSIGN_OR_RETURN(kernel.kernel, named(label_of("kernel", index),
                                             decode_name(wire.kernel(), "name", kNameBytesMax)));
  KAAS_RETURN_IF_ERROR(named(label_of("kernel", index, kernel.kernel),
                             decode_kernel_body(wire, buffer_count, payload_bytes, kernel)));
  return kernel;
}

// --- Buffers -----------------------------------------------------------------------------------

Result<void> check_fixed_sizes(const BufferSpec& buffer) {
  if (!buffer.bytes.expression.empty()) return {};
  const std::uint64_t bytes = buffer.bytes.value;
  KAAS_RETURN_IF_ERROR(check_buffer_bytes(buffer.place.where, bytes));
  KAAS_RETURN_IF_ERROR(check_count("inline data bytes", buffer.place.data.size(), bytes));
  if (!buffer.offset.expression.empty()) return {};
  return check_buffer_end(buffer.place, buffer.offset.value, bytes);
}

Result<void> decode_buffer_body(const wire::Buffer& wire, std::size_t& payload_bytes,
                                BufferSpec& buffer) {
  KAAS_ASSIGN_OR_RETURN(buffer.bytes, decode_integer(wire.size(), wire.size_expression(), "size"));
  KAAS_ASSIGN_OR_RETURN(buffer.offset,
                        decode_integer(wire.offset(), wire.offset_expression(), "offset"));
  KAAS_RETURN_IF_ERROR(add_payload(payload_bytes, count(wire.data())));
  KAAS_ASSIGN_OR_RETURN(buffer.place, decode_place(wire));
  if (buffer.place.where == wire::Where::Store && buffer.place.key.empty()) {
    buffer.place.key = buffer.name;
  }
  buffer.ephemeral = wire.ephemeral();
  buffer.constant = wire.constant();
  buffer.zero_fill = wire.zero_fill();
  buffer.resident = wire.resident();
  if (buffer.resident && (buffer.ephemeral || buffer.place.where != wire::Where::Store)) {
    return invalid(std::string("is resident, which only outputs to the store can be, and it is ") +
                   (buffer.ephemeral ? "ephemeral" : wire::EnumNameWhere(buffer.place.where)));
  }
  return check_fixed_sizes(buffer);
}

Result<BufferSpec> decode_buffer(const wire::Buffer& wire, std::size_t index,
                                 std::size_t& payload_bytes) {
  BufferSpec buffer;
  KAAS_ASSIGN_OR_RETURN(buffer.name, named(label_of("buffer", index),
                                           decode_name(wire.name(), "name", kNameBytesMax)));
  KAAS_RETURN_IF_ERROR(named(label_of("buffer", index, buffer.name),
                             decode_buffer_body(wire, payload_bytes, buffer)));
  return buffer;
}

Result<void> check_names_unique(const std::vector<BufferSpec>& buffers) {
  std::vector<std::size_t> by_name(buffers.size());
  for (std::size_t n = 0; n < by_name.size(); ++n) by_name[n] = n;
  std::stable_sort(by_name.begin(), by_name.end(),
                   [&](std::size_t a, std::size_t b) { return buffers[a].name < buffers[b].name; });
  for (std::size_t n = 1; n < by_name.size(); ++n) {
    const BufferSpec& first = buffers[by_name[n - 1]];
    const BufferSpec& second = buffers[by_name[n]];
    if (first.name != second.name) continue;
    const auto size = [](const BufferSpec& buffer) {
      return buffer.bytes.expression.empty() ? std::to_string(buffer.bytes.value)
                                             : quoted(buffer.bytes.expression);
    };
    return invalid("buffers " + std::to_string(by_name[n - 1]) + " and " +
                   std::to_string(by_name[n]) + " are both named " + quoted(first.name) +
                   ", with sizes " + size(first) + " and " + size(second) + "; names must differ");
  }
  return {};
}

// --- The request as a whole --------------------------------------------------------------------

Result<std::vector<std::string>> decode_parameter_names(const StringVector* names) {
  KAAS_RETURN_IF_ERROR(check_count("parameters", count(names), kParametersMax));
  std::vector<std::string> parameters;
  for (std::size_t n = 0; n < count(names); ++n) {
    const std::string label = "parameter " + std::to_string(n);
    KAAS_ASSIGN_OR_RETURN(
        auto name, named(label_of("parameter", n),
                         decode_name(names->Get(static_cast<unsigned>(n)), "name", kNameBytesMax)));
    if (!is_parameter_name(name)) {
      return invalid(label + " is named " + quoted(name) +
                     "; allowed are letters, digits and '_', not a digit first, and not the name "
                     "of a function (ceil_div, min, max)");
    }
    if (std::find(parameters.begin(), parameters.end(), name) != parameters.end()) {
      return invalid(label + " is named " + quoted(name) + " like an earlier one");
    }
    parameters.push_back(std::move(name));
  }
  return parameters;
}

Result<void> decode_until(const wire::Request& request, RequestSpec& spec) {
  const std::int32_t until = request.until();
  if (until == -1) return {};
  if (until < 0 || static_cast<std::size_t>(until) >= spec.buffers.size()) {
    return invalid("until names buffer " + std::to_string(until) + ", request has " +
                   std::to_string(spec.buffers.size()) + " buffers");
  }
  const BufferSpec& buffer = spec.buffers[static_cast<std::size_t>(until)];
  if (buffer.bytes.expression.empty() && buffer.bytes.value < sizeof(std::uint32_t)) {
    return invalid("until names buffer " + std::to_string(until) + " (" + quoted(buffer.name) +
                   ") of " + std::to_string(buffer.bytes.value) + " bytes, needs 4 for a u32");
  }
  spec.until = static_cast<std::uint16_t>(until);
  return {};
}

Result<RequestSpec> decode_verified(const wire::Request& request) {
  RequestSpec spec;
  std::size_t payload_bytes = 0;
  const std::size_t buffer_count = count(request.buffers());
  if (count(request.kernels()) == 0) return invalid("request has no kernels, needs at least 1");
  KAAS_RETURN_IF_ERROR(check_count("kernels", count(request.kernels()), kKernelsMax));
  KAAS_RETURN_IF_ERROR(check_count("buffers", buffer_count, kBuffersMax));

  spec.buffers.reserve(buffer_count);
  for (std::size_t n = 0; n < buffer_count; ++n) {
    KAAS_ASSIGN_OR_RETURN(
        auto buffer,
        decode_buffer(*request.buffers()->Get(static_cast<unsigned>(n)), n, payload_bytes));
    spec.buffers.push_back(std::move(buffer));
  }
  KAAS_RETURN_IF_ERROR(check_names_unique(spec.buffers));
  spec.kernels.reserve(count(request.kernels()));
  for (std::size_t n = 0; n < count(request.kernels()); ++n) {
    KAAS_ASSIGN_OR_RETURN(auto kernel,
                          decode_kernel(*request.kernels()->Get(static_cast<unsigned>(n)), n,
                                        buffer_count, payload_bytes));
    spec.kernels.push_back(std::move(kernel));
  }
  KAAS_ASSIGN_OR_RETURN(spec.parameters, decode_parameter_names(request.parameters()));
  KAAS_ASSIGN_OR_RETURN(spec.n_iter,
                        decode_integer(request.n_iter(), request.n_iter_expression(), "n_iter"));
  if (spec.n_iter.expression.empty()) {
    KAAS_RETURN_IF_ERROR(check_between("n_iter", spec.n_iter.value, 1, kIterationsMax));
  }
  KAAS_RETURN_IF_ERROR(decode_until(request, spec));
  return spec;
}

}  // namespace

Result<RequestSpec> decode_request(std::span<const std::byte> bytes) {
  if (bytes.size() > kMessageBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "request bytes", bytes.size(), kMessageBytesMax);
  }
  // Scalars are read in place, so they must lie as the builder aligned them.
  std::vector<std::uint64_t> aligned;
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(std::uint64_t) != 0) {
    aligned.resize(bytes.size() / sizeof(std::uint64_t) + 1);
    std::memcpy(aligned.data(), bytes.data(), bytes.size());
    bytes = {reinterpret_cast<const std::byte*>(aligned.data()), bytes.size()};
  }
  const auto* request = verified_root<wire::Request>(bytes);
  if (request == nullptr) {
    return Status{StatusCode::ProtocolViolation,
                  "request of " + std::to_string(bytes.size()) + " bytes is malformed"};
  }
  return decode_verified(*request);
}

}  // namespace kaas
