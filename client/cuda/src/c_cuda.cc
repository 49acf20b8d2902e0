// The C part. It uses the C interface of the client library: what is behind its handles is that
// library's own.
#include <kaas/cuda.h>
#include <kaas/kaas_cuda.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string_view>

struct kaas_cuda_buffer {
  kaas_region* region = nullptr;
  uint64_t offset = 0;
};

namespace {

kaas_code report(kaas_error* error, kaas_code code, std::string_view message) noexcept {
  if (error == nullptr) return code;
  error->code = code;
  const std::size_t bytes = std::min(message.size(), sizeof error->message - 1);
  std::memcpy(error->message, message.data(), bytes);
  error->message[bytes] = '\0';
  return code;
}

kaas_code register_memory(kaas_client* client, const void* pointer, uint64_t bytes,
                          kaas_cuda_buffer** buffer, kaas_error* error) {
  const auto exported = kaas::CudaExport::create(pointer, bytes);
  if (!exported.has_value()) {
    return report(error, static_cast<kaas_code>(exported.error().code), exported.error().message);
  }
  const kaas::DeviceAllocation& from = exported->allocation();
  kaas_device_allocation memory;
  kaas_device_allocation_init(&memory);
  memory.kind = static_cast<kaas_device_kind>(from.kind);
  memory.handle = from.handle.data();
  memory.handle_bytes = from.handle.size();
  memory.bytes = from.bytes;
  memory.gpu = from.gpu.data();
  memory.descriptor = from.descriptor;
  auto made = std::make_unique<kaas_cuda_buffer>();
  const kaas_code code = kaas_register_device_memory(client, &memory, &made->region, error);
  if (code != KAAS_OK) return code;
  made->offset = exported->offset();
  *buffer = made.release();
  return KAAS_OK;
}

}  // namespace

kaas_code kaas_cuda_register(kaas_client* client, const void* pointer, uint64_t bytes,
                             kaas_cuda_buffer** buffer, kaas_error* error) {
  try {
    return register_memory(client, pointer, bytes, buffer, error);
  } catch (const std::bad_alloc&) {
    return report(error, KAAS_RESOURCE_EXHAUSTED, "this process has no memory left");
  } catch (const std::exception& failure) {
    return report(error, KAAS_INTERNAL, failure.what());
  }
}

uint32_t kaas_cuda_buffer_segment(const kaas_cuda_buffer* buffer) {
  return kaas_region_segment(buffer->region);
}
uint64_t kaas_cuda_buffer_offset(const kaas_cuda_buffer* buffer) {
  return buffer->offset;
}
void kaas_cuda_buffer_free(kaas_cuda_buffer* buffer) {
  if (buffer != nullptr) kaas_region_free(buffer->region);
  delete buffer;
}
