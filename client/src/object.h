// How objects come into being.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <vector>

#include "schema/ipc/segment.h"

namespace kaas {
inline namespace v1 {

struct Object::Impl {
  std::vector<std::byte> copy;
  Mapping mapping;
};

struct ObjectAccess {
  static Object copied(std::vector<std::byte> bytes, std::uint64_t version);
  // Maps the first `bytes` of what kaasd sent for a large object.
  static Result<Object> mapped(int descriptor, std::uint64_t bytes, std::uint64_t version);
};

}  // namespace v1
}  // namespace kaas
