#include "daemon/executor/device/cuda/cuda_import.h"

#include <cstring>
#include <string>
#include <utility>

#include "daemon/executor/device/cuda/cuda_virtual_memory.h"

namespace kaas {
namespace {

static_assert(sizeof(CUipcMemHandle) == kIpcHandleBytes);
static_assert(sizeof(CUmemPoolPtrExportData) == kIpcHandleBytes);
static_assert(sizeof(CUuuid) == kGpuUuidBytes);

std::string uuid_text(const char* bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (std::size_t i = 0; i < kGpuUuidBytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto byte = static_cast<unsigned char>(bytes[i]);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Status refused(std::string message) {
  return Status{StatusCode::InvalidArgument, std::move(message)};
}

// What a driver says of a handle that it does not open. Only faults of this process and a lack of
// memory are what they seem; all else is the handle's.
Status not_opened(CUresult result, const std::string& what) {
  Status status = cuda_status(result, what);
  if (ends_the_context(result) || status.code == StatusCode::OutOfMemory) return status;
  status.code = StatusCode::InvalidArgument;
  status.message +=
      "; it is not a handle, or what it names was freed, its process has ended, or its GPU can't "
      "be "
      "reached from this one";
  return status;
}

// --- Where the memory is -------------------------------------------------------------------------

// A context in which the memory is mapped: the importer's own, or, where its GPU is no peer of the
// memory's, the other GPU's primary one, which this keeps.
class ImportContext {
 public:
  ImportContext(const CudaDriver& driver, CUcontext own) noexcept
      : driver_(&driver), context_(own) {}
  ImportContext(ImportContext&& other) noexcept
      : driver_(other.driver_), context_(other.context_), retained_(other.retained_) {
    other.retained_.reset();
  }
  ImportContext& operator=(ImportContext&&) = delete;
  ~ImportContext() {
    if (retained_) driver_->DevicePrimaryCtxRelease(*retained_);
  }

  static Result<ImportContext> of(const CudaImporter& importer, CUdevice device) {
    const CudaDriver& driver = *importer.driver;
    ImportContext found(driver, importer.context);
    if (device == importer.device) return found;
    int is_peer = 0;
    KAAS_RETURN_IF_CUDA_ERROR(driver.DeviceCanAccessPeer(&is_peer, importer.device, device),
                              "asking whether two GPUs are peers");
    if (is_peer != 0) return found;
    KAAS_RETURN_IF_CUDA_ERROR(driver.DevicePrimaryCtxRetain(&found.context_, device),
                              "creating a context on the GPU of the memory");
    found.retained_ = device;
    return found;
  }

  [[nodiscard]] const CudaDriver& driver() const noexcept { return *driver_; }
  [[nodiscard]] CUcontext get() const noexcept { return context_; }
  [[nodiscard]] bool direct() const noexcept { return !retained_; }

 private:
  const CudaDriver* driver_;
  CUcontext context_;
  std::optional<CUdevice> retained_;
};

// The memory's GPU, as its owner told; the importer's own if it did not.
Result<CUdevice> find_gpu(const CudaImporter& importer, const ImportRequest& request) {
  if (!request.gpu) return importer.device;
  const CudaDriver& driver = *importer.driver;
  int count = 0;
  KAAS_RETURN_IF_CUDA_ERROR(driver.DeviceGetCount(&count), "counting CUDA devices");
  for (int i = 0; i < count; ++i) {
    CUdevice device = 0;
    CUuuid uuid{};
    if (driver.DeviceGet(&device, i) != CUDA_SUCCESS ||
        driver.DeviceGetUuid(&uuid, device) != CUDA_SUCCESS) {
      continue;
    }
    if (std::memcmp(&uuid, request.gpu->data(), sizeof uuid) == 0) return device;
  }
  CUuuid own{};
  driver.DeviceGetUuid(&own, importer.device);
  return refused("the memory is on " +
                 uuid_text(reinterpret_cast<const char*>(request.gpu->data())) +
                 ", a GPU that this executor does not see; it runs on " + uuid_text(own.bytes));
}

// How much is allocated at an address that was just opened.
Result<std::uint64_t> allocated_at(const CudaDriver& driver, CUdeviceptr address) {
  CUdeviceptr base = 0;
  std::size_t bytes = 0;
  CUresult result = driver.MemGetAddressRange(&base, &bytes, address);
  if (result == CUDA_ERROR_NOT_FOUND) {
    // Asked in another GPU's context, it does not know memory of a pool.
    result = driver.PointerGetAttribute(&base, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, address);
    if (result == CUDA_SUCCESS) {
      result = driver.PointerGetAttribute(&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, address);
    }
  }
  KAAS_RETURN_IF_CUDA_ERROR(result, "asking for the size of imported memory");
  return std::uint64_t{bytes} - (address - base);
}

// --- Legacy handles ------------------------------------------------------------------------------

class LegacyImport final : public ImportedMemory {
 public:
  LegacyImport(ImportContext context, CUdeviceptr address, std::uint64_t bytes) noexcept
      : ImportedMemory(address, bytes, context.direct()), context_(std::move(context)) {}
  ~LegacyImport() override {
    const ContextScope scope(context_.driver(), context_.get());
    context_.driver().IpcCloseMemHandle(address());
  }

  static Result<std::unique_ptr<ImportedMemory>> open(ImportContext context,
                                                      const ImportRequest& request) {
    const CudaDriver& driver = context.driver();
    const ContextScope scope(driver, context.get());
    CUipcMemHandle handle{};
    std::memcpy(&handle, request.handle.data(), sizeof handle);
    CUdeviceptr address = 0;
    const CUresult opened =
        driver.IpcOpenMemHandle(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    if (opened != CUDA_SUCCESS) return not_opened(opened, "opening the IPC handle");
    auto bytes = allocated_at(driver, address);
    if (!bytes) {
      driver.IpcCloseMemHandle(address);
      return std::move(bytes).error();
    }
    return std::unique_ptr<ImportedMemory>(
        std::make_unique<LegacyImport>(std::move(context), address, *bytes));
  }

 private:
  ImportContext context_;
};

// --- cuMem descriptors ---------------------------------------------------------------------------

class CuMemImport final : public ImportedMemory {
 public:
  CuMemImport(ImportContext context, VirtualRange range) noexcept
      : ImportedMemory(range.address, range.bytes, context.direct()),
        context_(std::move(context)),
        range_(std::move(range)) {}
  ~CuMemImport() override {
    const ContextScope scope(context_.driver(), context_.get());
    const VirtualRange closed(std::move(range_));
  }

  static Result<std::unique_ptr<ImportedMemory>> open(const CudaImporter& importer,
                                                      const ImportRequest& request) {
    const CudaDriver& driver = *importer.driver;
    const ContextScope scope(driver, importer.context);
    PhysicalMemory memory(driver);
    const CUresult imported = driver.MemImportFromShareableHandle(
        &memory.handle, descriptor_of(request), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (imported != CUDA_SUCCESS) {
      memory.handle = 0;
      return not_opened(imported, "importing the cuMem descriptor");
    }
    CUmemAllocationProp properties{};
    KAAS_RETURN_IF_CUDA_ERROR(
        driver.MemGetAllocationPropertiesFromHandle(&properties, memory.handle),
        "looking at imported memory");
    if (properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
      return refused("the cuMem memory is not on a GPU (location type " +
                     std::to_string(properties.location.type) +
                     "); use an arena or a registered region for host memory");
    }
    // The driver knows better than the owner where it is.
    KAAS_ASSIGN_OR_RETURN(ImportContext context,
                          ImportContext::of(importer, properties.location.id));
    KAAS_ASSIGN_OR_RETURN(VirtualRange range, map(driver, memory, properties, request.bytes));
    CUmemAccessDesc access{};
    access.location = properties.location;
    if (context.direct()) access.location.id = importer.device;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    KAAS_RETURN_IF_CUDA_ERROR(driver.MemSetAccess(range.address, range.bytes, &access, 1),
                              "getting access to " + sized(request.bytes));
    return std::unique_ptr<ImportedMemory>(
        std::make_unique<CuMemImport>(std::move(context), std::move(range)));
  }

  static void* descriptor_of(const ImportRequest& request) noexcept {
    const auto value = static_cast<std::uintptr_t>(request.descriptor);
    return reinterpret_cast<void*>(value);  // NOLINT: the driver wants it so.
  }

 private:
  static std::string sized(std::uint64_t bytes) {
    return std::to_string(bytes) + " bytes of imported memory (as its owner said)";
  }
  // All of it; its size is the owner's word, which the driver checks here.
  static Result<VirtualRange> map(const CudaDriver& driver, const PhysicalMemory& memory,
                                  const CUmemAllocationProp& properties, std::uint64_t bytes) {
    std::size_t granularity = 0;
    KAAS_RETURN_IF_CUDA_ERROR(driver.MemGetAllocationGranularity(&granularity, &properties,
                                                                 CU_MEM_ALLOC_GRANULARITY_MINIMUM),
                              "asking how cuMem memory is cut");
    if (bytes == 0 || bytes % granularity != 0) {
      return refused("bytes of the cuMem allocation is " + std::to_string(bytes) +
                     ", allowed: multiples of " + std::to_string(granularity));
    }
    VirtualRange range;
    KAAS_RETURN_IF_CUDA_ERROR(driver.MemAddressReserve(&range.address, bytes, 0, 0, 0),
                              "reserving addresses for " + sized(bytes));
    range.driver = &driver;
    range.bytes = bytes;
    const CUresult mapped = driver.MemMap(range.address, bytes, 0, memory.handle, 0);
    if (mapped == CUDA_ERROR_INVALID_VALUE) {
      return refused("the cuMem allocation has fewer than the " + std::to_string(bytes) +
                     " bytes that its owner said");
    }
    KAAS_RETURN_IF_CUDA_ERROR(mapped, "mapping " + sized(bytes));
    range.is_mapped = true;
    return range;
  }

  ImportContext context_;
  VirtualRange range_;
};

// --- Memory of pools -----------------------------------------------------------------------------

// A pool of another process. Its memory is freed here before the pool.
struct ImportedPool {
  const CudaDriver* driver = nullptr;
  CUmemoryPool pool = nullptr;

  ImportedPool() noexcept = default;
  ImportedPool(ImportedPool&& other) noexcept
      : driver(other.driver), pool(std::exchange(other.pool, nullptr)) {}
  ImportedPool& operator=(ImportedPool&&) = delete;
  ~ImportedPool() {
    if (pool != nullptr) driver->MemPoolDestroy(pool);
  }
};

class PoolImport final : public ImportedMemory {
 public:
  PoolImport(const CudaImporter& importer, ImportedPool pool, CUdeviceptr address,
             std::uint64_t bytes, bool direct) noexcept
      : ImportedMemory(address, bytes, direct), importer_(importer), pool_(std::move(pool)) {}
  // Freed in the order of a stream that nothing else is on: cuMemFree would wait for the device.
  ~PoolImport() override {
    const ContextScope scope(*importer_.driver, importer_.context);
    importer_.driver->MemFreeAsync(address(), CU_STREAM_PER_THREAD);
    const ImportedPool closed(std::move(pool_));
  }

  static Result<std::unique_ptr<ImportedMemory>> open(const CudaImporter& importer,
                                                      const ImportRequest& request) {
    const CudaDriver& driver = *importer.driver;
    const ContextScope scope(driver, importer.context);
    ImportedPool pool;
    const CUresult imported =
        driver.MemPoolImportFromShareableHandle(&pool.pool, CuMemImport::descriptor_of(request),
                                                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (imported != CUDA_SUCCESS) {
      pool.pool = nullptr;
      return not_opened(imported, "importing the memory pool");
    }
    pool.driver = &driver;
    CUmemPoolPtrExportData data{};
    std::memcpy(&data, request.handle.data(), sizeof data);
    CUdeviceptr address = 0;
    const CUresult opened = driver.MemPoolImportPointer(&address, pool.pool, &data);
    if (opened != CUDA_SUCCESS) return not_opened(opened, "importing memory of a pool");
    auto bytes = allocated_at(driver, address);
    if (!bytes) {
      driver.MemFreeAsync(address, CU_STREAM_PER_THREAD);
      return std::move(bytes).error();
    }
    const bool direct = gets_access(importer, pool.pool, address);
    return std::unique_ptr<ImportedMemory>(
        std::make_unique<PoolImport>(importer, std::move(pool), address, *bytes, direct));
  }

 private:
  // Whether the importer's kernels may use the memory. Where it is, the driver says: its owner may
  // be wrong, and a kernel's fault would end this process.
  static bool gets_access(const CudaImporter& importer, CUmemoryPool pool, CUdeviceptr address) {
    int device = -1;
    const CUresult asked =
        importer.driver->PointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address);
    if (asked == CUDA_SUCCESS && device == importer.device) return true;
    CUmemAccessDesc access{};
    access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access.location.id = importer.device;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return importer.driver->MemPoolSetAccess(pool, &access, 1) == CUDA_SUCCESS;
  }

  CudaImporter importer_;
  ImportedPool pool_;
};

}  // namespace

Result<std::unique_ptr<ImportedMemory>> import_cuda_memory(const CudaImporter& importer,
                                                           const ImportRequest& request) {
  KAAS_ASSIGN_OR_RETURN(const CUdevice gpu, find_gpu(importer, request));
  switch (request.kind) {
    case wire::DeviceMemoryKind::Legacy: {
      KAAS_ASSIGN_OR_RETURN(ImportContext context, ImportContext::of(importer, gpu));
      return LegacyImport::open(std::move(context), request);
    }
    case wire::DeviceMemoryKind::CuMem:
      return CuMemImport::open(importer, request);
    case wire::DeviceMemoryKind::Pool:
      return PoolImport::open(importer, request);
  }
  return refused("device memory of kind " + std::to_string(static_cast<int>(request.kind)) +
                 " is not known to this executor");
}

ImportedCudaEvent::~ImportedCudaEvent() {
  const ContextScope scope(*importer_.driver, importer_.context);
  importer_.driver->EventDestroy(event_);
}

Result<std::unique_ptr<ImportedEvent>> import_cuda_event(const CudaImporter& importer,
                                                         std::span<const std::byte> handle) {
  static_assert(sizeof(CUipcEventHandle) == kIpcHandleBytes);
  const ContextScope scope(*importer.driver, importer.context);
  CUipcEventHandle native{};
  std::memcpy(&native, handle.data(), sizeof native);
  CUevent event = nullptr;
  const CUresult opened = importer.driver->IpcOpenEventHandle(&event, native);
  if (opened != CUDA_SUCCESS) return not_opened(opened, "opening the event's IPC handle");
  return std::unique_ptr<ImportedEvent>(std::make_unique<ImportedCudaEvent>(importer, event));
}

}  // namespace kaas
