// The C interface, through a program that is compiled as C99 and linked with the shared library.
#include <gtest/gtest.h>
#include <kaas/kaas.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/support/child_program.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

TEST(CInterface, AC99ProgramUsesAllOfIt) {
  LoopbackPeer peer;
  peer.on_submission = [](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    if (submission.operation_type() != wire::Operation::Submit) return false;
    PeerRing::Fields fields;
    fields.outputs = {{"y", "ABCD"}};
    fields.profile = true;
    ring.answer(submission.id(), fields);
    return true;
  };
  peer.run([](LoopbackPeer&) {});  // From here on its thread sees that.
  EXPECT_EQ(run_program("client_c_program", {peer.path()}), 0);
}

// A request of one kernel with an output, the buffer that `options` describes, or what is wrong.
struct OneBuffer {
  explicit OneBuffer(const kaas_buffer_options& options, std::uint64_t size = 16) {
    kaas_builder* builder = kaas_builder_new();
    kaas_builder_buffer(builder, "x", size, &options);
    kaas_builder_kernel(builder, "std", "k");
    kaas_kernel_argument(builder, "x", KAAS_OUT);
    kaas_error error;
    if (kaas_build(builder, &request, &error) != KAAS_OK) failure = error.message;
    kaas_builder_free(builder);
  }
  OneBuffer(const OneBuffer&) = delete;
  OneBuffer& operator=(const OneBuffer&) = delete;
  ~OneBuffer() { kaas_request_free(request); }
  [[nodiscard]] const wire::Buffer& sent() const {
    const std::span bytes(static_cast<const std::byte*>(kaas_request_data(request)),
                          kaas_request_size(request));
    return *verified_root<wire::Request>(bytes)->buffers()->Get(0);
  }
  kaas_request* request = nullptr;
  std::string failure;
};

kaas_buffer_options no_options() {
  kaas_buffer_options options;
  kaas_buffer_options_init(&options);
  return options;
}

TEST(CInterface, WhatABuffersOptionsSayIsSent) {
  kaas_ipc_handle handle = {};
  kaas_buffer_options options = no_options();
  options.where = KAAS_IPC;
  options.ipc = &handle;
  options.offset = 64;
  options.key = "k";
  const OneBuffer by_handle(options);
  ASSERT_EQ(by_handle.failure, "");
  EXPECT_EQ(by_handle.sent().where(), wire::Where::Ipc);
  EXPECT_EQ(by_handle.sent().offset(), 64u);
  EXPECT_EQ(view(by_handle.sent().key()), "k");
  options = no_options();
  options.where = KAAS_SEGMENT;
  options.segment = 17;
  options.offset = 32;
  options.key = "k";
  const OneBuffer in_segment(options);
  ASSERT_EQ(in_segment.failure, "");
  EXPECT_EQ(in_segment.sent().segment(), 17u);
  EXPECT_EQ(in_segment.sent().offset(), 32u);
  EXPECT_EQ(view(in_segment.sent().key()), "k");
}

TEST(CInterface, OptionsOfABufferThatWouldBeOverlookedAreRefused) {
  const auto failure = [](void (*give)(kaas_buffer_options&)) {
    kaas_buffer_options options = no_options();
    give(options);
    return OneBuffer(options).failure;
  };
  static kaas_ipc_handle handle = {};
  using Options = kaas_buffer_options;
  EXPECT_EQ(failure([](Options& o) {
              const int nine = 9;  // As C lets it be.
              std::memcpy(&o.where, &nine, sizeof nine);
            }),
            "buffer 'x': where is none of kaas_where");
  EXPECT_EQ(failure([](Options& o) { o.flags = 16; }),
            "buffer 'x': flags has a bit that means nothing");
  EXPECT_EQ(failure([](Options& o) { o.segment = 17; }),
            "buffer 'x': segment, buffer or region is given, and where is not KAAS_SEGMENT");
  EXPECT_EQ(failure([](Options& o) { o.data = "abcd"; }),
            "buffer 'x': data is given, and where is not KAAS_INLINE");
  EXPECT_EQ(failure([](Options& o) { o.ipc = &handle; }),
            "buffer 'x': ipc is to be given with KAAS_IPC, and only then");
  EXPECT_EQ(failure([](Options& o) { o.where = KAAS_IPC; }),
            "buffer 'x': ipc is to be given with KAAS_IPC, and only then");
  EXPECT_EQ(failure([](Options& o) {
              o.where = KAAS_INLINE;
              o.offset = 8;
            }),
            "buffer 'x': key or offset is given, and where is KAAS_INLINE");
  EXPECT_EQ(failure([](Options& o) {
              o.where = KAAS_INLINE;
              o.key = "k";
            }),
            "buffer 'x': key or offset is given, and where is KAAS_INLINE");
}

