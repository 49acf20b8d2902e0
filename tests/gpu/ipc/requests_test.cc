// Requests on device memory of clients, through a real kaasd with a CUDA executor.
#include <kaas/cuda.h>
#include <kaas/kaas_cuda.h>
#include <signal.h>

#include <array>

#include "tests/gpu/ipc/cuda_memory.h"
#include "tests/gpu/ipc/exporter_process.h"
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint64_t kCount = 64u << 10;
constexpr std::uint64_t kBytes = kCount * sizeof(float);

class GpuRequests : public E2eTest {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    KAAS_MUST_CUDA(cudaSetDevice(0));
    KAAS_MUST_CUDA(cudaFree(nullptr));
    E2eTest::SetUp();
  }
  std::vector<std::string> arguments() override { return {"--device", gpu_id()}; }

  // Doubles kCount floats of the region, in place.
  static Request scale_in(const Region& region, std::uint64_t offset, std::uint64_t count = kCount,
                          float factor = 2.0f) {
    RequestBuilder builder;
    builder.buffer("x", count * sizeof(float)).in(region, offset);
    builder.kernel("std", "scale")
        .grid(static_cast<std::uint32_t>((count + 255) / 256))
        .block(256)
        .literal(count)
        .literal(factor)
        .inout("x");
    return built(builder);
  }
  // What another process has exported, registered by a client of the test.
  static Result<Region> registered(Client& client, const ExportedMemory& exported) {
    DeviceAllocation memory;
    memory.kind = static_cast<DeviceAllocation::Kind>(exported.reply.kind);
    memory.handle = std::span(exported.reply.handle).first(exported.reply.handle_bytes);
    memory.bytes = exported.reply.bytes;
    memory.gpu = exported.reply.gpu;
    memory.descriptor = exported.descriptor.get();
    return client.register_device_memory(memory);
  }
  static void* device_floats(float value) {
    void* memory = nullptr;
    KAAS_MUST_CUDA(cudaMalloc(&memory, kBytes));
    fill_words(memory, kBytes, bits_of(value));
    return memory;
  }
};

class GpuRequestsOfKind : public GpuRequests, public testing::WithParamInterface<Memory> {};
INSTANTIATE_TEST_SUITE_P(Memory, GpuRequestsOfKind,
                         testing::Values(Memory::Malloc, Memory::CuMem, Memory::Pool),
                         [](const auto& kind) {
                           return kind.param == Memory::Malloc  ? "Malloc"
                                  : kind.param == Memory::CuMem ? "CuMem"
                                                                : "Pool";
                         });

TEST_P(GpuRequestsOfKind, RequestReadsAndWritesMemoryOfAnotherProcess) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, bits_of(1.5f));
  Client client = connect();
  const auto region = registered(client, exported);
  ASSERT_OK(region);
  ASSERT_OK(client.run(scale_in(*region, exported.reply.offset)));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 0, kBytes, bits_of(3.0f)));
}

TEST_P(GpuRequestsOfKind, PartOfAnAllocationIsChangedAndNothingElse) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), 2 * kBytes, bits_of(1.0f));
  Client client = connect();
  const auto region = registered(client, exported);
  ASSERT_OK(region);
  // Aligned: in place. Not aligned: copied.
  ASSERT_OK(client.run(scale_in(*region, exported.reply.offset + 1024, 256)));
  ASSERT_OK(client.run(scale_in(*region, exported.reply.offset + kBytes + 4, 256)));
  const auto check = [&](std::uint64_t offset, std::uint64_t bytes, float value) {
    return exporter.check(exported.reply.allocation, offset, bytes, bits_of(value));
  };
  EXPECT_TRUE(check(0, 1024, 1.0f));
  EXPECT_TRUE(check(1024, 1024, 2.0f));
  EXPECT_TRUE(check(2048, kBytes - 2048 + 4, 1.0f));
  EXPECT_TRUE(check(kBytes + 4, 1024, 2.0f));
  EXPECT_TRUE(check(kBytes + 1028, kBytes - 1028, 1.0f));
}

