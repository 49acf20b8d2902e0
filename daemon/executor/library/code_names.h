// Names of a module's kernels and variables as people write them: mangled, or as in C++.
// Threads: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// The forms of one name: "_ZN2ns5scaleIfEEvT_PS1_".
struct CodeName {
  explicit CodeName(std::string linker_name);
  std::string mangled;
  std::string full;   // "ns::scale<float>(float, float*)"; the same as `mangled` if that is C.
  std::string brief;  // "ns::scale<float>"
  std::string base;   // "ns::scale"
};

// Forms that find a name, the first that fits anything counts: mangled, full, brief, base. Spaces,
// and the suffix of a number ("4u"), make no difference. `kind` is "kernel" or "variable", `owner`
// what has none: "library 'net'".
// Fails: NotFound names the nearest. InvalidArgument: several fit, lists them.
Result<const CodeName*> find_name(const std::vector<CodeName>& names, std::string_view wanted,
                                  const std::string& kind, const std::string& owner);

}  // namespace kaas
