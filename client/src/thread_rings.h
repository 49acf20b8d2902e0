// Which channel the calling thread uses in which session.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "client/src/thread_own.h"

namespace kaas {
inline namespace v1 {

class Channel;
class Session;

// One per thread. Gives the thread's channels back when it ends. Until then, or until the thread
// learns that the session has ended, it keeps them: a thread that is inside a channel of its own
// needs no count for that.
class ThreadRings {
 public:
  // Null: the thread's end has destroyed it.
  static ThreadRings* mine() { return thread_own<ThreadRings>(); }
  ~ThreadRings();

  // The channel for the session with this serial, or nullptr. The session is alive: it asks.
  [[nodiscard]] Channel* find(std::uint64_t session_serial) noexcept {
    for (const Entry& entry : entries_) {
      if (entry.serial == session_serial) return entry.channel.get();
    }
    return nullptr;
  }
  void add(std::uint64_t session_serial, std::weak_ptr<Session> session,
           std::shared_ptr<Channel> channel);
  // Lets go of the channels of sessions that have ended.
  void tidy();

 private:
  struct Entry {
    std::uint64_t serial = 0;
    std::shared_ptr<Channel> channel;
    std::weak_ptr<Session> session;
  };
  std::vector<Entry> entries_;
};

}  // namespace v1
}  // namespace kaas