TEST_P(GpuRequestsOfKind, ExporterThatIsKilledInAKernelHurtsNobody) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, bits_of(1.0f));
  Client client = connect();
  {
    const auto region = registered(client, exported);
    ASSERT_OK(region);
    ASSERT_OK(client.run(scale_in(*region, exported.reply.offset + 4096, 256)));
    exporter.spin(exported.reply.allocation);
    exporter.kill();
    ASSERT_OK(client.run(scale_in(*region, exported.reply.offset + 4096, 256)));
  }
  ASSERT_OK(client.put("k", bytes_of(std::vector<float>(64, 1.0f))));
  EXPECT_OK(client.run(scale("k", 64)));
  EXPECT_EQ(floats(client, "k").at(0), 2.0f);
}

TEST_P(GpuRequestsOfKind, NewExecutorOpensItAgain) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, bits_of(1.0f));
  Client client = connect();
  const auto region = registered(client, exported);
  ASSERT_OK(region);
  ASSERT_OK(client.run(scale_in(*region, exported.reply.offset)));
  const std::vector<pid_t> old = daemon_->executors();
  for (const pid_t executor : old) ::kill(executor, SIGKILL);
  // A run that the old one had would not be tried again: it works in the client's memory.
  ASSERT_TRUE(eventually([&] {
    const std::vector<pid_t> now = daemon_->executors();
    return !now.empty() && now != old;
  }));
  ASSERT_OK(client.run(scale_in(*region, exported.reply.offset)));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 0, kBytes, bits_of(4.0f)));
}

TEST_P(GpuRequestsOfKind, MemoryIsFreedByItsOwnerWhenTheRegionIsGone) {
  ExporterProcess exporter;
  Client client = connect();
  for (int i = 0; i < 50; ++i) {
    const ExportedMemory exported = exporter.allocate(GetParam(), 8 * kBytes, bits_of(1.0f));
    {
      const auto region = registered(client, exported);
      ASSERT_OK(region);
      ASSERT_OK(client.run(scale_in(*region, exported.reply.offset)));
    }
    ASSERT_TRUE(exporter.check(exported.reply.allocation, 0, kBytes, bits_of(2.0f))) << i;
    exporter.free(exported.reply.allocation);
  }
  EXPECT_EQ(daemon_->executors().size(), 1u);
}

TEST_P(GpuRequestsOfKind, MemoryIsBackWhenTheSessionIsGone) {
  constexpr std::uint64_t kLarge = 512u << 20;
  ExporterProcess exporter;
  {  // The executor's own memory and code are there from now on.
    const ExportedMemory warm = exporter.allocate(GetParam(), kBytes, bits_of(1.0f));
    Client client = connect();
    const auto region = registered(client, warm);
    ASSERT_OK(client.run(scale_in(*region, warm.reply.offset)));
  }
  const std::uint64_t before = free_device_bytes();
  {
    const ExportedMemory exported = exporter.allocate(GetParam(), kLarge, bits_of(1.0f));
    Client client = connect();
    const auto region = registered(client, exported);
    ASSERT_OK(client.run(scale_in(*region, exported.reply.offset)));
    EXPECT_LE(free_device_bytes(), before - kLarge);
    exporter.kill();
  }
  EXPECT_TRUE(eventually([&] { return free_device_bytes() >= before; }));
}

TEST_P(GpuRequestsOfKind, ThousandRegistrationsLeaveNothing) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(GetParam(), kBytes, bits_of(1.0f));
  Client client = connect();
  const auto use = [&] {
    const auto region = registered(client, exported);
    ASSERT_OK(region);
    ASSERT_OK(client.run(scale_in(*region, exported.reply.offset, 256, 1.0f)));
  };
  use();
  const std::uint64_t before = free_device_bytes();
  for (int i = 0; i < 1000; ++i) use();
  EXPECT_TRUE(eventually([&] { return free_device_bytes() >= before; }));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 0, kBytes, bits_of(1.0f)));
}

// --- The program's own pointers, by kaas::cuda ---------------------------------------------------

