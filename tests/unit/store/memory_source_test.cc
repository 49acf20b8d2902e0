#include "daemon/store/memory_source.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace kaas {
namespace {

constexpr std::uint64_t kMiB = 1u << 20;

// A folder that stands for "/".
class MachineFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "kaas-memory-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    write("/proc/meminfo",
          "MemTotal:       16777216 kB\nMemFree:         1048576 kB\n"
          "MemAvailable:    8388608 kB\nBuffers:               0 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void group_v2(const std::string& path, const std::string& max, std::uint64_t current,
                std::uint64_t inactive_file = 0, std::uint64_t active_file = 0) {
    write(path + "/memory.max", max + "\n");
    write(path + "/memory.current", std::to_string(current) + "\n");
    write(path + "/memory.stat", "anon 4096\nfile 999\ninactive_anon 7\nactive_file " +
                                     std::to_string(active_file) + "\ninactive_file " +
                                     std::to_string(inactive_file) + "\n");
  }
  MemoryReading read() {
    Result<MemoryReading> reading = SystemMemory(root_).read();
    EXPECT_TRUE(reading) << to_string(reading.error());
    return *reading;
  }

  std::string root_;
};

TEST_F(MachineFiles, WithoutGroupsTheMachineDecides) {
  const MemoryReading reading = read();
  EXPECT_EQ(reading.total_bytes, 16 * 1024 * kMiB);
  EXPECT_EQ(reading.headroom_bytes, 8 * 1024 * kMiB - kOwnReserveBytesMax);
  EXPECT_EQ(reading.bound, "available memory of the machine");
}

TEST_F(MachineFiles, UnreadableMeminfoIsAnError) {
  std::filesystem::remove(root_ + "/proc/meminfo");
  EXPECT_FALSE(SystemMemory(root_).read());
}

TEST_F(MachineFiles, UnifiedGroupLimitsAndPageCacheCountsAsFree) {
  write("/proc/self/cgroup", "0::/user.slice/kaas\n");
  write("/proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
  group_v2("/sys/fs/cgroup/user.slice/kaas", std::to_string(800 * kMiB), 300 * kMiB, 100 * kMiB,
           40 * kMiB);
  const MemoryReading reading = read();
  EXPECT_EQ(reading.total_bytes, 800 * kMiB);
  // 800 - (300 - 100 - 20) - 800 / 8.
  EXPECT_EQ(reading.headroom_bytes, 520 * kMiB);
  EXPECT_EQ(reading.bound, "memory limit of the control group");
}

TEST_F(MachineFiles, TheTightestGroupOnTheWayUpCounts) {
  write("/proc/self/cgroup", "0::/a/b/c\n");
  write("/proc/self/mountinfo", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  group_v2("/cg/a/b/c", "max", 1 * kMiB);
  group_v2("/cg/a/b", std::to_string(1024 * kMiB), 100 * kMiB);
  group_v2("/cg/a", std::to_string(512 * kMiB), 400 * kMiB);
  EXPECT_EQ(read().headroom_bytes, (512 - 400 - 64) * kMiB);
  EXPECT_EQ(read().total_bytes, 512 * kMiB);
}

TEST_F(MachineFiles, HighWatermarkLimitsLikeTheMaximum) {
  write("/proc/self/cgroup", "0::/a\n");
  write("/proc/self/mountinfo", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  group_v2("/cg/a", "max", 10 * kMiB);
  write("/cg/a/memory.high", std::to_string(80 * kMiB));
  EXPECT_EQ(read().headroom_bytes, 60 * kMiB);
}

TEST_F(MachineFiles, OverfullGroupHasNoHeadroom) {
  write("/proc/self/cgroup", "0::/a\n");
  write("/proc/self/mountinfo", "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
  group_v2("/cg/a", std::to_string(64 * kMiB), 63 * kMiB);
  EXPECT_EQ(read().headroom_bytes, 0u);
}

TEST_F(MachineFiles, ContainerSeesItsOwnRootOnly) {
  write("/proc/self/cgroup", "0::/docker/f00\n");
  write("/proc/self/mountinfo", "30 23 0:26 /docker/f00 /cg ro - cgroup2 cgroup2 rw\n");
  group_v2("/cg", std::to_string(80 * kMiB), 10 * kMiB);
  EXPECT_EQ(read().headroom_bytes, 60 * kMiB);
  write("/proc/self/cgroup", "0::/../elsewhere\n");
  EXPECT_EQ(read().headroom_bytes, 60 * kMiB);
}

TEST_F(MachineFiles, FirstVersionOfTheControllerBesideAUnifiedTree) {
  write("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/jobs/one\n0::/\n");
  write("/proc/self/mountinfo",
        "35 31 0:32 / /cg/cpu,memory rw,relatime shared:4 - cgroup cgroup rw,cpu,memory\n"
        "36 31 0:33 / /cg/devices rw,relatime - cgroup cgroup rw,devices\n"
        "41 31 0:38 / /cg/unified rw,relatime - cgroup2 cgroup2 rw\n");
  write("/cg/cpu,memory/jobs/one/memory.limit_in_bytes", std::to_string(160 * kMiB) + "\n");
  write("/cg/cpu,memory/jobs/one/memory.usage_in_bytes", std::to_string(50 * kMiB) + "\n");
  write("/cg/cpu,memory/jobs/one/memory.stat", "inactive_file 1\ntotal_inactive_file " +
                                                   std::to_string(10 * kMiB) +
                                                   "\ntotal_active_file 0\n");
  write("/cg/cpu,memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("/cg/cpu,memory/memory.usage_in_bytes", "1\n");
  EXPECT_EQ(read().headroom_bytes, 100 * kMiB);
}

TEST_F(MachineFiles, ThisMachineCanBeRead) {
  Result<MemoryReading> reading = SystemMemory().read();
  ASSERT_TRUE(reading) << to_string(reading.error());
  EXPECT_GT(reading->total_bytes, 0u);
  EXPECT_LT(reading->headroom_bytes, reading->total_bytes);
}

}  // namespace
}  // namespace kaas
