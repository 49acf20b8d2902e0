// Device memory that this process allocates for other processes to map: never a piece of another
// allocation, because a mapping is of all of one, and whoever maps it can write it.
// Threads: the executor's main thread, but for the memory itself, which kernels and copies use.
#pragma once

#include <cstdint>

#include "daemon/executor/device/imported_memory.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

// One allocation, mapped here like one that was imported. The destructor unmaps and frees it; what
// others have mapped by then stays theirs.
class ExportableMemory : public ImportedMemory {
 public:
  // Another descriptor of it, by which other processes map it (kind CuMem).
  [[nodiscard]] virtual Result<Descriptor> descriptor() const = 0;
  // Where it is.
  [[nodiscard]] virtual GpuUuid gpu() const = 0;

 protected:
  ExportableMemory(DeviceAddress address, std::uint64_t bytes) noexcept
      : ImportedMemory(address, bytes, true) {}
};

}  // namespace kaas
