// The block that a kernel is a function of: the host's and CUDA's. Included by <kaas/kernel.h>,
// which says what kernels may do.
#ifndef KAAS_KERNEL_BLOCK_H_
#define KAAS_KERNEL_BLOCK_H_

#include <kaas/kernel_abi.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_runtime_api.h>
#define KAAS_FUNCTION __device__ inline
#define KAAS_INLINE __device__ __forceinline__
#else
// Marks a kernel and every function that a kernel calls.
#define KAAS_FUNCTION inline
#define KAAS_INLINE inline __attribute__((always_inline))
#endif

// Before a loop over threads: its turns do not depend on one another, so it may be vectorised.
// clang has no such hint that is silent where it cannot follow it; it checks at run time.
#ifdef __clang__
#define KAAS_INDEPENDENT
#else
#define KAAS_INDEPENDENT _Pragma("GCC ivdep")
#endif

// Hidden, so that nothing of one library is bound to another that the same process has loaded.
#pragma GCC visibility push(hidden)

namespace kaas {

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

// A thread within its block; `linear` = x + dim.x * (y + dim.y * z).
struct Thread {
  uint32_t x, y, z;
  uint32_t linear;
};

// Where a block is, and how large blocks and grid are. Extents are in threads and in blocks.
struct BlockShape {
  Dim3 index;
  Dim3 dim;
  Dim3 grid;

  [[nodiscard]] KAAS_INLINE uint32_t threads() const { return dim.x * dim.y * dim.z; }
  [[nodiscard]] KAAS_INLINE uint64_t blocks() const { return uint64_t{grid.x} * grid.y * grid.z; }
  [[nodiscard]] KAAS_INLINE uint64_t linear_index() const {
    return index.x + uint64_t{grid.x} * (index.y + uint64_t{grid.y} * index.z);
  }
};

#ifdef __CUDACC__

// One T per thread that lives as long as the object, across barriers; here a register.
template <class T>
class PerThread {
 public:
  KAAS_INLINE explicit PerThread(const BlockShape&, const T& initial) : value_(initial) {}
  KAAS_INLINE T& operator[](const Thread&) { return value_; }
  KAAS_INLINE T& operator[](uint32_t) { return value_; }

 private:
  T value_;
};

extern __shared__ __align__(KAAS_SHARED_ALIGNMENT) unsigned char kaas_dynamic_shared[];

// See the class of the host below for what each member means.
class Block : public BlockShape {
 public:
  // The block of the kernel that is running.
  KAAS_INLINE Block()
      : BlockShape{{blockIdx.x, blockIdx.y, blockIdx.z},
                   {blockDim.x, blockDim.y, blockDim.z},
                   {gridDim.x, gridDim.y, gridDim.z}},
        shared_(kaas_dynamic_shared),
        thread_{threadIdx.x, threadIdx.y, threadIdx.z,
                threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)},
        active_(true) {
    uint32_t bytes;
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
    shared_bytes_ = bytes;
  }

  // For a resident kernel that runs blocks of its own choice: `linear` is the running thread.
  KAAS_INLINE Block(const BlockShape& shape, void* shared, uint64_t shared_bytes, uint32_t linear)
      : BlockShape(shape),
        shared_(shared),
        shared_bytes_(shared_bytes),
        thread_{linear % shape.dim.x, linear / shape.dim.x % shape.dim.y,
                linear / shape.dim.x / shape.dim.y, linear},
        active_(linear < shape.threads()) {}

  [[nodiscard]] KAAS_INLINE Block step(const BlockShape& shape) const {
    return Block(shape, shared_, shared_bytes_, thread_.linear);
  }

  template <class F>
  KAAS_INLINE void for_each_thread(const F& f) const {
    if (active_) f(thread_);
  }

  template <class F>
  KAAS_INLINE void for_each_in_block(uint64_t count, const F& f) const {
    if (!active_) return;
    for (uint64_t i = thread_.linear; i < count; i += threads()) f(thread_.linear, i);
  }

  template <class F>
  KAAS_INLINE void for_each_element(uint64_t count, const F& f) const {
    if (!active_) return;
    const uint64_t step = blocks() * threads();
    uint64_t i = linear_index() * threads() + thread_.linear;
    if (i >= count) return;
    for (;; i += step) {
      f(i);
      if (count - i <= step) return;
    }
  }

