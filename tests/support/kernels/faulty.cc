// Kernels that do what kernels must not: for tests of what happens then. Host only.
#include <kaas/kernel.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace {

uint64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

}  // namespace

// Ends the executor by a bad access.
KAAS_FUNCTION void crash(kaas::Block&, uint32_t really) {
  auto* nowhere = reinterpret_cast<volatile uint32_t*>(uintptr_t{8});
  if (really != 0) *nowhere = really;
}
KAAS_KERNEL(crash);

// Ends the executor's process in an orderly way.
KAAS_FUNCTION void leave(kaas::Block&, uint32_t status) {
  ::_exit(static_cast<int>(status));
}
KAAS_KERNEL(leave);

// Runs for `ms`, then sets x[0] to `value`.
KAAS_FUNCTION void busy(kaas::Block&, uint64_t ms, float value, float* x) {
  const uint64_t end = now_ms() + ms;
  while (now_ms() < end) {
  }
  x[0] = value;
}
KAAS_KERNEL(busy);

// Prints that it begins, and then is as the last one.
KAAS_FUNCTION void busy_aloud(kaas::Block& block, uint64_t ms, float value, float* x) {
  std::puts("kernel begins");
  std::fflush(stdout);
  busy(block, ms, value, x);
}
KAAS_KERNEL(busy_aloud);

// Never ends.
KAAS_FUNCTION void endless(kaas::Block&, uint32_t) {
  volatile uint32_t turns = 0;
  for (;;) {
    const uint32_t next = turns + 1;
    turns = next;
  }
}
KAAS_KERNEL(endless);

// Prints a line.
KAAS_FUNCTION void say(kaas::Block&, int32_t number) {
  std::printf("kernel says %d\n", number);
}
KAAS_KERNEL(say);

KAAS_LIBRARY("faulty");
