// A kernel that counts in a word of device memory for ever.
#include "tests/gpu/ipc/endless_kernel.h"

__global__ void count_for_ever(volatile unsigned* word) {
  for (;;) ++*word;
}

void start_endless_kernel(void* word) {
  count_for_ever<<<1, 1>>>(static_cast<volatile unsigned*>(word));
}
