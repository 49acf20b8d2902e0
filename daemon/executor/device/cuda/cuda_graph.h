// Programs as CUDA graphs: built on a thread of their own, patched where a run differs from the one
// before, launched in one call.
//
//   n_iter small   | k | k | k |           unrolled, launched once
//   n_iter large   | k x up to 256 |       unrolled in part, launched several times
//   until          | while: k, end |       a conditional node; the device counts the iterations
//
// Where one launch is all, the first node copies small inputs to the device and the last one small
// outputs from there; it then writes a word of host memory. Reading that costs nothing, while
// asking the driver whether a stream is idle costs more than a microsecond, and its answer comes
// later. Where nothing is to be copied from the device, a last kernel of one block writes the word
// itself, if it has a form for that (ending_entry): a node less is half a microsecond less.
//
// Patching a node costs about 0.5 us, so what did not change is not touched: a shadow of the
// program's words says what the graph holds.
//
// Launch functions that declare themselves capture-pure are called once for each node, while the
// builder's stream is captured into the graph. What they enqueued can't be patched: such a graph is
// for the words that it was captured with. A run that brings others goes by stream, and has it
// captured again, at most kCapturesMax times. A function that fails when it is captured, or does
// what can't be, makes the graph Failed for good.
// Threads: main thread, but for the building.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/executor/device/cuda/cuda_device.h"
#include "daemon/executor/device/cuda/cuda_kernels.h"

namespace kaas {

// What launching a graph came to.
struct GraphRun {
  std::uint64_t iterations = 0;            // That the graph does; the caller does the rest.
  const std::uint64_t* counted = nullptr;  // Not null: where their number is once it is idle.
  // Not null: it is not zero once the graph is done. Null: the program's moves are not in it.
  const std::uint32_t* signal = nullptr;
};

void fill_table(std::span<const Move> moves, MoveTable& table) noexcept;

class CudaGraph final : public PreparedProgram {
 public:
  // Takes a copy of the words; the launches are borrowed.
  CudaGraph(CudaDevice& device, CudaGraphBuilder& builder, const KernelProgram& program);
  ~CudaGraph() override;

  [[nodiscard]] bool ready() const noexcept override {
    return state_.load(std::memory_order_acquire) == State::Ready;
  }
  [[nodiscard]] bool pending() const noexcept override {
    return state_.load(std::memory_order_acquire) == State::Waiting;
  }
  [[nodiscard]] bool will_do(const KernelProgram& program) const noexcept override {
    return why_not(program) == wire::WhyStream::None;
  }
  // Why launch() would not do the program; None: it would. It must be built, have a node for what
  // is to be moved, and be captured with the same words.
  [[nodiscard]] wire::WhyStream why_not(const KernelProgram& program) const noexcept;
  // A graph that was captured for other words: soon for those of this program, if it has not been
  // too often. No run of it is under way but the one that asks. Any thread.
  void capture_again(const KernelProgram& program);
  // The moves of a program and a signal are in it.
  [[nodiscard]] bool whole() const noexcept { return whole_; }
  // Patches and launches.
  Result<GraphRun> launch(const KernelProgram& program, CUstream stream);

  // Why no graph can hold the program; None: one can.
  static wire::WhyStream why_none_holds(const KernelProgram& program) noexcept;

 private:
  friend class CudaGraphBuilder;
  enum class State : int { Waiting, Ready, Failed };

  // A parameter's value: where in the words, and of which launch.
  struct Value {
    std::uint32_t at = 0;
    std::uint32_t bytes = 0;
    std::uint32_t launch = 0;
    bool captured = false;  // Can't be patched.
  };

  // Builder thread.
  void build();
  void build_here();
  Result<void> capture(std::size_t launch, CUgraph graph, std::vector<CUgraphNode>& ends);
  void drop();
  CUresult build_iterations(std::vector<CUgraphNode>& ends);
  CUresult build_loop(std::vector<CUgraphNode>& ends);
  CUresult add_begin(std::vector<CUgraphNode>& ends);
  CUresult add_end(const std::vector<CUgraphNode>& ends);
  [[nodiscard]] CUDA_KERNEL_NODE_PARAMS begin_params();
  [[nodiscard]] CUDA_KERNEL_NODE_PARAMS end_params();
  CUresult patch_moves(const KernelProgram& program);
  [[nodiscard]] bool may_overlap(const std::vector<CUgraphNode>& before) const noexcept;
  CUresult add_iteration(CUgraph graph, std::vector<CUgraphNode>& ends, bool is_last);
  // `ends`: of the node that ends the run.
  [[nodiscard]] CUDA_KERNEL_NODE_PARAMS node_params(std::size_t launch, bool ends);
  void choose_ending();
  void load_ending();
  [[nodiscard]] CUDA_KERNEL_NODE_PARAMS loop_params();

