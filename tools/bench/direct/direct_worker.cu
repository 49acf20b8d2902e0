#include "tools/bench/direct/direct_worker.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "tools/bench/direct/cuda_handles.h"
#include "tools/bench/kernels/bench_kernels.h"
#include "tools/bench/worker.h"

namespace kaas {
namespace {

constexpr std::size_t kPattern = 1024;

float input_value(float seed, std::size_t index) {
  return seed + static_cast<float>(index % kPattern);
}

// A workload that is ready to run.
struct Job {
  Workload workload;
  std::uint64_t floats = kSmallFloats;
  // Device memory: pairs that take turns. In and out of payloads: host memory, pinned.
  std::vector<DeviceArray<float>> inputs;
  std::vector<DeviceArray<float>> outputs;
  PinnedArray<float> host_input;
  PinnedArray<float> host_output;
  DeviceArray<uint64_t> taken_ns;
  OwnedGraphExec graph;  // Of a round, where rounds are graphs.
  std::size_t runs = 0;  // Since open().
  float seed = 0;
};

bool has_payload(const Job& job) {
  return job.workload.kind == Workload::Kind::Payload || job.workload.kind == Workload::Kind::Input;
}

std::string allocate_job(Job& job) {
  if (job.workload.kind == Workload::Kind::Null) return {};
  if (job.workload.kind == Workload::Kind::Busy) {
    return allocate(job.taken_ns, job.workload.blocks);
  }
  if (has_payload(job)) job.floats = job.workload.amount / sizeof(float);
  std::string error;
  for (std::uint64_t i = 0; i < job.workload.buffers && error.empty(); ++i) {
    error = allocate(job.inputs.emplace_back(), job.floats);
    if (error.empty()) error = allocate(job.outputs.emplace_back(), job.floats);
  }
  if (error.empty()) error = allocate(job.host_input, job.floats);
  if (error.empty()) error = allocate(job.host_output, job.floats);
  return error;
}

class DirectWorker final : public LocalWorker {
 public:
  DirectWorker(OwnedStream stream, bool graphs) : stream_(std::move(stream)), graphs_(graphs) {}

  std::string open(const Workload& workload, float seed) override {
    const auto [known, is_new] = jobs_.try_emplace(to_word(workload));
    job_ = &known->second;
    if (is_new) {
      job_->workload = workload;
      std::string error = allocate_job(*job_);
      if (error.empty() && graphs_) error = record(*job_);
      if (!error.empty()) {
        jobs_.erase(known);
        return error;
      }
    }
    job_->runs = 0;
    job_->seed = seed;
    return fill(*job_);
  }

  std::string run() override {
    cudaError_t status = start_round();
    if (status == cudaSuccess && !graphs_) status = cudaStreamSynchronize(stream_.get());
    if (status == cudaSuccess && graphs_) {
      while ((status = cudaStreamQuery(stream_.get())) == cudaErrorNotReady) {
      }
    }
    return status == cudaSuccess ? std::string() : cuda_text("a round", status);
  }

  // Rounds on one stream end in order; an event says that one has.
  std::string submit() override {
    cudaError_t status = cudaSuccess;
    if (idle_events_.empty()) {
      cudaEvent_t event = nullptr;
      status = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
      idle_events_.emplace_back(event);
    }
    if (status == cudaSuccess) status = start_round();
    if (status == cudaSuccess) status = cudaEventRecord(idle_events_.back().get(), stream_.get());
    under_way_.push_back(std::move(idle_events_.back()));
    idle_events_.pop_back();
    return status == cudaSuccess ? std::string() : cuda_text("a round", status);
  }

  std::string take_oldest() override {
    const cudaError_t status = cudaEventSynchronize(under_way_.front().get());
    idle_events_.push_back(std::move(under_way_.front()));
    under_way_.pop_front();
    return status == cudaSuccess ? std::string() : cuda_text("a round", status);
  }

  std::string check() override {
    Job& job = *job_;
    if (job.workload.kind == Workload::Kind::Null) return {};
    if (job.workload.kind == Workload::Kind::Busy) return check_busy(job);
    const std::size_t used = std::min<std::size_t>(job.runs, job.workload.buffers);
    for (std::size_t i = 0; i < used; ++i) {
      if (std::string error = check_pair(job, i); !error.empty()) return error;
    }
    return {};
  }

