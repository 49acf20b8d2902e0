// Values of the integers of a request, given its parameters. Internal to plan.
// Owns: a memory of results; the request and the names must outlive it. Threads: one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/flow/request.h"
#include "schema/ipc/result.h"

namespace kaas {

class Evaluator {
 public:
  // Fails: InvalidArgument: a parameter is missing, unknown (with the nearest names) or given
  // twice.
  static Result<Evaluator> create(std::span<const std::string> names,
                                  std::span<const ParameterValue> parameters);

  // The number, or the value of the expression if there is one; either within lowest to highest.
  // Fails: InvalidArgument, naming the field, the value and where it comes from.
  Result<std::uint64_t> number(const Integer& integer, std::string_view field, std::uint64_t lowest,
                               std::uint64_t highest);

  // The bit pattern of an integer literal's expression. Fails as above.
  Result<std::uint64_t> literal_bits(const LiteralSpec& literal);

 private:
  Evaluator(std::span<const std::string> names, std::vector<std::int64_t> values)
      : names_(names), values_(std::move(values)) {}

  Result<std::int64_t> value(const std::string& expression);

  std::span<const std::string> names_;
  std::vector<std::int64_t> values_;
  std::unordered_map<std::string_view, std::int64_t> known_;  // Keys in the request.
};

}  // namespace kaas
