#include "tools/bench/client_worker.h"

#include <kaas/client.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "schema/ipc/clock.h"
#include "schema/ipc/result.h"
#include "tools/bench/peer.h"
#include "tools/bench/worker.h"

namespace kaas {
namespace {

constexpr std::uint64_t kSmallBytes = kSmallFloats * sizeof(float);
constexpr std::size_t kPattern = 1024;
constexpr std::uint64_t kLaneNs = 1'000'000'000;

std::span<float> floats_of(const Buffer& buffer) {
  return {reinterpret_cast<float*>(buffer.data()), buffer.size() / sizeof(float)};
}

// Values whose sums and products with what the kernels use are exact.
float input_value(float seed, std::size_t index) {
  return seed + static_cast<float>(index % kPattern);
}

// A workload that is ready to run: its plan, and the memory that takes turns.
struct Job {
  Workload workload;
  bool on_device = false;        // A chain on scratch memory.
  std::vector<Buffer> inputs;    // None: busy, null, on the device.
  std::vector<Buffer> outputs;   // None: null, on the device.
  std::vector<Plan> plan;        // One, if its runs have options: not bound, to its first pair.
  std::vector<BoundPlan> plans;  // Else: one a pair.
  std::size_t runs = 0;          // Since open().
  float seed = 0;
};

// Of the client's memory.
std::uint64_t input_bytes(const Job& job) {
  const Workload& workload = job.workload;
  if (job.on_device) return 0;
  switch (workload.kind) {
    case Workload::Kind::Chain:
      return kSmallBytes;
    case Workload::Kind::Payload:
    case Workload::Kind::Input:
      return workload.amount;
    case Workload::Kind::Busy:
    case Workload::Kind::Null:
      break;
  }
  return 0;
}

std::uint64_t output_bytes(const Job& job) {
  const Workload& workload = job.workload;
  if (job.on_device) return 0;
  switch (workload.kind) {
    case Workload::Kind::Payload:
      return workload.amount;
    case Workload::Kind::Chain:
    case Workload::Kind::Input:
      return kSmallBytes;
    case Workload::Kind::Busy:
      return workload.blocks * sizeof(std::uint64_t);
    case Workload::Kind::Null:
      break;
  }
  return 0;
}

KernelBuilder increment(RequestBuilder& builder) {
  KernelBuilder kernel = builder.kernel(kBenchLibrary, "increment");
  kernel.grid(1).block(kSmallBlock).literal(std::uint64_t{kSmallFloats});
  return kernel;
}

void add_increment(RequestBuilder& builder, const char* in, const char* out) {
  increment(builder).in(in).out(out);
}

// So many increments from "in" to "out", in memory that only this request sees. The first reads
// what is there, as a temporary: an input would be brought.
void add_scratch_chain(RequestBuilder& builder, std::uint64_t kernels) {
  builder.buffer("in", kSmallBytes).ephemeral();
  builder.buffer("out", kSmallBytes).ephemeral();
  increment(builder).temporary("in").out("out");
  for (std::uint64_t i = 1; i < kernels; ++i) add_increment(builder, "out", "out");
}

void add_multiply(RequestBuilder& builder, std::uint64_t bytes, const char* out) {
  const std::uint64_t floats = bytes / sizeof(float);
  builder.kernel(kBenchLibrary, "multiply")
      .grid(payload_grid(floats))
      .block(kPayloadBlock)
      .literal(floats)
      .literal(kFactor)
      .in("in")
      .out(out);
}

Result<Request> request_of(const Job& job) {
  const Workload& workload = job.workload;
  RequestBuilder builder;
  if (job.on_device) {
    add_scratch_chain(builder, workload.amount);
    return builder.build();
  }
  if (!job.inputs.empty()) builder.buffer("in", input_bytes(job)).in(job.inputs[0]);
  if (!job.outputs.empty()) builder.buffer("out", output_bytes(job)).in(job.outputs[0]);
  switch (workload.kind) {
    case Workload::Kind::Chain:
      for (std::uint64_t i = 0; i < workload.amount; ++i) {
        add_increment(builder, i == 0 ? "in" : "out", "out");
      }
      break;
    case Workload::Kind::Payload:
      add_multiply(builder, workload.amount, "out");
      break;
    case Workload::Kind::Input:
      // What the kernel makes of all the bytes stays on the device; 256 of them come back.
      builder.buffer("made", workload.amount).ephemeral();
      add_multiply(builder, workload.amount, "made");
      add_increment(builder, "made", "out");
      break;
    case Workload::Kind::Busy:
      builder.kernel(kBenchLibrary, "busy")
          .grid(static_cast<std::uint32_t>(workload.blocks))
          .block(kBusyBlock)
          .literal(workload.amount)
          .out("out");
      break;
    case Workload::Kind::Null:
      builder.kernel(kBenchLibrary, "nothing");
      break;
  }
  return builder.build();
}

// What an output must hold at `index`.
float expected_value(const Job& job, std::size_t index) {
  const float in = input_value(job.seed, index);
  switch (job.workload.kind) {
    case Workload::Kind::Chain:
      return in + static_cast<float>(job.workload.amount);
    case Workload::Kind::Payload:
      return in * kFactor;
    case Workload::Kind::Input:
      return in * kFactor + 1;
    case Workload::Kind::Busy:
    case Workload::Kind::Null:
      break;
  }
  return 0;
}

// Whether a chain on scratch memory does what it should: the same kernels, with one before that
// fills the memory from the client's, and one behind that brings the result out.
Result<void> verify_scratch_chain(Client& client, std::uint64_t kernels) {
  KAAS_ASSIGN_OR_RETURN(const Buffer given, client.allocate(kSmallBytes));
  KAAS_ASSIGN_OR_RETURN(const Buffer result, client.allocate(kSmallBytes));
  const std::span<float> values = floats_of(given);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = input_value(1, i);
  RequestBuilder builder;
  builder.buffer("given", kSmallBytes).in(given);
  builder.buffer("result", kSmallBytes).in(result);
  add_increment(builder, "given", "in");
  add_scratch_chain(builder, kernels);
  add_increment(builder, "out", "result");
  KAAS_ASSIGN_OR_RETURN(const Request request, builder.build());
  KAAS_RETURN_IF_ERROR(client.run(request));
  const std::span<const float> found = floats_of(result);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const float expected = input_value(1, i) + static_cast<float>(kernels + 2);
    if (found[i] == expected) continue;
    return Status{StatusCode::Internal, "element " + std::to_string(i) + " of a chain of " +
                                            std::to_string(kernels) + " on scratch memory is " +
                                            std::to_string(found[i]) + ", expected " +
                                            std::to_string(expected)};
  }
  return {};
}

// Whether a run of the plan has launched so many kernels, and moved nothing.
Result<void> verify_launches(const Plan& plan, std::uint64_t kernels) {
  RunOptions profiled;
  profiled.profile = true;
  KAAS_ASSIGN_OR_RETURN(const Reply reply, plan.run({}, profiled));
  if (!reply.profile) return Status{StatusCode::Internal, "the answer has no profile"};
  const Counters& counters = reply.profile->counters;
  const std::uint64_t moved = counters.host_to_device_bytes + counters.device_to_host_bytes;
  if (counters.launches == kernels && moved == 0) return {};
  return Status{StatusCode::Internal, "a chain of " + std::to_string(kernels) +
                                          " on scratch memory launched " +
                                          std::to_string(counters.launches) +
                                          " kernels and moved " + std::to_string(moved) + " bytes"};
}

std::string check_output(const Job& job, const Buffer& output) {
  if (job.workload.kind == Workload::Kind::Busy) {
    std::uint64_t taken_ns = 0;
    std::memcpy(&taken_ns, output.data(), sizeof taken_ns);
    if (taken_ns >= job.workload.amount) return {};
    return "the kernel took " + std::to_string(taken_ns) + " ns, at least " +
           std::to_string(job.workload.amount) + " were asked for";
  }
  const std::span<const float> found = floats_of(output);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected_value(job, i)) continue;
    return "element " + std::to_string(i) + " of the output of " + to_word(job.workload) + " is " +
           std::to_string(found[i]) + ", expected " + std::to_string(expected_value(job, i));
  }
  return {};
}

