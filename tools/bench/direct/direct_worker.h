// kaas-bench-direct as a worker (tools/bench/worker.h): the kernels of kaas-bench, launched by this
// process on a stream of its own and then synchronised, as a program without KaaS does it.
// Threads: one.
#pragma once

namespace kaas {

// Makes a context on the current device and serves standard input. Returns main's status.
int run_direct_worker();

}  // namespace kaas
