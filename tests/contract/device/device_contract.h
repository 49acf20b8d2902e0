// What device.h promises, for every device. A fixture brings
//
//   Device& device                             a fresh one
//   static constexpr std::uint64_t kMemoryBytes  what it has to give; 0: not known
//   KernelEntry kernel(name)                   "count_blocks", "add_two", "count_to_three",
//                                              "throwing", "refusing" as described below
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "daemon/executor/device/device.h"
#include "tests/support/eventually.h"

namespace kaas {

// count_blocks(u32* out):   out[block] += block + 1, and touches all its shared memory
// add_two(2 buffers):       of the original form: *second = *first + grid * block
// count_to_three(u32* w):   w[1] = ++w[0] >= 3
// throwing, refusing:       opaque; "from a kernel" thrown, status 3 with "no reason"

template <class Fixture>
class DeviceContract : public testing::Test, protected Fixture {
 protected:
  DeviceStream& stream() {
    if (stream_ == nullptr) stream_ = *this->device.open_stream();
    return *stream_;
  }
  DeviceMemory memory(std::uint64_t bytes) {
    auto allocated = this->device.allocate(bytes);
    EXPECT_TRUE(allocated.has_value());
    return *std::move(allocated);
  }
  void write(DeviceAddress to, const std::vector<std::uint32_t>& words) {
    EXPECT_TRUE(stream().copy_to_device(to, std::as_bytes(std::span(words))).has_value());
    EXPECT_TRUE(stream().wait().has_value());
  }
  std::vector<std::uint32_t> read(DeviceAddress from, std::size_t count) {
    std::vector<std::uint32_t> words(count);
    const auto bytes = std::as_writable_bytes(std::span(words));
    EXPECT_TRUE(stream().copy_to_host(bytes, from).has_value());
    EXPECT_TRUE(stream().wait().has_value());
    return words;
  }
  // Launches `entry` with one address as its only parameter; `program` has no launches yet.
  Result<void> launch(const KernelEntry& entry, std::uint32_t blocks, void** params,
                      KernelProgram program = {}) {
    KernelLaunch launch = launch_of(entry, blocks);
    launch.params = params;
    program.launches = {&launch, 1};
    KAAS_RETURN_IF_ERROR(stream().launch(program));
    return stream().wait();
  }
  KernelLaunch launch_of(const KernelEntry& entry, std::uint32_t blocks) {
    KernelLaunch launch;
    launch.function = *this->device.load(entry);
    launch.shape.struct_size = sizeof launch.shape;
    launch.shape.grid[0] = blocks;
    launch.shape.grid[1] = launch.shape.grid[2] = 1;
    launch.shape.block[0] = 64;
    launch.shape.block[1] = launch.shape.block[2] = 1;
    std::fill(std::begin(launch.shape.cluster), std::end(launch.shape.cluster), 1u);
    launch.shape.shared_bytes = entry.shared_bytes(0, 64);
    return launch;
  }
  // Waits until it is of use; null where the device keeps nothing.
  std::unique_ptr<PreparedProgram> prepare(const KernelProgram& program) {
    auto prepared = this->device.prepare(program);
    EXPECT_TRUE(prepared == nullptr || eventually([&] { return prepared->ready(); }));
    return prepared;
  }

