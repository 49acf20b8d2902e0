// The function that a fresh client calls: known to kaas-bench, which deploys it, and to
// kaas-bench-client, which calls it.
#pragma once

#include <kaas/client.h>

namespace kaas {

inline constexpr const char* kFreshClientFunction = "kaas-bench-double";
inline constexpr std::size_t kFreshClientCount = 1024;  // f32 values, in the message both ways.

// y = x + x
inline Result<Request> fresh_client_request() {
  RequestBuilder builder;
  builder.buffer("x", kFreshClientCount * sizeof(float)).in_message();
  builder.buffer("y", kFreshClientCount * sizeof(float)).in_message();
  builder.kernel("std", "add")
      .grid(kFreshClientCount / 256)
      .block(256)
      .literal(static_cast<std::uint64_t>(kFreshClientCount))
      .in("x")
      .in("x")
      .out("y");
  return builder.build();
}

}  // namespace kaas
