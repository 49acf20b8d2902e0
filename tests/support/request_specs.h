// Small requests for tests to start from. Threads: pure functions.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/request.h"

namespace kaas {

inline BufferSpec store_buffer(std::string name, std::uint64_t bytes, std::string key = "",
                               std::uint64_t offset = 0) {
  BufferSpec buffer;
  buffer.place.key = key.empty() ? name : std::move(key);
  buffer.name = std::move(name);
  buffer.bytes.value = bytes;
  buffer.offset.value = offset;
  return buffer;
}

inline BufferSpec segment_buffer(std::string name, std::uint64_t bytes, std::uint32_t segment,
                                 std::uint64_t offset = 0) {
  BufferSpec buffer;
  buffer.name = std::move(name);
  buffer.bytes.value = bytes;
  buffer.offset.value = offset;
  buffer.place.where = wire::Where::Segment;
  buffer.place.segment = segment;
  return buffer;
}

inline BufferSpec inline_buffer(std::string name, std::uint64_t bytes,
                                std::vector<std::byte> data = {}) {
  BufferSpec buffer;
  buffer.name = std::move(name);
  buffer.bytes.value = bytes;
  buffer.place.where = wire::Where::Inline;
  buffer.place.data = std::move(data);
  return buffer;
}

inline KernelSpec kernel_on(std::string name, std::vector<ArgumentSpec> arguments) {
  KernelSpec kernel;
  kernel.library = "std";
  kernel.kernel = std::move(name);
  for (Integer& n : kernel.grid) n.value = 1;
  for (Integer& n : kernel.block) n.value = 1;
  kernel.arguments = std::move(arguments);
  return kernel;
}

// y = a x + y over 1024 floats in the store.
inline RequestSpec saxpy_request() {
  RequestSpec request;
  request.buffers = {store_buffer("x", 4096), store_buffer("y", 4096)};
  KernelSpec kernel = kernel_on("saxpy", {{0, wire::Access::In}, {1, wire::Access::InOut}});
  kernel.grid[0].value = 4;
  kernel.block[0].value = 256;
  kernel.literals = {{wire::LiteralType::U64, 1024, "", {}, {}},
                     {wire::LiteralType::F32, 0x40000000, "", {}, {}}};
  request.kernels = {kernel};
  return request;
}

}  // namespace kaas
