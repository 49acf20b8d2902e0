// What device.h promises, held by every device that needs no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "daemon/executor/device/host_device.h"
#include "tests/support/fake_device.h"

namespace kaas {
namespace {

constexpr std::uint64_t kMemoryBytes = 1u << 20;

struct HostFixture {
  HostDevice device{kMemoryBytes, 2};
};
struct FakeFixture {
  FakeDevice device{FakeDevice::Options{.memory_bytes = kMemoryBytes}};
};
struct AsynchronousFakeFixture {
  FakeDevice device{FakeDevice::Options{.memory_bytes = kMemoryBytes, .asynchronous = true}};
};

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

template <class Fixture>
class DeviceContract : public testing::Test, protected Fixture {
 protected:
  DeviceStream& stream() {
    if (stream_ == nullptr) stream_ = *this->device.open_stream();
    return *stream_;
  }
  DeviceMemory memory(std::uint64_t bytes) {
    auto allocated = this->device.allocate(bytes);
    EXPECT_TRUE(allocated.has_value());
    return *std::move(allocated);
  }
  void write(DeviceAddress to, const std::vector<std::uint32_t>& words) {
    EXPECT_TRUE(stream().copy_to_device(to, std::as_bytes(std::span(words))).has_value());
  }
  std::vector<std::uint32_t> read(DeviceAddress from, std::size_t count) {
    std::vector<std::uint32_t> words(count);
    const auto bytes = std::as_writable_bytes(std::span(words));
    EXPECT_TRUE(stream().copy_to_host(bytes, from).has_value());
    EXPECT_TRUE(stream().wait().has_value());
    return words;
  }
  // Launches `entry` with one address as its only parameter; `program` has no launches yet.
  Result<void> launch(const KernelEntry& entry, std::uint32_t blocks, void** params,
                      KernelProgram program = {}) {
    KernelLaunch launch;
    launch.function = *this->device.load(entry);
    launch.shape.struct_size = sizeof launch.shape;
    launch.shape.grid[0] = blocks;
    launch.shape.grid[1] = launch.shape.grid[2] = 1;
    launch.shape.block[0] = 64;
    launch.shape.block[1] = launch.shape.block[2] = 1;
    launch.shape.shared_bytes = entry.shared_bytes(0, 64);
    launch.params = params;
    program.launches = {&launch, 1};
    KAAS_RETURN_IF_ERROR(stream().launch(program));
    return stream().wait();
  }

