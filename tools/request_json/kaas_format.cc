// Our own format: the request as it is, with expressions over parameters.
#include <algorithm>
#include <array>
#include <limits>

#include "schema/limits.h"
#include "tools/request_json/fields.h"

namespace kaas {
namespace {

constexpr std::array<std::string_view, 8> kRequestFields{
    "format", "function", "parameters", "buffers", "kernels", "n_iter", "until", "comment"};
constexpr std::array<std::string_view, 10> kBufferFields{
    "name",  "size",      "offset",   "key",   "ephemeral",
    "const", "zero_fill", "resident", "where", "data"};
constexpr std::array<std::string_view, 12> kKernelFields{
    "library",     "kernel",       "grid",     "block",     "shared_bytes", "cluster",
    "cooperative", "programmatic", "literals", "arguments", "order",        "comment"};
constexpr std::array<std::string_view, 2> kRawFields{"raw", "slots"};
constexpr std::array<std::string_view, 2> kTypedFields{"type", "value"};
constexpr std::array<std::string_view, 2> kSlotFields{"offset", "buffer"};
constexpr DimensionLimits kClusterLimits{kClusterBlocksMax, kClusterBlocksMax, kClusterBlocksMax};

constexpr const char* kLiteralAllowed =
    "{TYPE: value}, {\"type\": TYPE, \"value\": value} or {\"raw\": bytes, \"slots\": [...]} with "
    "TYPE one of i32, u32, i64, u64, f32, f64, i, f, d, Q";

// One import: reads the tree and writes the builder.
class KaasImporter {
 public:
  Result<JsonRequest> run(const JsonNode& root) {
    KAAS_RETURN_IF_ERROR(root.has_only(kRequestFields));
    std::string function;
    if (const auto node = root.find("function")) {
      KAAS_ASSIGN_OR_RETURN(function, node->text(kNameBytesMax));
    }
    KAAS_RETURN_IF_ERROR(read_parameters(root));
    KAAS_RETURN_IF_ERROR(read_buffers(root));
    KAAS_ASSIGN_OR_RETURN(const JsonNode list, root.field("kernels"));
    KAAS_ASSIGN_OR_RETURN(const auto kernels, list.elements(1, kKernelsMax));
    for (const JsonNode& kernel : kernels) KAAS_RETURN_IF_ERROR(read_kernel(kernel));
    KAAS_RETURN_IF_ERROR(read_iterations(root));
    KAAS_ASSIGN_OR_RETURN(Request request, builder_.build());
    return JsonRequest{RequestFormat::Kaas, std::move(request), std::move(function),
                       std::move(parameters_), buffers_.take()};
  }

 private:
  Result<void> read_parameters(const JsonNode& root) {
    const auto list = root.find("parameters");
    if (!list) return {};
    KAAS_ASSIGN_OR_RETURN(const auto nodes, list->elements(0, kParametersMax));
    for (const JsonNode& node : nodes) {
      KAAS_ASSIGN_OR_RETURN(std::string name, node.text(kNameBytesMax));
      if (std::find(parameters_.begin(), parameters_.end(), name) != parameters_.end()) {
        return node.fault("names the parameter " + shown(name) + " a second time");
      }
      builder_.parameter(name);
      parameters_.push_back(std::move(name));
    }
    return {};
  }

  Result<void> read_iterations(const JsonNode& root) {
    if (const auto node = root.find("n_iter")) {
      if (node->is_text()) {
        KAAS_ASSIGN_OR_RETURN(const std::string expression, node->text(kExpressionBytesMax));
        builder_.n_iter(expression);
      } else {
        KAAS_ASSIGN_OR_RETURN(const std::uint64_t times, node->natural(1, kIterationsMax));
        builder_.n_iter(times);
      }
    }
    if (const auto node = root.find("until")) {
      KAAS_ASSIGN_OR_RETURN(const std::string buffer, buffers_.read_reference(*node));
      builder_.until(buffer);
    }
    return {};
  }

  // --- Buffers -----------------------------------------------------------------------------------

  Result<void> read_buffers(const JsonNode& root) {
    const auto list = root.find("buffers");
    if (!list) return {};
    KAAS_ASSIGN_OR_RETURN(const auto nodes, list->elements(0, kBuffersMax));
    for (const JsonNode& node : nodes) KAAS_RETURN_IF_ERROR(read_buffer(node));
    return {};
  }

