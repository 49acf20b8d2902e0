// doctor: checks of the machine, and the report.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <system_error>

#include "schema/ipc/handle.h"
#include "tools/kaasctl/checks.h"
#include "tools/kaasctl/commands.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace kaas {
namespace {

using Level = Check::Level;

constexpr rlim_t kDescriptorsWanted = 1024;
constexpr std::uint64_t kLockedBytesWanted = 64u << 20;
constexpr std::uint64_t kFreeBytesWanted = 1u << 30;

void check_versions(Checks& checks) {
  utsname system{};
  ::uname(&system);
  checks.add({Level::Ok, "versions",
              std::string("kaasctl ") + KAAS_VERSION + " on " + system.sysname + " " +
                  system.release + " (" + system.machine + ")",
              ""});
}

void check_shared_memory(Checks& checks) {
  const Descriptor memfd(::memfd_create("kaasctl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) {
    checks.add({Level::Fail, "shared memory",
                std::string("memfd_create fails: ") + std::strerror(errno),
                "allow memfd_create in the sandbox or container of this process"});
    return;
  }
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  if (::fcntl(memfd.get(), F_ADD_SEALS, seals) != 0) {
    checks.add({Level::Fail, "shared memory",
                std::string("memfd refuses the seals: ") + std::strerror(errno),
                "use a kernel from 5.1 on"});
    return;
  }
  checks.add({Level::Ok, "shared memory", "memfd with seals works", ""});
}

std::string limit_text(rlim_t limit) {
  return limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit);
}

void check_limits(Checks& checks) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const bool enough = files.rlim_max >= kDescriptorsWanted;
  checks.add(
      {enough ? Level::Ok : Level::Warn, "descriptors",
       "RLIMIT_NOFILE is " + limit_text(files.rlim_cur) + ", at most " + limit_text(files.rlim_max),
       enough ? ""
              : "raise it to " + std::to_string(kDescriptorsWanted) +
                    " (ulimit -n, or LimitNOFILE= of the service)"});
  rlimit locked{};
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  const bool lockable = locked.rlim_max >= kLockedBytesWanted || count_gpus() == 0;
  checks.add(
      {lockable ? Level::Ok : Level::Warn, "locked memory",
       "RLIMIT_MEMLOCK is " + (locked.rlim_cur == RLIM_INFINITY ? std::string("unlimited")
                                                                : human_bytes(locked.rlim_cur)),
       lockable ? ""
                : "a GPU pins its buffers: raise it (ulimit -l, or "
                  "LimitMEMLOCK= of the service)"});
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  file >> text;
  return parse_natural(text);
}

// Of /proc/meminfo, in bytes.
std::uint64_t meminfo(std::string_view field) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(field)) continue;
    std::istringstream words(line.substr(field.size()));
    std::uint64_t kibibytes = 0;
    words >> kibibytes;
    return kibibytes * 1024;
  }
  return 0;
}

// The tightest limit above this process in cgroup version 2: what is left of it.
std::optional<std::uint64_t> cgroup_left() {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("0::")) {
  }
  if (!line.starts_with("0::/")) return std::nullopt;
  std::optional<std::uint64_t> left;
  for (std::string path = line.substr(3);;) {
    const std::string folder = "/sys/fs/cgroup" + path;
    const auto limit = number_in(folder + "/memory.max");
    const auto used = number_in(folder + "/memory.current");
    if (limit && used) {
      left = std::min(left.value_or(std::numeric_limits<std::uint64_t>::max()),
                      *limit - std::min(*limit, *used));
    }
    if (path.size() <= 1) return left;
    path.erase(path.rfind('/'));
  }
}

void check_memory(Checks& checks) {
  const std::uint64_t available = meminfo("MemAvailable:");
  const auto cgroup = cgroup_left();
  const std::uint64_t free_bytes = std::min(available, cgroup.value_or(available));
  const bool enough = free_bytes >= kFreeBytesWanted;
  checks.add({enough ? Level::Ok : Level::Warn, "memory",
              human_bytes(available) + " of " + human_bytes(meminfo("MemTotal:")) + " available" +
                  (cgroup ? ", " + human_bytes(*cgroup) + " left in the cgroup" : ""),
              enough ? ""
                     : "the store and its clients share this: free memory, or raise the "
                       "cgroup's memory.max"});
}

void check_processors(Checks& checks) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int usable = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  const bool enough = usable > 1;
  checks.add({enough ? Level::Ok : Level::Warn, "processors", std::to_string(usable) + " usable",
              enough ? ""
                     : "client, daemon and executor take turns on one: latencies are "
                       "those of sleeping"});
}

const char* word_of(Level level) {
  switch (level) {
    case Level::Ok:
      return "ok";
    case Level::Warn:
      return "warn";
    case Level::Fail:
      return "fail";
  }
  return "fail";
}

std::string coloured(Level level, bool colour) {
  const std::string word = std::string(word_of(level)) + (level == Level::Ok ? "  " : "");
  if (!colour) return word;
  const char* code = level == Level::Ok ? "32" : level == Level::Warn ? "33" : "31";
  return std::string("\033[") + code + "m" + word + "\033[0m";
}

}  // namespace

void Checks::add(const Check& check) {
  has_failed_ |= check.level == Level::Fail;
  if (console_.json()) {
    Json entry = {{"level", word_of(check.level)}, {"name", check.name}, {"text", check.text}};
    if (!check.advice.empty()) entry["advice"] = check.advice;
    list_.push_back(std::move(entry));
    return;
  }
  if (console_.quiet() && check.level == Level::Ok) return;
  std::string name = check.name;
  name.resize(std::max<std::size_t>(name.size(), 14), ' ');
  console_.print(coloured(check.level, console_.colour()) + "  " + name + "  " +
                 printable(check.text) + "\n");
  if (!check.advice.empty()) {
    console_.print(std::string(22, ' ') + "-> " + printable(check.advice) + "\n");
  }
  console_.flush();  // The next one may take a while.
}

void Checks::end() {
  if (console_.json()) console_.print(dump({{"checks", std::move(list_)}}) + "\n");
}

std::size_t count_gpus() {
  std::size_t gpus = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/dev", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("nvidia") && parse_natural(name.substr(6))) ++gpus;
  }
  return gpus;
}

void check_machine(Checks& checks) {
  check_versions(checks);
  check_shared_memory(checks);
  check_limits(checks);
  check_memory(checks);
  check_processors(checks);
}

int examine(const CommandLine& line, Console& console) {
  Checks checks(console);
  check_machine(checks);
  check_sockets(line.socket, checks);
  auto client = connect(line, SessionKind::Administration);
  if (client.has_value()) {
    check_daemon(line, *client, checks);
  } else {
    checks.add({Level::Fail, "daemon", client.error().message, advice_for(client.error())});
  }
  checks.end();
  if (!client.has_value()) return exit_without_session(client.error());
  return checks.has_failed() ? kExitFailed : kExitDone;
}

}  // namespace kaas
