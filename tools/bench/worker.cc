#include "tools/bench/worker.h"

#include <charconv>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <vector>

#include "schema/ipc/clock.h"

namespace kaas {
namespace {

constexpr std::uint64_t kRoundsMax = 1'000'000;
constexpr std::uint64_t kTimeMsMax = 60'000;
// Rounds that are not told: a tenth of those asked for, within these.
constexpr std::uint64_t kWarmUpMin = 3;
constexpr std::uint64_t kWarmUpMax = 100;
constexpr std::uint64_t kSeeds = 97;

struct KindName {
  Workload::Kind kind;
  const char* name;
  std::uint64_t amount_max;
};
constexpr KindName kKinds[] = {{Workload::Kind::Chain, "chain", kWorkloadKernelsMax},
                               {Workload::Kind::Payload, "payload", kWorkloadBytesMax},
                               {Workload::Kind::Input, "input", kWorkloadBytesMax},
                               {Workload::Kind::Busy, "busy", kWorkloadNsMax},
                               {Workload::Kind::Null, "null", 1}};

bool parse_number(const std::string& text, std::uint64_t limit, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 1 && number <= limit;
}

bool is_whole_floats(const Workload& workload) {
  const bool of_bytes =
      workload.kind == Workload::Kind::Payload || workload.kind == Workload::Kind::Input;
  return !of_bytes ||
         (workload.amount % sizeof(float) == 0 && workload.amount >= kSmallFloats * sizeof(float));
}

struct Command {
  Workload workload;
  bool by_time = false;
  std::uint64_t amount = 0;  // Rounds, or milliseconds.
};

std::string parse_measure(std::istringstream& words, Command& command) {
  std::string workload;
  std::string unit;
  std::string amount;
  std::string more;
  words >> workload >> unit >> amount;
  if (!parse_workload(workload, command.workload)) {
    return "workload is '" + workload +
           "', allowed: chain:KERNELS:BUFFERS, payload:BYTES, input:BYTES, busy:NS[:BLOCKS], "
           "null:1";
  }
  command.by_time = unit == "time";
  if (unit != "count" && unit != "time") {
    return "unit is '" + unit + "', allowed: count, time";
  }
  const std::uint64_t limit = command.by_time ? kTimeMsMax : kRoundsMax;
  if (!parse_number(amount, limit, command.amount) || words >> more) {
    return unit + " is '" + amount + (more.empty() ? "" : " " + more) +
           "', allowed: a number from 1 to " + std::to_string(limit);
  }
  return {};
}

// The rounds of one command: nanoseconds of each.
std::string measure(Worker& worker, const Command& command, std::vector<std::uint64_t>& times_ns) {
  const std::uint64_t wanted = command.by_time ? kRoundsMax : command.amount;
  std::uint64_t warm_up = command.by_time ? kWarmUpMin : command.amount / 10;
  warm_up = warm_up < kWarmUpMin ? kWarmUpMin : warm_up;
  warm_up = warm_up > kWarmUpMax ? kWarmUpMax : warm_up;
  for (std::uint64_t i = 0; i < warm_up; ++i) {
    if (std::string error = worker.run(); !error.empty()) return error;
  }
  times_ns.reserve(command.by_time ? 0 : wanted);
  const std::uint64_t end_ns = now_ns() + command.amount * 1'000'000;
  while (times_ns.size() < wanted) {
    const std::uint64_t begin_ns = now_ns();
    std::string error = worker.run();
    const std::uint64_t now = now_ns();
    if (!error.empty()) return error;
    times_ns.push_back(now - begin_ns);
    if (command.by_time && now >= end_ns) break;
  }
  return worker.check();
}

std::string answer_measure(Worker& worker, std::istringstream& words, float seed) {
  Command command;
  std::vector<std::uint64_t> times_ns;
  std::string error = parse_measure(words, command);
  if (error.empty()) error = worker.open(command.workload, seed);
  if (error.empty()) error = measure(worker, command, times_ns);
  if (!error.empty()) return "error " + error;
  std::string line = "ok";
  for (const std::uint64_t time_ns : times_ns) line += " " + std::to_string(time_ns);
  return line;
}

std::string answer_memory(Worker& worker) {
  std::uint64_t used_bytes = 0;
  const std::string error = worker.memory(used_bytes);
  return error.empty() ? "ok " + std::to_string(used_bytes) : "error " + error;
}

// One line, whatever is in the text.
void say(std::string line) {
  for (char& character : line) {
    if (character == '\n') character = ' ';
  }
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

}  // namespace

std::string to_word(const Workload& workload) {
  for (const KindName& known : kKinds) {
    if (known.kind != workload.kind) continue;
    std::string word = std::string(known.name) + ":" + std::to_string(workload.amount);
    if (workload.kind == Workload::Kind::Chain) word += ":" + std::to_string(workload.buffers);
    if (workload.blocks > 1) word += ":" + std::to_string(workload.blocks);
    return word;
  }
  return {};
}

bool parse_workload(const std::string& word, Workload& workload) {
  const std::size_t colon = word.find(':');
  if (colon == std::string::npos) return false;
  for (const KindName& known : kKinds) {
    if (word.compare(0, colon, known.name) != 0) continue;
    std::string amount = word.substr(colon + 1);
    workload = {};
    workload.kind = known.kind;
    const std::size_t second = amount.find(':');
    if (known.kind == Workload::Kind::Chain) {
      if (second == std::string::npos ||
          !parse_number(amount.substr(second + 1), kWorkloadBuffersMax, workload.buffers)) {
        return false;
      }
      amount.resize(second);
    } else if (known.kind == Workload::Kind::Busy && second != std::string::npos) {
      if (!parse_number(amount.substr(second + 1), kWorkloadBlocksMax, workload.blocks)) {
        return false;
      }
      amount.resize(second);
    }
    return parse_number(amount, known.amount_max, workload.amount) && is_whole_floats(workload);
  }
  return false;
}

int serve_worker(Worker& worker, const std::string& description) {
  say("ready " + description);
  std::uint64_t measured = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name == "measure") {
      const auto seed = static_cast<float>(++measured % kSeeds);
      say(answer_measure(worker, words, seed));
    } else if (name == "memory") {
      say(answer_memory(worker));
    } else {
      say("error command is '" + name + "', allowed: measure, memory");
    }
  }
  return 0;
}

int refuse_worker(const std::string& why) {
  say("error " + why);
  return 1;
}

}  // namespace kaas
