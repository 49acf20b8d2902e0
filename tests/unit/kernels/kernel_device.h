// Where the kernel tests run: the same tests drive the host's libraries and CUDA's, through
// <kaas/kernel_abi.h> as an executor does.
#ifndef KAAS_TESTS_UNIT_KERNELS_KERNEL_DEVICE_H_
#define KAAS_TESTS_UNIT_KERNELS_KERNEL_DEVICE_H_

#include <kaas/kernel_abi.h>

#include <cstddef>
#include <memory>
#include <string>

namespace kaas {

// Memory and launches of one device. Failures abort the test program with a text: they are
// faults of the test's surroundings, not of what it tests.
// Threads: one.
class KernelDevice {
 public:
  virtual ~KernelDevice() = default;

  // KAAS_DEVICE_HOST or KAAS_DEVICE_CUDA.
  [[nodiscard]] virtual unsigned kind() const = 0;
  // What follows a library's name in its file name: ".so" or ".cuda.so".
  [[nodiscard]] virtual std::string library_suffix() const = 0;

  // At least 256-byte aligned; owned by the caller until free().
  [[nodiscard]] virtual void* allocate(std::size_t bytes) = 0;
  virtual void free(void* memory) = 0;
  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;

  // Runs one launch to its end. `launch.shared_bytes` is final.
  virtual void run(const kaas_library& library, const kaas_kernel_descriptor& kernel,
                   const kaas_launch& launch, void* const* params) = 0;
};

// The device that this test program was built for; null if this machine has none.
std::unique_ptr<KernelDevice> make_kernel_device();

}  // namespace kaas

#endif  // KAAS_TESTS_UNIT_KERNELS_KERNEL_DEVICE_H_
