/* The C interface to KaaS: everything of <kaas/client.h>, for every other language.
 *
 *   kaas_client *client;
 *   kaas_error error;
 *   if (kaas_connect(NULL, &client, &error) != KAAS_OK) { puts(error.message); ... }
 *
 * Results   Functions that can fail return a kaas_code and, where `error` is not NULL, say there
 *           what was found and what is allowed. Results come through pointers, which are set only
 *           on KAAS_OK. `error` is set only on failure.
 * Handles   are opaque; each has a function that frees it, which accepts NULL. Every other pointer
 *           to a handle must be valid. A client's buffers, regions, plans and futures may be freed
 *           after it was closed; they then say KAAS_UNAVAILABLE.
 * Strings   are UTF-8 and end with 0; those that go in are copied. NULL means empty. Those that
 *           come out belong to their handle, unless it says that kaas_text_free() frees them.
 * Sizes     are bytes. Times are nanoseconds; deadlines are CLOCK_MONOTONIC.
 * Threads   A client may be used by several threads at once; any other handle by one at a time.
 * Fork      A child can't use its parent's handles, only close and free them; it connects for
 *           itself.
 * Structs   that go in are to be filled by their kaas_..._init() first: later versions of this
 *           library add members behind, and `struct_bytes` tells which are there.
 */
#ifndef KAAS_KAAS_H_
#define KAAS_KAAS_H_

#include <stddef.h>
#include <stdint.h>

#define KAAS_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* --- Outcomes ------------------------------------------------------------------------------- */

typedef enum kaas_code {
  KAAS_OK = 0,
  KAAS_INVALID_ARGUMENT = 1,
  KAAS_NOT_FOUND = 2,
  KAAS_ALREADY_EXISTS = 3,
  KAAS_PERMISSION_DENIED = 4,
  KAAS_RESOURCE_EXHAUSTED = 5, /* A byte budget, a quota or a limit; this process's memory too. */
  KAAS_OUT_OF_MEMORY = 6,      /* The working set does not fit the device. */
  KAAS_UNAVAILABLE = 7,        /* No daemon, or it has gone. Safe to retry. */
  KAAS_DEADLINE_EXCEEDED = 8,
  KAAS_CANCELLED = 9,
  KAAS_DEPENDENCY_FAILED = 10, /* An earlier request that this one reads from failed. */
  KAAS_KERNEL_FAULT = 11,
  KAAS_UNKNOWN_OUTCOME = 12, /* It may have run; the answer was lost. */
  KAAS_DATA_LOST = 13,
  KAAS_VERSION_MISMATCH = 14,
  KAAS_PROTOCOL_VIOLATION = 15,
  KAAS_INTERNAL = 16
} kaas_code;

#define KAAS_MESSAGE_BYTES 512

typedef struct kaas_error {
  kaas_code code;
  char message[KAAS_MESSAGE_BYTES]; /* Cut to fit. */
} kaas_error;

KAAS_API const char* kaas_code_name(kaas_code code);

typedef struct kaas_client kaas_client;
typedef struct kaas_buffer kaas_buffer;
typedef struct kaas_region kaas_region;
typedef struct kaas_object kaas_object;
typedef struct kaas_builder kaas_builder;
typedef struct kaas_request kaas_request;
typedef struct kaas_bindings kaas_bindings;
typedef struct kaas_plan kaas_plan;
typedef struct kaas_bound_plan kaas_bound_plan;
typedef struct kaas_future kaas_future;
typedef struct kaas_reply kaas_reply;

/* Frees a text that a function has returned. */
KAAS_API void kaas_text_free(char* text);

/* --- Connecting ----------------------------------------------------------------------------- */

typedef struct kaas_options {
  size_t struct_bytes;
  const char* socket;   /* NULL: $KAAS_SOCKET, else the usual places. */
  const char* name;     /* For lists and logs. NULL: the program's. */
  uint64_t arena_bytes; /* Shared memory for kaas_allocate(). 0: kaasd's default. */
  uint32_t ring_slots;  /* Messages on their way per thread. 0: kaasd's default. */
  uint64_t connect_timeout_ns;
  uint64_t spin_ns;        /* How long a wait polls before it sleeps. */
  int administration_only; /* Not 0: no ring and no shared memory. */
  int without_lanes;       /* Not 0: bound plans are granted no lanes. */
} kaas_options;

