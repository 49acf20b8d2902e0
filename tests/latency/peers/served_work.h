// A small server that owns the device, and its clients: what a user would write by hand instead of
// using KaaS. The work is that of tools/bench (worker.h); a transport carries the bytes.
//
//   client                               server
//   RemoteWorker ── WorkHeader, payload ──► WorkServer ── LocalWorker: kernels, or one graph
//                ◄── ReplyHeader, payload ──
//
// Both are of one build and one user, and trust each other; lengths are checked all the same.
// Threads: WorkServer any, one request at a time. The others: one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench/worker.h"

namespace kaas {

// In front of a request's payload.
struct WorkHeader {
  std::uint32_t kind = 0;   // Workload::Kind.
  std::uint32_t check = 0;  // Not 0: run nothing, say whether the last results are right.
  std::uint64_t amount = 0;
  std::uint64_t blocks = 1;
  std::uint64_t payload_bytes = 0;
};
// In front of a reply's: the output, or the text of what went wrong.
struct ReplyHeader {
  std::uint32_t failed = 0;
  std::uint32_t reserved = 0;
  std::uint64_t payload_bytes = 0;
};

// The longest payload that transports must carry; beyond it a client says that it can't.
constexpr std::uint64_t kServedBytesMax = 1 << 20;
constexpr std::uint64_t kServedMessageBytesMax = kServedBytesMax + sizeof(WorkHeader);

class WorkServer {
 public:
  explicit WorkServer(std::unique_ptr<LocalWorker> worker) : worker_(std::move(worker)) {}

  // Works and fills `reply` with a whole reply message.
  void handle(std::string_view request, std::string& reply);

 private:
  std::string work(std::string_view request, HostBytes& output);
  std::mutex mutex_;
  std::unique_ptr<LocalWorker> worker_;
  std::string opened_;  // The workload that the worker is ready for.
};

// One request and its reply, over some transport. Returns an empty text, or what went wrong.
using Exchange = std::function<std::string(std::string_view request, std::string& reply)>;

class RemoteWorker final : public Worker {
 public:
  // `payload_bytes_max`: what the transport carries.
  RemoteWorker(Exchange exchange, std::uint64_t payload_bytes_max)
      : exchange_(std::move(exchange)), payload_bytes_max_(payload_bytes_max) {}

  std::string open(const Workload& workload, float seed) override;
  std::string run() override;
  std::string check() override;
  std::string memory(std::uint64_t& used_bytes) override;

 private:
  std::string exchange(std::string_view request);
  Exchange exchange_;
  std::uint64_t payload_bytes_max_;
  Workload workload_;
  std::string request_;
  std::string reply_;
};

// How a program serves and connects.
struct Transport {
  const char* name;
  std::uint64_t payload_bytes_max;
  // Serves until `stopping` returns true; says `ready` when clients may come. `spin`: look for
  // requests all the time. Returns an empty text, or what went wrong.
  std::function<std::string(const std::string& address, bool spin, WorkServer& server,
                            const std::function<void()>& ready,
                            const std::function<bool()>& stopping)>
      serve;
  // Connects; null, with `error` set: it can't.
  std::function<Exchange(const std::string& address, bool spin, std::string& error)> connect;
};

// A server that falls asleep looks this often whether it is to stop.
constexpr int kStopLookMs = 100;

// The whole program:
//   PROGRAM serve ADDRESS host|cuda spin|sleep   until its input ends
//   PROGRAM client ADDRESS spin|sleep            a peer (tools/bench/peer.h)
// Returns main's status.
int run_served_program(int argc, char** argv, const Transport& transport);

}  // namespace kaas
