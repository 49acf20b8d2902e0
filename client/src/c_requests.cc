// The C interface: requests, bindings, plans, functions, replies, futures.
#include "client/src/c_handles.h"

using kaas::bytes_of;
using kaas::done;
using kaas::future_out;
using kaas::guarded;
using kaas::handed_out;
using kaas::options_of;
using kaas::report;
using kaas::StatusCode;
using kaas::text_of;

namespace {

void fail(kaas_builder& builder, StatusCode code, std::string message) noexcept {
  if (!builder.failure) builder.failure = kaas::Status{code, std::move(message)};
}

// One step of a builder; what goes wrong is kept for kaas_build().
template <class Step>
void build_step(kaas_builder* builder, Step step) noexcept {
  try {
    step();
  } catch (const std::bad_alloc&) {
    fail(*builder, StatusCode::ResourceExhausted, "no memory left");
  } catch (const std::exception&) {
    fail(*builder, StatusCode::InvalidArgument, "too long");
  }
}

template <class Step>
void kernel_step(kaas_builder* builder, Step step) noexcept {
  build_step(builder, [&] {
    if (!builder->kernel) {
      fail(*builder, StatusCode::InvalidArgument, "no kernel to describe: add one first");
      return;
    }
    step(*builder->kernel);
  });
}

template <class Step>
void bind_step(kaas_bindings* bindings, Step step) noexcept {
  try {
    step(bindings->bindings);
  } catch (const std::exception&) {
    bindings->failed = true;
  }
}

const kaas::Bindings& bindings_of(const kaas_bindings* bindings) {
  static const kaas::Bindings* const kNone = new kaas::Bindings();  // For static destructors, too.
  if (bindings == nullptr) return *kNone;
  if (bindings->failed) throw std::bad_alloc();
  return bindings->bindings;
}

std::vector<kaas::Parameter> parameters_of(const kaas_parameter* parameters, std::size_t count) {
  std::vector<kaas::Parameter> values;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back({std::string(text_of(parameters[i].name)), parameters[i].value});
  }
  return values;
}

constexpr unsigned kAllFlags = KAAS_EPHEMERAL | KAAS_CONSTANT | KAAS_ZERO_FILL | KAAS_RESIDENT;

// What is wrong with the options as a whole; null: nothing. Members of another kind of place are a
// mistake that would otherwise pass unseen.
const char* fault_of(const kaas_buffer_options& options) {
  const bool in_memory = options.buffer != nullptr || options.region != nullptr;
  unsigned where = 0;  // C lets it be any number.
  static_assert(sizeof where == sizeof options.where);
  std::memcpy(&where, &options.where, sizeof where);
  if (where > KAAS_IPC) return "where is none of kaas_where";
  if ((options.flags & ~kAllFlags) != 0) return "flags has a bit that means nothing";
  if (options.where != KAAS_SEGMENT && (in_memory || options.segment != 0)) {
    return "segment, buffer or region is given, and where is not KAAS_SEGMENT";
  }
  if ((options.buffer != nullptr) + (options.region != nullptr) + (options.segment != 0) > 1) {
    return "more than one of segment, buffer and region is given";
  }
  if (options.where != KAAS_INLINE && options.data != nullptr) {
    return "data is given, and where is not KAAS_INLINE";
  }
  if (options.where == KAAS_INLINE && (options.key != nullptr || options.offset != 0)) {
    return "key or offset is given, and where is KAAS_INLINE";
  }
  if ((options.where == KAAS_IPC) != (options.ipc != nullptr)) {
    return "ipc is to be given with KAAS_IPC, and only then";
  }
  return nullptr;
}