KAAS_API void kaas_options_init(kaas_options* options);
/* `options` NULL: the defaults. */
KAAS_API kaas_code kaas_connect(const kaas_options* options, kaas_client** client,
                                kaas_error* error);
KAAS_API void kaas_close(kaas_client* client);
KAAS_API uint64_t kaas_session(const kaas_client* client);
KAAS_API const char* kaas_daemon_version(const kaas_client* client);
KAAS_API const char* kaas_socket(const kaas_client* client);

/* --- Memory --------------------------------------------------------------------------------- */

/* A piece of memory shared with kaasd, aligned to 256 bytes, uninitialised. It must not be freed
 * before the requests that use it have ended. */
KAAS_API kaas_code kaas_allocate(kaas_client* client, uint64_t bytes, kaas_buffer** buffer,
                                 kaas_error* error);
KAAS_API void* kaas_buffer_data(const kaas_buffer* buffer);
KAAS_API size_t kaas_buffer_size(const kaas_buffer* buffer);
KAAS_API uint32_t kaas_buffer_segment(const kaas_buffer* buffer);
KAAS_API uint64_t kaas_buffer_offset(const kaas_buffer* buffer);
KAAS_API void kaas_buffer_free(kaas_buffer* buffer);

/* Offers the first `bytes` of a memfd or shm_open descriptor, which stays the caller's. */
KAAS_API kaas_code kaas_register_region(kaas_client* client, int descriptor, uint64_t bytes,
                                        int writable, kaas_region** region, kaas_error* error);

/* Where `handle` and `descriptor` come from: cuIpcGetMemHandle; cuMemExportToShareableHandle;
 * cuMemPoolExportPointer and cuMemPoolExportToShareableHandle. */
typedef enum kaas_device_kind {
  KAAS_DEVICE_LEGACY = 0, /* cudaMalloc. A handle. */
  KAAS_DEVICE_CUMEM = 1,  /* cuMemCreate. A descriptor. */
  KAAS_DEVICE_POOL = 2    /* cudaMallocFromPoolAsync. Both. */
} kaas_device_kind;

/* An allocation of this process's device memory, whole. libkaas_cuda makes one from a pointer. */
typedef struct kaas_device_allocation {
  size_t struct_bytes;
  kaas_device_kind kind;
  const void* handle; /* 64 bytes. KAAS_DEVICE_CUMEM: at most so many that name it, or NULL. */
  size_t handle_bytes;
  uint64_t bytes;
  const void* gpu; /* Its UUID, 16 bytes. NULL: not told. */
  int descriptor;  /* Stays the caller's to close; -1: none. */
} kaas_device_allocation;

KAAS_API void kaas_device_allocation_init(kaas_device_allocation* memory);
/* Offers device memory; offsets in the region count from the allocation's base. It must not be
 * freed before the region is, which waits until requests that use it have ended and nobody has it
 * open. */
KAAS_API kaas_code kaas_register_device_memory(kaas_client* client,
                                               const kaas_device_allocation* memory,
                                               kaas_region** region, kaas_error* error);
/* Offers an interprocess CUDA event by its 64-byte handle. The region's segment is the number that
 * run options name. */
KAAS_API kaas_code kaas_register_event(kaas_client* client, const void* handle, size_t handle_bytes,
                                       kaas_region** region, kaas_error* error);

/* A copy of an object's bytes in device memory that is this client's alone; libkaas_cuda maps it.
 * What is written there changes no object. It counts against kaasd's limit for this client until it
 * is freed; whoever has mapped it unmaps it before. */
typedef struct kaas_device_copy kaas_device_copy;
typedef struct kaas_export_options {
  size_t struct_bytes;
  uint64_t offset, bytes; /* In the object; `bytes` 0: the rest. */
  const char* device;     /* An id, or what only one id begins with; NULL: kaasd chooses. */
} kaas_export_options;
KAAS_API void kaas_export_options_init(kaas_export_options* options);
/* `options` NULL: the defaults. */
KAAS_API kaas_code kaas_export_object(kaas_client* client, const char* key,
                                      const kaas_export_options* options, kaas_device_copy** copy,
                                      kaas_error* error);
