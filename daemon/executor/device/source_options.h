// What a CUDA source file says of how it wants to be compiled. The first lines, as long as they are
// empty or comments of their own, may be
//   // kaas-options: -std=c++17 -DTILE=32 "-DNAME=two words"
// Threads: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

struct SourceOptions {
  std::vector<std::string> words;  // In order, of all such lines.
  std::string architecture;        // "sm_90a" if the words choose one; else empty.
  // Whether the result depends on nothing but the source, the words and the compiler: files that
  // are included from elsewhere can change.
  bool self_contained = true;
};

// InvalidArgument: a quote that does not end, too many words, or an architecture that is not sm_N;
// names what was found. `what` names the source.
Result<SourceOptions> source_options(std::string_view source, const std::string& what);

}  // namespace kaas