void place(kaas::BufferBuilder& buffer, const kaas_buffer_options& options) {
  // Memory may have a key, too, under which an output is stored as well.
  if (options.where == KAAS_STORE || options.key != nullptr) {
    buffer.at(text_of(options.key), options.offset);
  }
  if (options.where == KAAS_SEGMENT) {
    if (options.buffer != nullptr) {
      buffer.in(options.buffer->buffer, options.offset);
    } else if (options.region != nullptr) {
      buffer.in(options.region->region, options.offset);
    } else {
      buffer.in_segment(options.segment, options.offset);
    }
  }
  if (options.where == KAAS_INLINE) {
    buffer.in_message();
    if (options.data != nullptr) buffer.inline_bytes(bytes_of(options.data, options.data_bytes));
  }
  if (options.where == KAAS_IPC) {
    buffer.device_memory(kaas::ipc_of(*options.ipc)).offset(options.offset);
  }
  if (options.offset_expression != nullptr) buffer.offset(text_of(options.offset_expression));
  buffer.ephemeral((options.flags & KAAS_EPHEMERAL) != 0)
      .constant((options.flags & KAAS_CONSTANT) != 0)
      .zero_fill((options.flags & KAAS_ZERO_FILL) != 0)
      .resident((options.flags & KAAS_RESIDENT) != 0);
}

void fill(const kaas::Output& from, kaas_output* output) {
  *output = {from.buffer,
             from.name.c_str(),
             from.bytes,
             from.version,
             from.data.empty() ? nullptr : from.data.data(),
             from.data.size()};
}

kaas::DimExpression dims_of(const char* x, const char* y, const char* z) {
  return {std::string(text_of(x)), std::string(text_of(y)), std::string(text_of(z))};
}

// The future of this kind, or nullptr with the failure reported.
template <class T>
kaas::Future<T>* kind_of(kaas_future* future, kaas_error* error) {
  auto* wanted = std::get_if<kaas::Future<T>>(&future->future);
  if (wanted == nullptr) {
    report(error, StatusCode::InvalidArgument, "the operation has another kind of result");
  }
  return wanted;
}

}  // namespace

