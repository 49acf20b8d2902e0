// Reductions within one block, for kernels of any block shape.
#ifndef KAAS_KERNELS_STD_REDUCE_H_
#define KAAS_KERNELS_STD_REDUCE_H_

#include <kaas/kernel.h>

namespace kaas {

struct Add {
  template <class T>
  KAAS_FUNCTION T operator()(T a, T b) const {
    return a + b;
  }
};

// The larger of the two. A NaN is ignored if it is `b`.
struct Max {
  template <class T>
  KAAS_FUNCTION T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

// Combines values[0 .. block.threads()) of shared memory, one written by each thread, as a tree.
// Begins with a barrier and ends with one; the result is in values[0].
template <class T, class Combine>
KAAS_FUNCTION void reduce_block(Block& block, T* values, const Combine& combine) {
  block.barrier();
  for (uint32_t active = block.threads(); active > 1;) {
    // The upper half is folded onto the lower; with an odd count the middle one waits.
    const uint32_t kept = (active + 1) / 2;
    block.for_each_thread([&](const Thread& thread) {
      if (thread.linear < active - kept) {
        values[thread.linear] = combine(values[thread.linear], values[thread.linear + kept]);
      }
    });
    block.barrier();
    active = kept;
  }
}

// Combines term(i) for every i below `count`, dealt out among the threads of this block. Needs
// sizeof(T) bytes of shared memory a thread, at `values`. Every thread gets the result, and
// `values` may be used again.
template <class T, class Combine, class Term>
KAAS_FUNCTION T reduce_in_block(Block& block, T* values, uint64_t count, T identity,
                                const Combine& combine, const Term& term) {
  block.for_each_thread([&](const Thread& thread) { values[thread.linear] = identity; });
  // for_each_in_block gives each thread the index that for_each_thread gave it, so no barrier.
  block.for_each_in_block(count, [&](uint32_t thread, uint64_t i) {
    values[thread] = combine(values[thread], term(i));
  });
  reduce_block(block, values, combine);
  const T result = values[0];
  block.barrier();
  return result;
}

}  // namespace kaas

#endif  // KAAS_KERNELS_STD_REDUCE_H_
