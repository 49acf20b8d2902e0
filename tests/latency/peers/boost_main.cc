// kaas-latency-boost: a server over two Boost.Interprocess message queues, one for requests and one
// for replies, with one client. See served_work.h.
#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>

#include "schema/ipc/spin_budget.h"
#include "tests/latency/peers/served_work.h"

namespace kaas {
namespace {

using boost::interprocess::message_queue;

constexpr std::size_t kMessages = 4;
constexpr std::size_t kPayloadBytesMax = 64 * 1024;
constexpr std::size_t kMessageBytesMax = kPayloadBytesMax + sizeof(WorkHeader);

// Queues have names of their own, without slashes.
std::string queue_name(const std::string& address, const char* way) {
  std::string name = "kaas-latency";
  for (const char character : address) name += character == '/' ? '-' : character;
  return name + way;
}

// Removes the queue's name with it.
class OwnedQueue {
 public:
  explicit OwnedQueue(std::string name)
      : name_((message_queue::remove(name.c_str()), std::move(name))),
        queue(boost::interprocess::create_only, name_.c_str(), kMessages, kMessageBytesMax) {}
  ~OwnedQueue() { message_queue::remove(name_.c_str()); }
  OwnedQueue(const OwnedQueue&) = delete;
  OwnedQueue& operator=(const OwnedQueue&) = delete;

 private:
  std::string name_;

 public:
  message_queue queue;
};

// Waits until there is a message, or a while. False: there is none.
bool receive(message_queue& queue, std::string& message, bool spin) {
  message.resize(kMessageBytesMax);
  message_queue::size_type received = 0;
  unsigned priority = 0;
  bool there = queue.try_receive(message.data(), message.size(), received, priority);
  if (!there && !spin) {
    const auto until = boost::posix_time::microsec_clock::universal_time() +
                       boost::posix_time::milliseconds(kStopLookMs);
    there = queue.timed_receive(message.data(), message.size(), received, priority, until);
  }
  message.resize(there ? received : 0);
  return there;
}

std::string serve(const std::string& address, bool spin, WorkServer& server,
                  const std::function<void()>& ready, const std::function<bool()>& stopping) {
  try {
    OwnedQueue requests(queue_name(address, "-requests"));
    OwnedQueue replies(queue_name(address, "-replies"));
    ready();
    std::string request;
    std::string reply;
    SpinPause pause;
    while (!stopping()) {
      if (receive(requests.queue, request, spin)) {
        server.handle(request, reply);
        replies.queue.send(reply.data(), reply.size(), 0);
      } else {
        pause();
      }
    }
    return {};
  } catch (const boost::interprocess::interprocess_exception& failure) {
    return std::string("message queue: ") + failure.what();
  }
}

Exchange connect(const std::string& address, bool spin, std::string& error) {
  try {
    const auto open = [&](const char* way) {
      return std::make_shared<message_queue>(boost::interprocess::open_only,
                                             queue_name(address, way).c_str());
    };
    return [requests = open("-requests"), replies = open("-replies"), spin](
               std::string_view request, std::string& reply) -> std::string {
      SpinPause pause;
      requests->send(request.data(), request.size(), 0);
      while (!receive(*replies, reply, spin)) pause();
      return {};
    };
  } catch (const boost::interprocess::interprocess_exception& failure) {
    error = std::string("message queue: ") + failure.what();
    return {};
  }
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::run_served_program(
      argc, argv, {"Boost message_queue", kaas::kPayloadBytesMax, kaas::serve, kaas::connect});
}
