// Asking a program for its devices: whatever it does, there is an answer or an error in time.
#include "daemon/control/device_query.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace kaas {
namespace {

constexpr std::uint64_t kLongNs = 60'000'000'000;

class DeviceQuery : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // A program in the place of the executor's.
  std::string program(const std::string& script) {
    const std::string path = folder_ + "/program";
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    ::chmod(path.c_str(), 0755);
    return path;
  }
  std::string folder_ = "/tmp/kaas-query-XXXXXX";
};

void expect_unavailable(const Result<DeviceInventory>& result, const std::string& word) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, StatusCode::Unavailable);
  EXPECT_NE(result.error().message.find(word), std::string::npos) << result.error().message;
}

TEST_F(DeviceQuery, AnswerIsRead) {
  const auto found = query_devices(program(R"(
[ "$*" = --list-devices ] || exit 9
echo 'something for the log' >&2
echo '{"devices":[{"id":"GPU-1","name":"H100","memory_bytes":85899345920,"problem":""},'
echo ' {"id":"MIG-2","name":"H100 MIG","memory_bytes":1,"problem":"taken"}],"problem":""}')"),
                                   kLongNs);
  ASSERT_TRUE(found.has_value()) << to_string(found.error());
  ASSERT_EQ(found->devices.size(), 2u);
  EXPECT_EQ(found->devices[0].id, "GPU-1");
  EXPECT_EQ(found->devices[0].memory_bytes, 85899345920u);
  EXPECT_EQ(found->devices[1].problem, "taken");
}

TEST_F(DeviceQuery, MissingProgramIsNamed) {
  const auto found = query_devices("/nonexistent/kaas-executor", kLongNs);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, StatusCode::NotFound);
  EXPECT_NE(found.error().message.find("/nonexistent/kaas-executor"), std::string::npos);
}

TEST_F(DeviceQuery, FailureIsToldWithWhatTheProgramSaid) {
  expect_unavailable(
      query_devices(program("echo first >&2; echo 'no driver' >&2; exit 4"), kLongNs),
      "exit status 4: first; no driver");
  expect_unavailable(query_devices(program("kill -SEGV $$"), kLongNs), "signal 11");
}

TEST_F(DeviceQuery, HangingProgramIsKilled) {
  expect_unavailable(query_devices(program("exec tail -f /dev/null"), 200'000'000),
                     "within 200 ms");
}

TEST_F(DeviceQuery, ProgramThatClosedItsOutputAndGoesOnIsKilled) {
  expect_unavailable(
      query_devices(program("exec >/dev/null 2>&1; exec tail -f /dev/null"), 200'000'000),
      "within 200 ms");
}

TEST_F(DeviceQuery, EndlessAnswerIsNotRead) {
  expect_unavailable(query_devices(program("yes 2>/dev/null"), kLongNs), "more than");
  expect_unavailable(query_devices(program("yes >&2"), kLongNs), "more than");
}

TEST(DeviceInventoryText, WrongAnswersNameTheField) {
  const auto expect_wrong = [](const std::string& text, const std::string& word) {
    expect_unavailable(parse_inventory(text), word);
  };
  expect_wrong("", "no JSON object");
  expect_wrong("[]", "no JSON object");
  expect_wrong("{", "no JSON object");
  expect_wrong("{}", "'devices'");
  expect_wrong(R"({"devices":{}})", "'devices'");
  expect_wrong(R"({"devices":[1]})", "a device");
  expect_wrong(R"({"devices":[{}]})", "'id'");
  expect_wrong(R"({"devices":[{"id":""}]})", "'id'");
  expect_wrong(R"({"devices":[{"id":"a b","memory_bytes":1}]})", "'a b'");
  expect_wrong(R"({"devices":[{"id":"a,b","memory_bytes":1}]})", "'a,b'");
  expect_wrong(R"({"devices":[{"id":"a"}]})", "'memory_bytes'");
  expect_wrong(R"({"devices":[{"id":"a","memory_bytes":-1}]})", "'memory_bytes'");
  expect_wrong(R"({"devices":[{"id":"a","memory_bytes":1,"name":3}]})", "'name'");
  expect_wrong(R"({"devices":[],"problem":1})", "'problem'");
  expect_wrong(R"({"devices":[{"id":"a","memory_bytes":1},{"id":"a","memory_bytes":1}]})", "twice");
}

TEST(DeviceInventoryText, NoDevicesAndTheReasonIsAnAnswer) {
  const auto found = parse_inventory(R"({"devices":[],"problem":"no driver","later":true})");
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE(found->devices.empty());
  EXPECT_EQ(found->problem, "no driver");
}

}  // namespace
}  // namespace kaas
