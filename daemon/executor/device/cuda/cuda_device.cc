#include "daemon/executor/device/cuda/cuda_device.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "daemon/executor/device/cuda/cuda_compiler.h"
#include "daemon/executor/device/cuda/cuda_export.h"
#include "daemon/executor/device/cuda/cuda_graph.h"
#include "daemon/executor/device/cuda/cuda_import.h"
#include "daemon/executor/device/cuda/cuda_kernels.h"
#include "daemon/executor/device/cuda/cuda_module.h"
#include "daemon/executor/device/cuda/cuda_stream.h"
#include "daemon/executor/device/cuda/cuda_stream_pool.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// The first that has programmatic dependent launch.
constexpr int kProgrammaticArchitecture = 90;

// Chunks are asked for in this size: a request takes a piece of one without the driver.
constexpr std::uint64_t kChunkBytes = 64u << 20;
constexpr std::uint64_t kChunkGranularityBytes = 2u << 20;
constexpr std::uint64_t kHostChunkBytes = 2u << 20;
// One huge registration may be refused where its pieces are not, and takes long in one go.
constexpr std::uint64_t kRegisterPieceBytes = 64u << 20;
constexpr std::size_t kHookErrorBytes = 1024;

std::string uuid_text(const CUuuid& uuid, bool mig) {
  std::string text = mig ? "MIG-" : "GPU-";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
    text += digits;
  }
  return text;
}

std::string id_of(const CudaDriver& driver, CUdevice device) {
  CUuuid uuid{};
  if (driver.DeviceGetUuid(&uuid, device) != CUDA_SUCCESS) return "";
  char name[256] = "";
  driver.DeviceGetName(name, sizeof name, device);
  return uuid_text(uuid, std::string(name).find(" MIG ") != std::string::npos);
}

Result<CUdevice> find_device(const CudaDriver& driver, const std::string& id) {
  int count = 0;
  KAAS_RETURN_IF_CUDA_ERROR(driver.DeviceGetCount(&count), "counting CUDA devices");
  std::string found;
  for (int i = 0; i < count; ++i) {
    CUdevice device = 0;
    KAAS_RETURN_IF_CUDA_ERROR(driver.DeviceGet(&device, i), "looking at a CUDA device");
    const std::string one = id_of(driver, device);
    if (one == id || id == std::to_string(i)) return device;
    found += (found.empty() ? "" : ", ") + one;
  }
  return Status{StatusCode::Unavailable, "there is no CUDA device '" + id +
                                             "'; there is: " + (found.empty() ? "none" : found)};
}

}  // namespace

// --- Opening -------------------------------------------------------------------------------------

Result<std::unique_ptr<CudaDevice>> CudaDevice::open(const std::string& id, const std::string& name,
                                                     std::uint32_t reserved_sms) {
  KAAS_ASSIGN_OR_RETURN(const CudaDriver* driver, cuda_driver());
  KAAS_ASSIGN_OR_RETURN(const CUdevice ordinal, find_device(*driver, id));
  std::unique_ptr<CudaDevice> device(new CudaDevice(*driver, ordinal));
  KAAS_RETURN_IF_CUDA_ERROR(driver->DevicePrimaryCtxRetain(&device->context_, ordinal),
                            "creating a context on device '" + id + "'");
  device->enter();
  KAAS_RETURN_IF_ERROR(device->read_limits(name));
  const std::string own_kernels = "loading the executor's own kernels";
  KAAS_RETURN_IF_CUDA_ERROR(load_begin_run(&device->begin_run_), own_kernels);
  KAAS_RETURN_IF_CUDA_ERROR(load_end_run(&device->end_run_), own_kernels);
  KAAS_RETURN_IF_CUDA_ERROR(driver->StreamCreate(&device->quiet_stream_, CU_STREAM_NON_BLOCKING),
                            "creating a stream");
  device->streams_ = std::make_unique<CudaStreamPool>(*device);
  if (reserved_sms != 0) {
    if (const auto made = device->make_background_part(reserved_sms); !made) {
      std::fprintf(stderr, "kaas-executor: background runs use all of %s: %s\n", name.c_str(),
                   made.error().message.c_str());
    }
  }
  device->graphs_ = std::make_unique<CudaGraphBuilder>(*device);
  return device;
}

