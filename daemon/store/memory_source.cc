#include "daemon/store/memory_source.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

namespace kaas {
namespace {

// Version 1 writes "no limit" as a number near 2^63, in whole pages.
constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;

std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return std::nullopt;
  return number;
}

std::optional<std::uint64_t> read_number(const std::string& path) {
  const std::optional<std::string> text = read_text(path);
  return text ? to_number(*text) : std::nullopt;
}

// The number of the line "name 123" or "name:   123 kB", as it stands; 0 if there is none.
std::uint64_t field(const std::string& text, std::string_view name) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (!line.starts_with(name)) continue;
    const std::size_t digits = line.find_first_not_of(": \t", name.size());
    if (digits == name.size() || digits == std::string::npos) continue;
    return to_number(std::string_view(line).substr(digits)).value_or(0);
  }
  return 0;
}

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (list.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

// One line of /proc/self/mountinfo: id parent device root mount_point options [tags] - type source
// super_options.
struct Mount {
  std::string root;
  std::string point;
  bool unified = false;
};

std::optional<Mount> memory_mount(const std::string& line) {
  const std::size_t dash = line.find(" - ");
  if (dash == std::string::npos) return std::nullopt;
  std::istringstream head(line.substr(0, dash));
  std::istringstream tail(line.substr(dash + 3));
  std::string skipped, type, source, options;
  Mount mount;
  head >> skipped >> skipped >> skipped >> mount.root >> mount.point;
  tail >> type >> source >> options;
  mount.unified = type == "cgroup2";
  if (mount.unified || (type == "cgroup" && has_word(options, "memory"))) return mount;
  return std::nullopt;
}

// The path in /proc/self/cgroup ("0::/a/b", "4:memory:/a/b") of the hierarchy.
std::optional<std::string> group_path(const std::string& cgroups, bool unified) {
  std::istringstream lines(cgroups);
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers =
        std::string_view(line).substr(first + 1, second - first - 1);
    if (unified ? line.starts_with("0::") : has_word(controllers, "memory")) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

// `path` as seen from the mount's root: "" for the mount point itself, also when our group lies
// outside of what is mounted (a container's view).
std::string below(const Mount& mount, const std::string& path) {
  const std::string root = mount.root == "/" ? "" : mount.root;
  if (path == "/" || path == root || path.starts_with("/..")) return "";
  if (!path.starts_with(root + "/")) return "";
  return path.substr(root.size());
}

struct GroupReading {
  std::uint64_t limit_bytes = 0;
  std::uint64_t used_bytes = 0;  // Without what the kernel can take back at once.
};

std::optional<GroupReading> read_group(const std::string& path, bool unified) {
  const auto limit_of = [&path](const char* file) {
    return read_number(path + file).value_or(std::numeric_limits<std::uint64_t>::max());
  };
  GroupReading reading;
  reading.limit_bytes = unified ? std::min(limit_of("/memory.max"), limit_of("/memory.high"))
                                : limit_of("/memory.limit_in_bytes");
  if (reading.limit_bytes >= kNoLimit) return std::nullopt;
  const std::optional<std::uint64_t> current =
      read_number(path + (unified ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!current) return std::nullopt;
  const std::string figures = read_text(path + "/memory.stat").value_or("");
  const std::uint64_t reclaimable =
      field(figures, unified ? "inactive_file" : "total_inactive_file") +
      field(figures, unified ? "active_file" : "total_active_file") / 2;
  reading.used_bytes = *current - std::min(*current, reclaimable);
  return reading;
}

std::uint64_t less(std::uint64_t bytes, std::uint64_t taken) noexcept {
  return bytes - std::min(bytes, taken);
}

std::uint64_t own_reserve(std::uint64_t limit_bytes) noexcept {
  return std::min(limit_bytes / 8, kOwnReserveBytesMax);
}

}  // namespace

SystemMemory::SystemMemory(std::string root) : root_(std::move(root)) {
  find_groups();
}

void SystemMemory::find_groups() {
  const std::string cgroups = read_text(root_ + "/proc/self/cgroup").value_or("");
  std::istringstream mounts(read_text(root_ + "/proc/self/mountinfo").value_or(""));
  std::string line;
  while (std::getline(mounts, line)) {
    const std::optional<Mount> mount = memory_mount(line);
    if (!mount) continue;
    const std::optional<std::string> path = group_path(cgroups, mount->unified);
    if (!path) continue;
    std::string group = below(*mount, *path);
    for (;;) {
      groups_.push_back(Group{root_ + mount->point + group, mount->unified});
      if (group.empty()) break;
      group.resize(group.rfind('/'));
    }
  }
}

Result<MemoryReading> SystemMemory::read() {
  const std::optional<std::string> machine = read_text(root_ + "/proc/meminfo");
  const std::uint64_t total = machine ? field(*machine, "MemTotal") * 1024 : 0;
  if (total == 0) {
    return Status{StatusCode::Internal, "/proc/meminfo cannot be read or has no MemTotal"};
  }
  MemoryReading reading;
  reading.total_bytes = total;
  reading.headroom_bytes = less(field(*machine, "MemAvailable") * 1024, own_reserve(total));
  reading.bound = "available memory of the machine";
  for (const Group& group : groups_) {
    const std::optional<GroupReading> of_group = read_group(group.path, group.unified);
    if (!of_group) continue;
    reading.total_bytes = std::min(reading.total_bytes, of_group->limit_bytes);
    const std::uint64_t headroom =
        less(less(of_group->limit_bytes, of_group->used_bytes), own_reserve(of_group->limit_bytes));
    if (headroom >= reading.headroom_bytes) continue;
    reading.headroom_bytes = headroom;
    reading.bound = "memory limit of the control group";
  }
  return reading;
}

}  // namespace kaas
