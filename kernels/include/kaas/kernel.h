// Write a kernel once; build it for the host (g++ -x c++) and for CUDA (nvcc -x cu). C++17.
//
//   #include <kaas/kernel.h>
//
//   // y = a * x + y
//   KAAS_FUNCTION void saxpy(kaas::Block& block, uint64_t count, float a, const float* x,
//                            float* y) {
//     block.for_each_element(count, [&](uint64_t i) { y[i] += a * x[i]; });
//   }
//   KAAS_KERNEL(saxpy);
//   KAAS_LIBRARY("mine");  // In exactly one source file of the library.
//
// A kernel is a function of a Block and its arguments, run once for every block of the grid. Code
// outside the for_each_... calls belongs to the block as a whole: what it computes is the same for
// every thread, and it may loop and branch on that. What threads do stands in the lambdas.
//
//   - Between two barriers, threads run in any order or at the same time: one must not touch what
//     another writes, except through atomic_add. (The host compiler may vectorise across threads.)
//   - barrier() makes writes before it visible to the whole block. It stands outside the lambdas.
//   - A local variable of a lambda ends with it. What a thread keeps across a barrier is
//     block.per_thread<T>().
//   - A kernel keeps no global state, so that it can also be called as a step of a larger kernel.
//   - Blocks have no order and may run at the same time.
//
// Arguments: int32_t, uint32_t, int64_t, uint64_t, float, double, trivially copyable structs, and
// pointers; the signature in the library's table is derived from them. A pointer to const is an
// input. All must be passed by value.
#ifndef KAAS_KERNEL_H_
#define KAAS_KERNEL_H_

#include <kaas/kernel_abi.h>
#include <kaas/kernel_block.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

// Hidden, so that nothing of one library is bound to another that the same process has loaded.
#pragma GCC visibility push(hidden)

namespace kaas {

// Properties of a kernel beyond its signature, for KAAS_KERNEL:
//   KAAS_KERNEL(sum, kaas::KernelOptions().shared_per_thread(sizeof(float)));
struct KernelOptions {
  uint32_t flags = 0;
  uint32_t shared_bytes_fixed = 0;
  uint32_t shared_bytes_per_thread = 0;
  bool waits_first = true;
  bool defers = false;

  // Keeps something between calls: never repeated after a failure, and in order.
  [[nodiscard]] constexpr KernelOptions stateful() const { return with_flag(KAAS_STATEFUL); }
  // Of an opaque kernel: may be captured once and replayed, see KAAS_CAPTURE_PURE.
  [[nodiscard]] constexpr KernelOptions capture_pure() const {
    return with_flag(KAAS_CAPTURE_PURE);
  }
  // Waits itself for the kernels before it (griddepcontrol.wait), not before it does anything but
  // where it first needs them, in a request that declares it programmatic.
  [[nodiscard]] constexpr KernelOptions programmatic() const {
    KernelOptions copy = *this;
    copy.waits_first = false;
    return copy;
  }
  // Leaves work behind that is not done when its function returns, but when the kernel has ended:
  // grids that it launches, copies that it does not wait for.
  [[nodiscard]] constexpr KernelOptions deferring() const {
    KernelOptions copy = *this;
    copy.defers = true;
    return copy;
  }
  // Shared memory that each block needs, whatever the request says.
  [[nodiscard]] constexpr KernelOptions shared_fixed(uint32_t bytes) const {
    KernelOptions copy = *this;
    copy.shared_bytes_fixed = bytes;
    return copy;
  }
  [[nodiscard]] constexpr KernelOptions shared_per_thread(uint32_t bytes) const {
    KernelOptions copy = *this;
    copy.shared_bytes_per_thread = bytes;
    return copy;
  }

 private:
  [[nodiscard]] constexpr KernelOptions with_flag(uint32_t flag) const {
    KernelOptions copy = *this;
    copy.flags |= flag;
    return copy;
  }
};

// Properties of the library, for KAAS_LIBRARY. The hooks are those of kaas_library.
struct LibraryOptions {
  using Open = int (*)(kaas_open_info* info, void** context);
  using Close = void (*)(void* context);

  uint32_t flags = 0;
  Open open = nullptr;
  Close close = nullptr;

