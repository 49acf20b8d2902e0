// The devices that need no GPU keep the contract.
#include "tests/contract/device/device_contract.h"

#include <stdexcept>

#include "daemon/executor/device/host_device.h"
#include "tests/support/fake_device.h"

namespace kaas {
namespace {

// Adds its block's number to out[block]; every block must be run exactly once.
void count_blocks(const kaas_launch* launch, std::uint64_t first, std::uint64_t count,
                  void* const* params, void* shared) {
  auto* out = *static_cast<std::uint32_t* const*>(params[0]);
  for (std::uint64_t i = first; i < first + count; ++i) {
    if (launch->shared_bytes != 0) std::memset(shared, 1, launch->shared_bytes);
    out[i] += static_cast<std::uint32_t>(i) + 1;
  }
}

int add_two(int grid, int block, void** buffers) {
  auto* out = static_cast<std::uint32_t*>(buffers[1]);
  *out = *static_cast<std::uint32_t*>(buffers[0]) + static_cast<std::uint32_t>(grid * block);
  return 0;
}

int throwing(const kaas_launch*, void* const*, void*, void*, char*, std::size_t) {
  throw std::runtime_error("from a kernel");
}

int refusing(const kaas_launch*, void* const*, void*, void*, char* error, std::size_t bytes) {
  kaas_write_error(error, bytes, "no reason");
  return 3;
}

// Sets *flag once *counter has reached three.
void count_to_three(const kaas_launch*, std::uint64_t, std::uint64_t, void* const* params, void*) {
  auto* words = *static_cast<std::uint32_t* const*>(params[0]);
  words[1] = ++words[0] >= 3 ? 1 : 0;
}

KernelEntry host_kernel(const std::string& name) {
  KernelEntry entry;
  entry.name = name;
  if (name == "count_blocks") {
    entry.host_blocks = &count_blocks;
    entry.shared_bytes_per_thread = 8;
  }
  if (name == "count_to_three") entry.host_blocks = &count_to_three;
  if (name == "add_two") entry.original = &add_two;
  if (name == "throwing") entry.opaque = &throwing;
  if (name == "refusing") entry.opaque = &refusing;
  return entry;
}

struct HostKernels {
  static constexpr std::uint64_t kMemoryBytes = 1u << 20;
  static KernelEntry kernel(const std::string& name) { return host_kernel(name); }
};
struct HostFixture : HostKernels {
  HostDevice device{kMemoryBytes, 2};
};
struct FakeFixture : HostKernels {
  FakeDevice device{FakeDevice::Options{.memory_bytes = kMemoryBytes}};
};
struct AsynchronousFakeFixture : HostKernels {
  FakeDevice device{FakeDevice::Options{
      .memory_bytes = kMemoryBytes, .asynchronous = true, .reaches_host = true}};
};

INSTANTIATE_TYPED_TEST_SUITE_P(Host, DeviceContract, HostFixture);
INSTANTIATE_TYPED_TEST_SUITE_P(Fake, DeviceContract, FakeFixture);
INSTANTIATE_TYPED_TEST_SUITE_P(AsynchronousFake, DeviceContract, AsynchronousFakeFixture);

}  // namespace
}  // namespace kaas
