// The two formats of the original research system. They differ in how a kernel's shape is spelled,
// in literals, and in what they mean: in the later one each `o` was written back, ephemeral or not,
// and a declared size could exceed the object.
#include <array>
#include <limits>

#include "schema/limits.h"
#include "tools/request_json/fields.h"

namespace kaas {
namespace {

constexpr std::array<std::string_view, 5> kRequestFields{"format", "kernels", "buffers", "nIter",
                                                         "comment"};
constexpr std::array<std::string_view, 6> kBufferFields{"name",   "size",      "key",
                                                        "offset", "ephemeral", "const"};
constexpr std::array<std::string_view, 10> kOlderFields{
    "library",   "kernel",  "nGrid",  "nBlock", "arguments",
    "type_list", "ioTypes", "inputs", "temps",  "outputs"};
constexpr std::array<std::string_view, 13> kLaterFields{
    "library",   "kernel",  "gridDim", "blockDim", "sharedSize", "literals", "arguments",
    "type_list", "ioTypes", "inputs",  "temps",    "outputs",    "name"};
constexpr std::array<std::string_view, 2> kPairFields{"buffer", "io"};
constexpr std::array<std::string_view, 3> kLiteralFields{"type", "value", "val"};

constexpr const char* kArgumentAllowed =
    "a buffer (its name or an object), [buffer, type] or {\"buffer\": ..., \"io\": type}";

struct OriginalBuffer {
  std::string name;
  std::uint64_t bytes = 0;
  std::string key;  // Empty: the name.
  std::uint64_t offset = 0;
  bool ephemeral = false;
  bool constant = false;
  bool is_written = false;  // By an argument of type `o`.
  std::string path;         // Where it was declared first.

  [[nodiscard]] bool same_as(const OriginalBuffer& other) const {
    return bytes == other.bytes && key == other.key && offset == other.offset &&
           ephemeral == other.ephemeral && constant == other.constant;
  }
};

struct OriginalLiteral {
  LiteralType type;
  std::uint64_t bits;
};

struct OriginalArgument {
  std::string buffer;
  ArgumentType type;
};

struct OriginalKernel {
  std::string library;
  std::string kernel;
  Dimensions grid;
  Dimensions block;
  std::uint32_t shared_bytes = 0;
  std::vector<OriginalLiteral> literals;
  std::vector<OriginalArgument> arguments;
};

// One import. Buffers are declared where they are used, and a later use can change what an earlier
// one means, so everything is read before anything is written.
class OriginalImporter {
 public:
  explicit OriginalImporter(RequestFormat format)
      : format_(format), is_later_(format == RequestFormat::OriginalLater) {}

  Result<JsonRequest> run(const JsonNode& root) {
    KAAS_RETURN_IF_ERROR(root.has_only(kRequestFields));
    if (const auto list = root.find("buffers")) {
      KAAS_ASSIGN_OR_RETURN(const auto nodes, list->elements(0, kBuffersMax));
      for (const JsonNode& node : nodes) {
        KAAS_RETURN_IF_ERROR(declare(node));
      }
    }
    KAAS_ASSIGN_OR_RETURN(const JsonNode list, root.field("kernels"));
    KAAS_ASSIGN_OR_RETURN(const auto kernels, list.elements(1, kKernelsMax));
    for (const JsonNode& kernel : kernels) KAAS_RETURN_IF_ERROR(read_kernel(kernel));
    if (const auto node = root.find("nIter")) {
      KAAS_ASSIGN_OR_RETURN(n_iter_, node->natural(1, kIterationsMax));
    }
    return write();
  }

 private:
  // --- Buffers -----------------------------------------------------------------------------------

