// doctor: checks of the daemon, from where it is looked for to a request that does nothing.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>

#include "schema/ipc/socket.h"
#include "tools/kaasctl/checks.h"
#include "tools/kaasctl/console.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"

namespace kaas {
namespace {

using Level = Check::Level;

constexpr int kNullRequests = 200;
constexpr auto kPatience = std::chrono::seconds(10);
constexpr double kFullFraction = 0.9;
constexpr const char* kResume = "kaasctl resume all, by its operator, takes them again";
constexpr const char* kNoPermission =
    "become one of socket_group, or have the operator of the daemon change socket_mode and "
    "socket_group";

std::string octal(mode_t mode) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%04o", static_cast<unsigned>(mode & 07777));
  return text.data();
}

bool is_trusted(uid_t uid) {
  return uid == 0 || uid == ::geteuid();
}

// Who may put another socket or library into a folder; nullopt: nobody that matters.
std::optional<std::string> folder_fault(const struct stat& info) {
  if (!is_trusted(info.st_uid)) return "belongs to uid " + std::to_string(info.st_uid);
  const bool is_sticky = (info.st_mode & S_ISVTX) != 0;
  if ((info.st_mode & S_IWOTH) != 0 && !is_sticky) return "can be written by everybody";
  return std::nullopt;
}

// `is_the_only`: no other path where a daemon is looked for has anything.
void check_socket(const std::string& path, bool is_the_only, Checks& checks) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == EACCES) {
      checks.add({Level::Warn, "socket", path + ": " + std::strerror(errno),
                  "its folder is closed to you: have its owner open it (chmod +x)"});
      return;
    }
    const std::string text = path + ": " + std::strerror(errno);
    if (is_the_only) {
      checks.add({Level::Warn, "socket", text, "start kaasd, or name its socket with --socket"});
    } else {
      checks.add({Level::Ok, "socket", text + "; the other path counts", ""});
    }
    return;
  }
  std::string text = path + ": mode " + octal(info.st_mode) + ", uid " +
                     std::to_string(info.st_uid) + ", gid " + std::to_string(info.st_gid);
  if (!S_ISSOCK(info.st_mode)) {
    checks.add(
        {Level::Fail, "socket", path + " is no socket", "remove it, or choose another path"});
    return;
  }
  struct stat folder {};
  const std::string parent = std::filesystem::path(path).parent_path().string();
  if (::stat(parent.c_str(), &folder) == 0) {
    if (const auto fault = folder_fault(folder)) {
      checks.add({Level::Warn, "socket", text + "; its folder " + *fault,
                  "put the socket where only you or root can write"});
      return;
    }
  }
  const auto connected = connect_socket(path);
  if (!connected.has_value() && connected.error().code == StatusCode::PermissionDenied) {
    checks.add({Level::Fail, "socket", text + "; " + connected.error().message, kNoPermission});
    return;
  }
  if (!connected.has_value()) {
    checks.add({Level::Warn, "socket", text + "; " + connected.error().message,
                "a daemon that was killed leaves it; the next one takes it over"});
    return;
  }
  const auto peer = peer_credentials(connected->get());
  if (!peer.has_value()) {
    checks.add({Level::Warn, "socket", text + "; " + peer.error().message, ""});
    return;
  }
  text += "; process " + std::to_string(peer->pid) + " of uid " + std::to_string(peer->uid) +
          " listens";
  if (is_trusted(peer->uid)) {
    checks.add({Level::Ok, "socket", text, ""});
  } else {
    checks.add({Level::Warn, "socket", text,
                "that user sees all that you send; is it the daemon you mean?"});
  }
}

bool all_are_suspended(const Json& status) {
  const Json& devices = list_at(status, "devices");
  return !devices.empty() && std::all_of(devices.begin(), devices.end(), [](const Json& device) {
    return text_at(device, "state") == "suspended";
  });
}

void check_health(Client& client, const Json& status, Checks& checks) {
  const std::string version = text_at(status, "version");
  const bool same = version == KAAS_VERSION;
  checks.add(
      {same ? Level::Ok : Level::Warn, "daemon",
       "kaasd " + version + " at " + client.socket() + ", up " +
           human_seconds(number_at(status, "uptime_s")),
       same ? ""
            : std::string("kaasctl is ") + KAAS_VERSION + ": restart the daemon after an update"});
  const std::string health = text_at(status, "health");
  const std::string reason = text_at(status, "health_reason");
  const Level level = health == "ok" ? Level::Ok : health == "starting" ? Level::Warn : Level::Fail;
  checks.add({level, "health", health + (reason.empty() ? "" : ": " + reason),
              level == Level::Ok          ? ""
              : all_are_suspended(status) ? kResume
                                          : "see kaasctl logs"});
}

