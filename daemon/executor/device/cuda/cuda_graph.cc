#include "daemon/executor/device/cuda/cuda_graph.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "daemon/executor/device/cuda/cuda_stream.h"

namespace kaas {
namespace {

// Instantiating costs about 5 us a node, and a launch about 2 us: beyond this, launching again is
// cheaper than being longer.
constexpr std::uint64_t kNodesMax = 256;
// Of one graph: each instance of a plan mostly keeps its addresses.
constexpr std::uint32_t kCapturesMax = 8;

constexpr CUgraphEdgeData kProgrammaticEdge{
    CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC, 0, CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC, {}};

// Whether a launch may say itself that the run has ended. More blocks would have to count
// themselves, which takes as long as a node does.
bool may_end(const KernelLaunch& launch) noexcept {
  const std::uint32_t* grid = launch.shape.grid;
  return launch.function.entry->ending_entry != nullptr && !launch.cooperative && grid[0] == 1 &&
         grid[1] == 1 && grid[2] == 1;
}

bool is_captured(const KernelLaunch& launch) noexcept {
  return launch.function.native == nullptr;
}

std::uint32_t value_bytes(const ParameterType& type) noexcept {
  switch (type.kind) {
    case ParameterType::Kind::Literal:
    case ParameterType::Kind::Raw:
    case ParameterType::Kind::Untyped:
      return type.bytes;
    case ParameterType::Kind::Input:
    case ParameterType::Kind::Output:
      break;
  }
  return sizeof(DeviceAddress);
}

// How many iterations a graph of at most kNodesMax nodes holds: all, or a divisor if a good one
// exists, so that nothing is left over.
std::uint64_t iterations_per_graph(std::uint64_t n_iter, std::size_t kernels) noexcept {
  const std::uint64_t most = std::max<std::uint64_t>(1, kNodesMax / kernels);
  if (n_iter <= most) return n_iter;
  for (std::uint64_t count = most; count > most / 2; --count) {
    if (n_iter % count == 0) return count;
  }
  return most;
}

// One thread is enough to signal.
CUDA_KERNEL_NODE_PARAMS moving_params(CUfunction function, const MoveTable& table, void** values) {
  CUDA_KERNEL_NODE_PARAMS params{};
  params.func = function;
  params.gridDimX = params.gridDimY = params.gridDimZ = 1;
  params.blockDimX = table.count == 0 ? 1 : kMoveThreads;
  params.blockDimY = params.blockDimZ = 1;
  params.kernelParams = values;
  return params;
}

}  // namespace

void fill_table(std::span<const Move> moves, MoveTable& table) noexcept {
  table.count = moves.size();
  for (std::size_t i = 0; i < moves.size(); ++i) {
    table.entries[i] = {moves[i].to, moves[i].from, moves[i].bytes};
  }
}

wire::WhyStream CudaGraph::why_none_holds(const KernelProgram& program) noexcept {
  for (const KernelLaunch& launch : program.launches) {
    if (launch.function.native != nullptr) continue;
    const KernelEntry& entry = *launch.function.entry;
    if (entry.original != nullptr) return wire::WhyStream::Original;
    if (entry.variable != 0) return wire::WhyStream::Variable;
    if (entry.opaque == nullptr || !entry.capture_pure) return wire::WhyStream::Opaque;
    if (entry.stateful) return wire::WhyStream::Stateful;
  }
  return wire::WhyStream::None;
}

wire::WhyStream CudaGraph::why_not(const KernelProgram& program) const noexcept {
  switch (state_.load(std::memory_order_acquire)) {
    case State::Waiting:
      return wire::WhyStream::Building;
    case State::Failed:
      return wire::WhyStream::Failed;
    case State::Ready:
      break;
  }
  if (whole_ && !begins_ && !program.before.empty()) return wire::WhyStream::Moves;
  if (ending_ && !program.behind.empty()) return wire::WhyStream::Moves;
  if (!captures_) return wire::WhyStream::None;
  const auto* shadow = reinterpret_cast<const std::byte*>(words_.data());
  const auto* words = reinterpret_cast<const std::byte*>(program.words.data());
  const bool same = std::all_of(values_.begin(), values_.end(), [&](const Value& value) {
    return !value.captured || std::memcmp(shadow + value.at, words + value.at, value.bytes) == 0;
  });
  return same ? wire::WhyStream::None : wire::WhyStream::Addresses;
}

void CudaGraph::capture_again(const KernelProgram& program) {
  if (captured_ >= kCapturesMax) return;
  std::memcpy(words_.data(), program.words.data(), words_.size() * sizeof(std::uint64_t));
  if (whole_) {
    fill_table(program.before, before_);
    fill_table(program.behind, behind_);
  }
  until_ = program.until;
  state_.store(State::Waiting, std::memory_order_release);
  builder_.again(*this);
}

CudaGraph::CudaGraph(CudaDevice& device, CudaGraphBuilder& builder, const KernelProgram& program)
    : device_(device),
      builder_(builder),
      launches_(program.launches),
      n_iter_(program.n_iter),
      loops_(program.until != 0),
      unrolled_(loops_ ? 1 : iterations_per_graph(n_iter_, launches_.size())),
      words_(program.words.begin(), program.words.end()),
      whole_(loops_ || unrolled_ == n_iter_),
      begins_(whole_ && !program.before.empty()),
      until_(program.until) {
  if (whole_) {
    fill_table(program.before, before_);
    fill_table(program.behind, behind_);
  }
  const auto* words = reinterpret_cast<const std::byte*>(program.words.data());
  auto* own = reinterpret_cast<std::byte*>(words_.data());
  for (std::size_t i = 0; i < launches_.size(); ++i) {
    const auto& types = launches_[i].function.entry->parameters;
    std::vector<void*>& params = params_.emplace_back();
    params.push_back(&run_end_);
    for (std::size_t p = 0; p < types.size(); ++p) {
      const auto at = static_cast<const std::byte*>(launches_[i].params[p]) - words;
      values_.push_back({static_cast<std::uint32_t>(at), value_bytes(types[p]),
                         static_cast<std::uint32_t>(i), is_captured(launches_[i])});
      params.push_back(own + at);
    }
    params.push_back(nullptr);
    captures_ = captures_ || is_captured(launches_[i]);
    cooperates_ = cooperates_ || launches_[i].cooperative;
  }
  if (whole_ && !loops_ && program.behind.empty()) choose_ending();
}

// The launch that all others come before, if there is one.
void CudaGraph::choose_ending() {
  std::vector<bool> followed(launches_.size(), false);
  for (const KernelLaunch& launch : launches_) {
    for (const std::uint16_t earlier : launch.after) followed[earlier] = true;
  }
  if (std::count(followed.begin(), followed.end(), false) != 1) return;
  const auto last = static_cast<std::size_t>(std::find(followed.begin(), followed.end(), false) -
                                             followed.begin());
  if (may_end(launches_[last])) ending_ = last;
}

CudaGraph::~CudaGraph() {
  builder_.forget(*this);
  device_.enter();
  drop();
}

void CudaGraph::drop() {
  if (exec_ != nullptr) device_.driver().GraphExecDestroy(std::exchange(exec_, nullptr));
  if (graph_ != nullptr) device_.driver().GraphDestroy(std::exchange(graph_, nullptr));
  nodes_.assign(launches_.size(), {});
}

// --- Building ------------------------------------------------------------------------------------

// What a library leaves behind of a capture that failed, an error of its runtime for instance, it
// leaves in the thread: so that is one of its own.
void CudaGraph::build() {
  if (!captures_) return build_here();
  std::thread([this] { build_here(); }).join();
}

void CudaGraph::build_here() {
  device_.enter();
  drop();
  if (captures_) ++captured_;
  const CudaDriver& driver = device_.driver();
  if (ending_) load_ending();
  CUresult result = driver.GraphCreate(&graph_, 0);
  std::vector<CUgraphNode> ends;
  if (result == CUDA_SUCCESS && begins_) result = add_begin(ends);
  if (result == CUDA_SUCCESS) result = loops_ ? build_loop(ends) : build_iterations(ends);
  if (result == CUDA_SUCCESS && whole_ && !ending_) result = add_end(ends);
  if (result == CUDA_SUCCESS) result = driver.GraphInstantiateWithFlags(&exec_, graph_, 0);
  // The first launch would upload it otherwise.
  if (result == CUDA_SUCCESS) result = driver.GraphUpload(exec_, builder_.stream());
  if (result == CUDA_SUCCESS) result = driver.StreamSynchronize(builder_.stream());
  state_.store(result == CUDA_SUCCESS ? State::Ready : State::Failed, std::memory_order_release);
  if (result != CUDA_SUCCESS) {
    Status why = device_.failed(result, "building a graph; its kernels are launched singly");
    if (!capture_failure_.empty()) why.message += " (" + capture_failure_ + ")";
    std::fprintf(stderr, "kaas-executor: %s\n", why.message.c_str());
  }
}

// Without it, a node of its own ends the run.
void CudaGraph::load_ending() {
  const KernelLaunch& launch = launches_[*ending_];
  const auto function = device_.load_ending(*launch.function.entry);
  const kaas_launch& shape = launch.shape;
  if (!function || shape.block[0] * shape.block[1] * shape.block[2] > function->block_threads_max ||
      shape.shared_bytes > function->shared_bytes_max) {
    ending_.reset();
    return;
  }
  ending_function_ = static_cast<CUfunction>(function->native);
  run_end_.word = &host().signal;
  run_end_.value = signal_value_;
}

// Has the launch's function enqueue its work into the graph, behind `ends`, which become the ends
// of that.
Result<void> CudaGraph::capture(std::size_t launch, CUgraph graph, std::vector<CUgraphNode>& ends) {
  const CudaDriver& driver = device_.driver();
  const CUstream stream = builder_.stream();
  const auto check = [&](CUresult result, const char* what) -> Result<void> {
    if (result == CUDA_SUCCESS) return {};
    return cuda_status(
        result, std::string(what) + " kernel '" + launches_[launch].function.entry->name + "'");
  };
  // Of this thread only: what others do with the driver meanwhile is their own affair.
  KAAS_RETURN_IF_ERROR(
      check(driver.StreamBeginCaptureToGraph(stream, graph, ends.data(), nullptr, ends.size(),
                                             CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
            "beginning to capture"));
  Result<void> outcome = call_opaque(launches_[launch], params_[launch].data() + 1, stream);
  device_.enter_again();
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUgraphNode* last = nullptr;
  std::size_t count = 0;
  const CUresult asked =
      driver.StreamGetCaptureInfo(stream, &status, nullptr, nullptr, &last, nullptr, &count);
  if (asked == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
    ends.assign(last, last + count);
  }
  CUgraph ended = nullptr;
  // In any case: the stream is an ordinary one again.
  const CUresult end = driver.StreamEndCapture(stream, &ended);
  KAAS_RETURN_IF_ERROR(outcome);
  KAAS_RETURN_IF_ERROR(check(asked, "capturing"));
  return check(end, "capturing");
}

CUresult CudaGraph::build_iterations(std::vector<CUgraphNode>& ends) {
  for (std::uint64_t i = 0; i < unrolled_; ++i) {
    const CUresult result = add_iteration(graph_, ends, i + 1 == unrolled_);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult CudaGraph::add_begin(std::vector<CUgraphNode>& ends) {
  const CUDA_KERNEL_NODE_PARAMS params = begin_params();
  const CUresult result =
      device_.driver().GraphAddKernelNode(&begin_node_, graph_, nullptr, 0, &params);
  ends = {begin_node_};
  return result;
}

// Behind one kernel it gets there sooner if it waits itself.
CUresult CudaGraph::add_end(const std::vector<CUgraphNode>& ends) {
  const CudaDriver& driver = device_.driver();
  signal_ = &host().signal;
  const CUDA_KERNEL_NODE_PARAMS params = end_params();
  if (!may_overlap(ends)) {
    return driver.GraphAddKernelNode(&end_node_, graph_, ends.data(), ends.size(), &params);
  }
  const CUresult result = driver.GraphAddKernelNode(&end_node_, graph_, nullptr, 0, &params);
  if (result != CUDA_SUCCESS) return result;
  return driver.GraphAddDependencies(graph_, ends.data(), &end_node_, &kProgrammaticEdge, 1);
}

CUDA_KERNEL_NODE_PARAMS CudaGraph::begin_params() {
  end_pointers_ = {&before_};
  return moving_params(device_.begin_run(), before_, end_pointers_.data());
}

CUDA_KERNEL_NODE_PARAMS CudaGraph::end_params() {
  end_pointers_ = {&behind_, &signal_, &signal_value_};
  return moving_params(device_.end_run(), behind_, end_pointers_.data());
}

CUresult CudaGraph::build_loop(std::vector<CUgraphNode>& ends) {
  const CudaDriver& driver = device_.driver();
  CUcontext context = nullptr;
  driver.CtxGetCurrent(&context);
  CUresult result = load_end_iteration(&loop_function_);
  if (result != CUDA_SUCCESS) return result;
  result =
      driver.GraphConditionalHandleCreate(&loop_, graph_, context, 1, CU_GRAPH_COND_ASSIGN_DEFAULT);
  if (result != CUDA_SUCCESS) return result;
  CUgraphNodeParams params{};
  params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
  params.conditional.handle = loop_;
  params.conditional.type = CU_GRAPH_COND_TYPE_WHILE;
  params.conditional.size = 1;
  params.conditional.ctx = context;
  CUgraphNode node = nullptr;
  result = driver.GraphAddNode(&node, graph_, ends.data(), nullptr, ends.size(), &params);
  if (result != CUDA_SUCCESS) return result;
  const CUgraph body = params.conditional.phGraph_out[0];
  ends = {node};
  std::vector<CUgraphNode> body_ends;
  result = add_iteration(body, body_ends, false);
  if (result != CUDA_SUCCESS) return result;
  const CUDA_KERNEL_NODE_PARAMS end = loop_params();
  return driver.GraphAddKernelNode(&loop_node_, body, body_ends.data(), body_ends.size(), &end);
}

// Whether what waits itself for what it comes behind may get an edge for that: behind one kernel.
// Whether loops and cooperative kernels can have such edges nobody says.
bool CudaGraph::may_overlap(const std::vector<CUgraphNode>& before) const noexcept {
  if (!device_.limits().overlaps_launches || before.size() != 1 || loops_ || cooperates_) {
    return false;
  }
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  return device_.driver().GraphNodeGetType(before.front(), &type) == CUDA_SUCCESS &&
         type == CU_GRAPH_NODE_TYPE_KERNEL;
}

// One iteration after `ends`, which become the ends of this one.
CUresult CudaGraph::add_iteration(CUgraph graph, std::vector<CUgraphNode>& ends, bool is_last) {
  const CudaDriver& driver = device_.driver();
  std::vector<std::vector<CUgraphNode>> added;  // The ends of each launch.
  std::vector<bool> followed(launches_.size(), false);
  for (std::size_t i = 0; i < launches_.size(); ++i) {
    const KernelLaunch& launch = launches_[i];
    std::vector<CUgraphNode> before;
    for (const std::uint16_t earlier : launch.after) {
      before.insert(before.end(), added[earlier].begin(), added[earlier].end());
      followed[earlier] = true;
    }
    if (before.empty()) before = ends;
    if (is_captured(launch)) {
      if (auto captured = capture(i, graph, before); !captured) {
        capture_failure_ = captured.error().message;
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
      }
      added.push_back(std::move(before));
      continue;
    }
    const CUDA_KERNEL_NODE_PARAMS params = node_params(i, is_last && ending_ == i);
    CUgraphNode node = nullptr;
    // One that waits later than at once may do so behind the kernel that it is declared to follow,
    // not behind moves of its inputs, or an earlier iteration of itself.
    const bool waits = launch.waits_first || (launch.programmatic && launch.after.size() == 1);
    const bool waits_itself = waits && may_overlap(before);
    CUresult result = driver.GraphAddKernelNode(&node, graph, before.data(),
                                                waits_itself ? 0 : before.size(), &params);
    if (result == CUDA_SUCCESS && waits_itself) {
      result = driver.GraphAddDependencies(graph, before.data(), &node, &kProgrammaticEdge, 1);
    }
    if (result != CUDA_SUCCESS) return result;
    std::array<CUlaunchAttribute, 2> attributes{};
    const unsigned count = launch_attributes(launch, attributes);
    for (unsigned a = 0; a < count; ++a) {
      result = driver.GraphKernelNodeSetAttribute(node, attributes[a].id, &attributes[a].value);
      if (result != CUDA_SUCCESS) return result;
    }
    added.push_back({node});
    nodes_[i].push_back(node);
  }
  ends.clear();
  for (std::size_t i = 0; i < added.size(); ++i) {
    if (!followed[i]) ends.insert(ends.end(), added[i].begin(), added[i].end());
  }
  return CUDA_SUCCESS;
}

CUDA_KERNEL_NODE_PARAMS CudaGraph::node_params(std::size_t launch, bool ends) {
  const kaas_launch& shape = launches_[launch].shape;
  CUDA_KERNEL_NODE_PARAMS params{};
  params.func =
      ends ? ending_function_ : static_cast<CUfunction>(launches_[launch].function.native);
  params.gridDimX = shape.grid[0];
  params.gridDimY = shape.grid[1];
  params.gridDimZ = shape.grid[2];
  params.blockDimX = shape.block[0];
  params.blockDimY = shape.block[1];
  params.blockDimZ = shape.block[2];
  params.sharedMemBytes = static_cast<unsigned>(shape.shared_bytes);
  params.kernelParams = params_[launch].data() + (ends ? 0 : 1);
  return params;
}

CUDA_KERNEL_NODE_PARAMS CudaGraph::loop_params() {
  loop_values_ = {loop_, until_, iteration_.address(),
                  reinterpret_cast<std::uint64_t>(&host().iterations), n_iter_};
  for (std::size_t i = 0; i < loop_values_.size(); ++i) loop_pointers_[i] = &loop_values_[i];
  CUDA_KERNEL_NODE_PARAMS params{};
  params.func = loop_function_;
  params.gridDimX = params.gridDimY = params.gridDimZ = 1;
  params.blockDimX = params.blockDimY = params.blockDimZ = 1;
  params.kernelParams = loop_pointers_.data();
  return params;
}

// --- Running -------------------------------------------------------------------------------------

Result<GraphRun> CudaGraph::launch(const KernelProgram& program, CUstream stream) {
  GraphRun run;
  const CudaDriver& driver = device_.driver();
  CUresult result = patch(program);
  if (result == CUDA_SUCCESS && whole_) result = patch_moves(program);
  std::atomic_ref(host().signal).store(0, std::memory_order_relaxed);
  const std::uint64_t times = loops_ ? 1 : n_iter_ / unrolled_;
  for (std::uint64_t i = 0; i < times && result == CUDA_SUCCESS; ++i) {
    result = driver.GraphLaunch(exec_, stream);
  }
  if (result != CUDA_SUCCESS) {
    // What is patched and what is not nobody knows any more.
    state_.store(State::Failed, std::memory_order_release);
    return device_.failed(result, "launching a graph");
  }
  run.iterations = loops_ ? n_iter_ : times * unrolled_;
  if (loops_) run.counted = &host().iterations;
  if (whole_) run.signal = &host().signal;
  return run;
}

CUresult CudaGraph::patch_moves(const KernelProgram& program) {
  const CudaDriver& driver = device_.driver();
  const auto differs = [](std::span<const Move> moves, const MoveTable& table) {
    return moves.size() != table.count ||
           !std::equal(moves.begin(), moves.end(), table.entries,
                       [](const Move& move, const MoveTable::Entry& entry) {
                         return move.to == entry.to && move.from == entry.from &&
                                move.bytes == entry.bytes;
                       });
  };
  CUresult result = CUDA_SUCCESS;
  if (begins_ && differs(program.before, before_)) {
    fill_table(program.before, before_);
    const CUDA_KERNEL_NODE_PARAMS params = begin_params();
    result = driver.GraphExecKernelNodeSetParams(exec_, begin_node_, &params);
  }
  if (result == CUDA_SUCCESS && differs(program.behind, behind_)) {
    fill_table(program.behind, behind_);
    const CUDA_KERNEL_NODE_PARAMS params = end_params();
    result = driver.GraphExecKernelNodeSetParams(exec_, end_node_, &params);
  }
  return result;
}

CUresult CudaGraph::patch(const KernelProgram& program) {
  const CudaDriver& driver = device_.driver();
  if (loops_ && program.until != until_) {
    until_ = program.until;
    const CUDA_KERNEL_NODE_PARAMS params = loop_params();
    const CUresult result = driver.GraphExecKernelNodeSetParams(exec_, loop_node_, &params);
    if (result != CUDA_SUCCESS) return result;
  }
  const std::size_t bytes = words_.size() * sizeof(std::uint64_t);
  if (bytes == 0 || std::memcmp(words_.data(), program.words.data(), bytes) == 0) {
    return CUDA_SUCCESS;
  }
  // Which launches first: several may have a word in common.
  const auto* shadow = reinterpret_cast<const std::byte*>(words_.data());
  const auto* words = reinterpret_cast<const std::byte*>(program.words.data());
  changed_.clear();
  for (const Value& value : values_) {
    if (!changed_.empty() && changed_.back() == value.launch) continue;
    if (std::memcmp(shadow + value.at, words + value.at, value.bytes) == 0) continue;
    changed_.push_back(value.launch);
  }
  std::memcpy(words_.data(), words, bytes);
  for (const std::uint32_t launch : changed_) {
    for (const CUgraphNode& node : nodes_[launch]) {
      const CUDA_KERNEL_NODE_PARAMS params =
          node_params(launch, ending_ == launch && &node == &nodes_[launch].back());
      const CUresult result = driver.GraphExecKernelNodeSetParams(exec_, node, &params);
      if (result != CUDA_SUCCESS) return result;
    }
  }
  return CUDA_SUCCESS;
}

// --- CudaGraphBuilder ----------------------------------------------------------------------------

CudaGraphBuilder::CudaGraphBuilder(CudaDevice& device) : device_(device) {
  device.driver().StreamCreate(&stream_, CU_STREAM_NON_BLOCKING);
  thread_ = std::thread([this] { run(); });
}

CudaGraphBuilder::~CudaGraphBuilder() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
  device_.enter();
  device_.driver().StreamDestroy(stream_);
}

std::unique_ptr<PreparedProgram> CudaGraphBuilder::prepare(const KernelProgram& program) {
  if (program.launches.empty()) return nullptr;
  if (CudaGraph::why_none_holds(program) != wire::WhyStream::None) return nullptr;
  auto graph = std::make_unique<CudaGraph>(device_, *this, program);
  if (!allocate(*graph)) {
    graph->state_.store(CudaGraph::State::Failed, std::memory_order_release);
    return graph;
  }
  again(*graph);
  return graph;
}

void CudaGraphBuilder::again(CudaGraph& graph) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(&graph);
  }
  changed_.notify_all();
}

bool CudaGraphBuilder::allocate(CudaGraph& graph) {
  auto host = device_.allocate_host(sizeof(CudaGraph::HostWords));
  if (!host) return false;
  graph.host_ = *std::move(host);
  if (!graph.loops_) return true;
  auto iteration = device_.allocate(sizeof(std::uint64_t));
  if (!iteration) return false;
  graph.iteration_ = *std::move(iteration);
  return device_.driver().MemsetD8Async(graph.iteration_.address(), 0, sizeof(std::uint64_t),
                                        stream_) == CUDA_SUCCESS;
}

void CudaGraphBuilder::forget(CudaGraph& graph) {
  std::unique_lock lock(mutex_);
  waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &graph), waiting_.end());
  changed_.wait(lock, [&] { return building_ != &graph; });
}

void CudaGraphBuilder::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    std::unique_lock<std::shared_mutex> no_calls;
    if (waiting_.front()->captures_) {
      // It is not being built yet: who forgets it does not wait for the calls that this waits for.
      lock.unlock();
      no_calls = device_.no_library_calls();
      lock.lock();
      if (ending_) return;
      if (waiting_.empty()) continue;
    }
    building_ = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    building_->build();
    lock.lock();
    building_ = nullptr;
    changed_.notify_all();
  }
}

}  // namespace kaas