  // Reads a buffer object. The same buffer may be declared again, where it is used again.
  Result<std::string> declare(const JsonNode& node) {
    KAAS_RETURN_IF_ERROR(node.has_only(kBufferFields));
    OriginalBuffer buffer;
    buffer.path = node.path();
    KAAS_ASSIGN_OR_RETURN(const JsonNode name, node.field("name"));
    KAAS_ASSIGN_OR_RETURN(buffer.name, name.text(kNameBytesMax));
    KAAS_ASSIGN_OR_RETURN(const JsonNode size, node.field("size"));
    KAAS_ASSIGN_OR_RETURN(buffer.bytes, size.natural(1, kBufferBytesMax));
    if (const auto key = node.find("key")) {
      KAAS_ASSIGN_OR_RETURN(buffer.key, key->text(kKeyBytesMax));
    }
    if (const auto offset = node.find("offset")) {
      KAAS_ASSIGN_OR_RETURN(buffer.offset,
                            offset->natural(0, std::numeric_limits<std::uint64_t>::max()));
    }
    if (const auto flag = node.find("ephemeral")) {
      KAAS_ASSIGN_OR_RETURN(buffer.ephemeral, flag->flag());
    }
    if (const auto flag = node.find("const")) {
      KAAS_ASSIGN_OR_RETURN(buffer.constant, flag->flag());
    }
    if (buffer.key == buffer.name) buffer.key.clear();
    return remember(node, std::move(buffer));
  }

  Result<std::string> remember(const JsonNode& node, OriginalBuffer buffer) {
    const auto position = index_.find(buffer.name);
    if (position == index_.end()) {
      if (buffers_.size() == kBuffersMax) {
        return over_limit(StatusCode::InvalidArgument, "the number of buffers", buffers_.size() + 1,
                          kBuffersMax);
      }
      index_.emplace(buffer.name, buffers_.size());
      buffers_.push_back(std::move(buffer));
      return buffers_.back().name;
    }
    const OriginalBuffer& first = buffers_[position->second];
    if (first.bytes != buffer.bytes) {
      return node.fault("declares " + shown(buffer.name) + " with size " +
                        std::to_string(buffer.bytes) + ", but " + first.path + " with size " +
                        std::to_string(first.bytes) + "; one name is one buffer");
    }
    if (!first.same_as(buffer)) {
      return node.fault("declares " + shown(buffer.name) +
                        " with another key, offset, ephemeral or const than " + first.path +
                        "; one name is one buffer");
    }
    return first.name;
  }

  Result<std::string> read_buffer(const JsonNode& node) {
    if (node.is_object()) return declare(node);
    if (!node.is_text()) return node.wrong("a buffer: its name or an object");
    KAAS_ASSIGN_OR_RETURN(std::string name, node.text(kNameBytesMax));
    if (index_.contains(name)) return name;
    std::vector<std::string_view> names;
    names.reserve(buffers_.size());
    for (const OriginalBuffer& buffer : buffers_) names.emplace_back(buffer.name);
    return node.fault("names the buffer " + shown(name) + ", which is not declared" +
                      nearest_of(name, names));
  }

  // --- Kernels -----------------------------------------------------------------------------------

  Result<void> read_kernel(const JsonNode& node) {
    KAAS_RETURN_IF_ERROR(is_later_ ? node.has_only(kLaterFields) : node.has_only(kOlderFields));
    OriginalKernel kernel;
    KAAS_ASSIGN_OR_RETURN(const JsonNode library, node.field("library"));
    KAAS_ASSIGN_OR_RETURN(kernel.library, library.text(kPathBytesMax));
    KAAS_ASSIGN_OR_RETURN(const JsonNode name, node.field("kernel"));
    KAAS_ASSIGN_OR_RETURN(kernel.kernel, name.text(kNameBytesMax));
    KAAS_ASSIGN_OR_RETURN(const JsonNode grid, node.field(is_later_ ? "gridDim" : "nGrid"));
    KAAS_ASSIGN_OR_RETURN(kernel.grid, read_dimensions(grid, kGridLimits, Expressions::Refused));
    KAAS_ASSIGN_OR_RETURN(const JsonNode block, node.field(is_later_ ? "blockDim" : "nBlock"));
    KAAS_ASSIGN_OR_RETURN(kernel.block, read_dimensions(block, kBlockLimits, Expressions::Refused));
    if (const auto shared = node.find("sharedSize")) {
      KAAS_ASSIGN_OR_RETURN(const std::uint64_t bytes, shared->natural(0, kSharedBytesMax));
      kernel.shared_bytes = static_cast<std::uint32_t>(bytes);
    }
    KAAS_RETURN_IF_ERROR(read_literals(node, kernel));
    KAAS_RETURN_IF_ERROR(read_arguments(node, kernel));
    kernels_.push_back(std::move(kernel));
    return {};
  }