/* For cuMemImportFromShareableHandle (POSIX file descriptor); closed with the copy. */
KAAS_API int kaas_device_copy_descriptor(const kaas_device_copy* copy);
KAAS_API uint64_t kaas_device_copy_bytes(const kaas_device_copy* copy);
/* What there is to map; zero behind the object's bytes. */
KAAS_API uint64_t kaas_device_copy_allocation_bytes(const kaas_device_copy* copy);
/* The GPU's UUID, 16 bytes, and its id. Valid as long as the copy. */
KAAS_API const void* kaas_device_copy_gpu(const kaas_device_copy* copy);
KAAS_API const char* kaas_device_copy_device(const kaas_device_copy* copy);
/* For requests: KAAS_SEGMENT. */
KAAS_API uint32_t kaas_device_copy_segment(const kaas_device_copy* copy);
KAAS_API void kaas_device_copy_free(kaas_device_copy* copy);

KAAS_API uint64_t kaas_region_size(const kaas_region* region);
KAAS_API uint32_t kaas_region_segment(const kaas_region* region);
KAAS_API void kaas_region_free(kaas_region* region);

/* --- Store ---------------------------------------------------------------------------------- */

typedef enum kaas_place {
  KAAS_ON_HOST = 0,
  KAAS_ON_DEVICE = 1, /* In the memory of a device only, until somebody reads it elsewhere. */
  KAAS_LOST = 2       /* It was there only, and is lost: reads say KAAS_DATA_LOST. */
} kaas_place;

typedef struct kaas_object_info {
  uint64_t version;
  uint64_t bytes;
  kaas_place place; /* Told by kaas_stat. */
} kaas_object_info;

/* `info` may be NULL. Up to 64 KiB travel in a message; more are copied once, into memory that is
 * then kaasd's. */
KAAS_API kaas_code kaas_put(kaas_client* client, const char* key, const void* data, size_t bytes,
                            kaas_object_info* info, kaas_error* error);
KAAS_API kaas_code kaas_put_buffer(kaas_client* client, const char* key, const kaas_buffer* buffer,
                                   uint64_t offset, uint64_t bytes, kaas_object_info* info,
                                   kaas_error* error);
/* A whole memfd without a copy. It is sealed, and must not be mapped writable any more. */
KAAS_API kaas_code kaas_donate(kaas_client* client, const char* key, int descriptor,
                               kaas_object_info* info, kaas_error* error);
/* `owner_uid` NULL: the caller's own namespace; else one that shares the key. */
KAAS_API kaas_code kaas_get(kaas_client* client, const char* key, const uint32_t* owner_uid,
                            kaas_object** object, kaas_error* error);
KAAS_API const void* kaas_object_data(const kaas_object* object);
KAAS_API size_t kaas_object_size(const kaas_object* object);
KAAS_API uint64_t kaas_object_version(const kaas_object* object);
KAAS_API void kaas_object_free(kaas_object* object);

KAAS_API kaas_code kaas_stat(kaas_client* client, const char* key, const uint32_t* owner_uid,
                             kaas_object_info* info, kaas_error* error);
KAAS_API kaas_code kaas_remove(kaas_client* client, const char* key, kaas_error* error);
/* At most `limit` objects with keys that begin with `prefix`, after the key `after`. The text is
 * to be freed with kaas_text_free(). */
KAAS_API kaas_code kaas_list_json(kaas_client* client, const char* prefix, const char* after,
                                  uint32_t limit, const uint32_t* owner_uid, char** text,
                                  kaas_error* error);
/* `uid` NULL: everyone. */
KAAS_API kaas_code kaas_share(kaas_client* client, const char* key, const uint32_t* uid, int write,
                              kaas_error* error);
KAAS_API kaas_code kaas_unshare(kaas_client* client, const char* key, const uint32_t* uid,
                                kaas_error* error);

/* --- Building requests ---------------------------------------------------------------------- */

typedef enum kaas_where {
  KAAS_STORE = 0,   /* Bytes of the object `key`, from `offset` on. */
  KAAS_SEGMENT = 1, /* Bytes of a buffer's or region's segment, from `offset` on. */
  KAAS_INLINE = 2,  /* Inputs: `data`, or bytes of each call. Outputs: in the reply. */
  KAAS_IPC = 3      /* Device memory by CUDA IPC handle. */
} kaas_where;

enum {
  KAAS_EPHEMERAL = 1, /* An output that is not kept. */
  KAAS_CONSTANT = 2,
  KAAS_ZERO_FILL = 4, /* An object that is shorter than the buffer reads as zeros behind. */
  KAAS_RESIDENT = 8   /* An output that stays on the device until it is read elsewhere. */
};