  CUresult patch(const KernelProgram& program);

  CudaDevice& device_;
  CudaGraphBuilder& builder_;
  std::span<const KernelLaunch> launches_;
  std::uint64_t n_iter_;
  bool loops_;
  std::uint64_t unrolled_;  // Iterations in the graph.
  std::vector<std::uint64_t> words_;
  std::vector<Value> values_;           // In the order of the launches.
  std::vector<std::uint32_t> changed_;  // Launches that a run differs in.
  // Per launch, into words_, but for the first, which only a launch that ends the run takes.
  std::vector<std::vector<void*>> params_;

  std::atomic<State> state_{State::Waiting};  // Partner: the builder's store.
  bool captures_ = false;                     // Some launch is captured.
  bool cooperates_ = false;                   // Some launch is cooperative.
  std::uint32_t captured_ = 0;                // How often it was.
  std::string capture_failure_;               // Why it could not be captured, for the log.
  CUgraph graph_ = nullptr;
  CUgraphExec exec_ = nullptr;
  std::vector<std::vector<CUgraphNode>> nodes_;  // Per launch, one an unrolled iteration.

  // Moves and signal are in the graph if one launch of it is the whole program.
  const bool whole_;
  const bool begins_;  // There is a node for moves before the kernels.
  CUgraphNode begin_node_ = nullptr;
  CUgraphNode end_node_ = nullptr;
  MoveTable before_{};
  MoveTable behind_{};
  std::array<void*, 3> end_pointers_{};
  std::uint32_t* signal_ = nullptr;
  std::uint32_t signal_value_ = 1;

  CUgraphNode loop_node_ = nullptr;
  CUfunction loop_function_ = nullptr;
  CUgraphConditionalHandle loop_ = 0;
  DeviceAddress until_ = 0;
  // Of the launch that ends the run itself: in its last iteration, as another function.
  std::optional<std::size_t> ending_;
  CUfunction ending_function_ = nullptr;
  kaas_run_end run_end_{};
  DeviceMemory iteration_;  // One word.
  // Host memory: the number of iterations, and the word that the last node writes.
  struct HostWords {
    std::uint64_t iterations;
    std::uint32_t signal;
  };
  DeviceMemory host_;
  [[nodiscard]] HostWords& host() const noexcept {
    return *reinterpret_cast<HostWords*>(host_.address());  // NOLINT(performance-no-int-to-ptr)
  }
  std::array<std::uint64_t, 5> loop_values_{};
  std::array<void*, 5> loop_pointers_{};
};

// Threads: prepare() and forget() by the main thread.
class CudaGraphBuilder {
 public:
  explicit CudaGraphBuilder(CudaDevice& device);
  ~CudaGraphBuilder();
  CudaGraphBuilder(const CudaGraphBuilder&) = delete;
  CudaGraphBuilder& operator=(const CudaGraphBuilder&) = delete;

  // It is built once more, soon. Any thread.
  void again(CudaGraph& graph);
  // Null: no graph can hold it. It is built soon; at once failed, if there is no memory for it.
  std::unique_ptr<PreparedProgram> prepare(const KernelProgram& program);
  // It will not be built, or has been.
  void forget(CudaGraph& graph);
  // Builder thread: for uploads.
  [[nodiscard]] CUstream stream() const noexcept { return stream_; }

 private:
  void run();
  bool allocate(CudaGraph& graph);

  CudaDevice& device_;
  CUstream stream_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<CudaGraph*> waiting_;  // Under mutex_.
  CudaGraph* building_ = nullptr;   // Under mutex_.
  bool ending_ = false;             // Under mutex_.
  std::thread thread_;
};

}  // namespace kaas
