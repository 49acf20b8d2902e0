// The CUDA device keeps the contract, and what only it has.
#include "daemon/executor/device/cuda/cuda_device.h"

#include <sys/mman.h>

#include <cstdlib>
#include <random>

#include "tests/contract/device/device_contract.h"
#include "tests/gpu/device/contract_kernels.h"

namespace kaas {
namespace {

std::string first_device() {
  const auto devices = list_cuda_devices();
  return devices ? devices->front().id : "";
}

struct CudaFixture {
  static constexpr std::uint64_t kMemoryBytes = 0;
  static KernelEntry kernel(const std::string& name) { return cuda_contract_kernel(name); }

  CudaFixture() : owned(*CudaDevice::open(first_device(), "cuda")), device(*owned) {}
  std::unique_ptr<CudaDevice> owned;
  CudaDevice& device;
};

INSTANTIATE_TYPED_TEST_SUITE_P(Cuda, DeviceContract, CudaFixture);

class CudaDeviceTest : public DeviceContract<CudaFixture> {};

TEST_F(CudaDeviceTest, UnknownDeviceIsRefusedWithThoseThereAre) {
  const auto opened = CudaDevice::open("GPU-00000000-0000-0000-0000-000000000000", "none");
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, StatusCode::Unavailable);
  EXPECT_NE(opened.error().message.find(first_device()), std::string::npos);
}

TEST_F(CudaDeviceTest, RegisteredMemoryIsCopiedAcrossItsPiecesAndReachedInPlace) {
  constexpr std::uint64_t kBytes = 200u << 20;
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* words = static_cast<std::uint32_t*>(mapped);
  std::mt19937 random(1);
  for (std::uint64_t i = 0; i < kBytes / 4; i += 512)
    words[i] = static_cast<std::uint32_t>(random());
  {
    auto registered = device.register_host({static_cast<std::byte*>(mapped), kBytes}, true);
    ASSERT_TRUE(registered.has_value()) << registered.error().message;
    const DeviceMemory there = memory(kBytes);
    std::vector<std::byte> back(kBytes);
    const std::span<const std::byte> all(static_cast<const std::byte*>(mapped), kBytes);
    ASSERT_TRUE(stream().copy_to_device(there.address(), all).has_value());
    ASSERT_TRUE(stream().wait().has_value());
    ASSERT_TRUE(stream().copy_to_host(back, there.address()).has_value());
    ASSERT_TRUE(stream().wait().has_value());
    EXPECT_EQ(std::memcmp(back.data(), mapped, kBytes), 0);
    const auto outcome = stream().copy_to_host(
        {static_cast<std::byte*>(mapped) + 100, kBytes - 100}, there.address());
    ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
    ASSERT_TRUE(stream().wait().has_value());
    EXPECT_EQ(std::memcmp(back.data(), static_cast<std::byte*>(mapped) + 100, kBytes - 100), 0);
    auto address = reinterpret_cast<DeviceAddress>(mapped);
    std::fill_n(words, 4, 10u);
    void* params[] = {&address};
    ASSERT_TRUE(launch(kernel("count_blocks"), 3, params).has_value());
    EXPECT_EQ(words[2], 13u);
  }
  ::munmap(mapped, kBytes);
}

TEST_F(CudaDeviceTest, ReadOnlyMappingIsRegistered) {
  constexpr std::uint64_t kBytes = 1u << 20;
  const int file = ::memfd_create("read-only", 0);
  ASSERT_EQ(::ftruncate(file, kBytes), 0);
  void* mapped = ::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, file, 0);
  {
    const auto registered = device.register_host({static_cast<std::byte*>(mapped), kBytes}, false);
    EXPECT_TRUE(registered.has_value()) << registered.error().message;
  }
  ::munmap(mapped, kBytes);
  ::close(file);
}

TEST_F(CudaDeviceTest, KernelSaysWhatItTakes) {
  const auto function = device.load(kernel("count_blocks"));
  ASSERT_TRUE(function.has_value());
  EXPECT_GT(function->block_threads_max, 0u);
  EXPECT_GT(function->shared_bytes_max, 48u << 10);
  EXPECT_GT(function->registers, 0u);
}

// 0 if a kernel that faults is told of as it should be.
int run_faulting_kernel() {
  CudaFixture fixture;
  const auto memory = fixture.device.allocate(64);
  const auto stream = fixture.device.open_stream();
  if (!memory || !stream) return 2;
  const KernelEntry entry = CudaFixture::kernel("fault");
  KernelLaunch launch;
  launch.function = *fixture.device.load(entry);
  launch.shape.struct_size = sizeof launch.shape;
  for (auto* extents : {launch.shape.grid, launch.shape.block, launch.shape.cluster}) {
    std::fill_n(extents, 3, 1u);
  }
  DeviceAddress address = memory->address();
  void* params[] = {&address};
  launch.params = params;
  KernelProgram program;
  program.launches = {&launch, 1};
  static_cast<void>((*stream)->launch(program));
  const auto outcome = (*stream)->wait();
  if (outcome || outcome.error().code != StatusCode::KernelFault) return 3;
  if (outcome.error().message.find("fault") == std::string::npos) return 4;
  return fixture.device.lost() && !(*stream)->wait() ? 0 : 5;
}

// In a process of its own: the context does not survive it.
TEST(CudaFaultDeathTest, FaultingKernelLosesTheDeviceAndSaysSo) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::_Exit(run_faulting_kernel()), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto devices = kaas::list_cuda_devices();
  if (!devices) {
    std::printf("[  SKIPPED ] %s\n", devices.error().message.c_str());
    return EXIT_SUCCESS;
  }
  return RUN_ALL_TESTS();
}