typedef enum kaas_access {
  KAAS_IN = 0,
  KAAS_OUT = 1,
  KAAS_INOUT = 2,
  KAAS_TEMPORARY = 3
} kaas_access;

typedef enum kaas_literal_type {
  KAAS_I32 = 0,
  KAAS_U32 = 1,
  KAAS_I64 = 2,
  KAAS_U64 = 3,
  KAAS_F32 = 4,
  KAAS_F64 = 5
} kaas_literal_type;

typedef struct kaas_ipc_handle {
  unsigned char handle[64];
  uint64_t base_offset; /* Where in its allocation the memory begins. */
  uint64_t base_bytes;  /* Of the allocation; 0: as large as it is found to be. */
} kaas_ipc_handle;

typedef struct kaas_buffer_options {
  size_t struct_bytes;
  const char* key;               /* KAAS_STORE. NULL: the buffer's name. */
  const char* size_expression;   /* Not NULL: replaces the size. */
  const char* offset_expression; /* Not NULL: replaces `offset`. */
  uint64_t offset;
  unsigned flags; /* KAAS_EPHEMERAL and so on. */
  kaas_where where;
  uint32_t segment; /* KAAS_SEGMENT; only held to lie in it. See `buffer` and `region`. */
  const void* data; /* KAAS_INLINE; copied. NULL: bytes come with each call. */
  size_t data_bytes;
  const kaas_ipc_handle* ipc; /* KAAS_IPC. */
  /* KAAS_SEGMENT, one of them instead of `segment`: `offset` then counts in it, and what does not
   * lie in it is refused. */
  const kaas_buffer* buffer;
  const kaas_region* region;
} kaas_buffer_options;

typedef struct kaas_address_slot {
  uint32_t offset;    /* In the raw literal: receives the 8-byte device address of */
  const char* buffer; /* this buffer. */
} kaas_address_slot;

KAAS_API void kaas_buffer_options_init(kaas_buffer_options* options);

/* NULL when this process has no memory. What is wrong with a step is said by kaas_build(). */
KAAS_API kaas_builder* kaas_builder_new(void);
KAAS_API void kaas_builder_free(kaas_builder* builder);
/* `options` NULL: the store's object of the same name. */
KAAS_API void kaas_builder_buffer(kaas_builder* builder, const char* name, uint64_t size,
                                  const kaas_buffer_options* options);
/* Adds a kernel. The kaas_kernel_ functions are about the one that was added last. */
KAAS_API void kaas_builder_kernel(kaas_builder* builder, const char* library, const char* kernel);
KAAS_API void kaas_builder_iterations(kaas_builder* builder, uint64_t times);
KAAS_API void kaas_builder_iterations_expression(kaas_builder* builder, const char* expression);
KAAS_API void kaas_builder_until(kaas_builder* builder, const char* buffer);
KAAS_API void kaas_builder_parameter(kaas_builder* builder, const char* name);

KAAS_API void kaas_kernel_grid(kaas_builder* builder, uint32_t x, uint32_t y, uint32_t z);
KAAS_API void kaas_kernel_block(kaas_builder* builder, uint32_t x, uint32_t y, uint32_t z);
KAAS_API void kaas_kernel_grid_expression(kaas_builder* builder, const char* x, const char* y,
                                          const char* z);
KAAS_API void kaas_kernel_block_expression(kaas_builder* builder, const char* x, const char* y,
                                           const char* z);
KAAS_API void kaas_kernel_shared_bytes(kaas_builder* builder, uint32_t bytes);
KAAS_API void kaas_kernel_cluster(kaas_builder* builder, uint32_t x, uint32_t y, uint32_t z);
KAAS_API void kaas_kernel_cooperative(kaas_builder* builder, int on);
/* It waits itself for the kernels that it comes behind (cudaGridDependencySynchronize). */
KAAS_API void kaas_kernel_programmatic(kaas_builder* builder, int on);
KAAS_API void kaas_kernel_i32(kaas_builder* builder, int32_t value);
KAAS_API void kaas_kernel_u32(kaas_builder* builder, uint32_t value);
KAAS_API void kaas_kernel_i64(kaas_builder* builder, int64_t value);
KAAS_API void kaas_kernel_u64(kaas_builder* builder, uint64_t value);
KAAS_API void kaas_kernel_f32(kaas_builder* builder, float value);
KAAS_API void kaas_kernel_f64(kaas_builder* builder, double value);
KAAS_API void kaas_kernel_expression(kaas_builder* builder, kaas_literal_type type,
                                     const char* expression);
