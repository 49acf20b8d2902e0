#include "daemon/executor/run/plan.h"

#include <algorithm>

namespace kaas {

void Placement::measured(Way way, std::uint64_t ns) noexcept {
  if (decided_) return;
  const auto index = static_cast<std::size_t>(way);
  if (++tried_[index] > kIgnored) least_ns_[index] = std::min(least_ns_[index], ns);
  if (tried_[0] < kIgnored + kTries || tried_[1] < kIgnored + kTries) return;
  decide();
}

PlanRef fetch_plan(std::uint64_t bytes) {
  PlanRef plan(new ExecutorPlan);
  PlannedAllocation allocation;
  allocation.bytes = bytes;
  allocation.covered = true;
  allocation.cacheable_load = 0;
  plan->allocations.push_back(allocation);
  plan->loads.emplace_back(0, bytes, 0, false);
  plan->stores.emplace_back(0, bytes, 0, false);
  return plan;
}

bool ExecutorPlan::release_blocks() {
  bool released = false;
  for (const auto& frame : frames_) {
    for (BlockRef& block : frame->blocks) {
      released = released || static_cast<bool>(block);
      block = BlockRef();
    }
  }
  return released;
}

std::unique_ptr<ParameterFrame> ExecutorPlan::take_frame() {
  ++frames_in_use_;
  if (!frames_.empty()) {
    auto frame = std::move(frames_.back());
    frames_.pop_back();
    return frame;
  }
  auto frame = std::make_unique<ParameterFrame>();
  frame->words = words;
  frame->blocks.resize(allocations.size());
  std::size_t pointers = 0;
  for (const PlannedKernel& kernel : kernels) pointers += kernel.parameters.size() + 1;
  frame->pointers.reserve(pointers);
  for (const PlannedKernel& kernel : kernels) {
    KernelLaunch launch;
    launch.function = kernel.function;
    launch.shape = kernel.shape;
    launch.cooperative = kernel.cooperative;
    launch.programmatic = kernel.programmatic;
    launch.waits_first = kernel.function.waits && !kernel.cooperative;
    launch.after = kernel.after;
    launch.params = frame->pointers.data() + frame->pointers.size();
    for (const std::uint32_t at : kernel.parameters) frame->pointers.push_back(frame->at(at));
    // A null after the last one; a kernel without parameters gets a valid pointer, too.
    frame->pointers.push_back(nullptr);
    frame->launches.push_back(launch);
  }
  return frame;
}

}  // namespace kaas
