// Stored objects in device memory of this process, through a real kaasd with a CUDA executor.
#include <kaas/cuda.h>
#include <kaas/kaas_cuda.h>
#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tests/gpu/ipc/cuda_memory.h"
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint64_t kGranule = 2u << 20;
constexpr std::uint64_t kCount = 50'001;  // Not a multiple of anything.
constexpr std::uint64_t kBytes = kCount * sizeof(float);

std::vector<float> counted(std::uint64_t count = kCount) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

class GpuObjects : public E2eTest {
 protected:
  void SetUp() override {
    if (gpu_count() == 0) GTEST_SKIP() << "no GPU";
    KAAS_MUST_CUDA(cudaSetDevice(0));
    KAAS_MUST_CUDA(cudaFree(nullptr));
    E2eTest::SetUp();
  }
  std::vector<std::string> arguments() override { return {"--device", gpu_id()}; }

  static std::vector<float> seen(const void* from, std::uint64_t count) {
    std::vector<float> values(count);
    KAAS_MUST_CUDA(cudaMemcpy(values.data(), from, count * sizeof(float), cudaMemcpyDeviceToHost));
    return values;
  }
  static bool rest_is_zero(const CudaObject& object) {
    std::vector<std::byte> rest(object.copy().allocation_bytes() - object.bytes());
    KAAS_MUST_CUDA(cudaMemcpy(rest.data(), static_cast<std::byte*>(object.data()) + object.bytes(),
                              rest.size(), cudaMemcpyDeviceToHost));
    return std::all_of(rest.begin(), rest.end(),
                       [](std::byte byte) { return byte == std::byte{0}; });
  }
  static Request scale_in(const Region& region, std::uint64_t count, float factor) {
    return *try_scale_in(region, count, factor);
  }
  static Result<Request> try_scale_in(const Region& region, std::uint64_t count, float factor) {
    RequestBuilder builder;
    builder.buffer("x", count * sizeof(float)).in(region);
    builder.kernel("std", "scale")
        .grid(static_cast<std::uint32_t>((count + 255) / 256))
        .block(256)
        .literal(count)
        .literal(factor)
        .inout("x");
    return builder.build();
  }
  // What kaasd says that this test's clients have.
  static std::uint64_t exported_bytes(Client& client) {
    const auto text = client.status_json();
    EXPECT_OK(text);
    std::uint64_t bytes = 0;
    const auto status = nlohmann::json::parse(*text);
    for (const auto& device : status["devices"]) {
      bytes += device["exported_bytes"].get<std::uint64_t>();
    }
    return bytes;
  }
  void kill_executors() {
    const std::vector<pid_t> old = daemon_->executors();
    for (const pid_t executor : old) ::kill(executor, SIGKILL);
    ASSERT_TRUE(eventually([&] {
      const std::vector<pid_t> now = daemon_->executors();
      return !now.empty() && now != old;
    }));
  }
};

TEST_F(GpuObjects, BytesAreThoseOfTheObjectAndTheRestIsZero) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  const auto object = CudaObject::open(client, "k");
  ASSERT_OK(object);
  EXPECT_EQ(object->bytes(), kBytes);
  EXPECT_EQ(object->copy().allocation_bytes(), kGranule);
  EXPECT_EQ(object->copy().device(), gpu_id());
  EXPECT_EQ(seen(object->data(), kCount), counted());
  EXPECT_TRUE(rest_is_zero(*object));
}

// Small objects lie in a slab with those of others.
TEST_F(GpuObjects, SmallObjectsAndPartsBringNothingElse) {
  Client client = connect();
  ASSERT_OK(client.put("a", bytes_of(std::vector<float>(16, 7.0f))));
  ASSERT_OK(client.put("b", bytes_of(counted(16))));
  ASSERT_OK(client.put("c", bytes_of(std::vector<float>(16, 7.0f))));
  const auto whole = CudaObject::open(client, "b");
  ASSERT_OK(whole);
  EXPECT_EQ(seen(whole->data(), 16), counted(16));
  EXPECT_TRUE(rest_is_zero(*whole));
  ExportOptions options;
  options.offset = 8;
  options.bytes = 12;
  const auto part = CudaObject::open(client, "b", options);
  ASSERT_OK(part);
  EXPECT_EQ(part->bytes(), 12u);
  EXPECT_EQ(seen(part->data(), 3), (std::vector<float>{3, 4, 5}));
  EXPECT_TRUE(rest_is_zero(*part));
}