void check_store(const Json& status, Checks& checks) {
  const Json& memory = object_at(status, "memory");
  const std::uint64_t used = natural_at(memory, "used_bytes");
  const std::uint64_t limit = natural_at(memory, "limit_bytes");
  const bool is_full = static_cast<double>(used) > kFullFraction * static_cast<double>(limit);
  checks.add({is_full ? Level::Warn : Level::Ok, "store",
              human_bytes(used) + " of " + human_bytes(limit) +
                  " used (limit: " + text_at(memory, "bound") + ")",
              is_full ? "remove objects (kaasctl kv ls, rm), end sessions (kaasctl ps, kick) "
                        "or raise the limit"
                      : ""});
}

// Not known before the executor has told it.
std::string memory_of(const Json& executor) {
  const std::uint64_t limit = natural_at(executor, "device_limit_bytes");
  if (limit == 0) return "-";
  return human_bytes(natural_at(executor, "device_used_bytes")) + " of " + human_bytes(limit);
}

void check_devices(const Json& status, Checks& checks) {
  const std::string configured = text_at(object_at(status, "config"), "device");
  const std::size_t gpus = count_gpus();
  checks.add({Level::Ok, "devices",
              "the daemon uses '" + configured + "'; this machine has " + std::to_string(gpus) +
                  " NVIDIA GPUs",
              ""});
  for (const Json& device : list_at(status, "devices")) {
    const std::string state = text_at(device, "state");
    const bool is_well = state == "ready" || state == "idle";
    const std::string cause = text_at(device, "cause");
    checks.add({is_well             ? Level::Ok
                : state == "failed" ? Level::Fail
                                    : Level::Warn,
                "device",
                text_at(device, "id") + " (" + text_at(device, "name") + "): " + state +
                    (cause.empty() ? "" : ", " + cause),
                is_well                ? ""
                : state == "suspended" ? "kaasctl resume takes it again"
                                       : "see kaasctl logs"});
  }
  const Json& executors = list_at(status, "executors");
  if (executors.empty()) {
    checks.add({Level::Ok, "executor",
                all_are_suspended(status) ? "none, because every device is suspended"
                                          : "none yet; a request starts one",
                ""});
  }
  for (const Json& executor : executors) {
    const bool ready = text_at(executor, "state") == "ready";
    const std::uint64_t restarts = natural_at(executor, "restarts");
    const Level level = ready && restarts == 0 ? Level::Ok : Level::Warn;
    checks.add({level, "executor",
                text_at(executor, "device") + " for uid " +
                    std::to_string(natural_at(executor, "domain")) + ": " +
                    text_at(executor, "state") + ", process " +
                    std::to_string(natural_at(executor, "pid")) + ", " + memory_of(executor) +
                    " used, restarted " + std::to_string(restarts) + " times",
                level == Level::Ok ? "" : "see kaasctl logs for why it ended"});
  }
}

// What keeps executors from harming their neighbours, and from whom it does.
void check_confinement(const Json& status, Checks& checks) {
  const Json& config = object_at(status, "config");
  for (const Json& executor : list_at(status, "executors")) {
    if (text_at(executor, "state") != "ready") continue;
    const std::string confinement = text_at(executor, "confinement");
    const bool is_full = confinement == "full";
    const bool is_chosen = confinement == "off";
    checks.add(
        {is_full ? Level::Ok : Level::Warn, "confinement",
         "process " + std::to_string(natural_at(executor, "pid")) + ": " + confinement,
         is_full ? ""
         : is_chosen
             ? "executor.prefix (" + text_at(config, "executor_prefix") +
                   ") or executor.confine turns it off: kernels can end other processes "
                   "of their user"
             : "build with libseccomp (tools/setup), on a kernel with CONFIG_SECCOMP_FILTER"});
  }
}

void check_library_file(const std::filesystem::directory_entry& entry, Checks& checks,
                        std::size_t& usable) {
  struct stat info {};
  const std::string path = entry.path().string();
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  if (::access(path.c_str(), R_OK) != 0) {
    checks.add({Level::Warn, "library", path + " can't be read: " + std::strerror(errno),
                "make it readable (mode 0644)"});
  } else if (!is_trusted(info.st_uid) || (info.st_mode & S_IWOTH) != 0) {
    checks.add({Level::Warn, "library",
                path + ": mode " + octal(info.st_mode) + ", uid " + std::to_string(info.st_uid),
                "the daemon refuses files that others may write: chmod o-w, chown"});
  } else {
    ++usable;
  }
}

