// A loaded plan: kernels found, every index and range checked, parameters laid out; and the frames
// in which runs of it put their addresses.
//
// A frame is what one run at a time uses: a copy of the plan's parameter words, the pointers to
// them, and the launches that borrow both. A run patches addresses and overridden literals into
// it, so nothing is built per run.
//
//   words     | literal | literal | raw ........ | address | address |   16-byte aligned pieces
//   pointers  | -> word | -> word | ...                                one per parameter
//   launches  | params -> pointers[first of kernel] | ...              one per kernel
//
// Threads: main thread; a frame belongs to its run, which may execute on another one.
#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/executor/device/device.h"
#include "daemon/executor/library/opened_library.h"
#include "schema/ipc/result.h"
#include "schema/kaas_generated.h"

namespace kaas {

// A place in the device memory of a run.
struct PlanPlace {
  std::uint64_t offset = 0;  // In the allocation.
  std::uint16_t allocation = 0;
};

// Byte `at` of the words receives the address of `place`.
struct AddressPatch {
  std::uint32_t at = 0;
  PlanPlace place;
};

struct LiteralSlot {
  wire::LiteralType type = wire::LiteralType::I32;
  std::uint32_t at = 0;  // Byte of the words.
  std::uint32_t bytes = 0;
};

struct PlannedKernel {
  DeviceFunction function;
  kaas_launch shape{};
  bool cooperative = false;
  std::vector<std::uint16_t> after;
  std::vector<LiteralSlot> literals;
  std::vector<std::uint32_t> parameters;  // Where in the words each one is, in signature order.
};

struct PlannedAllocation {
  std::uint64_t bytes = 0;
  bool written = false;  // By a kernel: a run never uses a cached copy for it.
  bool covered = false;  // Loads fill all of it.
  // The load that fills all of it, if it is the only one and no kernel writes it: the allocation
  // may then be a cached copy, or become one.
  std::optional<std::uint16_t> cacheable_load;
};

struct ParameterFrame {
  std::vector<std::uint64_t> words;
  std::vector<void*> pointers;
  std::vector<KernelLaunch> launches;

  [[nodiscard]] std::byte* at(std::uint32_t byte) noexcept {
    return reinterpret_cast<std::byte*>(words.data()) + byte;
  }
};

class ExecutorPlan
    : public boost::intrusive_ref_counter<ExecutorPlan, boost::thread_unsafe_counter> {
 public:
  std::uint32_t id = 0;
  std::vector<PlannedKernel> kernels;
  std::vector<PlannedAllocation> allocations;
  std::vector<wire::PlanRange> loads;
  std::vector<wire::PlanRange> stores;
  std::vector<AddressPatch> addresses;
  std::vector<std::uint64_t> words;  // What every frame starts with.
  std::uint64_t n_iter = 1;
  std::optional<PlanPlace> until;
  std::uint64_t working_set_bytes = 0;  // As the memory pool counts them.
  bool stateful = false;
  bool starts_inline = false;       // So small that its first run need not be measured.
  std::uint32_t kernel_misses = 0;  // Kernels that nobody had used; taken by the first run.
  std::uint64_t cost_ns = 0;        // Of a run, a moving average; 0: never measured.
  std::unique_ptr<PreparedProgram> prepared;

  // A frame that no run uses. Give it back with give_back().
  std::unique_ptr<ParameterFrame> take_frame();
  void give_back(std::unique_ptr<ParameterFrame> frame) { frames_.push_back(std::move(frame)); }
  // Takes the cost of a run that ended well into the average.
  void measured(std::uint64_t ns) noexcept {
    cost_ns = cost_ns == 0 ? ns + 1 : (cost_ns * 3 + ns) / 4 + 1;
  }

  // Kept open while the plan lives. Declared before the frames, which refer to its entries.
  std::vector<std::shared_ptr<OpenedLibrary>> libraries;

 private:
  std::vector<std::unique_ptr<ParameterFrame>> frames_;
};

using PlanRef = boost::intrusive_ptr<ExecutorPlan>;

// Libraries by kaasd's number, or why one could not be loaded.
using ExecutorLibraries = std::unordered_map<std::uint32_t, Result<std::shared_ptr<OpenedLibrary>>>;

// Checks a verified LoadPlan against the limits, the device and its libraries, and builds the plan.
// `memory_limit_bytes` is what all runs together may allocate.
// Fails: InvalidArgument, NotFound (library, kernel), OutOfMemory (working set), or what loading a
//        library met.
Result<PlanRef> build_plan(const wire::LoadPlan& message, const ExecutorLibraries& libraries,
                           Device& device, std::uint64_t memory_limit_bytes);

}  // namespace kaas
