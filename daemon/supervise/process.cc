#include "daemon/supervise/process.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "schema/ipc/socket.h"

namespace kaas {
namespace {

constexpr int kChildSocket = 3;

Status errno_status(StatusCode code, const std::string& what) {
  return Status{code, what + ": " + std::strerror(errno)};
}

// The child's ends.
struct ChildEnds {
  Descriptor work;  // Read-only.
  Descriptor report;
  Descriptor outbox;
  Descriptor socket;
  Doorbell doorbell;
  Descriptor log;
};

Result<void> make_segments(const ExecutorCommand& command, ExecutorProcess& process,
                           ChildEnds& child) {
  ExecutorEndpoints& ours = process.endpoints;
  ours.geometry = {kWorkRingSlots, kWorkHeapBytes};
  const std::size_t ring_bytes = ours.geometry.segment_bytes();
  KAAS_ASSIGN_OR_RETURN(const Descriptor work, create_segment("kaas-work", ring_bytes));
  KAAS_ASSIGN_OR_RETURN(ours.work, Mapping::create(work.get(), ring_bytes, Mapping::Mode::ReadWrite,
                                                   "the work ring"));
  RingView::at(ours.work.data(), ours.geometry).initialise(command.epoch);
  KAAS_RETURN_IF_ERROR(add_seals(work.get(), Seals::FutureWrite | Seals::Seal));
  KAAS_ASSIGN_OR_RETURN(child.work, reopen_read_only(work.get()));

  KAAS_ASSIGN_OR_RETURN(child.report, create_segment("kaas-report", ring_bytes));
  {
    KAAS_ASSIGN_OR_RETURN(const Mapping writable,
                          Mapping::create(child.report.get(), ring_bytes, Mapping::Mode::ReadWrite,
                                          "the report ring"));
    RingView::at(writable.data(), ours.geometry).initialise(command.epoch);
  }
  KAAS_ASSIGN_OR_RETURN(ours.report, Mapping::create(child.report.get(), ring_bytes,
                                                     Mapping::Mode::ReadOnly, "the report ring"));
  KAAS_ASSIGN_OR_RETURN(child.outbox, create_segment("kaas-outbox", command.outbox_bytes));
  KAAS_ASSIGN_OR_RETURN(ours.outbox, Mapping::create(child.outbox.get(), command.outbox_bytes,
                                                     Mapping::Mode::ReadOnly, "the outbox"));
  KAAS_ASSIGN_OR_RETURN(process.report, duplicate(child.report.get()));
  KAAS_ASSIGN_OR_RETURN(process.outbox, duplicate(child.outbox.get()));
  return {};
}

Result<void> make_sockets(ExecutorProcess& process, ChildEnds& child) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_status(StatusCode::ResourceExhausted, "socketpair");
  }
  process.endpoints.socket = Descriptor(ends[0]);
  child.socket = Descriptor(ends[1]);
  auto doorbell = Doorbell::create_pair();
  if (!doorbell) return errno_status(StatusCode::ResourceExhausted, "socketpair");
  process.endpoints.doorbell = std::move(doorbell->first);
  child.doorbell = std::move(doorbell->second);
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) {
    return errno_status(StatusCode::ResourceExhausted, "pipe");
  }
  process.log = Descriptor(pipe_ends[0]);
  child.log = Descriptor(pipe_ends[1]);
  ::fcntl(process.log.get(), F_SETFL, O_NONBLOCK);
  return {};
}

Result<void> send_hello(const ExecutorCommand& command, const ExecutorProcess& process,
                        const ChildEnds& child) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(
      wire::CreateExecutorHello(builder, kProtocolVersion, process.endpoints.geometry.slot_count,
                                process.endpoints.geometry.heap_bytes, command.outbox_bytes,
                                command.memory_limit_bytes, command.epoch));
  const int descriptors[] = {child.work.get(), child.report.get(), child.outbox.get(),
                             child.doorbell.descriptor()};
  if (send_message(process.endpoints.socket.get(), finished(builder), descriptors) ==
      SendOutcome::Sent) {
    return {};
  }
  return errno_status(StatusCode::Internal, "the executor's socket");
}

