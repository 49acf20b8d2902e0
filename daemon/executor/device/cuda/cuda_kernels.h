// The executor's own kernels.
// Threads: any, with a context current.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace kaas {

// Copies of a run, as a kernel takes them by value. A multiple of 16 bytes is copied.
struct MoveTable {
  static constexpr unsigned kMovesMax = 16;
  struct Entry {
    std::uint64_t to;
    std::uint64_t from;
    std::uint64_t bytes;
  };
  std::uint64_t count;
  Entry entries[kMovesMax];
};

// end_iteration, one thread: decides whether a graph's loop goes on. Its parameters:
//   handle of the loop
//   const u32* until        stop when it is not zero; device memory
//   u64* iteration          device memory, zero before and after a run
//   u64* iterations         host memory; written when the loop ends
//   u64  iterations_max
CUresult load_end_iteration(CUfunction* function);

// begin_run(MoveTable), one block.
CUresult load_begin_run(CUfunction* function);

// end_run(MoveTable, u32* word, u32 value), one block: copies, and writes a word of host memory
// when that and all before it is done and visible to the host.
CUresult load_end_run(CUfunction* function);

inline constexpr unsigned kMoveThreads = 512;

}  // namespace kaas
