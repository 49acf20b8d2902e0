// kaas-sim: kaasd's data path, executors and clients, good and bad, under one seed.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "tools/sim/simulation.h"

namespace {

// What to say if a seed ends the process: written before each, read by the signal handler.
char epitaph[256];

void say_epitaph(int signal) {
  const auto ignored = ::write(STDERR_FILENO, epitaph, std::strlen(epitaph));
  static_cast<void>(ignored);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

// SIGTERM and Ctrl-C: the folder of the world is removed before the process ends by the signal.
std::atomic<bool> stop{false};
std::atomic<int> stop_signal{0};

void remember_stop(int signal) {
  stop_signal.store(signal);
  stop.store(true);
}

void describe(char* text, std::size_t bytes, const kaas::SimulationOptions& options) {
  std::snprintf(text, bytes,
                "seed %" PRIu64 " failed; reproduce: kaas-sim --seed %" PRIu64 " --steps %" PRIu64
                " --verbose\n",
                options.seed, options.seed, options.steps);
}

// Whether the seed's world held.
bool run(const kaas::SimulationOptions& options, kaas::SimulationResult& total) {
  describe(epitaph, sizeof epitaph, options);
  const kaas::SimulationResult result = kaas::simulate(options);
  total.sent += result.sent;
  total.ok += result.ok;
  total.failed += result.failed;
  total.executor_deaths += result.executor_deaths;
  total.sessions += result.sessions;
  total.trace_hash = total.trace_hash * 31 + result.trace_hash;
  if (options.verbose) std::printf("trace %016" PRIx64 "\n", result.trace_hash);
  if (result.failure.empty()) return true;
  std::printf("%s  %s\n", epitaph, result.failure.c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Deterministic simulation of kaasd's data path with executors and clients that fail"};
  std::uint64_t seeds = 1;
  double seconds = 0;
  kaas::SimulationOptions options;
  app.add_option("--seeds", seeds, "How many seeds to run, from --seed on (1)");
  app.add_option("--seed", options.seed, "The first seed (1)");
  app.add_option("--steps", options.steps, "Turns of each seed before it is wound up (1500)");
  app.add_option("--seconds", seconds, "Stop after this time, with what was run; 0: never");
  app.add_flag("--verbose", options.verbose, "Print every event");
  CLI11_PARSE(app, argc, argv);
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    ::signal(signal, &say_epitaph);
  ::signal(SIGPIPE, SIG_IGN);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::signal(signal, &remember_stop);
  options.stop = &stop;

  kaas::SimulationResult total;
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t failures = 0;
  std::uint64_t ran = 0;
  for (; ran < seeds && !stop.load(); ++ran, ++options.seed) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    if (seconds > 0 && elapsed.count() > seconds) break;
    if (!run(options, total)) ++failures;
  }
  std::printf("%" PRIu64 " seeds, %" PRIu64 " failed: %" PRIu64 " operations of %" PRIu64
              " sessions, %" PRIu64 " ok, %" PRIu64 " failed for a reason; %" PRIu64
              " executors died; trace %016" PRIx64 "\n",
              ran, failures, total.sent, total.sessions, total.ok, total.failed,
              total.executor_deaths, total.trace_hash);
  if (const int signal = stop_signal.load(); signal != 0) {
    ::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  return failures == 0 ? 0 : 1;
}
