// Outputs that stay on the device, end to end: on a GPU they do, on the host they are objects like
// any other.
#include <signal.h>

#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint64_t kSmall = 256;              // Floats: a piece of a slab.
constexpr std::uint64_t kLarge = (16u << 20) / 4;  // A segment of its own.

class Resident : public E2eTest {
 protected:
  // Room for three of the large ones and a little more.
  std::vector<std::string> arguments() override {
    return {"--device-bytes", std::to_string(56u << 20)};
  }
  static Request fill(const std::string& key, std::uint64_t count, float value) {
    RequestBuilder builder;
    builder.buffer(key, count * 4).resident();
    builder.kernel("std", "fill_f32").grid(64).block(256).literal(count).literal(value).out(key);
    return built(builder);
  }
  static Request copy(const std::string& from, const std::string& to, std::uint64_t count) {
    RequestBuilder builder;
    builder.buffer(from, count * 4);
    builder.buffer(to, count * 4);
    builder.kernel("std", "copy").grid(64).block(256).literal(count * 4).in(from).out(to);
    return built(builder);
  }
  static void expect_place(Client& client, const std::string& key, ObjectPlace place) {
    const auto info = client.stat(key);
    ASSERT_OK(info);
    EXPECT_STREQ(name_of(info->place), name_of(wants_gpu() ? place : ObjectPlace::Host)) << key;
    EXPECT_EQ(info->device.empty(), info->place == ObjectPlace::Host);
  }
  static nlohmann::json executor(Client& client) {
    const auto status = client.status_json();
    EXPECT_OK(status);
    return status.has_value() ? nlohmann::json::parse(*status)["executors"][0] : nlohmann::json();
  }
};

TEST_F(Resident, OutputIsCopiedToTheHostWhenSomebodyReadsIt) {
  Client client = connect();
  RunOptions options;
  options.profile = true;
  for (const std::uint64_t count : {kSmall, kLarge}) {
    const auto made = client.run(fill("x", count, 3.0f), options);
    ASSERT_OK(made);
    if (wants_gpu()) {
      EXPECT_EQ(made->profile->counters.device_to_host_bytes, 0u);
    }
    expect_place(client, "x", ObjectPlace::Device);
    // A request reads it where it is.
    const auto copied = client.run(copy("x", "y", count), options);
    ASSERT_OK(copied);
    if (wants_gpu()) {
      EXPECT_EQ(copied->profile->counters.host_to_device_bytes, 0u);
    }
    expect_place(client, "x", ObjectPlace::Device);
    EXPECT_EQ(floats(client, "y"), std::vector<float>(count, 3.0f));
    EXPECT_EQ(floats(client, "x"), std::vector<float>(count, 3.0f));
    expect_place(client, "x", ObjectPlace::Host);
  }
}

TEST_F(Resident, ChainOfThemNeverLeavesTheDevice) {
  Client client = connect();
  ASSERT_OK(client.run(fill("x", kSmall, 1.0f)));
  RequestBuilder builder;
  builder.buffer("x", kSmall * 4).resident();
  builder.kernel("std", "scale").grid(1).block(64).literal(kSmall).literal(2.0f).inout("x");
  const Request twice = built(builder);
  for (int i = 0; i < 10; ++i) ASSERT_OK(client.run(twice));
  expect_place(client, "x", ObjectPlace::Device);
  EXPECT_EQ(floats(client, "x"), std::vector<float>(kSmall, 1024.0f));
}

TEST_F(Resident, DeviceThatRunsShortOfMemoryLosesNothing) {
  Client client = connect();
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK(client.run(fill("k" + std::to_string(i), kLarge, static_cast<float>(i))));
  }
  expect_place(client, "k0", ObjectPlace::Host);
  expect_place(client, "k9", ObjectPlace::Device);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(floats(client, "k" + std::to_string(i)),
              std::vector<float>(kLarge, static_cast<float>(i)));
  }
}

TEST_F(Resident, RemovedObjectGivesItsMemoryBack) {
  Client client = connect();
  // More than the device and the host's copies would hold if they were kept.
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK(client.run(fill("x", kLarge, 1.0f)));
    ASSERT_OK(client.remove("x"));
  }
  ASSERT_TRUE(eventually([&] {
    const auto now = executor(client);
    return now.contains("resident_objects") && now["resident_objects"] == 0;
  }));
}

TEST_F(Resident, ObjectIsLostWithItsExecutorAndTheReasonIsTold) {
  Client client = connect();
  ASSERT_OK(client.run(fill("x", kSmall, 3.0f)));
  const pid_t pid = executor(client)["pid"].get<pid_t>();
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const auto now = executor(client);
    return now.contains("pid") && now["pid"].get<pid_t>() != pid;
  }));
  expect_place(client, "x", ObjectPlace::Lost);
  const auto got = client.get("x");
  const auto needs = client.run(copy("x", "y", kSmall));
  if (!wants_gpu()) {
    EXPECT_OK(got);
    EXPECT_OK(needs);
    return;
  }
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code, StatusCode::DataLost);
  EXPECT_NE(got.error().message.find("signal 9"), std::string::npos) << got.error().message;
  ASSERT_FALSE(needs.has_value());
  EXPECT_EQ(needs.error().code, StatusCode::DataLost);
  ASSERT_OK(client.run(fill("x", kSmall, 4.0f)));
  EXPECT_EQ(floats(client, "x"), std::vector<float>(kSmall, 4.0f));
}

TEST_F(Resident, SuspendedDeviceHasWrittenEverythingBack) {
  Client client = connect();
  ASSERT_OK(client.run(fill("small", kSmall, 3.0f)));
  ASSERT_OK(client.run(fill("large", kLarge, 4.0f)));
  ASSERT_OK(client.suspend_device("all"));
  expect_place(client, "small", ObjectPlace::Host);
  EXPECT_EQ(floats(client, "small"), std::vector<float>(kSmall, 3.0f));
  EXPECT_EQ(floats(client, "large"), std::vector<float>(kLarge, 4.0f));
  ASSERT_OK(client.resume_device("all"));
  ASSERT_OK(client.run(copy("large", "again", kLarge)));
  EXPECT_EQ(floats(client, "again"), std::vector<float>(kLarge, 4.0f));
}

}  // namespace
}  // namespace kaas
