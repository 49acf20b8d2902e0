#include "daemon/executor/device/cuda/cuda_stream.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <utility>

#include "daemon/executor/device/cuda/cuda_graph.h"
#include "daemon/executor/device/cuda/cuda_import.h"
#include "schema/ipc/clock.h"

namespace kaas {
namespace {

constexpr std::size_t kHookErrorBytes = 1024;
// Looks at a run's word between two questions to the driver, which cost 1.6 us each.
constexpr std::uint32_t kLooksPerQuery = 4096;

std::string named(const KernelLaunch& launch) {
  return "kernel '" + launch.function.entry->name + "'";
}

}  // namespace

unsigned launch_attributes(const KernelLaunch& launch, std::span<CUlaunchAttribute> attributes) {
  unsigned count = 0;
  const std::uint32_t* cluster = launch.shape.cluster;
  if (cluster[0] != 1 || cluster[1] != 1 || cluster[2] != 1) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[count].value.clusterDim = {cluster[0], cluster[1], cluster[2]};
    ++count;
  }
  if (launch.cooperative) {
    attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attributes[count].value.cooperative = 1;
    ++count;
  }
  return count;
}

CUresult launch_kernel(const CudaDriver& driver, const KernelLaunch& launch, CUstream stream) {
  std::array<CUlaunchAttribute, 3> attributes{};
  CUlaunchConfig config{};
  const kaas_launch& shape = launch.shape;
  config.gridDimX = shape.grid[0];
  config.gridDimY = shape.grid[1];
  config.gridDimZ = shape.grid[2];
  config.blockDimX = shape.block[0];
  config.blockDimY = shape.block[1];
  config.blockDimZ = shape.block[2];
  config.sharedMemBytes = static_cast<unsigned>(shape.shared_bytes);
  config.hStream = stream;
  config.attrs = attributes.data();
  config.numAttrs = launch_attributes(launch, attributes);
  // The kernel before it in the stream is not always one that it comes behind. But a programmatic
  // one that does not wait is against the rules, so what has ended had all before it ended, too.
  if ((launch.programmatic || launch.waits_first) && !launch.after.empty()) {
    attributes[config.numAttrs].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes[config.numAttrs].value.programmaticStreamSerializationAllowed = 1;
    ++config.numAttrs;
  }
  return driver.LaunchKernelEx(&config, static_cast<CUfunction>(launch.function.native),
                               const_cast<void**>(launch.params), nullptr);
}

Result<void> call_opaque(const KernelLaunch& launch, void* const* params, CUstream stream) {
  char error[kHookErrorBytes] = "";
  int outcome = 0;
  try {
    outcome = launch.function.entry->opaque(&launch.shape, params, stream, launch.shape.context,
                                            error, sizeof error);
  } catch (const std::exception& failure) {
    return Status{StatusCode::KernelFault,
                  named(launch) + " threw an exception: " + failure.what()};
  } catch (...) {
    return Status{StatusCode::KernelFault, named(launch) + " threw an exception"};
  }
  if (outcome == 0) return {};
  error[sizeof error - 1] = '\0';
  return Status{StatusCode::KernelFault,
                named(launch) + " failed (" + std::to_string(outcome) + "): " + error};
}

// --- Opening -------------------------------------------------------------------------------------

Result<std::unique_ptr<CudaStream>> CudaStream::open(CudaDevice& device) {
  std::unique_ptr<CudaStream> stream(new CudaStream(device));
  KAAS_ASSIGN_OR_RETURN(stream->word_, device.allocate_host(sizeof(std::uint32_t)));
  return stream;
}

CudaStream::~CudaStream() {
  device_.enter();
  for (CUevent event : marks_) {
    if (event != nullptr) driver_.EventDestroy(event);
  }
  if (order_ != nullptr) driver_.EventDestroy(order_);
}

Result<void> CudaStream::follow(DeviceStream& earlier) {
  const LentStreamRef& other = static_cast<CudaStream&>(earlier).lent_;
  if (other != nullptr) followed_.push_back(other);  // Else all of it is done.
  return {};
}

Result<void> CudaStream::wait_for(const LentStream& other) {
  device_.enter();
  CUresult result = CUDA_SUCCESS;
  if (order_ == nullptr) result = driver_.EventCreate(&order_, CU_EVENT_DISABLE_TIMING);
  if (result == CUDA_SUCCESS) result = driver_.EventRecord(order_, other.get());
  if (result == CUDA_SUCCESS) result = driver_.StreamWaitEvent(stream_, order_, 0);
  if (result == CUDA_SUCCESS) return {};
  return device_.failed(result, "ordering a run behind an earlier one");
}

// --- Copies --------------------------------------------------------------------------------------

