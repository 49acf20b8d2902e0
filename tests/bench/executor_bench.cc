// What a run costs in the executor, without processes: rings in plain memory, the host device, one
// thread that plays kaasd between steps.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "daemon/executor/device/host_device.h"
#include "tests/unit/executor/lanes_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kMemoryBytes = 64u << 20;
constexpr std::size_t kDepth = 64;

// A loop on the host device with workers, and encoded runs that are sent again and again.
struct Bench {
  Bench()
      : device(kMemoryBytes, 2),
        libraries(device),
        workers(2, [] {}),
        harness(options(), device, libraries) {
    harness.load_library();
  }
  HarnessOptions options() {
    HarnessOptions result;
    result.memory_bytes = kMemoryBytes;
    result.workers = &workers;
    result.geometry = {1024, 8u << 20};
    return result;
  }
  void load(const TestPlan& plan) {
    harness.load_plan(plan);
    for (const SeenReport& report : harness.settle()) {
      KAAS_CHECK(report.code == StatusCode::Ok);
    }
  }
  std::vector<std::byte> encode(const wire::Location* load, const wire::Location* store) {
    flatbuffers::FlatBufferBuilder builder;
    const auto loads = load == nullptr ? 0 : builder.CreateVectorOfStructs(load, 1);
    const auto stores = store == nullptr ? 0 : builder.CreateVectorOfStructs(store, 1);
    const auto run = wire::CreateRun(builder, 1, 1, 7, loads, stores);
    builder.Finish(wire::CreateWorkItem(builder, wire::Work::Run, run.Union()));
    const auto bytes = finished(builder);
    return {bytes.begin(), bytes.end()};
  }
  // `depth` runs there, and their reports back.
  void round(const std::vector<std::byte>& run, std::size_t depth) {
    for (std::size_t i = 0; i < depth; ++i) harness.send_raw(run);
    std::size_t reports = 0;
    while (reports < depth) {
      harness.loop->step();
      std::span<const std::byte> message;
      while (harness.reader.read(harness.buffer, message) == ReadOutcome::Message) {
        harness.reader.advance();
        ++reports;
      }
      harness.reader.publish();
    }
  }
  void measure(benchmark::State& state, const std::vector<std::byte>& run, std::size_t depth) {
    for (auto _ : state) round(run, depth);
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * depth));
  }

  HostDevice device;
  FakeLibraries libraries;
  ExecutorWorkers workers;
  LoopHarness harness;
};

TestPlan copy_plan(std::uint64_t bytes) {
  TestPlan plan;
  plan.kernels[0].kernel = "copy";
  plan.kernels[0].literals = {u64(bytes)};
  plan.kernels[0].arguments = {argument(0, bytes, wire::Access::In),
                               argument(1, bytes, wire::Access::Out)};
  plan.allocations = {bytes, bytes};
  plan.loads = {wire::PlanRange(0, bytes, 0, false)};
  plan.stores = {wire::PlanRange(0, bytes, 1, false)};
  return plan;
}

// The floor: one such message, copied and verified, with nothing done about it.
void verify_run(benchmark::State& state) {
  Bench bench;
  const auto run = bench.encode(nullptr, nullptr);
  MessageBuffer& buffer = bench.harness.buffer;
  for (auto _ : state) {
    std::memcpy(buffer.data(), run.data(), run.size());
    benchmark::ClobberMemory();
    benchmark::DoNotOptimize(verified_root<wire::WorkItem>({buffer.data(), run.size()}));
  }
}
BENCHMARK(verify_run);

void null_run(benchmark::State& state) {
  Bench bench;
  bench.load(TestPlan{});
  bench.measure(state, bench.encode(nullptr, nullptr), static_cast<std::size_t>(state.range(0)));
}
BENCHMARK(null_run)->Arg(1)->Arg(kDepth);

void small_copy(benchmark::State& state) {
  Bench bench;
  bench.load(copy_plan(4096));
  bench.harness.segment(20, std::vector<std::uint32_t>(1024, 1));
  bench.harness.segment(21, std::vector<std::uint32_t>(1024));
  const wire::Location load = at(20, 0);
  const wire::Location store = at(21, 0);
  bench.measure(state, bench.encode(&load, &store), kDepth);
}
BENCHMARK(small_copy);

void cached_input(benchmark::State& state) {
  Bench bench;
  bench.load(copy_plan(4096));
  bench.harness.segment(20, std::vector<std::uint32_t>(1024, 1));
  bench.harness.segment(21, std::vector<std::uint32_t>(1024));
  const wire::Location load = at(20, 0, 5);
  const wire::Location store = at(21, 0);
  bench.measure(state, bench.encode(&load, &store), kDepth);
}
BENCHMARK(cached_input);

void stored_version(benchmark::State& state) {
  Bench bench;
  bench.load(copy_plan(4096));
  bench.harness.segment(20, std::vector<std::uint32_t>(1024, 1));
  bench.harness.segment(21, std::vector<std::uint32_t>(1024));
  const wire::Location load = at(20, 0, 5);
  const wire::Location store = at(21, 0, 6);
  bench.measure(state, bench.encode(&load, &store), kDepth);
}
BENCHMARK(stored_version);

// Invocations by lanes of runs that stay prepared, as on a GPU: 16 under way in each. The device
// does a run when it is asked for it, at once.
void lane_invocations(benchmark::State& state) {
  constexpr std::uint32_t kUnderWay = 16;
  LoopHarness harness(
      {.memory_bytes = kMemoryBytes, .asynchronous = true, .reaches_host = true, .prepares = true});
  harness.load_library();
  TestPlan plan;
  plan.kernels[0].kernel = "fill";
  plan.kernels[0].literals = {u64(1), u32(1)};
  plan.kernels[0].arguments = {argument(0, 4, wire::Access::Out)};
  plan.allocations = {4};
  harness.load_plan(plan);
  std::vector<std::unique_ptr<LaneEnd>> lanes;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(state.range(0)); ++i) {
    lanes.push_back(std::make_unique<LaneEnd>(harness, i + 1));
    lanes.back()->start();
    lanes.back()->add(1, {});
  }
  harness.settle();
  std::vector<std::uint32_t> under_way(lanes.size(), 0);
  std::uint64_t answered = 0;
  const auto turn = [&] {
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      for (; under_way[i] < kUnderWay; ++under_way[i]) lanes[i]->invoke(1, 1);
    }
    harness.loop->step();
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      const auto answers = static_cast<std::uint32_t>(lanes[i]->count_answers());
      under_way[i] -= answers;
      answered += answers;
    }
    harness.fake->finish_preparing();
  };
  for (int i = 0; i < 1000; ++i) turn();
  answered = 0;
  for (auto _ : state) turn();
  state.SetItemsProcessed(static_cast<std::int64_t>(answered));
}
BENCHMARK(lane_invocations)->Arg(1)->Arg(8);

}  // namespace
}  // namespace kaas
