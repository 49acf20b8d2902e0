#include "daemon/executor/device/host_device.h"

#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "daemon/executor/device/host_launch.h"
#include "schema/ipc/clock.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// Threads of a grid below which it runs on the calling thread: dealing it out costs microseconds.
constexpr std::uint64_t kInlineThreadsMax = 4096;
// Threads that a chunk of blocks has at least.
constexpr std::uint64_t kChunkThreadsMin = 1024;

std::byte* host_pointer(DeviceAddress address) noexcept {
  return reinterpret_cast<std::byte*>(address);  // NOLINT(performance-no-int-to-ptr)
}

std::uint64_t rounded(std::uint64_t bytes) noexcept {
  return (bytes + kDeviceAlignmentBytes - 1) & ~std::uint64_t{kDeviceAlignmentBytes - 1};
}

Result<void> run_parallel(const KernelLaunch& launch, const KernelProgram& program) {
  const std::uint64_t blocks = block_count(launch.shape);
  const std::uint64_t grain =
      std::max<std::uint64_t>(1, kChunkThreadsMin / block_threads(launch.shape));
  // TBB orders what happens here, but a tool that does not see into it needs these two words.
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> ended{0};
  begun.store(1, std::memory_order_release);  // Partner: the load in a chunk.
  try {
    // Isolated: while it waits, this thread must not pick up another request, which could keep it
    // for as long as it likes.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(
          tbb::blocked_range<std::uint64_t>(0, blocks, grain), [&](const auto& range) {
            static_cast<void>(begun.load(std::memory_order_acquire));
            const RunTagScope tag(program.tag, program.tag_end);
            run_host_blocks(launch, range.begin(), range.size());
            ended.fetch_add(1, std::memory_order_release);  // Partner: the load below.
          });
    });
    static_cast<void>(ended.load(std::memory_order_acquire));
    return {};
  } catch (const std::exception& failure) {
    return Status{StatusCode::KernelFault, "kernel '" + launch.function.entry->name +
                                               "' threw an exception: " + failure.what()};
  } catch (...) {
    return Status{StatusCode::KernelFault,
                  "kernel '" + launch.function.entry->name + "' threw an exception"};
  }
}

bool worth_dealing_out(const KernelLaunch& launch) noexcept {
  const std::uint64_t blocks = block_count(launch.shape);
  return launch.function.entry->host_blocks != nullptr && blocks > 1 &&
         blocks * block_threads(launch.shape) > kInlineThreadsMax;
}

class HostStream final : public DeviceStream {
 public:
  Result<void> copy_to_device(DeviceAddress to, std::span<const std::byte> from) override {
    std::memcpy(host_pointer(to), from.data(), from.size());
    return {};
  }
  Result<void> copy_to_host(std::span<std::byte> to, DeviceAddress from) override {
    std::memcpy(to.data(), host_pointer(from), to.size());
    return {};
  }
  Result<void> copy(DeviceAddress to, DeviceAddress from, std::uint64_t bytes) override {
    std::memcpy(host_pointer(to), host_pointer(from), bytes);
    return {};
  }
  Result<void> zero(DeviceAddress to, std::uint64_t bytes) override {
    std::memset(host_pointer(to), 0, bytes);
    return {};
  }

  Result<void> launch(const KernelProgram& program) override {
    counts_ = {.way = wire::RunWay::Host};
    const RunTagScope tag(program.tag, program.tag_end);
    for (std::uint64_t i = 0; i < program.n_iter; ++i) {
      for (const KernelLaunch& launch : program.launches) {
        ++counts_.launches;
        const bool parallel = !program.brief && worth_dealing_out(launch);
        KAAS_RETURN_IF_ERROR(parallel ? run_parallel(launch, program) : run_host_launch(launch));
      }
      ++counts_.iterations;
      if (program.until != 0 && stopped(program.until)) break;
    }
    return {};
  }

  Result<void> follow(DeviceStream&) override { return {}; }  // What came before is done.
  Result<void> end() override { return {}; }
  Result<void> begin(bool, bool) override { return {}; }  // Marks cost nothing here.
  void mark(StreamMark mark) override { marks_[static_cast<std::size_t>(mark)] = now_ns(); }
  [[nodiscard]] std::uint64_t between_ns(StreamMark begin, StreamMark end) const override {
    return marks_[static_cast<std::size_t>(end)] - marks_[static_cast<std::size_t>(begin)];
  }
  [[nodiscard]] ProgramCounts counts() const override { return counts_; }
  Result<bool> poll() override { return true; }
  Result<void> wait() override { return {}; }

 private:
  static bool stopped(DeviceAddress until) noexcept {
    std::uint32_t value = 0;
    std::memcpy(&value, host_pointer(until), sizeof value);
    return value != 0;
  }

  std::array<std::uint64_t, kStreamMarks> marks_{};
  ProgramCounts counts_;
};

}  // namespace

HostDevice::HostDevice(std::uint64_t memory_bytes, std::uint32_t threads) {
  limits_.name = "host";
  limits_.kind = KAAS_DEVICE_HOST;
  limits_.host_threads = std::max(threads, 1u);
  limits_.memory_bytes = memory_bytes;
  limits_.grid = {kGridXMax, kGridYzMax, kGridYzMax};
  limits_.block = {kBlockXyMax, kBlockXyMax, kBlockZMax};
  limits_.block_threads = kBlockThreadsMax;
  limits_.shared_bytes = kSharedBytesMax;
  limits_.synchronous = true;
}

HostDevice::~HostDevice() {
  KAAS_CHECK(allocated_ == 0);
}

Result<DeviceMemory> HostDevice::allocate(std::uint64_t bytes) {
  const std::uint64_t left = limits_.memory_bytes - allocated_;
  if (bytes > left || rounded(bytes) > left) {
    return Status{StatusCode::OutOfMemory, "allocation of " + std::to_string(bytes) +
                                               " bytes, host device has " + std::to_string(left) +
                                               " of " + std::to_string(limits_.memory_bytes) +
                                               " left"};
  }
  void* memory = std::aligned_alloc(kDeviceAlignmentBytes, rounded(bytes));
  if (memory == nullptr) {
    return Status{StatusCode::OutOfMemory,
                  "allocation of " + std::to_string(bytes) + " bytes refused by the system"};
  }
  allocated_ += rounded(bytes);
  return DeviceMemory(*this, reinterpret_cast<DeviceAddress>(memory), rounded(bytes));
}

void HostDevice::release(DeviceAddress address, std::uint64_t bytes) noexcept {
  std::free(host_pointer(address));
  allocated_ -= bytes;
}

Result<DeviceFunction> HostDevice::load(const KernelEntry& entry) {
  return load_host_function(entry);
}

// All memory is host memory: there is nothing to gain.
Result<DeviceMemory> HostDevice::allocate_host(std::uint64_t) {
  return Status{StatusCode::Unavailable, "the host device has no host memory besides its own"};
}
Result<HostRegistration> HostDevice::register_host(std::span<std::byte>, bool) {
  return HostRegistration();
}
void HostDevice::unregister_host(std::byte*, std::uint64_t) noexcept {}

std::unique_ptr<PreparedProgram> HostDevice::prepare(const KernelProgram&) {
  return nullptr;
}

Result<std::unique_ptr<DeviceStream>> HostDevice::open_stream() {
  return std::unique_ptr<DeviceStream>(std::make_unique<HostStream>());
}

}  // namespace kaas
