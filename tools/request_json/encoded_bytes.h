// Bytes in text: "hex:00ff" and "base64:AP8=" (RFC 4648, with padding, no line breaks).
// Pure functions. Threads: any.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// Fails: InvalidArgument: another prefix, a character that does not belong, a wrong length. The
//        message begins with a verb ("has ..."), for the caller to put a name in front.
Result<std::vector<std::byte>> decode_bytes(std::string_view text);

}  // namespace kaas
