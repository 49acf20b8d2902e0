/* Uses the C interface as a C99 program does. Prints nothing and returns 0 when all is as it should
 * be, else the line of what is not.
 * usage: c_program SOCKET: of a loopback peer, which answers every run with the output "y". */
#include <kaas/kaas.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                             \
  do {                                                               \
    if (!(condition)) {                                              \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition);        \
      return __LINE__;                                               \
    }                                                                \
  } while (0)

static kaas_error error;

static int use_store(kaas_client *client) {
  kaas_object_info info;
  kaas_object *object = NULL;
  kaas_buffer *buffer = NULL;
  kaas_future *future = NULL;
  char *text = NULL;
  const uint32_t uid = 7;
  CHECK(kaas_put(client, "k", "hello", 5, &info, &error) == KAAS_OK);
  CHECK(info.bytes == 5 && info.version == 1);
  CHECK(kaas_get(client, "k", NULL, &object, &error) == KAAS_OK);
  CHECK(kaas_object_size(object) == 5 && memcmp(kaas_object_data(object), "hello", 5) == 0);
  CHECK(kaas_object_version(object) == 1);
  kaas_object_free(object);
  CHECK(kaas_stat(client, "k", &uid, &info, NULL) == KAAS_OK);
  CHECK(kaas_allocate(client, 64, &buffer, &error) == KAAS_OK);
  CHECK(kaas_buffer_size(buffer) == 64 && kaas_buffer_segment(buffer) != 0);
  memset(kaas_buffer_data(buffer), 'b', 64);
  CHECK(kaas_put_buffer(client, "b", buffer, 4, 8, NULL, &error) == KAAS_OK);
  CHECK(kaas_put_buffer(client, "b", buffer, 60, 8, NULL, &error) == KAAS_INVALID_ARGUMENT);
  CHECK(strstr(error.message, "64 bytes") != NULL && error.code == KAAS_INVALID_ARGUMENT);
  future = kaas_get_async(client, "b", NULL);
  CHECK(future != NULL && kaas_future_id(future) != 0);
  CHECK(kaas_future_wait(future, KAAS_FOREVER) && kaas_future_ready(future));
  CHECK(kaas_future_reply(future, NULL, &error) == KAAS_INVALID_ARGUMENT);
  CHECK(kaas_future_object(future, &object, &error) == KAAS_OK);
  CHECK(kaas_object_size(object) == 8);
  kaas_object_free(object);
  kaas_future_free(future);
  future = kaas_remove_async(client, "b");
  CHECK(kaas_future_done(future, &error) == KAAS_OK);
  kaas_future_free(future);
  CHECK(kaas_remove(client, "b", &error) == KAAS_NOT_FOUND);
  CHECK(strcmp(kaas_code_name(error.code), "NotFound") == 0);
  CHECK(kaas_list_json(client, "", NULL, 10, NULL, &text, &error) == KAAS_OK);
  CHECK(strstr(text, "ListObjects") != NULL);
  kaas_text_free(text);
  CHECK(kaas_share(client, "k", &uid, 1, &error) == KAAS_OK);
  CHECK(kaas_unshare(client, "k", NULL, &error) == KAAS_OK);
  kaas_buffer_free(buffer);
  return 0;
}

static kaas_request *build(void) {
  kaas_request *request = NULL;
  kaas_builder *builder = kaas_builder_new();
  kaas_buffer_options options;
  kaas_address_slot slot;
  const uint16_t order[] = {1, 0, 2, 3};
  if (builder == NULL) return NULL;
  slot.offset = 8;
  slot.buffer = "y";
  kaas_buffer_options_init(&options);
  options.where = KAAS_INLINE;
  options.data = "abcd";
  options.data_bytes = 4;
  kaas_builder_buffer(builder, "x", 4, &options);
  options.data = NULL;
  kaas_builder_buffer(builder, "y", 4, &options);
  kaas_builder_kernel(builder, "std", "copy");
  kaas_kernel_grid(builder, 1, 1, 1);
  kaas_kernel_block(builder, 32, 1, 1);
  kaas_kernel_u64(builder, 4);
  kaas_kernel_raw(builder, "0123456789abcdef", 16, &slot, 1);
  kaas_kernel_argument(builder, "x", KAAS_IN);
  kaas_kernel_argument(builder, "y", KAAS_OUT);
  kaas_kernel_order(builder, order, 4);
  kaas_builder_iterations(builder, 1);
  if (kaas_build(builder, &request, &error) != KAAS_OK) request = NULL;
  kaas_builder_free(builder);
  return request;
}

