#include "client/src/thread_rings.h"

#include "client/src/session.h"

namespace kaas {
inline namespace v1 {

ThreadRings::~ThreadRings() {
  for (const Entry& entry : entries_) {
    if (const std::shared_ptr<Session> session = entry.session.lock()) {
      session->give_back(*entry.channel);
    }
  }
}

void ThreadRings::add(std::uint64_t session_serial, std::weak_ptr<Session> session,
                      std::shared_ptr<Channel> channel) {
  tidy();
  entries_.push_back({session_serial, std::move(channel), std::move(session)});
}

void ThreadRings::tidy() {
  std::erase_if(entries_, [](const Entry& entry) {
    return entry.session.expired() || entry.channel->link()->dead();
  });
}

}  // namespace v1
}  // namespace kaas