TEST(CInterface, BytesBeyondABufferOrRegionAreRefused) {
  LoopbackPeer peer;
  kaas_options connection;
  kaas_options_init(&connection);
  connection.socket = peer.path().c_str();
  kaas_client* client = nullptr;
  ASSERT_EQ(kaas_connect(&connection, &client, nullptr), KAAS_OK);
  kaas_buffer* buffer = nullptr;
  ASSERT_EQ(kaas_allocate(client, 16, &buffer, nullptr), KAAS_OK);
  const Descriptor memory(::memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), 64), 0);
  kaas_region* region = nullptr;
  ASSERT_EQ(kaas_register_region(client, memory.get(), 64, 1, &region, nullptr), KAAS_OK);
  kaas_error error;
  EXPECT_EQ(kaas_register_region(client, -1, 64, 1, nullptr, &error), KAAS_INVALID_ARGUMENT);

  kaas_buffer_options options = no_options();
  options.where = KAAS_SEGMENT;
  options.offset = 4;
  options.buffer = buffer;
  EXPECT_EQ(OneBuffer(options, 12).failure, "");
  EXPECT_EQ(OneBuffer(options, 12).sent().offset(), kaas_buffer_offset(buffer) + 4);
  EXPECT_EQ(OneBuffer(options, 4096).failure,
            "buffer 'x' offset 4 + size 4096 exceeds the 16 bytes of its memory");
  options.region = region;
  EXPECT_EQ(OneBuffer(options).failure,
            "buffer 'x': more than one of segment, buffer and region is given");
  options.buffer = nullptr;
  EXPECT_EQ(OneBuffer(options, 60).failure, "");
  EXPECT_EQ(OneBuffer(options, 61).failure,
            "buffer 'x' offset 4 + size 61 exceeds the 64 bytes of its memory");

  kaas_plan* plan = nullptr;
  ASSERT_EQ(kaas_prepare(client, OneBuffer(options).request, &plan, nullptr), KAAS_OK);
  kaas_bindings* bindings = kaas_bindings_new();
  kaas_bind_buffer(bindings, "x", buffer, 1'000'000);
  EXPECT_EQ(kaas_plan_run(plan, bindings, nullptr, nullptr, &error), KAAS_INVALID_ARGUMENT);
  EXPECT_STREQ(error.message, "buffer 'x' offset 1000000 exceeds the 16 bytes of its memory");
  kaas_bindings_free(bindings);
  kaas_plan_free(plan);
  kaas_region_free(region);
  kaas_buffer_free(buffer);
  kaas_close(client);
}