class ClientWorker final : public Worker {
 public:
  ClientWorker(Client client, const ClientWorkerOptions& how)
      : client_(std::move(client)),
        needs_lane_(how.way == ClientWorkerOptions::Way::Lane),
        chains_on_device_(how.chains == ClientWorkerOptions::Chains::Device) {
    options_.priority = how.priority;
  }

  std::string open(const Workload& workload, float seed) override {
    const std::string name = to_word(workload);
    auto known = jobs_.find(name);
    if (known == jobs_.end()) {
      Result<Job> made = make(workload);
      if (!made) return to_string(made.error());
      known = jobs_.emplace(name, std::move(*made)).first;
    }
    job_ = &known->second;
    job_->runs = 0;
    job_->seed = seed;
    under_way_.clear();
    for (const Buffer& input : job_->inputs) {
      const std::span<float> values = floats_of(input);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = input_value(seed, i);
    }
    for (const Buffer& output : job_->outputs) std::memset(output.data(), 0, output.size());
    return {};
  }

  std::string run() override {
    const Result<Reply> reply = job_->plan.empty() ? next_plan().run() : run_with_options();
    return reply ? std::string() : to_string(reply.error());
  }

  std::string submit() override {
    under_way_.push_back(job_->plan.empty() ? next_plan().submit()
                                            : job_->plan.front().submit({}, options_));
    return {};
  }

