// Device memory of another process on a CUDA device: every kind, at its edges, and its end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "daemon/executor/device/cuda/cuda_export.h"
#include "daemon/executor/device/cuda/cuda_import.h"
#include "tests/gpu/ipc/cuda_memory.h"
#include "tests/gpu/ipc/exporter_process.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 1u << 20;

std::string name_of(Memory memory) {
  return memory == Memory::Malloc ? "Malloc" : memory == Memory::CuMem ? "CuMem" : "Pool";
}

class CudaImportTest : public testing::Test {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    KAAS_MUST_CUDA(cudaSetDevice(0));
    KAAS_MUST_CUDA(cudaFree(nullptr));
    ASSERT_TRUE(cuda_driver().has_value()) << cuda_driver().error().message;
    importer_.driver = *cuda_driver();
    KAAS_MUST_CUDA(importer_.driver->CtxGetCurrent(&importer_.context));
    KAAS_MUST_CUDA(importer_.driver->DeviceGet(&importer_.device, 0));
  }

  static ImportRequest request_of(const ExportedMemory& exported) {
    ImportRequest request;
    request.kind = static_cast<wire::DeviceMemoryKind>(exported.reply.kind);
    request.handle.assign(exported.reply.handle,
                          exported.reply.handle + exported.reply.handle_bytes);
    request.bytes = exported.reply.bytes;
    request.gpu.emplace();
    std::memcpy(request.gpu->data(), exported.reply.gpu, kGpuUuidBytes);
    request.descriptor = exported.descriptor.get();
    return request;
  }
  Result<std::unique_ptr<ImportedMemory>> import(const ImportRequest& request) {
    return import_cuda_memory(importer_, request);
  }
  std::unique_ptr<ImportedMemory> imported(const ExportedMemory& exported) {
    auto memory = import(request_of(exported));
    EXPECT_TRUE(memory.has_value()) << memory.error().message;
    return memory.has_value() ? *std::move(memory) : nullptr;
  }
  static void* at(const ImportedMemory& memory, std::uint64_t offset = 0) {
    return reinterpret_cast<void*>(memory.address() + offset);
  }
  // An error that blames the handle, after which the device works.
  void expect_refused(const ImportRequest& request, const std::string& why) {
    const auto memory = import(request);
    ASSERT_FALSE(memory.has_value()) << why;
    EXPECT_EQ(memory.error().code, StatusCode::InvalidArgument)
        << why << ": " << memory.error().message;
    void* own = nullptr;
    ASSERT_EQ(cudaMalloc(&own, kBytes), cudaSuccess) << why;
    fill_words(own, kBytes, 7);
    EXPECT_TRUE(all_words_are(own, kBytes, 7)) << why;
    KAAS_MUST_CUDA(cudaFree(own));
  }

  CudaImporter importer_;
};

class EveryKind : public CudaImportTest, public testing::WithParamInterface<Memory> {};
INSTANTIATE_TEST_SUITE_P(Memory, EveryKind,
                         testing::Values(Memory::Malloc, Memory::CuMem, Memory::Pool),
                         [](const auto& kind) { return name_of(kind.param); });

TEST_P(EveryKind, IsReadAndWrittenInPlace) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, 5);
  const auto memory = imported(exported);
  ASSERT_NE(memory, nullptr);
  EXPECT_TRUE(memory->direct());
  EXPECT_GE(memory->bytes(), kBytes);
  EXPECT_TRUE(all_words_are(at(*memory), kBytes, 5));
  fill_words(at(*memory, 4096), 4096, 9);
  KAAS_MUST_CUDA(cudaDeviceSynchronize());
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 4096, 4096, 9));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 8192, kBytes - 8192, 5));
  exporter.fill(exported.reply.allocation, 0, kBytes, 11);
  EXPECT_TRUE(all_words_are(at(*memory), kBytes, 11));
}

TEST_P(EveryKind, PointerInsideIsReachedThroughBaseAndOffset) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, 5, 12 * 1024);
  exporter.fill(exported.reply.allocation, 12 * 1024, 1024, 6);
  const auto memory = imported(exported);
  ASSERT_NE(memory, nullptr);
  EXPECT_TRUE(all_words_are(at(*memory, exported.reply.offset), 1024, 6));
  EXPECT_TRUE(all_words_are(at(*memory, exported.reply.offset + 1024), 1024, 5));
}

TEST_P(EveryKind, SmallAllocationsAreApart) {
  ExporterProcess exporter;
  const ExportedMemory a = exporter.allocate(GetParam(), 64u << 10, 1);
  const ExportedMemory b = exporter.allocate(GetParam(), 64u << 10, 2);
  const auto first = imported(a);
  const auto second = imported(b);
  ASSERT_TRUE(first != nullptr && second != nullptr);
  EXPECT_TRUE(all_words_are(at(*first, a.reply.offset), 64u << 10, 1));
  EXPECT_TRUE(all_words_are(at(*second, b.reply.offset), 64u << 10, 2));
}

