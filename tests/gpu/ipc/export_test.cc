// What kaas::cuda makes of pointers: the kind, base and offset, and refusals that name the kind.
#include <gtest/gtest.h>
#include <kaas/cuda.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "tests/gpu/ipc/cuda_memory.h"

namespace kaas {
namespace {

using Kind = DeviceAllocation::Kind;
constexpr std::uint64_t kBytes = 64u << 10;

class CudaExportTest : public testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    KAAS_MUST_CUDA(cudaSetDevice(0));
    KAAS_MUST_CUDA(cudaFree(nullptr));
  }
  static std::string refusal(const void* pointer, std::uint64_t bytes = kBytes) {
    const auto exported = CudaExport::create(pointer, bytes);
    return exported.has_value() ? "exported" : to_string(exported.error());
  }
  static void expect_refused(const void* pointer, const std::string& kind,
                             const std::string& instead) {
    const std::string text = refusal(pointer);
    EXPECT_NE(text.find("InvalidArgument: "), std::string::npos) << text;
    EXPECT_NE(text.find(kind), std::string::npos) << text;
    EXPECT_NE(text.find(instead), std::string::npos) << text;
  }
};

TEST_F(CudaExportTest, PointerIntoCudaMallocIsItsBaseAndAnOffset) {
  void* memory = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&memory, kBytes));
  const auto exported = CudaExport::create(static_cast<std::byte*>(memory) + 4096, kBytes - 4096);
  ASSERT_TRUE(exported.has_value()) << exported.error().message;
  EXPECT_EQ(exported->allocation().kind, Kind::Legacy);
  EXPECT_EQ(exported->allocation().handle.size(), 64u);
  EXPECT_EQ(exported->allocation().gpu.size(), 16u);
  EXPECT_EQ(exported->allocation().descriptor, -1);
  EXPECT_GE(exported->allocation().bytes, kBytes);
  EXPECT_EQ(exported->offset(), 4096u);
  KAAS_MUST_CUDA(cudaFree(memory));
}

// Which is how kaasd knows that two registrations are one allocation.
TEST_F(CudaExportTest, AllPointersIntoAnAllocationHaveOneHandle) {
  void* malloced = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&malloced, kBytes));
  const MappedMemory mapped(0, kBytes, true);
  SharedPool pool(0);
  void* pooled = pool.allocate(kBytes);
  void* other = pool.allocate(kBytes);
  for (void* memory : {malloced, mapped.get(), pooled}) {
    const auto first = CudaExport::create(memory, kBytes);
    const auto second = CudaExport::create(static_cast<std::byte*>(memory) + 256, 256);
    ASSERT_TRUE(first.has_value()) << first.error().message;
    ASSERT_TRUE(second.has_value()) << second.error().message;
    EXPECT_TRUE(std::ranges::equal(first->allocation().handle, second->allocation().handle))
        << "kind " << static_cast<int>(first->allocation().kind);
    EXPECT_EQ(first->allocation().bytes, second->allocation().bytes);
    EXPECT_EQ(second->offset(), first->offset() + 256);
  }
  const auto one = CudaExport::create(pooled, kBytes);
  const auto two = CudaExport::create(other, kBytes);
  ASSERT_TRUE(one.has_value() && two.has_value());
  EXPECT_FALSE(std::ranges::equal(one->allocation().handle, two->allocation().handle));
  SharedPool::free(pooled);
  SharedPool::free(other);
  KAAS_MUST_CUDA(cudaFree(malloced));
}

TEST_F(CudaExportTest, CuMemAllocationComesWithADescriptor) {
  const MappedMemory memory(0, kBytes, true);
  const auto exported = CudaExport::create(static_cast<std::byte*>(memory.get()) + 512, 512);
  ASSERT_TRUE(exported.has_value()) << exported.error().message;
  EXPECT_EQ(exported->allocation().kind, Kind::CuMem);
  EXPECT_GE(exported->allocation().descriptor, 0);
  EXPECT_EQ(exported->allocation().bytes, memory.bytes());
  EXPECT_EQ(exported->offset(), 512u);
}

TEST_F(CudaExportTest, TwoCuMemAllocationsHaveTwoNames) {
  const MappedMemory a(0, kBytes, true);
  const MappedMemory b(0, kBytes, true);
  const auto one = CudaExport::create(a.get(), kBytes);
  const auto two = CudaExport::create(b.get(), kBytes);
  ASSERT_TRUE(one.has_value() && two.has_value());
  EXPECT_FALSE(std::ranges::equal(one->allocation().handle, two->allocation().handle));
}

