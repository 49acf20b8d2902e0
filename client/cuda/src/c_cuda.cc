// The C part. It uses the C interface of the client library: what is behind its handles is that
// library's own.
#include <kaas/cuda.h>
#include <kaas/kaas_cuda.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "client/cuda/src/event.h"
#include "client/cuda/src/mapping.h"

struct kaas_cuda_buffer {
  kaas_region* region = nullptr;
  uint64_t offset = 0;
};

struct kaas_cuda_event {
  kaas_region* region = nullptr;
  CUevent event = nullptr;
};

struct kaas_cuda_object {
  kaas_device_copy* copy = nullptr;
  std::optional<kaas::CopyMapping> mapping;
  ~kaas_cuda_object() {
    mapping.reset();
    kaas_device_copy_free(copy);
  }
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

kaas_code report(kaas_error* error, const kaas::Status& status) noexcept {
  return report(error, static_cast<kaas_code>(status.code), status.message);
}

// No exception gets into a C program.
template <class Call>
kaas_code guarded(kaas_error* error, Call call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return report(error, KAAS_RESOURCE_EXHAUSTED, "this process has no memory left");
  } catch (const std::exception& failure) {
    return report(error, KAAS_INTERNAL, failure.what());
  }
}

kaas_code register_memory(kaas_client* client, const void* pointer, uint64_t bytes,
                          kaas_cuda_buffer** buffer, kaas_error* error) {
  const auto exported = kaas::CudaExport::create(pointer, bytes);
  if (!exported.has_value()) return report(error, exported.error());
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

kaas_code open_object(kaas_client* client, const char* key, const kaas_export_options* options,
                      kaas_cuda_object** object, kaas_error* error) {
  // Before anything is made for a program that can't use it.
  if (!kaas::driver().has_value()) return report(error, kaas::driver().error());
  auto made = std::make_unique<kaas_cuda_object>();
  const kaas_code code = kaas_export_object(client, key, options, &made->copy, error);
  if (code != KAAS_OK) return code;
  const std::span gpu(static_cast<const std::byte*>(kaas_device_copy_gpu(made->copy)), 16);
  auto mapping = kaas::CopyMapping::create(kaas_device_copy_descriptor(made->copy),
                                           kaas_device_copy_allocation_bytes(made->copy), gpu,
                                           kaas_device_copy_device(made->copy));
  if (!mapping.has_value()) return report(error, mapping.error());
  made->mapping.emplace(*std::move(mapping));
  *object = made.release();
  return KAAS_OK;
}

kaas_code create_event(kaas_client* client, kaas_cuda_event** event, kaas_error* error) {
  auto created = kaas::InterprocessEvent::create();
  if (!created.has_value()) return report(error, created.error());
  auto made = std::make_unique<kaas_cuda_event>();
  const kaas_code code = kaas_register_event(client, &created->handle(), sizeof created->handle(),
                                             &made->region, error);
  if (code != KAAS_OK) return code;
  made->event = created->release();
  *event = made.release();
  return KAAS_OK;
}

kaas_code done(kaas_error* error, const kaas::Result<void>& result) {
  return result.has_value() ? KAAS_OK : report(error, result.error());
}

}  // namespace

kaas_code kaas_cuda_register(kaas_client* client, const void* pointer, uint64_t bytes,
                             kaas_cuda_buffer** buffer, kaas_error* error) {
  return guarded(error, [&] { return register_memory(client, pointer, bytes, buffer, error); });
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

kaas_code kaas_cuda_open_object(kaas_client* client, const char* key,
                                const kaas_export_options* options, kaas_cuda_object** object,
                                kaas_error* error) {
  return guarded(error, [&] { return open_object(client, key, options, object, error); });
}
void* kaas_cuda_object_data(const kaas_cuda_object* object) {
  return object->mapping->data();
}
const kaas_device_copy* kaas_cuda_object_copy(const kaas_cuda_object* object) {
  return object->copy;
}
void kaas_cuda_object_free(kaas_cuda_object* object) {
  delete object;
}

kaas_code kaas_cuda_event_create(kaas_client* client, kaas_cuda_event** event, kaas_error* error) {
  return guarded(error, [&] { return create_event(client, event, error); });
}
kaas_code kaas_cuda_event_record(kaas_cuda_event* event, void* stream, kaas_error* error) {
  return guarded(error, [&] { return done(error, kaas::record_event(event->event, stream)); });
}
kaas_code kaas_cuda_event_wait(kaas_cuda_event* event, void* stream, kaas_error* error) {
  return guarded(error, [&] { return done(error, kaas::wait_event(event->event, stream)); });
}
uint32_t kaas_cuda_event_number(const kaas_cuda_event* event) {
  return kaas_region_segment(event->region);
}
void kaas_cuda_event_free(kaas_cuda_event* event) {
  if (event == nullptr) return;
  kaas_region_free(event->region);
  kaas::destroy_event(event->event);
  delete event;
}
