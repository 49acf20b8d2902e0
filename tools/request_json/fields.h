// What the formats have in common: argument types, dimensions, literals, and the record of what
// becomes of each buffer.
// Threads: one.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/request_json/json_node.h"
#include "tools/request_json/request_json.h"

namespace kaas {

enum class ArgumentType : std::uint8_t { In, Out, InOut, Temporary };  // i, o, io, t.

Result<ArgumentType> read_argument_type(const JsonNode& node);
void add_argument(KernelBuilder& kernel, const std::string& buffer, ArgumentType type);

// A grid or block: numbers or, where allowed, expressions; absent dimensions are 1.
struct Dimensions {
  std::array<std::uint32_t, 3> numbers{1, 1, 1};
  std::array<std::string, 3> expressions;  // Empty: the number.

  [[nodiscard]] bool has_expression() const;
  // All of them as expressions.
  [[nodiscard]] DimExpression as_expression() const;
};
enum class Expressions : std::uint8_t { Refused, Allowed };
using DimensionLimits = std::array<std::uint32_t, 3>;
extern const DimensionLimits kGridLimits;
extern const DimensionLimits kBlockLimits;

// n, or a list of up to three.
Result<Dimensions> read_dimensions(const JsonNode& node, const DimensionLimits& limits,
                                   Expressions expressions);

// The type of a literal by its name: i32 u32 i64 u64 f32 f64, or i f d Q.
Result<LiteralType> read_literal_type(const JsonNode& node);
[[nodiscard]] std::optional<LiteralType> literal_type_of(std::string_view name);
// The bits of a number of that type; refuses what the type can't hold.
Result<std::uint64_t> read_literal_bits(LiteralType type, const JsonNode& node);

// The buffers of a request in order, and what its kernels make of them.
class BufferTable {
 public:
  // False: the name is taken.
  bool add(const std::string& name, std::uint64_t bytes, bool ephemeral);
  [[nodiscard]] bool contains(const std::string& name) const { return index_.contains(name); }
  // The table's own spelling of a name that `node` gives; fails with the nearest names.
  Result<std::string> read_reference(const JsonNode& node) const;
  // An argument of the next kernel.
  void use(const std::string& name, ArgumentType type);
  [[nodiscard]] std::vector<JsonBuffer> take() { return std::move(buffers_); }

 private:
  struct Use {
    std::size_t index;
    bool ephemeral;
    bool used = false;
  };
  std::vector<JsonBuffer> buffers_;
  std::map<std::string, Use, std::less<>> index_;
};

// The formats. The root's fields have not been looked at, but for finding the format.
Result<JsonRequest> import_kaas(const JsonNode& root);
Result<JsonRequest> import_original(const JsonNode& root, RequestFormat format);

}  // namespace kaas
