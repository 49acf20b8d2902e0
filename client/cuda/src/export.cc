// From a pointer to an allocation that another process can open: which kind of memory it is, where
// the allocation begins, and what the driver gives out for that kind.
#include <fcntl.h>
#include <kaas/cuda.h>

#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "client/cuda/src/driver.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {

struct CudaExport::Impl {
  DeviceAllocation allocation;
  std::array<std::byte, 64> handle{};
  std::array<std::byte, 16> gpu{};
  Descriptor descriptor;
  std::uint64_t offset = 0;
};

namespace {

static_assert(sizeof(CUipcMemHandle) == 64 && sizeof(CUmemPoolPtrExportData) == 64);
static_assert(sizeof(CUuuid) == 16);

using Kind = DeviceAllocation::Kind;

Status refused(const std::string& what, const std::string& instead) {
  return Status{StatusCode::InvalidArgument, "the pointer is to " + what +
                                                 ", which CUDA does not export to other processes; "
                                                 "use " +
                                                 instead};
}

// Makes a context current for calls that want one, as long as this lives.
class ContextScope {
 public:
  ContextScope(const Driver& driver, CUcontext of_pointer, CUdevice device) : driver_(driver) {
    CUcontext context = of_pointer;
    CUcontext current = nullptr;
    // Memory of a pool or of cuMemCreate belongs to no context: any of its device will do.
    if (context == nullptr && driver_.CtxGetCurrent(&current) == CUDA_SUCCESS) context = current;
    if (context == nullptr && driver_.DevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS) {
      retained_ = device;
    }
    pushed_ = context != nullptr && driver_.CtxPushCurrent(context) == CUDA_SUCCESS;
  }
  ~ContextScope() {
    CUcontext popped = nullptr;
    if (pushed_) driver_.CtxPopCurrent(&popped);
    if (retained_) driver_.DevicePrimaryCtxRelease(*retained_);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const Driver& driver_;
  bool pushed_ = false;
  std::optional<CUdevice> retained_;
};

// What the driver says of one pointer.
class Pointer {
 public:
  Pointer(const Driver& driver, const void* pointer)
      : driver_(driver), address_(reinterpret_cast<CUdeviceptr>(pointer)) {}

  // False: the driver does not say.
  template <class T>
  [[nodiscard]] bool ask(CUpointer_attribute attribute, T& value) const {
    return driver_.PointerGetAttribute(&value, attribute, address_) == CUDA_SUCCESS;
  }
  template <class T>
  [[nodiscard]] T value(CUpointer_attribute attribute) const {
    T value{};
    static_cast<void>(ask(attribute, value));
    return value;
  }
  [[nodiscard]] CUdeviceptr address() const noexcept { return address_; }

 private:
  const Driver& driver_;
  CUdeviceptr address_;
};

constexpr const char* kUseCudaMalloc = "cudaMalloc memory and copy to it";
constexpr const char* kUseHostMemory =
    "Client::allocate, or Client::register_region with a memfd, for host memory";

// Refuses what is not device memory of this process.
Result<void> check_memory(const Driver& driver, const Pointer& pointer) {
  CUmemorytype type{};
  const CUresult asked =
      driver.PointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pointer.address());
  if (asked == CUDA_ERROR_NOT_INITIALIZED) {
    return refused("memory of a process that has not initialised CUDA", kUseHostMemory);
  }
  if (asked != CUDA_SUCCESS) {
    return refused("memory that CUDA did not allocate (host memory, or freed)", kUseHostMemory);
  }
  if (pointer.value<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED) != 0) {
    return refused("managed memory (cudaMallocManaged)", kUseCudaMalloc);
  }
  if (type != CU_MEMORYTYPE_DEVICE) {
    return refused("page-locked host memory (cudaMallocHost, cudaHostRegister)", kUseHostMemory);
  }
  return {};
}

// The allocation around the pointer; for cuMemCreate memory, the one mapping.
Result<void> find_range(const Driver& driver, const Pointer& pointer, std::uint64_t bytes,
                        bool is_mapping, CUdeviceptr& base, std::uint64_t& size) {
  if (is_mapping) {
    base = pointer.value<CUdeviceptr>(CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR);
    size = pointer.value<std::size_t>(CU_POINTER_ATTRIBUTE_MAPPING_SIZE);
  }
  if (!is_mapping || base == 0 || size == 0) {
    std::size_t found = 0;
    const CUresult asked = driver.MemGetAddressRange(&base, &found, pointer.address());
    if (asked != CUDA_SUCCESS) return driver_status(driver, asked, "asking for the allocation");
    size = found;
  }
  const std::uint64_t offset = pointer.address() - base;
  if (bytes != 0 && offset < size && bytes <= size - offset) return {};
  return Status{StatusCode::InvalidArgument,
                "bytes is " + std::to_string(bytes) + ", allowed: 1 to " +
                    std::to_string(offset < size ? size - offset : 0) +
                    ", which is what follows the pointer in its allocation of " +
                    std::to_string(size) + " bytes" +
                    (is_mapping ? " (memory that is made of several cuMemCreate allocations is "
                                  "registered one by one)"
                                : "")};
}

Result<Descriptor> adopt(const Driver& driver, CUresult result, int descriptor,
                         const std::string& what) {
  if (result != CUDA_SUCCESS) return driver_status(driver, result, what);
  Descriptor owned(descriptor);
  ::fcntl(owned.get(), F_SETFD, FD_CLOEXEC);
  return owned;
}