  static Result<bool> read_flag(const JsonNode& node, std::string_view field) {
    const auto flag = node.find(field);
    return flag ? flag->flag() : Result<bool>(false);
  }

  // "inline": true. Bytes given say so too.
  static Result<bool> read_is_inline(const JsonNode& node) {
    const bool has_data = node.find("data").has_value();
    const auto where = node.find("where");
    if (!where) return has_data;
    const auto text = where->is_text() ? where->text(kNameBytesMax) : Result<std::string>("");
    if (text.has_value() && *text == "inline") return true;
    if (text.has_value() && *text == "store") {
      if (has_data) return node.fault("is in the store and gives 'data'; only 'inline' may");
      return false;
    }
    if (text.has_value() && *text == "arena") {
      return where->fault(
          "is 'arena', which a file can't name; say 'store' and bind the buffer to shared memory "
          "in each call");
    }
    return where->wrong("'store' or 'inline'");
  }

  Result<void> read_buffer(const JsonNode& node) {
    KAAS_RETURN_IF_ERROR(node.has_only(kBufferFields));
    KAAS_ASSIGN_OR_RETURN(const JsonNode name_node, node.field("name"));
    KAAS_ASSIGN_OR_RETURN(const std::string name, name_node.text(kNameBytesMax));
    KAAS_ASSIGN_OR_RETURN(const bool is_inline, read_is_inline(node));
    KAAS_ASSIGN_OR_RETURN(const bool ephemeral, read_flag(node, "ephemeral"));
    std::vector<std::byte> data;
    if (const auto given = node.find("data")) {
      KAAS_ASSIGN_OR_RETURN(data, given->bytes(kInlineBytesMax));
    }
    std::uint64_t bytes = data.size();
    std::string expression;
    KAAS_RETURN_IF_ERROR(read_size(node, is_inline, !data.empty(), bytes, expression));
    if (!buffers_.add(name, bytes, ephemeral)) {
      return name_node.fault("declares " + shown(name) + " a second time");
    }
    BufferBuilder buffer =
        expression.empty() ? builder_.buffer(name, bytes) : builder_.buffer(name, expression);
    KAAS_RETURN_IF_ERROR(read_place(node, is_inline, data, buffer));
    KAAS_ASSIGN_OR_RETURN(const bool constant, read_flag(node, "const"));
    KAAS_ASSIGN_OR_RETURN(const bool zero_fill, read_flag(node, "zero_fill"));
    KAAS_ASSIGN_OR_RETURN(const bool resident, read_flag(node, "resident"));
    buffer.ephemeral(ephemeral).constant(constant).zero_fill(zero_fill).resident(resident);
    return {};
  }

  // The size is the data's when there are data and no other is given.
  static Result<void> read_size(const JsonNode& node, bool is_inline, bool has_data,
                                std::uint64_t& bytes, std::string& expression) {
    const auto given = node.find("size");
    if (!given && has_data) return {};
    KAAS_ASSIGN_OR_RETURN(const JsonNode size, node.field("size"));
    if (size.is_text()) {
      KAAS_ASSIGN_OR_RETURN(expression, size.text(kExpressionBytesMax));
      bytes = 0;
      return {};
    }
    KAAS_ASSIGN_OR_RETURN(bytes, size.natural(1, is_inline ? kInlineBytesMax : kBufferBytesMax));
    return {};
  }

  static Result<void> read_place(const JsonNode& node, bool is_inline,
                                 const std::vector<std::byte>& data, BufferBuilder& buffer) {
    const auto key = node.find("key");
    const auto offset = node.find("offset");
    if (is_inline) {
      if (key) return key->fault("belongs to a buffer in the store; this one is inline");
      if (offset) return offset->fault("belongs to a buffer in the store; this one is inline");
      if (data.empty()) {
        buffer.in_message();
      } else {
        buffer.inline_bytes(data);
      }
      return {};
    }
    if (key) {
      KAAS_ASSIGN_OR_RETURN(const std::string text, key->text(kKeyBytesMax));
      buffer.at(text);
    }
    if (!offset) return {};
    if (offset->is_text()) {
      KAAS_ASSIGN_OR_RETURN(const std::string text, offset->text(kExpressionBytesMax));
      buffer.offset(text);
      return {};
    }
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t number,
                          offset->natural(0, std::numeric_limits<std::uint64_t>::max()));
    buffer.offset(number);
    return {};
  }

