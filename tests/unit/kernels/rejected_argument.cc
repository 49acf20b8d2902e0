// Must not compile: KAAS_ARGUMENT is a type that no kernel may take.
#include <kaas/kernel.h>

namespace {

struct HasDestructor {
  ~HasDestructor() {}
};

KAAS_FUNCTION void kernel(kaas::Block&, KAAS_ARGUMENT) {}

}  // namespace

KAAS_KERNEL(kernel);
