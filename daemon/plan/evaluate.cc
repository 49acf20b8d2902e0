#include "daemon/plan/evaluate.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "daemon/flow/field_limits.h"
#include "daemon/flow/text.h"
#include "daemon/plan/expression.h"

namespace kaas {
namespace {

std::string quoted_list(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + quoted(name);
  return text.empty() ? "none" : text;
}

Status out_of_range(std::string_view field, std::int64_t found, const std::string& expression,
                    const std::string& lowest, const std::string& highest) {
  return invalid(std::string(field) + " is " + std::to_string(found) + " by expression " +
                 quoted(expression) + ", allowed " + lowest + " to " + highest);
}

}  // namespace

Result<Evaluator> Evaluator::create(std::span<const std::string> names,
                                    std::span<const ParameterValue> parameters) {
  std::vector<std::int64_t> values(names.size(), 0);
  std::vector<bool> given(names.size(), false);
  for (const ParameterValue& parameter : parameters) {
    const auto name = std::find(names.begin(), names.end(), parameter.name);
    if (name == names.end()) {
      return invalid("there is no parameter " + quoted(parameter.name) +
                     nearest_names(parameter.name, names));
    }
    const auto index = static_cast<std::size_t>(name - names.begin());
    if (given[index]) return invalid("parameter " + quoted(parameter.name) + " is given twice");
    given[index] = true;
    values[index] = parameter.value;
  }
  for (std::size_t n = 0; n < names.size(); ++n) {
    if (given[n]) continue;
    return invalid("parameter " + quoted(names[n]) + " has no value; needed are " +
                   quoted_list(names));
  }
  return Evaluator(names, std::move(values));
}

Result<std::int64_t> Evaluator::value(const std::string& expression) {
  if (const auto known = known_.find(expression); known != known_.end()) return known->second;
  KAAS_ASSIGN_OR_RETURN(const auto parsed, Expression::parse(expression, names_));
  KAAS_ASSIGN_OR_RETURN(const std::int64_t result, parsed.evaluate(values_));
  known_.emplace(expression, result);
  return result;
}

Result<std::uint64_t> Evaluator::number(const Integer& integer, std::string_view field,
                                        std::uint64_t lowest, std::uint64_t highest) {
  if (integer.expression.empty()) {
    KAAS_RETURN_IF_ERROR(check_between(field, integer.value, lowest, highest));
    return integer.value;
  }
  KAAS_ASSIGN_OR_RETURN(const std::int64_t found,
                        named([&] { return std::string(field); }, value(integer.expression)));
  const auto result = static_cast<std::uint64_t>(found);
  if (found >= 0 && result >= lowest && result <= highest) return result;
  return out_of_range(field, found, integer.expression, std::to_string(lowest),
                      std::to_string(highest));
}

Result<std::uint64_t> Evaluator::literal_bits(const LiteralSpec& literal) {
  using wire::LiteralType;
  KAAS_ASSIGN_OR_RETURN(const std::int64_t found, value(literal.expression));
  std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  std::int64_t highest = std::numeric_limits<std::int64_t>::max();
  std::uint64_t mask = ~std::uint64_t{0};
  if (literal.type == LiteralType::I32) {
    lowest = std::numeric_limits<std::int32_t>::min();
    highest = std::numeric_limits<std::int32_t>::max();
    mask = 0xFFFF'FFFFu;
  } else if (literal.type == LiteralType::U32) {
    lowest = 0;
    highest = std::numeric_limits<std::uint32_t>::max();
  } else if (literal.type == LiteralType::U64) {
    lowest = 0;
  }
  if (found < lowest || found > highest) {
    return out_of_range(std::string("value of type ") + wire::EnumNameLiteralType(literal.type),
                        found, literal.expression, std::to_string(lowest), std::to_string(highest));
  }
  return static_cast<std::uint64_t>(found) & mask;
}

}  // namespace kaas
