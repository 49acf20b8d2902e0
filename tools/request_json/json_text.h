// JSON text to a value tree, stricter than the parser below it: no key twice, bounded depth, and
// errors for people.
// Pure functions. Threads: any.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "schema/ipc/result.h"

namespace kaas {

using Json = nlohmann::json;

inline constexpr std::size_t kJsonDepthMax = 16;

// Fails: InvalidArgument: malformed, with line and column from 1 (columns count characters); a key
//        twice in one object or more than kJsonDepthMax levels, with the JSON path.
Result<Json> parse_json(std::string_view text);

}  // namespace kaas
