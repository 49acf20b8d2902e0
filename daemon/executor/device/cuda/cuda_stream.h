// Work on a CUDA stream: one that is lent to it, or that of a run which it follows. Programs are
// launched as the graph that prepare() made of them once that is ready, else kernel by kernel.
//
// Completion is a word of host memory that the run's last kernel writes. A kernel that faults
// writes nothing, so the driver is asked now and then, too.
// Threads: as device.h says.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "daemon/executor/device/cuda/cuda_device.h"
#include "daemon/executor/device/cuda/cuda_stream_pool.h"

namespace kaas {

class CudaGraph;

class CudaStream final : public DeviceStream {
 public:
  static Result<std::unique_ptr<CudaStream>> open(CudaDevice& device);
  ~CudaStream() override;

  Result<void> copy_to_device(DeviceAddress to, std::span<const std::byte> from) override;
  Result<void> copy_to_host(std::span<std::byte> to, DeviceAddress from) override;
  Result<void> copy(DeviceAddress to, DeviceAddress from, std::uint64_t bytes) override;
  Result<void> zero(DeviceAddress to, std::uint64_t bytes) override;
  Result<void> launch(const KernelProgram& program) override;
  Result<void> follow(DeviceStream& earlier) override;
  Result<void> end() override;
  Result<void> wait_event(ImportedEvent& event) override;
  Result<void> record_event(ImportedEvent& event) override;

  Result<void> begin(bool timed, bool background) override;
  void mark(StreamMark mark) override;
  [[nodiscard]] std::uint64_t between_ns(StreamMark begin, StreamMark end) const override;
  [[nodiscard]] ProgramCounts counts() const override;

  Result<bool> poll() override;
  Result<void> wait() override;

 private:
  explicit CudaStream(CudaDevice& device) noexcept : device_(device), driver_(device.driver()) {}
  Result<void> enter();
  Result<void> wait_for(const LentStream& other);
  void make_marks();
  Result<void> launch_graph(CudaGraph& graph, const KernelProgram& program);
  Result<void> launch_moves(std::span<const Move> moves, bool signals);
  Result<void> finish_program(const KernelProgram& program);
  Result<void> launch_each(const KernelProgram& program, std::uint64_t iterations);
  Result<void> launch_until(const KernelProgram& program);
  Result<void> set_variable(const KernelLaunch& launch);
  Result<void> launch_opaque(const KernelLaunch& launch, const KernelProgram& program);
  Result<void> launch_original(const KernelLaunch& launch, const KernelProgram& program);
  Result<void> idle(CUresult result);
  [[nodiscard]] std::string what_it_does() const;

  CudaDevice& device_;
  const CudaDriver& driver_;
  LentStreamRef lent_;         // From the first call of a run until it has ended and is done.
  bool has_ended_ = false;     // end() was called for the run.
  CUstream stream_ = nullptr;  // It.
  bool background_ = false;
  std::vector<LentStreamRef> followed_;  // By follow(), for the run that is to begin.
  CUevent order_ = nullptr;              // Between this stream and others; made when first needed.
  DeviceMemory word_;                    // Host memory: what the last kernel of the stream signals.
  const std::uint32_t* signal_ = nullptr;  // Not zero when the run is done; null: ask the driver.
  std::uint32_t looks_ = 0;                // At the word since the driver was asked.
  std::array<CUevent, kStreamMarks> marks_{};  // Made when times are first wanted.
  bool timed_ = false;
  std::uint64_t begin_ns_ = 0;  // By this process's clock, where no events measure.
  std::uint64_t end_ns_ = 0;
  ProgramCounts counts_;
  const std::uint64_t* iterations_ = nullptr;  // Where the device counts them; null: counted here.
  std::span<const KernelLaunch> doing_;        // For errors that show later; borrowed until then.
};

// Enqueues one kernel that has a native function.
CUresult launch_kernel(const CudaDriver& driver, const KernelLaunch& launch, CUstream stream);

// Has an opaque kernel enqueue its work. Its code may leave another context current.
Result<void> call_opaque(const KernelLaunch& launch, void* const* params, CUstream stream);

// The driver's form of a launch's attributes, but for `programmatic`, which streams and graphs say
// in different ways; there is room for two. Returns how many.
unsigned launch_attributes(const KernelLaunch& launch, std::span<CUlaunchAttribute> attributes);

}  // namespace kaas