extern "C" {

// --- Building requests ---------------------------------------------------------------------------

void kaas_buffer_options_init(kaas_buffer_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
}

kaas_builder* kaas_builder_new(void) {
  try {
    return new kaas_builder();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void kaas_builder_free(kaas_builder* builder) {
  delete builder;
}

void kaas_builder_buffer(kaas_builder* builder, const char* name, uint64_t size,
                         const kaas_buffer_options* given) {
  build_step(builder, [&] {
    const kaas_buffer_options options = kaas::taken(given, kaas_buffer_options_init);
    if (const char* fault = fault_of(options)) {
      const std::string what = "buffer '" + std::string(text_of(name)) + "': " + fault;
      return fail(*builder, StatusCode::InvalidArgument, what);
    }
    auto buffer = options.size_expression != nullptr
                      ? builder->builder.buffer(text_of(name), text_of(options.size_expression))
                      : builder->builder.buffer(text_of(name), size);
    place(buffer, options);
  });
}
void kaas_builder_kernel(kaas_builder* builder, const char* library, const char* kernel) {
  build_step(builder,
             [&] { builder->kernel = builder->builder.kernel(text_of(library), text_of(kernel)); });
}
void kaas_builder_iterations(kaas_builder* builder, uint64_t times) {
  build_step(builder, [&] { builder->builder.n_iter(times); });
}
void kaas_builder_iterations_expression(kaas_builder* builder, const char* expression) {
  build_step(builder, [&] { builder->builder.n_iter(text_of(expression)); });
}
void kaas_builder_until(kaas_builder* builder, const char* buffer) {
  build_step(builder, [&] { builder->builder.until(text_of(buffer)); });
}
void kaas_builder_parameter(kaas_builder* builder, const char* name) {
  build_step(builder, [&] { builder->builder.parameter(text_of(name)); });
}

void kaas_kernel_grid(kaas_builder* builder, uint32_t x, uint32_t y, uint32_t z) {
  kernel_step(builder, [&](auto& kernel) { kernel.grid(x, y, z); });
}
void kaas_kernel_block(kaas_builder* builder, uint32_t x, uint32_t y, uint32_t z) {
  kernel_step(builder, [&](auto& kernel) { kernel.block(x, y, z); });
}
void kaas_kernel_grid_expression(kaas_builder* builder, const char* x, const char* y,
                                 const char* z) {
  kernel_step(builder, [&](auto& kernel) { kernel.grid(dims_of(x, y, z)); });
}
void kaas_kernel_block_expression(kaas_builder* builder, const char* x, const char* y,
                                  const char* z) {
  kernel_step(builder, [&](auto& kernel) { kernel.block(dims_of(x, y, z)); });
}
void kaas_kernel_shared_bytes(kaas_builder* builder, uint32_t bytes) {
  kernel_step(builder, [&](auto& kernel) { kernel.shared_bytes(bytes); });
}
void kaas_kernel_cluster(kaas_builder* builder, uint32_t x, uint32_t y, uint32_t z) {
  kernel_step(builder, [&](auto& kernel) { kernel.cluster(x, y, z); });
}
void kaas_kernel_programmatic(kaas_builder* builder, int on) {
  kernel_step(builder, [&](auto& kernel) { kernel.programmatic(on != 0); });
}
void kaas_kernel_cooperative(kaas_builder* builder, int on) {
  kernel_step(builder, [&](auto& kernel) { kernel.cooperative(on != 0); });
}
void kaas_kernel_i32(kaas_builder* builder, int32_t value) {
  kernel_step(builder, [&](auto& kernel) { kernel.literal(value); });
}
void kaas_kernel_u32(kaas_builder* builder, uint32_t value) {
  kernel_step(builder, [&](auto& kernel) { kernel.literal(value); });
}
void kaas_kernel_i64(kaas_builder* builder, int64_t value) {
  kernel_step(builder, [&](auto& kernel) { kernel.literal(value); });
}
void kaas_kernel_u64(kaas_builder* builder, uint64_t value) {
  kernel_step(builder, [&](auto& kernel) { kernel.literal(value); });
}
void kaas_kernel_f32(kaas_builder* builder, float value) {
  kernel_step(builder, [&](auto& kernel) { kernel.literal(value); });
}
void kaas_kernel_f64(kaas_builder* builder, double value) {
  kernel_step(builder, [&](auto& kernel) { kernel.literal(value); });
}
void kaas_kernel_expression(kaas_builder* builder, kaas_literal_type type, const char* expression) {
  kernel_step(builder, [&](auto& kernel) {
    const auto number = static_cast<unsigned>(type);
    if (number > KAAS_F64) {
      fail(*builder, StatusCode::InvalidArgument,
           "type of a literal is " + std::to_string(number) + ", none of kaas_literal_type");
      return;
    }
    kernel.literal(static_cast<kaas::LiteralType>(type), text_of(expression));
  });
}
void kaas_kernel_raw(kaas_builder* builder, const void* data, size_t bytes,
                     const kaas_address_slot* slots, size_t slot_count) {
  kernel_step(builder, [&](auto& kernel) {
    std::vector<kaas::AddressSlot> places;
    for (size_t i = 0; i < slot_count; ++i) {
      places.push_back({slots[i].offset, std::string(text_of(slots[i].buffer))});
    }
    kernel.raw(bytes_of(data, bytes), std::move(places));
  });
}
void kaas_kernel_argument(kaas_builder* builder, const char* buffer, kaas_access access) {
  kernel_step(builder, [&](auto& kernel) {
    switch (access) {
      case KAAS_IN:
        kernel.in(text_of(buffer));
        return;
      case KAAS_OUT:
        kernel.out(text_of(buffer));
        return;
      case KAAS_INOUT:
        kernel.inout(text_of(buffer));
        return;
      case KAAS_TEMPORARY:
        kernel.temporary(text_of(buffer));
        return;
    }
    fail(*builder, StatusCode::InvalidArgument, "access of an argument is none of kaas_access");
  });
}
void kaas_kernel_order(kaas_builder* builder, const uint16_t* parameters, size_t count) {
  kernel_step(builder, [&](auto& kernel) {
    kernel.order(std::vector<std::uint16_t>(parameters, parameters + count));
  });
}

kaas_code kaas_build(const kaas_builder* builder, kaas_request** request, kaas_error* error) {
  return handed_out(request, error, [&]() -> kaas::Result<kaas::Request> {
    if (builder->failure) return *builder->failure;
    return builder->builder.build();
  });
}
kaas_code kaas_request_from_bytes(const void* data, size_t bytes, kaas_request** request,
                                  kaas_error* error) {
  return handed_out(request, error, [&]() -> kaas::Result<kaas::Request> {
    return kaas::Request::from_bytes(bytes_of(data, bytes));
  });
}
const void* kaas_request_data(const kaas_request* request) {
  return request->request.bytes().data();
}
size_t kaas_request_size(const kaas_request* request) {
  return request->request.bytes().size();
}
void kaas_request_free(kaas_request* request) {
  delete request;
}

// --- Bindings ------------------------------------------------------------------------------------

kaas_bindings* kaas_bindings_new(void) {
  return new (std::nothrow) kaas_bindings();
}
void kaas_bindings_free(kaas_bindings* bindings) {
  delete bindings;
}
void kaas_bindings_clear(kaas_bindings* bindings) {
  bindings->bindings.clear();
  bindings->failed = false;
}
void kaas_bind_key(kaas_bindings* bindings, const char* buffer, const char* key,
                   const uint64_t* offset) {
  bind_step(bindings, [&](kaas::Bindings& all) {
    if (offset == nullptr) {
      all.at(text_of(buffer), text_of(key));
    } else {
      all.at(text_of(buffer), text_of(key), *offset);
    }
  });
}
void kaas_bind_buffer(kaas_bindings* bindings, const char* buffer, const kaas_buffer* memory,
                      uint64_t offset) {
  bind_step(bindings,
            [&](kaas::Bindings& all) { all.in(text_of(buffer), memory->buffer, offset); });
}
void kaas_bind_region(kaas_bindings* bindings, const char* buffer, const kaas_region* region,
                      uint64_t offset) {
  bind_step(bindings,
            [&](kaas::Bindings& all) { all.in(text_of(buffer), region->region, offset); });
}
void kaas_bind_bytes(kaas_bindings* bindings, const char* buffer, const void* data, size_t bytes) {
  bind_step(bindings,
            [&](kaas::Bindings& all) { all.inline_bytes(text_of(buffer), bytes_of(data, bytes)); });
}
void kaas_bind_reply(kaas_bindings* bindings, const char* buffer) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.in_message(text_of(buffer)); });
}
void kaas_bind_ipc(kaas_bindings* bindings, const char* buffer, const kaas_ipc_handle* handle) {
  bind_step(bindings, [&](kaas::Bindings& all) {
    all.device_memory(text_of(buffer), kaas::ipc_of(*handle));
  });
}
void kaas_bind_i32(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, int32_t value) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal(kernel, literal, value); });
}
void kaas_bind_u32(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, uint32_t value) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal(kernel, literal, value); });
}
void kaas_bind_i64(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, int64_t value) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal(kernel, literal, value); });
}
void kaas_bind_u64(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, uint64_t value) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal(kernel, literal, value); });
}
void kaas_bind_f32(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, float value) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal(kernel, literal, value); });
}
void kaas_bind_f64(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, double value) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal(kernel, literal, value); });
}
void kaas_bind_literal(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, uint64_t bits) {
  bind_step(bindings, [&](kaas::Bindings& all) { all.literal_bits(kernel, literal, bits); });
}
void kaas_bind_raw(kaas_bindings* bindings, uint16_t kernel, uint16_t literal, const void* data,
                   size_t bytes) {
  bind_step(bindings,
            [&](kaas::Bindings& all) { all.raw(kernel, literal, bytes_of(data, bytes)); });
}