TEST_F(GpuObjects, CachedCopyOfTheExecutorIsTakenAndStaysWhatItIs) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  RequestBuilder builder;
  builder.buffer("k", kBytes);
  builder.buffer("y", kBytes);
  builder.kernel("std", "copy")
      .grid(256)
      .block(256)
      .literal(std::uint64_t{kBytes})
      .in("k")
      .out("y");
  const Request copy = built(builder);
  ASSERT_OK(client.run(copy));
  ASSERT_OK(client.run(copy));  // Cached now.
  const auto object = CudaObject::open(client, "k");
  ASSERT_OK(object);
  EXPECT_EQ(seen(object->data(), kCount), counted());
  KAAS_MUST_CUDA(cudaMemset(object->data(), 0xff, object->copy().allocation_bytes()));
  KAAS_MUST_CUDA(cudaDeviceSynchronize());
  ASSERT_OK(client.run(copy));
  EXPECT_EQ(floats(client, "y"), counted());
  EXPECT_EQ(floats(client, "k"), counted());
  const auto again = CudaObject::open(client, "k");
  ASSERT_OK(again);
  EXPECT_EQ(seen(again->data(), kCount), counted());
}

TEST_F(GpuObjects, ItIsFedBackAsInputAndOutputInPlace) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  const auto object = CudaObject::open(client, "k");
  ASSERT_OK(object);
  ASSERT_OK(client.run(scale_in(object->region(), kCount, 2.0f)));
  std::vector<float> doubled = counted();
  for (float& value : doubled) value *= 2.0f;
  EXPECT_EQ(seen(object->data(), kCount), doubled);
  EXPECT_TRUE(rest_is_zero(*object));
  EXPECT_EQ(floats(client, "k"), counted());
  const auto past = try_scale_in(object->region(), kGranule / sizeof(float) + 1, 2.0f);
  ASSERT_FALSE(past.has_value());
  EXPECT_EQ(past.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(past.error().message.find("2097152"), std::string::npos) << past.error().message;
}

TEST_F(GpuObjects, ExportWaitsForTheRequestThatMakesTheObject) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(std::vector<float>(64, 1.0f))));
  for (int i = 0; i < 20; ++i) static_cast<void>(client.submit(scale("k", 64)));
  const auto object = CudaObject::open(client, "k");
  ASSERT_OK(object);
  EXPECT_EQ(seen(object->data(), 64), std::vector<float>(64, 1048576.0f));
}

// --- Its end -------------------------------------------------------------------------------------

TEST_F(GpuObjects, ExecutorThatIsKilledLeavesTheMapping) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  {
    const auto object = CudaObject::open(client, "k");
    ASSERT_OK(object);
    kill_executors();
    EXPECT_EQ(seen(object->data(), kCount), counted());
    EXPECT_EQ(exported_bytes(client), kGranule) << "it is charged still";
    ASSERT_OK(client.run(scale_in(object->region(), kCount, 2.0f))) << "the new one imports it";
    EXPECT_EQ(seen(object->data(), 2), (std::vector<float>{2, 4}));
  }
  EXPECT_EQ(exported_bytes(client), 0u);
}

TEST_F(GpuObjects, TwoHundredLeaveNothing) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  const auto use = [&] {
    const auto object = CudaObject::open(client, "k");
    ASSERT_OK(object);
    ASSERT_EQ(seen(object->data(), 1)[0], 1.0f);
  };
  use();  // The executor's own memory is there from now on.
  const std::uint64_t before = free_device_bytes();
  for (int i = 0; i < 200; ++i) use();
  EXPECT_TRUE(eventually([&] { return free_device_bytes() >= before; }));
  EXPECT_EQ(exported_bytes(client), 0u);
  EXPECT_EQ(daemon_->executors().size(), 1u);
}

