// What a request costs kaasd, without processes: the dispatcher of the simulation, one thread.
#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>

#include "tools/sim/requests.h"
#include "tools/sim/world.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
constexpr std::size_t kRequests = 120;

WorldOptions options(std::size_t buffers, bool start_executors) {
  WorldOptions result;
  result.client_rings = {256, 4u << 20};
  result.arena_bytes = (buffers + 2) * kBytes;
  result.start_executors = start_executors;
  return result;
}

// A world with one client that has prepared a plan, number 1.
struct Bench {
  Bench(const WorldOptions& options, const std::function<RequestSpec(std::uint32_t)>& request)
      : world(options), client(world.connect()) {
    KAAS_CHECK(client.send(0, prepare_message(1, encode_request(request(client.arena())))));
    step();
  }
  void invoke(std::size_t times) {
    for (std::size_t i = 0; i < times; ++i) KAAS_CHECK(client.send(0, invoke_message(2, 1)));
  }
  // Until kaasd has nothing to do without an executor.
  void step() {
    while (world.step() != 0) {
    }
  }
  // As many answers are there.
  void settle(std::size_t answers) {
    while (answers > 0) {
      world.settle();
      const std::size_t read = client.read(0).size();
      KAAS_CHECK(read > 0);
      answers -= read;
    }
  }

  World world;
  SimClient& client;
};

// Each buffer is an output at `place` of its number.
RequestSpec outputs(std::size_t buffers, const std::function<BufferSpec(std::size_t)>& place) {
  RequestSpec request;
  for (std::size_t b = 0; b < buffers; ++b) {
    request.buffers.push_back(place(b));
    request.kernels.push_back(fill_kernel(kBytes / 4, 1, static_cast<std::uint16_t>(b)));
  }
  return request;
}

// Each buffer but the last, which a kernel for each writes, is an input.
RequestSpec inputs(std::size_t buffers, std::uint32_t arena) {
  RequestSpec request;
  for (std::size_t b = 0; b <= buffers; ++b) {
    request.buffers.push_back(segment_buffer("b" + std::to_string(b), kBytes, arena, b * kBytes));
  }
  for (std::size_t b = 0; b < buffers; ++b) {
    request.kernels.push_back(copy_kernel(kBytes / 4, static_cast<std::uint16_t>(b),
                                          static_cast<std::uint16_t>(buffers)));
  }
  return request;
}

// Requests on a client's memory, accepted by kaasd while none of them ends.
void accept(benchmark::State& state, const std::function<RequestSpec(std::uint32_t)>& request) {
  const auto buffers = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    auto bench = std::make_unique<Bench>(options(buffers, false), request);
    bench->invoke(kRequests);
    state.ResumeTiming();
    bench->step();
    state.PauseTiming();
    KAAS_CHECK(bench->world.dispatcher().runs().size() == kRequests + 1);
    bench.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * kRequests * buffers));
}
void accept_writers(benchmark::State& state) {
  const auto buffers = static_cast<std::size_t>(state.range(0));
  accept(state, [buffers](std::uint32_t arena) {
    return outputs(buffers, [arena](std::size_t b) {
      return segment_buffer("b" + std::to_string(b), kBytes, arena, b * kBytes);
    });
  });
}
void accept_readers(benchmark::State& state) {
  const auto buffers = static_cast<std::size_t>(state.range(0));
  accept(state, [buffers](std::uint32_t arena) { return inputs(buffers, arena); });
}
BENCHMARK(accept_writers)->Arg(500)->Arg(1000)->Arg(2000)->Unit(benchmark::kMillisecond);
BENCHMARK(accept_readers)->Arg(500)->Arg(1000)->Arg(2000)->Unit(benchmark::kMillisecond);

// What the others wait for: one step, with a ring full of requests of many outputs.
void step_of_many_outputs(benchmark::State& state) {
  const auto buffers = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    auto bench = std::make_unique<Bench>(options(1, false), [buffers](std::uint32_t) {
      return outputs(buffers,
                     [](std::size_t b) { return store_buffer("b" + std::to_string(b), kBytes); });
    });
    bench->invoke(64);
    state.ResumeTiming();
    bench->world.step();
    state.PauseTiming();
    bench.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(step_of_many_outputs)->Arg(100)->Arg(1000)->Arg(4000)->Unit(benchmark::kMillisecond);

// A session's end with so many requests, each of which waits for all before it.
void end_of_crowded_session(benchmark::State& state) {
  const auto requests = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    WorldOptions crowded = options(requests, false);
    crowded.client_rings = {2048, 4u << 20};
    auto bench = std::make_unique<Bench>(crowded, [](std::uint32_t arena) {
      return fill_request(segment_buffer("b", kBytes, arena, 0), 1);
    });
    for (std::size_t n = 0; n < requests; ++n) {
      const auto request =
          fill_request(segment_buffer("b", requests * 8, bench->client.arena(), n * 8), 1);
      KAAS_CHECK(bench->client.send(0, submit_message(2, encode_request(request))));
    }
    bench->step();
    KAAS_CHECK(bench->world.dispatcher().runs().size() == requests + 1);
    state.ResumeTiming();
    bench->world.dispatcher().close_session(bench->client.session(),
                                            Status{StatusCode::Cancelled, "it ends"});
    state.PauseTiming();
    bench.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(end_of_crowded_session)->Arg(250)->Arg(500)->Arg(1000)->Unit(benchmark::kMillisecond);

// Outputs of the store, with keys of their own.
void accept_objects(benchmark::State& state) {
  const auto buffers = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    auto bench = std::make_unique<Bench>(options(1, false), [&](std::uint32_t) {
      return outputs(buffers,
                     [&](std::size_t b) { return store_buffer("b" + std::to_string(b), kBytes); });
    });
    bench->invoke(4);
    state.ResumeTiming();
    bench->step();
    state.PauseTiming();
    bench.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * 4 * buffers));
}
BENCHMARK(accept_objects)->Arg(500)->Arg(1000)->Arg(2000)->Arg(4000)->Unit(benchmark::kMillisecond);

// Small requests on a client's memory from message to answer, so many under way at once. The
// simulated executor is part of it.
void small_requests(benchmark::State& state) {
  const auto depth = static_cast<std::size_t>(state.range(0));
  Bench bench(options(1, true), [](std::uint32_t arena) {
    return copy_request(segment_buffer("in", kBytes, arena, 0),
                        segment_buffer("out", kBytes, arena, kBytes));
  });
  bench.settle(1);
  for (auto _ : state) {
    bench.invoke(depth);
    bench.settle(depth);
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * depth));
}
BENCHMARK(small_requests)->Arg(1)->Arg(16)->Arg(64)->Arg(240);

}  // namespace
}  // namespace kaas
