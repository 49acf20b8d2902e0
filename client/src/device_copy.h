// What kaasd answers to an Export, and the copy that is made of it.
#pragma once

#include <kaas/client.h>

#include <array>
#include <cstdint>
#include <string>

#include "schema/ipc/handle.h"
#include "schema/limits.h"

namespace kaas {
inline namespace v1 {

struct ExportAnswer {
  std::uint32_t segment = 0;
  std::uint64_t bytes = 0;
  std::uint64_t allocation_bytes = 0;
  std::uint64_t version = 0;
  std::array<std::byte, kGpuUuidBytes> gpu{};
  std::string device;
  Descriptor descriptor;
};

struct DeviceCopy::Impl {
  Region region;  // Given back last: kaasd hears of it when the descriptor is closed.
  ExportAnswer answer;
};

}  // namespace v1
}  // namespace kaas
