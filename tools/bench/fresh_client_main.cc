// kaas-bench-client: client processes that kaas-bench starts.
//   kaas-bench-client SOCKET                   a new client: connects, calls one function, checks
//                                              its result and prints two numbers: nanoseconds from
//                                              main() to the result, and the time of the result on
//                                              CLOCK_MONOTONIC
//   kaas-bench-client --worker SOCKET SPIN_US  a worker, see worker.h
//   kaas-bench-client --peer SOCKET SPIN_US|default [any|lane|kaasd [PRIORITY [device|client]]]
//                                              a peer, see peer.h and client_worker.h; where chains
//                                              have their data
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "schema/ipc/clock.h"
#include "tools/bench/client_worker.h"
#include "tools/bench/fresh_client.h"
#include "tools/bench/peer.h"
#include "tools/bench/worker.h"

namespace {

constexpr int kExitWrongUsage = 2;

int fail(const std::string& why) {
  std::printf("%s\n", why.c_str());
  return 1;
}

// A whole text as a number.
template <class Number>
bool parse(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

constexpr int kPriorityMax = 100;

bool parse_way(const std::string& word, kaas::ClientWorkerOptions::Way& way) {
  using Way = kaas::ClientWorkerOptions::Way;
  constexpr std::pair<const char*, Way> kWays[] = {
      {"any", Way::Any}, {"lane", Way::Lane}, {"kaasd", Way::Kaasd}};
  for (const auto& [name, known] : kWays) {
    if (word != name) continue;
    way = known;
    return true;
  }
  return false;
}

// SPIN_US; `default`: as long as a client polls that asks for nothing else.
bool parse_spin(const std::string& word, std::optional<unsigned>& spin_us) {
  if (word == "default") return true;
  return parse(word, spin_us.emplace());
}

bool parse_chains(const std::string& word, kaas::ClientWorkerOptions::Chains& chains) {
  using Chains = kaas::ClientWorkerOptions::Chains;
  chains = word == "client" ? Chains::Client : Chains::Device;
  return word == "client" || word == "device";
}

// `words`: SOCKET SPIN_US [WAY [PRIORITY [CHAINS]]].
int run_worker(const std::vector<std::string>& words, bool is_peer) {
  kaas::ClientWorkerOptions options;
  options.socket = words[0];
  options.is_peer = is_peer;
  // Peers that have the device themselves work on its memory only.
  if (is_peer) options.chains = kaas::ClientWorkerOptions::Chains::Device;
  std::string wrong;
  if (!parse_spin(words[1], options.spin_us)) {
    wrong = "SPIN_US is '" + words[1] + "', allowed: an integer from 0 on, default";
  } else if (words.size() > 2 && !parse_way(words[2], options.way)) {
    wrong = "WAY is '" + words[2] + "', allowed: any, lane, kaasd";
  } else if (words.size() > 3 &&
             (!parse(words[3], options.priority) || std::abs(options.priority) > kPriorityMax)) {
    wrong = "PRIORITY is '" + words[3] + "', allowed: an integer from -100 to 100";
  } else if (words.size() > 4 && !parse_chains(words[4], options.chains)) {
    wrong = "CHAINS is '" + words[4] + "', allowed: device, client";
  }
  if (wrong.empty()) return kaas::run_client_worker(options);
  return is_peer ? kaas::refuse_peer(wrong) : kaas::refuse_worker(wrong);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t begin_ns = kaas::now_ns();
  const bool is_peer = argc > 1 && std::strcmp(argv[1], "--peer") == 0;
  if (argc == 4 && std::strcmp(argv[1], "--worker") == 0) {
    return run_worker({argv[2], argv[3]}, false);
  }
  if (is_peer && argc >= 4 && argc <= 7) return run_worker({argv + 2, argv + argc}, true);
  const bool wants_help = argc == 2 && std::strcmp(argv[1], "--help") == 0;
  if (argc != 2 || argv[1][0] == '-') {
    fail(
        "usage: kaas-bench-client [--worker | --peer] SOCKET "
        "[SPIN_US [WAY [PRIORITY [CHAINS]]]]");
    return wants_help ? 0 : kExitWrongUsage;
  }
  kaas::ClientOptions options;
  options.socket = argv[1];
  auto client = kaas::Client::connect(options);
  if (!client) return fail(to_string(client.error()));

  std::vector<float> input(kaas::kFreshClientCount);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i);
  kaas::Bindings bindings;
  bindings.inline_bytes("x", std::as_bytes(std::span(input)));
  const auto reply = client->call(kaas::kFreshClientFunction, {}, bindings);
  const std::uint64_t end_ns = kaas::now_ns();
  if (!reply) return fail(to_string(reply.error()));

  const auto bytes = reply->data("y");
  std::vector<float> output(kaas::kFreshClientCount);
  if (bytes.size() != output.size() * sizeof(float)) {
    return fail("y has " + std::to_string(bytes.size()) + " bytes");
  }
  std::memcpy(output.data(), bytes.data(), bytes.size());
  for (std::size_t i = 0; i < output.size(); ++i) {
    if (output[i] != 2 * input[i]) return fail("y[" + std::to_string(i) + "] is wrong");
  }
  kaas::print_first_result(begin_ns, end_ns);
  return 0;
}
