// What the store costs a request: looking up, putting, publishing, and large objects against the
// plain copy that they replace.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstring>
#include <string>
#include <vector>

#include "daemon/flow/segments.h"
#include "daemon/store/budget.h"
#include "daemon/store/memory_source.h"
#include "daemon/store/store.h"
#include "schema/ipc/segment.h"

namespace kaas {
namespace {

constexpr uid_t kUid = 1000;

struct Bench {
  ByteBudget budget{ByteBudget::Options{std::nullopt, std::make_unique<SystemMemory>()}};
  SegmentRegistry registry{nullptr};
  Store store{budget, registry, nullptr};
  std::vector<std::byte> bytes;

  explicit Bench(std::size_t size) : bytes(size, std::byte{1}) {}
  [[nodiscard]] ByteSource source() const { return std::span<const std::byte>(bytes); }
};

std::string key_of(std::size_t n) {
  return "object-" + std::to_string(n);
}

void lookup(benchmark::State& state) {
  Bench bench(256);
  std::vector<std::string> keys;
  for (std::size_t n = 0; n < 1024; ++n) {
    keys.push_back(key_of(n));
    (void)bench.store.put_bytes(kUid, keys.back(), bench.source());
  }
  std::size_t n = 0;
  for (auto _ : state) benchmark::DoNotOptimize(bench.store.lookup(kUid, kUid, keys[n++ % 1024]));
}
BENCHMARK(lookup);

void put_small(benchmark::State& state) {
  Bench bench(static_cast<std::size_t>(state.range(0)));
  std::size_t n = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(bench.store.put_bytes(kUid, key_of(n++ % 1024), bench.source()));
  }
}
BENCHMARK(put_small)->Arg(64)->Arg(4096)->Arg(65536);

// As a request with four small outputs settles them.
void settle_and_publish_four(benchmark::State& state) {
  Bench bench(256);
  for (auto _ : state) {
    std::vector<Store::Entry> entries;
    for (std::size_t n = 0; n < 4; ++n) {
      entries.push_back({kUid, key_of(n), *bench.store.create_output(kUid, "output", 256)});
    }
    for (const Store::Entry& entry : entries) {
      const OutputSlice all{0, 256, bench.source()};
      (void)bench.store.settle(entry.version, nullptr, {&all, 1});
    }
    bench.store.publish(*bench.store.prepare(std::move(entries)));
  }
}
BENCHMARK(settle_and_publish_four);

void list_a_page_of_100000(benchmark::State& state) {
  Bench bench(8);
  for (std::size_t n = 0; n < 100'000; ++n) {
    (void)bench.store.put_bytes(kUid, key_of(n), bench.source());
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(bench.store.list(kUid, kUid, "object-5", "object-55", 256));
  }
}
BENCHMARK(list_a_page_of_100000);

// The peer of put_large: memory that is allocated and filled, and nothing else.
void memcpy_into_a_fresh_memfd(benchmark::State& state) {
  const Bench bench(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    const Result<Descriptor> memory = create_segment("peer", bench.bytes.size());
    const Result<Mapping> mapping =
        Mapping::create(memory->get(), bench.bytes.size(), Mapping::Mode::ReadWrite, "peer");
    std::memcpy(mapping->data(), bench.bytes.data(), bench.bytes.size());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(memcpy_into_a_fresh_memfd)->Arg(1 << 20)->Arg(64 << 20);

void put_large(benchmark::State& state) {
  Bench bench(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    const auto version = bench.store.put_bytes(kUid, "x", bench.source());
    if (!version) state.SkipWithError(version.error().message.c_str());
    bench.store.remove(kUid, "x");
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(put_large)->Arg(1 << 20)->Arg(64 << 20);

Descriptor filled_memfd(std::size_t bytes, int fill) {
  Descriptor memory = *create_segment("client", bytes);
  {
    const Mapping mapping =
        *Mapping::create(memory.get(), bytes, Mapping::Mode::ReadWrite, "client");
    std::memset(mapping.data(), fill, bytes);
  }
  (void)add_seals(memory.get(), Seals::Write | Seals::Seal);
  return memory;
}

void put_donated_256_mib(benchmark::State& state) {
  constexpr std::size_t kBytes = 256u << 20;
  Bench bench(1);
  const Descriptor memory = filled_memfd(kBytes, 1);
  for (auto _ : state) {
    Descriptor donated = *duplicate(memory.get());
    const auto version = bench.store.put_donated(kUid, "x", std::move(donated), kBytes);
    if (!version) state.SkipWithError(version.error().message.c_str());
  }
}
BENCHMARK(put_donated_256_mib);

void get_and_map_256_mib(benchmark::State& state) {
  constexpr std::size_t kBytes = 256u << 20;
  Bench bench(1);
  const auto put = bench.store.put_donated(kUid, "x", filled_memfd(kBytes, 1), kBytes);
  if (!put) state.SkipWithError(put.error().message.c_str());
  for (auto _ : state) {
    const auto version = bench.store.lookup(kUid, kUid, "x");
    const auto mapping = Mapping::create((*version)->segment()->descriptor.get(), kBytes,
                                         Mapping::Mode::ReadOnly, "object");
    const std::byte last = mapping->data()[kBytes - 1];  // What is read-only must not be given.
    benchmark::DoNotOptimize(last);
  }
}
BENCHMARK(get_and_map_256_mib);

// A slice of an object: the rest of it is copied from the version before.
void overlay_4_kib_of_16_mib(benchmark::State& state) {
  constexpr std::size_t kBytes = 16u << 20;
  Bench bench(kBytes);
  const VersionRef base = *bench.store.put_bytes(kUid, "x", bench.source());
  const std::vector<std::byte> fresh(4096);
  for (auto _ : state) {
    const VersionRef output = *bench.store.create_output(kUid, "x", kBytes);
    const OutputSlice one{4096, fresh.size(), std::span<const std::byte>(fresh)};
    (void)bench.store.settle(output, base, {&one, 1});
  }
}
BENCHMARK(overlay_4_kib_of_16_mib);

void read_the_machines_memory(benchmark::State& state) {
  SystemMemory memory;
  for (auto _ : state) benchmark::DoNotOptimize(memory.read());
}
BENCHMARK(read_the_machines_memory);

}  // namespace
}  // namespace kaas
