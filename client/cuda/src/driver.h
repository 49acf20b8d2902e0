// What this library needs of the CUDA driver API, loaded when it is first used. Where a pointer is
// given, the program has initialised the driver itself: device memory exists only after that.
// Threads: the table never changes once it is loaded; the functions are thread-safe.
#pragma once

#include <cuda.h>
#include <kaas/status.h>

#include <string>

namespace kaas {
inline namespace v1 {

// Members are named like the functions, without "cu".
#define KAAS_CUDA_EXPORT_FUNCTIONS(X) \
  X(CtxGetCurrent)                    \
  X(CtxGetDevice)                     \
  X(CtxPopCurrent)                    \
  X(CtxPushCurrent)                   \
  X(DeviceCanAccessPeer)              \
  X(DeviceGet)                        \
  X(DeviceGetCount)                   \
  X(DeviceGetUuid)                    \
  X(DevicePrimaryCtxRelease)          \
  X(DevicePrimaryCtxRetain)           \
  X(EventCreate)                      \
  X(EventDestroy)                     \
  X(EventRecord)                      \
  X(GetErrorName)                     \
  X(GetErrorString)                   \
  X(Init)                             \
  X(IpcGetEventHandle)                \
  X(IpcGetMemHandle)                  \
  X(MemAddressFree)                   \
  X(MemAddressReserve)                \
  X(MemExportToShareableHandle)       \
  X(MemGetAddressRange)               \
  X(MemImportFromShareableHandle)     \
  X(MemMap)                           \
  X(MemPoolExportPointer)             \
  X(MemPoolExportToShareableHandle)   \
  X(MemRelease)                       \
  X(MemRetainAllocationHandle)        \
  X(MemSetAccess)                     \
  X(MemUnmap)                         \
  X(PointerGetAttribute)              \
  X(StreamWaitEvent)

// The symbol that cuda.h declares a function by: it renames most that have changed.
#define KAAS_CUDA_TEXT(symbol) #symbol
#define KAAS_CUDA_TEXT_OF(symbol) KAAS_CUDA_TEXT(symbol)
#define KAAS_CUDA_SYMBOL(name) KAAS_CUDA_TEXT_OF(cu##name)

struct Driver {
#define KAAS_CUDA_MEMBER(name) decltype(&cu##name) name = nullptr;
  KAAS_CUDA_EXPORT_FUNCTIONS(KAAS_CUDA_MEMBER)
#undef KAAS_CUDA_MEMBER
};

// The driver of this process; the same on every call. Unavailable: there is none, or it is too old.
const Result<const Driver*>& driver();

// What a failed call means. `what` says what was tried.
Status driver_status(const Driver& driver, CUresult result, const std::string& what);

}  // namespace v1
}  // namespace kaas
