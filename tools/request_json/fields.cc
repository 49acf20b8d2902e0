#include "tools/request_json/fields.h"

#include <bit>
#include <limits>

#include "schema/limits.h"

namespace kaas {

const DimensionLimits kGridLimits{kGridXMax, kGridYzMax, kGridYzMax};
const DimensionLimits kBlockLimits{kBlockXyMax, kBlockXyMax, kBlockZMax};

Result<ArgumentType> read_argument_type(const JsonNode& node) {
  if (node.is_text()) {
    const auto text = node.text(kNameBytesMax);
    if (text.has_value() && *text == "i") return ArgumentType::In;
    if (text.has_value() && *text == "o") return ArgumentType::Out;
    if (text.has_value() && *text == "io") return ArgumentType::InOut;
    if (text.has_value() && *text == "t") return ArgumentType::Temporary;
  }
  return node.wrong("'i', 'o', 'io' or 't'");
}

void add_argument(KernelBuilder& kernel, const std::string& buffer, ArgumentType type) {
  switch (type) {
    case ArgumentType::In:
      kernel.in(buffer);
      return;
    case ArgumentType::Out:
      kernel.out(buffer);
      return;
    case ArgumentType::InOut:
      kernel.inout(buffer);
      return;
    case ArgumentType::Temporary:
      kernel.temporary(buffer);
      return;
  }
}

// --- Dimensions ----------------------------------------------------------------------------------

bool Dimensions::has_expression() const {
  return !expressions[0].empty() || !expressions[1].empty() || !expressions[2].empty();
}

DimExpression Dimensions::as_expression() const {
  std::array<std::string, 3> texts = expressions;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (texts[axis].empty()) texts[axis] = std::to_string(numbers[axis]);
  }
  return {texts[0], texts[1], texts[2]};
}

Result<Dimensions> read_dimensions(const JsonNode& node, const DimensionLimits& limits,
                                   Expressions expressions) {
  std::vector<JsonNode> axes{node};
  if (node.is_list()) {
    KAAS_ASSIGN_OR_RETURN(axes, node.elements(1, 3));
  }
  Dimensions dimensions;
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    if (axes[axis].is_text() && expressions == Expressions::Allowed) {
      KAAS_ASSIGN_OR_RETURN(dimensions.expressions[axis], axes[axis].text(kExpressionBytesMax));
      continue;
    }
    const auto number = axes[axis].natural(1, limits[axis]);
    if (number.has_value()) {
      dimensions.numbers[axis] = static_cast<std::uint32_t>(*number);
      continue;
    }
    std::string allowed = "a whole number from 1 to " + std::to_string(limits[axis]);
    if (expressions == Expressions::Allowed) allowed += " or an expression";
    if (!node.is_list()) allowed += ", or a list of up to three";
    return axes[axis].wrong(allowed);
  }
  return dimensions;
}

// --- Literals ------------------------------------------------------------------------------------

std::optional<LiteralType> literal_type_of(std::string_view name) {
  if (name == "i32" || name == "i") return LiteralType::I32;
  if (name == "u32") return LiteralType::U32;
  if (name == "i64") return LiteralType::I64;
  if (name == "u64" || name == "Q") return LiteralType::U64;
  if (name == "f32" || name == "f") return LiteralType::F32;
  if (name == "f64" || name == "d") return LiteralType::F64;
  return std::nullopt;
}

Result<LiteralType> read_literal_type(const JsonNode& node) {
  if (node.is_text()) {
    const auto text = node.text(kNameBytesMax);
    const auto type = text.has_value() ? literal_type_of(*text) : std::nullopt;
    if (type) return *type;
  }
  return node.wrong("i32, u32, i64, u64, f32, f64, or i, f, d, Q");
}

Result<std::uint64_t> read_literal_bits(LiteralType type, const JsonNode& node) {
  switch (type) {
    case LiteralType::I32: {
      using Limits = std::numeric_limits<std::int32_t>;
      KAAS_ASSIGN_OR_RETURN(const std::int64_t value, node.integer(Limits::min(), Limits::max()));
      return static_cast<std::uint32_t>(value);
    }
    case LiteralType::U32:
      return node.natural(0, std::numeric_limits<std::uint32_t>::max());
    case LiteralType::I64: {
      using Limits = std::numeric_limits<std::int64_t>;
      KAAS_ASSIGN_OR_RETURN(const std::int64_t value, node.integer(Limits::min(), Limits::max()));
      return static_cast<std::uint64_t>(value);
    }
    case LiteralType::U64:
      return node.natural(0, std::numeric_limits<std::uint64_t>::max());
    case LiteralType::F32: {
      KAAS_ASSIGN_OR_RETURN(const double value, node.number(std::numeric_limits<float>::max()));
      return std::bit_cast<std::uint32_t>(static_cast<float>(value));
    }
    case LiteralType::F64: {
      KAAS_ASSIGN_OR_RETURN(const double value, node.number(std::numeric_limits<double>::max()));
      return std::bit_cast<std::uint64_t>(value);
    }
  }
  return node.fault("has a literal type that does not exist");
}

// --- Buffers -------------------------------------------------------------------------------------

bool BufferTable::add(const std::string& name, std::uint64_t bytes, bool ephemeral) {
  const auto [position, is_new] = index_.try_emplace(name, Use{buffers_.size(), ephemeral});
  if (is_new) buffers_.push_back({name, bytes});
  return is_new;
}

Result<std::string> BufferTable::read_reference(const JsonNode& node) const {
  KAAS_ASSIGN_OR_RETURN(std::string name, node.text(kNameBytesMax));
  if (contains(name)) return name;
  std::vector<std::string_view> names;
  names.reserve(buffers_.size());
  for (const JsonBuffer& buffer : buffers_) names.emplace_back(buffer.name);
  return node.fault("names the buffer " + shown(name) + ", which is not declared" +
                    nearest_of(name, names));
}

void BufferTable::use(const std::string& name, ArgumentType type) {
  const auto position = index_.find(name);
  if (position == index_.end()) return;
  Use& use = position->second;
  JsonBuffer& buffer = buffers_[use.index];
  const bool reads = type == ArgumentType::In || type == ArgumentType::InOut;
  const bool writes = type == ArgumentType::Out || type == ArgumentType::InOut;
  if (!use.used) buffer.is_input = reads;
  use.used = true;
  if (writes && !use.ephemeral) buffer.is_output = true;
}

}  // namespace kaas