TEST_P(EveryKind, SurvivesItsExporter) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, 5);
  const auto memory = imported(exported);
  ASSERT_NE(memory, nullptr);
  exporter.kill();
  EXPECT_TRUE(all_words_are(at(*memory), kBytes, 5));
  fill_words(at(*memory), kBytes, 6);
  EXPECT_TRUE(all_words_are(at(*memory), kBytes, 6));
}

TEST_P(EveryKind, SurvivesAnExporterThatIsKilledInAKernel) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, 5);
  const auto memory = imported(exported);
  ASSERT_NE(memory, nullptr);
  exporter.spin(exported.reply.allocation);
  exporter.kill();
  EXPECT_TRUE(all_words_are(at(*memory, 4096), kBytes - 4096, 5));
}

TEST_P(EveryKind, ThousandTimesOpenedAndClosedLeavesNothing) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), 8 * kBytes, 5);
  { const auto warm = imported(exported); }
  const std::uint64_t before = free_device_bytes();
  for (int i = 0; i < 1000; ++i) {
    const auto memory = imported(exported);
    ASSERT_NE(memory, nullptr) << i;
    if (i % 100 == 0) {
      ASSERT_TRUE(all_words_are(at(*memory), 4096, 5)) << i;
    }
  }
  EXPECT_EQ(free_device_bytes(), before);
}

TEST_P(EveryKind, MemoryIsBackWhenBothSidesHaveLetGo) {
  constexpr std::uint64_t kLarge = 256u << 20;
  ExporterProcess exporter;
  { const auto warm = imported(exporter.allocate(GetParam(), kBytes, 1)); }
  const std::uint64_t before = free_device_bytes();
  {
    ExportedMemory exported = exporter.allocate(GetParam(), kLarge, 5);
    auto memory = imported(exported);
    ASSERT_NE(memory, nullptr);
    EXPECT_LE(free_device_bytes(), before - kLarge);
    memory.reset();
    exporter.free(exported.reply.allocation);
  }
  exporter.kill();
  EXPECT_GE(free_device_bytes(), before);
}

TEST_P(EveryKind, WithoutTheGpuToldItIsFoundToo) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, 5);
  ImportRequest request = request_of(exported);
  request.gpu.reset();
  const auto memory = import(request);
  ASSERT_TRUE(memory.has_value()) << memory.error().message;
  EXPECT_TRUE(all_words_are(at(**memory), kBytes, 5));
}

TEST_P(EveryKind, OfAnotherGpuIsReachedAsAPeersOrCopied) {
  if (gpu_count() < 2) GTEST_SKIP() << "one GPU only";
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, 5, 0, 1);
  const auto memory = imported(exported);
  ASSERT_NE(memory, nullptr);
  int is_peer = 0;
  KAAS_MUST_CUDA(cudaDeviceCanAccessPeer(&is_peer, 0, 1));
  EXPECT_EQ(memory->direct(), is_peer != 0);
  void* here = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&here, kBytes));
  KAAS_MUST_CUDA(cudaMemcpy(here, at(*memory), kBytes, cudaMemcpyDefault));
  EXPECT_TRUE(all_words_are(here, kBytes, 5));
  fill_words(here, kBytes, 6);
  KAAS_MUST_CUDA(cudaMemcpy(at(*memory), here, kBytes, cudaMemcpyDefault));
  KAAS_MUST_CUDA(cudaDeviceSynchronize());
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 0, kBytes, 6));
  KAAS_MUST_CUDA(cudaFree(here));
}

TEST_F(CudaImportTest, GarbageHandlesAreRefused) {
  ExporterProcess exporter;
  const ExportedMemory good = exporter.allocate(Memory::Malloc, kBytes, 5);
  ImportRequest request;
  request.bytes = kBytes;
  request.handle.assign(kIpcHandleBytes, std::byte{0});
  expect_refused(request, "all zeros");
  request.handle.assign(kIpcHandleBytes, std::byte{0xff});
  expect_refused(request, "all ones");
  for (std::size_t i = 0; i < kIpcHandleBytes; ++i) {
    request.handle[i] = static_cast<std::byte>(i * 37 + 11);
  }
  expect_refused(request, "noise");
  const auto memory = imported(good);
  ASSERT_NE(memory, nullptr) << "after them, a good one opens";
}

TEST_F(CudaImportTest, DescriptorsOfOtherThingsAreRefused) {
  const Descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const Descriptor file(::memfd_create("not-device-memory", MFD_CLOEXEC));
  for (const auto kind : {wire::DeviceMemoryKind::CuMem, wire::DeviceMemoryKind::Pool}) {
    ImportRequest request;
    request.kind = kind;
    request.bytes = 2u << 20;
    request.handle.assign(kIpcHandleBytes, std::byte{1});
    for (const int descriptor : {null.get(), file.get()}) {
      request.descriptor = descriptor;
      expect_refused(request, "kind " + std::to_string(static_cast<int>(kind)));
    }
  }
}

TEST_F(CudaImportTest, DescriptorOfAnotherKindIsRefused) {
  ExporterProcess exporter;
  const ExportedMemory mapped = exporter.allocate(Memory::CuMem, kBytes, 5);
  const ExportedMemory pooled = exporter.allocate(Memory::Pool, kBytes, 5);
  ImportRequest request = request_of(mapped);
  request.descriptor = pooled.descriptor.get();
  expect_refused(request, "a pool as cuMem memory");
  request = request_of(pooled);
  request.descriptor = mapped.descriptor.get();
  expect_refused(request, "cuMem memory as a pool");
}