Result<void> CudaStream::copy_to_device(DeviceAddress to, std::span<const std::byte> from) {
  KAAS_RETURN_IF_ERROR(enter());
  for (std::size_t done = 0; done < from.size();) {
    const std::byte* begin = from.data() + done;
    const auto piece =
        static_cast<std::size_t>(device_.next_piece(begin, from.data() + from.size()) - begin);
    const CUresult result = driver_.MemcpyHtoDAsync(to + done, begin, piece, stream_);
    if (result != CUDA_SUCCESS) {
      return device_.failed(result,
                            "copying " + std::to_string(from.size()) + " bytes to the device");
    }
    done += piece;
  }
  return {};
}

Result<void> CudaStream::copy_to_host(std::span<std::byte> to, DeviceAddress from) {
  KAAS_RETURN_IF_ERROR(enter());
  for (std::size_t done = 0; done < to.size();) {
    std::byte* begin = to.data() + done;
    const auto piece =
        static_cast<std::size_t>(device_.next_piece(begin, to.data() + to.size()) - begin);
    const CUresult result = driver_.MemcpyDtoHAsync(begin, from + done, piece, stream_);
    if (result != CUDA_SUCCESS) {
      return device_.failed(result,
                            "copying " + std::to_string(to.size()) + " bytes from the device");
    }
    done += piece;
  }
  return {};
}

Result<void> CudaStream::copy(DeviceAddress to, DeviceAddress from, std::uint64_t bytes) {
  KAAS_RETURN_IF_ERROR(enter());
  const CUresult result = driver_.MemcpyAsync(to, from, bytes, stream_);
  if (result == CUDA_SUCCESS) return {};
  return device_.failed(result, "copying " + std::to_string(bytes) + " bytes on the device");
}

Result<void> CudaStream::zero(DeviceAddress to, std::uint64_t bytes) {
  KAAS_RETURN_IF_ERROR(enter());
  const CUresult result = driver_.MemsetD8Async(to, 0, bytes, stream_);
  if (result == CUDA_SUCCESS) return {};
  return device_.failed(result, "zeroing " + std::to_string(bytes) + " bytes of the device");
}

Result<void> CudaStream::wait_event(ImportedEvent& event) {
  KAAS_RETURN_IF_ERROR(enter());
  const CUresult result =
      driver_.StreamWaitEvent(stream_, static_cast<ImportedCudaEvent&>(event).get(), 0);
  if (result == CUDA_SUCCESS) return {};
  return device_.failed(result, "waiting for a client's event");
}

Result<void> CudaStream::record_event(ImportedEvent& event) {
  KAAS_RETURN_IF_ERROR(enter());
  const CUresult result =
      driver_.EventRecord(static_cast<ImportedCudaEvent&>(event).get(), stream_);
  if (result == CUDA_SUCCESS) return {};
  return device_.failed(result, "recording a client's event");
}

// --- Programs ------------------------------------------------------------------------------------

namespace {

wire::WhyStream why_no_graph(const KernelProgram& program) {
  const wire::WhyStream why = CudaGraph::why_none_holds(program);
  return why == wire::WhyStream::None ? wire::WhyStream::FirstUse : why;
}

}  // namespace

Result<void> CudaStream::launch(const KernelProgram& program) {
  KAAS_RETURN_IF_ERROR(enter());
  counts_ = {};
  iterations_ = nullptr;
  signal_ = nullptr;
  doing_ = program.launches;
  auto* graph = static_cast<CudaGraph*>(program.prepared);
  counts_.why = graph != nullptr ? graph->why_not(program) : why_no_graph(program);
  if (lent_->confined()) counts_.why = wire::WhyStream::Background;
  if (counts_.why == wire::WhyStream::None) return launch_graph(*graph, program);
  if (counts_.why == wire::WhyStream::Addresses) graph->capture_again(program);
  counts_.way = wire::RunWay::Stream;
  if (!program.before.empty()) KAAS_RETURN_IF_ERROR(launch_moves(program.before, false));
  KAAS_RETURN_IF_ERROR(program.until == 0 ? launch_each(program, program.n_iter)
                                          : launch_until(program));
  return finish_program(program);
}

Result<void> CudaStream::launch_graph(CudaGraph& graph, const KernelProgram& program) {
  if (!graph.whole() && !program.before.empty()) {
    KAAS_RETURN_IF_ERROR(launch_moves(program.before, false));
  }
  KAAS_ASSIGN_OR_RETURN(const GraphRun run, graph.launch(program, stream_));
  counts_.way = wire::RunWay::Graph;
  counts_.iterations = run.iterations;
  counts_.launches = run.iterations * program.launches.size();
  iterations_ = run.counted;
  if (iterations_ != nullptr) counts_.launches = program.launches.size();  // Of one of them.
  if (graph.whole()) {
    if (program.last && !timed_) signal_ = run.signal;
    return {};
  }
  KAAS_RETURN_IF_ERROR(launch_each(program, program.n_iter - run.iterations));
  return finish_program(program);
}