CudaDevice::CudaDevice(const CudaDriver& driver, CUdevice device) noexcept
    : driver_(driver),
      device_(device),
      heap_(kDeviceAlignmentBytes),
      host_heap_(kDeviceAlignmentBytes) {}

CudaDevice::~CudaDevice() {
  if (context_ == nullptr) return;
  enter();
  graphs_.reset();
  streams_.reset();
  confined_streams_.reset();
  if (background_part_ != nullptr) driver_.GreenCtxDestroy(background_part_);
  if (quiet_stream_ != nullptr) driver_.StreamDestroy(quiet_stream_);
  while (const auto chunk = heap_.remove_idle()) driver_.MemFree(chunk->address);
  while (const auto chunk = host_heap_.remove_idle()) {
    driver_.MemFreeHost(reinterpret_cast<void*>(chunk->address));  // NOLINT
  }
  driver_.DevicePrimaryCtxRelease(device_);
}

// The device's multiprocessors but `reserved_sms`, as a green context. Kernels that are launched on
// its streams run there alone; those of other streams anywhere.
// Reference: CUDA driver API manual, "Green Contexts".
Result<void> CudaDevice::make_background_part(std::uint32_t reserved_sms) {
  CUdevResource all{};
  KAAS_RETURN_IF_CUDA_ERROR(driver_.DeviceGetDevResource(device_, &all, CU_DEV_RESOURCE_TYPE_SM),
                            "asking for the device's multiprocessors");
  CUdevResource reserved{};
  CUdevResource rest{};
  unsigned groups = 1;
  KAAS_RETURN_IF_CUDA_ERROR(
      driver_.DevSmResourceSplitByCount(&reserved, &groups, &all, &rest, 0, reserved_sms),
      "setting " + std::to_string(reserved_sms) + " of " + std::to_string(all.sm.smCount) +
          " multiprocessors apart");
  if (rest.sm.smCount == 0) {
    return Status{StatusCode::InvalidArgument,
                  "executor.reserved_sms is " + std::to_string(reserved_sms) + ", which is all " +
                      std::to_string(all.sm.smCount) + " of it"};
  }
  CUdevResourceDesc description{};
  KAAS_RETURN_IF_CUDA_ERROR(driver_.DevResourceGenerateDesc(&description, &rest, 1),
                            "describing part of the device");
  KAAS_RETURN_IF_CUDA_ERROR(
      driver_.GreenCtxCreate(&background_part_, description, device_, CU_GREEN_CTX_DEFAULT_STREAM),
      "making a green context");
  confined_streams_ = std::make_unique<CudaStreamPool>(*this, background_part_);
  limits_.confines_background = true;
  return {};
}

int CudaDevice::attribute(CUdevice_attribute which) const noexcept {
  int value = 0;
  driver_.DeviceGetAttribute(&value, which, device_);
  return value;
}

Result<void> CudaDevice::read_limits(const std::string& name) {
  limits_.name = name;
  char model[256] = "";
  driver_.DeviceGetName(model, sizeof model, device_);
  limits_.model = model;
  limits_.kind = KAAS_DEVICE_CUDA;
  limits_.ordinal = device_;
  limits_.host_threads = 1;
  KAAS_ASSIGN_OR_RETURN(limits_.memory_bytes, free_bytes());
  const auto limit = [&](CUdevice_attribute which, std::uint32_t ours) {
    return std::min(static_cast<std::uint32_t>(std::max(attribute(which), 0)), ours);
  };
  limits_.grid = {limit(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, kGridXMax),
                  limit(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, kGridYzMax),
                  limit(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, kGridYzMax)};
  limits_.block = {limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, kBlockXyMax),
                   limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, kBlockXyMax),
                   limit(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, kBlockZMax)};
  limits_.block_threads = limit(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kBlockThreadsMax);
  limits_.shared_bytes =
      limit(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, kSharedBytesMax);
  limits_.synchronous = false;
  // Then an address of registered memory is the same on both sides.
  limits_.keeps_outputs = true;
  limits_.overlaps_launches = architecture() >= kProgrammaticArchitecture;
  limits_.reaches_host =
      attribute(CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM) != 0 &&
      attribute(CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING) != 0;
  return {};
}

void CudaDevice::enter() const noexcept {
  static thread_local CUcontext current = nullptr;
  if (current == context_) return;
  driver_.CtxSetCurrent(context_);
  current = context_;
}

