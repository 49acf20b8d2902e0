// A wrapper library whose table is written by hand, so that it can be wrong in one way a build:
//   FIXTURE_VALUE     what kernel `value` writes
//   FIXTURE_ABI       the table's abi_version
//   FIXTURE_BYTES     the table's struct_size
//   FIXTURE_MAGIC     its magic
//   FIXTURE_SIGNATURE signature of kernel `value`
//   FIXTURE_TWICE     both kernels have one name
//   FIXTURE_WAYS      kernel `value` can be run in two ways
//   FIXTURE_NULL      there is no table
//   FIXTURE_OPEN      the open hook fails
//   FIXTURE_SYMBOL    name of the exported function
#include <kaas/kernel_abi.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#ifndef FIXTURE_VALUE
#define FIXTURE_VALUE 1
#endif
#ifndef FIXTURE_ABI
#define FIXTURE_ABI KAAS_LIBRARY_ABI_VERSION
#endif
#ifndef FIXTURE_BYTES
#define FIXTURE_BYTES sizeof(kaas_library)
#endif
#ifndef FIXTURE_MAGIC
#define FIXTURE_MAGIC KAAS_LIBRARY_MAGIC
#endif
#ifndef FIXTURE_SIGNATURE
#define FIXTURE_SIGNATURE "P"
#endif
#ifndef FIXTURE_SYMBOL
#define FIXTURE_SYMBOL kaas_library_v1
#endif
#ifdef FIXTURE_TWICE
#define FIXTURE_SECOND "value"
#else
#define FIXTURE_SECOND "print"
#endif

namespace {

// Static on purpose: a second load that shared it would count on.
std::uint32_t calls = 0;

void value(const kaas_launch*, std::uint64_t, std::uint64_t, void* const* params, void*) {
  auto* out = *static_cast<std::uint32_t* const*>(params[0]);
  out[0] = FIXTURE_VALUE;
  out[1] = ++calls;
}

int print(const kaas_launch* launch, void* const*, void*, void* context, char*, std::size_t) {
  std::printf("context %d, grid %u\n", *static_cast<int*>(context), launch->grid[0]);
  return 0;
}

int open_hook(kaas_open_info* info, void** context) {
#ifdef FIXTURE_OPEN
  static_cast<void>(context);
  kaas_write_error(info->error, info->error_bytes, "no licence");
  return 4;
#else
  static int opened = 17;
  *context = &opened;
  return info->struct_size >= 64 && info->host_threads > 0 ? 0 : 1;
#endif
}

void close_hook(void* context) {
  setenv("KAAS_FIXTURE_CLOSED", *static_cast<int*>(context) == 17 ? "yes" : "wrong context", 1);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const kaas_library* FIXTURE_SYMBOL() {
#ifdef FIXTURE_NULL
  return nullptr;
#endif
  static kaas_kernel_descriptor kernels[2];
  for (auto& kernel : kernels) kernel.struct_size = sizeof kernel;
  kernels[0].name = "value";
  kernels[0].signature = FIXTURE_SIGNATURE;
  kernels[0].host_blocks = &value;
#ifdef FIXTURE_WAYS
  kernels[0].launch = &print;
#endif
  kernels[1].name = FIXTURE_SECOND;
  kernels[1].signature = "";
  kernels[1].flags = KAAS_OPAQUE;
  kernels[1].launch = &print;
  static kaas_library table;
  table.magic = FIXTURE_MAGIC;
  table.abi_version = FIXTURE_ABI;
  table.struct_size = FIXTURE_BYTES;
  table.name = "fixture";
  table.kernel_count = 2;
  table.kernels = kernels;
  table.open = &open_hook;
  table.close = &close_hook;
  return &table;
}
