// Kernels that reach for the executor's neighbours: for tests of its confinement. Host only.
#include <fcntl.h>
#include <kaas/kernel.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "tests/support/kernels/hostile.h"

namespace {

bool reads_own_memory() {
  uint64_t from = 1;
  uint64_t to = 0;
  const iovec local{&to, sizeof to};
  const iovec remote{&from, sizeof from};
  return ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == sizeof to;
}

bool takes_own_descriptor() {
  const int self = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  const int taken = static_cast<int>(::syscall(SYS_pidfd_getfd, self, STDOUT_FILENO, 0));
  const int error = errno;
  if (taken >= 0) ::close(taken);
  ::close(self);
  errno = error;
  return taken >= 0;
}

bool signals_by_pidfd(pid_t pid) {
  const int other = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  const bool sent = ::syscall(SYS_pidfd_send_signal, other, 0, nullptr, 0) == 0;
  const int error = errno;
  ::close(other);
  errno = error;
  return sent;
}

bool opens_memory(pid_t pid) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/mem", static_cast<int>(pid));
  const int memory = ::open(path, O_RDWR | O_CLOEXEC);
  const int error = errno;
  if (memory >= 0) ::close(memory);
  errno = error;
  return memory >= 0;
}

bool raises() {
  struct sigaction ignored {};
  struct sigaction before {};
  ignored.sa_handler = SIG_IGN;
  ::sigaction(SIGUSR1, &ignored, &before);
  const bool raised = ::raise(SIGUSR1) == 0 && ::kill(::getpid(), SIGUSR1) == 0;
  const int error = errno;
  ::sigaction(SIGUSR1, &before, nullptr);
  errno = error;
  return raised;
}

// Signals are tried with number 0, which is checked as any and wakes or ends nobody.
bool attempt(Attack attack) {
  const pid_t kaasd = ::getppid();
  rlimit limit{};
  switch (attack) {
    case Attack::Kill:
      return ::kill(kaasd, 0) == 0;
    case Attack::KillGroup:
      return ::kill(0, 0) == 0;
    case Attack::ThreadKill:
      return ::syscall(SYS_tgkill, kaasd, kaasd, 0) == 0;
    case Attack::PidfdSignal:
      return signals_by_pidfd(kaasd);
    case Attack::Owner:
      return ::fcntl(STDOUT_FILENO, F_SETOWN, kaasd) == 0;
    case Attack::Trace:
      return ::ptrace(PTRACE_PEEKDATA, kaasd, nullptr, nullptr) == 0;
    case Attack::ReadMemory:
      return reads_own_memory();
    case Attack::TakeDescriptor:
      return takes_own_descriptor();
    case Attack::OpenMemory:
      return opens_memory(kaasd);
    case Attack::Limit:
      return ::syscall(SYS_prlimit64, kaasd, RLIMIT_CORE, nullptr, &limit) == 0;
    case Attack::None:
      return raises();
  }
  return false;
}

}  // namespace

// result[0] = 0 if it succeeded, else errno.
KAAS_FUNCTION void attack(kaas::Block&, uint32_t which, int32_t* result) {
  errno = 0;
  result[0] = attempt(static_cast<Attack>(which)) ? 0 : errno;
}
KAAS_KERNEL(attack);

KAAS_LIBRARY("hostile");