  [[nodiscard]] constexpr LibraryOptions stateful() const {
    LibraryOptions copy = *this;
    copy.flags |= KAAS_STATEFUL;
    return copy;
  }
  [[nodiscard]] constexpr LibraryOptions with_context(Open open_hook, Close close_hook) const {
    LibraryOptions copy = *this;
    copy.open = open_hook;
    copy.close = close_hook;
    return copy;
  }
};

// What an opaque kernel is called with: int f(const kaas::OpaqueCall& call, arguments...). It
// enqueues its work on call.stream, or on the host does it, and returns 0 or call.fail(text).
struct OpaqueCall {
  const kaas_launch* launch;
  void* stream;
  void* context;
  char* error;
  size_t error_bytes;

  [[nodiscard]] int fail(const char* text) const {
    kaas_write_error(error, error_bytes, text);
    return 1;
  }
};

// The signature of a parameter list, as a constant text. See kernel_abi.h for the grammar.
template <class... Args>
class Signature {
  struct Text {
    char chars[sizeof...(Args) * 8 + 1];
  };

  template <class T>
  static constexpr size_t append(char* out) {
    if constexpr (std::is_pointer_v<T>) {
      static_assert(!std::is_pointer_v<std::remove_pointer_t<T>> &&
                        !std::is_function_v<std::remove_pointer_t<T>>,
                    "a kernel argument points at plain data, not at pointers or functions");
      out[0] = std::is_const_v<std::remove_pointer_t<T>> ? 'p' : 'P';
      return 1;
    } else if constexpr (std::is_integral_v<T>) {
      static_assert((sizeof(T) == 4 || sizeof(T) == 8) && !std::is_same_v<T, wchar_t> &&
                        !std::is_same_v<T, char32_t>,
                    "integer kernel arguments are int32_t, uint32_t, int64_t or uint64_t");
      out[0] =
          sizeof(T) == 4 ? (std::is_signed_v<T> ? 'i' : 'I') : (std::is_signed_v<T> ? 'q' : 'Q');
      return 1;
    } else if constexpr (std::is_floating_point_v<T>) {
      static_assert(sizeof(T) == 4 || sizeof(T) == 8,
                    "floating-point kernel arguments are float or double");
      out[0] = sizeof(T) == 4 ? 'f' : 'd';
      return 1;
    } else {
      static_assert(std::is_class_v<T> && std::is_trivially_copyable_v<T> &&
                        std::is_default_constructible_v<T>,
                    "kernel arguments are numbers, pointers and trivially copyable, default "
                    "constructible structs, all passed by value");
      static_assert(sizeof(T) <= KAAS_SIGNATURE_RAW_BYTES_MAX,
                    "a struct passed to a kernel is at most 4096 bytes");
      return append_raw(out, sizeof(T));
    }
  }

  static constexpr size_t append_raw(char* out, size_t bytes) {
    size_t length = 0;
    out[length++] = 'b';
    out[length++] = '<';
    size_t scale = 1;
    while (scale * 10 <= bytes) scale *= 10;
    for (; scale != 0; scale /= 10) {
      out[length++] = static_cast<char>('0' + bytes / scale % 10);
    }
    out[length++] = '>';
    return length;
  }

  static constexpr Text make() {
    Text text{};
    size_t length = 0;
    ((length += append<Args>(text.chars + length)), ...);
    text.chars[length] = '\0';
    return text;
  }

  static constexpr Text text_ = make();

 public:
  static constexpr const char* text() { return text_.chars; }
};

// Copies parameter values from where the executor keeps them. Braces evaluate in order.
template <class... Args>
class Parameters {
 public:
  explicit Parameters(void* const* params)
      : Parameters(params, std::index_sequence_for<Args...>{}) {}
  [[nodiscard]] const std::tuple<Args...>& values() const { return values_; }

 private:
  template <size_t... I>
  Parameters(void* const* params, std::index_sequence<I...>) : values_{read<Args>(params[I])...} {
    static_cast<void>(params);
  }
  template <class T>
  static T read(const void* from) {
    T value;
    std::memcpy(static_cast<void*>(&value), from, sizeof(T));
    return value;
  }
  std::tuple<Args...> values_;
};

#ifdef __CUDACC__

template <bool WaitsFirst>
KAAS_INLINE void wait_for_earlier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (WaitsFirst) asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// By all threads of a grid's only block. The release also covers what others than its thread wrote
// before the barrier (PTX ISA, "Causality order").
KAAS_INLINE void end_run(const kaas_run_end& end) {
  __syncthreads();
  if ((threadIdx.x | threadIdx.y | threadIdx.z) != 0) return;
  asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(end.word), "r"(end.value) : "memory");
}