Status CudaDevice::failed(CUresult result, const std::string& what) const {
  CUresult none = CUDA_SUCCESS;
  if (ends_the_context(result)) faulted_.compare_exchange_strong(none, result);
  return cuda_status(result, what);
}

CUresult CudaDevice::note_health() const {
  const CUresult health = driver_.StreamQuery(quiet_stream_);
  CUresult none = CUDA_SUCCESS;
  if (ends_the_context(health)) faulted_.compare_exchange_strong(none, health);
  return health;
}

std::string CudaDevice::lost_reason() const {
  return cuda_status(faulted_.load(), limits_.name).message;
}

Result<std::uint64_t> CudaDevice::free_bytes() const {
  enter();
  std::size_t free = 0;
  std::size_t total = 0;
  KAAS_RETURN_IF_CUDA_ERROR(driver_.MemGetInfo(&free, &total), "asking for free device memory");
  return std::uint64_t{free};
}

// Any synchronisation makes the driver write out its buffer (CUDA programming guide, "Formatted
// output").
void CudaDevice::flush_output() noexcept {
  enter();
  driver_.StreamSynchronize(quiet_stream_);
}

// --- Memory --------------------------------------------------------------------------------------

Result<DeviceMemory> CudaDevice::allocate(std::uint64_t bytes) {
  enter();
  auto address = heap_.take(bytes);
  if (!address) {
    KAAS_RETURN_IF_ERROR(grow(bytes));
    address = heap_.take(bytes);
  }
  const std::uint64_t counted =
      (bytes + kDeviceAlignmentBytes - 1) / kDeviceAlignmentBytes * kDeviceAlignmentBytes;
  allocated_ += counted;
  return DeviceMemory(*this, *address, counted);
}

// A chunk that holds `bytes`. What is idle elsewhere is given back first if the device is full.
Result<void> CudaDevice::grow(std::uint64_t bytes) {
  const auto refused = [&](const std::string& why) {
    return Status{StatusCode::OutOfMemory, "allocation of " + std::to_string(bytes) +
                                               " bytes, device " + limits_.name + " has " +
                                               std::to_string(heap_.free_bytes()) +
                                               " free in pieces and gives no more: " + why};
  };
  if (bytes > kBufferBytesMax) return refused("too large");
  const std::uint64_t least =
      (bytes + kChunkGranularityBytes - 1) / kChunkGranularityBytes * kChunkGranularityBytes;
  CUresult result = CUDA_SUCCESS;
  for (std::uint64_t wanted = std::max(least, kChunkBytes);;) {
    CUdeviceptr chunk = 0;
    result = driver_.MemAlloc(&chunk, wanted);
    if (result == CUDA_SUCCESS) {
      heap_.add({static_cast<DeviceAddress>(chunk), wanted});
      return {};
    }
    if (result != CUDA_ERROR_OUT_OF_MEMORY) break;
    if (wanted > least) {
      wanted = least;
      continue;
    }
    const auto idle = heap_.remove_idle();
    if (!idle) break;
    driver_.MemFree(idle->address);
  }
  const Status cause = failed(result, "cuMemAlloc");
  return lost() ? cause : refused(cause.message);
}

// Pinned memory is cut from chunks as well: pinning costs more than 0.1 ms each time.
Result<DeviceMemory> CudaDevice::allocate_host(std::uint64_t bytes) {
  enter();
  auto address = host_heap_.take(bytes);
  if (!address) {
    const std::uint64_t pages = (bytes + kHostChunkBytes - 1) / kHostChunkBytes * kHostChunkBytes;
    void* chunk = nullptr;
    const CUresult result =
        driver_.MemHostAlloc(&chunk, pages, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result != CUDA_SUCCESS) {
      return failed(result, "allocating " + std::to_string(pages) + " bytes of pinned host memory");
    }
    host_heap_.add({reinterpret_cast<DeviceAddress>(chunk), pages});
    address = host_heap_.take(bytes);
  }
  host_memory_.insert(*address);
  return DeviceMemory(*this, *address, bytes);
}

Result<std::unique_ptr<ImportedMemory>> CudaDevice::import_memory(const ImportRequest& request) {
  enter();
  auto memory = import_cuda_memory({&driver_, device_, context_}, request);
  if (!memory && memory.error().code == StatusCode::KernelFault) note_health();
  return memory;
}

