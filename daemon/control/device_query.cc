#include "daemon/control/device_query.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "daemon/supervise/process.h"
#include "schema/ipc/clock.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using nlohmann::json;

constexpr const char* kFlag = "--list-devices";
// Far more than a machine's devices take.
constexpr std::size_t kAnswerBytesMax = 1u << 20;
constexpr std::size_t kIdBytesMax = 128;

Status system_error(const char* what) {
  return Status{StatusCode::ResourceExhausted, std::string(what) + ": " + std::strerror(errno)};
}

Status bad_answer(const std::string& what) {
  return Status{StatusCode::Unavailable, "the list of devices: " + what};
}

struct Pipe {
  Descriptor read;
  Descriptor write;
  static Result<Pipe> create() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return system_error("pipe");
    return Pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  }
};

// Between fork and exec: system calls only.
[[noreturn]] void become_program(char* const* arguments, int out, int err) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  if (::dup2(out, STDOUT_FILENO) >= 0 && ::dup2(err, STDERR_FILENO) >= 0) {
    // Ours don't block, the program's do.
    ::fcntl(STDOUT_FILENO, F_SETFL, 0);
    ::fcntl(STDERR_FILENO, F_SETFL, 0);
    ::execvp(arguments[0], arguments);
  }
  ::_exit(errno == ENOENT ? 127 : 126);
}

// Appends what is there, but not much more than is allowed; false: the end.
bool read_some(int descriptor, std::string& text) {
  std::array<char, 16384> bytes;
  for (;;) {
    const ssize_t count = ::read(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN;
    if (count == 0) return false;
    text.append(bytes.data(), static_cast<std::size_t>(count));
    if (text.size() > kAnswerBytesMax) return true;
  }
}

struct Said {
  std::string out;
  std::string err;
};

// Until both ends are closed. False: time is up, or it is too much.
bool read_both(const Descriptor& out, const Descriptor& err, std::uint64_t deadline_ns,
               Said& said) {
  std::array<pollfd, 2> waits{{{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}}};
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) return false;
    const int timeout_ms = static_cast<int>((deadline_ns - now) / 1'000'000) + 1;
    if (::poll(waits.data(), waits.size(), timeout_ms) < 0 && errno != EINTR) return false;
    if (said.out.size() > kAnswerBytesMax || said.err.size() > kAnswerBytesMax) return false;
    if (waits[0].fd >= 0 && waits[0].revents != 0 && !read_some(waits[0].fd, said.out)) {
      waits[0].fd = -1;
    }
    if (waits[1].fd >= 0 && waits[1].revents != 0 && !read_some(waits[1].fd, said.err)) {
      waits[1].fd = -1;
    }
  }
  return true;
}

bool wait_for_end(const Descriptor& pidfd, std::uint64_t deadline_ns) {
  for (;;) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) return false;
    pollfd ended{pidfd.get(), POLLIN, 0};
    const int count = ::poll(&ended, 1, static_cast<int>((deadline_ns - now) / 1'000'000) + 1);
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
}

// What it said, in one line.
std::string in_one_line(const std::string& text) {
  std::string line;
  for (const char c : text.substr(0, kStatusMessageBytesMax / 4)) {
    if (c != '\n' && c != '\r') {
      line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    } else if (!line.empty() && line.back() != ' ') {
      line += "; ";
    }
  }
  if (line.ends_with("; ")) line.resize(line.size() - 2);
  return line;
}

Result<std::string> text_of(const json& device, const char* field, bool may_be_empty) {
  const auto found = device.find(field);
  if (found == device.end() && may_be_empty) return std::string();
  if (found == device.end() || !found->is_string()) {
    return bad_answer("'" + std::string(field) + "' of a device is no text");
  }
  auto text = found->get<std::string>();
  if (text.empty() && !may_be_empty) {
    return bad_answer("'" + std::string(field) + "' of a device is empty");
  }
  return text;
}

// Ids are words of lists and command lines.
bool is_id(const std::string& text) {
  if (text.size() > kIdBytesMax) return false;
  for (const char c : text) {
    if (c <= ' ' || c == ',' || c >= 0x7f) return false;
  }
  return true;
}

Result<FoundDevice> parse_device(const json& device) {
  if (!device.is_object()) return bad_answer("a device is no object");
  FoundDevice found;
  KAAS_ASSIGN_OR_RETURN(found.id, text_of(device, "id", false));
  KAAS_ASSIGN_OR_RETURN(found.name, text_of(device, "name", true));
  KAAS_ASSIGN_OR_RETURN(found.problem, text_of(device, "problem", true));
  if (!is_id(found.id)) return bad_answer("the id '" + found.id + "' is no word");
  const auto bytes = device.find("memory_bytes");
  if (bytes == device.end() || !bytes->is_number_unsigned()) {
    return bad_answer("'memory_bytes' of " + found.id + " is no number from 0 on");
  }
  found.memory_bytes = bytes->get<std::uint64_t>();
  return found;
}

}  // namespace

Result<DeviceInventory> parse_inventory(std::string_view text) {
  const json answer = json::parse(text, nullptr, false);
  if (!answer.is_object()) return bad_answer("it is no JSON object");
  DeviceInventory inventory;
  KAAS_ASSIGN_OR_RETURN(inventory.problem, text_of(answer, "problem", true));
  const auto devices = answer.find("devices");
  if (devices == answer.end() || !devices->is_array()) return bad_answer("'devices' is no list");
  for (const json& device : *devices) {
    KAAS_ASSIGN_OR_RETURN(FoundDevice found, parse_device(device));
    for (const FoundDevice& other : inventory.devices) {
      if (other.id == found.id) return bad_answer("the id " + found.id + " is there twice");
    }
    inventory.devices.push_back(std::move(found));
  }
  return inventory;
}

Result<DeviceInventory> query_devices(const std::string& program, std::uint64_t timeout_ns) {
  const std::uint64_t deadline_ns = now_ns() + timeout_ns;
  KAAS_ASSIGN_OR_RETURN(Pipe out, Pipe::create());
  KAAS_ASSIGN_OR_RETURN(Pipe err, Pipe::create());
  std::string word = program;
  std::string flag = kFlag;
  std::array<char*, 3> arguments{word.data(), flag.data(), nullptr};
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("fork");
  if (pid == 0) become_program(arguments.data(), out.write.get(), err.write.get());
  out.write = Descriptor();
  err.write = Descriptor();
  const Descriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  Said said;
  const bool in_time =
      pidfd && read_both(out.read, err.read, deadline_ns, said) && wait_for_end(pidfd, deadline_ns);
  // It is our child and not reaped yet: the pid is surely its own.
  if (!in_time) ::kill(pid, SIGKILL);
  const ProcessEnd end = reap(pid);
  const std::string command = "'" + program + " " + kFlag + "' ";
  if (said.out.size() > kAnswerBytesMax || said.err.size() > kAnswerBytesMax) {
    return Status{StatusCode::Unavailable,
                  command + "says more than " + std::to_string(kAnswerBytesMax) + " bytes"};
  }
  if (!in_time) {
    return Status{StatusCode::Unavailable, command + "did not answer within " +
                                               std::to_string(timeout_ns / 1'000'000) + " ms"};
  }
  if (end.exit_status == 127 && said.out.empty() && said.err.empty()) {
    return Status{StatusCode::NotFound, "there is no program '" + program + "'"};
  }
  if (end.exit_status != 0) {
    const std::string line = in_one_line(said.err);
    return Status{StatusCode::Unavailable,
                  command + "ended with " + end.text + (line.empty() ? "" : ": " + line)};
  }
  return parse_inventory(said.out);
}

}  // namespace kaas
