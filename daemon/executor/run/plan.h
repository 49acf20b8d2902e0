// A loaded plan: kernels found, every index and range checked, parameters laid out; and the frames
// in which runs of it put their addresses. It comes in two halves: while its kernels are being
// loaded, runs of it are accepted already, and wait.
//
// A frame is what one run at a time uses: a copy of the plan's parameter words, the pointers to
// them, and the launches that borrow both. A run patches addresses and overridden literals into
// it, so nothing is built per run.
//
//   words     | literal | literal | raw ........ | address | address |   16-byte aligned pieces
//   pointers  | -> word | -> word | ...                                one per parameter
//   launches  | params -> pointers[first of kernel] | ...              one per kernel
//
// On a device that reaches host memory a frame is an instance of the plan, whose addresses stay the
// same from run to run as far as possible, since each that changes has to be patched into the
// device's graph. It keeps
//
//   staging   pinned host memory with a place for each small allocation that is loaded from or
//             stored to the host. Kernels work on it in place, or it is copied from and to there;
//             whichever the plan's own runs have shown to be faster (Placement)
//   blocks    the device memory of its last run, unless that has become a cached copy; given back
//             when memory is short
//   prepared  what the device made of its launches, for each way (Placement)
//
// Threads: main thread; a frame belongs to its run, which may execute on another one.
#pragma once

#include <array>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/executor/cache/memory_pool.h"
#include "daemon/executor/device/device.h"
#include "daemon/executor/library/code_loader.h"
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
  bool programmatic = false;
  std::vector<std::uint16_t> after;
  std::vector<LiteralSlot> literals;
  std::vector<std::uint32_t> parameters;  // Where in the words each one is, in signature order.
};

struct PlannedAllocation {
  std::uint64_t bytes = 0;
  bool written = false;    // By a kernel: a run never uses a cached copy for it.
  bool covered = false;    // Loads fill all of it.
  std::uint64_t uses = 0;  // By kernels of one iteration.
  // It has loads or stores, and stores take all that kernels may write: if they are all in a
  // client's device memory, the kernels can work there.
  bool may_be_foreign = false;
  // The load that fills all of it, if it is the only one and no kernel writes it: the allocation
  // may then be a cached copy, or become one.
  std::optional<std::uint16_t> cacheable_load;
  // Loads or stores connect it with the host, and it is small enough for a place in a frame's
  // staging memory, which begins here.
  std::optional<std::uint64_t> staging_offset;
};

// Where kernels work on allocations that come from or go to the host: in the host's memory, over
// the bus, or in the device's, with copies. In host memory, small ones have a place in the frame's
// staging memory, and larger ones are where the client has them, if that is registered. Neither is
// always better: it depends on how often the kernels touch the bytes. So a plan tries both, one
// after the other, since a change costs time of its own, and keeps the faster. Where nothing can be
// measured, because runs overlap, it stays with the first.
// Larger allocations are copied: the bus is no faster for kernels, and copies overlap with others.
inline constexpr std::uint64_t kInPlaceBytesMax = 4u << 20;

class Placement {
 public:
  enum class Way : std::uint8_t { InPlace, Copied };

  [[nodiscard]] Way next() const noexcept {
    if (decided_) return *decided_;
    return tried_[0] < kIgnored + kTries ? Way::InPlace : Way::Copied;
  }
  // A run has begun, whether it can be measured or not.
  void started() noexcept {
    if (!decided_ && ++started_ == kStartedMax) decide();
  }
  // A run that had the device for itself took so long.
  void measured(Way way, std::uint64_t ns) noexcept;
  // Empty: it is still trying.
  [[nodiscard]] std::optional<Way> decided() const noexcept { return decided_; }

 private:
  // The first runs load code and build graphs.
  static constexpr std::uint32_t kIgnored = 4;
  static constexpr std::uint32_t kTries = 8;
  static constexpr std::uint32_t kStartedMax = 512;

  void decide() noexcept { decided_ = least_ns_[0] <= least_ns_[1] ? Way::InPlace : Way::Copied; }

  std::uint32_t started_ = 0;
  std::array<std::uint32_t, 2> tried_{};
  std::array<std::uint64_t, 2> least_ns_{UINT64_MAX, UINT64_MAX};
  std::optional<Way> decided_;
};

