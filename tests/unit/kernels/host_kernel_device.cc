#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/unit/kernels/kernel_device.h"

namespace kaas {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr int kPoison = 0xA5;

std::size_t rounded_up(std::size_t bytes) {
  return std::max<std::size_t>((bytes + kAlignment - 1) / kAlignment, 1) * kAlignment;
}

class HostKernelDevice : public KernelDevice {
 public:
  [[nodiscard]] unsigned kind() const override { return KAAS_DEVICE_HOST; }
  [[nodiscard]] std::string library_suffix() const override { return ".so"; }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    void* memory = std::aligned_alloc(kAlignment, rounded_up(bytes));
    if (memory == nullptr) std::abort();
    return memory;
  }
  void free(void* memory) override { std::free(memory); }
  void upload(void* to, const void* from, std::size_t bytes) override {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  void download(void* to, const void* from, std::size_t bytes) override {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }

  // Runs the blocks in three pieces, the last one first: an executor promises no order, and each
  // piece has shared memory of its own with nothing useful in it.
  void run(const kaas_library&, const kaas_kernel_descriptor& kernel, const kaas_launch& launch,
           void* const* params) override {
    const std::uint64_t blocks = std::uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
    const std::uint64_t piece = blocks / 3 + 1;
    for (std::uint64_t end = blocks; end > 0;) {
      const std::uint64_t count = std::min(piece, end);
      run_piece(kernel, launch, end - count, count, params);
      end -= count;
    }
  }

 private:
  // Of exactly the promised size, for AddressSanitizer to see the end.
  void run_piece(const kaas_kernel_descriptor& kernel, const kaas_launch& launch,
                 std::uint64_t first, std::uint64_t count, void* const* params) {
    void* shared = nullptr;
    if (posix_memalign(&shared, KAAS_SHARED_ALIGNMENT, launch.shared_bytes) != 0) std::abort();
    std::memset(shared, kPoison, launch.shared_bytes);
    kernel.host_blocks(&launch, first, count, params, shared);
    std::free(shared);
  }
};

}  // namespace

std::unique_ptr<KernelDevice> make_kernel_device() {
  return std::make_unique<HostKernelDevice>();
}

}  // namespace kaas
