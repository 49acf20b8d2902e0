// A library with a context and an opaque kernel, for the host only.
#include <kaas/kernel.h>

#include <cstdio>

namespace {

struct Context {
  uint32_t host_threads;
  uint64_t calls;
};

// Counted over the life of the library, for the test to see that close was called.
uint64_t closed_contexts = 0;

int open_library(kaas_open_info* info, void** context) {
  if (info->host_threads == 0) {
    kaas_write_error(info->error, info->error_bytes, "host_threads is 0, at least 1 is needed");
    return 1;
  }
  *context = new Context{info->host_threads, 0};
  return 0;
}

void close_library(void* context) {
  delete static_cast<Context*>(context);
  ++closed_contexts;
}

// Writes how often it was called, and for how many threads the library was opened.
int count_calls(const kaas::OpaqueCall& call, uint64_t limit, uint64_t* out) {
  auto* context = static_cast<Context*>(call.context);
  if (context->calls >= limit) {
    char text[64];
    std::snprintf(text, sizeof(text), "call %llu, limit %llu",
                  static_cast<unsigned long long>(context->calls + 1),
                  static_cast<unsigned long long>(limit));
    return call.fail(text);
  }
  out[0] = ++context->calls;
  out[1] = context->host_threads;
  return 0;
}

int closed(const kaas::OpaqueCall&, uint64_t* out) {
  out[0] = closed_contexts;
  return 0;
}

}  // namespace

KAAS_OPAQUE_KERNEL(count_calls, kaas::KernelOptions().stateful());
KAAS_OPAQUE_KERNEL(closed, kaas::KernelOptions().capture_pure());
KAAS_LIBRARY("opaque",
             kaas::LibraryOptions().stateful().with_context(&open_library, &close_library));
