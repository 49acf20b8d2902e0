// Which multiprocessor each block runs on.
#include <kaas/kernel.h>

#ifdef __CUDACC__
KAAS_FUNCTION uint32_t multiprocessor() {
  uint32_t number;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(number));
  return number;
}
KAAS_FUNCTION uint64_t time_ns() {
  uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}
#else
KAAS_FUNCTION uint32_t multiprocessor() {
  return 0;
}
KAAS_FUNCTION uint64_t time_ns() {
  return ~uint64_t{0};
}
#endif

// places[block] = its multiprocessor. Stays there so long that blocks are spread over all.
KAAS_FUNCTION void where(kaas::Block& block, uint64_t duration_ns, uint32_t* places) {
  const uint64_t begin_ns = time_ns();
  while (time_ns() - begin_ns < duration_ns) {
  }
  block.for_each_in_block(
      1, [&](uint32_t, uint64_t) { places[block.linear_index()] = multiprocessor(); });
}

KAAS_KERNEL(where);
KAAS_LIBRARY("where");
