// A link of a chain: lets the next one begin at once, and waits for the one before it.
#include <kaas/kernel.h>

KAAS_FUNCTION void chain_link(kaas::Block& block, uint64_t count, const uint32_t* in,
                              uint32_t* out) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  block.for_each_element(count, [&](uint64_t i) { out[i] = in[i] * 3 + 1; });
}

int launcher(const kaas::OpaqueCall&, uint32_t*) {
  return 0;
}

KAAS_KERNEL(chain_link, kaas::KernelOptions().programmatic());
KAAS_OPAQUE_KERNEL(launcher);
KAAS_LIBRARY("chain");
