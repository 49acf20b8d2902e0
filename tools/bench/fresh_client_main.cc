// kaas-bench-client: client processes that kaas-bench starts.
//   kaas-bench-client SOCKET                   a new client: connects, calls one function, checks
//                                              its result and prints two numbers: nanoseconds from
//                                              main() to the result, and the time of the result on
//                                              CLOCK_MONOTONIC
//   kaas-bench-client --worker SOCKET SPIN_US  a worker, see worker.h
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/clock.h"
#include "tools/bench/client_worker.h"
#include "tools/bench/fresh_client.h"

namespace {

int fail(const std::string& why) {
  std::printf("%s\n", why.c_str());
  return 1;
}

int run_worker(const char* socket, std::string_view spin) {
  unsigned spin_us = 0;
  const auto [end, error] = std::from_chars(spin.data(), spin.data() + spin.size(), spin_us);
  if (error != std::errc() || end != spin.data() + spin.size()) {
    return fail("error SPIN_US is '" + std::string(spin) + "', allowed: an integer from 0 on");
  }
  return kaas::run_client_worker(socket, spin_us);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t begin_ns = kaas::now_ns();
  if (argc == 4 && std::strcmp(argv[1], "--worker") == 0) return run_worker(argv[2], argv[3]);
  if (argc != 2) return fail("usage: kaas-bench-client [--worker] SOCKET [SPIN_US]");
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
  std::printf("%" PRIu64 " %" PRIu64 "\n", end_ns - begin_ns, end_ns);
  return 0;
}