// What a whole graph has in its last node.
Result<void> CudaStream::finish_program(const KernelProgram& program) {
  if (program.behind.empty() && !program.last) return {};
  return launch_moves(program.behind, program.last && !timed_);
}

Result<void> CudaStream::launch_moves(std::span<const Move> moves, bool signals) {
  MoveTable table{};
  fill_table(moves, table);
  auto* word = reinterpret_cast<std::uint32_t*>(word_.address());  // NOLINT
  std::uint32_t value = 1;
  void* params[] = {&table, &word, &value};
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = moves.empty() ? 1 : kMoveThreads;
  config.blockDimY = config.blockDimZ = 1;
  config.hStream = stream_;
  if (signals) std::atomic_ref(*word).store(0, std::memory_order_relaxed);
  const CUresult result = driver_.LaunchKernelEx(
      &config, signals ? device_.end_run() : device_.begin_run(), params, nullptr);
  if (result != CUDA_SUCCESS) return device_.failed(result, "moving inputs or outputs of a run");
  if (signals) signal_ = word;
  return {};
}

Result<void> CudaStream::launch_each(const KernelProgram& program, std::uint64_t iterations) {
  if (iterations_ != nullptr) return {};
  for (std::uint64_t i = 0; i < iterations; ++i) {
    for (const KernelLaunch& launch : program.launches) {
      ++counts_.launches;
      const KernelEntry& entry = *launch.function.entry;
      if (entry.opaque != nullptr) {
        KAAS_RETURN_IF_ERROR(launch_opaque(launch, program));
        continue;
      }
      if (entry.original != nullptr) {
        KAAS_RETURN_IF_ERROR(launch_original(launch, program));
        continue;
      }
      if (entry.variable != 0) {
        KAAS_RETURN_IF_ERROR(set_variable(launch));
        continue;
      }
      const CUresult result = launch_kernel(driver_, launch, stream_);
      if (result != CUDA_SUCCESS) return device_.failed(result, "launching " + named(launch));
    }
    ++counts_.iterations;
  }
  return {};
}

Result<void> CudaStream::set_variable(const KernelLaunch& launch) {
  const KernelEntry& entry = *launch.function.entry;
  DeviceAddress from = 0;
  std::memcpy(&from, launch.params[0], sizeof from);
  const CUresult result = driver_.MemcpyAsync(entry.variable, from, entry.variable_bytes, stream_);
  if (result == CUDA_SUCCESS) return {};
  return device_.failed(result, "setting a variable by " + named(launch));
}

// The caller sees to it that this blocks nobody else: a worker runs it.
Result<void> CudaStream::launch_until(const KernelProgram& program) {
  for (std::uint64_t i = 0; i < program.n_iter; ++i) {
    KAAS_RETURN_IF_ERROR(launch_each(program, 1));
    std::uint32_t stop = 0;
    KAAS_RETURN_IF_ERROR(copy_to_host(std::as_writable_bytes(std::span(&stop, 1)), program.until));
    KAAS_RETURN_IF_ERROR(wait());
    if (stop != 0) break;
  }
  return {};
}

Result<void> CudaStream::launch_opaque(const KernelLaunch& launch, const KernelProgram& program) {
  const RunTagScope tag(program.tag, program.tag_end);
  const auto call = device_.library_call();
  auto outcome = call_opaque(launch, launch.params, stream_);
  device_.enter_again();
  return outcome;
}

// The original form launches on the legacy stream, which must wait for ours and ours for it.
Result<void> CudaStream::launch_original(const KernelLaunch& launch, const KernelProgram& program) {
  const auto step = [&](CUresult result) -> Result<void> {
    if (result == CUDA_SUCCESS) return {};
    return device_.failed(result, "ordering " + named(launch) + " behind what comes before it");
  };
  if (order_ == nullptr) {
    KAAS_RETURN_IF_ERROR(step(driver_.EventCreate(&order_, CU_EVENT_DISABLE_TIMING)));
  }
  KAAS_RETURN_IF_ERROR(step(driver_.EventRecord(order_, stream_)));
  KAAS_RETURN_IF_ERROR(step(driver_.StreamWaitEvent(CU_STREAM_LEGACY, order_, 0)));
  const auto call = device_.library_call();
  Result<void> outcome;
  {
    const RunTagScope tag(program.tag, program.tag_end);
    try {
      launch.function.entry->original(static_cast<int>(launch.shape.grid[0]),
                                      static_cast<int>(launch.shape.block[0]),
                                      static_cast<void**>(launch.params[0]));
    } catch (...) {
      outcome = Status{StatusCode::KernelFault, named(launch) + " threw an exception"};
    }
  }
  // In any case: what it has launched uses the run's memory.
  device_.enter_again();
  KAAS_RETURN_IF_ERROR(step(driver_.EventRecord(order_, CU_STREAM_LEGACY)));
  KAAS_RETURN_IF_ERROR(step(driver_.StreamWaitEvent(stream_, order_, 0)));
  return outcome;
}

