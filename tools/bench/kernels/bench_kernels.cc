#include "tools/bench/kernels/bench_kernels.h"

KAAS_LIBRARY("bench");

namespace kaas {

KAAS_KERNEL(increment);
KAAS_KERNEL(multiply);
KAAS_KERNEL(busy);
KAAS_KERNEL(nothing);

}  // namespace kaas
