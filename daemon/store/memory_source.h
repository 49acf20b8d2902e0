// What Linux says of free memory: /proc/meminfo and the memory control groups around this process.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/store/budget.h"

namespace kaas {

// Stays free for kaasd and its executors themselves: an eighth of each limit, at most this.
inline constexpr std::uint64_t kOwnReserveBytesMax = 256u << 20;

// The headroom is the least of
//   machine          MemAvailable
//   control groups   min(memory.max, memory.high) - (memory.current - reclaimable page cache), of
//                    our group and each above it; memory.limit_in_bytes and memory.usage_in_bytes
//                    where the memory controller is of version 1
// less the reserve. Reclaimable are inactive file pages and half of the active ones. Shared memory
// is neither, so it counts as used.
// Groups are found once, when it is made: a process that is moved later keeps its first ones.
class SystemMemory final : public MemorySource {
 public:
  // `root` is put before /proc and the mount points of control groups: tests give a folder.
  explicit SystemMemory(std::string root = "");

  Result<MemoryReading> read() override;

 private:
  struct Group {
    std::string path;
    bool unified = false;  // Version 2.
  };
  void find_groups();

  const std::string root_;
  std::vector<Group> groups_;
};

}  // namespace kaas