KAAS_API void kaas_kernel_raw(kaas_builder* builder, const void* data, size_t bytes,
                              const kaas_address_slot* slots, size_t slot_count);
KAAS_API void kaas_kernel_argument(kaas_builder* builder, const char* buffer, kaas_access access);
KAAS_API void kaas_kernel_order(kaas_builder* builder, const uint16_t* parameters, size_t count);

/* The request so far. The builder stays as it is. */
KAAS_API kaas_code kaas_build(const kaas_builder* builder, kaas_request** request,
                              kaas_error* error);
/* Adopts a finished FlatBuffer with root kaas.wire.Request; copied, checked by kaasd. */
KAAS_API kaas_code kaas_request_from_bytes(const void* data, size_t bytes, kaas_request** request,
                                           kaas_error* error);
KAAS_API const void* kaas_request_data(const kaas_request* request);
KAAS_API size_t kaas_request_size(const kaas_request* request);
KAAS_API void kaas_request_free(kaas_request* request);

/* --- Bindings: what one run changes of its plan or function --------------------------------- */

/* NULL when this process has no memory. A failing step makes the run fail. */
KAAS_API kaas_bindings* kaas_bindings_new(void);
KAAS_API void kaas_bindings_free(kaas_bindings* bindings);
KAAS_API void kaas_bindings_clear(kaas_bindings* bindings);
/* `offset` NULL: the template's. */
KAAS_API void kaas_bind_key(kaas_bindings* bindings, const char* buffer, const char* key,
                            const uint64_t* offset);
KAAS_API void kaas_bind_buffer(kaas_bindings* bindings, const char* buffer,
                               const kaas_buffer* memory, uint64_t offset);
KAAS_API void kaas_bind_region(kaas_bindings* bindings, const char* buffer,
                               const kaas_region* region, uint64_t offset);
/* An input. */
KAAS_API void kaas_bind_bytes(kaas_bindings* bindings, const char* buffer, const void* data,
                              size_t bytes);
/* An output: it comes in the reply. */
KAAS_API void kaas_bind_reply(kaas_bindings* bindings, const char* buffer);
KAAS_API void kaas_bind_ipc(kaas_bindings* bindings, const char* buffer,
                            const kaas_ipc_handle* handle);
/* The new value of a literal. The run is refused where the template's is of another type. */
KAAS_API void kaas_bind_i32(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            int32_t value);
KAAS_API void kaas_bind_u32(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            uint32_t value);
KAAS_API void kaas_bind_i64(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            int64_t value);
KAAS_API void kaas_bind_u64(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            uint64_t value);
KAAS_API void kaas_bind_f32(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            float value);
KAAS_API void kaas_bind_f64(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            double value);
/* Its bit pattern, in the low bytes; of the template's type, which is not checked. */
KAAS_API void kaas_bind_literal(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                                uint64_t bits);
KAAS_API void kaas_bind_raw(kaas_bindings* bindings, uint16_t kernel, uint16_t literal,
                            const void* data, size_t bytes);

/* --- Running -------------------------------------------------------------------------------- */

typedef struct kaas_run_options {
  size_t struct_bytes;
  int priority;         /* -100 .. 100, higher first; below 0: leaves part of a GPU to others. */
  uint64_t deadline_ns; /* 0: none. */
  uint64_t tag;
  int profile;
  const char* tenant;
  /* Segments of kaas_register_event(): waited for before anything is read, and recorded when the
   * outputs are there. */
  const uint32_t* wait_events;
  size_t wait_event_count;
  const uint32_t* record_events;
  size_t record_event_count;
} kaas_run_options;

typedef struct kaas_parameter {
  const char* name;
  int64_t value;
} kaas_parameter;

KAAS_API void kaas_run_options_init(kaas_run_options* options);

/* `options` and `bindings` may be NULL everywhere, and `reply` too, if nobody wants it. */
KAAS_API kaas_code kaas_run(kaas_client* client, const kaas_request* request,
                            const kaas_run_options* options, kaas_reply** reply, kaas_error* error);
/* kaasd checks the request and keeps it: running the plan sends a few bytes. */
KAAS_API kaas_code kaas_prepare(kaas_client* client, const kaas_request* request, kaas_plan** plan,
                                kaas_error* error);