  std::unique_ptr<DeviceStream> stream_;
};
TYPED_TEST_SUITE_P(DeviceContract);

TYPED_TEST_P(DeviceContract, SaysItsLimits) {
  const DeviceLimits& limits = this->device.limits();
  EXPECT_FALSE(limits.name.empty());
  EXPECT_GE(limits.memory_bytes, std::max(TypeParam::kMemoryBytes, std::uint64_t{1} << 20));
  EXPECT_GE(limits.block_threads, 256u);
  EXPECT_GE(limits.grid[0], 65'535u);
  EXPECT_GE(limits.host_threads, 1u);
}

TYPED_TEST_P(DeviceContract, RefusesAllocationLargerThanFreeMemory) {
  const std::uint64_t has = this->device.limits().memory_bytes;
  for (const std::uint64_t bytes : {has + 1, std::uint64_t{1} << 60, ~std::uint64_t{0}}) {
    const auto result = this->device.allocate(bytes);
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error().code, StatusCode::OutOfMemory);
    EXPECT_NE(result.error().message.find(std::to_string(bytes)), std::string::npos);
  }
  EXPECT_EQ(this->device.allocated_bytes(), 0u);
}

TYPED_TEST_P(DeviceContract, MemoryComesBackWhenItsOwnerLetsGo) {
  constexpr std::uint64_t kMostBytes =
      TypeParam::kMemoryBytes == 0 ? 512u << 20 : TypeParam::kMemoryBytes;
  {
    const DeviceMemory all = this->memory(kMostBytes);
    EXPECT_EQ(this->device.allocated_bytes(), kMostBytes);
    if (TypeParam::kMemoryBytes != 0) {
      EXPECT_FALSE(this->device.allocate(1).has_value());
    }
  }
  EXPECT_EQ(this->device.allocated_bytes(), 0u);
  EXPECT_TRUE(this->device.allocate(kMostBytes).has_value());
}

TYPED_TEST_P(DeviceContract, AllocationsAreAlignedAndApart) {
  std::vector<DeviceMemory> several;
  for (const std::uint64_t bytes : {1u, 3u, 257u, 4096u}) several.push_back(this->memory(bytes));
  for (std::size_t i = 0; i < several.size(); ++i) {
    EXPECT_EQ(several[i].address() % kDeviceAlignmentBytes, 0u);
    for (std::size_t j = 0; j < i; ++j) {
      const bool before = several[i].address() + several[i].bytes() <= several[j].address();
      const bool behind = several[j].address() + several[j].bytes() <= several[i].address();
      EXPECT_TRUE(before || behind);
    }
  }
}

TYPED_TEST_P(DeviceContract, MovedMemoryIsReleasedOnce) {
  DeviceMemory first = this->memory(64);
  const DeviceAddress address = first.address();
  DeviceMemory second = std::move(first);
  EXPECT_EQ(second.address(), address);
  EXPECT_EQ(first.address(), 0u);  // NOLINT(bugprone-use-after-move): that is what is tested.
  second = this->memory(64);
  EXPECT_NE(second.address(), 0u);
}

TYPED_TEST_P(DeviceContract, CopiesThereBetweenAndBack) {
  const DeviceMemory from = this->memory(64);
  const DeviceMemory to = this->memory(64);
  this->write(from.address(), {1, 2, 3, 4});
  ASSERT_TRUE(this->stream().copy(to.address() + 4, from.address(), 12).has_value());
  ASSERT_TRUE(this->stream().zero(to.address() + 16, 4).has_value());
  EXPECT_EQ(this->read(to.address() + 4, 4), (std::vector<std::uint32_t>{1, 2, 3, 0}));
}

TYPED_TEST_P(DeviceContract, EveryBlockRunsOnceWhateverTheGrid) {
  const KernelEntry entry = this->kernel("count_blocks");
  for (const std::uint32_t blocks : {1u, 7u, 1000u, 20'000u}) {
    for (const bool brief : {false, true}) {
      const DeviceMemory memory = this->memory(blocks * 4);
      ASSERT_TRUE(this->stream().zero(memory.address(), blocks * 4).has_value());
      DeviceAddress address = memory.address();
      void* params[] = {&address};
      KernelProgram program;
      program.brief = brief;
      program.n_iter = 2;
      ASSERT_TRUE(this->launch(entry, blocks, params, program).has_value());
      std::vector<std::uint32_t> wanted(blocks);
      for (std::uint32_t i = 0; i < blocks; ++i) wanted[i] = 2 * (i + 1);
      EXPECT_EQ(this->read(address, blocks), wanted);
      EXPECT_EQ(this->stream().counts().launches, 2u);
      EXPECT_EQ(this->stream().counts().iterations, 2u);
    }
  }
}

TYPED_TEST_P(DeviceContract, OriginalFormGetsGridBlockAndBuffers) {
  const KernelEntry entry = this->kernel("add_two");
  const DeviceMemory memory = this->memory(16);
  this->write(memory.address(), {5, 0});
  DeviceAddress buffers[] = {memory.address(), memory.address() + 4};
  void* params[] = {buffers};
  ASSERT_TRUE(this->launch(entry, 3, params).has_value());
  EXPECT_EQ(this->read(memory.address(), 2), (std::vector<std::uint32_t>{5, 5 + 3 * 64}));
}

TYPED_TEST_P(DeviceContract, UntilStopsAfterTheIterationThatSetsIt) {
  const KernelEntry entry = this->kernel("count_to_three");
  const DeviceMemory memory = this->memory(16);
  this->write(memory.address(), {0, 0});
  DeviceAddress address = memory.address();
  void* params[] = {&address};
  KernelProgram program;
  program.n_iter = 100;
  program.until = address + 4;
  ASSERT_TRUE(this->launch(entry, 1, params, program).has_value());
  EXPECT_EQ(this->read(address, 2), (std::vector<std::uint32_t>{3, 1}));
  EXPECT_EQ(this->stream().counts().iterations, 3u);
}

// What a loop waits for in its middle is not its end: what runs beside it must not come between.
TYPED_TEST_P(DeviceContract, LoopsOfSeveralThreadsKeepTheirOrder) {
  constexpr std::size_t kThreads = 4;
  constexpr int kRounds = 50;
  const KernelEntry entry = this->kernel("count_to_three");
  const DeviceMemory memory = this->memory(256 * kThreads);
  const KernelLaunch launch = this->launch_of(entry, 1);
  const auto rounds = [&](DeviceStream& stream, DeviceAddress words) -> Result<void> {
    this->device.enter_thread();
    void* params[] = {&words};
    KernelLaunch own = launch;
    own.params = params;
    KernelProgram program;
    program.launches = {&own, 1};
    program.n_iter = 100;
    program.until = words + 4;
    for (int round = 0; round < kRounds; ++round) {
      std::array<std::uint32_t, 2> seen{};
      KAAS_RETURN_IF_ERROR(stream.begin(false, false));
      KAAS_RETURN_IF_ERROR(stream.copy_to_device(words, std::as_bytes(std::span(seen))));
      KAAS_RETURN_IF_ERROR(stream.launch(program));
      KAAS_RETURN_IF_ERROR(stream.copy_to_host(std::as_writable_bytes(std::span(seen)), words));
      KAAS_RETURN_IF_ERROR(stream.end());
      KAAS_RETURN_IF_ERROR(stream.wait());
      EXPECT_EQ(seen, (std::array<std::uint32_t, 2>{3, 1}));
      EXPECT_EQ(stream.counts().iterations, 3u);
    }
    return {};
  };
  std::vector<std::unique_ptr<DeviceStream>> streams;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) streams.push_back(*this->device.open_stream());
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back(
        [&, i] { EXPECT_TRUE(rounds(*streams[i], memory.address() + 256 * i).has_value()); });
  }
  for (std::thread& thread : threads) thread.join();
}

