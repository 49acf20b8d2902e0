// Memory of a CUDA device for other processes: a cuMemCreate allocation of its own, shared by POSIX
// file descriptor.
// Reference: the CUDA driver API manual, "Virtual Memory Management".
// Threads: the executor's main thread.
#pragma once

#include <cstdint>
#include <memory>

#include "daemon/executor/device/cuda/cuda_import.h"
#include "daemon/executor/device/exportable_memory.h"

namespace kaas {

// Mapped for kernels of `owner`'s GPU. `bytes` > 0; rounded up to the driver's granularity, 2 MiB
// on the GPUs of today. Fails: OutOfMemory, InvalidArgument (the GPU shares no memory so).
Result<std::unique_ptr<ExportableMemory>> allocate_exportable_cuda_memory(const CudaImporter& owner,
                                                                          std::uint64_t bytes);

}  // namespace kaas
