// Requests over the kernels of the fake library, and the words that they make.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/request.h"
#include "tests/support/encode_request.h"
#include "tests/support/request_specs.h"
#include "tools/sim/messages.h"

namespace kaas {

using Words = std::vector<std::uint32_t>;

inline Bytes to_bytes(const Words& words) {
  Bytes bytes(words.size() * sizeof(std::uint32_t));
  if (!bytes.empty()) std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}
inline Words to_words(std::span<const std::byte> bytes) {
  Words words(bytes.size() / sizeof(std::uint32_t));
  if (!words.empty()) std::memcpy(words.data(), bytes.data(), words.size() * sizeof(std::uint32_t));
  return words;
}

inline LiteralSpec literal_u64(std::uint64_t value) {
  return {wire::LiteralType::U64, value, "", {}, {}};
}
inline LiteralSpec literal_u32(std::uint32_t value) {
  return {wire::LiteralType::U32, value, "", {}, {}};
}

inline KernelSpec fake_kernel(std::string name, std::vector<LiteralSpec> literals,
                              std::vector<ArgumentSpec> arguments,
                              const std::string& library = "fake") {
  KernelSpec kernel = kernel_on(std::move(name), std::move(arguments));
  kernel.library = library;
  kernel.literals = std::move(literals);
  return kernel;
}

inline KernelSpec fill_kernel(std::uint64_t words, std::uint32_t value, std::uint16_t out,
                              const std::string& library = "fake") {
  return fake_kernel("fill", {literal_u64(words), literal_u32(value)}, {{out, wire::Access::Out}},
                     library);
}
inline KernelSpec copy_kernel(std::uint64_t words, std::uint16_t in, std::uint16_t out) {
  return fake_kernel("copy", {literal_u64(words * 4)},
                     {{in, wire::Access::In}, {out, wire::Access::Out}});
}
inline KernelSpec add_kernel(std::uint64_t words, std::uint16_t a, std::uint16_t b,
                             std::uint16_t out) {
  return fake_kernel("add", {literal_u64(words)},
                     {{a, wire::Access::In}, {b, wire::Access::In}, {out, wire::Access::Out}});
}
inline KernelSpec add_one_kernel(std::uint64_t words, std::uint16_t data,
                                 const std::string& library = "fake") {
  return fake_kernel("add_one", {literal_u64(words)}, {{data, wire::Access::InOut}}, library);
}

// out = value, everywhere.
inline RequestSpec fill_request(const BufferSpec& out, std::uint32_t value,
                                const std::string& library = "fake") {
  RequestSpec request;
  request.buffers = {out};
  request.kernels = {fill_kernel(out.bytes.value / 4, value, 0, library)};
  return request;
}
// out = in.
inline RequestSpec copy_request(const BufferSpec& in, const BufferSpec& out) {
  RequestSpec request;
  request.buffers = {in, out};
  request.kernels = {copy_kernel(out.bytes.value / 4, 0, 1)};
  return request;
}
// ++data, everywhere.
inline RequestSpec add_one_request(const BufferSpec& data, const std::string& library = "fake") {
  RequestSpec request;
  request.buffers = {data};
  request.kernels = {add_one_kernel(data.bytes.value / 4, 0, library)};
  return request;
}
// An input that fails: after its output was computed.
inline RequestSpec failing_request(const BufferSpec& out) {
  RequestSpec request = fill_request(out, 13);
  request.kernels.push_back(fake_kernel("fail", {}, {}));
  return request;
}

}  // namespace kaas
