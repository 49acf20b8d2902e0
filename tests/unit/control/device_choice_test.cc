// From --device and what the machine has to the devices of the daemon.
#include "daemon/control/device_choice.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

DeviceInventory two_gpus_and_a_taken_one() {
  DeviceInventory inventory;
  inventory.devices = {{"GPU-aaaa1111", "H100", 80, ""},
                       {"GPU-aaaa2222", "H100", 80, "another process uses it exclusively"},
                       {"MIG-bbbb3333", "H100 MIG 1g", 10, ""}};
  return inventory;
}

class DeviceChoiceTest : public testing::Test {
 protected:
  Result<DeviceChoice> choose(const std::string& devices) {
    DeviceWish wish;
    wish.devices = devices;
    wish.device_bytes = device_bytes;
    wish.host_bytes = 1000;
    return choose_devices(wish, [this] {
      ++asked;
      return inventory;
    });
  }
  std::vector<std::string> ids(const std::string& devices) {
    const auto choice = choose(devices);
    if (!choice.has_value()) return {to_string(choice.error())};
    std::vector<std::string> ids;
    for (const DeviceSpec& device : choice->devices) ids.push_back(device.id);
    return ids;
  }
  // The error has this code and all of these words.
  void expect_refused(const std::string& devices, StatusCode code,
                      const std::vector<std::string>& words) {
    const auto choice = choose(devices);
    ASSERT_FALSE(choice.has_value()) << devices;
    EXPECT_EQ(choice.error().code, code) << to_string(choice.error());
    for (const std::string& word : words) {
      EXPECT_NE(choice.error().message.find(word), std::string::npos)
          << word << " is not in: " << choice.error().message;
    }
  }
  using Ids = std::vector<std::string>;

  Result<DeviceInventory> inventory = two_gpus_and_a_taken_one();
  std::uint64_t device_bytes = 0;
  int asked = 0;
};

TEST_F(DeviceChoiceTest, AutoTakesEveryGpuThatCanBeUsedAndSaysWhatItLeaves) {
  const auto choice = choose("auto");
  ASSERT_TRUE(choice.has_value());
  EXPECT_EQ(choice->kind, DeviceKind::Cuda);
  EXPECT_EQ(ids("auto"), (Ids{"GPU-aaaa1111", "MIG-bbbb3333"}));
  EXPECT_EQ(choice->devices[1].argument, "cuda:MIG-bbbb3333");
  EXPECT_EQ(choice->devices[1].name, "H100 MIG 1g");
  EXPECT_NE(choice->note.find("another process uses it exclusively"), std::string::npos);
}

TEST_F(DeviceChoiceTest, AutoTakesTheHostIfThereIsNoGpuAndSaysWhy) {
  inventory->devices.clear();
  inventory->problem = "no driver";
  const auto choice = choose("auto");
  ASSERT_TRUE(choice.has_value());
  EXPECT_EQ(choice->kind, DeviceKind::Host);
  EXPECT_EQ(ids("auto"), Ids{"host"});
  EXPECT_NE(choice->note.find("no driver"), std::string::npos) << choice->note;
  inventory = Status{StatusCode::Unavailable, "it crashed"};
  EXPECT_EQ(ids("auto"), Ids{"host"});
  EXPECT_NE(choose("auto")->note.find("it crashed"), std::string::npos);
}

TEST_F(DeviceChoiceTest, AutoTakesTheHostIfNoGpuCanBeUsed) {
  inventory->devices = {{"GPU-1", "H100", 80, "taken"}};
  EXPECT_EQ(ids("auto"), Ids{"host"});
  EXPECT_NE(choose("auto")->note.find("taken"), std::string::npos);
}

TEST_F(DeviceChoiceTest, CudaIsRefusedWithoutAGpuAndSaysWhy) {
  EXPECT_EQ(ids("cuda").size(), 2u);
  inventory->devices.clear();
  inventory->problem = "the driver is too old";
  expect_refused("cuda", StatusCode::Unavailable, {"the driver is too old"});
  inventory->devices = {{"GPU-1", "H100", 80, "taken"}};
  expect_refused("cuda", StatusCode::Unavailable, {"GPU-1", "H100", "taken"});
  inventory = Status{StatusCode::NotFound, "no program"};
  expect_refused("cuda", StatusCode::NotFound, {"no program"});
}

