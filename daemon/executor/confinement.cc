#include "daemon/executor/confinement.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#if defined(KAAS_HAVE_SECCOMP)
#include <linux/sockios.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <cstdint>
#include <memory>
#endif

namespace kaas {
namespace {

// AddressSanitizer's leak checker traces its own process at the end.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kTracesItself = true;
#else
constexpr bool kTracesItself = false;
#endif

#if defined(KAAS_HAVE_SECCOMP)

using Filter = std::unique_ptr<void, decltype(&::seccomp_release)>;

// The kernel looks at the lower half of an argument of type int; what is in the upper half must not
// make it look different here.
constexpr std::uint64_t kIntMask = 0xffff'ffff;

int refuse(const Filter& filter, int call) {
  return ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0);
}

// Refused unless its first argument is exactly this.
int refuse_unless(const Filter& filter, int call, std::uint64_t first) {
  return ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 1,
                            SCMP_A0(SCMP_CMP_NE, first));
}

int refuse_command(const Filter& filter, int call, unsigned argument, std::uint64_t command) {
  return ::seccomp_rule_add(
      filter.get(), SCMP_ACT_ERRNO(EPERM), call, 1,
      scmp_arg_cmp{argument, SCMP_CMP_MASKED_EQ, kIntMask, command & kIntMask});
}

// Signals to oneself are needed: raise() and abort() are tgkill.
int add_signals(const Filter& filter) {
  const auto self = static_cast<std::uint64_t>(::getpid());
  for (const int call :
       {SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo)}) {
    if (const int error = refuse_unless(filter, call, self)) return error;
  }
  for (const int call : {SCMP_SYS(tkill), SCMP_SYS(pidfd_send_signal)}) {
    if (const int error = refuse(filter, call)) return error;
  }
  // A descriptor whose owner is another process sends it any signal when it becomes ready.
  for (const int command : {F_SETOWN, F_SETOWN_EX, F_SETSIG}) {
    if (const int error = refuse_command(filter, SCMP_SYS(fcntl), 1, command)) return error;
  }
  for (const int command : {FIOSETOWN, SIOCSPGRP}) {
    if (const int error = refuse_command(filter, SCMP_SYS(ioctl), 1, command)) return error;
  }
  return 0;
}

int add_memory(const Filter& filter) {
  for (const int call : {SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
                         SCMP_SYS(process_madvise), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
                         SCMP_SYS(perf_event_open), SCMP_SYS(migrate_pages)}) {
    if (const int error = refuse(filter, call)) return error;
  }
  if (!kTracesItself) {
    if (const int error = refuse(filter, SCMP_SYS(ptrace))) return error;
  }
  return refuse_unless(filter, SCMP_SYS(move_pages), 0);  // 0: this process.
}

// Limits and priorities of others. Affinity stays: libraries set that of their own threads, which
// are numbers like any other process.
int add_limits(const Filter& filter) {
  if (const int error = refuse_unless(filter, SCMP_SYS(prlimit64), 0)) return error;
  for (const int call :
       {SCMP_SYS(sched_setscheduler), SCMP_SYS(sched_setparam), SCMP_SYS(sched_setattr)}) {
    if (const int error = refuse_unless(filter, call, 0)) return error;
  }
  for (const int which : {PRIO_PGRP, PRIO_USER}) {
    if (const int error = refuse_command(filter, SCMP_SYS(setpriority), 0, which)) return error;
  }
  return refuse(filter, SCMP_SYS(ioprio_set));
}

// Empty: it is in place.
std::string install_filter() {
  const Filter filter(::seccomp_init(SCMP_ACT_ALLOW), &::seccomp_release);
  if (filter == nullptr) return "no memory for the system call filter";
  // Calls of another architecture would pass by the rules.
  int error = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
  if (error == 0) error = add_signals(filter);
  if (error == 0) error = add_memory(filter);
  if (error == 0) error = add_limits(filter);
  if (error == 0) error = ::seccomp_load(filter.get());
  if (error == 0) return "";
  return std::string("the system call filter is refused: ") + std::strerror(-error);
}

#else

std::string install_filter() {
  return "no system call filter, as this was built without libseccomp";
}

#endif

}  // namespace

std::string confine_executor(bool allowed) {
  std::string missing;
  const auto note = [&](const std::string& what) {
    if (!what.empty()) missing += (missing.empty() ? "" : "; ") + what;
  };
  const auto refused = [](const char* what) {
    return std::string(what) + " is refused: " + std::strerror(errno);
  };
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) note(refused("no_new_privs"));
  if (!allowed) return "off";
  if (kTracesItself) {
    note("built with AddressSanitizer, which traces it");
  } else if (::prctl(PR_SET_DUMPABLE, 0) != 0) {
    note(refused("not being dumpable"));
  }
  note(install_filter());
  return missing.empty() ? "full" : "partial: " + missing;
}

}  // namespace kaas
