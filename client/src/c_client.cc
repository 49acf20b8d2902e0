// The C interface: connections, memory, store, event loops, administration.

#include "client/src/c_handles.h"

using kaas::done;
using kaas::future_out;
using kaas::handed_out;
using kaas::info_out;
using kaas::text_of;
using kaas::text_out;
using kaas::uid_of;

static_assert(static_cast<int>(kaas::StatusCode::Ok) == KAAS_OK &&
              static_cast<int>(kaas::StatusCode::ResourceExhausted) == KAAS_RESOURCE_EXHAUSTED &&
              static_cast<int>(kaas::StatusCode::UnknownOutcome) == KAAS_UNKNOWN_OUTCOME &&
              static_cast<int>(kaas::StatusCode::Internal) == KAAS_INTERNAL &&
              kaas::StatusCode::Internal == kaas::StatusCode::MAX);

extern "C" {

const char* kaas_code_name(kaas_code code) {
  return kaas::name_of(static_cast<kaas::StatusCode>(code));
}

void kaas_text_free(char* text) {
  std::free(text);
}

// --- Connecting ----------------------------------------------------------------------------------

void kaas_options_init(kaas_options* options) {
  const kaas::ClientOptions defaults;
  *options = {};
  options->struct_bytes = sizeof *options;
  options->connect_timeout_ns = static_cast<uint64_t>(defaults.connect_timeout.count());
  options->spin_ns = static_cast<uint64_t>(defaults.spin.count());
}

kaas_code kaas_connect(const kaas_options* options, kaas_client** client, kaas_error* error) {
  return handed_out(client, error, [&] {
    const kaas_options from = kaas::taken(options, kaas_options_init);
    constexpr uint64_t kLast = std::numeric_limits<int64_t>::max();
    kaas::ClientOptions wanted;
    wanted.socket = text_of(from.socket);
    wanted.name = text_of(from.name);
    wanted.arena_bytes = from.arena_bytes;
    wanted.ring_slots = from.ring_slots;
    wanted.connect_timeout =
        std::chrono::nanoseconds(static_cast<int64_t>(std::min(from.connect_timeout_ns, kLast)));
    wanted.spin = std::chrono::nanoseconds(static_cast<int64_t>(std::min(from.spin_ns, kLast)));
    wanted.administration_only = from.administration_only != 0;
    wanted.lanes = from.without_lanes == 0;
    return kaas::Client::connect(wanted);
  });
}

void kaas_close(kaas_client* client) {
  delete client;
}
uint64_t kaas_session(const kaas_client* client) {
  return client->client.session();
}
const char* kaas_daemon_version(const kaas_client* client) {
  return client->client.daemon_version().c_str();
}
const char* kaas_socket(const kaas_client* client) {
  return client->client.socket().c_str();
}

// --- Memory --------------------------------------------------------------------------------------

kaas_code kaas_allocate(kaas_client* client, uint64_t bytes, kaas_buffer** buffer,
                        kaas_error* error) {
  return handed_out(buffer, error, [&] { return client->client.allocate(bytes); });
}
void* kaas_buffer_data(const kaas_buffer* buffer) {
  return buffer->buffer.data();
}
size_t kaas_buffer_size(const kaas_buffer* buffer) {
  return buffer->buffer.size();
}
uint32_t kaas_buffer_segment(const kaas_buffer* buffer) {
  return buffer->buffer.segment();
}
uint64_t kaas_buffer_offset(const kaas_buffer* buffer) {
  return buffer->buffer.offset();
}
void kaas_buffer_free(kaas_buffer* buffer) {
  delete buffer;
}

kaas_code kaas_register_region(kaas_client* client, int descriptor, uint64_t bytes, int writable,
                               kaas_region** region, kaas_error* error) {
  return handed_out(region, error, [&] {
    return client->client.register_region(descriptor, bytes, writable != 0);
  });
}
void kaas_device_allocation_init(kaas_device_allocation* memory) {
  *memory = {};
  memory->struct_bytes = sizeof *memory;
  memory->descriptor = -1;
}
kaas_code kaas_register_device_memory(kaas_client* client, const kaas_device_allocation* memory,
                                      kaas_region** region, kaas_error* error) {
  return handed_out(region, error, [&]() -> kaas::Result<kaas::Region> {
    const kaas_device_allocation from = kaas::taken(memory, kaas_device_allocation_init);
    kaas::DeviceAllocation to;
    const auto kind = static_cast<unsigned>(from.kind);
    if (kind > KAAS_DEVICE_POOL) {
      return kaas::Status{kaas::StatusCode::InvalidArgument,
                          "kind is " + std::to_string(kind) + ", none of kaas_device_kind"};
    }
    to.kind = static_cast<kaas::DeviceAllocation::Kind>(kind);
    to.handle = kaas::bytes_of(from.handle, from.handle_bytes);
    to.bytes = from.bytes;
    to.gpu = kaas::bytes_of(from.gpu, 16);
    to.descriptor = from.descriptor;
    return client->client.register_device_memory(to);
  });
}
kaas_code kaas_register_event(kaas_client* client, const void* handle, size_t handle_bytes,
                              kaas_region** region, kaas_error* error) {
  return handed_out(region, error, [&] {
    return client->client.register_event(kaas::bytes_of(handle, handle_bytes));
  });
}
void kaas_export_options_init(kaas_export_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
}
kaas_code kaas_export_object(kaas_client* client, const char* key,
                             const kaas_export_options* options, kaas_device_copy** copy,
                             kaas_error* error) {
  return handed_out(copy, error, [&] {
    const kaas_export_options from = kaas::taken(options, kaas_export_options_init);
    kaas::ExportOptions to;
    to.offset = from.offset;
    to.bytes = from.bytes;
    if (from.device != nullptr) to.device = from.device;
    return client->client.export_object(text_of(key), to);
  });
}
int kaas_device_copy_descriptor(const kaas_device_copy* copy) {
  return copy->copy.descriptor();
}
uint64_t kaas_device_copy_bytes(const kaas_device_copy* copy) {
  return copy->copy.bytes();
}
uint64_t kaas_device_copy_allocation_bytes(const kaas_device_copy* copy) {
  return copy->copy.allocation_bytes();
}
const void* kaas_device_copy_gpu(const kaas_device_copy* copy) {
  return copy->copy.gpu().data();
}
const char* kaas_device_copy_device(const kaas_device_copy* copy) {
  return copy->copy.device().c_str();
}
uint32_t kaas_device_copy_segment(const kaas_device_copy* copy) {
  return copy->copy.region().segment();
}
void kaas_device_copy_free(kaas_device_copy* copy) {
  delete copy;
}

uint64_t kaas_region_size(const kaas_region* region) {
  return region->region.size();
}
uint32_t kaas_region_segment(const kaas_region* region) {
  return region->region.segment();
}
void kaas_region_free(kaas_region* region) {
  delete region;
}

// --- Store ---------------------------------------------------------------------------------------

kaas_code kaas_put(kaas_client* client, const char* key, const void* data, size_t bytes,
                   kaas_object_info* info, kaas_error* error) {
  return info_out(info, error,
                  [&] { return client->client.put(text_of(key), kaas::bytes_of(data, bytes)); });
}
kaas_code kaas_put_buffer(kaas_client* client, const char* key, const kaas_buffer* buffer,
                          uint64_t offset, uint64_t bytes, kaas_object_info* info,
                          kaas_error* error) {
  return info_out(info, error,
                  [&] { return client->client.put(text_of(key), buffer->buffer, offset, bytes); });
}
kaas_code kaas_donate(kaas_client* client, const char* key, int descriptor, kaas_object_info* info,
                      kaas_error* error) {
  return info_out(info, error, [&] { return client->client.donate(text_of(key), descriptor); });
}
kaas_code kaas_get(kaas_client* client, const char* key, const uint32_t* owner_uid,
                   kaas_object** object, kaas_error* error) {
  return handed_out(object, error,
                    [&] { return client->client.get(text_of(key), uid_of(owner_uid)); });
}
const void* kaas_object_data(const kaas_object* object) {
  return object->object.bytes().data();
}
size_t kaas_object_size(const kaas_object* object) {
  return object->object.bytes().size();
}
uint64_t kaas_object_version(const kaas_object* object) {
  return object->object.version();
}
void kaas_object_free(kaas_object* object) {
  delete object;
}

kaas_code kaas_stat(kaas_client* client, const char* key, const uint32_t* owner_uid,
                    kaas_object_info* info, kaas_error* error) {
  return info_out(info, error,
                  [&] { return client->client.stat(text_of(key), uid_of(owner_uid)); });
}
kaas_code kaas_remove(kaas_client* client, const char* key, kaas_error* error) {
  return done(error, [&] { return client->client.remove(text_of(key)); });
}
kaas_code kaas_list_json(kaas_client* client, const char* prefix, const char* after, uint32_t limit,
                         const uint32_t* owner_uid, char** text, kaas_error* error) {
  return text_out(text, error, [&] {
    return client->client.list_json(text_of(prefix), text_of(after), limit, uid_of(owner_uid));
  });
}
kaas_code kaas_share(kaas_client* client, const char* key, const uint32_t* uid, int write,
                     kaas_error* error) {
  return done(error, [&] { return client->client.share(text_of(key), uid_of(uid), write != 0); });
}
kaas_code kaas_unshare(kaas_client* client, const char* key, const uint32_t* uid,
                       kaas_error* error) {
  return done(error, [&] { return client->client.unshare(text_of(key), uid_of(uid)); });
}

kaas_future* kaas_put_async(kaas_client* client, const char* key, const void* data, size_t bytes) {
  return future_out(
      [&] { return client->client.put_async(text_of(key), kaas::bytes_of(data, bytes)); });
}
kaas_future* kaas_put_buffer_async(kaas_client* client, const char* key, const kaas_buffer* buffer,
                                   uint64_t offset, uint64_t bytes) {
  return future_out(
      [&] { return client->client.put_async(text_of(key), buffer->buffer, offset, bytes); });
}
kaas_future* kaas_donate_async(kaas_client* client, const char* key, int descriptor) {
  return future_out([&] { return client->client.donate_async(text_of(key), descriptor); });
}
kaas_future* kaas_get_async(kaas_client* client, const char* key, const uint32_t* owner_uid) {
  return future_out([&] { return client->client.get_async(text_of(key), uid_of(owner_uid)); });
}
kaas_future* kaas_stat_async(kaas_client* client, const char* key, const uint32_t* owner_uid) {
  return future_out([&] { return client->client.stat_async(text_of(key), uid_of(owner_uid)); });
}
kaas_future* kaas_remove_async(kaas_client* client, const char* key) {
  return future_out([&] { return client->client.remove_async(text_of(key)); });
}

// --- Event loops ---------------------------------------------------------------------------------

int kaas_event_fd(kaas_client* client) {
  return client->client.event_fd();
}
size_t kaas_poll(kaas_client* client) {
  return client->client.poll();
}
kaas_code kaas_alive(kaas_client* client, kaas_error* error) {
  return done(error, [&] { return client->client.alive(); });
}

// --- Administration ------------------------------------------------------------------------------

kaas_code kaas_status_json(kaas_client* client, char** text, kaas_error* error) {
  return text_out(text, error, [&] { return client->client.status_json(); });
}
kaas_code kaas_clients_json(kaas_client* client, char** text, kaas_error* error) {
  return text_out(text, error, [&] { return client->client.clients_json(); });
}
kaas_code kaas_functions_json(kaas_client* client, char** text, kaas_error* error) {
  return text_out(text, error, [&] { return client->client.functions_json(); });
}
kaas_code kaas_libraries_json(kaas_client* client, char** text, kaas_error* error) {
  return text_out(text, error, [&] { return client->client.libraries_json(); });
}
kaas_code kaas_logs_json(kaas_client* client, uint64_t after, uint32_t limit, char** text,
                         kaas_error* error) {
  return text_out(text, error, [&] { return client->client.logs_json(after, limit); });
}
kaas_code kaas_kick(kaas_client* client, uint64_t session, kaas_error* error) {
  return done(error, [&] { return client->client.kick(session); });
}
kaas_code kaas_cancel_request(kaas_client* client, uint64_t session, uint32_t ring, uint64_t id,
                              kaas_error* error) {
  return done(error, [&] { return client->client.cancel_request(session, ring, id); });
}
kaas_code kaas_reload(kaas_client* client, kaas_error* error) {
  return done(error, [&] { return client->client.reload(); });
}
kaas_code kaas_suspend_device(kaas_client* client, const char* device, uint32_t within_ms,
                              int force, char** text, kaas_error* error) {
  return text_out(text, error, [&] {
    return client->client.suspend_device(text_of(device), std::chrono::milliseconds(within_ms),
                                         force != 0);
  });
}
kaas_code kaas_resume_device(kaas_client* client, const char* device, char** text,
                             kaas_error* error) {
  return text_out(text, error, [&] { return client->client.resume_device(text_of(device)); });
}

}  // extern "C"
