// Waking a process that sleeps, header-only, usable alone. Two kinds:
//
//   Doorbell     a connected pair of stream sockets, one end a party. The sleeper waits for its end
//                in poll or epoll; hang-up of the peer shows on it too. The bell of a lane is one.
//   futex words  the client sleeps on a word of kaasd's segment, which it maps read-only.
//
// Why not eventfd: its flags and counter belong to all who hold it, so a peer that clears
// O_NONBLOCK and fills the counter blocks the one that writes. A socket call carries
// MSG_DONTWAIT itself.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>

#include "schema/ipc/handle.h"

namespace kaas {

// One end of a doorbell. Threads: ring() from any thread, clear() from the one that sleeps.
class Doorbell {
 public:
  Doorbell() noexcept = default;
  explicit Doorbell(Descriptor socket) noexcept : socket_(std::move(socket)) {}

  // Both ends; nullopt with errno set when the process has no descriptors left.
  [[nodiscard]] static std::optional<std::pair<Doorbell, Doorbell>> create_pair() noexcept {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return std::nullopt;
    return std::pair{Doorbell(Descriptor(ends[0])), Doorbell(Descriptor(ends[1]))};
  }

  // Wakes the peer. Never blocks: when the pipe is full, a wake is already under way.
  void ring() const noexcept {
    const char byte = 1;
    while (::send(socket_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
  }
  // Takes all pending rings. Returns false when the peer has hung up. A peer that rings on and on
  // does not keep it here: what is left wakes the sleeper once more, for nothing.
  bool clear() const noexcept {
    char bytes[4096];
    for (int round = 0; round < kRoundsMax; ++round) {
      const ssize_t count = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (count == 0) return false;
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
      if (count < static_cast<ssize_t>(sizeof bytes)) return true;
    }
    return true;
  }
  [[nodiscard]] int descriptor() const noexcept { return socket_.get(); }
  [[nodiscard]] Descriptor release() noexcept { return std::move(socket_); }

 private:
  // More bytes than a peer that has hung up can leave in a socket, so that its end is seen.
  static constexpr int kRoundsMax = 256;

  Descriptor socket_;
};

// Sleeps while `word` is `expected`, at most `timeout_ns`. Returns early at any time: look again.
// Works between processes and on a read-only mapping (std::atomic::wait does not: libstdc++ 12
// calls the futex with the private flag).
inline void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::uint64_t timeout_ns) noexcept {
  timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000),
                   static_cast<long>(timeout_ns % 1'000'000'000)};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
}
inline void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 0x7fffffff, nullptr, nullptr, 0);
}

}  // namespace kaas