static int use_requests(kaas_client *client) {
  kaas_request *request = build();
  kaas_plan *plan = NULL;
  kaas_reply *reply = NULL;
  kaas_future *future = NULL;
  kaas_output output;
  kaas_profile profile;
  kaas_run_options options;
  kaas_parameter parameter;
  kaas_bound_plan *bound = NULL;
  kaas_bindings *bindings = kaas_bindings_new();
  const uint64_t offset = 16;
  uint32_t version = 0;
  CHECK(request != NULL && bindings != NULL && kaas_request_size(request) > 0);
  kaas_run_options_init(&options);
  options.tag = 5;
  options.profile = 1;
  CHECK(kaas_run(client, request, &options, &reply, &error) == KAAS_OK);
  CHECK(kaas_reply_tag(reply) == 5 && kaas_reply_output_count(reply) == 1);
  CHECK(kaas_reply_output(reply, 0, &output) && !kaas_reply_output(reply, 1, &output));
  CHECK(kaas_reply_find(reply, "y", &output) && !kaas_reply_find(reply, "z", &output));
  CHECK(output.data_bytes == 4 && memcmp(output.data, "ABCD", 4) == 0);
  CHECK(kaas_reply_profile(reply, &profile) && strcmp(profile.device, "host") == 0);
  CHECK(profile.settle_ns == 8 && profile.iterations == 10);
  CHECK(strcmp(profile.way, "stream") == 0 && strcmp(profile.why_stream, "first use") == 0);
  kaas_reply_free(reply);
  CHECK(kaas_prepare(client, request, &plan, &error) == KAAS_OK && kaas_plan_id(plan) == 41);
  kaas_bind_key(bindings, "x", "elsewhere", &offset);
  kaas_bind_reply(bindings, "y");
  kaas_bind_literal(bindings, 0, 0, 3);
  kaas_bind_u64(bindings, 0, 0, 3);
  CHECK(kaas_plan_run(plan, bindings, NULL, NULL, &error) == KAAS_OK);
  bound = kaas_plan_bind(plan, bindings);
  CHECK(bound != NULL && !kaas_bound_plan_has_lane(bound));
  CHECK(kaas_bound_plan_run(bound, &reply, &error) == KAAS_OK);
  kaas_reply_free(reply);
  future = kaas_bound_plan_submit(bound);
  CHECK(kaas_future_reply(future, NULL, &error) == KAAS_OK);
  kaas_future_free(future);
  future = kaas_bound_plan_try_submit(bound);
  CHECK(kaas_future_reply(future, NULL, &error) == KAAS_OK);
  kaas_future_free(future);
  kaas_bound_plan_free(bound);
  future = kaas_plan_submit(plan, NULL, NULL);
  CHECK(kaas_future_reply(future, &reply, &error) == KAAS_OK);
  CHECK(kaas_future_reply(future, &reply, &error) == KAAS_INVALID_ARGUMENT);
  kaas_reply_free(reply);
  kaas_future_free(future);
  CHECK(kaas_deploy(client, "f", request, &version, &error) == KAAS_OK && version == 3);
  parameter.name = "n";
  parameter.value = 4;
  CHECK(kaas_call(client, "f", 0, &parameter, 1, bindings, NULL, NULL, &error) == KAAS_OK);
  kaas_plan_free(plan);
  kaas_bindings_free(bindings);
  kaas_request_free(request);
  return 0;
}

static int use_exports(kaas_client *client) {
  kaas_device_copy *copy = NULL;
  kaas_export_options options;
  CHECK(kaas_put(client, "exported", "abc", 3, NULL, &error) == KAAS_OK);
  kaas_export_options_init(&options);
  options.device = "GPU-9";
  CHECK(kaas_export_object(client, "exported", &options, &copy, &error) == KAAS_OK);
  CHECK(kaas_device_copy_descriptor(copy) >= 0 && kaas_device_copy_bytes(copy) == 3);
  CHECK(kaas_device_copy_allocation_bytes(copy) == 2097152);
  CHECK(memcmp(kaas_device_copy_gpu(copy), "\t\t", 2) == 0);
  CHECK(strcmp(kaas_device_copy_device(copy), "GPU-9") == 0);
  CHECK(kaas_device_copy_segment(copy) != 0);
  kaas_device_copy_free(copy);
  CHECK(kaas_export_object(client, "none", NULL, &copy, &error) == KAAS_NOT_FOUND);
  kaas_device_copy_free(NULL);
  return 0;
}

static int use_errors(kaas_client *client) {
  kaas_builder *builder = kaas_builder_new();
  kaas_request *request = NULL;
  kaas_reply *reply = NULL;
  kaas_kernel_i32(builder, 1);
  CHECK(kaas_build(builder, &request, &error) == KAAS_INVALID_ARGUMENT && request == NULL);
  CHECK(strstr(error.message, "add one first") != NULL);
  kaas_builder_free(builder);
  CHECK(kaas_request_from_bytes("nonsense", 8, &request, &error) == KAAS_OK);
  kaas_request_free(request);
  CHECK(kaas_kick(client, 99, NULL) == KAAS_NOT_FOUND && reply == NULL);
  char *devices = NULL;
  CHECK(kaas_suspend_device(client, "d", 1000, 0, &devices, &error) == KAAS_OK);
  kaas_text_free(devices);
  CHECK(kaas_suspend_device(client, "d", 3600001, 0, &devices, NULL) == KAAS_INVALID_ARGUMENT);
  CHECK(kaas_resume_device(client, "d", &devices, &error) == KAAS_OK);
  kaas_text_free(devices);
  CHECK(kaas_alive(client, &error) == KAAS_OK);
  CHECK(kaas_event_fd(client) >= 0);
  kaas_poll(client);
  kaas_buffer_free(NULL);
  kaas_future_free(NULL);
  kaas_close(NULL);
  return 0;
}

int main(int count, char **arguments) {
  kaas_options options;
  kaas_client *client = NULL;
  int line = 0;
  CHECK(count == 2);
  kaas_options_init(&options);
  options.socket = "/nonexistent/socket";
  CHECK(kaas_connect(&options, &client, &error) == KAAS_UNAVAILABLE && client == NULL);
  CHECK(strstr(error.message, "/nonexistent/socket") != NULL);
  options.socket = arguments[1];
  options.name = "c program";
  CHECK(kaas_connect(&options, &client, &error) == KAAS_OK);
  CHECK(kaas_session(client) != 0 && strcmp(kaas_socket(client), arguments[1]) == 0);
  CHECK(strcmp(kaas_daemon_version(client), "loopback") == 0);
  line = use_store(client);
  if (line == 0) line = use_requests(client);
  if (line == 0) line = use_exports(client);
  if (line == 0) line = use_errors(client);
  kaas_close(client);
  return line;
}
