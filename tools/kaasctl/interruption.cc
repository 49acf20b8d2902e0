#include "tools/kaasctl/interruption.h"

#include <signal.h>

#include <atomic>
#include <cstdint>

#include "schema/ipc/socket.h"

namespace kaas {
namespace {

constexpr std::uint64_t kLookForSignalNs = 100'000'000;

std::atomic<bool> has_come{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // Set by a signal handler.

void remember(int signal, int flags) {
  struct sigaction action {};
  if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) return;
  action = {};
  action.sa_handler = [](int) { has_come.store(true); };
  action.sa_flags = flags;  // Without SA_RESTART: reads and writes that block end as well.
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void catch_interruption() {
  remember(SIGINT, SA_RESETHAND);
  // Who ends a whole process group, or closes a terminal, may well send them twice.
  remember(SIGTERM, 0);
  remember(SIGHUP, 0);
}

bool interrupted() noexcept {
  return has_come.load();
}

bool wait_for_input(int descriptor) noexcept {
  while (!interrupted()) {
    if (wait_readable(descriptor, kLookForSignalNs)) return true;
  }
  return false;
}

}  // namespace kaas