Result<std::unique_ptr<ImportedEvent>> CudaDevice::import_event(std::span<const std::byte> handle) {
  enter();
  auto event = import_cuda_event({&driver_, device_, context_}, handle);
  if (!event && event.error().code == StatusCode::KernelFault) note_health();
  return event;
}

// Chunks of which nothing is used are given back first if the device is full.
Result<std::unique_ptr<ExportableMemory>> CudaDevice::allocate_exportable(std::uint64_t bytes) {
  enter();
  for (;;) {
    auto memory = allocate_exportable_cuda_memory({&driver_, device_, context_}, bytes);
    if (memory) return memory;
    if (memory.error().code == StatusCode::KernelFault) note_health();
    if (memory.error().code != StatusCode::OutOfMemory) return memory;
    const auto idle = heap_.remove_idle();
    if (!idle) return memory;
    driver_.MemFree(idle->address);
  }
}

void CudaDevice::release(DeviceAddress address, std::uint64_t bytes) noexcept {
  enter();
  if (host_memory_.erase(address) == 1) {
    host_heap_.give_back(address, bytes);
    return;
  }
  heap_.give_back(address, bytes);
  allocated_ -= bytes;
}

// In one go; a registration that is refused as a whole may be granted in pieces.
Result<HostRegistration> CudaDevice::register_host(std::span<std::byte> memory, bool writable) {
  enter();
  unsigned flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP;
  if (!writable) flags |= CU_MEMHOSTREGISTER_READ_ONLY;
  CUresult result = driver_.MemHostRegister(memory.data(), memory.size(), flags);
  std::uint64_t done = result == CUDA_SUCCESS ? memory.size() : 0;
  while (done < memory.size() && !lost()) {
    const std::uint64_t piece = std::min<std::uint64_t>(memory.size() - done, kRegisterPieceBytes);
    result = driver_.MemHostRegister(memory.data() + done, piece, flags);
    if (result != CUDA_SUCCESS) break;
    if (done != 0) {
      const std::lock_guard lock(pieces_mutex_);
      pieces_.insert(memory.data() + done);
      has_pieces_.store(true, std::memory_order_release);
    }
    done += piece;
  }
  if (done == memory.size()) return HostRegistration(*this, memory.data(), memory.size());
  if (done != 0) unregister_host(memory.data(), done);
  Status why =
      failed(result, "registering " + std::to_string(memory.size()) + " bytes of host memory");
  if (!lost()) why.code = StatusCode::ResourceExhausted;
  return why;
}