  // {"type": "i", "value": 1}, "val" instead of "value", or ["i", 1].
  static Result<void> read_literals(const JsonNode& node, OriginalKernel& kernel) {
    const auto list = node.find("literals");
    if (!list) return {};
    KAAS_ASSIGN_OR_RETURN(const auto literals, list->elements(0, kLiteralsPerKernelMax));
    for (const JsonNode& literal : literals) {
      std::optional<JsonNode> type = literal.find("type");
      std::optional<JsonNode> value = literal.find("value");
      if (literal.is_list()) {
        KAAS_ASSIGN_OR_RETURN(const auto pair, literal.elements(2, 2));
        type = pair[0];
        value = pair[1];
      } else {
        KAAS_RETURN_IF_ERROR(literal.has_only(kLiteralFields));
        if (const auto val = literal.find("val")) {
          if (value) return literal.fault("has both 'value' and 'val'; one is enough");
          value = val;
        }
      }
      if (!type) return literal.fault("lacks the field 'type'");
      if (!value) return literal.fault("lacks the field 'value'");
      KAAS_ASSIGN_OR_RETURN(const LiteralType parsed, read_type(*type));
      KAAS_ASSIGN_OR_RETURN(const std::uint64_t bits, read_literal_bits(parsed, *value));
      kernel.literals.push_back({parsed, bits});
    }
    return {};
  }

  static Result<LiteralType> read_type(const JsonNode& node) {
    if (node.is_text()) {
      const auto text = node.text(kNameBytesMax);
      const bool is_letter = text.has_value() && text->size() == 1;
      const auto type = is_letter ? literal_type_of(*text) : std::nullopt;
      if (type) return *type;
    }
    return node.wrong("'i', 'f', 'd' or 'Q'");
  }

  Result<void> read_arguments(const JsonNode& node, OriginalKernel& kernel) {
    const auto list = node.find("arguments");
    if (!list) return read_argument_lists(node, kernel);
    KAAS_ASSIGN_OR_RETURN(const auto arguments, list->elements(0, kArgumentsPerKernelMax));
    KAAS_ASSIGN_OR_RETURN(const auto types, read_type_list(node, arguments.size()));
    for (std::size_t n = 0; n < arguments.size(); ++n) {
      const JsonNode& argument = arguments[n];
      std::optional<JsonNode> buffer = argument;
      std::optional<JsonNode> type;
      if (argument.is_list()) {
        const auto pair = argument.elements(2, 2);
        if (!pair.has_value()) return argument.wrong(kArgumentAllowed);
        buffer = (*pair)[0];
        type = (*pair)[1];
      } else if (argument.find("buffer")) {
        KAAS_RETURN_IF_ERROR(argument.has_only(kPairFields));
        buffer = argument.find("buffer");
        KAAS_ASSIGN_OR_RETURN(type, argument.field("io"));
      } else if (!argument.is_text() && !argument.is_object()) {
        return argument.wrong(kArgumentAllowed);
      }
      if (type && !types.empty()) {
        return argument.fault("gives its type, and so does 'type_list'; one is enough");
      }
      if (!type && types.empty()) {
        return argument.fault("has no type; give it here ([buffer, type]) or in 'type_list'");
      }
      KAAS_RETURN_IF_ERROR(add_argument_of(*buffer, type ? *type : types[n], kernel));
    }
    return {};
  }

  // The types beside the arguments; empty when there are none.
  static Result<std::vector<JsonNode>> read_type_list(const JsonNode& node, std::size_t count) {
    auto list = node.find("type_list");
    if (const auto other = node.find("ioTypes")) {
      if (list) return node.fault("has both 'type_list' and 'ioTypes'; one is enough");
      list = other;
    }
    if (!list) return std::vector<JsonNode>{};
    KAAS_ASSIGN_OR_RETURN(auto types, list->elements(0, kArgumentsPerKernelMax));
    if (types.size() != count) {
      return list->fault("has " + std::to_string(types.size()) + " types for " +
                         std::to_string(count) + " arguments");
    }
    return types;
  }