TEST_F(DeviceChoiceTest, ListsNameDevicesByIdBeginningOrNumberInTheirOrder) {
  EXPECT_EQ(ids("MIG,GPU-aaaa1111"), (Ids{"MIG-bbbb3333", "GPU-aaaa1111"}));
  EXPECT_EQ(ids(" cuda:2 , cuda:0"), (Ids{"MIG-bbbb3333", "GPU-aaaa1111"}));
  EXPECT_EQ(ids("cuda:GPU-aaaa1"), Ids{"GPU-aaaa1111"});
  EXPECT_EQ(choose("MIG")->kind, DeviceKind::Cuda);
}

TEST_F(DeviceChoiceTest, AnIdThatBeginsAnotherOneIsMeantItself) {
  inventory->devices = {{"GPU-1", "a", 1, ""}, {"GPU-12", "b", 1, ""}};
  EXPECT_EQ(ids("GPU-1"), Ids{"GPU-1"});
}

TEST_F(DeviceChoiceTest, NamesThatNameNoneOrSeveralAreRefusedWithWhatThereIs) {
  expect_refused("GPU-x", StatusCode::NotFound, {"GPU-x", "GPU-aaaa1111", "MIG-bbbb3333"});
  expect_refused("GPU-aaaa", StatusCode::NotFound, {"several"});
  expect_refused("cuda:3", StatusCode::NotFound, {"cuda:3", "cuda:2 MIG-bbbb3333"});
  expect_refused("cuda:", StatusCode::NotFound, {"cuda:"});
  expect_refused("cuda:-1", StatusCode::NotFound, {"cuda:-1"});
  expect_refused("toaster", StatusCode::NotFound, {"toaster", "allowed"});
}

TEST_F(DeviceChoiceTest, DevicesThatCannotBeUsedAreRefusedWithTheirProblem) {
  expect_refused("cuda:0,cuda:1", StatusCode::Unavailable,
                 {"GPU-aaaa2222", "another process uses it exclusively"});
}

TEST_F(DeviceChoiceTest, WrongListsAreRefused) {
  expect_refused("", StatusCode::InvalidArgument, {"empty", "allowed"});
  expect_refused("cuda:0,,cuda:2", StatusCode::InvalidArgument, {"empty"});
  expect_refused("cuda:0,", StatusCode::InvalidArgument, {"empty"});
  expect_refused("cuda:0,GPU-aaaa1111", StatusCode::InvalidArgument, {"twice", "GPU-aaaa1111"});
  expect_refused("auto,host", StatusCode::InvalidArgument, {"auto", "alone"});
  expect_refused("cuda,cuda:0", StatusCode::InvalidArgument, {"cuda", "alone"});
  expect_refused("host,cuda:0", StatusCode::InvalidArgument, {"mixes"});
  std::string many = "host";
  for (std::size_t i = 0; i < kDevicesMax; ++i) many += ",host";
  expect_refused(many, StatusCode::InvalidArgument, {"65", "64"});
}

TEST_F(DeviceChoiceTest, HostIsTakenWithoutAskingForGpus) {
  EXPECT_EQ(ids("host"), Ids{"host"});
  EXPECT_EQ(ids("host,host,host"), (Ids{"host-0", "host-1", "host-2"}));
  EXPECT_EQ(asked, 0);
}

TEST_F(DeviceChoiceTest, HostsShareTheMemoryAndGpusDoNot) {
  EXPECT_EQ(choose("host")->devices[0].memory_limit_bytes, 0u) << "the executor's own";
  EXPECT_EQ(choose("host,host")->devices[1].memory_limit_bytes, 500u);
  device_bytes = 300;
  EXPECT_EQ(choose("host")->devices[0].memory_limit_bytes, 300u);
  EXPECT_EQ(choose("host,host,host")->devices[0].memory_limit_bytes, 100u);
  EXPECT_EQ(choose("cuda")->devices[1].memory_limit_bytes, 300u);
}

}  // namespace
}  // namespace kaas
