// A fixture and a call builder with which a test runs one kernel on plain vectors.
#ifndef KAAS_TESTS_UNIT_KERNELS_KERNEL_CALL_H_
#define KAAS_TESTS_UNIT_KERNELS_KERNEL_CALL_H_

#include <gtest/gtest.h>
#include <kaas/kernel_abi.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/kernels/kernel_device.h"

namespace kaas {

struct LaunchShape {
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::array<std::uint32_t, 3> block{1, 1, 1};

  [[nodiscard]] std::uint32_t threads() const { return block[0] * block[1] * block[2]; }
  [[nodiscard]] std::uint64_t blocks() const { return std::uint64_t{grid[0]} * grid[1] * grid[2]; }
  [[nodiscard]] std::string text() const;
};

// Grids that are too small, fitting and too large for the tests' buffers; blocks of one thread, of
// odd shapes, and of the largest size.
const std::vector<LaunchShape>& launch_shapes();

// A wrapper library, loaded as an executor does: local symbols, everything bound at once.
// `name` is that of a library in the build's kernel folder, without suffix.
class KernelLibrary {
 public:
  KernelLibrary(KernelDevice& device, const std::string& name);
  // Loads the file `path` itself.
  explicit KernelLibrary(const std::string& path);
  ~KernelLibrary();
  KernelLibrary(const KernelLibrary&) = delete;
  KernelLibrary& operator=(const KernelLibrary&) = delete;

  [[nodiscard]] const kaas_library& table() const { return *table_; }
  // Null if there is no kernel of this name.
  [[nodiscard]] const kaas_kernel_descriptor* find(const std::string& kernel) const;
  // Null if there is no such symbol.
  [[nodiscard]] void* symbol(const char* name) const;

 private:
  void* handle_ = nullptr;
  const kaas_library* table_ = nullptr;
};

// Path of a kernel library of this build.
std::string kernel_library_path(const std::string& file_name);

// Runs one kernel. Every buffer is copied to the device between two guards; run() checks that the
// guards and the inputs are unchanged, and that the arguments are what the signature says.
//   KernelCall(device, library, "saxpy", shape).literal(count).literal(a).in(x).out(&y).run();
class KernelCall {
 public:
  KernelCall(KernelDevice& device, const KernelLibrary& library, std::string kernel,
             const LaunchShape& shape);
  ~KernelCall();
  KernelCall(const KernelCall&) = delete;
  KernelCall& operator=(const KernelCall&) = delete;

  template <class T>
  KernelCall& literal(const T& value) {
    add_literal(signature_item(value), &value, sizeof(value));
    return *this;
  }
  template <class T>
  KernelCall& in(const std::vector<T>& values) {
    add_buffer("p", values.data(), nullptr, values.size() * sizeof(T));
    return *this;
  }
  // `values` holds what the buffer begins with, and gets what the kernel left in it.
  template <class T>
  KernelCall& out(std::vector<T>* values) {
    add_buffer("P", values->data(), values->data(), values->size() * sizeof(T));
    return *this;
  }
  // One buffer for an input and the output that follows it.
  template <class T>
  KernelCall& in_place(std::vector<T>* values) {
    add_buffer("p", values->data(), values->data(), values->size() * sizeof(T));
    repeat_address("P");
    return *this;
  }
  KernelCall& shared_bytes(std::uint64_t bytes);

  void run();

 private:
  struct Parameter {
    std::vector<unsigned char> value;
    unsigned char* memory = nullptr;  // Of the whole buffer, guards included; owned.
    std::vector<unsigned char> before;
    void* result = nullptr;  // Null for an input.
  };

  static const char* signature_item(std::int32_t) { return "i"; }
  static const char* signature_item(std::uint32_t) { return "I"; }
  static const char* signature_item(std::int64_t) { return "q"; }
  static const char* signature_item(std::uint64_t) { return "Q"; }
  static const char* signature_item(float) { return "f"; }
  static const char* signature_item(double) { return "d"; }
  template <class T>
  static std::string signature_item(const T&) {
    return "b<" + std::to_string(sizeof(T)) + ">";
  }

  void add_literal(const std::string& item, const void* value, std::size_t bytes);
  void add_buffer(const char* item, const void* content, void* result, std::size_t bytes);
  void repeat_address(const char* item);
  void check_buffers();

  KernelDevice& device_;
  const KernelLibrary& library_;
  std::string kernel_;
  LaunchShape shape_;
  std::uint64_t shared_bytes_ = 0;
  std::string signature_;
  std::vector<Parameter> parameters_;
};

// Skips its tests where the device is absent. Draws fresh random data; KAAS_TEST_SEED repeats it.
class KernelTest : public testing::Test {
 protected:
  void SetUp() override;

  [[nodiscard]] std::vector<float> random_floats(std::size_t count, float low = -1.0F,
                                                 float high = 1.0F);
  [[nodiscard]] std::vector<std::uint8_t> random_bytes(std::size_t count);

  // What a buffer holds that a kernel is to overwrite: no plausible result.
  template <class T>
  [[nodiscard]] static std::vector<T> poisoned(std::size_t count) {
    std::vector<T> values(count);
    if (count != 0) std::memset(values.data(), 0xA5, count * sizeof(T));
    return values;
  }

  std::unique_ptr<KernelDevice> device_;
  std::mt19937_64 random_;

 private:
  std::unique_ptr<testing::ScopedTrace> trace_;
};

}  // namespace kaas

#endif  // KAAS_TESTS_UNIT_KERNELS_KERNEL_CALL_H_
