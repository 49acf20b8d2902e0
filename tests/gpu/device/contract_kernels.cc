#include "tests/gpu/device/contract_kernels.h"

#include "tests/gpu/device/contract_functions.h"

namespace kaas {

KernelEntry cuda_contract_kernel(const std::string& name) {
  KernelEntry entry;
  entry.name = name;
  if (name == "add_two") {
    entry.original = &contract_add_two;
  } else if (name == "throwing") {
    entry.opaque = &contract_throwing;
  } else if (name == "refusing") {
    entry.opaque = &contract_refusing;
  } else {
    entry.parameters = {{ParameterType::Kind::Output, {}, 0}};
    entry.device_entry = contract_entry((name + "      ").c_str());
    entry.resolve = &contract_resolve;
  }
  if (name == "count_blocks") {
    entry.shared_bytes_per_thread = 8;
    entry.ending_entry = contract_ending_entry();
  }
  return entry;
}

}  // namespace kaas
