#include "tools/kaasctl/session_guard.h"

#include <signal.h>

#include <chrono>

#include "tools/kaasctl/interruption.h"

namespace kaas {
namespace {

constexpr auto kLookForSignalEvery = std::chrono::milliseconds(100);

}  // namespace

SessionGuard::SessionGuard(const CommandLine& line, const Client& client)
    : line_(line), session_(client.session()) {
  line_.socket = client.socket();
  // Signals interrupt reads and writes of the thread that makes them, never this one.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

SessionGuard::~SessionGuard() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  over_changed_.notify_one();
  thread_.join();
}

void SessionGuard::watch() {
  {
    std::unique_lock lock(mutex_);
    while (!interrupted()) {
      if (over_changed_.wait_for(lock, kLookForSignalEvery, [this] { return over_; })) return;
    }
  }
  auto other = connect(line_, SessionKind::Administration);
  if (!other.has_value()) return;  // It has gone, and the session with it.
  const auto kicked = other->kick(session_);
  static_cast<void>(kicked.has_value());  // Or the session has ended by itself.
}

}  // namespace kaas
