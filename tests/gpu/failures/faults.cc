// Kernels that go wrong on a GPU, and one that prints.
#include <kaas/kernel.h>

#include <stdio.h>

// Writes where nothing is.
KAAS_FUNCTION void fault(kaas::Block& block, uint32_t number, uint32_t* out) {
  block.for_each_in_block(1, [&](uint32_t, uint64_t) {
    volatile uint32_t* nowhere = reinterpret_cast<volatile uint32_t*>(uintptr_t{8});
    if (number != 0) *nowhere = number;
    out[0] = number;
  });
}

KAAS_FUNCTION void say(kaas::Block& block, uint32_t number) {
  block.for_each_in_block(1, [&](uint32_t, uint64_t) { printf("kernel says %u\n", number); });
}

KAAS_KERNEL(fault);
KAAS_KERNEL(say);
KAAS_LIBRARY("faults");