  template <class F>
  KAAS_INLINE void for_each_element_2d(uint32_t width, uint32_t height, const F& f) const {
    if (!active_ || index.z != 0 || thread_.z != 0) return;
    const uint64_t step_x = uint64_t{grid.x} * dim.x;
    const uint64_t step_y = uint64_t{grid.y} * dim.y;
    for (uint64_t y = uint64_t{index.y} * dim.y + thread_.y; y < height; y += step_y) {
      for (uint64_t x = uint64_t{index.x} * dim.x + thread_.x; x < width; x += step_x) {
        f(static_cast<uint32_t>(x), static_cast<uint32_t>(y));
      }
    }
  }

  KAAS_INLINE void barrier() const { __syncthreads(); }

  template <class T>
  [[nodiscard]] KAAS_INLINE PerThread<T> per_thread(const T& initial = T{}) const {
    return PerThread<T>(*this, initial);
  }

  template <class T>
  [[nodiscard]] KAAS_INLINE T* shared(uint64_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(static_cast<unsigned char*>(shared_) + offset_bytes);
  }
  [[nodiscard]] KAAS_INLINE uint64_t shared_bytes() const { return shared_bytes_; }

 private:
  void* shared_;
  uint64_t shared_bytes_ = 0;
  Thread thread_;
  bool active_;
};

// Adds to `*target`, which other threads and blocks may add to at the same time; returns the old
// value. T: int32_t, uint32_t, uint64_t, float, double.
template <class T>
KAAS_INLINE T atomic_add(T* target, T value) {
  if constexpr (std::is_same_v<T, uint64_t>) {
    return atomicAdd(reinterpret_cast<unsigned long long*>(target),
                     static_cast<unsigned long long>(value));
  } else {
    return atomicAdd(target, value);
  }
}

#else  // Host

// One T per thread that lives as long as the object, across barriers. On the stack, so T is small.
template <class T>
class PerThread {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 64,
                "per-thread storage is for trivially copyable types of at most 64 bytes");

 public:
  KAAS_INLINE explicit PerThread(const BlockShape& shape, const T& initial) {
    const uint32_t count = shape.threads();
    for (uint32_t i = 0; i < count; ++i) new (storage_ + i * sizeof(T)) T(initial);
  }
  KAAS_INLINE T& operator[](const Thread& thread) { return values()[thread.linear]; }
  KAAS_INLINE T& operator[](uint32_t linear) { return values()[linear]; }

 private:
  KAAS_INLINE T* values() { return reinterpret_cast<T*>(storage_); }
  alignas(KAAS_SHARED_ALIGNMENT) unsigned char storage_[KAAS_BLOCK_THREADS_MAX * sizeof(T)];
};

// One block of a launch. A kernel gets it by reference and asks it for everything it knows.
// Threads: one block is run by one thread of the executor, its threads as loops.
class Block : public BlockShape {
 public:
  // `shape.index` is where the run begins; see advance().
  KAAS_INLINE Block(const BlockShape& shape, void* shared, uint64_t shared_bytes)
      : BlockShape(shape), shared_(shared), shared_bytes_(shared_bytes) {}

  // Runs f(thread) for every thread of the block.
  template <class F>
  KAAS_INLINE void for_each_thread(const F& f) const {
    uint32_t first = 0;
    for (uint32_t z = 0; z < dim.z; ++z) {
      for (uint32_t y = 0; y < dim.y; ++y) {
        KAAS_INDEPENDENT
        for (uint32_t x = 0; x < dim.x; ++x) f(Thread{x, y, z, first + x});
        first += dim.x;
      }
    }
  }

  // Runs f(thread, i) for every i below `count`, dealt out among the threads of this block: thread
  // t gets t, t + threads(), t + 2 * threads() and so on, in that order.
  template <class F>
  KAAS_INLINE void for_each_in_block(uint64_t count, const F& f) const {
    const uint32_t step = threads();
    for (uint64_t base = 0; base < count; base += step) {
      const auto active = static_cast<uint32_t>(count - base < step ? count - base : step);
      KAAS_INDEPENDENT
      for (uint32_t thread = 0; thread < active; ++thread) f(thread, base + thread);
      if (count - base <= step) return;
    }
  }

