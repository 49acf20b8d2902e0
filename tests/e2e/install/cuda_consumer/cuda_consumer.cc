// Host memory is no device memory, on any machine: prints why it is refused.
#include <kaas/cuda.h>

#include <cstdio>

int main() {
  const int memory = 0;
  const auto exported = kaas::CudaExport::create(&memory, sizeof memory);
  if (exported.has_value()) return 1;
  std::printf("%s\n", exported.error().message.c_str());
  return 0;
}
