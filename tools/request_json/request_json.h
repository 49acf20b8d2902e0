// Requests as JSON text: our own format and the two of the original research system.
// docs/request-format.md is the reference, with an example of each.
// Pure functions over values. Threads: any.
#pragma once

#include <kaas/client.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kaas {

enum class RequestFormat : std::uint8_t {
  Kaas,           // Ours: "grid", "block", "n_iter".
  OriginalOlder,  // "nGrid", "nBlock": wrapper libraries.
  OriginalLater,  // "gridDim", "blockDim", "nIter".
};

// As the field "format" spells it: "kaas", "original-older", "original-later".
[[nodiscard]] const char* name_of(RequestFormat format) noexcept;

// A buffer of a request, with what the kernels make of it.
struct JsonBuffer {
  std::string name;
  std::uint64_t bytes = 0;  // 0: an expression.
  bool is_input = false;    // Its first use reads it.
  bool is_output = false;   // Some use writes it, and it is kept.
};

struct JsonRequest {
  RequestFormat format = RequestFormat::Kaas;
  Request request;
  std::string function;                 // The name to deploy it under; empty: none given.
  std::vector<std::string> parameters;  // Not empty: it can be called, but not run as it is.
  std::vector<JsonBuffer> buffers;      // In the request's order.
};

inline constexpr std::size_t kRequestTextBytesMax = 16u << 20;

// Reads one request. What kaasd alone can check (libraries, keys, sizes against objects) is left
// to it.
// Fails: InvalidArgument. Malformed JSON: line and column. Otherwise the JSON path of the value,
//        such as `kernels[3].grid`, what was found and what is allowed. A text above
//        kRequestTextBytesMax: ResourceExhausted.
Result<JsonRequest> parse_request(std::string_view text);

}  // namespace kaas
