// The daemon's listening socket and the lock that says who holds it.
// Threads: the control thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

struct ListenerOptions {
  std::string path;
  mode_t mode = 0600;
  std::string group;  // Empty: the process's own.
};

// Listens at `path` while it lives; removes the socket when it dies. The path appears when it can
// be connected to, so waiting for it to exist is enough. What a killed daemon left behind is taken
// over: the lock beside the socket (`path`.lock) dies with its holder. A socket at which another
// program listens is left alone.
class Listener {
 public:
  // Makes missing folders (mode 0700, or 0755 for /run/kaas). Fails with AlreadyExists, naming the
  // process that holds the socket, if it is a kaasd; PermissionDenied; InvalidArgument. Nothing is
  // left behind then.
  static Result<Listener> create(const ListenerOptions& options);
  Listener(Listener&&) noexcept = default;
  Listener& operator=(Listener&&) noexcept = default;
  ~Listener();

  // The next connection, non-blocking; null handle: none.
  [[nodiscard]] Descriptor accept() const noexcept;
  [[nodiscard]] int descriptor() const noexcept { return socket_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  Listener() = default;
  std::string path_;
  Descriptor lock_;
  Descriptor socket_;
};

}  // namespace kaas