  // --- Kernels -----------------------------------------------------------------------------------

  Result<void> read_kernel(const JsonNode& node) {
    KAAS_RETURN_IF_ERROR(node.has_only(kKernelFields));
    KAAS_ASSIGN_OR_RETURN(const JsonNode library_node, node.field("library"));
    KAAS_ASSIGN_OR_RETURN(const std::string library, library_node.text(kPathBytesMax));
    KAAS_ASSIGN_OR_RETURN(const JsonNode name_node, node.field("kernel"));
    KAAS_ASSIGN_OR_RETURN(const std::string name, name_node.text(kNameBytesMax));
    KernelBuilder kernel = builder_.kernel(library, name);
    KAAS_RETURN_IF_ERROR(read_shape(node, kernel));
    if (const auto shared = node.find("shared_bytes")) {
      KAAS_ASSIGN_OR_RETURN(const std::uint64_t bytes, shared->natural(0, kSharedBytesMax));
      kernel.shared_bytes(static_cast<std::uint32_t>(bytes));
    }
    if (const auto cluster = node.find("cluster")) {
      KAAS_ASSIGN_OR_RETURN(const Dimensions blocks,
                            read_dimensions(*cluster, kClusterLimits, Expressions::Refused));
      kernel.cluster(blocks.numbers[0], blocks.numbers[1], blocks.numbers[2]);
    }
    KAAS_ASSIGN_OR_RETURN(const bool cooperative, read_flag(node, "cooperative"));
    KAAS_ASSIGN_OR_RETURN(const bool programmatic, read_flag(node, "programmatic"));
    kernel.cooperative(cooperative).programmatic(programmatic);
    KAAS_ASSIGN_OR_RETURN(const std::size_t literals, read_literals(node, kernel));
    KAAS_ASSIGN_OR_RETURN(const std::size_t arguments, read_arguments(node, kernel));
    return read_order(node, literals + arguments, kernel);
  }

  static Result<void> read_shape(const JsonNode& node, KernelBuilder& kernel) {
    KAAS_ASSIGN_OR_RETURN(const JsonNode grid_node, node.field("grid"));
    KAAS_ASSIGN_OR_RETURN(const Dimensions grid,
                          read_dimensions(grid_node, kGridLimits, Expressions::Allowed));
    KAAS_ASSIGN_OR_RETURN(const JsonNode block_node, node.field("block"));
    KAAS_ASSIGN_OR_RETURN(const Dimensions block,
                          read_dimensions(block_node, kBlockLimits, Expressions::Allowed));
    if (grid.has_expression()) {
      kernel.grid(grid.as_expression());
    } else {
      kernel.grid(grid.numbers[0], grid.numbers[1], grid.numbers[2]);
    }
    if (block.has_expression()) {
      kernel.block(block.as_expression());
    } else {
      kernel.block(block.numbers[0], block.numbers[1], block.numbers[2]);
    }
    return {};
  }

  Result<std::size_t> read_literals(const JsonNode& node, KernelBuilder& kernel) {
    const auto list = node.find("literals");
    if (!list) return std::size_t{0};
    KAAS_ASSIGN_OR_RETURN(const auto literals, list->elements(0, kLiteralsPerKernelMax));
    for (const JsonNode& literal : literals) {
      if (literal.find("raw")) {
        KAAS_RETURN_IF_ERROR(read_raw(literal, kernel));
      } else {
        KAAS_RETURN_IF_ERROR(read_number(literal, kernel));
      }
    }
    return literals.size();
  }

  // {"i32": 1}, or {"type": "i32", "value": 1}.
  static Result<void> read_number(const JsonNode& node, KernelBuilder& kernel) {
    const auto keys = node.keys();
    if (keys.size() == 1 && keys[0] != "type" && keys[0] != "value") {
      const auto type = literal_type_of(keys[0]);
      if (!type)
        return node.fault("has the unknown field " + shown(keys[0]) + ", allowed " +
                          kLiteralAllowed);
      KAAS_ASSIGN_OR_RETURN(const JsonNode value, node.field(keys[0]));
      return add_number(*type, value, kernel);
    }
    if (keys.empty()) return node.wrong(kLiteralAllowed);
    KAAS_RETURN_IF_ERROR(node.has_only(kTypedFields));
    KAAS_ASSIGN_OR_RETURN(const JsonNode type_node, node.field("type"));
    KAAS_ASSIGN_OR_RETURN(const LiteralType type, read_literal_type(type_node));
    KAAS_ASSIGN_OR_RETURN(const JsonNode value, node.field("value"));
    return add_number(type, value, kernel);
  }

