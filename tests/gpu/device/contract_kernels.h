// The kernels of the device contract for CUDA.
#pragma once

#include <string>

#include "daemon/executor/device/kernel_entry.h"

namespace kaas {

// See tests/contract/device/device_contract.h; and "fault", which writes to address 8.
KernelEntry cuda_contract_kernel(const std::string& name);

}  // namespace kaas
