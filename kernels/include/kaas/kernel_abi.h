/* The binary contract between a wrapper library and the executor that loads it.
 *
 * A wrapper library is a shared object that exports one function, `kaas_library_v1`. It returns a
 * table that lives as long as the library is loaded: who the library is, its hooks, and a
 * descriptor for each kernel. <kaas/kernel.h> writes the table for C++ authors; any language that
 * can lay out these structs can write it by hand. Plain C99, and C++.
 *
 * Versions. Every struct begins with (or carries) `struct_size`, the size its writer knew.
 *   - A reader takes any `struct_size` that is at least the v1 size given here, reads no member
 *     beyond it, and steps through an array by the writer's size, never by its own sizeof.
 *   - A later minor version appends members or gives a meaning to a reserved one; zero keeps the
 *     old meaning. So reserved members must be zero.
 *   - A change that an old reader would misunderstand gets a new symbol (`kaas_library_v2`), and
 *     `abi_version` repeats that number as a check.
 *
 * Ownership. All pointers in the table belong to the library. Strings are NUL-terminated UTF-8.
 * Errors. A hook that fails returns non-zero and writes a text into the caller's buffer, NUL
 * included; kaas_write_error does it. No C++ exception may leave any function named here.
 */
#ifndef KAAS_KERNEL_ABI_H_
#define KAAS_KERNEL_ABI_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KAAS_ABI_ASSERT(name, condition) static_assert(condition, #name)
extern "C" {
#else
#define KAAS_ABI_ASSERT(name, condition) typedef char kaas_assert_##name[(condition) ? 1 : -1]
#endif

/* "KaaSlib" and a zero byte, as a little-endian number. */
#define KAAS_LIBRARY_MAGIC UINT64_C(0x0062696c5361614b)
#define KAAS_LIBRARY_ABI_VERSION 1u
#define KAAS_LIBRARY_SYMBOL "kaas_library_v1"

/* Limits of a launch on every device, the host included. The product of the grid's extents and the
 * threads of a block is below 2^63, so that index arithmetic in 64 bits cannot overflow. */
#define KAAS_BLOCK_THREADS_MAX 1024u
/* Alignment of the shared memory of a block, in bytes. */
#define KAAS_SHARED_ALIGNMENT 64u

/* Flags of a library and of a kernel.
 * STATEFUL      keeps something between calls: a call must not be repeated after a failure, and
 *               calls stay in order. On the library it holds for all its kernels.
 * CAPTURE_PURE  of an opaque kernel: its launch function enqueues the same work whenever its
 *               parameters are the same, only on the stream it is given, and neither synchronises
 *               nor allocates; so it may be captured into a graph once and replayed.
 * OPAQUE        `launch` is set; `host_blocks` and `device_entry` are null.
 * WAITS         of a kernel with `device_entry`: where it was compiled for compute capability 9.0
 *               or later, all its threads wait for the kernels before it (griddepcontrol.wait)
 *               before they do anything, so it may be launched while those still run. */
#define KAAS_STATEFUL 1u
#define KAAS_CAPTURE_PURE 2u
#define KAAS_OPAQUE 4u
#define KAAS_WAITS 8u

/* Where the library was opened. */
#define KAAS_DEVICE_HOST 0u
#define KAAS_DEVICE_CUDA 1u

/* Signatures. One item per parameter, in the order of the kernel's parameters, no separators:
 *
 *   signature := item*
 *   item      := "i" | "I"     int32, uint32                         4 bytes
 *              | "q" | "Q"     int64, uint64                         8 bytes
 *              | "f" | "d"     float32, float64                      4, 8 bytes
 *              | "b<" N ">"    N raw bytes (a by-value struct), N from 1 to 4096 in decimal
 *              | "p"           address of memory that the kernel only reads
 *              | "P"           address of memory that the kernel may write
 *
 * "QfpP" is saxpy(count, factor, x, y). By convention literals come before addresses; a request
 * that keeps the convention needs no explicit parameter order. */
#define KAAS_SIGNATURE_RAW_BYTES_MAX 4096u

/* One launch, as the executor hands it to a library. v1 size: 88 bytes. */
typedef struct kaas_launch {
  uint32_t struct_size;
  uint32_t reserved0;
  uint32_t grid[3];    /* Blocks along x, y, z; each at least 1. */
  uint32_t block[3];   /* Threads along x, y, z; each at least 1, product at most 1024. */
  uint32_t cluster[3]; /* Blocks of a cluster; 1, 1, 1 where the request asked for none. */
  uint32_t reserved1;
  uint64_t shared_bytes; /* Shared memory of a block; at least kaas_shared_bytes(). */
  void* context;         /* What `open` returned; null without an `open`. */
  uint64_t reserved[3];
} kaas_launch;
KAAS_ABI_ASSERT(launch_size, sizeof(kaas_launch) == 88);
KAAS_ABI_ASSERT(launch_grid, offsetof(kaas_launch, grid) == 8);
KAAS_ABI_ASSERT(launch_shared, offsetof(kaas_launch, shared_bytes) == 48);
KAAS_ABI_ASSERT(launch_context, offsetof(kaas_launch, context) == 56);

/* Runs the blocks [first_block, first_block + block_count) of a launch on the host, one after
 * another on the calling thread. Block number b has x = b % grid[0], y = b / grid[0] % grid[1],
 * z = b / grid[0] / grid[1].
 * params[i]  points at the value of parameter i, which is copied before the first block runs.
 * shared     launch->shared_bytes bytes, aligned to KAAS_SHARED_ALIGNMENT, content undefined; no
 *            other call uses them meanwhile. Null if there are none.
 * Threads    disjoint runs of one launch may be executed at the same time on any threads. */
typedef void (*kaas_host_blocks)(const kaas_launch* launch, uint64_t first_block,
                                 uint64_t block_count, void* const* params, void* shared);

/* Enqueues the work of an opaque kernel on `stream` (a CUstream; null on the host, where the work
 * is done when the function returns). The current device and context are set by the caller.
 * Returns 0, or non-zero with a text in `error`. */
typedef int (*kaas_opaque_launch)(const kaas_launch* launch, void* const* params, void* stream,
                                  void* context, char* error, size_t error_bytes);

/* What the last kernel of a run does at its end, on a CUDA device. */
typedef struct kaas_run_end {
  uint32_t*
      word; /* Host memory. Gets `value` when the block has ended, and what it wrote is visible
                     to the host (a release at system scope). */
  uint32_t value;
  uint32_t reserved;
} kaas_run_end;
KAAS_ABI_ASSERT(run_end_size, sizeof(kaas_run_end) == 16);

/* One kernel. v1 size: 96 bytes. Exactly one way to run on the device that the library was built
 * for is set: host_blocks, device_entry, or launch. */
typedef struct kaas_kernel_descriptor {
  uint32_t struct_size; /* The same in all descriptors of a library. */
  uint32_t flags;
  const char* name; /* Unique in its library, not empty. */
  const char* signature;
  /* Shared memory that the kernel needs itself, whatever a request asks for. */
  uint32_t shared_bytes_fixed;
  uint32_t shared_bytes_per_thread;
  uint64_t reserved0;
  kaas_host_blocks host_blocks;
  const void* device_entry; /* For kaas_library.resolve. Null in a host build. */
  kaas_opaque_launch launch;
  /* The same kernel as device_entry, for grids of one block, with a kaas_run_end by value before
   * its other parameters, which it does at its end. Null: there is none. A small kernel is done
   * sooner so than with a kernel behind it that says so. Added in a minor version. */
  const void* ending_entry;
  uint64_t reserved[3];
} kaas_kernel_descriptor;
KAAS_ABI_ASSERT(descriptor_size, sizeof(kaas_kernel_descriptor) == 96);
KAAS_ABI_ASSERT(descriptor_name, offsetof(kaas_kernel_descriptor, name) == 8);
KAAS_ABI_ASSERT(descriptor_shared, offsetof(kaas_kernel_descriptor, shared_bytes_fixed) == 24);
KAAS_ABI_ASSERT(descriptor_blocks, offsetof(kaas_kernel_descriptor, host_blocks) == 40);
KAAS_ABI_ASSERT(descriptor_launch, offsetof(kaas_kernel_descriptor, launch) == 56);
KAAS_ABI_ASSERT(descriptor_ending, offsetof(kaas_kernel_descriptor, ending_entry) == 64);

/* What `open` learns, and where it puts an error. v1 size: 64 bytes. */
typedef struct kaas_open_info {
  uint32_t struct_size;
  uint32_t device_kind;   /* KAAS_DEVICE_HOST or KAAS_DEVICE_CUDA. */
  int32_t device_ordinal; /* CUDA ordinal in the executor's process; 0 on the host. */
  uint32_t host_threads;  /* Threads on which the executor runs kernels. */
  char* error;
  uint64_t error_bytes;
  uint64_t reserved[4];
} kaas_open_info;
KAAS_ABI_ASSERT(open_info_size, sizeof(kaas_open_info) == 64);
KAAS_ABI_ASSERT(open_info_error, offsetof(kaas_open_info, error) == 16);

/* The library. v1 size: 96 bytes. */
typedef struct kaas_library {
  uint64_t magic;
  uint32_t abi_version;
  uint32_t struct_size;
  const char* name;
  uint32_t flags;
  uint32_t kernel_count;
  const kaas_kernel_descriptor* kernels; /* Step with kaas_kernel_at. */
  /* Called once after loading, before the first kernel; null if there is nothing to do. On success
   * returns 0 and stores a context (null is allowed) that every launch carries. If it fails, no
   * kernel of the library runs and `close` is not called. */
  int (*open)(kaas_open_info* info, void** context);
  /* Called once after the last kernel has finished, if `open` succeeded or is null. May be null. */
  void (*close)(void* context);
  /* Turns a device_entry or ending_entry into a CUfunction of the current context. The library does
   * it itself because the CUDA runtime that it links knows its kernels and the executor's does not.
   * Null in a host build. */
  int (*resolve)(const void* device_entry, void** function, char* error, size_t error_bytes);
  uint64_t reserved[4];
} kaas_library;
KAAS_ABI_ASSERT(library_size, sizeof(kaas_library) == 96);
KAAS_ABI_ASSERT(library_name, offsetof(kaas_library, name) == 16);
KAAS_ABI_ASSERT(library_kernels, offsetof(kaas_library, kernels) == 32);
KAAS_ABI_ASSERT(library_resolve, offsetof(kaas_library, resolve) == 56);

/* The exported symbol. Called on one thread; returns the same table each time, or null if the
 * table could not be built (out of memory). */
typedef const kaas_library* (*kaas_library_function)(void);

/* Descriptor `index` of `library`; index < kernel_count. */
static inline const kaas_kernel_descriptor* kaas_kernel_at(const kaas_library* library,
                                                           uint32_t index) {
  const char* first = (const char*)library->kernels;
  return (const kaas_kernel_descriptor*)(const void*)(first + (size_t)index *
                                                                  library->kernels->struct_size);
}

/* Shared memory of a block, in bytes: what the request asked for, or what the kernel itself needs
 * for `threads` threads, whichever is more. */
static inline uint64_t kaas_shared_bytes(const kaas_kernel_descriptor* kernel, uint64_t requested,
                                         uint32_t threads) {
  const uint64_t needed =
      kernel->shared_bytes_fixed + (uint64_t)kernel->shared_bytes_per_thread * threads;
  return needed > requested ? needed : requested;
}

/* Copies `text`, cut to fit, into an error buffer that may be null or empty. */
static inline void kaas_write_error(char* error, uint64_t error_bytes, const char* text) {
  uint64_t length = 0;
  if (error == NULL || error_bytes == 0) return;
  for (; length + 1 < error_bytes && text[length] != '\0'; ++length) error[length] = text[length];
  error[length] = '\0';
}

#ifdef __cplusplus
}
#endif

#endif /* KAAS_KERNEL_ABI_H_ */