  std::unique_ptr<DeviceStream> stream_;
};
TYPED_TEST_SUITE_P(DeviceContract);

TYPED_TEST_P(DeviceContract, SaysItsLimits) {
  const DeviceLimits& limits = this->device.limits();
  EXPECT_FALSE(limits.name.empty());
  EXPECT_GE(limits.memory_bytes, kMemoryBytes);
  EXPECT_GE(limits.block_threads, 256u);
  EXPECT_GE(limits.grid[0], 65'535u);
  EXPECT_GE(limits.host_threads, 1u);
}

TYPED_TEST_P(DeviceContract, RefusesAllocationLargerThanFreeMemory) {
  for (const std::uint64_t bytes : {kMemoryBytes + 1, std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
    const auto result = this->device.allocate(bytes);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, StatusCode::OutOfMemory);
    EXPECT_NE(result.error().message.find(std::to_string(kMemoryBytes)), std::string::npos);
  }
  EXPECT_EQ(this->device.allocated_bytes(), 0u);
}

TYPED_TEST_P(DeviceContract, MemoryComesBackWhenItsOwnerLetsGo) {
  {
    const DeviceMemory all = this->memory(kMemoryBytes);
    EXPECT_EQ(this->device.allocated_bytes(), kMemoryBytes);
    EXPECT_FALSE(this->device.allocate(1).has_value());
  }
  EXPECT_EQ(this->device.allocated_bytes(), 0u);
  EXPECT_TRUE(this->device.allocate(kMemoryBytes).has_value());
}

TYPED_TEST_P(DeviceContract, AllocationsAreAlignedAndApart) {
  std::vector<DeviceMemory> several;
  for (const std::uint64_t bytes : {1u, 3u, 257u, 4096u}) several.push_back(this->memory(bytes));
  for (std::size_t i = 0; i < several.size(); ++i) {
    EXPECT_EQ(several[i].address() % kDeviceAlignmentBytes, 0u);
    for (std::size_t j = 0; j < i; ++j) {
      const bool before = several[i].address() + several[i].bytes() <= several[j].address();
      const bool behind = several[j].address() + several[j].bytes() <= several[i].address();
      EXPECT_TRUE(before || behind);
    }
  }
}

TYPED_TEST_P(DeviceContract, MovedMemoryIsReleasedOnce) {
  DeviceMemory first = this->memory(64);
  const DeviceAddress address = first.address();
  DeviceMemory second = std::move(first);
  EXPECT_EQ(second.address(), address);
  EXPECT_EQ(first.address(), 0u);  // NOLINT(bugprone-use-after-move): that is what is tested.
  second = this->memory(64);
  EXPECT_NE(second.address(), 0u);
}

TYPED_TEST_P(DeviceContract, CopiesThereBetweenAndBack) {
  const DeviceMemory from = this->memory(64);
  const DeviceMemory to = this->memory(64);
  this->write(from.address(), {1, 2, 3, 4});
  ASSERT_TRUE(this->stream().copy(to.address() + 4, from.address(), 12).has_value());
  ASSERT_TRUE(this->stream().zero(to.address() + 16, 4).has_value());
  EXPECT_EQ(this->read(to.address() + 4, 4), (std::vector<std::uint32_t>{1, 2, 3, 0}));
}

TYPED_TEST_P(DeviceContract, SourceOfACopyMayChangeAfterTheCall) {
  const DeviceMemory memory = this->memory(16);
  std::vector<std::uint32_t> words{1, 2, 3, 4};
  this->write(memory.address(), words);
  std::fill(words.begin(), words.end(), 9u);
  EXPECT_EQ(this->read(memory.address(), 4), (std::vector<std::uint32_t>{1, 2, 3, 4}));
}

TYPED_TEST_P(DeviceContract, EveryBlockRunsOnceWhateverTheGrid) {
  KernelEntry entry;
  entry.name = "count_blocks";
  entry.host_blocks = &count_blocks;
  entry.shared_bytes_per_thread = 8;
  for (const std::uint32_t blocks : {1u, 7u, 1000u, 20'000u}) {
    for (const bool brief : {false, true}) {
      const DeviceMemory memory = this->memory(blocks * 4);
      ASSERT_TRUE(this->stream().zero(memory.address(), blocks * 4).has_value());
      DeviceAddress address = memory.address();
      void* params[] = {&address};
      KernelProgram program;
      program.brief = brief;
      program.n_iter = 2;
      ASSERT_TRUE(this->launch(entry, blocks, params, program).has_value());
      std::vector<std::uint32_t> wanted(blocks);
      for (std::uint32_t i = 0; i < blocks; ++i) wanted[i] = 2 * (i + 1);
      EXPECT_EQ(this->read(address, blocks), wanted);
      EXPECT_EQ(this->stream().counts().launches, 2u);
      EXPECT_EQ(this->stream().counts().iterations, 2u);
    }
  }
}

TYPED_TEST_P(DeviceContract, OriginalFormGetsGridBlockAndBuffers) {
  KernelEntry entry;
  entry.name = "add_two";
  entry.original = &add_two;
  const DeviceMemory memory = this->memory(16);
  this->write(memory.address(), {5, 0});
  DeviceAddress buffers[] = {memory.address(), memory.address() + 4};
  void* params[] = {buffers};
  ASSERT_TRUE(this->launch(entry, 3, params).has_value());
  EXPECT_EQ(this->read(memory.address(), 2), (std::vector<std::uint32_t>{5, 5 + 3 * 64}));
}

TYPED_TEST_P(DeviceContract, UntilStopsAfterTheIterationThatSetsIt) {
  KernelEntry entry;
  entry.name = "count_to_three";
  entry.host_blocks = &count_to_three;
  const DeviceMemory memory = this->memory(16);
  this->write(memory.address(), {0, 0});
  DeviceAddress address = memory.address();
  void* params[] = {&address};
  KernelProgram program;
  program.n_iter = 100;
  program.until = address + 4;
  ASSERT_TRUE(this->launch(entry, 1, params, program).has_value());
  EXPECT_EQ(this->read(address, 2), (std::vector<std::uint32_t>{3, 1}));
  EXPECT_EQ(this->stream().counts().iterations, 3u);
}

TYPED_TEST_P(DeviceContract, FailureOfAKernelIsAnErrorWithItsName) {
  for (const kaas_opaque_launch form : {&throwing, &refusing}) {
    KernelEntry entry;
    entry.name = "faulty";
    entry.opaque = form;
    const auto outcome = this->launch(entry, 1, nullptr);
    ASSERT_FALSE(outcome.has_value());
    EXPECT_EQ(outcome.error().code, StatusCode::KernelFault);
    EXPECT_NE(outcome.error().message.find("faulty"), std::string::npos);
    const char* cause = form == &throwing ? "from a kernel" : "no reason";
    EXPECT_NE(outcome.error().message.find(cause), std::string::npos) << outcome.error().message;
  }
  // The device is as good as before.
  const DeviceMemory memory = this->memory(16);
  this->write(memory.address(), {1});
  EXPECT_EQ(this->read(memory.address(), 1), (std::vector<std::uint32_t>{1}));
}

TYPED_TEST_P(DeviceContract, RefusesAKernelThatWasBuiltForAnotherDevice) {
  KernelEntry entry;
  entry.name = "foreign";
  const auto loaded = this->device.load(entry);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(loaded.error().message.find("foreign"), std::string::npos);
}

TYPED_TEST_P(DeviceContract, MarksMeasureForward) {
  this->stream().mark(StreamMark::Begin);
  this->stream().mark(StreamMark::Computed);
  ASSERT_TRUE(this->stream().wait().has_value());
  EXPECT_LT(this->stream().between_ns(StreamMark::Begin, StreamMark::Computed), 60'000'000'000u);
}

REGISTER_TYPED_TEST_SUITE_P(DeviceContract, SaysItsLimits, RefusesAllocationLargerThanFreeMemory,
                            MemoryComesBackWhenItsOwnerLetsGo, AllocationsAreAlignedAndApart,
                            MovedMemoryIsReleasedOnce, CopiesThereBetweenAndBack,
                            SourceOfACopyMayChangeAfterTheCall, EveryBlockRunsOnceWhateverTheGrid,
                            OriginalFormGetsGridBlockAndBuffers,
                            UntilStopsAfterTheIterationThatSetsIt,
                            FailureOfAKernelIsAnErrorWithItsName,
                            RefusesAKernelThatWasBuiltForAnotherDevice, MarksMeasureForward);
INSTANTIATE_TYPED_TEST_SUITE_P(Host, DeviceContract, HostFixture);
INSTANTIATE_TYPED_TEST_SUITE_P(Fake, DeviceContract, FakeFixture);
INSTANTIATE_TYPED_TEST_SUITE_P(AsynchronousFake, DeviceContract, AsynchronousFakeFixture);

}  // namespace
}  // namespace kaas
