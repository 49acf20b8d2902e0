#include "client/cuda/src/driver.h"

#include <dlfcn.h>

namespace kaas {
inline namespace v1 {
namespace {

Status unavailable(const std::string& why) {
  return Status{StatusCode::Unavailable, why};
}

// The table lives for ever, and the driver stays loaded: the program itself uses it.
Result<const Driver*> load() {
  void* library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return unavailable(std::string("no CUDA driver: ") + ::dlerror());
  auto* table = new Driver;
#define KAAS_CUDA_LOAD(name)                                                              \
  {                                                                                       \
    const char* symbol = KAAS_CUDA_SYMBOL(name);                                          \
    void* function = ::dlsym(library, symbol);                                            \
    if (function == nullptr) {                                                            \
      return unavailable("the CUDA driver is too old: it has no " + std::string(symbol) + \
                         " of CUDA " + std::to_string(CUDA_VERSION / 1000));              \
    }                                                                                     \
    table->name = reinterpret_cast<decltype(table->name)>(function);                      \
  }
  KAAS_CUDA_EXPORT_FUNCTIONS(KAAS_CUDA_LOAD)
#undef KAAS_CUDA_LOAD
  return static_cast<const Driver*>(table);
}

}  // namespace

const Result<const Driver*>& driver() {
  static const Result<const Driver*> kDriver = load();
  return kDriver;
}

Status driver_status(const Driver& driver, CUresult result, const std::string& what) {
  const char* name = nullptr;
  const char* text = nullptr;
  driver.GetErrorName(result, &name);
  driver.GetErrorString(result, &text);
  const StatusCode code = result == CUDA_ERROR_OUT_OF_MEMORY ? StatusCode::ResourceExhausted
                                                             : StatusCode::InvalidArgument;
  return Status{code, what + ": " + (text == nullptr ? "unknown error" : text) + " (" +
                          (name == nullptr ? std::to_string(result) : name) + ")"};
}

}  // namespace v1
}  // namespace kaas