// Bounds the registers so that a block of the largest size can always be launched. WaitsFirst: as
// KAAS_WAITS says; waiting for nothing costs nothing.
template <auto Function, bool WaitsFirst, class... Args>
__global__ void __launch_bounds__(KAAS_BLOCK_THREADS_MAX) kernel_entry(Args... args) {
  wait_for_earlier<WaitsFirst>();
  Block block;
  Function(block, args...);
}

// The same for a grid of one block, and says at its end that the run has ended.
template <auto Function, bool WaitsFirst, class... Args>
__global__ void __launch_bounds__(KAAS_BLOCK_THREADS_MAX)
    ending_entry(kaas_run_end end, Args... args) {
  wait_for_earlier<WaitsFirst>();
  Block block;
  Function(block, args...);
  end_run(end);
}

#endif

// The entries of a kernel function, for the device that this build is for.
template <auto Function, class Type = decltype(Function)>
struct KernelEntry {
  static_assert(!std::is_same_v<Type, Type>,
                "a kernel is a function void f(kaas::Block& block, arguments...)");
};

template <auto Function, class... Args>
struct KernelEntry<Function, void (*)(Block&, Args...)> {
  static const char* signature() { return Signature<Args...>::text(); }
#ifdef __CUDACC__
  static kaas_host_blocks host_blocks() {
    return nullptr;
  }
  template <bool WaitsFirst = true>
  static const void* device_entry() {
    return reinterpret_cast<const void*>(&kernel_entry<Function, WaitsFirst, Args...>);
  }
  template <bool WaitsFirst>
  static const void* ending_entry() {
    return reinterpret_cast<const void*>(&kaas::ending_entry<Function, WaitsFirst, Args...>);
  }
#else
  static kaas_host_blocks host_blocks() {
    return &run;
  }
  template <bool WaitsFirst = true>
  static const void* device_entry() {
    return nullptr;
  }
  template <bool WaitsFirst>
  static const void* ending_entry() {
    return nullptr;
  }

  static void run(const kaas_launch* launch, uint64_t first_block, uint64_t block_count,
                  void* const* params, void* shared) noexcept {
    const Parameters<Args...> parameters(params);
    const Dim3 grid{launch->grid[0], launch->grid[1], launch->grid[2]};
    const Dim3 dim{launch->block[0], launch->block[1], launch->block[2]};
    const Dim3 index{static_cast<uint32_t>(first_block % grid.x),
                     static_cast<uint32_t>(first_block / grid.x % grid.y),
                     static_cast<uint32_t>(first_block / grid.x / grid.y)};
    Block block({index, dim, grid}, shared, launch->shared_bytes);
    for (uint64_t done = 0; done < block_count; ++done, block.advance()) {
      // A copy: the kernel may change what it got by value, and the next block must not see it.
      std::apply([&block](Args... args) { Function(block, args...); }, parameters.values());
    }
  }
#endif
};

template <auto Function, class... Args>
struct KernelEntry<Function, void (*)(Block&, Args...) noexcept>
    : KernelEntry<static_cast<void (*)(Block&, Args...)>(Function)> {};

template <auto Function, class Type = decltype(Function)>
struct OpaqueEntry {
  static_assert(!std::is_same_v<Type, Type>,
                "an opaque kernel is a function int f(const kaas::OpaqueCall& call, arguments...)");
};

template <auto Function, class... Args>
struct OpaqueEntry<Function, int (*)(const OpaqueCall&, Args...)> {
  static const char* signature() { return Signature<Args...>::text(); }
  static int launch(const kaas_launch* launch, void* const* params, void* stream, void* context,
                    char* error, size_t error_bytes) noexcept {
    const Parameters<Args...> parameters(params);
    const OpaqueCall call{launch, stream, context, error, error_bytes};
    return std::apply([&call](Args... args) { return Function(call, args...); },
                      parameters.values());
  }
};

// --- The library's table ------------------------------------------------------------------------

// Enters one kernel into the library's list when the library is loaded; lives as long as it does.
class KernelRegistration {
 public:
  explicit KernelRegistration(const kaas_kernel_descriptor& descriptor) noexcept
      : descriptor_(descriptor) {
    (last_ == nullptr ? first_ : last_->next_) = this;
    last_ = this;
  }
  KernelRegistration(const KernelRegistration&) = delete;
  KernelRegistration& operator=(const KernelRegistration&) = delete;

