#include "tools/bench/peer.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <deque>
#include <iostream>
#include <set>
#include <sstream>

#include "schema/ipc/clock.h"
#include "tools/bench/histogram.h"

namespace kaas {
namespace {

constexpr const char* kKeys =
    "kernels, payload, busy_ns, blocks, requests, seconds, warmup, depth, every_us, rate";
constexpr std::uint64_t kSeeds = 97;
// A sleep ends late by about this much; the rest is spent looking at the clock.
constexpr std::uint64_t kSleepSlackNs = 80'000;

// What the keys say before they are put together.
struct Fields {
  std::uint64_t kernels = 1;
  std::uint64_t payload = 0;
  std::uint64_t busy_ns = 0;
  std::uint64_t blocks = 1;
};

std::string wrong(const std::string& key, const std::string& found, const std::string& allowed) {
  return key + " is '" + found + "', allowed: " + allowed;
}

template <class Number>
std::string plain(Number number) {
  std::ostringstream text;
  text.precision(15);
  text << number;
  return text.str();
}

// A whole text as a number from `low` to `high`.
template <class Number>
std::string read(const std::string& key, const std::string& found, Number low, Number high,
                 Number& number) {
  std::istringstream text(found);
  Number value{};
  if (found.empty() || found[0] == '-' || found[0] == '+' || !(text >> value) ||
      text.peek() != std::istringstream::traits_type::eof() || !(value >= low) ||
      !(value <= high)) {
    return wrong(key, found, "a number from " + plain(low) + " to " + plain(high));
  }
  number = value;
  return {};
}

std::string read_field(const std::string& key, const std::string& value, Fields& fields,
                       PeerCommand& command) {
  const std::uint64_t zero = 0;
  const std::uint64_t one = 1;
  if (key == "kernels") return read(key, value, zero, kWorkloadKernelsMax, fields.kernels);
  if (key == "payload") return read(key, value, zero, kWorkloadBytesMax, fields.payload);
  if (key == "busy_ns") return read(key, value, zero, kWorkloadNsMax, fields.busy_ns);
  if (key == "blocks") return read(key, value, one, kWorkloadBlocksMax, fields.blocks);
  if (key == "requests") return read(key, value, one, kPeerRequestsMax, command.requests);
  if (key == "seconds") return read(key, value, 1e-6, kPeerSecondsMax, command.seconds);
  if (key == "warmup") return read(key, value, zero, kPeerRequestsMax, command.warm_up);
  if (key == "depth") return read(key, value, one, kPeerDepthMax, command.depth);
  if (key == "every_us") return read(key, value, one, kPeerEveryUsMax, command.every_us);
  if (key == "rate") return read(key, value, 1e-3, kPeerRateMax, command.rate);
  return wrong("key", key, kKeys);
}

std::string workload_of(const Fields& fields, Workload& workload) {
  workload = {};
  if (fields.busy_ns != 0) {
    if (fields.kernels != 1 || fields.payload != 0) {
      return "busy_ns is " + plain(fields.busy_ns) + ", allowed: with one kernel, without payload";
    }
    workload.kind = Workload::Kind::Busy;
    workload.amount = fields.busy_ns;
    workload.blocks = fields.blocks;
    return {};
  }
  if (fields.blocks != 1) return "blocks is " + plain(fields.blocks) + ", allowed: with busy_ns";
  if (fields.payload != 0) {
    if (fields.kernels != 1) {
      return "kernels is " + plain(fields.kernels) + ", allowed: 1 with a payload";
    }
    if (fields.payload % sizeof(float) != 0 || fields.payload < kSmallFloats * sizeof(float)) {
      return "payload is " + plain(fields.payload) + ", allowed: 0, or a multiple of 4 from 256 on";
    }
    workload.kind = Workload::Kind::Payload;
    workload.amount = fields.payload;
    return {};
  }
  if (fields.kernels == 0) {
    workload.kind = Workload::Kind::Null;
    return {};
  }
  workload.amount = fields.kernels;
  return {};
}

void sleep_until(std::uint64_t at_ns) {
  const timespec time{static_cast<time_t>(at_ns / 1'000'000'000),
                      static_cast<long>(at_ns % 1'000'000'000)};
  ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
}

// One command: what was asked for, and what has been measured so far.
class Measurement {
 public:
  Measurement(Worker& worker, const PeerCommand& command) : worker_(worker), command_(command) {}

  std::string run() {
    for (std::uint64_t i = 0; i < command_.warm_up; ++i) {
      if (std::string error = worker_.run(); !error.empty()) return error;
    }
    begin_ns_ = now_ns();
    end_ns_ = command_.seconds == 0
                  ? UINT64_MAX
                  : begin_ns_ + static_cast<std::uint64_t>(command_.seconds * 1e9);
    std::string error = loop();
    took_ns_ = now_ns() - begin_ns_;
    return error.empty() ? worker_.check() : error;
  }

  [[nodiscard]] std::string answer() const {
    std::ostringstream text;
    text.precision(9);
    text << "{\"count\": " << latency_.count()
         << ", \"seconds\": " << static_cast<double>(took_ns_) / 1e9
         << ", \"max_ns\": " << latency_.max_ns() << ", \"late_max_ns\": " << late_max_ns_
         << ", \"histogram_ns\": [";
    const char* separator = "";
    for (const auto& [latency_ns, count] : latency_.counts()) {
      text << separator << '[' << latency_ns << ", " << count << ']';
      separator = ", ";
    }
    text << "]}";
    return text.str();
  }

 private:
  std::string loop() {
    if (command_.rate != 0) return open_loop();
    if (command_.depth > 1) return deep_loop();
    return command_.every_us != 0 ? paced_loop() : closed_loop();
  }

  [[nodiscard]] bool enough(std::uint64_t sent, std::uint64_t now) const {
    return (command_.requests != 0 && sent >= command_.requests) || now >= end_ns_;
  }

  std::string closed_loop() {
    std::uint64_t now = begin_ns_;
    for (std::uint64_t sent = 0; sent == 0 || !enough(sent, now); ++sent) {
      const std::uint64_t start_ns = now_ns();
      std::string error = worker_.run();
      now = now_ns();
      if (!error.empty()) return error;
      latency_.add(now - start_ns);
    }
    return {};
  }

  // Everyone falls asleep between; the time is from the end of this sleep.
  std::string paced_loop() {
    std::uint64_t next_ns = begin_ns_;
    for (std::uint64_t sent = 0; sent == 0 || !enough(sent, now_ns()); ++sent) {
      next_ns = std::max(next_ns, now_ns()) + command_.every_us * 1000;
      sleep_until(next_ns);
      const std::uint64_t start_ns = now_ns();
      if (std::string error = worker_.run(); !error.empty()) return error;
      latency_.add(now_ns() - start_ns);
    }
    return {};
  }

  std::string deep_loop() {
    std::deque<std::uint64_t> starts;
    std::uint64_t sent = 0;
    std::uint64_t now = begin_ns_;
    for (;;) {
      while (starts.size() < command_.depth && (sent == 0 || !enough(sent, now))) {
        starts.push_back(now_ns());
        if (std::string error = worker_.submit(); !error.empty()) return error;
        ++sent;
      }
      if (starts.empty()) return {};
      if (std::string error = worker_.take_oldest(); !error.empty()) return error;
      now = now_ns();
      latency_.add(now - starts.front());
      starts.pop_front();
    }
  }

  // One request under way; a start that comes due meanwhile waits, and its waiting counts.
  std::string open_loop() {
    const double distance_ns = 1e9 / command_.rate;
    for (std::uint64_t sent = 0;; ++sent) {
      const auto due_ns =
          begin_ns_ + static_cast<std::uint64_t>(static_cast<double>(sent) * distance_ns);
      if (sent != 0 && enough(sent, std::max(due_ns, now_ns()))) return {};
      std::uint64_t now = now_ns();
      if (due_ns > now + 2 * kSleepSlackNs) sleep_until(due_ns - kSleepSlackNs);
      while ((now = now_ns()) < due_ns) ::sched_yield();
      late_max_ns_ = std::max(late_max_ns_, now - due_ns);
      if (std::string error = worker_.run(); !error.empty()) return error;
      latency_.add(now_ns() - due_ns);
    }
  }

  Worker& worker_;
  const PeerCommand& command_;
  LatencyHistogram latency_;
  std::uint64_t begin_ns_ = 0;
  std::uint64_t end_ns_ = 0;
  std::uint64_t took_ns_ = 0;
  std::uint64_t late_max_ns_ = 0;
};

// A JSON object of one text, on one line.
std::string object_of(const char* name, const std::string& text) {
  std::string object = std::string("{\"") + name + "\": \"";
  for (const char character : text) {
    if (character == '"' || character == '\\') object += '\\';
    object += static_cast<unsigned char>(character) < 0x20 ? ' ' : character;
  }
  return object + "\"}";
}

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string answer_line(Worker& worker, const std::string& line, float seed) {
  std::istringstream words(line);
  std::string name;
  words >> name;
  if (name != "measure") return object_of("error", wrong("command", name, "measure"));
  std::string rest;
  std::getline(words, rest);
  PeerCommand command;
  std::string error = parse_peer_command(rest, command);
  if (!error.empty()) return object_of("error", error);
  error = worker.open(command.workload, seed);
  if (!error.empty()) return object_of("cannot", error);
  Measurement measurement(worker, command);
  error = measurement.run();
  return error.empty() ? measurement.answer() : object_of("error", error);
}

}  // namespace

std::string parse_peer_command(const std::string& text, PeerCommand& command) {
  command = {};
  Fields fields;
  std::set<std::string> seen;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) return wrong("word", word, "KEY=NUMBER");
    const std::string key = word.substr(0, equals);
    if (!seen.insert(key).second) return "key '" + key + "' is there twice, allowed: once";
    std::string error = read_field(key, word.substr(equals + 1), fields, command);
    if (!error.empty()) return error;
  }
  if (command.requests == 0 && command.seconds == 0) {
    return "neither requests nor seconds is there, allowed: one of them or both";
  }
  const int ways =
      (command.depth > 1 ? 1 : 0) + (command.every_us != 0 ? 1 : 0) + (command.rate != 0 ? 1 : 0);
  if (ways > 1) return "more than one of depth, every_us and rate is there, allowed: one of them";
  return workload_of(fields, command.workload);
}

int serve_peer(Worker& worker, const std::string& description) {
  ::prctl(PR_SET_TIMERSLACK, 1);
  say(object_of("ready", description));
  std::uint64_t measured = 0;
  for (std::string line; std::getline(std::cin, line);) {
    say(answer_line(worker, line, static_cast<float>(++measured % kSeeds)));
  }
  return 0;
}

int refuse_peer(const std::string& why) {
  say(object_of("error", why));
  return 1;
}

void print_first_result(std::uint64_t begin_ns, std::uint64_t end_ns) {
  std::printf("%" PRIu64 " %" PRIu64 "\n", end_ns - begin_ns, end_ns);
}

}  // namespace kaas