TEST_F(CudaImportTest, PointerOfAnotherPoolIsRefused) {
  ExporterProcess exporter;
  const ExportedMemory pooled = exporter.allocate(Memory::Pool, kBytes, 5);
  ImportRequest request = request_of(pooled);
  for (std::byte& byte : request.handle) byte ^= std::byte{0x5a};
  expect_refused(request, "a changed pointer");
}

TEST_F(CudaImportTest, CuMemAllocationSmallerThanSaidIsRefusedWithTheSize) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(Memory::CuMem, kBytes, 5);
  ImportRequest request = request_of(exported);
  request.bytes *= 2;
  expect_refused(request, "twice its size");
  EXPECT_NE(import(request).error().message.find(std::to_string(request.bytes)), std::string::npos);
  request.bytes = 100;
  expect_refused(request, "no multiple");
  EXPECT_NE(import(request).error().message.find("multiples of"), std::string::npos);
}

TEST_F(CudaImportTest, MemoryOfAGpuThatIsNotThereIsRefusedByItsName) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(Memory::Malloc, kBytes, 5);
  ImportRequest request = request_of(exported);
  request.gpu->fill(std::byte{0xab});
  expect_refused(request, "an unknown GPU");
  EXPECT_NE(import(request).error().message.find("GPU-abababab-abab-abab-abab-abababababab"),
            std::string::npos)
      << import(request).error().message;
}

TEST_F(CudaImportTest, HandleOfAnEndedProcessIsRefused) {
  ExportedMemory exported;
  {
    ExporterProcess exporter;
    exported = exporter.allocate(Memory::Malloc, kBytes, 5);
  }
  expect_refused(request_of(exported), "its process has ended");
}

TEST_F(CudaImportTest, HandleOfFreedMemoryIsRefused) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(Memory::Malloc, 64u << 20, 5);
  exporter.free(exported.reply.allocation);
  expect_refused(request_of(exported), "it was freed");
}

TEST_F(CudaImportTest, OwnHandleIsRefused) {
  void* own = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&own, kBytes));
  cudaIpcMemHandle_t handle{};
  KAAS_MUST_CUDA(cudaIpcGetMemHandle(&handle, own));
  ImportRequest request;
  const auto* bytes = reinterpret_cast<const std::byte*>(&handle);
  request.handle.assign(bytes, bytes + sizeof handle);
  request.bytes = kBytes;
  expect_refused(request, "a process can't open its own handle");
  KAAS_MUST_CUDA(cudaFree(own));
}

// --- Memory for other processes ------------------------------------------------------------------

TEST_F(CudaImportTest, OwnMemoryIsImportedByItsDescriptor) {
  const auto memory = allocate_exportable_cuda_memory(importer_, kBytes + 1);
  ASSERT_TRUE(memory.has_value()) << memory.error().message;
  EXPECT_EQ((*memory)->bytes(), 2u << 20);
  fill_words(at(**memory), kBytes, 5);
  const auto descriptor = (*memory)->descriptor();
  ASSERT_TRUE(descriptor.has_value()) << descriptor.error().message;
  ImportRequest request;
  request.kind = wire::DeviceMemoryKind::CuMem;
  request.bytes = (*memory)->bytes();
  request.gpu = (*memory)->gpu();
  request.descriptor = descriptor->get();
  const auto mapped = import(request);
  ASSERT_TRUE(mapped.has_value()) << mapped.error().message;
  EXPECT_TRUE((*mapped)->direct());
  EXPECT_NE((*mapped)->address(), (*memory)->address());
  EXPECT_TRUE(all_words_are(at(**mapped), kBytes, 5));
  request.bytes = 4u << 20;
  expect_refused(request, "more than it has");
}

TEST_F(CudaImportTest, OwnMemoryLivesAsLongAsADescriptorDoes) {
  constexpr std::uint64_t kLarge = 256u << 20;
  const std::uint64_t before = free_device_bytes();
  Descriptor descriptor;
  {
    const auto memory = allocate_exportable_cuda_memory(importer_, kLarge);
    ASSERT_TRUE(memory.has_value()) << memory.error().message;
    descriptor = *(*memory)->descriptor();
  }
  EXPECT_LE(free_device_bytes(), before - kLarge);
  descriptor = Descriptor();
  EXPECT_GE(free_device_bytes(), before);
}

TEST_F(CudaImportTest, OwnMemoryThatDoesNotFitIsRefused) {
  const auto memory = allocate_exportable_cuda_memory(importer_, std::uint64_t{1} << 40);
  ASSERT_FALSE(memory.has_value());
  EXPECT_EQ(memory.error().code, StatusCode::OutOfMemory) << memory.error().message;
  void* own = nullptr;
  ASSERT_EQ(cudaMalloc(&own, kBytes), cudaSuccess);
  KAAS_MUST_CUDA(cudaFree(own));
}

}  // namespace
}  // namespace kaas