  template <auto Function, bool WaitsFirst>
  static kaas_kernel_descriptor describe(const char* name, const KernelOptions& options) {
    using Entry = KernelEntry<Function>;
    kaas_kernel_descriptor descriptor = common(name, Entry::signature(), options);
    descriptor.host_blocks = Entry::host_blocks();
    descriptor.device_entry = Entry::template device_entry<WaitsFirst>();
    if (!options.defers) descriptor.ending_entry = Entry::template ending_entry<WaitsFirst>();
    if (WaitsFirst && descriptor.device_entry != nullptr) descriptor.flags |= KAAS_WAITS;
    return descriptor;
  }

  template <auto Function>
  static kaas_kernel_descriptor describe_opaque(const char* name, const KernelOptions& options) {
    using Entry = OpaqueEntry<Function>;
    kaas_kernel_descriptor descriptor = common(name, Entry::signature(), options);
    descriptor.flags |= KAAS_OPAQUE;
    descriptor.launch = &Entry::launch;
    return descriptor;
  }

  // The library's kernels, in the order of registration.
  static const KernelRegistration* first() { return first_; }
  [[nodiscard]] const KernelRegistration* next() const { return next_; }
  [[nodiscard]] const kaas_kernel_descriptor& descriptor() const { return descriptor_; }

 private:
  static kaas_kernel_descriptor common(const char* name, const char* signature,
                                       const KernelOptions& options) {
    kaas_kernel_descriptor descriptor{};
    descriptor.struct_size = sizeof(descriptor);
    descriptor.flags = options.flags;
    descriptor.name = name;
    descriptor.signature = signature;
    descriptor.shared_bytes_fixed = options.shared_bytes_fixed;
    descriptor.shared_bytes_per_thread = options.shared_bytes_per_thread;
    return descriptor;
  }

  // Constant-initialised, so they are ready before the first registration runs. The loader runs
  // registrations on one thread.
  static inline KernelRegistration* first_ = nullptr;
  static inline KernelRegistration* last_ = nullptr;

  kaas_kernel_descriptor descriptor_;
  KernelRegistration* next_ = nullptr;
};

#ifdef __CUDACC__
inline int resolve_entry(const void* device_entry, void** function, char* error,
                         size_t error_bytes) noexcept {
  const cudaError_t status =
      cudaGetFuncBySymbol(reinterpret_cast<cudaFunction_t*>(function), device_entry);
  if (status == cudaSuccess) return 0;
  kaas_write_error(error, error_bytes, cudaGetErrorString(status));
  return static_cast<int>(status);
}
#endif

// Owns the table that kaas_library_v1 returns. Uses no standard container: their functions would
// be exported, and could be bound to those of another library.
class LibraryTable {
 public:
  LibraryTable(const char* name, const LibraryOptions& options) noexcept : library_{} {
    uint32_t count = 0;
    for (auto* at = KernelRegistration::first(); at != nullptr; at = at->next()) ++count;
    kernels_ = new (std::nothrow) kaas_kernel_descriptor[count];
    if (kernels_ == nullptr) return;
    auto* out = kernels_;
    for (auto* at = KernelRegistration::first(); at != nullptr; at = at->next()) {
      *out++ = at->descriptor();
    }
    library_.magic = KAAS_LIBRARY_MAGIC;
    library_.abi_version = KAAS_LIBRARY_ABI_VERSION;
    library_.struct_size = sizeof(library_);
    library_.name = name;
    library_.flags = options.flags;
    library_.kernel_count = count;
    library_.kernels = kernels_;
    library_.open = options.open;
    library_.close = options.close;
#ifdef __CUDACC__
    library_.resolve = &resolve_entry;
#endif
  }
  ~LibraryTable() {
    delete[] kernels_;
  }
  LibraryTable(const LibraryTable&) = delete;
  LibraryTable& operator=(const LibraryTable&) = delete;

  // For the exported function: null if memory ran out.
  static const kaas_library* get(const char* name, const LibraryOptions& options) noexcept {
    static const LibraryTable table(name, options);
    return table.kernels_ == nullptr ? nullptr : &table.library_;
  }

 private:
  kaas_kernel_descriptor* kernels_ = nullptr;
  kaas_library library_;
};

