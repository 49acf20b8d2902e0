#include "tests/unit/kernels/kernel_call.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace kaas {
namespace {

constexpr std::size_t kGuardBytes = 256;
constexpr unsigned char kGuard = 0x5A;

[[noreturn]] void fail_setup(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::abort();
}

}  // namespace

std::string LaunchShape::text() const {
  const auto triple = [](const std::array<std::uint32_t, 3>& extents) {
    return std::to_string(extents[0]) + "x" + std::to_string(extents[1]) + "x" +
           std::to_string(extents[2]);
  };
  return "grid " + triple(grid) + ", block " + triple(block);
}

const std::vector<LaunchShape>& launch_shapes() {
  static const std::vector<LaunchShape> shapes = {
      {{1, 1, 1}, {1, 1, 1}},   {{1, 1, 1}, {256, 1, 1}}, {{17, 1, 1}, {256, 1, 1}},
      {{3, 1, 1}, {33, 1, 1}},  {{7, 2, 1}, {16, 16, 1}}, {{2, 3, 2}, {5, 3, 7}},
      {{40, 40, 1}, {8, 4, 1}}, {{2, 1, 1}, {1024, 1, 1}}};
  return shapes;
}

std::string kernel_library_path(const std::string& file_name) {
  const char* build = std::getenv("KAAS_TEST_BINARY_DIR");
  if (build == nullptr) fail_setup("KAAS_TEST_BINARY_DIR is not set; run this test through ctest");
  return std::string(build) + "/lib/kaas/kernels/" + file_name;
}

KernelLibrary::KernelLibrary(KernelDevice& device, const std::string& name)
    : KernelLibrary(kernel_library_path(name + device.library_suffix())) {}

KernelLibrary::KernelLibrary(const std::string& path) {
  handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) fail_setup(dlerror());
  auto* function = reinterpret_cast<kaas_library_function>(symbol(KAAS_LIBRARY_SYMBOL));
  if (function != nullptr) table_ = function();
}

KernelLibrary::~KernelLibrary() {
  dlclose(handle_);
}

const kaas_kernel_descriptor* KernelLibrary::find(const std::string& kernel) const {
  for (std::uint32_t i = 0; i < table_->kernel_count; ++i) {
    const kaas_kernel_descriptor* descriptor = kaas_kernel_at(table_, i);
    if (kernel == descriptor->name) return descriptor;
  }
  return nullptr;
}

void* KernelLibrary::symbol(const char* name) const {
  return dlsym(handle_, name);
}

KernelCall::KernelCall(KernelDevice& device, const KernelLibrary& library, std::string kernel,
                       const LaunchShape& shape)
    : device_(device), library_(library), kernel_(std::move(kernel)), shape_(shape) {}

KernelCall::~KernelCall() {
  for (const Parameter& parameter : parameters_) {
    if (parameter.memory != nullptr) device_.free(parameter.memory);
  }
}

KernelCall& KernelCall::shared_bytes(std::uint64_t bytes) {
  shared_bytes_ = bytes;
  return *this;
}

void KernelCall::add_literal(const std::string& item, const void* value, std::size_t bytes) {
  Parameter parameter;
  const auto* from = static_cast<const unsigned char*>(value);
  parameter.value.assign(from, from + bytes);
  signature_ += item;
  parameters_.push_back(std::move(parameter));
}

void KernelCall::add_buffer(const char* item, const void* content, void* result,
                            std::size_t bytes) {
  Parameter parameter;
  parameter.before.assign(bytes + 2 * kGuardBytes, kGuard);
  if (bytes != 0) std::memcpy(parameter.before.data() + kGuardBytes, content, bytes);
  parameter.memory = static_cast<unsigned char*>(device_.allocate(parameter.before.size()));
  device_.upload(parameter.memory, parameter.before.data(), parameter.before.size());
  parameter.result = result;
  unsigned char* address = parameter.memory + kGuardBytes;
  parameter.value.resize(sizeof(address));
  std::memcpy(parameter.value.data(), &address, sizeof(address));
  signature_ += item;
  parameters_.push_back(std::move(parameter));
}

void KernelCall::repeat_address(const char* item) {
  Parameter parameter;
  parameter.value = parameters_.back().value;
  signature_ += item;
  parameters_.push_back(std::move(parameter));
}

void KernelCall::run() {
  const kaas_kernel_descriptor* kernel = library_.find(kernel_);
  ASSERT_NE(kernel, nullptr) << kernel_;
  ASSERT_EQ(kernel->signature, signature_) << kernel_;

  kaas_launch launch{};
  launch.struct_size = sizeof(launch);
  std::copy(shape_.grid.begin(), shape_.grid.end(), launch.grid);
  std::copy(shape_.block.begin(), shape_.block.end(), launch.block);
  std::fill(std::begin(launch.cluster), std::end(launch.cluster), 1U);
  launch.shared_bytes = kaas_shared_bytes(kernel, shared_bytes_, shape_.threads());
  std::vector<void*> params;
  params.reserve(parameters_.size());
  for (Parameter& parameter : parameters_) params.push_back(parameter.value.data());
  device_.run(library_.table(), *kernel, launch, params.data());
  check_buffers();
}

void KernelCall::check_buffers() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = parameters_[i];
    if (parameter.memory == nullptr) continue;
    std::vector<unsigned char> after(parameter.before.size());
    device_.download(after.data(), parameter.memory, after.size());
    const std::size_t bytes = after.size() - 2 * kGuardBytes;
    if (parameter.result != nullptr && bytes != 0) {
      std::memcpy(parameter.result, after.data() + kGuardBytes, bytes);
      std::copy_n(parameter.before.begin() + kGuardBytes, bytes, after.begin() + kGuardBytes);
    }
    // What is left to compare: both guards, and an input's content.
    ASSERT_TRUE(after == parameter.before)
        << kernel_ << " wrote outside its outputs, near parameter " << i << ", " << shape_.text();
  }
}

void KernelTest::SetUp() {
  device_ = make_kernel_device();
  if (device_ == nullptr) GTEST_SKIP() << "this machine has no CUDA device";
  const char* given = std::getenv("KAAS_TEST_SEED");
  const std::uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  random_.seed(seed);
  trace_ = std::make_unique<testing::ScopedTrace>(__FILE__, __LINE__,
                                                  "KAAS_TEST_SEED=" + std::to_string(seed));
}

std::vector<float> KernelTest::random_floats(std::size_t count, float low, float high) {
  std::uniform_real_distribution<float> draw(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = draw(random_);
  return values;
}

std::vector<std::uint8_t> KernelTest::random_bytes(std::size_t count) {
  std::uniform_int_distribution<int> draw(0, 255);
  std::vector<std::uint8_t> values(count);
  for (std::uint8_t& value : values) value = static_cast<std::uint8_t>(draw(random_));
  return values;
}

}  // namespace kaas