  static Result<void> add_number(LiteralType type, const JsonNode& value, KernelBuilder& kernel) {
    const bool is_real = type == LiteralType::F32 || type == LiteralType::F64;
    if (value.is_text() && !is_real) {
      KAAS_ASSIGN_OR_RETURN(const std::string expression, value.text(kExpressionBytesMax));
      kernel.literal(type, expression);
      return {};
    }
    KAAS_ASSIGN_OR_RETURN(const std::uint64_t bits, read_literal_bits(type, value));
    kernel.literal_bits(type, bits);
    return {};
  }

  Result<void> read_raw(const JsonNode& node, KernelBuilder& kernel) {
    KAAS_RETURN_IF_ERROR(node.has_only(kRawFields));
    KAAS_ASSIGN_OR_RETURN(const JsonNode raw, node.field("raw"));
    KAAS_ASSIGN_OR_RETURN(const auto bytes, raw.bytes(kRawLiteralBytesMax));
    std::vector<AddressSlot> slots;
    if (const auto list = node.find("slots")) {
      KAAS_ASSIGN_OR_RETURN(const auto nodes, list->elements(0, kAddressSlotsMax));
      for (const JsonNode& slot : nodes) {
        KAAS_RETURN_IF_ERROR(slot.has_only(kSlotFields));
        if (bytes.size() < sizeof(std::uint64_t)) {
          return slot.fault("needs 8 bytes; the literal has " + std::to_string(bytes.size()));
        }
        KAAS_ASSIGN_OR_RETURN(const JsonNode offset_node, slot.field("offset"));
        KAAS_ASSIGN_OR_RETURN(const std::uint64_t offset,
                              offset_node.natural(0, bytes.size() - sizeof(std::uint64_t)));
        KAAS_ASSIGN_OR_RETURN(const JsonNode buffer_node, slot.field("buffer"));
        KAAS_ASSIGN_OR_RETURN(std::string buffer, buffers_.read_reference(buffer_node));
        slots.push_back({static_cast<std::uint32_t>(offset), std::move(buffer)});
      }
    }
    kernel.raw(bytes, std::move(slots));
    return {};
  }

  Result<std::size_t> read_arguments(const JsonNode& node, KernelBuilder& kernel) {
    const auto list = node.find("arguments");
    if (!list) return std::size_t{0};
    KAAS_ASSIGN_OR_RETURN(const auto arguments, list->elements(0, kArgumentsPerKernelMax));
    for (const JsonNode& argument : arguments) {
      const auto pair = argument.elements(2, 2);
      if (!pair.has_value()) return argument.wrong("[buffer, type]");
      KAAS_ASSIGN_OR_RETURN(const std::string name, buffers_.read_reference((*pair)[0]));
      KAAS_ASSIGN_OR_RETURN(const ArgumentType type, read_argument_type((*pair)[1]));
      add_argument(kernel, name, type);
      buffers_.use(name, type);
    }
    return arguments.size();
  }

  static Result<void> read_order(const JsonNode& node, std::size_t values, KernelBuilder& kernel) {
    const auto list = node.find("order");
    if (!list) return {};
    KAAS_ASSIGN_OR_RETURN(const auto places, list->elements(0, values));
    std::vector<std::uint16_t> order;
    for (const JsonNode& place : places) {
      KAAS_ASSIGN_OR_RETURN(const std::uint64_t value, place.natural(0, values - 1));
      order.push_back(static_cast<std::uint16_t>(value));
    }
    kernel.order(std::move(order));
    return {};
  }

  RequestBuilder builder_;
  BufferTable buffers_;
  std::vector<std::string> parameters_;
};

}  // namespace

Result<JsonRequest> import_kaas(const JsonNode& root) {
  return KaasImporter().run(root);
}

}  // namespace kaas
