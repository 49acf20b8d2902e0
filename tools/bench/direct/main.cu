// kaas-bench-direct: what kaas-bench gpu measures KaaS against. A program with a CUDA context of
// its own that runs the same kernels.
//   kaas-bench-direct                            a worker, see tools/bench/worker.h
//   kaas-bench-direct --peer stream|graph [blocking]  a peer, see tools/bench/peer.h; how it
//                            launches, and whether the context's waits sleep
//   kaas-bench-direct first  what a new client does (kaas-bench-client), without KaaS: 1024 floats
//                            to the device, one kernel, and back; checks them and prints two
//                            numbers: nanoseconds from main() to the result, and the time of the
//                            result on CLOCK_MONOTONIC
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "schema/ipc/clock.h"
#include "tools/bench/direct/cuda_handles.h"
#include "tools/bench/direct/direct_worker.h"
#include "tools/bench/kernels/bench_kernels.h"
#include "tools/bench/peer.h"
#include "tools/bench/worker.h"

namespace {

constexpr std::uint64_t kFirstFloats = 1024;  // As kFreshClientCount.

std::string compute(const std::vector<float>& input, std::vector<float>& output) {
  const std::size_t bytes = input.size() * sizeof(float);
  kaas::DeviceArray<float> x;
  kaas::DeviceArray<float> y;
  std::string error = kaas::allocate(x, input.size());
  if (error.empty()) error = kaas::allocate(y, input.size());
  if (!error.empty()) return error;
  uint64_t count = input.size();
  float factor = kaas::kFactor;
  const float* in = x.get();
  float* out = y.get();
  void* arguments[] = {&count, &factor, &in, &out};
  cudaError_t status = cudaMemcpy(x.get(), input.data(), bytes, cudaMemcpyHostToDevice);
  if (status == cudaSuccess) {
    status = cudaLaunchKernel(kaas::KernelEntry<&kaas::multiply>::device_entry(),
                              dim3(kaas::payload_grid(count)), dim3(kaas::kPayloadBlock), arguments,
                              0, nullptr);
  }
  if (status == cudaSuccess) {
    status = cudaMemcpy(output.data(), y.get(), bytes, cudaMemcpyDeviceToHost);
  }
  return kaas::cuda_text("the first result", status);
}

int run_first(std::uint64_t begin_ns) {
  std::vector<float> input(kFirstFloats);
  std::vector<float> output(kFirstFloats);
  for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i);
  const std::string error = compute(input, output);
  const std::uint64_t end_ns = kaas::now_ns();
  if (!error.empty()) {
    std::printf("%s\n", error.c_str());
    return 1;
  }
  for (std::size_t i = 0; i < output.size(); ++i) {
    if (output[i] == kaas::kFactor * input[i]) continue;
    std::printf("y[%zu] is wrong\n", i);
    return 1;
  }
  kaas::print_first_result(begin_ns, end_ns);
  return 0;
}

int run_worker(const kaas::DirectOptions& options, bool is_peer) {
  std::string description;
  std::string error;
  const auto worker = kaas::make_direct_worker(options, description, error);
  if (worker == nullptr) return is_peer ? kaas::refuse_peer(error) : kaas::refuse_worker(error);
  return is_peer ? kaas::serve_peer(*worker, description)
                 : kaas::serve_worker(*worker, description);
}

// `words` follow --peer.
int run_peer(const std::vector<std::string>& words) {
  kaas::DirectOptions options;
  options.graph = !words.empty() && words[0] == "graph";
  options.blocking = words.size() == 2 && words[1] == "blocking";
  const bool known = !words.empty() && (words[0] == "graph" || words[0] == "stream") &&
                     words.size() == (options.blocking ? 2U : 1U);
  return known ? run_worker(options, true)
               : kaas::refuse_peer("after --peer, allowed: stream or graph, then blocking");
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t begin_ns = kaas::now_ns();
  if (argc == 1) return run_worker({}, false);
  if (std::strcmp(argv[1], "--peer") == 0) return run_peer({argv + 2, argv + argc});
  if (argc == 2 && std::strcmp(argv[1], "first") == 0) return run_first(begin_ns);
  std::printf("usage: kaas-bench-direct [first | --peer stream|graph [blocking]]\n");
  return 2;
}
