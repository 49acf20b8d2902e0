// kaas-latency-inprocess: the kernels called by the measuring process itself, on the processor. No
// service can be faster; the distance to it is what a service costs on the host.
//   kaas-latency-inprocess    a peer (tools/bench/peer.h)
#include "tests/latency/peers/host_worker.h"
#include "tools/bench/peer.h"

int main() {
  kaas::HostWorker worker;
  return kaas::serve_peer(worker, "calls in this process");
}