  // Runs f(i) for every i below `count`, dealt out among all threads of the grid. Any grid covers
  // all elements; threads beyond the last element do nothing.
  template <class F>
  KAAS_INLINE void for_each_element(uint64_t count, const F& f) const {
    const uint32_t per_block = threads();
    const uint64_t step = blocks() * per_block;
    uint64_t base = linear_index() * per_block;
    if (base >= count) return;
    for (;; base += step) {
      const uint64_t end = count - base < per_block ? count : base + per_block;
      KAAS_INDEPENDENT
      for (uint64_t i = base; i < end; ++i) f(i);
      if (count - base <= step) return;
    }
  }

  // Runs f(x, y) for every x below `width` and y below `height`, dealt out among the threads of the
  // grid along x and y. Any grid covers all; of several layers along z the first one works.
  template <class F>
  KAAS_INLINE void for_each_element_2d(uint32_t width, uint32_t height, const F& f) const {
    if (index.z != 0) return;
    const uint64_t step_x = uint64_t{grid.x} * dim.x;
    const uint64_t step_y = uint64_t{grid.y} * dim.y;
    for (uint64_t top = uint64_t{index.y} * dim.y; top < height; top += step_y) {
      const auto bottom = static_cast<uint32_t>(height - top < dim.y ? height : top + dim.y);
      for (auto y = static_cast<uint32_t>(top); y < bottom; ++y) {
        for (uint64_t left = uint64_t{index.x} * dim.x; left < width; left += step_x) {
          const auto right = static_cast<uint32_t>(width - left < dim.x ? width : left + dim.x);
          KAAS_INDEPENDENT
          for (auto x = static_cast<uint32_t>(left); x < right; ++x) f(x, y);
        }
      }
    }
  }

  // Waits until every thread of the block is here. Only outside the lambdas.
  KAAS_INLINE void barrier() const {}

  // Storage for one T of each thread, indexed by Thread or by its linear number. A thread uses
  // its own only. At most 64 bytes a thread.
  template <class T>
  [[nodiscard]] KAAS_INLINE PerThread<T> per_thread(const T& initial = T{}) const {
    return PerThread<T>(*this, initial);
  }

  // The block's shared memory from `offset_bytes` on; content undefined at the start. How much
  // there is: what the kernel declared (KernelOptions) or the request asked for, the larger one.
  template <class T>
  [[nodiscard]] KAAS_INLINE T* shared(uint64_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(static_cast<unsigned char*>(shared_) + offset_bytes);
  }
  [[nodiscard]] KAAS_INLINE uint64_t shared_bytes() const { return shared_bytes_; }

  // A block of another shape, for calling a kernel as a step of this one: any index and grid, and
  // at most as many threads as this block has; the further ones idle. It has the same shared
  // memory. Every thread calls the step, and barriers within it are barriers of this block.
  [[nodiscard]] KAAS_INLINE Block step(const BlockShape& shape) const {
    return Block(shape, shared_, shared_bytes_);
  }

  // Moves on to the next block of the grid. For those who run blocks, not for kernels.
  KAAS_INLINE void advance() {
    if (++index.x < grid.x) return;
    index.x = 0;
    if (++index.y < grid.y) return;
    index.y = 0;
    ++index.z;
  }

 private:
  void* shared_;
  uint64_t shared_bytes_;
};

// Adds to `*target`, which other threads and blocks may add to at the same time; returns the old
// value. T: int32_t, uint32_t, uint64_t, float, double.
template <class T>
KAAS_INLINE T atomic_add(T* target, T value) {
  if constexpr (std::is_integral_v<T>) {
    return __atomic_fetch_add(target, value, __ATOMIC_RELAXED);
  } else {
    T seen;
    __atomic_load(target, &seen, __ATOMIC_RELAXED);
    for (;;) {
      T wanted = seen + value;
      if (__atomic_compare_exchange(target, &seen, &wanted, true, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
        return seen;
      }
    }
  }
}

#endif

}  // namespace kaas

#pragma GCC visibility pop

#endif  // KAAS_KERNEL_BLOCK_H_
