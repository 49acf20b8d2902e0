// Kernels that treat every element alone.
#include <kaas/kernel.h>

namespace kaas {
namespace {

// Does nothing: for measuring what a request costs without its work.
KAAS_FUNCTION void noop(Block&) {}

struct alignas(16) Bytes16 {
  uint32_t words[4];
};

// in and out must not overlap, unless they are equal.
KAAS_FUNCTION void copy(Block& block, uint64_t bytes, const void* in, void* out) {
  const auto* in_bytes = static_cast<const uint8_t*>(in);
  auto* out_bytes = static_cast<uint8_t*>(out);
  // Whole 16-byte words where both addresses allow it: a GPU moves them at once.
  const uint64_t misalignment =
      (reinterpret_cast<uintptr_t>(in) | reinterpret_cast<uintptr_t>(out)) % sizeof(Bytes16);
  const uint64_t words = misalignment == 0 ? bytes / sizeof(Bytes16) : 0;
  block.for_each_element(words, [&](uint64_t i) {
    reinterpret_cast<Bytes16*>(out_bytes)[i] = reinterpret_cast<const Bytes16*>(in_bytes)[i];
  });
  const uint64_t done = words * sizeof(Bytes16);
  block.for_each_element(bytes - done,
                         [&](uint64_t i) { out_bytes[done + i] = in_bytes[done + i]; });
}

template <class T>
KAAS_FUNCTION void fill(Block& block, uint64_t count, T value, T* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = value; });
}

KAAS_FUNCTION void add(Block& block, uint64_t count, const float* a, const float* b, float* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = a[i] + b[i]; });
}

KAAS_FUNCTION void product(Block& block, uint64_t count, const float* a, const float* b,
                           float* out) {
  block.for_each_element(count, [&](uint64_t i) { out[i] = a[i] * b[i]; });
}

KAAS_FUNCTION void scale(Block& block, uint64_t count, float factor, float* x) {
  block.for_each_element(count, [&](uint64_t i) { x[i] *= factor; });
}

KAAS_FUNCTION void saxpy(Block& block, uint64_t count, float a, const float* x, float* y) {
  block.for_each_element(count, [&](uint64_t i) { y[i] += a * x[i]; });
}

}  // namespace

KAAS_KERNEL(noop);
KAAS_KERNEL(copy);
KAAS_KERNEL_AS("fill_u32", fill<uint32_t>);
KAAS_KERNEL_AS("fill_f32", fill<float>);
KAAS_KERNEL(add);
KAAS_KERNEL(product);
KAAS_KERNEL(scale);
KAAS_KERNEL(saxpy);

}  // namespace kaas