// Between fork and exec: system calls only. Returns the errno of what failed.
int become_executor(const ChildEnds& child, char* const* arguments, uid_t uid, gid_t gid,
                    bool drop_rights) {
  if (drop_rights && (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
                      ::setresuid(uid, uid, uid) != 0)) {
    return errno;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // What a terminal sends to kaasd's group (Ctrl-C) is for kaasd, which lets running requests end.
  if (::setpgid(0, 0) != 0) return errno;
  // Signals that kaasd blocks for its signalfd are not blocked there.
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null = ::open("/dev/null", O_RDONLY);
  if (null < 0 || ::dup2(null, STDIN_FILENO) < 0) return errno;
  if (::dup2(child.log.get(), STDOUT_FILENO) < 0 || ::dup2(child.log.get(), STDERR_FILENO) < 0) {
    return errno;
  }
  // dup2 of a descriptor onto itself would leave it close-on-exec.
  const int socket = ::fcntl(child.socket.get(), F_DUPFD, kChildSocket + 1);
  if (socket < 0 || ::dup2(socket, kChildSocket) < 0) return errno;
  ::close(socket);
  ::execvp(arguments[0], arguments);
  return errno;
}

// Whose libraries it loads, besides root's: the domain's, if they run with rights of the domain.
std::vector<std::string> executor_words(const ExecutorCommand& command) {
  std::vector<std::string> words = command.prefix;
  const bool is_of_domain = ::geteuid() == 0 && !command.is_joined;
  const uid_t library_owner = is_of_domain ? command.uid : ::geteuid();
  words.insert(words.end(),
               {command.program, "--device", command.device, "--socket-fd",
                std::to_string(kChildSocket), "--library-owner", std::to_string(library_owner),
                "--reserved-sms", std::to_string(command.reserved_sms)});
  if (command.is_joined) words.emplace_back("--joined");
  if (!command.is_confined) words.emplace_back("--unconfined");
  return words;
}

}  // namespace

Result<ExecutorProcess> start_executor(const ExecutorCommand& command) {
  ExecutorProcess process;
  ChildEnds child;
  KAAS_RETURN_IF_ERROR(make_segments(command, process, child));
  KAAS_RETURN_IF_ERROR(make_sockets(process, child));
  KAAS_RETURN_IF_ERROR(send_hello(command, process, child));

  std::vector<std::string> words = executor_words(command);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  const uid_t uid = command.user.value_or(command.uid);
  const bool drop_rights = ::geteuid() == 0 && uid != 0;
  const passwd* user = drop_rights ? ::getpwuid(uid) : nullptr;
  const gid_t gid = user == nullptr ? static_cast<gid_t>(uid) : user->pw_gid;

  // The child says through this pipe why it could not exec; exec closes it.
  int failure_pipe[2];
  if (::pipe2(failure_pipe, O_CLOEXEC) != 0) {
    return errno_status(StatusCode::ResourceExhausted, "pipe");
  }
  const Descriptor failure_read(failure_pipe[0]);
  Descriptor failure_write(failure_pipe[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return errno_status(StatusCode::ResourceExhausted, "fork");
  if (pid == 0) {
    const int error = become_executor(child, arguments.data(), uid, gid, drop_rights);
    [[maybe_unused]] const auto written = ::write(failure_write.get(), &error, sizeof error);
    ::_exit(127);
  }
  failure_write = Descriptor();
  process.pid = pid;
  process.pidfd = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  int error = 0;
  ssize_t bytes = 0;
  do {
    bytes = ::read(failure_read.get(), &error, sizeof error);
  } while (bytes < 0 && errno == EINTR);
  if (bytes == sizeof error) {
    reap(pid);
    return Status{error == ENOENT ? StatusCode::NotFound : StatusCode::Internal,
                  "cannot start executor '" + words.front() + "': " + std::strerror(error)};
  }
  if (!process.pidfd) {
    const Status failure = errno_status(StatusCode::ResourceExhausted, "pidfd_open");
    ::kill(pid, SIGKILL);  // It is our child and not reaped yet: the pid is surely its own.
    reap(pid);
    return failure;
  }
  return process;
}

Result<void> seal_executor_segments(const ExecutorProcess& process) {
  KAAS_RETURN_IF_ERROR(add_seals(process.report.get(), Seals::FutureWrite | Seals::Seal));
  return add_seals(process.outbox.get(), Seals::FutureWrite | Seals::Seal);
}

void kill_process(const Descriptor& pidfd, int signal) noexcept {
  ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0);
}

ProcessEnd reap(pid_t pid) {
  int status = 0;
  pid_t reaped = 0;
  do {
    reaped = ::waitpid(pid, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  if (reaped < 0) return {"unknown cause", -1};
  if (WIFSIGNALED(status)) {
    return {
        "signal " + std::to_string(WTERMSIG(status)) + " (" + ::strsignal(WTERMSIG(status)) + ")",
        -1};
  }
  return {"exit status " + std::to_string(WEXITSTATUS(status)), WEXITSTATUS(status)};
}

}  // namespace kaas