KAAS_API kaas_code kaas_plan_run(const kaas_plan* plan, const kaas_bindings* bindings,
                                 const kaas_run_options* options, kaas_reply** reply,
                                 kaas_error* error);
/* The plan with these bindings for good; run often, it is granted a lane. See BoundPlan in
 * <kaas/client.h>. NULL: no memory. */
KAAS_API kaas_bound_plan* kaas_plan_bind(const kaas_plan* plan, const kaas_bindings* bindings);
KAAS_API kaas_code kaas_bound_plan_run(const kaas_bound_plan* plan, kaas_reply** reply,
                                       kaas_error* error);
/* Whether the next run of this thread goes by a lane, as far as is known. */
KAAS_API int kaas_bound_plan_has_lane(const kaas_bound_plan* plan);
KAAS_API void kaas_bound_plan_free(kaas_bound_plan* plan);
KAAS_API uint32_t kaas_plan_id(const kaas_plan* plan);
KAAS_API void kaas_plan_free(kaas_plan* plan);

/* `version` may be NULL. */
KAAS_API kaas_code kaas_deploy(kaas_client* client, const char* function,
                               const kaas_request* request, uint32_t* version, kaas_error* error);
/* `version` 0: the current one. */
KAAS_API kaas_code kaas_call(kaas_client* client, const char* function, uint32_t version,
                             const kaas_parameter* parameters, size_t parameter_count,
                             const kaas_bindings* bindings, const kaas_run_options* options,
                             kaas_reply** reply, kaas_error* error);
KAAS_API kaas_code kaas_undeploy(kaas_client* client, const char* function, uint32_t version,
                                 kaas_error* error);
KAAS_API kaas_code kaas_make_current(kaas_client* client, const char* function, uint32_t version,
                                     kaas_error* error);

/* --- Replies -------------------------------------------------------------------------------- */

typedef struct kaas_output {
  uint16_t buffer; /* Index in the request. */
  const char* name;
  uint64_t bytes;
  uint64_t version; /* 0: not in the store. */
  const void* data; /* Where the output was asked for in the reply. */
  size_t data_bytes;
} kaas_output;

typedef struct kaas_profile {
  uint64_t intake_ns, plan_ns, queue_ns, load_ns, run_ns, store_ns, execute_ns, settle_ns;
  uint64_t device_hits, device_misses, host_to_device_bytes, device_to_host_bytes;
  uint64_t evictions, evicted_bytes, kernel_hits, kernel_misses, launches, iterations;
  const char* device;
  const char* way;        /* "host", "stream", "graph"; "unknown": the daemon does not say. */
  const char* why_stream; /* Why not as a graph: "first use", "opaque", ...; else empty. */
} kaas_profile;

KAAS_API uint64_t kaas_reply_tag(const kaas_reply* reply);
KAAS_API size_t kaas_reply_output_count(const kaas_reply* reply);
/* Returns 0 when there is no such output. */
KAAS_API int kaas_reply_output(const kaas_reply* reply, size_t index, kaas_output* output);
KAAS_API int kaas_reply_find(const kaas_reply* reply, const char* name, kaas_output* output);
/* Returns 0 when the run was not profiled. */
KAAS_API int kaas_reply_profile(const kaas_reply* reply, kaas_profile* profile);
KAAS_API void kaas_reply_free(kaas_reply* reply);

/* --- Without waiting ------------------------------------------------------------------------ */

/* Each starts an operation; its outcome, failures to start it included, is in the future. NULL
 * when this process has no memory for one. `try_` functions fail with KAAS_RESOURCE_EXHAUSTED
 * instead of waiting when the ring is full. */
KAAS_API kaas_future* kaas_put_async(kaas_client* client, const char* key, const void* data,
                                     size_t bytes);
KAAS_API kaas_future* kaas_put_buffer_async(kaas_client* client, const char* key,
                                            const kaas_buffer* buffer, uint64_t offset,
                                            uint64_t bytes);
KAAS_API kaas_future* kaas_donate_async(kaas_client* client, const char* key, int descriptor);
KAAS_API kaas_future* kaas_get_async(kaas_client* client, const char* key,
                                     const uint32_t* owner_uid);
KAAS_API kaas_future* kaas_stat_async(kaas_client* client, const char* key,
                                      const uint32_t* owner_uid);
KAAS_API kaas_future* kaas_remove_async(kaas_client* client, const char* key);
KAAS_API kaas_future* kaas_submit(kaas_client* client, const kaas_request* request,
                                  const kaas_run_options* options);