  std::string memory(std::uint64_t& used_bytes) override {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    const std::string error =
        cuda_text("cudaMemGetInfo", cudaMemGetInfo(&free_bytes, &total_bytes));
    used_bytes = total_bytes - free_bytes;
    return error;
  }

  HostBytes input() override {
    if (!has_payload(*job_)) return {nullptr, 0};
    return {job_->host_input.get(), job_->floats * sizeof(float)};
  }
  HostBytes output() override {
    if (!has_payload(*job_)) return {nullptr, 0};
    return {job_->host_output.get(), job_->floats * sizeof(float)};
  }

 private:
  std::string fill(Job& job) {
    if (job.inputs.empty()) return {};
    for (std::uint64_t i = 0; i < job.floats; ++i) job.host_input[i] = input_value(job.seed, i);
    std::memset(job.host_output.get(), 0, job.floats * sizeof(float));
    for (std::size_t i = 0; i < job.inputs.size(); ++i) {
      cudaError_t status = cudaMemset(job.outputs[i].get(), 0, job.floats * sizeof(float));
      // The input of payloads gets there within the rounds.
      if (status == cudaSuccess && !has_payload(job)) {
        status = cudaMemcpy(job.inputs[i].get(), job.host_input.get(), job.floats * sizeof(float),
                            cudaMemcpyHostToDevice);
      }
      // The rounds' stream does not wait for the one that this is on.
      if (status == cudaSuccess) status = cudaDeviceSynchronize();
      if (status != cudaSuccess) return cuda_text("filling the buffers", status);
    }
    return {};
  }

  template <auto Kernel>
  cudaError_t launch(std::uint32_t grid, std::uint32_t block, void** arguments) {
    return cudaLaunchKernel(KernelEntry<Kernel>::device_entry(), dim3(grid), dim3(block), arguments,
                            0, stream_.get());
  }

  // What a round is, as a graph.
  std::string record(Job& job) {
    if (job.workload.buffers > 1) return "buffers that take turns are not offered with graphs";
    cudaGraph_t recorded = nullptr;
    cudaGraphExec_t made = nullptr;
    cudaError_t status = cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal);
    if (status == cudaSuccess) {
      const cudaError_t enqueued = enqueue(job, 0);
      status = cudaStreamEndCapture(stream_.get(), &recorded);
      if (enqueued != cudaSuccess) status = enqueued;
    }
    const OwnedGraph graph(recorded);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&made, graph.get(), 0);
    job.graph.reset(made);
    return cuda_text("recording a graph", status);
  }

  cudaError_t start_round() {
    Job& job = *job_;
    const std::size_t turn = job.runs++ % job.workload.buffers;
    return job.graph ? cudaGraphLaunch(job.graph.get(), stream_.get()) : enqueue(job, turn);
  }

  cudaError_t enqueue(Job& job, std::size_t turn) {
    switch (job.workload.kind) {
      case Workload::Kind::Chain:
        return enqueue_chain(job, turn);
      case Workload::Kind::Payload:
        return enqueue_payload(job);
      case Workload::Kind::Input:
        return cudaMemcpyAsync(job.inputs[0].get(), job.host_input.get(), job.workload.amount,
                               cudaMemcpyHostToDevice, stream_.get());
      case Workload::Kind::Busy:
        return enqueue_busy(job);
      case Workload::Kind::Null:
        return launch<&nothing>(1, 1, nullptr);
    }
    return cudaErrorInvalidValue;
  }

  cudaError_t enqueue_chain(Job& job, std::size_t turn) {
    uint64_t count = kSmallFloats;
    const float* in = job.inputs[turn].get();
    float* out = job.outputs[turn].get();
    const float* made = out;
    void* first[] = {&count, &in, &out};
    void* later[] = {&count, &made, &out};
    cudaError_t status = launch<&increment>(1, kSmallBlock, first);
    for (std::uint64_t i = 1; i < job.workload.amount && status == cudaSuccess; ++i) {
      status = launch<&increment>(1, kSmallBlock, later);
    }
    return status;
  }