// Runs a kernel function as a wrapper of the oldest form does, one that is found by its symbol and
// gets (grid, block, buffers): on the host at once and on the calling thread, on CUDA on the legacy
// default stream. Returns 0, or an error of the CUDA runtime, or 1 if the host is out of memory.
//   kaas::launch_on_default_stream<product>({grid}, {block}, 0, count, a, b, out);
template <auto Function, class... Args>
int launch_on_default_stream(Dim3 grid, Dim3 block, uint64_t shared_bytes, Args... args) noexcept {
  void* params[] = {static_cast<void*>(&args)..., nullptr};
#ifdef __CUDACC__
  return static_cast<int>(
      cudaLaunchKernel(KernelEntry<Function>::device_entry(), dim3(grid.x, grid.y, grid.z),
                       dim3(block.x, block.y, block.z), params, shared_bytes, nullptr));
#else
  constexpr std::align_val_t kAlignment{KAAS_SHARED_ALIGNMENT};
  void* shared = ::operator new(shared_bytes, kAlignment, std::nothrow);
  if (shared == nullptr) return 1;
  kaas_launch launch{};
  launch.struct_size = sizeof(launch);
  const Dim3 extents[] = {grid, block, Dim3{}};
  uint32_t* const targets[] = {launch.grid, launch.block, launch.cluster};
  for (int i = 0; i < 3; ++i) {
    targets[i][0] = extents[i].x;
    targets[i][1] = extents[i].y;
    targets[i][2] = extents[i].z;
  }
  launch.shared_bytes = shared_bytes;
  KernelEntry<Function>::host_blocks()(&launch, 0, uint64_t{grid.x} * grid.y * grid.z, params,
                                       shared);
  ::operator delete(shared, kAlignment);
  return 0;
#endif
}

}  // namespace kaas

#pragma GCC visibility pop

#define KAAS_JOIN_(a, b) a##b
#define KAAS_JOIN(a, b) KAAS_JOIN_(a, b)
#define KAAS_FIRST_(first, ...) first
#define KAAS_SECOND_(first, second, ...) second
#define KAAS_OPTIONS_(...) (KAAS_SECOND_(__VA_ARGS__, ::kaas::KernelOptions(), ))
#define KAAS_TEXT_(text) #text
#define KAAS_TEXT(text) KAAS_TEXT_(text)
#define KAAS_REGISTER_(...)                          \
  static const ::kaas::KernelRegistration KAAS_JOIN( \
      kaas_registration_, __COUNTER__)(::kaas::KernelRegistration::__VA_ARGS__)

// KAAS_KERNEL(function) or KAAS_KERNEL(function, options): a kernel with the function's name.
#define KAAS_KERNEL(...)                                                                        \
  KAAS_REGISTER_(describe<&KAAS_FIRST_(__VA_ARGS__, ), KAAS_OPTIONS_(__VA_ARGS__).waits_first>( \
      KAAS_TEXT(KAAS_FIRST_(__VA_ARGS__, )), KAAS_OPTIONS_(__VA_ARGS__)))
// KAAS_KERNEL_AS(name, function) or KAAS_KERNEL_AS(name, function, options): with a name of its
// own, for instances of a template: KAAS_KERNEL_AS("fill_f32", fill<float>).
#define KAAS_KERNEL_AS(name, ...)                                                               \
  KAAS_REGISTER_(describe<&KAAS_FIRST_(__VA_ARGS__, ), KAAS_OPTIONS_(__VA_ARGS__).waits_first>( \
      name, KAAS_OPTIONS_(__VA_ARGS__)))
// KAAS_OPAQUE_KERNEL(function) or KAAS_OPAQUE_KERNEL(function, options): a function
// int f(const kaas::OpaqueCall&, arguments...) that calls a library on a stream.
#define KAAS_OPAQUE_KERNEL(...)                                \
  KAAS_REGISTER_(describe_opaque<&KAAS_FIRST_(__VA_ARGS__, )>( \
      KAAS_TEXT(KAAS_FIRST_(__VA_ARGS__, )), KAAS_OPTIONS_(__VA_ARGS__)))

// KAAS_LIBRARY(name) or KAAS_LIBRARY(name, options): exports the table. In one source file, at
// global scope.
#define KAAS_LIBRARY(...)                                                                    \
  extern "C" __attribute__((visibility("default"))) const kaas_library* kaas_library_v1() {  \
    return ::kaas::LibraryTable::get(KAAS_FIRST_(__VA_ARGS__, ),                             \
                                     KAAS_SECOND_(__VA_ARGS__, ::kaas::LibraryOptions(), )); \
  }                                                                                          \
  static_assert(true, "")

#endif  // KAAS_KERNEL_H_