void check_libraries(const Json& status, Checks& checks) {
  const Json& folders = list_at(object_at(status, "config"), "library_path");
  if (folders.empty()) {
    checks.add({Level::Fail, "libraries", "the daemon has no library path",
                "set library.path, or start kaasd with --library-path"});
  }
  for (const Json& folder : folders) {
    const std::string path = folder.is_string() ? folder.get<std::string>() : "";
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      checks.add({Level::Fail, "libraries",
                  "'" + path + "': " + (errno != 0 ? std::strerror(errno) : "no folder"),
                  "correct library.path, or install the kernel libraries"});
      continue;
    }
    if (const auto fault = folder_fault(info)) {
      checks.add({Level::Fail, "libraries", "'" + path + "' " + *fault,
                  "the daemon refuses libraries from there: chmod o-w, chown"});
      continue;
    }
    std::size_t usable = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      if (entry.path().extension() == ".so") check_library_file(entry, checks, usable);
    }
    checks.add({usable > 0 ? Level::Ok : Level::Warn, "libraries",
                std::to_string(usable) + " in " + path,
                usable > 0 ? "" : "install the kernel libraries there"});
  }
}

// The whole way of a request, without work of its own.
void check_null_request(const CommandLine& line, Checks& checks) {
  using Clock = std::chrono::steady_clock;
  const auto began = Clock::now();
  RequestBuilder builder;
  builder.kernel("std", "noop").grid(1).block(1);
  const auto failed = [&](const Status& status, const std::string& advice = "see kaasctl logs") {
    checks.add({Level::Fail, "null request", status.message, advice});
  };
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return failed(client.error(), advice_for(client.error()));
  const auto request = builder.build();
  if (!request.has_value()) return failed(request.error());
  // With no device to run on, a request waits.
  RunOptions options;
  options.deadline = began + kPatience;
  const auto first_reply = client->run(*request, options);
  if (!first_reply.has_value()) return failed(first_reply.error());
  const auto first = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count());
  const auto plan = client->prepare(*request);
  if (!plan.has_value()) return failed(plan.error());
  std::vector<std::uint64_t> times;
  for (int n = 0; n < kNullRequests; ++n) {
    const auto started = Clock::now();
    options.deadline = started + kPatience;
    const auto reply = plan->run({}, options);
    if (!reply.has_value()) return failed(reply.error());
    times.push_back(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started).count()));
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  checks.add({Level::Ok, "null request",
              "std:noop, the first in " + human_ns(first) + ", then " +
                  human_ns(times[times.size() / 2]) + " (median of " +
                  std::to_string(kNullRequests) + ")",
              ""});
}

}  // namespace

void check_sockets(const std::string& socket, Checks& checks) {
  const auto paths = socket.empty() ? default_socket_paths() : std::vector{socket};
  const auto exists = [](const std::string& path) {
    struct stat info {};
    return ::lstat(path.c_str(), &info) == 0;
  };
  const bool has_none = std::none_of(paths.begin(), paths.end(), exists);
  for (const std::string& path : paths) check_socket(path, has_none, checks);
}

std::string advice_for(const Status& reason) {
  switch (reason.code) {
    case StatusCode::Unavailable:
      return "start kaasd, or name its socket with --socket or $KAAS_SOCKET";
    case StatusCode::DeadlineExceeded:
      return "the daemon is there but does not answer: restart it";
    case StatusCode::PermissionDenied:
      return kNoPermission;
    case StatusCode::ResourceExhausted:
      return "the daemon refuses the session: end sessions (kaasctl ps, kick), remove objects, or "
             "raise its limits (docs/kaasd.md)";
    case StatusCode::VersionMismatch:
      return "kaasctl and kaasd are of different versions: restart the daemon after an update";
    case StatusCode::InvalidArgument:
      return "name the daemon's socket with --socket or $KAAS_SOCKET";
    default:
      return "the daemon refuses the session; its log may say more";
  }
}

void check_daemon(const CommandLine& line, Client& client, Checks& checks) {
  const auto answer = client.status_json();
  const auto status = answer.has_value() ? parse_answer(*answer) : Result<Json>(answer.error());
  if (!status.has_value()) {
    checks.add({Level::Fail, "daemon", status.error().message, "see kaasctl logs"});
    return;
  }
  check_health(client, *status, checks);
  check_store(*status, checks);
  check_devices(*status, checks);
  check_confinement(*status, checks);
  check_libraries(*status, checks);
  if (all_are_suspended(*status)) {
    checks.add({Level::Warn, "null request",
                "not tried: it would wait, because every device is suspended", kResume});
    return;
  }
  check_null_request(line, checks);
}

}  // namespace kaas
