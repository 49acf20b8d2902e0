// A kaasd of this program's own, on a private socket in a folder of its own.
//
// Owns:    the process and the folder. Its end: SIGTERM, and SIGKILL if that does not end it in
//          time; the folder is removed. It also ends when this process dies.
// Threads: one.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

class DaemonProcess {
 public:
  // Starts `program` with these arguments besides the socket, and waits until it answers.
  // Unavailable: it ended, or did not answer in time; with the end of its log.
  static Result<DaemonProcess> start(const std::string& program,
                                     std::vector<std::string> arguments = {});
  DaemonProcess(DaemonProcess&& other) noexcept;
  DaemonProcess& operator=(DaemonProcess&& other) noexcept;
  ~DaemonProcess();

  [[nodiscard]] pid_t pid() const noexcept;
  [[nodiscard]] const std::string& socket() const noexcept;
  // Ends it now. Internal: it did not end by itself, or not with status 0.
  Result<void> stop();

 private:
  struct Impl;
  explicit DaemonProcess(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kaas