TEST_F(GpuRequests, OwnPointersAreUsedInPlace) {
  Client client = connect();
  void* memory = device_floats(1.0f);
  auto* middle = static_cast<float*>(memory) + 512;
  const auto whole = CudaBuffer::create(client, memory, kBytes);
  const auto part = CudaBuffer::create(client, middle, 1024);
  ASSERT_OK(whole);
  ASSERT_OK(part);
  EXPECT_EQ(whole->segment(), part->segment()) << "one allocation";
  EXPECT_EQ(part->offset(), whole->offset() + 2048);
  ASSERT_OK(client.run(scale_in(part->region(), part->offset(), 256)));
  EXPECT_TRUE(all_words_are(memory, 2048, bits_of(1.0f)));
  EXPECT_TRUE(all_words_are(middle, 1024, bits_of(2.0f)));
  EXPECT_TRUE(all_words_are(middle + 256, kBytes - 3072, bits_of(1.0f)));
  const auto profile = [&] {
    RunOptions options;
    options.profile = true;
    return client.run(scale_in(whole->region(), whole->offset()), options);
  }();
  ASSERT_OK(profile);
  EXPECT_EQ(profile->profile->counters.host_to_device_bytes, 0u);
  EXPECT_EQ(profile->profile->counters.device_to_host_bytes, 0u);
}

TEST_F(GpuRequests, OutputGoesFromTheStoreToOwnMemoryAndBack) {
  Client client = connect();
  void* memory = device_floats(0.0f);
  const auto shared = CudaBuffer::create(client, memory, kBytes);
  ASSERT_OK(shared);
  ASSERT_OK(client.put("in", bytes_of(std::vector<float>(kCount, 7.0f))));
  RequestBuilder to_device;
  to_device.buffer("in", kBytes);
  to_device.buffer("out", kBytes).in(shared->region(), shared->offset());
  to_device.kernel("std", "copy").grid(64).block(256).literal(kBytes).in("in").out("out");
  ASSERT_OK(client.run(built(to_device)));
  EXPECT_TRUE(all_words_are(memory, kBytes, bits_of(7.0f)));
  RequestBuilder to_store;
  to_store.buffer("in", kBytes).in(shared->region(), shared->offset());
  to_store.buffer("back", kBytes);
  to_store.kernel("std", "copy").grid(64).block(256).literal(kBytes).in("in").out("back");
  ASSERT_OK(client.run(built(to_store)));
  EXPECT_EQ(floats(client, "back"), std::vector<float>(kCount, 7.0f));
}

TEST_F(GpuRequests, InputThatARequestChangesForItselfStaysAsItIs) {
  Client client = connect();
  void* memory = device_floats(1.0f);
  const auto shared = CudaBuffer::create(client, memory, kBytes);
  ASSERT_OK(shared);
  RequestBuilder builder;
  builder.buffer("x", kBytes).in(shared->region(), shared->offset()).ephemeral();
  builder.buffer("y", kBytes);
  builder.kernel("std", "scale").grid(256).block(256).literal(kCount).literal(3.0f).inout("x");
  builder.kernel("std", "copy").grid(64).block(256).literal(kBytes).in("x").out("y");
  ASSERT_OK(client.run(built(builder)));
  EXPECT_EQ(floats(client, "y").at(100), 3.0f);
  EXPECT_TRUE(all_words_are(memory, kBytes, bits_of(1.0f)));
}

TEST_F(GpuRequests, HandleOpenedByTwoClientsIsOneMemory) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(Memory::Malloc, kBytes, bits_of(1.0f));
  Client first = connect();
  const auto one = registered(first, exported);
  ASSERT_OK(first.run(scale_in(*one, 0)));
  {
    Client second = connect();
    const auto two = registered(second, exported);
    const auto again = registered(second, exported);
    ASSERT_OK(second.run(scale_in(*two, 0)));
    ASSERT_OK(second.run(scale_in(*again, 0)));
  }
  ASSERT_OK(first.run(scale_in(*one, 0)));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 0, kBytes, bits_of(16.0f)));
}

TEST_F(GpuRequests, HandleInTheRequestNeedsNoRegistration) {
  ExporterProcess exporter;
  const ExportedMemory exported = exporter.allocate(Memory::Malloc, kBytes, bits_of(1.0f), 1024);
  Client client = connect();
  IpcHandle handle;
  std::memcpy(handle.handle, exported.reply.handle, sizeof handle.handle);
  handle.base_offset = exported.reply.offset;
  RequestBuilder builder;
  builder.buffer("x", 1024).device_memory(handle);
  builder.kernel("std", "scale")
      .grid(1)
      .block(256)
      .literal(std::uint64_t{256})
      .literal(2.0f)
      .inout("x");
  const Request request = built(builder);
  for (int i = 0; i < 3; ++i) ASSERT_OK(client.run(request));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 0, 1024, bits_of(1.0f)));
  EXPECT_TRUE(exporter.check(exported.reply.allocation, 1024, 1024, bits_of(8.0f)));
  // The size is not told: the executor finds the end.
  handle.base_offset = exported.reply.bytes - 512;
  RequestBuilder past;
  past.buffer("x", 1024).device_memory(handle);
  past.kernel("std", "scale")
      .grid(1)
      .block(256)
      .literal(std::uint64_t{256})
      .literal(2.0f)
      .inout("x");
  const std::string outcome = outcome_of(client.run(built(past)));
  EXPECT_NE(outcome.find("InvalidArgument"), std::string::npos) << outcome;
  EXPECT_NE(outcome.find(std::to_string(exported.reply.bytes)), std::string::npos) << outcome;
}

