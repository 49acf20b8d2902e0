#include "client/src/thread_rings.h"

#include "client/src/session.h"

namespace kaas {
inline namespace v1 {

ThreadRings::~ThreadRings() {
  for (const Entry& entry : entries_) {
    if (const std::shared_ptr<Session> session = entry.session.lock()) {
      session->give_back(entry.channel);
    }
  }
}

void ThreadRings::add(std::uint64_t session_serial, std::weak_ptr<Session> session,
                      Channel* channel) {
  std::erase_if(entries_, [](const Entry& entry) { return entry.session.expired(); });
  entries_.push_back({session_serial, channel, std::move(session)});
}

}  // namespace v1
}  // namespace kaas