// --- Time and completion -------------------------------------------------------------------------

// Something to enqueue on. Kept until all of it is done.
Result<void> CudaStream::enter() {
  device_.enter();
  if (lent_ != nullptr) return {};
  KAAS_ASSIGN_OR_RETURN(lent_, device_.streams(background_).take());
  stream_ = lent_->get();
  return {};
}

// One that is followed lends its stream; others are waited for by events.
Result<void> CudaStream::begin(bool timed, bool background) {
  lent_.reset();
  has_ended_ = false;
  doing_ = {};
  signal_ = nullptr;
  timed_ = timed;
  background_ = background;
  begin_ns_ = now_ns();
  if (timed_ && marks_[0] == nullptr) make_marks();
  for (const LentStreamRef& other : followed_) {
    if (lent_ != nullptr || other->confined() != background) continue;
    lent_ = other;
    stream_ = lent_->get();
  }
  for (const LentStreamRef& other : std::exchange(followed_, {})) {
    if (lent_ == other) continue;
    KAAS_RETURN_IF_ERROR(enter());
    KAAS_RETURN_IF_ERROR(wait_for(*other));
  }
  return {};
}

void CudaStream::make_marks() {
  device_.enter();
  for (CUevent& event : marks_) {
    if (driver_.EventCreate(&event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) timed_ = false;
  }
}

// With times wanted, the run ends behind its last mark.
Result<void> CudaStream::end() {
  looks_ = 0;
  has_ended_ = true;
  KAAS_RETURN_IF_ERROR(enter());
  return signal_ != nullptr ? Result<void>() : launch_moves({}, true);
}

void CudaStream::mark(StreamMark mark) {
  if (!timed_) return;
  CUevent event = marks_[static_cast<std::size_t>(mark)];
  timed_ = enter().has_value() && driver_.EventRecord(event, stream_) == CUDA_SUCCESS;
}

std::uint64_t CudaStream::between_ns(StreamMark begin, StreamMark end) const {
  if (!timed_) return end == StreamMark::Computed ? end_ns_ - begin_ns_ : 0;
  float milliseconds = 0;
  const CUresult result =
      driver_.EventElapsedTime(&milliseconds, marks_[static_cast<std::size_t>(begin)],
                               marks_[static_cast<std::size_t>(end)]);
  return result == CUDA_SUCCESS ? static_cast<std::uint64_t>(double{milliseconds} * 1e6) : 0;
}

ProgramCounts CudaStream::counts() const {
  ProgramCounts counts = counts_;
  if (iterations_ != nullptr) {
    counts.iterations = *iterations_;
    counts.launches *= counts.iterations;
  }
  return counts;
}

Result<bool> CudaStream::poll() {
  if (signal_ != nullptr) {
    // Partner: the release in the kernel `signal`.
    if (std::atomic_ref(*const_cast<std::uint32_t*>(signal_)).load(std::memory_order_acquire) !=
        0) {
      KAAS_RETURN_IF_ERROR(idle(CUDA_SUCCESS));
      return true;
    }
    if (++looks_ % kLooksPerQuery != 0) return false;
  }
  if (lent_ == nullptr) return true;
  device_.enter();
  const CUresult result = driver_.StreamQuery(stream_);
  if (result == CUDA_ERROR_NOT_READY) return false;
  KAAS_RETURN_IF_ERROR(idle(result));
  return true;
}

Result<void> CudaStream::wait() {
  if (lent_ == nullptr) return {};
  device_.enter();
  return idle(driver_.StreamSynchronize(stream_));
}

Result<void> CudaStream::idle(CUresult result) {
  end_ns_ = now_ns();
  if (result != CUDA_SUCCESS) {
    return device_.failed(result, "running " + what_it_does() + " on " + device_.limits().name);
  }
  if (has_ended_) lent_.reset();  // Else more of the run comes behind what is done.
  return {};
}

std::string CudaStream::what_it_does() const {
  if (doing_.empty()) return "a copy";
  if (doing_.size() == 1) return named(doing_.front());
  return "one of " + std::to_string(doing_.size()) + " kernels";
}

}  // namespace kaas
