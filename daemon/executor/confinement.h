// What an executor takes from itself before it runs anybody's code, so that a kernel library can't
// reach for the executor's neighbours: kaasd, clients and other executors of the same user.
//
//   no_new_privs    no program that it starts gains rights
//   not dumpable    others of its user can't trace it or read its memory
//   filter          system calls that reach into other processes fail with EPERM: signals to them,
//                   ptrace, process_vm_*, pidfd_getfd, their limits, scheduling and pages
//
// The filter holds for all threads and children, for ever. Files and sockets are not its business:
// what the user may open, an executor may.
// Threads: the main thread, before there are others.
#pragma once

#include <string>

namespace kaas {

// Applies all that is built in and that the kernel has. `allowed` false: only no_new_privs, for
// debuggers, profilers and sanitizers. Returns what came of it, for people: "full", "off", or
// "partial: ..." with what is missing.
std::string confine_executor(bool allowed);

}  // namespace kaas
