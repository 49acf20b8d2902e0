// A library of which tests build several versions: `answer` writes ANSWER. It keeps a count in a
// static and in an inline variable, which a second version must not share.
#include <kaas/kernel.h>

inline uint32_t calls_of_all_versions = 0;

KAAS_FUNCTION void answer(kaas::Block&, uint32_t* out) {
  static uint32_t calls = 0;
  out[0] = ANSWER;
  out[1] = ++calls;
  out[2] = ++calls_of_all_versions;
}
KAAS_KERNEL(answer, kaas::KernelOptions().stateful());
KAAS_LIBRARY("answer");