TEST(CInterface, BoundLiteralsAndOptionsArriveAsTheyAreGiven) {
  std::vector<std::optional<wire::LiteralType>> types;
  std::vector<std::uint32_t> waits;
  LoopbackPeer peer;
  peer.on_submission = [&](PeerSession&, PeerRing&, const wire::Submission& submission) {
    const auto* invoke = submission.operation_as_Invoke();
    if (invoke == nullptr) return false;
    for (std::size_t n = 0; n < count(invoke->literals()); ++n) {
      const auto type = invoke->literals()->Get(static_cast<unsigned>(n))->type();
      types.push_back(type.has_value() ? std::optional(*type) : std::nullopt);
    }
    if (invoke->options() == nullptr) return false;
    for (std::size_t n = 0; n < count(invoke->options()->wait_events()); ++n) {
      waits.push_back(value_at(invoke->options()->wait_events(), n));
    }
    return false;
  };
  peer.run([](LoopbackPeer&) {});  // From here on its thread sees that.
  kaas_options connection;
  kaas_options_init(&connection);
  connection.socket = peer.path().c_str();
  kaas_client* client = nullptr;
  ASSERT_EQ(kaas_connect(&connection, &client, nullptr), KAAS_OK);
  kaas_plan* plan = nullptr;
  ASSERT_EQ(kaas_prepare(client, OneBuffer(no_options()).request, &plan, nullptr), KAAS_OK);
  kaas_bindings* bindings = kaas_bindings_new();
  kaas_bind_i32(bindings, 0, 0, -1);
  kaas_bind_u32(bindings, 0, 0, 1);
  kaas_bind_i64(bindings, 0, 0, -1);
  kaas_bind_u64(bindings, 0, 0, 1);
  kaas_bind_f32(bindings, 0, 0, 1.0f);
  kaas_bind_f64(bindings, 0, 0, 1.0);
  kaas_bind_raw(bindings, 0, 0, "abcd", 4);
  kaas_bind_literal(bindings, 0, 0, 1);
  EXPECT_EQ(kaas_plan_run(plan, bindings, nullptr, nullptr, nullptr), KAAS_OK);
  const std::uint32_t event = 77;
  kaas_run_options options;
  kaas_run_options_init(&options);
  options.wait_events = &event;
  options.wait_event_count = 1;
  EXPECT_EQ(kaas_plan_run(plan, nullptr, &options, nullptr, nullptr), KAAS_OK);
  options.wait_events = nullptr;  // The count says that there are some.
  EXPECT_EQ(kaas_plan_run(plan, nullptr, &options, nullptr, nullptr), KAAS_OK);
  options = {};
  options.struct_bytes = sizeof options;
  options.priority = 500;
  kaas_error error;
  EXPECT_EQ(kaas_plan_run(plan, nullptr, &options, nullptr, &error), KAAS_INVALID_ARGUMENT);
  EXPECT_STREQ(error.message, "priority is 500, allowed -100 to 100");
  peer.run([&](LoopbackPeer&) {
    using wire::LiteralType;
    EXPECT_EQ(types, (std::vector<std::optional<LiteralType>>{
                         LiteralType::I32, LiteralType::U32, LiteralType::I64, LiteralType::U64,
                         LiteralType::F32, LiteralType::F64, LiteralType::Raw, std::nullopt}));
    EXPECT_EQ(waits, (std::vector<std::uint32_t>{77, 0}));
  });
  kaas_bindings_free(bindings);
  kaas_plan_free(plan);
  kaas_close(client);
}

TEST(CInterface, KindsThatThereAreNotAreRefused) {
  kaas_error error;
  kaas_builder* builder = kaas_builder_new();
  kaas_builder_kernel(builder, "std", "k");
  kaas_kernel_expression(builder, static_cast<kaas_literal_type>(7), "1");
  kaas_request* request = nullptr;
  EXPECT_EQ(kaas_build(builder, &request, &error), KAAS_INVALID_ARGUMENT);
  EXPECT_STREQ(error.message, "type of a literal is 7, none of kaas_literal_type");
  kaas_builder_free(builder);

  LoopbackPeer peer;
  kaas_options connection;
  kaas_options_init(&connection);
  connection.socket = peer.path().c_str();
  kaas_client* client = nullptr;
  ASSERT_EQ(kaas_connect(&connection, &client, nullptr), KAAS_OK);
  kaas_device_allocation memory;
  kaas_device_allocation_init(&memory);
  memory.kind = static_cast<kaas_device_kind>(3);
  EXPECT_EQ(kaas_register_device_memory(client, &memory, nullptr, &error), KAAS_INVALID_ARGUMENT);
  EXPECT_STREQ(error.message, "kind is 3, none of kaas_device_kind");
  kaas_close(client);
}

TEST(CInterface, AMessageThatIsTooLongIsCut) {
  kaas_error error;
  kaas_builder* builder = kaas_builder_new();
  kaas_builder_buffer(builder, std::string(600, 'n').c_str(), 1, nullptr);
  kaas_builder_buffer(builder, std::string(600, 'n').c_str(), 1, nullptr);
  kaas_request* request = nullptr;
  EXPECT_EQ(kaas_build(builder, &request, &error), KAAS_INVALID_ARGUMENT);
  EXPECT_EQ(std::string(error.message).size(), sizeof error.message - 1u);
  kaas_builder_free(builder);
}

TEST(CInterface, AnOlderCallersShorterStructKeepsTheDefaultsBehind) {
  LoopbackPeer peer;
  kaas_options options;
  kaas_options_init(&options);
  options.socket = peer.path().c_str();
  // As if everything from connect_timeout_ns on did not exist for the caller.
  options.struct_bytes = offsetof(kaas_options, connect_timeout_ns);
  options.connect_timeout_ns = 0;
  options.administration_only = 1;
  kaas_client* client = nullptr;
  kaas_error error;
  ASSERT_EQ(kaas_connect(&options, &client, &error), KAAS_OK) << error.message;
  EXPECT_EQ(kaas_put(client, "k", "v", 1, nullptr, &error), KAAS_OK);
  kaas_close(client);
}

}  // namespace
}  // namespace kaas
