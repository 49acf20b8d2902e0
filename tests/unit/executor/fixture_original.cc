// A library of the original form. FIXTURE_EMPTY: it exports nothing.
#include <cstdio>

#ifndef FIXTURE_EMPTY
extern "C" __attribute__((visibility("default"))) int twice(int grid, int block, void** buffers) {
  const auto* in = static_cast<const unsigned*>(buffers[0]);
  auto* out = static_cast<unsigned*>(buffers[1]);
  for (int i = 0; i < grid * block; ++i) out[i] = 2 * in[i];
  return 0;
}

extern "C" __attribute__((visibility("default"))) void say(int grid, int, void**) {
  std::printf("grid %d\n", grid);
}
#endif
