// A CUDA GPU as a device. Memory is cut from big chunks, kernels are launched on streams or as
// graphs, completion is polled. The context is the GPU's primary one, which wrapper libraries with
// a runtime of their own share.
//
// A kernel that faults ends the context: every later call fails with KernelFault, lost() is true,
// and only a new process helps.
// Threads: as device.h says. Any thread that calls gets the context made current.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_set>

#include "daemon/executor/device/block_heap.h"
#include "daemon/executor/device/cuda/cuda_driver.h"
#include "daemon/executor/device/device.h"

namespace kaas {

class CudaGraphBuilder;
class CudaStreamPool;

class CudaDevice final : public Device {
 public:
  // `id` is a UUID, "GPU-..." or "MIG-...", `name` what to call it in reports. `reserved_sms`:
  // multiprocessors that background programs leave free, at least; 0: none.
  // Fails: Unavailable (no driver, no such device, taken exclusively), OutOfMemory.
  static Result<std::unique_ptr<CudaDevice>> open(const std::string& id, const std::string& name,
                                                  std::uint32_t reserved_sms = 0);
  ~CudaDevice() override;

  [[nodiscard]] const DeviceLimits& limits() const noexcept override { return limits_; }
  Result<DeviceMemory> allocate(std::uint64_t bytes) override;
  [[nodiscard]] std::uint64_t allocated_bytes() const noexcept override { return allocated_; }
  Result<DeviceMemory> allocate_host(std::uint64_t bytes) override;
  Result<HostRegistration> register_host(std::span<std::byte> memory, bool writable) override;
  void enter_thread() noexcept override { enter_again(); }
  Result<std::shared_ptr<DeviceModule>> load_module(const ModuleCode& code) override;
  Result<DeviceFunction> load(const KernelEntry& entry) override;
  // The form of a kernel that says itself that a run has ended; it has one. Any thread.
  Result<DeviceFunction> load_ending(const KernelEntry& entry);
  std::unique_ptr<PreparedProgram> prepare(const KernelProgram& program) override;
  Result<std::unique_ptr<DeviceStream>> open_stream() override;
  void flush_output() noexcept override;
  [[nodiscard]] std::shared_lock<std::shared_mutex> library_call() override {
    return std::shared_lock(library_calls_);
  }
  Result<std::unique_ptr<ImportedMemory>> import_memory(const ImportRequest& request) override;
  Result<std::unique_ptr<ImportedEvent>> import_event(std::span<const std::byte> handle) override;
  Result<std::unique_ptr<ExportableMemory>> allocate_exportable(std::uint64_t bytes) override;
  [[nodiscard]] bool lost() const noexcept override {
    return faulted_.load(std::memory_order_acquire) != CUDA_SUCCESS;
  }
  [[nodiscard]] std::string lost_reason() const override;

  // Free memory of the GPU now, as the driver says.
  [[nodiscard]] Result<std::uint64_t> free_bytes() const;

  // Where the first registered piece that begins behind `address`, and at or before `end`, begins;
  // `end` if there is none: a copy must not cross the edge of two pieces. Any thread.
  [[nodiscard]] const std::byte* next_piece(const std::byte* address, const std::byte* end) const;

  // --- For the other files of this folder --------------------------------------------------------
  [[nodiscard]] const CudaDriver& driver() const noexcept { return driver_; }
  // Makes the context current on the calling thread, if it is not yet.
  void enter() const noexcept;
  // The same after foreign code, which may have made another one current.
  void enter_again() const noexcept { driver_.CtxSetCurrent(context_); }
  // To be held while a library's launch function is captured: a library that synchronises with the
  // whole device meanwhile would fail, and so would the capture.
  [[nodiscard]] std::unique_lock<std::shared_mutex> no_library_calls() {
    return std::unique_lock(library_calls_);
  }
  // Of the whole device, or of the part that background programs are confined to, if there is one.
  [[nodiscard]] CudaStreamPool& streams(bool background) noexcept {
    return background && confined_streams_ ? *confined_streams_ : *streams_;
  }
  // Kernels of cuda_kernels.h.
  [[nodiscard]] CUfunction begin_run() const noexcept { return begin_run_; }
  [[nodiscard]] CUfunction end_run() const noexcept { return end_run_; }
  // Compute capability, 90 for 9.0.
  [[nodiscard]] int architecture() const noexcept;
  // Whether the context has ended, which an error of somebody else's code may come from.
  CUresult note_health() const;
  // Like cuda_status(), and notes whether the context has ended.
  Status failed(CUresult result, const std::string& what) const;

 private:
  CudaDevice(const CudaDriver& driver, CUdevice device) noexcept;
  Result<void> read_limits(const std::string& name);
  Result<void> make_background_part(std::uint32_t reserved_sms);
  Result<void> grow(std::uint64_t bytes);
  Result<DeviceFunction> load_symbol(const KernelEntry& entry, const void* symbol);
  Result<DeviceFunction> load_native(const KernelEntry& entry, void* found);
  [[nodiscard]] int attribute(CUdevice_attribute which) const noexcept;
  void release(DeviceAddress address, std::uint64_t bytes) noexcept override;
  void unregister_host(std::byte* memory, std::uint64_t bytes) noexcept override;

  const CudaDriver& driver_;
  CUdevice device_;
  CUcontext context_ = nullptr;
  CUstream quiet_stream_ = nullptr;  // Nothing is ever enqueued on it.
  CUfunction begin_run_ = nullptr;
  CUfunction end_run_ = nullptr;
  DeviceLimits limits_;
  mutable std::atomic<CUresult> faulted_{CUDA_SUCCESS};  // The first error that ended it.
  BlockHeap heap_;
  BlockHeap host_heap_;
  std::uint64_t allocated_ = 0;
  std::unordered_set<DeviceAddress> host_memory_;
  // Beginnings of pieces that are not those of a registration; usually none.
  mutable std::mutex pieces_mutex_;
  std::set<const std::byte*> pieces_;    // Under pieces_mutex_.
  std::atomic<bool> has_pieces_{false};  // Partner: next_piece.
  std::shared_mutex library_calls_;
  // These end before the context.
  CUgreenCtx background_part_ = nullptr;
  std::unique_ptr<CudaStreamPool> streams_;
  std::unique_ptr<CudaStreamPool> confined_streams_;
  std::unique_ptr<CudaGraphBuilder> graphs_;
};

// A GPU of this machine as kaas-executor --list-devices tells of it.
struct CudaDeviceInfo {
  std::string id;
  std::string name;
  std::uint64_t memory_bytes = 0;
  std::string problem;  // Why it can't be used; empty: it can.
};
// In the driver's order. Unavailable: why there are none.
Result<std::vector<CudaDeviceInfo>> list_cuda_devices();

}  // namespace kaas
