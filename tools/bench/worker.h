// Workers: programs that run one workload in rounds when kaas-bench tells them to, and print each
// round's time. kaas-bench-client is one, through kaasd; kaas-bench-direct another, with a CUDA
// context of its own. As both stand ready, rounds of both can take turns.
//
// What is spoken, by lines. At start the worker says `ready DESCRIPTION` or `error TEXT`. Then, for
// each line of its input:
//   measure WORKLOAD count N   ok NS NS ...     N rounds, after some that are not told
//   measure WORKLOAD time MS   ok NS NS ...     rounds for MS milliseconds, at least one
//   memory                     ok BYTES         used of the device, by whomever
//   anything that fails        error TEXT
// It ends with its input.
//
// A workload is a word:
//   chain:K:B       K small kernels on 64 floats, from an input to an output; B pairs of those take
//                   turns
//   payload:BYTES   BYTES from host memory to the device, one kernel, as many back
//   input:BYTES     BYTES from host memory to the device
//   busy:NS         one kernel that takes so long; busy:NS:BLOCKS: each of so many blocks
//   null:1          one kernel that does nothing
//
// peer.h has the protocol of other measurements, which the same workers serve.
//
// Threads: one. C++17, because CUDA sources include it.
#pragma once

#include <cstdint>
#include <string>

namespace kaas {

struct Workload {
  enum class Kind { Chain, Payload, Input, Busy, Null };
  Kind kind = Kind::Chain;
  std::uint64_t amount = 1;   // K, BYTES or NS.
  std::uint64_t buffers = 1;  // B.
  std::uint64_t blocks = 1;   // BLOCKS.
};
[[nodiscard]] std::string to_word(const Workload& workload);
// Whether `word` is a workload; then it is in `workload`.
[[nodiscard]] bool parse_workload(const std::string& word, Workload& workload);

// Limits of a workload, so that what it allocates is bounded.
constexpr std::uint64_t kWorkloadKernelsMax = 1024;
constexpr std::uint64_t kWorkloadBuffersMax = 64;
constexpr std::uint64_t kWorkloadBytesMax = std::uint64_t{1} << 30;
constexpr std::uint64_t kWorkloadNsMax = 1'000'000'000;
constexpr std::uint64_t kWorkloadBlocksMax = 65'536;

// The library of kernels that workers run, built from tools/bench/kernels, and launches of it.
constexpr const char* kBenchLibrary = "bench";
constexpr std::uint32_t kSmallFloats = 64;  // Of the small kernel's data.
constexpr std::uint32_t kSmallBlock = 256;  // Its one block.
constexpr std::uint32_t kBusyBlock = 32;
constexpr std::uint32_t kPayloadBlock = 256;
constexpr std::uint32_t kPayloadGridMax = 4096;
constexpr float kFactor = 2.0F;

// Blocks of the payload's kernel: a thread for each element, up to a limit.
[[nodiscard]] constexpr std::uint32_t payload_grid(std::uint64_t floats) {
  const std::uint64_t blocks = (floats + kPayloadBlock - 1) / kPayloadBlock;
  return static_cast<std::uint32_t>(blocks < kPayloadGridMax ? blocks : kPayloadGridMax);
}

// What a worker can do. Each call returns an empty text, or what went wrong.
class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  virtual ~Worker() = default;

  // Makes ready for rounds of `workload`, with input made from `seed`, which differs each time.
  virtual std::string open(const Workload& workload, float seed) = 0;
  // One round, from the start to the result.
  virtual std::string run() = 0;
  // A round in two halves, for several under way at a time: sends one; waits for the oldest. Not
  // every worker can.
  virtual std::string submit() { return "it keeps one request under way at a time"; }
  virtual std::string take_oldest() { return submit(); }
  // Whether the results of the last rounds are right.
  virtual std::string check() = 0;
  virtual std::string memory(std::uint64_t& used_bytes) = 0;
};

// A worker whose payload lies in memory of this process: what a program serves others with.
struct HostBytes {
  void* data;
  std::uint64_t bytes;
};
class LocalWorker : public Worker {
 public:
  // Of an open payload: what the next round reads, and what the last one wrote. Else empty.
  virtual HostBytes input() = 0;
  virtual HostBytes output() = 0;
};

// Says that it is ready, and serves standard input to its end. Returns main's status.
int serve_worker(Worker& worker, const std::string& description);
// Says why it can't work. Returns main's status.
int refuse_worker(const std::string& why);

}  // namespace kaas
