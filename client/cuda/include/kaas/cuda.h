// Device memory of a program that uses CUDA, as input and output of KaaS requests without a copy:
//
//   float* samples = ...;                                      // From cudaMalloc.
//   auto shared = kaas::CudaBuffer::create(client, samples, bytes);
//   if (!shared.has_value()) ...                               // Says what to use instead.
//   builder.buffer("samples", bytes).in(shared->region(), shared->offset());
//
// Link kaas::cuda, a library of its own: kaas::client never needs CUDA. This one loads the driver
// when it is first used, and says so if there is none; it starts on any machine.
//
// Which memory: cudaMalloc and cuMemAlloc; cuMemCreate and cudaMallocFromPoolAsync if made to be
// shared (POSIX file descriptors). Not: managed memory, host memory, the default pool, memory
// that was itself imported. Errors name the kind and what to use.
//
// Order: a request sees what is in the memory when its kernels run. Finish writing (synchronise the
// stream) before the request is sent; the answer means that its outputs are there.
//
// Life: memory must not be freed while it is registered or requests use it. An executor opens it
// with the first request and closes it soon after the registration is gone.
//
// Threads: any; a CudaBuffer is used like a Region. The calling thread keeps its CUDA context.
#pragma once

#include <kaas/client.h>
#include <kaas/export.h>
#include <kaas/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace kaas {
inline namespace v1 {

// The allocation that a pointer lies in, in the form in which other processes can reach it. Owns
// the descriptor, if there is one; a registration needs it no longer.
class KAAS_API CudaExport {
 public:
  struct Impl;  // Internal.

  // `pointer` may be anywhere in an allocation in which `bytes` follow. Fails: InvalidArgument (not
  // that many bytes, or memory that can't be exported), Unavailable (no CUDA driver).
  static Result<CudaExport> create(const void* pointer, std::uint64_t bytes);
  ~CudaExport();
  CudaExport(CudaExport&& other) noexcept;
  CudaExport& operator=(CudaExport&& other) noexcept;

  // For Client::register_device_memory. Valid as long as this.
  [[nodiscard]] const DeviceAllocation& allocation() const noexcept;
  // Where in the allocation the pointer is.
  [[nodiscard]] std::uint64_t offset() const noexcept;

 private:
  explicit CudaExport(std::unique_ptr<const Impl> impl) noexcept;
  std::unique_ptr<const Impl> impl_;
};

// Device memory registered with a session, until this is destroyed.
class KAAS_API CudaBuffer {
 public:
  // Fails as CudaExport::create and Client::register_device_memory do.
  static Result<CudaBuffer> create(Client& client, const void* pointer, std::uint64_t bytes);

  // The whole allocation; all registered pointers into it share its segment.
  [[nodiscard]] const Region& region() const noexcept { return region_; }
  [[nodiscard]] std::uint32_t segment() const noexcept { return region_.segment(); }
  // Where the pointer is in the region.
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  CudaBuffer(Region region, std::uint64_t offset, std::uint64_t bytes) noexcept
      : region_(std::move(region)), offset_(offset), bytes_(bytes) {}

  Region region_;
  std::uint64_t offset_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace v1
}  // namespace kaas