TEST_F(CudaExportTest, MemoryOfASharedPoolComesWithThePoolsDescriptor) {
  SharedPool pool(0);
  void* memory = pool.allocate(kBytes);
  const auto exported = CudaExport::create(static_cast<std::byte*>(memory) + 512, 512);
  ASSERT_TRUE(exported.has_value()) << exported.error().message;
  EXPECT_EQ(exported->allocation().kind, Kind::Pool);
  EXPECT_GE(exported->allocation().descriptor, 0);
  EXPECT_EQ(exported->allocation().handle.size(), 64u);
  EXPECT_EQ(exported->offset(), 512u);
  SharedPool::free(memory);
}

TEST_F(CudaExportTest, BytesPastTheEndAreRefusedWithBothSizes) {
  void* memory = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&memory, 1u << 20));
  const std::string text =
      refusal(static_cast<std::byte*>(memory) + (512u << 10), (512u << 10) + 4);
  EXPECT_NE(text.find("bytes is 524292, allowed: 1 to 524288"), std::string::npos) << text;
  EXPECT_NE(refusal(memory, 0).find("bytes is 0"), std::string::npos);
  EXPECT_NE(refusal(memory, ~std::uint64_t{0}).find("allowed: 1 to"), std::string::npos);
  KAAS_MUST_CUDA(cudaFree(memory));
}

TEST_F(CudaExportTest, MemoryThatCantBeExportedIsRefusedByItsKind) {
  void* managed = nullptr;
  KAAS_MUST_CUDA(cudaMallocManaged(&managed, kBytes));
  expect_refused(managed, "managed memory", "cudaMalloc");
  KAAS_MUST_CUDA(cudaFree(managed));

  void* pinned = nullptr;
  KAAS_MUST_CUDA(cudaMallocHost(&pinned, kBytes));
  expect_refused(pinned, "page-locked host memory", "Client::allocate");
  KAAS_MUST_CUDA(cudaFreeHost(pinned));

  void* pooled = nullptr;
  KAAS_MUST_CUDA(cudaMallocAsync(&pooled, kBytes, nullptr));
  expect_refused(pooled, "pool that was not made to be shared", "cudaMemPoolCreate");
  KAAS_MUST_CUDA(cudaFreeAsync(pooled, nullptr));

  const MappedMemory mapped(0, kBytes, false);
  expect_refused(mapped.get(), "CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR", "cudaMalloc");

  std::vector<std::byte> host(kBytes);
  expect_refused(host.data(), "did not allocate", "Client::allocate");
}

TEST_F(CudaExportTest, FreedMemoryIsRefused) {
  void* memory = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&memory, 32u << 20));
  KAAS_MUST_CUDA(cudaFree(memory));
  expect_refused(memory, "freed", "Client::allocate");
}

TEST_F(CudaExportTest, ThreadWithoutAContextExportsAndHasNoneAfterwards) {
  void* memory = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&memory, kBytes));
  const MappedMemory mapped(0, kBytes, true);
  SharedPool pool(0);
  void* pooled = pool.allocate(kBytes);
  std::thread([&] {
    for (void* pointer : {memory, mapped.get(), pooled}) {
      const auto exported = CudaExport::create(pointer, kBytes);
      EXPECT_TRUE(exported.has_value()) << exported.error().message;
    }
    CUcontext current = nullptr;
    KAAS_MUST_CUDA(KAAS_DRIVER(cuCtxGetCurrent)(&current));
    EXPECT_EQ(current, nullptr);
  }).join();
  SharedPool::free(pooled);
  KAAS_MUST_CUDA(cudaFree(memory));
}

TEST_F(CudaExportTest, DescriptorsAreClosedWithTheExport) {
  const MappedMemory mapped(0, kBytes, true);
  const auto first = CudaExport::create(mapped.get(), kBytes);
  ASSERT_TRUE(first.has_value());
  const int lowest = ::dup(0);
  ::close(lowest);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(CudaExport::create(mapped.get(), kBytes).has_value());
  const int still_lowest = ::dup(0);
  ::close(still_lowest);
  EXPECT_EQ(still_lowest, lowest);
}

TEST_F(CudaExportTest, GpuOfTheMemoryIsTold) {
  if (gpu_count() < 2) GTEST_SKIP() << "one GPU only";
  std::vector<std::vector<std::byte>> uuids;
  for (int device = 0; device < 2; ++device) {
    KAAS_MUST_CUDA(cudaSetDevice(device));
    void* memory = nullptr;
    KAAS_MUST_CUDA(cudaMalloc(&memory, kBytes));
    KAAS_MUST_CUDA(cudaSetDevice(0));  // Another one is current.
    const auto exported = CudaExport::create(memory, kBytes);
    ASSERT_TRUE(exported.has_value()) << exported.error().message;
    const auto gpu = exported->allocation().gpu;
    uuids.emplace_back(gpu.begin(), gpu.end());
  }
  EXPECT_NE(uuids[0], uuids[1]);
}

}  // namespace
}  // namespace kaas