TEST_F(GpuRequests, WrongHandlesAreErrorsOfTheirRequestsOnly) {
  Client client = connect();
  void* memory = device_floats(1.0f);
  const auto good = CudaBuffer::create(client, memory, kBytes);
  ASSERT_OK(good);
  std::array<std::byte, 64> handle{};
  const auto expect_refused = [&](const char* what) {
    DeviceAllocation bad;
    bad.handle = handle;
    bad.bytes = kBytes;
    const auto region = client.register_device_memory(bad);
    ASSERT_OK(region) << what;
    const std::string outcome = outcome_of(client.run(scale_in(*region, 0)));
    EXPECT_NE(outcome.find("InvalidArgument: device memory of segment"), std::string::npos)
        << what << ": " << outcome;
    EXPECT_OK(client.run(scale_in(good->region(), good->offset(), kCount, 1.0f))) << what;
  };
  expect_refused("zeros");
  handle.fill(std::byte{0xff});
  expect_refused("ones");
  for (std::size_t i = 0; i < handle.size(); ++i) handle[i] = static_cast<std::byte>(i * 41 + 3);
  expect_refused("noise");
  {
    ExporterProcess exporter;
    const ExportedMemory exported = exporter.allocate(Memory::Malloc, kBytes, 1);
    std::memcpy(handle.data(), exported.reply.handle, handle.size());
  }
  expect_refused("of a process that has ended");
  EXPECT_TRUE(all_words_are(memory, kBytes, bits_of(1.0f)));
  EXPECT_EQ(daemon_->executors().size(), 1u);
}

TEST_F(GpuRequests, MemoryOfAnotherGpuIsUsedToo) {
  if (gpu_count() < 2) GTEST_SKIP() << "one GPU only";
  Client client = connect();
  KAAS_MUST_CUDA(cudaSetDevice(1));
  void* memory = device_floats(1.0f);
  const auto shared = CudaBuffer::create(client, memory, kBytes);
  ASSERT_OK(shared);
  ASSERT_OK(client.run(scale_in(shared->region(), shared->offset())));
  EXPECT_TRUE(all_words_are(memory, kBytes, bits_of(2.0f)));
}

// --- Order ---------------------------------------------------------------------------------------

// Without the event the request would read the old bytes: the stream is busy when it is sent.
TEST_F(GpuRequests, RequestWaitsForTheEventOfAStream) {
  Client client = connect();
  constexpr std::uint64_t kLarge = 256u << 20;
  void* memory = device_floats(1.0f);
  void* large = nullptr;
  KAAS_MUST_CUDA(cudaMalloc(&large, 2 * kLarge));
  const auto shared = CudaBuffer::create(client, memory, kBytes);
  auto event = CudaEvent::create(client);
  ASSERT_OK(shared);
  ASSERT_OK(event);
  cudaStream_t stream = nullptr;
  KAAS_MUST_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  RunOptions options;
  options.wait_events = {event->number()};
  for (int round = 0; round < 5; ++round) {
    fill_words(memory, kBytes, bits_of(1.0f));
    KAAS_MUST_CUDA(cudaDeviceSynchronize());
    auto* bytes = static_cast<std::byte*>(large);
    for (int i = 0; i < 50; ++i) {
      KAAS_MUST_CUDA(
          cudaMemcpyAsync(bytes, bytes + kLarge, kLarge, cudaMemcpyDeviceToDevice, stream));
    }
    KAAS_MUST_CUDA(cudaMemsetAsync(memory, 0, kBytes, stream));
    ASSERT_OK(event->record(stream));
    ASSERT_OK(client.run(scale_in(shared->region(), shared->offset()), options));
    EXPECT_TRUE(all_words_are(memory, kBytes, 0)) << round;
  }
  KAAS_MUST_CUDA(cudaStreamDestroy(stream));
}