  cudaError_t enqueue_payload(Job& job) {
    const std::size_t bytes = job.workload.amount;
    const float* in = job.inputs[0].get();
    float* out = job.outputs[0].get();
    uint64_t count = job.floats;
    float factor = kFactor;
    void* arguments[] = {&count, &factor, &in, &out};
    cudaError_t status = cudaMemcpyAsync(job.inputs[0].get(), job.host_input.get(), bytes,
                                         cudaMemcpyHostToDevice, stream_.get());
    if (status == cudaSuccess) {
      status = launch<&multiply>(payload_grid(job.floats), kPayloadBlock, arguments);
    }
    if (status != cudaSuccess) return status;
    return cudaMemcpyAsync(job.host_output.get(), out, bytes, cudaMemcpyDeviceToHost,
                           stream_.get());
  }

  cudaError_t enqueue_busy(Job& job) {
    uint64_t duration_ns = job.workload.amount;
    uint64_t* taken_ns = job.taken_ns.get();
    void* arguments[] = {&duration_ns, &taken_ns};
    return launch<&busy>(static_cast<std::uint32_t>(job.workload.blocks), kBusyBlock, arguments);
  }

  std::string check_busy(Job& job) {
    uint64_t taken_ns = 0;
    const cudaError_t status =
        cudaMemcpy(&taken_ns, job.taken_ns.get(), sizeof taken_ns, cudaMemcpyDeviceToHost);
    if (status != cudaSuccess) return cuda_text("reading the result", status);
    if (taken_ns >= job.workload.amount) return {};
    return "the kernel took " + std::to_string(taken_ns) + " ns";
  }

  // Of a payload, host_output has the result already.
  std::string check_pair(Job& job, std::size_t pair) {
    float factor = kFactor;
    float added = 0;
    const float* result = nullptr;
    if (job.workload.kind == Workload::Kind::Chain) {
      factor = 1;
      added = static_cast<float>(job.workload.amount);
      result = job.outputs[pair].get();
    } else if (job.workload.kind == Workload::Kind::Input) {
      factor = 1;
      result = job.inputs[pair].get();
    }
    if (result != nullptr) {
      const cudaError_t status = cudaMemcpy(job.host_output.get(), result,
                                            job.floats * sizeof(float), cudaMemcpyDeviceToHost);
      if (status != cudaSuccess) return cuda_text("reading the result", status);
    }
    for (std::uint64_t i = 0; i < job.floats; ++i) {
      if (job.host_output[i] == input_value(job.seed, i) * factor + added) continue;
      return "element " + std::to_string(i) + " of " + to_word(job.workload) + " is " +
             std::to_string(job.host_output[i]);
    }
    return {};
  }

  OwnedStream stream_;
  const bool graphs_;
  std::map<std::string, Job> jobs_;  // Its graphs end before the stream.
  Job* job_ = nullptr;
  std::deque<OwnedEvent> under_way_;
  std::vector<OwnedEvent> idle_events_;
};

std::string describe_device(std::string& description) {
  cudaDeviceProp properties{};
  int driver = 0;
  cudaError_t status = cudaGetDeviceProperties(&properties, 0);
  if (status == cudaSuccess) status = cudaDriverGetVersion(&driver);
  if (status != cudaSuccess) return cuda_text("describing the device", status);
  description = std::string(properties.name) + ", CUDA driver " + std::to_string(driver / 1000) +
                "." + std::to_string(driver % 1000 / 10);
  return {};
}

}  // namespace

std::unique_ptr<LocalWorker> make_direct_worker(const DirectOptions& options,
                                                std::string& description, std::string& error) {
  cudaStream_t stream = nullptr;
  // Waits look all the time, as clients of kaasd do in most measurements, or sleep.
  error = cuda_text("cudaSetDeviceFlags",
                    cudaSetDeviceFlags(options.blocking ? cudaDeviceScheduleBlockingSync
                                                        : cudaDeviceScheduleSpin));
  if (error.empty()) error = cuda_text("cudaSetDevice", cudaSetDevice(0));
  if (error.empty()) {
    error =
        cuda_text("cudaStreamCreate", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  OwnedStream owned(stream);
  if (error.empty()) error = describe_device(description);
  if (!error.empty()) return nullptr;
  return std::make_unique<DirectWorker>(std::move(owned), options.graph);
}

}  // namespace kaas