TEST_F(GpuObjects, MappingOutlivesItsClientAndDaemon) {
  auto client = std::make_unique<Client>(connect());
  ASSERT_OK(client->put("k", bytes_of(counted())));
  auto object = CudaObject::open(*client, "k");
  ASSERT_OK(object);
  client.reset();
  EXPECT_EQ(seen(object->data(), kCount), counted());
  EXPECT_EQ(daemon_->stop(), 0);
  daemon_ = nullptr;
  EXPECT_EQ(seen(object->data(), kCount), counted());
}

// The other half of the next test: another process, which is killed.
TEST(GpuHolder, DISABLED_HoldsAnExport) {
  KAAS_MUST_CUDA(cudaSetDevice(0));
  ClientOptions options;
  options.socket = test_environment("KAAS_HELD_SOCKET");
  auto client = Client::connect(options);
  ASSERT_OK(client);
  const auto object = CudaObject::open(*client, "large");
  ASSERT_OK(object);
  std::printf("holding %d\n", static_cast<int>(::getpid()));
  std::fflush(stdout);
  ::pause();
}

TEST_F(GpuObjects, ClientThatIsKilledGivesItsMemoryBack) {
  constexpr std::uint64_t kLarge = 512u << 20;
  Client client = connect();
  ASSERT_OK(client.put("large", std::vector<std::byte>(kLarge, std::byte{3})));
  { ASSERT_OK(CudaObject::open(client, "large")); }
  const std::uint64_t before = free_device_bytes();
  ASSERT_EQ(::setenv("KAAS_HELD_SOCKET", daemon_->socket().c_str(), 1), 0);
  const std::string command = "exec /proc/" + std::to_string(::getpid()) +
                              "/exe --gtest_also_run_disabled_tests "
                              "--gtest_filter=GpuHolder.DISABLED_HoldsAnExport";
  std::FILE* output = ::popen(command.c_str(), "r");
  ASSERT_NE(output, nullptr);
  int child = 0;
  char line[512];
  while (child == 0 && std::fgets(line, sizeof line, output) != nullptr) {
    static_cast<void>(std::sscanf(line, "holding %d", &child));
  }
  ASSERT_NE(child, 0);
  EXPECT_LE(free_device_bytes(), before - kLarge);
  EXPECT_GE(exported_bytes(client), kLarge);
  ::kill(child, SIGKILL);
  ::pclose(output);
  EXPECT_TRUE(eventually([&] { return exported_bytes(client) == 0; }));
  // The driver takes some for itself meanwhile.
  EXPECT_TRUE(eventually([&] { return free_device_bytes() + kGranule >= before; }))
      << free_device_bytes() << " of " << before;
}

// --- Limits --------------------------------------------------------------------------------------

TEST_F(GpuObjects, LimitOfTheSessionIsKept) {
  ASSERT_EQ(daemon_->stop(), 0);
  daemon_ = DaemonProcess::start({"--device", gpu_id(), "--export-bytes", "4194304"});
  ASSERT_NE(daemon_, nullptr);
  Client client = connect();
  Client other = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  const auto first = CudaObject::open(client, "k");
  ASSERT_OK(first);
  {
    const auto second = CudaObject::open(client, "k");
    ASSERT_OK(second);
    EXPECT_EQ(outcome_of(CudaObject::open(client, "k")),
              "ResourceExhausted: device memory exported to this session (export.bytes of kaasd) "
              "is 6291456, limit 4194304");
    EXPECT_OK(CudaObject::open(other, "k"));
  }
  EXPECT_OK(CudaObject::open(client, "k"));
}

TEST_F(GpuObjects, WhatTheExecutorHasNoRoomForIsRefused) {
  ASSERT_EQ(daemon_->stop(), 0);
  daemon_ = DaemonProcess::start({"--device", gpu_id(), "--device-bytes", "8388608"});
  ASSERT_NE(daemon_, nullptr);
  Client client = connect();
  ASSERT_OK(client.put("k", std::vector<std::byte>(16u << 20)));
  const std::string outcome = outcome_of(CudaObject::open(client, "k"));
  EXPECT_NE(outcome.find("OutOfMemory: export of 16777216 bytes, device limit 8388608"),
            std::string::npos)
      << outcome;
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>(64, 1.0f))));
  EXPECT_OK(client.run(scale("x", 64)));
}