bool shares_by_descriptor(const Pointer& pointer) {
  const auto allowed = pointer.value<unsigned long long>(CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES);
  return (allowed & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0;
}

Result<void> export_legacy(const Driver& driver, CUdeviceptr base, CudaExport::Impl& made) {
  CUipcMemHandle handle{};
  const CUresult got = driver.IpcGetMemHandle(&handle, base);
  if (got != CUDA_SUCCESS) return driver_status(driver, got, "getting an IPC handle");
  std::memcpy(made.handle.data(), &handle, sizeof handle);
  made.allocation.kind = Kind::Legacy;
  made.allocation.handle = made.handle;
  return {};
}

Result<void> export_pool(const Driver& driver, const Pointer& pointer, CUmemoryPool pool,
                         CUdeviceptr base, CudaExport::Impl& made) {
  if (!shares_by_descriptor(pointer)) {
    return refused(
        "memory of a pool that was not made to be shared (cudaMallocAsync from the default pool)",
        "a pool with handleTypes = cudaMemHandleTypePosixFileDescriptor (cudaMemPoolCreate), or "
        "cudaMalloc");
  }
  int descriptor = -1;
  const CUresult exported = driver.MemPoolExportToShareableHandle(
      &descriptor, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  KAAS_ASSIGN_OR_RETURN(made.descriptor,
                        adopt(driver, exported, descriptor, "exporting the memory pool"));
  CUmemPoolPtrExportData data{};
  const CUresult got = driver.MemPoolExportPointer(&data, base);
  if (got != CUDA_SUCCESS) return driver_status(driver, got, "exporting memory of a pool");
  std::memcpy(made.handle.data(), &data, sizeof data);
  made.allocation.kind = Kind::Pool;
  made.allocation.handle = made.handle;
  return {};
}

Result<void> export_mapping(const Driver& driver, const Pointer& pointer, CUdeviceptr base,
                            CudaExport::Impl& made) {
  if (!shares_by_descriptor(pointer)) {
    return refused(
        "cuMemCreate memory without CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR in its "
        "requestedHandleTypes, or memory that another process has exported",
        "memory that is created with that handle type, or cudaMalloc");
  }
  CUmemGenericAllocationHandle handle = 0;
  const CUresult retained =
      driver.MemRetainAllocationHandle(&handle, reinterpret_cast<void*>(base));  // NOLINT
  if (retained != CUDA_SUCCESS) {
    return driver_status(driver, retained, "finding the cuMemCreate allocation");
  }
  int descriptor = -1;
  const CUresult exported = driver.MemExportToShareableHandle(
      &descriptor, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  driver.MemRelease(handle);
  KAAS_ASSIGN_OR_RETURN(made.descriptor,
                        adopt(driver, exported, descriptor, "exporting cuMemCreate memory"));
  made.allocation.kind = Kind::CuMem;
  // A descriptor has no name. This one tells kaasd that two registrations are one allocation.
  auto name = pointer.value<std::uint64_t>(CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID);
  if (name == 0) name = base;
  std::memcpy(made.handle.data(), &name, sizeof name);
  made.allocation.handle = std::span(made.handle).first(sizeof name);
  return {};
}

}  // namespace

CudaExport::CudaExport(std::unique_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
CudaExport::~CudaExport() = default;
CudaExport::CudaExport(CudaExport&&) noexcept = default;
CudaExport& CudaExport::operator=(CudaExport&&) noexcept = default;

const DeviceAllocation& CudaExport::allocation() const noexcept {
  return impl_->allocation;
}
std::uint64_t CudaExport::offset() const noexcept {
  return impl_->offset;
}

Result<CudaExport> CudaExport::create(const void* address, std::uint64_t bytes) {
  KAAS_ASSIGN_OR_RETURN(const Driver* loaded, driver());
  const Driver& driver = *loaded;
  const Pointer pointer(driver, address);
  KAAS_RETURN_IF_ERROR(check_memory(driver, pointer));

  const auto ordinal = pointer.value<int>(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
  CUdevice device = 0;
  CUuuid uuid{};
  if (driver.DeviceGet(&device, ordinal) != CUDA_SUCCESS ||
      driver.DeviceGetUuid(&uuid, device) != CUDA_SUCCESS) {
    return Status{StatusCode::InvalidArgument,
                  "the pointer's GPU " + std::to_string(ordinal) + " has no UUID"};
  }
  const ContextScope context(driver, pointer.value<CUcontext>(CU_POINTER_ATTRIBUTE_CONTEXT),
                             device);
  const bool is_legacy = pointer.value<int>(CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE) != 0;
  const auto pool = pointer.value<CUmemoryPool>(CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE);
  const bool is_mapping = !is_legacy && pool == nullptr;

  auto made = std::make_unique<Impl>();
  CUdeviceptr base = 0;
  KAAS_RETURN_IF_ERROR(
      find_range(driver, pointer, bytes, is_mapping, base, made->allocation.bytes));
  made->offset = pointer.address() - base;
  std::memcpy(made->gpu.data(), &uuid, sizeof uuid);
  made->allocation.gpu = made->gpu;
  if (is_legacy) {
    KAAS_RETURN_IF_ERROR(export_legacy(driver, base, *made));
  } else if (pool != nullptr) {
    KAAS_RETURN_IF_ERROR(export_pool(driver, pointer, pool, base, *made));
  } else {
    KAAS_RETURN_IF_ERROR(export_mapping(driver, pointer, base, *made));
  }
  if (made->descriptor) made->allocation.descriptor = made->descriptor.get();
  return CudaExport(std::move(made));
}

Result<CudaBuffer> CudaBuffer::create(Client& client, const void* pointer, std::uint64_t bytes) {
  KAAS_ASSIGN_OR_RETURN(const CudaExport exported, CudaExport::create(pointer, bytes));
  KAAS_ASSIGN_OR_RETURN(Region region, client.register_device_memory(exported.allocation()));
  return CudaBuffer(std::move(region), exported.offset(), bytes);
}

}  // namespace v1
}  // namespace kaas