void CudaDevice::unregister_host(std::byte* memory, std::uint64_t bytes) noexcept {
  enter();
  driver_.MemHostUnregister(memory);
  if (!has_pieces_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(pieces_mutex_);
  const auto end = pieces_.lower_bound(memory + bytes);
  for (auto piece = pieces_.upper_bound(memory); piece != end; piece = pieces_.erase(piece)) {
    driver_.MemHostUnregister(const_cast<std::byte*>(*piece));
  }
}

const std::byte* CudaDevice::next_piece(const std::byte* address, const std::byte* end) const {
  if (!has_pieces_.load(std::memory_order_acquire)) return end;
  const std::lock_guard lock(pieces_mutex_);
  const auto next = pieces_.upper_bound(address);
  return next == pieces_.end() || *next >= end ? end : *next;
}

// --- Kernels -------------------------------------------------------------------------------------

int CudaDevice::architecture() const noexcept {
  return 10 * attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
         attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

Result<std::shared_ptr<DeviceModule>> CudaDevice::load_module(const ModuleCode& code) {
  enter();
  ModuleCode image = code;
  std::vector<std::byte> compiled;
  if (code.form == ModuleForm::Source) {
    KAAS_ASSIGN_OR_RETURN(compiled, compile_cuda(code, architecture()));
    image.bytes = compiled;
    image.what += " (compiled for sm_" + std::to_string(architecture()) + ")";
  }
  KAAS_ASSIGN_OR_RETURN(auto module, CudaModule::load(*this, image));
  return std::shared_ptr<DeviceModule>(std::move(module));
}

Result<DeviceFunction> CudaDevice::load(const KernelEntry& entry) {
  enter();
  if (entry.host_blocks != nullptr) {
    return Status{
        StatusCode::InvalidArgument,
        "kernel '" + entry.name + "' was built for the host, this device is " + limits_.name};
  }
  const bool is_native = entry.opaque == nullptr && entry.original == nullptr;
  if (!is_native || entry.variable != 0) {
    DeviceFunction function;
    function.entry = &entry;
    return function;
  }
  if (entry.module_function != nullptr) return load_native(entry, entry.module_function);
  return load_symbol(entry, entry.device_entry);
}

Result<DeviceFunction> CudaDevice::load_ending(const KernelEntry& entry) {
  enter();
  return load_symbol(entry, entry.ending_entry);
}

Result<DeviceFunction> CudaDevice::load_symbol(const KernelEntry& entry, const void* symbol) {
  void* native = nullptr;
  char error[kHookErrorBytes] = "";
  if (entry.resolve != nullptr && entry.resolve(symbol, &native, error, sizeof error) == 0) {
    return load_native(entry, native);
  }
  error[sizeof error - 1] = '\0';
  const std::string what = "kernel '" + entry.name + "'";
  // What the library's runtime met may be what a kernel has done.
  if (const CUresult health = note_health(); ends_the_context(health)) {
    return failed(health, "loading " + what);
  }
  return Status{StatusCode::InvalidArgument, what + " can't be loaded on " + limits_.name +
                                                 (error[0] == '\0' ? "" : ": ") + error};
}

Result<DeviceFunction> CudaDevice::load_native(const KernelEntry& entry, void* found) {
  DeviceFunction function;
  function.entry = &entry;
  function.native = found;
  const auto native = static_cast<CUfunction>(function.native);
  if (const CUresult result = driver_.FuncLoad(native); result != CUDA_SUCCESS) {
    return failed(result, "loading kernel '" + entry.name + "' on " + limits_.name);
  }
  const auto attribute_of = [&](CUfunction_attribute which) {
    int value = 0;
    driver_.FuncGetAttribute(&value, which, native);
    return static_cast<std::uint32_t>(std::max(value, 0));
  };
  function.block_threads_max = attribute_of(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  function.registers = attribute_of(CU_FUNC_ATTRIBUTE_NUM_REGS);
  // Code for an older one, compiled anew by the driver, does not wait.
  function.waits = entry.waits && attribute_of(CU_FUNC_ATTRIBUTE_PTX_VERSION) >=
                                      static_cast<std::uint32_t>(kProgrammaticArchitecture);
  const std::uint32_t fixed = attribute_of(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
  function.shared_bytes_max = limits_.shared_bytes - std::min(limits_.shared_bytes, fixed);
  driver_.FuncSetAttribute(native, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                           static_cast<int>(function.shared_bytes_max));
  // Refused by devices without clusters, where no launch asks for one.
  driver_.FuncSetAttribute(native, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1);
  return function;
}

std::unique_ptr<PreparedProgram> CudaDevice::prepare(const KernelProgram& program) {
  return graphs_->prepare(program);
}

Result<std::unique_ptr<DeviceStream>> CudaDevice::open_stream() {
  KAAS_ASSIGN_OR_RETURN(auto stream, CudaStream::open(*this));
  return std::unique_ptr<DeviceStream>(std::move(stream));
}

// --- Which there are -----------------------------------------------------------------------------

Result<std::vector<CudaDeviceInfo>> list_cuda_devices() {
  KAAS_ASSIGN_OR_RETURN(const CudaDriver* driver, cuda_driver());
  int count = 0;
  KAAS_RETURN_IF_CUDA_ERROR(driver->DeviceGetCount(&count), "counting CUDA devices");
  std::vector<CudaDeviceInfo> devices;
  for (int i = 0; i < count; ++i) {
    CUdevice device = 0;
    if (driver->DeviceGet(&device, i) != CUDA_SUCCESS) continue;
    CudaDeviceInfo info;
    info.id = id_of(*driver, device);
    char name[256] = "";
    driver->DeviceGetName(name, sizeof name, device);
    info.name = name;
    std::size_t bytes = 0;
    driver->DeviceTotalMem(&bytes, device);
    info.memory_bytes = bytes;
    int mode = CU_COMPUTEMODE_DEFAULT;
    driver->DeviceGetAttribute(&mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, device);
    if (mode == CU_COMPUTEMODE_PROHIBITED) info.problem = "its compute mode is Prohibited";
    devices.push_back(std::move(info));
  }
  if (devices.empty()) return Status{StatusCode::Unavailable, "the CUDA driver finds no device"};
  return devices;
}

}  // namespace kaas
