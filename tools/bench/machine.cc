#include "tools/bench/machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace kaas {
namespace {

std::string first_line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

constexpr const char* build_kind() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "sanitizer";
#elif !defined(__OPTIMIZE__)
  return "not optimised";
#else
  return "release";
#endif
}

// Sums the first number of schedstat, time on a processor, over the threads.
Result<std::uint64_t> scheduled_ns(const std::filesystem::path& tasks) {
  std::uint64_t total_ns = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
    std::ifstream file(task.path() / "schedstat");
    std::uint64_t on_processor_ns = 0;
    if (file >> on_processor_ns) total_ns += on_processor_ns;
  }
  if (error) return Status{StatusCode::NotFound, tasks.string() + ": " + error.message()};
  return total_ns;
}

}  // namespace

MachineFacts machine_facts() {
  MachineFacts facts;
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const std::size_t colon = line.find(": ");
    if (facts.processor.empty() && line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      facts.processor = line.substr(colon + 2);
    }
    if (line.rfind("flags", 0) == 0) {
      facts.virtualised = (line + " ").find(" hypervisor ") != std::string::npos;
      break;
    }
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  facts.cores = ::sched_getaffinity(0, sizeof allowed, &allowed) == 0
                    ? static_cast<unsigned>(CPU_COUNT(&allowed))
                    : std::thread::hardware_concurrency();
  utsname name{};
  if (::uname(&name) == 0) facts.kernel = std::string(name.sysname) + " " + name.release;
  facts.governor = first_line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  facts.memory_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::ifstream("/proc/loadavg") >> facts.load;
  facts.build = build_kind();
  return facts;
}

std::string to_string(const MachineFacts& machine) {
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, ", %u cores, %.1f GiB, load %.2f", machine.cores,
                static_cast<double>(machine.memory_bytes) / (1u << 30), machine.load);
  return machine.processor + numbers + (machine.virtualised ? ", virtual machine" : "") + ", " +
         machine.kernel + (machine.governor.empty() ? "" : ", governor " + machine.governor) +
         ", build " + machine.build;
}

Result<std::uint64_t> cpu_time_ns(pid_t pid) {
  return scheduled_ns("/proc/" + std::to_string(pid) + "/task");
}

Result<std::uint64_t> memory_bytes_of(pid_t pid, const std::string& field) {
  const std::string path = "/proc/" + std::to_string(pid) + "/status";
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(field + ":", 0) != 0) continue;
    std::istringstream value(line.substr(field.size() + 1));
    std::uint64_t kilobytes = 0;
    if (value >> kilobytes) return kilobytes * 1024;
  }
  return Status{StatusCode::NotFound, path + " has no field '" + field + "'"};
}

std::uint64_t own_page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_minflt);
}

MappedFile mapped_file_at(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::uint64_t inode = 0;
    int name_at = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %" SCNu64 " %n", &begin,
                    &end, &inode, &name_at) < 3) {
      continue;
    }
    if (wanted >= begin && wanted < end) return {inode, line.substr(static_cast<size_t>(name_at))};
  }
  return {};
}

std::string program_folder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

}  // namespace kaas