// --- Running -------------------------------------------------------------------------------------

void kaas_run_options_init(kaas_run_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
}

kaas_code kaas_run(kaas_client* client, const kaas_request* request,
                   const kaas_run_options* options, kaas_reply** reply, kaas_error* error) {
  return handed_out(reply, error,
                    [&] { return client->client.run(request->request, options_of(options)); });
}
kaas_future* kaas_submit(kaas_client* client, const kaas_request* request,
                         const kaas_run_options* options) {
  return future_out([&] { return client->client.submit(request->request, options_of(options)); });
}
kaas_future* kaas_try_submit(kaas_client* client, const kaas_request* request,
                             const kaas_run_options* options) {
  return future_out(
      [&] { return client->client.try_submit(request->request, options_of(options)); });
}
kaas_code kaas_prepare(kaas_client* client, const kaas_request* request, kaas_plan** plan,
                       kaas_error* error) {
  return handed_out(plan, error, [&] { return client->client.prepare(request->request); });
}
kaas_code kaas_plan_run(const kaas_plan* plan, const kaas_bindings* bindings,
                        const kaas_run_options* options, kaas_reply** reply, kaas_error* error) {
  return handed_out(reply, error,
                    [&] { return plan->plan.run(bindings_of(bindings), options_of(options)); });
}
kaas_future* kaas_plan_submit(const kaas_plan* plan, const kaas_bindings* bindings,
                              const kaas_run_options* options) {
  return future_out([&] { return plan->plan.submit(bindings_of(bindings), options_of(options)); });
}
kaas_future* kaas_plan_try_submit(const kaas_plan* plan, const kaas_bindings* bindings,
                                  const kaas_run_options* options) {
  return future_out(
      [&] { return plan->plan.try_submit(bindings_of(bindings), options_of(options)); });
}
kaas_bound_plan* kaas_plan_bind(const kaas_plan* plan, const kaas_bindings* bindings) {
  try {
    return new kaas_bound_plan{plan->plan.bind(bindings_of(bindings))};
  } catch (const std::exception&) {
    return nullptr;
  }
}
kaas_code kaas_bound_plan_run(const kaas_bound_plan* plan, kaas_reply** reply, kaas_error* error) {
  return handed_out(reply, error, [&] { return plan->plan.run(); });
}
kaas_future* kaas_bound_plan_submit(const kaas_bound_plan* plan) {
  return future_out([&] { return plan->plan.submit(); });
}
kaas_future* kaas_bound_plan_try_submit(const kaas_bound_plan* plan) {
  return future_out([&] { return plan->plan.try_submit(); });
}
int kaas_bound_plan_has_lane(const kaas_bound_plan* plan) {
  return plan->plan.has_lane() ? 1 : 0;
}
void kaas_bound_plan_free(kaas_bound_plan* plan) {
  delete plan;
}
uint32_t kaas_plan_id(const kaas_plan* plan) {
  return plan->plan.id();
}
void kaas_plan_free(kaas_plan* plan) {
  delete plan;
}

