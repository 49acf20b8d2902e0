// A matrix product by cuBLAS as a launch function, with a handle and workspace of the library's.
#include <kaas/kernel.h>

#if defined(__CUDACC__)

#include <cublas_v2.h>

namespace {

constexpr size_t kWorkspaceBytes = 32u << 20;

struct Handles {
  cublasHandle_t blas = nullptr;
  void* workspace = nullptr;
};

void close_handles(void* context) {
  auto* handles = static_cast<Handles*>(context);
  cublasDestroy(handles->blas);
  cudaFree(handles->workspace);
  delete handles;
}

int open_handles(kaas_open_info* info, void** context) {
  auto* handles = new Handles;
  if (cublasCreate(&handles->blas) != CUBLAS_STATUS_SUCCESS ||
      cudaMalloc(&handles->workspace, kWorkspaceBytes) != cudaSuccess) {
    kaas_write_error(info->error, info->error_bytes, "cuBLAS can't be opened");
    close_handles(handles);
    return 1;
  }
  *context = handles;
  return 0;
}

// c = a b, of n rows and columns each, in the order of columns.
int gemm(const kaas::OpaqueCall& call, uint32_t n, const float* a, const float* b, float* c) {
  const auto* handles = static_cast<const Handles*>(call.context);
  const float one = 1.0f;
  const float zero = 0.0f;
  const int size = static_cast<int>(n);
  // The stream first: it resets the workspace.
  if (cublasSetStream(handles->blas, static_cast<cudaStream_t>(call.stream)) !=
          CUBLAS_STATUS_SUCCESS ||
      cublasSetWorkspace(handles->blas, handles->workspace, kWorkspaceBytes) !=
          CUBLAS_STATUS_SUCCESS ||
      cublasSgemm(handles->blas, CUBLAS_OP_N, CUBLAS_OP_N, size, size, size, &one, a, size, b, size,
                  &zero, c, size) != CUBLAS_STATUS_SUCCESS) {
    return call.fail("cublasSgemm failed");
  }
  return 0;
}

}  // namespace

KAAS_OPAQUE_KERNEL(gemm, kaas::KernelOptions().capture_pure());
KAAS_LIBRARY("blas", kaas::LibraryOptions().with_context(&open_handles, &close_handles));

#else

KAAS_LIBRARY("blas");

#endif
