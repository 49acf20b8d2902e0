#include "tests/latency/peers/host_worker.h"

#include <algorithm>

#include "tools/bench/kernels/bench_kernels.h"

namespace kaas {
namespace {

constexpr std::size_t kPattern = 1024;

template <auto Kernel>
void call(std::uint32_t grid, std::uint32_t block, void* const* arguments) {
  kaas_launch launch{};
  launch.grid[0] = grid;
  launch.block[0] = block;
  launch.grid[1] = launch.grid[2] = launch.block[1] = launch.block[2] = 1;
  KernelEntry<Kernel>::run(&launch, 0, grid, arguments, nullptr);
}

}  // namespace

std::string HostWorker::open(const Workload& workload, float seed) {
  workload_ = workload;
  seed_ = seed;
  const bool has_bytes =
      workload.kind == Workload::Kind::Payload || workload.kind == Workload::Kind::Input;
  const std::uint64_t floats = has_bytes ? workload.amount / sizeof(float) : kSmallFloats;
  in_.resize(floats);
  for (std::size_t i = 0; i < floats; ++i) in_[i] = seed + static_cast<float>(i % kPattern);
  out_.assign(floats, 0.0F);
  taken_ns_.assign(workload.blocks, 0);
  return {};
}

std::string HostWorker::run() {
  std::uint64_t count = in_.size();
  const float* in = in_.data();
  float* out = out_.data();
  const float* made = out;
  float factor = kFactor;
  std::uint64_t duration_ns = workload_.amount;
  std::uint64_t* taken_ns = taken_ns_.data();
  void* const first[] = {&count, &in, &out};
  void* const later[] = {&count, &made, &out};
  void* const scaled[] = {&count, &factor, &in, &out};
  void* const timed[] = {&duration_ns, &taken_ns};
  switch (workload_.kind) {
    case Workload::Kind::Null:
      call<&nothing>(1, 1, nullptr);
      break;
    case Workload::Kind::Chain:
      call<&increment>(1, kSmallBlock, first);
      for (std::uint64_t i = 1; i < workload_.amount; ++i) call<&increment>(1, kSmallBlock, later);
      break;
    case Workload::Kind::Payload:
    case Workload::Kind::Input:
      call<&multiply>(payload_grid(count), kPayloadBlock, scaled);
      break;
    case Workload::Kind::Busy:
      call<&busy>(static_cast<std::uint32_t>(workload_.blocks), kBusyBlock, timed);
      break;
  }
  return {};
}

std::string HostWorker::check() {
  if (workload_.kind == Workload::Kind::Null || workload_.kind == Workload::Kind::Busy) return {};
  const bool is_chain = workload_.kind == Workload::Kind::Chain;
  for (std::size_t i = 0; i < out_.size(); ++i) {
    const float expected =
        is_chain ? in_[i] + static_cast<float>(workload_.amount) : in_[i] * kFactor;
    if (out_[i] == expected) continue;
    return "element " + std::to_string(i) + " is " + std::to_string(out_[i]) + ", expected " +
           std::to_string(expected);
  }
  return {};
}

std::string HostWorker::memory(std::uint64_t&) {
  return "the processor has no device memory";
}

HostBytes HostWorker::input() {
  if (workload_.kind != Workload::Kind::Payload) return {nullptr, 0};
  return {in_.data(), in_.size() * sizeof(float)};
}

HostBytes HostWorker::output() {
  if (workload_.kind != Workload::Kind::Payload) return {nullptr, 0};
  return {out_.data(), out_.size() * sizeof(float)};
}

}  // namespace kaas
