// Starting executor processes.
// Threads: the control thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/supervise/executor_link.h"

namespace kaas {

struct ExecutorCommand {
  std::vector<std::string> prefix;  // A debugger, sanitizer or profiler; often empty.
  std::string program;              // kaas-executor.
  std::string device = "host";
  std::uint64_t memory_limit_bytes = 0;  // Of the device; 0: the executor's default.
  std::uint64_t outbox_bytes = kOutboxBytes;
  std::uint64_t epoch = 0;
  uid_t uid = 0;                   // Of its domain; it gets its rights when kaasd is root.
  std::optional<uid_t> user;       // Instead: whose rights it gets then.
  std::uint32_t reserved_sms = 0;  // Of a GPU, which background runs leave free.
  bool is_joined = false;   // The domain has several uids: it loads kaasd's own libraries only.
  bool is_confined = true;  // It can't harm other processes of its user; see confinement.h.
};

// A child process and kaasd's ends of what it shares with it.
struct ExecutorProcess {
  pid_t pid = 0;
  Descriptor pidfd;   // Readable once it has ended.
  Descriptor log;     // Read end of its stdout and stderr, non-blocking.
  Descriptor report;  // Kept until it is sealed, when the executor is Ready.
  Descriptor outbox;  // As `report`.
  ExecutorEndpoints endpoints;
};

// Makes the segments and sockets, forks and execs. Fails with ResourceExhausted, NotFound (no such
// program) or Internal. The child is killed by the kernel if kaasd dies.
Result<ExecutorProcess> start_executor(const ExecutorCommand& command);

// Nobody but the executor, which has mapped them, may map its segments writable from now on.
Result<void> seal_executor_segments(const ExecutorProcess& process);

// Ends a process by its pidfd: a pid could be another's by now.
void kill_process(const Descriptor& pidfd, int signal) noexcept;

// The exit status by which an executor says that its device can't be had now; its last line says
// why.
inline constexpr int kExitDeviceUnavailable = 3;

// How a process ended.
struct ProcessEnd {
  std::string text;      // "signal 11 (Segmentation fault)", "exit status 1".
  int exit_status = -1;  // -1: by a signal, or unknown.
};

// Reaps a child that has ended.
ProcessEnd reap(pid_t pid);

}  // namespace kaas
