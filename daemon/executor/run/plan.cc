#include "daemon/executor/run/plan.h"

namespace kaas {

std::unique_ptr<ParameterFrame> ExecutorPlan::take_frame() {
  if (!frames_.empty()) {
    auto frame = std::move(frames_.back());
    frames_.pop_back();
    return frame;
  }
  auto frame = std::make_unique<ParameterFrame>();
  frame->words = words;
  std::size_t pointers = 0;
  for (const PlannedKernel& kernel : kernels) pointers += kernel.parameters.size() + 1;
  frame->pointers.reserve(pointers);
  for (const PlannedKernel& kernel : kernels) {
    KernelLaunch launch;
    launch.function = kernel.function;
    launch.shape = kernel.shape;
    launch.cooperative = kernel.cooperative;
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
