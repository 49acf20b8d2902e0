// Peers: programs that do one kind of work when they are told to, so that tests/latency/run can
// measure several of them in turns. tests/latency/README.md says what is spoken; this is the
// measuring side of it, the same for every peer that is written in C++, ours and others'.
//
// Threads: one. C++17, because CUDA sources include it.
#pragma once

#include <cstdint>
#include <string>

#include "tools/bench/worker.h"

namespace kaas {

// One `measure` line.
struct PeerCommand {
  Workload workload;
  std::uint64_t requests = 0;  // 0: no limit. One of the two is set; the first reached ends it.
  double seconds = 0;
  std::uint64_t warm_up = 0;   // Requests that are not counted.
  std::uint64_t depth = 1;     // Closed loop: requests under way.
  std::uint64_t every_us = 0;  // Closed loop: a request each so many microseconds, asleep between.
  double rate = 0;             // Open loop: requests a second; latency from the intended start.
};

constexpr std::uint64_t kPeerRequestsMax = 1'000'000'000;
constexpr std::uint64_t kPeerDepthMax = 200;
constexpr double kPeerSecondsMax = 3600;
constexpr double kPeerRateMax = 1e8;
constexpr std::uint64_t kPeerEveryUsMax = 10'000'000;

// Reads what follows the word `measure`. Returns an empty text, or what is wrong: the key, what was
// found, what is allowed.
std::string parse_peer_command(const std::string& text, PeerCommand& command);

// Says that it is ready, and serves standard input to its end. Returns main's status.
int serve_peer(Worker& worker, const std::string& description);
// Says why it can't work. Returns main's status.
int refuse_peer(const std::string& why);

// What a peer that can't be measured by requests does for "first result" instead of serving: prints
// the nanoseconds from main() to the checked result, and when that was on CLOCK_MONOTONIC.
void print_first_result(std::uint64_t begin_ns, std::uint64_t end_ns);

}  // namespace kaas