kaas_code kaas_deploy(kaas_client* client, const char* function, const kaas_request* request,
                      uint32_t* version, kaas_error* error) {
  return guarded(error, [&] {
    const auto deployed = client->client.deploy(text_of(function), request->request);
    if (!deployed.has_value()) return report(error, deployed.error());
    if (version != nullptr) *version = *deployed;
    return KAAS_OK;
  });
}
kaas_code kaas_call(kaas_client* client, const char* function, uint32_t version,
                    const kaas_parameter* parameters, size_t parameter_count,
                    const kaas_bindings* bindings, const kaas_run_options* options,
                    kaas_reply** reply, kaas_error* error) {
  return handed_out(reply, error, [&] {
    return client->client.call(text_of(function), parameters_of(parameters, parameter_count),
                               bindings_of(bindings), options_of(options), version);
  });
}
kaas_future* kaas_call_async(kaas_client* client, const char* function, uint32_t version,
                             const kaas_parameter* parameters, size_t parameter_count,
                             const kaas_bindings* bindings, const kaas_run_options* options) {
  return future_out([&] {
    return client->client.call_async(text_of(function), parameters_of(parameters, parameter_count),
                                     bindings_of(bindings), options_of(options), version);
  });
}
kaas_code kaas_undeploy(kaas_client* client, const char* function, uint32_t version,
                        kaas_error* error) {
  return done(error, [&] { return client->client.undeploy(text_of(function), version); });
}
kaas_code kaas_make_current(kaas_client* client, const char* function, uint32_t version,
                            kaas_error* error) {
  return done(error, [&] { return client->client.make_current(text_of(function), version); });
}

