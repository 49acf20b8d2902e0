// The exporter, as a test sees it. Ends with this, or when it is killed.
// Threads: one.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "schema/ipc/handle.h"
#include "tests/gpu/ipc/exporter_protocol.h"

namespace kaas {

struct ExportedMemory {
  ExporterReply reply;
  Descriptor descriptor;
};

class ExporterProcess {
 public:
  ExporterProcess();
  ~ExporterProcess() { kill(); }
  ExporterProcess(const ExporterProcess&) = delete;
  ExporterProcess& operator=(const ExporterProcess&) = delete;

  // Exported from `offset` on. A failed export fails the test.
  ExportedMemory allocate(Memory memory, std::uint64_t bytes, std::uint32_t value,
                          std::uint64_t offset = 0, int device = 0);
  bool check(std::uint64_t allocation, std::uint64_t offset, std::uint64_t bytes,
             std::uint32_t value);
  void fill(std::uint64_t allocation, std::uint64_t offset, std::uint64_t bytes,
            std::uint32_t value);
  void free(std::uint64_t allocation);
  // Starts a kernel that never ends.
  void spin(std::uint64_t allocation);
  // SIGKILL, and waits for its end.
  void kill();

 private:
  ExportedMemory call(const ExporterCommand& command);
  pid_t pid_ = 0;
  Descriptor socket_;
};

}  // namespace kaas
