// Suggestions for a name that was not found.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kaas {

// At most three of `names`, nearest first by edit distance; those that are too far are left out.
std::vector<std::string> nearest_names(std::string_view wanted,
                                       const std::vector<std::string>& names);

}  // namespace kaas