// --- Replies -------------------------------------------------------------------------------------

uint64_t kaas_reply_tag(const kaas_reply* reply) {
  return reply->reply.tag;
}
size_t kaas_reply_output_count(const kaas_reply* reply) {
  return reply->reply.outputs.size();
}
int kaas_reply_output(const kaas_reply* reply, size_t index, kaas_output* output) {
  if (index >= reply->reply.outputs.size()) return 0;
  fill(reply->reply.outputs[index], output);
  return 1;
}
int kaas_reply_find(const kaas_reply* reply, const char* name, kaas_output* output) {
  for (const kaas::Output& candidate : reply->reply.outputs) {
    if (candidate.name != text_of(name)) continue;
    fill(candidate, output);
    return 1;
  }
  return 0;
}
int kaas_reply_profile(const kaas_reply* reply, kaas_profile* profile) {
  if (!reply->reply.profile) return 0;
  const kaas::Stages& stages = reply->reply.profile->stages;
  const kaas::Counters& counters = reply->reply.profile->counters;
  *profile = {stages.intake_ns,
              stages.plan_ns,
              stages.queue_ns,
              stages.load_ns,
              stages.run_ns,
              stages.store_ns,
              stages.execute_ns,
              stages.settle_ns,
              counters.device_hits,
              counters.device_misses,
              counters.host_to_device_bytes,
              counters.device_to_host_bytes,
              counters.evictions,
              counters.evicted_bytes,
              counters.kernel_hits,
              counters.kernel_misses,
              counters.launches,
              counters.iterations,
              reply->reply.profile->device.c_str(),
              name_of(reply->reply.profile->way),
              reply->reply.profile->why_stream.c_str()};
  return 1;
}
void kaas_reply_free(kaas_reply* reply) {
  delete reply;
}

// --- Futures -------------------------------------------------------------------------------------

int kaas_future_ready(kaas_future* future) {
  return future->base().ready() ? 1 : 0;
}
int kaas_future_wait(kaas_future* future, uint64_t timeout_ns) {
  constexpr uint64_t kLast = std::numeric_limits<int64_t>::max();
  if (timeout_ns > kLast) {
    future->base().wait();
    return 1;
  }
  return future->base().wait(std::chrono::nanoseconds(static_cast<int64_t>(timeout_ns))) ? 1 : 0;
}
uint64_t kaas_future_id(const kaas_future* future) {
  return future->base().id();
}
kaas_code kaas_future_cancel(kaas_future* future, kaas_error* error) {
  return done(error, [&] { return future->base().cancel(); });
}
kaas_code kaas_future_reply(kaas_future* future, kaas_reply** reply, kaas_error* error) {
  auto* wanted = kind_of<kaas::Reply>(future, error);
  if (wanted == nullptr) return KAAS_INVALID_ARGUMENT;
  return handed_out(reply, error, [&] { return wanted->get(); });
}
kaas_code kaas_future_object(kaas_future* future, kaas_object** object, kaas_error* error) {
  auto* wanted = kind_of<kaas::Object>(future, error);
  if (wanted == nullptr) return KAAS_INVALID_ARGUMENT;
  return handed_out(object, error, [&] { return wanted->get(); });
}
kaas_code kaas_future_info(kaas_future* future, kaas_object_info* info, kaas_error* error) {
  auto* wanted = kind_of<kaas::ObjectInfo>(future, error);
  if (wanted == nullptr) return KAAS_INVALID_ARGUMENT;
  return kaas::info_out(info, error, [&] { return wanted->get(); });
}
kaas_code kaas_future_done(kaas_future* future, kaas_error* error) {
  auto* wanted = kind_of<void>(future, error);
  if (wanted == nullptr) return KAAS_INVALID_ARGUMENT;
  return done(error, [&] { return wanted->get(); });
}
void kaas_future_free(kaas_future* future) {
  delete future;
}

}  // extern "C"