[[nodiscard]] constexpr Placement::Way other(Placement::Way way) noexcept {
  return way == Placement::Way::InPlace ? Placement::Way::Copied : Placement::Way::InPlace;
}

struct ParameterFrame {
  std::vector<std::uint64_t> words;
  std::vector<void*> pointers;
  std::vector<KernelLaunch> launches;

  DeviceMemory staging;
  std::vector<BlockRef> blocks;         // Per allocation; empty: none is kept.
  std::optional<std::uint32_t> tenant;  // Whose bytes are in staging and blocks.
  // What the device has prepared for runs of one way, which differs in what is moved.
  struct Prepared {
    std::uint64_t runs = 0;
    std::unique_ptr<PreparedProgram> program;
  };
  std::array<Prepared, 2> prepared_by_way;  // Borrows all of the above: declared last.

  [[nodiscard]] Prepared& prepared(Placement::Way way) noexcept {
    return prepared_by_way[static_cast<std::size_t>(way)];
  }
  // Where the staging memory of an allocation begins.
  [[nodiscard]] std::byte* staged(std::uint64_t offset) const noexcept {
    return reinterpret_cast<std::byte*>(staging.address() +  // NOLINT(performance-no-int-to-ptr)
                                        offset);
  }

  [[nodiscard]] std::byte* at(std::uint32_t byte) noexcept {
    return reinterpret_cast<std::byte*>(words.data()) + byte;
  }
};

// That a plan keeps: each has pinned memory, and what the device has prepared.
inline constexpr std::size_t kIdleFramesMax = 16;

struct RunTask;

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
  std::uint64_t staging_bytes = 0;  // Of a frame.
  bool has_choice = false;          // Something in it can be worked on in host memory.
  bool calls_libraries = false;     // Library code launches, and may hold up whoever calls it.
  bool may_be_confined = false;     // All kernels are native and may run on part of the device.
  bool many_launches = false;       // Launching one by one holds up whoever does it.
  Placement placement;
  std::uint32_t frames_kept = 0;  // By tasks that are prepared to run again; the runner's.
  bool loading = false;           // Only its first half is there.
  std::optional<Status> failure;  // Why the second one will never be.
  std::vector<RunTask*> waiting;  // Runs that wait for the second; the runner's.

  // A frame that no run uses; the one that was given back last. Give it back with give_back().
  std::unique_ptr<ParameterFrame> take_frame();
  void give_back(std::unique_ptr<ParameterFrame> frame) {
    --frames_in_use_;
    if (frames_.size() < kIdleFramesMax) frames_.push_back(std::move(frame));
  }
  // By runs that are under way.
  [[nodiscard]] std::uint32_t frames_in_use() const noexcept {
    return frames_in_use_ - frames_kept;
  }
  // Gives back the blocks that idle frames keep. Returns whether there were any.
  bool release_blocks();
  // Takes the cost of a run that ended well into the average.
  void measured(std::uint64_t ns) noexcept {
    cost_ns = cost_ns == 0 ? ns + 1 : (cost_ns * 3 + ns) / 4 + 1;
  }

  // Kept open while the plan lives. Declared before the frames, which refer to its entries.
  std::vector<std::shared_ptr<OpenedLibrary>> libraries;

 private:
  std::vector<std::unique_ptr<ParameterFrame>> frames_;
  std::uint32_t frames_in_use_ = 0;
};

using PlanRef = boost::intrusive_ptr<ExecutorPlan>;

// The first half of a plan, which needs no kernels: its memory, loads and stores. Checks them, and
// all numbers, against the limits. `memory_limit_bytes` is what all runs together may allocate.
// Fails: InvalidArgument, OutOfMemory (working set).
Result<PlanRef> begin_plan(const wire::LoadPlan& message, Device& device,
                           std::uint64_t memory_limit_bytes);
// The rest, from the same verified message: `kernels` has what was found for each kernel, in order.
// A plan that fails here is of no use any more.
// Fails: InvalidArgument, or what finding a kernel met.
Result<void> complete_plan(const wire::LoadPlan& message, const PlanRef& plan,
                           std::span<const Result<LoadedKernel>> kernels, Device& device);

// Takes `bytes` that are on the device to the host, and does nothing else.
PlanRef fetch_plan(std::uint64_t bytes);

}  // namespace kaas