  Result<void> add_argument_of(const JsonNode& buffer_node, const JsonNode& type_node,
                               OriginalKernel& kernel) {
    KAAS_ASSIGN_OR_RETURN(std::string name, read_buffer(buffer_node));
    KAAS_ASSIGN_OR_RETURN(const ArgumentType type, read_argument_type(type_node));
    add_argument_to(kernel, std::move(name), type);
    return {};
  }

  void add_argument_to(OriginalKernel& kernel, std::string name, ArgumentType type) {
    if (type == ArgumentType::Out) buffers_[index_.find(name)->second].is_written = true;
    kernel.arguments.push_back({std::move(name), type});
  }

  // The oldest spelling: three lists instead of typed arguments. The kernel receives the inputs,
  // the temporaries, and the outputs that are not among the inputs.
  Result<void> read_argument_lists(const JsonNode& node, OriginalKernel& kernel) {
    for (const auto& [field, type] :
         {std::pair{"inputs", ArgumentType::In}, std::pair{"temps", ArgumentType::Temporary},
          std::pair{"outputs", ArgumentType::Out}}) {
      const auto list = node.find(field);
      if (!list) continue;
      KAAS_ASSIGN_OR_RETURN(const auto nodes, list->elements(0, kArgumentsPerKernelMax));
      for (const JsonNode& buffer : nodes) {
        KAAS_ASSIGN_OR_RETURN(std::string name, read_buffer(buffer));
        if (type == ArgumentType::Out && make_in_place(kernel, name)) continue;
        add_argument_to(kernel, std::move(name), type);
      }
    }
    if (kernel.arguments.size() > kArgumentsPerKernelMax) {
      return node.fault("has " + std::to_string(kernel.arguments.size()) + " arguments, limit " +
                        std::to_string(kArgumentsPerKernelMax));
    }
    return {};
  }

  // An output that is an input as well is one argument, changed in place.
  static bool make_in_place(OriginalKernel& kernel, const std::string& name) {
    for (OriginalArgument& argument : kernel.arguments) {
      if (argument.buffer != name || argument.type == ArgumentType::Temporary) continue;
      argument.type = ArgumentType::InOut;
      return true;
    }
    return false;
  }

  // --- Writing -----------------------------------------------------------------------------------

  Result<JsonRequest> write() {
    RequestBuilder builder;
    BufferTable table;
    for (const OriginalBuffer& buffer : buffers_) {
      const bool ephemeral = buffer.ephemeral && !(is_later_ && buffer.is_written);
      table.add(buffer.name, buffer.bytes, ephemeral);
      builder.buffer(buffer.name, buffer.bytes)
          .at(buffer.key.empty() ? buffer.name : buffer.key, buffer.offset)
          .ephemeral(ephemeral)
          .constant(buffer.constant)
          .zero_fill(is_later_);
    }
    for (const OriginalKernel& kernel : kernels_) {
      KernelBuilder written = builder.kernel(kernel.library, kernel.kernel);
      written.grid(kernel.grid.numbers[0], kernel.grid.numbers[1], kernel.grid.numbers[2])
          .block(kernel.block.numbers[0], kernel.block.numbers[1], kernel.block.numbers[2])
          .shared_bytes(kernel.shared_bytes);
      for (const OriginalLiteral& literal : kernel.literals) {
        written.literal_bits(literal.type, literal.bits);
      }
      for (const OriginalArgument& argument : kernel.arguments) {
        add_argument(written, argument.buffer, argument.type);
        table.use(argument.buffer, argument.type);
      }
    }
    builder.n_iter(n_iter_);
    KAAS_ASSIGN_OR_RETURN(Request request, builder.build());
    return JsonRequest{format_, std::move(request), {}, {}, table.take()};
  }

  RequestFormat format_;
  bool is_later_;
  std::uint64_t n_iter_ = 1;
  std::vector<OriginalBuffer> buffers_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::vector<OriginalKernel> kernels_;
};

}  // namespace

Result<JsonRequest> import_original(const JsonNode& root, RequestFormat format) {
  return OriginalImporter(format).run(root);
}

}  // namespace kaas
