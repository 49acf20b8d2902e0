// kaas-bench-client as a worker (worker.h): runs workloads through kaasd, with inputs and outputs
// in the session's shared memory and plans that are prepared once.
// Threads: one.
#pragma once

#include <string>

namespace kaas {

// Connects to the kaasd at `socket` and serves standard input. A wait polls for `spin_us` before it
// sleeps. Returns main's status.
int run_client_worker(const std::string& socket, unsigned spin_us);

}  // namespace kaas
