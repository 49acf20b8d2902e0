#include "daemon/executor/device/host_launch.h"

#include <exception>
#include <limits>
#include <new>

namespace kaas {
namespace {

struct SharedMemoryRelease {
  void operator()(std::byte* memory) const noexcept {
    ::operator delete (memory, std::align_val_t{KAAS_SHARED_ALIGNMENT});
  }
};

// Shared memory of the blocks that a thread runs, kept from launch to launch.
struct SharedMemory {
  std::unique_ptr<std::byte, SharedMemoryRelease> memory;
  std::uint64_t bytes = 0;
};
thread_local SharedMemory idle_shared_memory;

// Takes the thread's memory for a scope. Not by reference: a kernel that waits for tasks of its own
// may be given another chunk of blocks meanwhile, which then finds none and gets its own.
class SharedMemoryLease {
 public:
  explicit SharedMemoryLease(std::uint64_t bytes) {
    if (bytes == 0) return;
    held_ = std::exchange(idle_shared_memory, SharedMemory{});
    if (held_.bytes >= bytes) return;
    held_.memory.reset(
        static_cast<std::byte*>(::operator new (bytes, std::align_val_t{KAAS_SHARED_ALIGNMENT})));
    held_.bytes = bytes;
  }
  ~SharedMemoryLease() {
    if (held_.bytes > idle_shared_memory.bytes) idle_shared_memory = std::move(held_);
  }
  SharedMemoryLease(const SharedMemoryLease&) = delete;
  SharedMemoryLease& operator=(const SharedMemoryLease&) = delete;

  [[nodiscard]] void* data() const noexcept { return held_.memory.get(); }

 private:
  SharedMemory held_;
};

Status thrown(const KernelLaunch& launch, const char* what) {
  return Status{StatusCode::KernelFault,
                "kernel '" + launch.function.entry->name + "' threw an exception: " + what};
}

Result<void> run_opaque(const KernelLaunch& launch) {
  char error[512] = "";
  const int outcome = launch.function.entry->opaque(&launch.shape, launch.params, nullptr,
                                                    launch.shape.context, error, sizeof error);
  if (outcome == 0) return {};
  error[sizeof error - 1] = '\0';
  return Status{StatusCode::KernelFault, "kernel '" + launch.function.entry->name + "' failed (" +
                                             std::to_string(outcome) + "): " + error};
}

}  // namespace

Result<DeviceFunction> load_host_function(const KernelEntry& entry) {
  if (entry.host_blocks != nullptr || entry.opaque != nullptr || entry.original != nullptr) {
    return DeviceFunction{&entry, nullptr};
  }
  return Status{
      StatusCode::InvalidArgument,
      "kernel '" + entry.name + "' was built for CUDA, this executor's device is the host"};
}

void run_host_blocks(const KernelLaunch& launch, std::uint64_t first, std::uint64_t count) {
  const SharedMemoryLease shared(launch.shape.shared_bytes);
  launch.function.entry->host_blocks(&launch.shape, first, count, launch.params, shared.data());
}

Result<void> run_host_launch(const KernelLaunch& launch) {
  try {
    const KernelEntry& entry = *launch.function.entry;
    if (entry.host_blocks != nullptr) {
      run_host_blocks(launch, 0, block_count(launch.shape));
      return {};
    }
    if (entry.opaque != nullptr) return run_opaque(launch);
    entry.original(static_cast<int>(launch.shape.grid[0]), static_cast<int>(launch.shape.block[0]),
                   static_cast<void**>(launch.params[0]));
    return {};
  } catch (const std::exception& failure) {
    return thrown(launch, failure.what());
  } catch (...) {
    return thrown(launch, "of an unknown type");
  }
}

}  // namespace kaas
