// Device memory between a program that uses CUDA and KaaS. Its own, as input and output of requests
// without a copy:
//
//   float* samples = ...;                                      // From cudaMalloc.
//   auto shared = kaas::CudaBuffer::create(client, samples, bytes);
//   if (!shared.has_value()) ...                               // Says what to use instead.
//   builder.buffer("samples", bytes).in(shared->region(), shared->offset());
//
// And the other way: CudaObject, below, is a stored object in device memory of the program.
//
// Link kaas::cuda, a library of its own: kaas::client never needs CUDA. This one loads the driver
// when it is first used, and says so if there is none; it starts on any machine.
//
// Which memory: cudaMalloc and cuMemAlloc; cuMemCreate and cudaMallocFromPoolAsync if made to be
// shared (POSIX file descriptors). Not: managed memory, host memory, the default pool, memory
// that was itself imported. Errors name the kind and what to use.
//
// Order: a request sees what is in the memory when its kernels run. Either finish writing before it
// is sent (synchronise the stream), or record a CudaEvent on the stream and name it in
// RunOptions::wait_events. The answer means that the outputs are there.
//
// Life: memory must not be freed while it is registered. An executor opens it with the first
// request; destroying the last CudaBuffer of an allocation waits until requests that use it have
// ended and it is closed everywhere.
//
// Threads: any; a CudaBuffer is used like a Region. The calling thread keeps its CUDA context.
#pragma once

#include <kaas/client.h>
#include <kaas/export.h>
#include <kaas/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

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

// The bytes of a stored object in device memory that is this program's alone: a copy that kaasd
// made on the GPU, mapped here. It may be read and written as one likes, which changes no object.
// Requests use it by region(), in place; its memory behind the object's bytes is zero.
//
//   auto weights = kaas::CudaObject::open(client, "weights");
//   kernel<<<grid, block>>>(static_cast<const float*>(weights->data()), ...);
//
// It is there, whatever becomes of kaasd and its executors, and counts against kaasd's limit for
// this client, until it is destroyed. What the program's streams do with it must have ended then.
class KAAS_API CudaObject {
 public:
  struct Impl;  // Internal.

  // For kernels of the GPU that it is on and of the calling thread's current device. Fails as
  // Client::export_object does, and: Unavailable (no CUDA driver), InvalidArgument (on a GPU that
  // this process does not see, or that the current device does not reach).
  static Result<CudaObject> open(Client& client, std::string_view key,
                                 const ExportOptions& options = {});
  // The same of a copy that was exported before.
  static Result<CudaObject> map(DeviceCopy copy);
  ~CudaObject();
  CudaObject(CudaObject&& other) noexcept;
  CudaObject& operator=(CudaObject&& other) noexcept;

  [[nodiscard]] void* data() const noexcept;
  [[nodiscard]] const DeviceCopy& copy() const noexcept;
  [[nodiscard]] std::uint64_t bytes() const noexcept { return copy().bytes(); }
  [[nodiscard]] const Region& region() const noexcept { return copy().region(); }

 private:
  explicit CudaObject(std::unique_ptr<const Impl> impl) noexcept;
  std::unique_ptr<const Impl> impl_;
};

// An event of this process and the executors: what orders requests after the program's own streams,
// and its streams after requests, without waiting on the host.
//
//   event->record(stream);                          // After what the stream was given so far ...
//   options.wait_events = {event->number()};        // ... comes every request that is sent now.
//
// A stream here is a cudaStream_t or CUstream as a pointer; null is the default stream.
class KAAS_API CudaEvent {
 public:
  // For streams of the calling thread's current device. Fails: InvalidArgument (no device is
  // current, or it has no interprocess events), Unavailable, and as Client::register_event.
  static Result<CudaEvent> create(Client& client);
  ~CudaEvent();
  CudaEvent(CudaEvent&& other) noexcept;
  CudaEvent& operator=(CudaEvent&& other) noexcept;

  Result<void> record(void* stream);
  // What the stream is given from now on comes after the last record: by record(), or by a request
  // with number() in its record_events that has been answered.
  Result<void> wait(void* stream);
  [[nodiscard]] std::uint32_t number() const noexcept { return region_.segment(); }

 private:
  CudaEvent(Region region, void* event) noexcept : region_(std::move(region)), event_(event) {}

  Region region_;
  void* event_ = nullptr;
};

}  // namespace v1
}  // namespace kaas
