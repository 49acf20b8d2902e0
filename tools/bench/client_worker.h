// kaas-bench-client as a worker (worker.h) or as a peer (peer.h): runs its requests through kaasd,
// without a CUDA context.
// Threads: one.
#pragma once

#include <optional>
#include <string>

namespace kaas {

struct ClientWorkerOptions {
  enum class Way {
    Any,   // As a program would: bound plans, which go by a lane if they are granted one.
    Lane,  // The same; without a lane it can't work.
    Kaasd  // The same, and lanes are not asked for.
  };
  // Where chains have their data.
  enum class Chains {
    Client,  // In the client's memory: an input and an output of each request.
    Device  // Nowhere else than on the device: scratch memory, no input and no output. Of one pair.
  };
  Way way = Way::Any;
  Chains chains = Chains::Client;
  std::string socket;
  std::optional<unsigned>
      spin_us;           // How long waits poll before they sleep; none: as a client does.
  int priority = 0;      // Of its requests. Not 0: plans are not bound, as runs have options.
  bool is_peer = false;  // What it speaks: peer.h instead of worker.h.
};

// Connects to the kaasd at the socket and serves standard input. Returns main's status.
int run_client_worker(const ClientWorkerOptions& options);

}  // namespace kaas
