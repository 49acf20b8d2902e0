// Device memory and events of other processes on a CUDA device: legacy handles, cuMem descriptors,
// memory of pools. Each mapping closes itself; ImportCache sees to it that there is one for each.
// Reference: the CUDA driver API manual, "Unified Addressing", "Virtual Memory Management", "Stream
// Ordered Memory Allocator".
// Threads: the executor's main thread. Contexts are made current for a call and put back.
#pragma once

#include <memory>
#include <span>

#include "daemon/executor/device/cuda/cuda_driver.h"
#include "daemon/executor/device/imported_memory.h"

namespace kaas {

// The importing device. All three must outlive what is imported.
struct CudaImporter {
  const CudaDriver* driver = nullptr;
  CUdevice device = 0;
  CUcontext context = nullptr;
};

// Maps the memory for kernels of the importer's GPU: its own memory, or that of a peer. Where the
// two GPUs are no peers, it is mapped for copies only. Fails as Device::import_memory does; a bad
// handle leaves the context as it was.
Result<std::unique_ptr<ImportedMemory>> import_cuda_memory(const CudaImporter& importer,
                                                           const ImportRequest& request);

class ImportedCudaEvent final : public ImportedEvent {
 public:
  ImportedCudaEvent(const CudaImporter& importer, CUevent event) noexcept
      : importer_(importer), event_(event) {}
  ~ImportedCudaEvent() override;
  [[nodiscard]] CUevent get() const noexcept { return event_; }

 private:
  CudaImporter importer_;
  CUevent event_;
};

// `handle` has 64 bytes.
Result<std::unique_ptr<ImportedEvent>> import_cuda_event(const CudaImporter& importer,
                                                         std::span<const std::byte> handle);

}  // namespace kaas
