#include "tools/bench/client_worker.h"

#include <kaas/client.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "schema/ipc/result.h"
#include "tools/bench/worker.h"

namespace kaas {
namespace {

constexpr std::uint64_t kSmallBytes = kSmallFloats * sizeof(float);
constexpr std::size_t kPattern = 1024;

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
  std::vector<Buffer> inputs;  // None: busy.
  std::vector<Buffer> outputs;
  std::vector<BoundPlan> plans;  // One a pair.
  std::size_t runs = 0;          // Since open().
  float seed = 0;
};

std::uint64_t input_bytes(const Workload& workload) {
  switch (workload.kind) {
    case Workload::Kind::Chain:
      return kSmallBytes;
    case Workload::Kind::Payload:
    case Workload::Kind::Input:
      return workload.amount;
    case Workload::Kind::Busy:
      break;
  }
  return 0;
}

std::uint64_t output_bytes(const Workload& workload) {
  switch (workload.kind) {
    case Workload::Kind::Payload:
      return workload.amount;
    case Workload::Kind::Chain:
    case Workload::Kind::Input:
      return kSmallBytes;
    case Workload::Kind::Busy:
      break;
  }
  return sizeof(std::uint64_t);
}

void add_increment(RequestBuilder& builder, const char* in, const char* out) {
  builder.kernel(kBenchLibrary, "increment")
      .grid(1)
      .block(kSmallBlock)
      .literal(std::uint64_t{kSmallFloats})
      .in(in)
      .out(out);
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
  if (!job.inputs.empty()) builder.buffer("in", input_bytes(workload)).in(job.inputs[0]);
  builder.buffer("out", output_bytes(workload)).in(job.outputs[0]);
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
          .grid(1)
          .block(kBusyBlock)
          .literal(workload.amount)
          .out("out");
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
      break;
  }
  return 0;
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
  explicit ClientWorker(Client client) : client_(std::move(client)) {}

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
    for (const Buffer& input : job_->inputs) {
      const std::span<float> values = floats_of(input);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = input_value(seed, i);
    }
    for (const Buffer& output : job_->outputs) std::memset(output.data(), 0, output.size());
    return {};
  }

  std::string run() override {
    Job& job = *job_;
    const std::size_t turn = job.runs++;
    const Result<Reply> reply = job.plans[turn % job.plans.size()].run();
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
  Result<Job> make(const Workload& workload) {
    Job job;
    job.workload = workload;
    for (std::uint64_t i = 0; i < workload.buffers; ++i) {
      if (const std::uint64_t bytes = input_bytes(workload); bytes != 0) {
        KAAS_ASSIGN_OR_RETURN(Buffer input, client_.allocate(bytes));
        job.inputs.push_back(std::move(input));
      }
      KAAS_ASSIGN_OR_RETURN(Buffer output, client_.allocate(output_bytes(workload)));
      job.outputs.push_back(std::move(output));
    }
    KAAS_ASSIGN_OR_RETURN(const Request request, request_of(job));
    KAAS_ASSIGN_OR_RETURN(const Plan plan, client_.prepare(request));
    for (std::size_t i = 0; i < job.outputs.size(); ++i) {
      Bindings pair;
      if (!job.inputs.empty()) pair.in("in", job.inputs[i]);
      job.plans.push_back(plan.bind(pair.in("out", job.outputs[i])));
    }
    return job;
  }

  Client client_;
  std::map<std::string, Job> jobs_;
  Job* job_ = nullptr;
};

}  // namespace

int run_client_worker(const std::string& socket, unsigned spin_us) {
  ClientOptions options;
  options.socket = socket;
  options.name = "kaas-bench-client";
  options.spin = std::chrono::microseconds(spin_us);
  auto client = Client::connect(options);
  if (!client) return refuse_worker(to_string(client.error()));
  ClientWorker worker(std::move(*client));
  return serve_worker(worker, "a client of " + socket);
}

}  // namespace kaas
