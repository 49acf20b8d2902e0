// The names of the scheduling policies, as the configuration gives them.
// Pure functions. Threads: any.
#pragma once

#include <string_view>

namespace kaas {

inline constexpr const char* kPolicies = "fifo";  // All, as messages list them.

inline constexpr bool is_policy(std::string_view name) noexcept {
  return name == "fifo";
}

}  // namespace kaas