TYPED_TEST_P(DeviceContract, FailureOfAKernelIsAnErrorWithItsName) {
  for (const char* name : {"throwing", "refusing"}) {
    const KernelEntry entry = this->kernel(name);
    const auto outcome = this->launch(entry, 1, nullptr);
    ASSERT_FALSE(outcome.has_value());
    EXPECT_EQ(outcome.error().code, StatusCode::KernelFault);
    EXPECT_NE(outcome.error().message.find(name), std::string::npos);
    const char* cause = std::string(name) == "throwing" ? "from a kernel" : "no reason";
    EXPECT_NE(outcome.error().message.find(cause), std::string::npos) << outcome.error().message;
  }
  // The device is as good as before.
  const DeviceMemory memory = this->memory(16);
  this->write(memory.address(), {1});
  EXPECT_EQ(this->read(memory.address(), 1), (std::vector<std::uint32_t>{1}));
}

TYPED_TEST_P(DeviceContract, RefusesAKernelThatWasBuiltForAnotherDevice) {
  KernelEntry entry;
  entry.name = "foreign";
  const auto loaded = this->device.load(entry);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(loaded.error().message.find("foreign"), std::string::npos);
}

TYPED_TEST_P(DeviceContract, MarksMeasureForward) {
  ASSERT_TRUE(this->stream().begin(true, false));
  this->stream().mark(StreamMark::Begin);
  this->stream().mark(StreamMark::Computed);
  ASSERT_TRUE(this->stream().wait().has_value());
  EXPECT_LT(this->stream().between_ns(StreamMark::Begin, StreamMark::Computed), 60'000'000'000u);
}

// Two words of parameters: a launch of count_blocks and one of count_to_three.
TYPED_TEST_P(DeviceContract, PreparedProgramDoesWhatItsLaunchesDo) {
  const KernelEntry count = this->kernel("count_blocks");
  const DeviceMemory first = this->memory(4096);
  const DeviceMemory second = this->memory(4096);
  std::vector<std::uint64_t> words{first.address(), second.address()};
  void* params[2][2] = {{&words[0], nullptr}, {&words[1], nullptr}};
  const std::uint16_t after[] = {0};
  KernelLaunch launches[2];
  for (std::size_t i = 0; i < 2; ++i) {
    launches[i] = this->launch_of(count, 5);
    launches[i].params = params[i];
  }
  for (const bool ordered : {false, true}) {
    if (ordered) launches[1].after = after;
    for (const std::uint64_t n_iter : {1u, 3u, 1000u, 1009u}) {
      KernelProgram program;
      program.launches = launches;
      program.words = words;
      program.n_iter = n_iter;
      const auto prepared = this->prepare(program);
      program.prepared = prepared.get();
      // The second time, with the memories exchanged: what was prepared must be brought up to date.
      for (int round = 0; round < 2; ++round) {
        words[0] = round == 0 ? first.address() : second.address() + 64;
        words[1] = round == 0 ? second.address() : first.address() + 64;
        for (const std::uint64_t word : words) {
          ASSERT_TRUE(this->stream().zero(word, 20).has_value());
        }
        ASSERT_TRUE(this->stream().launch(program).has_value());
        ASSERT_TRUE(this->stream().wait().has_value());
        EXPECT_EQ(this->stream().counts().launches, 2 * n_iter);
        EXPECT_EQ(this->stream().counts().iterations, n_iter);
        const auto n = static_cast<std::uint32_t>(n_iter);
        const std::vector<std::uint32_t> wanted{n, 2 * n, 3 * n, 4 * n, 5 * n};
        EXPECT_EQ(this->read(words[0], 5), wanted);
        EXPECT_EQ(this->read(words[1], 5), wanted);
      }
    }
  }
}

TYPED_TEST_P(DeviceContract, PreparedProgramStopsWhereUntilSaysAndCanBeRunAgain) {
  const KernelEntry count = this->kernel("count_to_three");
  const DeviceMemory memory = this->memory(4096);
  std::vector<std::uint64_t> words{memory.address()};
  void* params[] = {&words[0], nullptr};
  KernelLaunch launch = this->launch_of(count, 1);
  launch.params = params;
  KernelProgram program;
  program.launches = {&launch, 1};
  program.words = words;
  program.n_iter = 100;
  program.until = memory.address() + 4;
  const auto prepared = this->prepare(program);
  program.prepared = prepared.get();
  const auto run = [&](DeviceAddress at, std::uint64_t n_iter) {
    words[0] = at;
    program.until = at + 4;
    program.n_iter = n_iter;
    this->write(at, {0, 0});
    ASSERT_TRUE(this->stream().launch(program).has_value());
    ASSERT_TRUE(this->stream().wait().has_value());
    EXPECT_EQ(this->read(at, 2), (std::vector<std::uint32_t>{3, 1}));
    EXPECT_EQ(this->stream().counts().iterations, 3u);
    EXPECT_EQ(this->stream().counts().launches, 3u);
  };
  run(memory.address(), 100);
  run(memory.address(), 100);
  run(memory.address() + 256, 100);
}

TYPED_TEST_P(DeviceContract, PreparedProgramsOfDifferentStreamsDoNotMix) {
  const KernelEntry count = this->kernel("count_blocks");
  constexpr std::size_t kStreams = 4;
  struct One {
    DeviceMemory memory;
    std::vector<std::uint64_t> words;
    void* params[2] = {nullptr, nullptr};
    KernelLaunch launch;
    KernelProgram program;
    std::unique_ptr<PreparedProgram> prepared;
    std::unique_ptr<DeviceStream> stream;
  };
  std::vector<One> all(kStreams);
  for (One& one : all) {
    one.memory = this->memory(4096);
    one.words = {one.memory.address()};
    one.params[0] = one.words.data();
    one.launch = this->launch_of(count, 1);
    one.launch.params = one.params;
    one.program.launches = {&one.launch, 1};
    one.program.words = one.words;
    one.program.n_iter = 200;
    one.stream = *this->device.open_stream();
    one.prepared = this->prepare(one.program);
    one.program.prepared = one.prepared.get();
  }
  for (int round = 0; round < 20; ++round) {
    for (One& one : all) {
      ASSERT_TRUE(one.stream->zero(one.memory.address(), 4).has_value());
      ASSERT_TRUE(one.stream->launch(one.program).has_value());
    }
    for (One& one : all) {
      ASSERT_TRUE(one.stream->wait().has_value());
      EXPECT_EQ(this->read(one.memory.address(), 1), (std::vector<std::uint32_t>{200}));
    }
  }
}

// With nothing to move behind it, something, and nothing again; many blocks, and few.
TYPED_TEST_P(DeviceContract, PreparedProgramIsDoneWhenItsStreamSaysSo) {
  const KernelEntry count = this->kernel("count_blocks");
  const bool reaches_host = this->device.limits().reaches_host;
  const DeviceMemory memory = this->memory(4096);
  DeviceMemory host;
  if (reaches_host) host = *this->device.allocate_host(4096);
  for (const std::uint32_t blocks : {1u, 5u, 64u, 65u}) {
    std::vector<std::uint64_t> words{memory.address()};
    void* params[] = {words.data(), nullptr};
    KernelLaunch launch = this->launch_of(count, blocks);
    launch.params = params;
    KernelProgram program;
    program.launches = {&launch, 1};
    program.words = words;
    program.last = true;
    const auto prepared = this->prepare(program);
    program.prepared = prepared.get();
    const Move move{host.address(), memory.address(), 512};
    for (std::uint32_t round = 1; round <= 60; ++round) {
      // In host memory what a kernel wrote can be seen at once, if it is there.
      const bool moves = reaches_host && round % 3 == 0;
      const bool in_host = reaches_host && round % 3 == 1;
      words[0] = in_host ? host.address() : memory.address();
      program.behind = moves ? std::span(&move, 1) : std::span<const Move>();
      this->write(memory.address(), std::vector<std::uint32_t>(128, round));
      auto* seen = reinterpret_cast<std::uint32_t*>(host.address());
      if (reaches_host) std::fill_n(seen, 128, round);
      ASSERT_TRUE(this->stream().begin(false, false).has_value());
      ASSERT_TRUE(this->stream().launch(program).has_value());
      ASSERT_TRUE(this->stream().end().has_value());
      for (;;) {
        const auto done = this->stream().poll();
        ASSERT_TRUE(done.has_value());
        if (*done) break;
      }
      std::vector<std::uint32_t> wanted(128, round);
      for (std::uint32_t i = 0; i < blocks; ++i) wanted[i] += i + 1;
      if (moves || in_host) {
        ASSERT_EQ(std::vector<std::uint32_t>(seen, seen + 128), wanted) << blocks << " blocks";
      } else {
        ASSERT_EQ(this->read(memory.address(), 128), wanted) << blocks << " blocks";
      }
    }
  }
}

TYPED_TEST_P(DeviceContract, KernelsReachHostMemoryWhereTheDeviceSaysSo) {
  if (!this->device.limits().reaches_host) {
    EXPECT_FALSE(this->device.allocate_host(64).has_value());
    return;
  }
  const KernelEntry count = this->kernel("count_blocks");
  auto pinned = this->device.allocate_host(4096);
  ASSERT_TRUE(pinned.has_value());
  auto* words = reinterpret_cast<std::uint32_t*>(pinned->address());
  std::fill_n(words, 8, 100u);
  DeviceAddress address = pinned->address();
  void* params[] = {&address};
  ASSERT_TRUE(this->launch(count, 3, params).has_value());
  EXPECT_EQ((std::vector<std::uint32_t>{words[0], words[1], words[2], words[3]}),
            (std::vector<std::uint32_t>{101, 102, 103, 100}));
}

REGISTER_TYPED_TEST_SUITE_P(
    DeviceContract, SaysItsLimits, RefusesAllocationLargerThanFreeMemory,
    MemoryComesBackWhenItsOwnerLetsGo, AllocationsAreAlignedAndApart, MovedMemoryIsReleasedOnce,
    CopiesThereBetweenAndBack, EveryBlockRunsOnceWhateverTheGrid,
    OriginalFormGetsGridBlockAndBuffers, UntilStopsAfterTheIterationThatSetsIt,
    LoopsOfSeveralThreadsKeepTheirOrder, FailureOfAKernelIsAnErrorWithItsName,
    RefusesAKernelThatWasBuiltForAnotherDevice, MarksMeasureForward,
    PreparedProgramDoesWhatItsLaunchesDo, PreparedProgramStopsWhereUntilSaysAndCanBeRunAgain,
    PreparedProgramsOfDifferentStreamsDoNotMix, PreparedProgramIsDoneWhenItsStreamSaysSo,
    KernelsReachHostMemoryWhereTheDeviceSaysSo);

}  // namespace kaas
