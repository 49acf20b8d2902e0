// Requests that reach every part of decoding and compiling. Threads: pure functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/fuzz/driver.h"
#include "tests/support/encode_request.h"
#include "tests/support/request_specs.h"

namespace kaas {

// Named buffers on slices of one object, temporaries, raw literals with slots, an explicit order.
inline RequestSpec many_sided_request() {
  using wire::Access;
  RequestSpec request;
  request.buffers = {
      store_buffer("a", 64, "k"),      store_buffer("b", 64, "k", 32),
      segment_buffer("s", 128, 17, 8), inline_buffer("i", 16, std::vector<std::byte>(16)),
      store_buffer("t", 256),          store_buffer("flag", 4)};
  BufferSpec ipc;
  ipc.name = "ipc";
  ipc.bytes.value = 64;
  ipc.place.where = wire::Where::Ipc;
  ipc.place.ipc_handle.assign(kIpcHandleBytes, std::byte{5});
  ipc.place.ipc_base_offset = 512;
  request.buffers.push_back(ipc);
  request.buffers[0].zero_fill = true;
  request.buffers[4].ephemeral = true;
  request.buffers[5].resident = true;
  request.kernels = {kernel_on("first", {{0, Access::In}, {4, Access::Temporary}, {6, Access::In}}),
                     kernel_on("second", {{4, Access::In}, {1, Access::InOut}, {2, Access::Out}}),
                     kernel_on("third", {{3, Access::In}, {2, Access::InOut}, {5, Access::Out}})};
  request.kernels[1].literals = {
      {wire::LiteralType::Raw, 0, "", std::vector<std::byte>(24), {{0, 1}, {16, 2}}},
      {wire::LiteralType::F64, 0x3FF0000000000000, "", {}, {}}};
  request.kernels[1].order = {1, 0, 2};
  request.kernels[2].cluster = {1, 1, 1};
  request.kernels[2].cooperative = true;
  request.until = 5;
  request.n_iter.value = 3000;
  return request;
}

// As a function has it: everything is an expression.
inline RequestSpec parametric_request() {
  RequestSpec request = saxpy_request();
  request.parameters = {"width", "height"};
  request.kernels[0].grid[0].expression = "ceil_div(width * height, 256)";
  request.kernels[0].grid[1].expression = "max(1, width / (height + 1))";
  request.kernels[0].block[0].expression = "min(256, width * 8)";
  request.kernels[0].literals[0].expression = "width * height - -1";
  request.buffers[0].bytes.expression = "width * height * 4";
  request.buffers[1].offset.expression = "width % 16";
  request.n_iter.expression = "height";
  BufferSpec part = segment_buffer("part", 0, 17, 64);
  part.bytes.expression = "width";
  part.place.part_offset = 64;
  part.place.part_end = 64 + 4096;
  request.buffers.push_back(part);
  return request;
}

inline std::vector<FuzzSeed> request_seeds() {
  return {{"saxpy", encode_request(saxpy_request())},
          {"many_sided", encode_request(many_sided_request())},
          {"parametric", encode_request(parametric_request())}};
}

}  // namespace kaas
