/* Device memory of a program that uses CUDA, for KaaS requests: the C part of <kaas/cuda.h>, which
 * says which memory, in which order, and how long. Link libkaas_cuda.
 *
 *   kaas_cuda_buffer* shared;
 *   if (kaas_cuda_register(client, samples, bytes, &shared, &error) != KAAS_OK) ...
 *   options.where = KAAS_SEGMENT;
 *   options.segment = kaas_cuda_buffer_segment(shared);
 *   options.offset = kaas_cuda_buffer_offset(shared);
 *
 * Threads: as <kaas/kaas.h>. */
#pragma once

#include <kaas/kaas.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kaas_cuda_buffer kaas_cuda_buffer;

/* `pointer`: device memory of this process in which `bytes` follow. */
KAAS_API kaas_code kaas_cuda_register(kaas_client* client, const void* pointer, uint64_t bytes,
                                      kaas_cuda_buffer** buffer, kaas_error* error);
KAAS_API uint32_t kaas_cuda_buffer_segment(const kaas_cuda_buffer* buffer);
/* Where `pointer` is in the segment. */
KAAS_API uint64_t kaas_cuda_buffer_offset(const kaas_cuda_buffer* buffer);
/* To be called before the memory is freed. Waits until requests that use it have ended and nobody
 * has it open. */
KAAS_API void kaas_cuda_buffer_free(kaas_cuda_buffer* buffer);

/* The bytes of a stored object in device memory that is this program's alone, see CudaObject in
 * <kaas/cuda.h>. `options` NULL: the defaults. */
typedef struct kaas_cuda_object kaas_cuda_object;
KAAS_API kaas_code kaas_cuda_open_object(kaas_client* client, const char* key,
                                         const kaas_export_options* options,
                                         kaas_cuda_object** object, kaas_error* error);
KAAS_API void* kaas_cuda_object_data(const kaas_cuda_object* object);
/* Bytes, segment for requests and so on: of this, which the object owns. */
KAAS_API const kaas_device_copy* kaas_cuda_object_copy(const kaas_cuda_object* object);
/* Unmaps it and gives it back. What streams do with it must have ended. */
KAAS_API void kaas_cuda_object_free(kaas_cuda_object* object);

/* An event that orders requests after this program's streams, and its streams after requests; for
 * the calling thread's current device. A stream: cudaStream_t or CUstream; NULL: the default. */
typedef struct kaas_cuda_event kaas_cuda_event;
KAAS_API kaas_code kaas_cuda_event_create(kaas_client* client, kaas_cuda_event** event,
                                          kaas_error* error);
/* Requests that are sent from now on, and name the event's number in wait_events, come after what
 * the stream was given so far. */
KAAS_API kaas_code kaas_cuda_event_record(kaas_cuda_event* event, void* stream, kaas_error* error);
/* What the stream is given from now on comes after the last record. */
KAAS_API kaas_code kaas_cuda_event_wait(kaas_cuda_event* event, void* stream, kaas_error* error);
KAAS_API uint32_t kaas_cuda_event_number(const kaas_cuda_event* event);
KAAS_API void kaas_cuda_event_free(kaas_cuda_event* event);

#ifdef __cplusplus
}
#endif
