// The kernels of kaas-bench, launched by this process on a stream of its own and then waited for,
// as a program without KaaS does it. kaas-bench-direct is made of it, and servers that KaaS is
// measured against (tests/latency/peers).
//
// Owns:    its stream, graphs and memory. The context is the process's primary one.
// Threads: one at a time.
#pragma once

#include <memory>
#include <string>

#include "tools/bench/worker.h"

namespace kaas {

struct DirectOptions {
  // One cudaGraphLaunch a round and cudaStreamQuery until it is done, instead of a launch for each
  // kernel and cudaStreamSynchronize.
  bool graph = false;
  // The context's waits sleep (cudaDeviceScheduleBlockingSync) instead of looking all the time.
  bool blocking = false;
};

// Makes a context on the first device. Null: `error` says what went wrong. `description`: the card
// and its driver.
std::unique_ptr<LocalWorker> make_direct_worker(const DirectOptions& options,
                                                std::string& description, std::string& error);

}  // namespace kaas
