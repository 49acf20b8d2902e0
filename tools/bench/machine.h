// What a measurement was made on, and what /proc says about a process.
// Threads: any.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

struct MachineFacts {
  std::string processor;  // As /proc/cpuinfo names it.
  unsigned cores = 0;     // That this process may use.
  bool virtualised = false;
  std::string kernel;    // Name and release.
  std::string governor;  // Of processor 0; empty: none, as on most virtual machines.
  std::uint64_t memory_bytes = 0;
  double load = 0;    // Runnable processes of the last minute, before measuring.
  std::string build;  // Of this program: "release", or why its figures are too slow.
};
[[nodiscard]] MachineFacts machine_facts();

// "Intel Xeon, 2 cores, virtual, Linux 6.1, ..." on one line.
[[nodiscard]] std::string to_string(const MachineFacts& machine);

// Processor time of all threads of a process since it started, in nanoseconds. NotFound: no such
// process.
Result<std::uint64_t> cpu_time_ns(pid_t pid);

// A byte count that /proc/PID/status gives in kB, such as "RssAnon". NotFound: no such process or
// field.
Result<std::uint64_t> memory_bytes_of(pid_t pid, const std::string& field);

// Page faults of this process so far that needed no disk.
[[nodiscard]] std::uint64_t own_page_faults();

// The inode of the file behind an address of this process; 0: no file is mapped there. `name` of
// the file, such as "/memfd:kaas-object (deleted)".
struct MappedFile {
  std::uint64_t inode = 0;
  std::string name;
};
[[nodiscard]] MappedFile mapped_file_at(const void* address);

// The folder of the running program.
[[nodiscard]] std::string program_folder();

}  // namespace kaas
