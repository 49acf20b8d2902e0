// The kernels of kaas-bench, called by this process on its processor: what a program does that
// needs no service, and what servers do that KaaS on the host device is measured against.
// Threads: one at a time.
#pragma once

#include <vector>

#include "tools/bench/worker.h"

namespace kaas {

class HostWorker final : public LocalWorker {
 public:
  std::string open(const Workload& workload, float seed) override;
  std::string run() override;
  std::string check() override;
  std::string memory(std::uint64_t& used_bytes) override;
  HostBytes input() override;
  HostBytes output() override;

 private:
  Workload workload_;
  std::vector<float> in_;
  std::vector<float> out_;
  std::vector<std::uint64_t> taken_ns_;
  float seed_ = 0;
};

}  // namespace kaas
