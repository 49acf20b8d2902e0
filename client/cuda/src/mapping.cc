#include "client/cuda/src/mapping.h"

#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {
namespace {

static_assert(sizeof(CUuuid) == 16);

Result<void> checked(const Driver& driver, CUresult result, const std::string& what) {
  if (result == CUDA_SUCCESS) return {};
  return driver_status(driver, result, what);
}

Status out_of_reach(const std::string& device, const std::string& why) {
  return Status{StatusCode::InvalidArgument, "the copy is on " + device + ", " + why +
                                                 "; name another device in ExportOptions::device"};
}

std::optional<CUdevice> find_gpu(const Driver& driver, std::span<const std::byte> gpu) {
  int count = 0;
  if (driver.DeviceGetCount(&count) != CUDA_SUCCESS) return std::nullopt;
  for (int i = 0; i < count; ++i) {
    CUdevice device = 0;
    CUuuid uuid{};
    if (driver.DeviceGet(&device, i) == CUDA_SUCCESS &&
        driver.DeviceGetUuid(&uuid, device) == CUDA_SUCCESS && gpu.size() == sizeof uuid &&
        std::memcmp(&uuid, gpu.data(), sizeof uuid) == 0) {
      return device;
    }
  }
  return std::nullopt;
}

// Whose kernels get access: the memory's own GPU, and the current one.
struct Readers {
  std::array<CUmemAccessDesc, 2> descriptions{};
  std::size_t count = 0;

  void add(CUdevice device) {
    CUmemAccessDesc& access = descriptions[count++];
    access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access.location.id = device;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  }
};

Result<Readers> find_readers(const Driver& driver, std::span<const std::byte> gpu,
                             const std::string& device) {
  const auto own = find_gpu(driver, gpu);
  if (!own) return out_of_reach(device, "a GPU that this process does not see");
  Readers readers;
  readers.add(*own);
  CUdevice current = 0;
  CUcontext context = nullptr;
  const bool has_current = driver.CtxGetCurrent(&context) == CUDA_SUCCESS && context != nullptr &&
                           driver.CtxGetDevice(&current) == CUDA_SUCCESS;
  if (!has_current || current == *own) return readers;
  int is_peer = 0;
  if (driver.DeviceCanAccessPeer(&is_peer, current, *own) != CUDA_SUCCESS || is_peer == 0) {
    return out_of_reach(device, "which the current device does not reach");
  }
  readers.add(current);
  return readers;
}

}  // namespace

Result<CopyMapping> CopyMapping::create(int descriptor, std::uint64_t bytes,
                                        std::span<const std::byte> gpu, const std::string& device) {
  KAAS_ASSIGN_OR_RETURN(const Driver* loaded, driver());
  const Driver& driver = *loaded;
  KAAS_RETURN_IF_ERROR(checked(driver, driver.Init(0), "initialising CUDA"));
  KAAS_ASSIGN_OR_RETURN(const Readers readers, find_readers(driver, gpu, device));
  CopyMapping mapping;
  mapping.bytes_ = bytes;
  KAAS_RETURN_IF_ERROR(checked(driver, driver.MemAddressReserve(&mapping.address_, bytes, 0, 0, 0),
                               "reserving addresses for the copy"));
  CUmemGenericAllocationHandle handle = 0;
  const auto value = static_cast<std::uintptr_t>(descriptor);
  KAAS_RETURN_IF_ERROR(checked(
      driver,
      driver.MemImportFromShareableHandle(&handle, reinterpret_cast<void*>(value),  // NOLINT
                                          CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
      "importing the copy"));
  const CUresult mapped = driver.MemMap(mapping.address_, bytes, 0, handle, 0);
  driver.MemRelease(handle);  // The mapping keeps the memory.
  KAAS_RETURN_IF_ERROR(checked(driver, mapped, "mapping the copy"));
  mapping.is_mapped_ = true;
  KAAS_RETURN_IF_ERROR(checked(
      driver,
      driver.MemSetAccess(mapping.address_, bytes, readers.descriptions.data(), readers.count),
      "getting access to the copy"));
  return mapping;
}

CopyMapping::~CopyMapping() {
  if (address_ == 0) return;
  const Driver& driver = **kaas::driver();
  if (is_mapped_) driver.MemUnmap(address_, bytes_);
  driver.MemAddressFree(address_, bytes_);
}
CopyMapping::CopyMapping(CopyMapping&& other) noexcept
    : address_(std::exchange(other.address_, 0)),
      bytes_(other.bytes_),
      is_mapped_(other.is_mapped_) {}

}  // namespace v1
}  // namespace kaas
