#include "daemon/executor/device/cuda/cuda_export.h"

#include <fcntl.h>

#include <cstring>
#include <string>
#include <utility>

#include "daemon/executor/device/cuda/cuda_virtual_memory.h"

namespace kaas {
namespace {

static_assert(sizeof(CUuuid) == kGpuUuidBytes);

constexpr CUmemAllocationHandleType kHandleType = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

std::string sized(std::uint64_t bytes) {
  return std::to_string(bytes) + " bytes of memory that other processes can map";
}

CUmemAllocationProp shared_memory_of(CUdevice device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  properties.requestedHandleTypes = kHandleType;
  return properties;
}

class ExportableCudaMemory final : public ExportableMemory {
 public:
  ExportableCudaMemory(const CudaImporter& owner, PhysicalMemory memory, VirtualRange range,
                       const GpuUuid& gpu) noexcept
      : ExportableMemory(range.address, range.bytes),
        owner_(owner),
        memory_(std::move(memory)),
        range_(std::move(range)),
        gpu_(gpu) {}
  ~ExportableCudaMemory() override {
    const ContextScope scope(*owner_.driver, owner_.context);
    const VirtualRange unmapped(std::move(range_));
    const PhysicalMemory released(std::move(memory_));
  }

  [[nodiscard]] Result<Descriptor> descriptor() const override {
    int descriptor = -1;
    KAAS_RETURN_IF_CUDA_ERROR(
        owner_.driver->MemExportToShareableHandle(&descriptor, memory_.handle, kHandleType, 0),
        "exporting " + sized(bytes()));
    Descriptor owned(descriptor);
    ::fcntl(owned.get(), F_SETFD, FD_CLOEXEC);
    return owned;
  }
  [[nodiscard]] GpuUuid gpu() const override { return gpu_; }

 private:
  CudaImporter owner_;
  PhysicalMemory memory_;
  VirtualRange range_;
  GpuUuid gpu_;
};

Result<VirtualRange> map(const CudaDriver& driver, const PhysicalMemory& memory,
                         const CUmemAllocationProp& properties, std::uint64_t bytes) {
  VirtualRange range;
  KAAS_RETURN_IF_CUDA_ERROR(driver.MemAddressReserve(&range.address, bytes, 0, 0, 0),
                            "reserving addresses for " + sized(bytes));
  range.driver = &driver;
  range.bytes = bytes;
  KAAS_RETURN_IF_CUDA_ERROR(driver.MemMap(range.address, bytes, 0, memory.handle, 0),
                            "mapping " + sized(bytes));
  range.is_mapped = true;
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  KAAS_RETURN_IF_CUDA_ERROR(driver.MemSetAccess(range.address, bytes, &access, 1),
                            "getting access to " + sized(bytes));
  return range;
}

}  // namespace

Result<std::unique_ptr<ExportableMemory>> allocate_exportable_cuda_memory(const CudaImporter& owner,
                                                                          std::uint64_t bytes) {
  const CudaDriver& driver = *owner.driver;
  const ContextScope scope(driver, owner.context);
  const CUmemAllocationProp properties = shared_memory_of(owner.device);
  std::size_t granularity = 0;
  KAAS_RETURN_IF_CUDA_ERROR(driver.MemGetAllocationGranularity(&granularity, &properties,
                                                               CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                            "asking how shared memory is cut");
  const std::uint64_t rounded = (bytes + granularity - 1) / granularity * granularity;
  PhysicalMemory memory(driver);
  const CUresult created = driver.MemCreate(&memory.handle, rounded, &properties, 0);
  if (created != CUDA_SUCCESS) {
    memory.handle = 0;
    return cuda_status(created, "allocating " + sized(rounded));
  }
  CUuuid uuid{};
  KAAS_RETURN_IF_CUDA_ERROR(driver.DeviceGetUuid(&uuid, owner.device), "asking for the GPU's UUID");
  GpuUuid gpu{};
  std::memcpy(gpu.data(), &uuid, gpu.size());
  KAAS_ASSIGN_OR_RETURN(VirtualRange range, map(driver, memory, properties, rounded));
  return std::unique_ptr<ExportableMemory>(
      std::make_unique<ExportableCudaMemory>(owner, std::move(memory), std::move(range), gpu));
}

}  // namespace kaas
