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

// The last thing that the last thread of the last block does.
KAAS_FUNCTION void fault_late(kaas::Block& block, uint32_t number, uint32_t* out) {
  block.for_each_thread([&](kaas::Thread thread) {
    const uint64_t at = block.linear_index() * block.threads() + thread.linear;
    out[at] = number;
    volatile uint32_t* nowhere = reinterpret_cast<volatile uint32_t*>(uintptr_t{8});
    if (number != 0 && at + 1 == block.blocks() * block.threads()) *nowhere = number;
  });
}

KAAS_FUNCTION void say(kaas::Block& block, uint32_t number) {
  block.for_each_in_block(1, [&](uint32_t, uint64_t) { printf("kernel says %u\n", number); });
}

KAAS_KERNEL(fault);
KAAS_KERNEL(fault_late);
KAAS_KERNEL(say);
KAAS_LIBRARY("faults");