// --- Devices -------------------------------------------------------------------------------------

TEST_F(GpuObjects, SuspensionIsRefusedWhileItIsThereUnlessItIsForced) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  const auto object = CudaObject::open(client, "k");
  ASSERT_OK(object);
  const std::string refused = outcome_of(client.suspend_device(gpu_id()));
  EXPECT_NE(refused.find("1 export of 2097152 bytes"), std::string::npos) << refused;
  ASSERT_OK(client.suspend_device(gpu_id(), std::chrono::seconds(30), true));
  EXPECT_EQ(seen(object->data(), kCount), counted());
  const std::string suspended = outcome_of(CudaObject::open(client, "k"));
  EXPECT_NE(suspended.find("Unavailable: every device is suspended"), std::string::npos)
      << suspended;
  ASSERT_OK(client.resume_device(gpu_id()));
  ASSERT_OK(client.run(scale_in(object->region(), kCount, 2.0f)));
  EXPECT_EQ(seen(object->data(), 2), (std::vector<float>{2, 4}));
}

TEST_F(GpuObjects, TwoGpusEachHaveTheirCopy) {
  if (gpu_count() < 2) GTEST_SKIP() << "one GPU only";
  ASSERT_EQ(daemon_->stop(), 0);
  daemon_ = DaemonProcess::start({"--device", gpu_id(0) + "," + gpu_id(1)});
  ASSERT_NE(daemon_, nullptr);
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  ASSERT_TRUE(eventually([&] { return daemon_->executors().size() == 2; }));
  for (const int device : {0, 1}) {
    ExportOptions options;
    options.device = gpu_id(device);
    auto copy = client.export_object("k", options);
    ASSERT_OK(copy);
    EXPECT_EQ(copy->device(), gpu_id(device));
    for (const int current : {device, 1 - device}) {  // The second one reads through its peer.
      KAAS_MUST_CUDA(cudaSetDevice(current));
      KAAS_MUST_CUDA(cudaFree(nullptr));
      const auto object = CudaObject::open(client, "k", options);
      ASSERT_OK(object);
      EXPECT_EQ(seen(object->data(), kCount), counted());
      ASSERT_OK(client.run(scale_in(object->region(), kCount, 2.0f)));
      EXPECT_EQ(seen(object->data(), 2), (std::vector<float>{2, 4}));
    }
  }
  KAAS_MUST_CUDA(cudaSetDevice(0));
}

// --- By hand, and from C -------------------------------------------------------------------------

TEST_F(GpuObjects, DescriptorIsWhatTheDriverTakes) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(counted())));
  auto copy = client.export_object("k");
  ASSERT_OK(copy);
  const auto object = CudaObject::map(*std::move(copy));
  ASSERT_OK(object);
  EXPECT_EQ(seen(object->data(), kCount), counted());
}

TEST_F(GpuObjects, TheSameFromC) {
  Client writer = connect();
  ASSERT_OK(writer.put("k", bytes_of(counted())));
  kaas_options options;
  kaas_options_init(&options);
  options.socket = daemon_->socket().c_str();
  kaas_client* client = nullptr;
  kaas_error error;
  ASSERT_EQ(kaas_connect(&options, &client, &error), KAAS_OK) << error.message;
  kaas_cuda_object* object = nullptr;
  ASSERT_EQ(kaas_cuda_open_object(client, "k", nullptr, &object, &error), KAAS_OK) << error.message;
  EXPECT_EQ(seen(kaas_cuda_object_data(object), kCount), counted());
  EXPECT_EQ(kaas_device_copy_bytes(kaas_cuda_object_copy(object)), kBytes);
  EXPECT_NE(kaas_device_copy_segment(kaas_cuda_object_copy(object)), 0u);
  kaas_cuda_object_free(object);
  EXPECT_EQ(kaas_cuda_open_object(client, "unknown", nullptr, &object, &error), KAAS_NOT_FOUND);
  kaas_close(client);
}

}  // namespace
}  // namespace kaas