TEST_F(GpuRequests, EventIsRecordedBeforeTheAnswer) {
  Client client = connect();
  void* memory = device_floats(1.0f);
  const auto shared = CudaBuffer::create(client, memory, kBytes);
  auto event = CudaEvent::create(client);
  ASSERT_OK(shared);
  ASSERT_OK(event);
  cudaStream_t stream = nullptr;
  KAAS_MUST_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  RunOptions options;
  options.record_events = {event->number()};
  ASSERT_OK(client.run(scale_in(shared->region(), shared->offset()), options));
  ASSERT_OK(event->wait(stream));
  KAAS_MUST_CUDA(cudaStreamSynchronize(stream));
  EXPECT_TRUE(all_words_are(memory, kBytes, bits_of(2.0f)));
  KAAS_MUST_CUDA(cudaStreamDestroy(stream));
}

TEST_F(GpuRequests, GarbageEventIsAnErrorOfItsRequestOnly) {
  Client client = connect();
  const std::vector<std::byte> handle(64, std::byte{0x5a});
  const auto region = client.register_event(handle);
  ASSERT_OK(region);
  ASSERT_OK(client.put("k", bytes_of(std::vector<float>(64, 1.0f))));
  RunOptions options;
  options.wait_events = {region->segment()};
  const std::string outcome = outcome_of(client.run(scale("k", 64), options));
  EXPECT_NE(outcome.find("InvalidArgument: event of segment"), std::string::npos) << outcome;
  EXPECT_OK(client.run(scale("k", 64)));
}

// --- C -------------------------------------------------------------------------------------------

TEST_F(GpuRequests, TheSameFromC) {
  kaas_options options;
  kaas_options_init(&options);
  options.socket = daemon_->socket().c_str();
  kaas_client* client = nullptr;
  kaas_error error;
  ASSERT_EQ(kaas_connect(&options, &client, &error), KAAS_OK) << error.message;
  void* memory = device_floats(1.0f);
  kaas_cuda_buffer* shared = nullptr;
  ASSERT_EQ(kaas_cuda_register(client, memory, kBytes, &shared, &error), KAAS_OK) << error.message;
  kaas_cuda_event* event = nullptr;
  ASSERT_EQ(kaas_cuda_event_create(client, &event, &error), KAAS_OK) << error.message;
  ASSERT_EQ(kaas_cuda_event_record(event, nullptr, &error), KAAS_OK) << error.message;

  kaas_builder* builder = kaas_builder_new();
  kaas_buffer_options where;
  kaas_buffer_options_init(&where);
  where.where = KAAS_SEGMENT;
  where.segment = kaas_cuda_buffer_segment(shared);
  where.offset = kaas_cuda_buffer_offset(shared);
  kaas_builder_buffer(builder, "x", 1024, &where);
  kaas_builder_kernel(builder, "std", "scale");
  kaas_kernel_grid(builder, 1, 1, 1);
  kaas_kernel_block(builder, 256, 1, 1);
  kaas_kernel_u64(builder, 256);
  kaas_kernel_f32(builder, 2.0f);
  kaas_kernel_argument(builder, "x", KAAS_INOUT);
  kaas_request* request = nullptr;
  ASSERT_EQ(kaas_build(builder, &request, &error), KAAS_OK) << error.message;
  const std::uint32_t number = kaas_cuda_event_number(event);
  kaas_run_options run;
  kaas_run_options_init(&run);
  run.wait_events = run.record_events = &number;
  run.wait_event_count = run.record_event_count = 1;
  EXPECT_EQ(kaas_run(client, request, &run, nullptr, &error), KAAS_OK) << error.message;
  EXPECT_EQ(kaas_cuda_event_wait(event, nullptr, &error), KAAS_OK) << error.message;
  EXPECT_TRUE(all_words_are(memory, 1024, bits_of(2.0f)));
  EXPECT_TRUE(all_words_are(static_cast<float*>(memory) + 256, 1024, bits_of(1.0f)));
  kaas_request_free(request);
  kaas_builder_free(builder);
  kaas_cuda_event_free(event);
  kaas_cuda_buffer_free(shared);
  kaas_close(client);
}

}  // namespace
}  // namespace kaas