KAAS_API kaas_future* kaas_try_submit(kaas_client* client, const kaas_request* request,
                                      const kaas_run_options* options);
KAAS_API kaas_future* kaas_plan_submit(const kaas_plan* plan, const kaas_bindings* bindings,
                                       const kaas_run_options* options);
KAAS_API kaas_future* kaas_plan_try_submit(const kaas_plan* plan, const kaas_bindings* bindings,
                                           const kaas_run_options* options);
KAAS_API kaas_future* kaas_bound_plan_submit(const kaas_bound_plan* plan);
KAAS_API kaas_future* kaas_bound_plan_try_submit(const kaas_bound_plan* plan);
KAAS_API kaas_future* kaas_call_async(kaas_client* client, const char* function, uint32_t version,
                                      const kaas_parameter* parameters, size_t parameter_count,
                                      const kaas_bindings* bindings,
                                      const kaas_run_options* options);

#define KAAS_FOREVER UINT64_MAX

/* Not 0: the operation has ended. Never blocks. */
KAAS_API int kaas_future_ready(kaas_future* future);
/* Waits; 0: not within `timeout_ns`. */
KAAS_API int kaas_future_wait(kaas_future* future, uint64_t timeout_ns);
/* The operation's number, as lists and logs show it; 0: it was never sent. */
KAAS_API uint64_t kaas_future_id(const kaas_future* future);
/* Drops a request that is still queued; its future then ends with KAAS_CANCELLED. */
KAAS_API kaas_code kaas_future_cancel(kaas_future* future, kaas_error* error);
/* Wait, and take the result, once. Each kind of operation has one of these; the others fail with
 * KAAS_INVALID_ARGUMENT. kaas_future_done is for removals. `reply` and `info` may be NULL. */
KAAS_API kaas_code kaas_future_reply(kaas_future* future, kaas_reply** reply, kaas_error* error);
KAAS_API kaas_code kaas_future_object(kaas_future* future, kaas_object** object, kaas_error* error);
KAAS_API kaas_code kaas_future_info(kaas_future* future, kaas_object_info* info, kaas_error* error);
KAAS_API kaas_code kaas_future_done(kaas_future* future, kaas_error* error);
/* An operation goes on when its future is freed; its answer is dropped. */
KAAS_API void kaas_future_free(kaas_future* future);

/* --- Event loops ---------------------------------------------------------------------------- */

/* Readable when answers may be there: then call kaas_poll(). Closed with the client. -1: there are
 * no descriptors left. */
KAAS_API int kaas_event_fd(kaas_client* client);
/* Takes in what has arrived, never blocks; returns how many answers. */
KAAS_API size_t kaas_poll(kaas_client* client);
KAAS_API kaas_code kaas_alive(kaas_client* client, kaas_error* error);

/* --- Administration: JSON texts, to be freed with kaas_text_free() --------------------------- */

KAAS_API kaas_code kaas_status_json(kaas_client* client, char** text, kaas_error* error);
KAAS_API kaas_code kaas_clients_json(kaas_client* client, char** text, kaas_error* error);
KAAS_API kaas_code kaas_functions_json(kaas_client* client, char** text, kaas_error* error);
KAAS_API kaas_code kaas_libraries_json(kaas_client* client, char** text, kaas_error* error);
KAAS_API kaas_code kaas_logs_json(kaas_client* client, uint64_t after, uint32_t limit, char** text,
                                  kaas_error* error);
KAAS_API kaas_code kaas_kick(kaas_client* client, uint64_t session, kaas_error* error);
KAAS_API kaas_code kaas_cancel_request(kaas_client* client, uint64_t session, uint32_t ring,
                                       uint64_t id, kaas_error* error);
KAAS_API kaas_code kaas_reload(kaas_client* client, kaas_error* error);
/* Gives the memory of devices back to other programs, and takes it again: an id, what only one id
 * begins with, or "all". What runs there is waited for at most `within_ms`. */
KAAS_API kaas_code kaas_suspend_device(kaas_client* client, const char* device, uint32_t within_ms,
                                       int force, char** text, kaas_error* error);
KAAS_API kaas_code kaas_resume_device(kaas_client* client, const char* device, char** text,
                                      kaas_error* error);

#ifdef __cplusplus
}
#endif

#endif /* KAAS_KAAS_H_ */