  std::string take_oldest() override {
    const Result<Reply> reply = under_way_.front().get();
    under_way_.pop_front();
    return reply ? std::string() : to_string(reply.error());
  }

  std::string check() override {
    const std::size_t used = std::min(job_->runs, job_->outputs.size());
    for (std::size_t i = 0; i < used; ++i) {
      if (std::string error = check_output(*job_, job_->outputs[i]); !error.empty()) return error;
    }
    return {};
  }

  std::string memory(std::uint64_t&) override { return "a client of kaasd has no device"; }

 private:
  const BoundPlan& next_plan() { return job_->plans[job_->runs++ % job_->plans.size()]; }

  Result<Reply> run_with_options() {
    ++job_->runs;
    return job_->plan.front().run({}, options_);
  }

  // Until each plan has been granted a lane. Unavailable: not within a second.
  static Result<void> await_lanes(const Job& job) {
    const std::uint64_t give_up_ns = now_ns() + kLaneNs;
    for (const BoundPlan& plan : job.plans) {
      while (!plan.has_lane()) {
        if (now_ns() > give_up_ns) return Status{StatusCode::Unavailable, "no lane was granted"};
        KAAS_RETURN_IF_ERROR(plan.run());
      }
    }
    return {};
  }

  Result<Job> make(const Workload& workload) {
    Job job;
    job.workload = workload;
    job.on_device = chains_on_device_ && workload.kind == Workload::Kind::Chain;
    for (std::uint64_t i = 0; i < workload.buffers; ++i) {
      if (const std::uint64_t bytes = input_bytes(job); bytes != 0) {
        KAAS_ASSIGN_OR_RETURN(Buffer input, client_.allocate(bytes));
        job.inputs.push_back(std::move(input));
      }
      if (const std::uint64_t bytes = output_bytes(job); bytes != 0) {
        KAAS_ASSIGN_OR_RETURN(Buffer output, client_.allocate(bytes));
        job.outputs.push_back(std::move(output));
      }
    }
    KAAS_ASSIGN_OR_RETURN(const Request request, request_of(job));
    KAAS_ASSIGN_OR_RETURN(Plan plan, client_.prepare(request));
    if (job.on_device) {
      KAAS_RETURN_IF_ERROR(verify_scratch_chain(client_, workload.amount));
      KAAS_RETURN_IF_ERROR(verify_launches(plan, workload.amount));
    }
    if (options_.priority != 0) {
      job.plan.push_back(std::move(plan));
      return job;
    }
    for (std::uint64_t i = 0; i < workload.buffers; ++i) {
      Bindings pair;
      if (!job.inputs.empty()) pair.in("in", job.inputs[i]);
      if (!job.outputs.empty()) pair.in("out", job.outputs[i]);
      job.plans.push_back(plan.bind(pair));
    }
    if (needs_lane_) KAAS_RETURN_IF_ERROR(await_lanes(job));
    return job;
  }

  Client client_;
  RunOptions options_;
  const bool needs_lane_;
  const bool chains_on_device_;
  std::map<std::string, Job> jobs_;
  Job* job_ = nullptr;
  std::deque<Future<Reply>> under_way_;
};

}  // namespace

int run_client_worker(const ClientWorkerOptions& how) {
  ClientOptions options;
  options.socket = how.socket;
  options.name = "kaas-bench-client";
  if (how.spin_us) options.spin = std::chrono::microseconds(*how.spin_us);
  options.lanes = how.way != ClientWorkerOptions::Way::Kaasd;
  auto client = Client::connect(options);
  if (!client) {
    const std::string why = to_string(client.error());
    return how.is_peer ? refuse_peer(why) : refuse_worker(why);
  }
  ClientWorker worker(std::move(*client), how);
  const std::string description = "a client of " + how.socket;
  return how.is_peer ? serve_peer(worker, description) : serve_worker(worker, description);
}

}  // namespace kaas
