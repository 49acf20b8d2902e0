// The CUDA driver API as a table of functions, loaded when it is first asked for: a program that
// has this starts on a machine without a driver, and says there what is missing.
// Threads: the table never changes once it is loaded; the functions are thread-safe.
#pragma once

#include <cuda.h>

#include <string>

#include "schema/ipc/result.h"

namespace kaas {

// Members are named like the functions, without "cu".
#define KAAS_CUDA_FUNCTIONS(X)            \
  X(CtxEnablePeerAccess)                  \
  X(CtxGetCurrent)                        \
  X(CtxSetCurrent)                        \
  X(CtxSynchronize)                       \
  X(DeviceCanAccessPeer)                  \
  X(DeviceGet)                            \
  X(DeviceGetAttribute)                   \
  X(DevResourceGenerateDesc)              \
  X(DevSmResourceSplitByCount)            \
  X(DeviceGetCount)                       \
  X(DeviceGetDevResource)                 \
  X(DeviceGetName)                        \
  X(DeviceGetUuid)                        \
  X(DevicePrimaryCtxRelease)              \
  X(DevicePrimaryCtxRetain)               \
  X(DeviceTotalMem)                       \
  X(DriverGetVersion)                     \
  X(EventCreate)                          \
  X(EventDestroy)                         \
  X(EventElapsedTime)                     \
  X(EventRecord)                          \
  X(FuncGetAttribute)                     \
  X(FuncGetModule)                        \
  X(FuncGetName)                          \
  X(FuncGetParamInfo)                     \
  X(FuncLoad)                             \
  X(FuncSetAttribute)                     \
  X(GetErrorName)                         \
  X(GetErrorString)                       \
  X(GraphAddDependencies)                 \
  X(GraphAddKernelNode)                   \
  X(GraphAddMemcpyNode)                   \
  X(GraphAddMemsetNode)                   \
  X(GraphAddNode)                         \
  X(GraphConditionalHandleCreate)         \
  X(GraphCreate)                          \
  X(GraphDestroy)                         \
  X(GraphExecDestroy)                     \
  X(GraphExecKernelNodeSetParams)         \
  X(GraphInstantiateWithFlags)            \
  X(GraphKernelNodeSetAttribute)          \
  X(GraphLaunch)                          \
  X(GraphNodeGetType)                     \
  X(GraphUpload)                          \
  X(GreenCtxCreate)                       \
  X(GreenCtxDestroy)                      \
  X(GreenCtxStreamCreate)                 \
  X(Init)                                 \
  X(IpcCloseMemHandle)                    \
  X(IpcGetEventHandle)                    \
  X(IpcGetMemHandle)                      \
  X(IpcOpenEventHandle)                   \
  X(IpcOpenMemHandle)                     \
  X(KernelGetFunction)                    \
  X(KernelGetName)                        \
  X(KernelGetParamInfo)                   \
  X(LaunchKernelEx)                       \
  X(LibraryEnumerateKernels)              \
  X(LibraryGetGlobal)                     \
  X(LibraryGetKernel)                     \
  X(LibraryGetKernelCount)                \
  X(LibraryGetModule)                     \
  X(LibraryLoadData)                      \
  X(LibraryUnload)                        \
  X(MemAddressFree)                       \
  X(MemAddressReserve)                    \
  X(MemAlloc)                             \
  X(MemCreate)                            \
  X(MemExportToShareableHandle)           \
  X(MemFree)                              \
  X(MemFreeAsync)                         \
  X(MemFreeHost)                          \
  X(MemGetAddressRange)                   \
  X(MemGetAllocationGranularity)          \
  X(MemGetAllocationPropertiesFromHandle) \
  X(MemGetInfo)                           \
  X(MemHostAlloc)                         \
  X(MemHostGetDevicePointer)              \
  X(MemHostRegister)                      \
  X(MemHostUnregister)                    \
  X(MemImportFromShareableHandle)         \
  X(MemMap)                               \
  X(MemPoolDestroy)                       \
  X(MemPoolImportFromShareableHandle)     \
  X(MemPoolImportPointer)                 \
  X(MemPoolSetAccess)                     \
  X(MemRelease)                           \
  X(MemSetAccess)                         \
  X(MemUnmap)                             \
  X(MemcpyAsync)                          \
  X(MemcpyDtoDAsync)                      \
  X(MemcpyDtoHAsync)                      \
  X(MemcpyHtoDAsync)                      \
  X(MemsetD32Async)                       \
  X(MemsetD8Async)                        \
  X(ModuleLoadDataEx)                     \
  X(ModuleUnload)                         \
  X(PointerGetAttribute)                  \
  X(StreamBeginCaptureToGraph)            \
  X(StreamCreate)                         \
  X(StreamDestroy)                        \
  X(StreamEndCapture)                     \
  X(StreamGetCaptureInfo)                 \
  X(StreamQuery)                          \
  X(StreamSynchronize)                    \
  X(StreamWaitEvent)

// The symbol that cuda.h declares a function by: it renames most that have changed. Asking the
// driver for a name and a version instead gives its newest form, which may have other parameters.
#define KAAS_CUDA_TEXT(symbol) #symbol
#define KAAS_CUDA_TEXT_OF(symbol) KAAS_CUDA_TEXT(symbol)
#define KAAS_CUDA_SYMBOL(name) KAAS_CUDA_TEXT_OF(cu##name)

struct CudaDriver {
#define KAAS_CUDA_MEMBER(name) decltype(&cu##name) name = nullptr;
  KAAS_CUDA_FUNCTIONS(KAAS_CUDA_MEMBER)
#undef KAAS_CUDA_MEMBER
  int version = 0;  // 13000: the newest CUDA version that it speaks.
};

// The driver of this machine, initialised; the same on every call. Unavailable: there is none, it
// is too old (names both versions), or it finds no device.
const Result<const CudaDriver*>& cuda_driver();

// What a failed call means. `what` says what was tried: "copying 4096 bytes to the device".
Status cuda_status(CUresult result, const std::string& what);

// After such an error every call of this process fails: only a new process helps.
[[nodiscard]] bool ends_the_context(CUresult result) noexcept;

// Fails with cuda_status() unless the call succeeded.
#define KAAS_RETURN_IF_CUDA_ERROR(call, what)                               \
  do {                                                                      \
    const CUresult kaas_result = (call);                                    \
    if (kaas_result != CUDA_SUCCESS) return cuda_status(kaas_result, what); \
  } while (false)

}  // namespace kaas
