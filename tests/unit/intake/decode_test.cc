#include "daemon/intake/decode.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "schema/limits.h"
#include "tests/support/encode_request.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

using wire::Access;
using wire::LiteralType;
using wire::Where;

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

// A request that uses every field.
RequestSpec full_request() {
  RequestSpec request = saxpy_request();
  KernelSpec& kernel = request.kernels[0];
  kernel.grid[1] = {1, "ceil_div(height, 2)"};
  kernel.block[2] = {1, "height"};
  kernel.shared_bytes = 128;
  kernel.cluster = {2, 1, 1};
  kernel.cooperative = true;
  kernel.literals.push_back({LiteralType::I32, 0, "height * 2", {}, {}});
  kernel.literals.push_back(
      {LiteralType::Raw, 0, "", std::vector<std::byte>(24, std::byte{7}), {{0, 1}, {16, 0}}});
  kernel.order = {3, 2, 1, 0};  // Both arguments are reached through the slots.
  request.buffers.push_back(inline_buffer("small", 8, {std::byte{1}, std::byte{2}}));
  request.buffers.push_back(segment_buffer("area", 64, 17, 32));
  BufferSpec ipc;
  ipc.name = "ipc";
  ipc.bytes = {0, "height * 4"};
  ipc.offset = {0, "height"};
  ipc.place.where = Where::Ipc;
  ipc.place.ipc_handle.assign(kIpcHandleBytes, std::byte{9});
  ipc.place.ipc_base_offset = 4096;
  ipc.place.ipc_base_bytes = 1u << 20;
  request.buffers.push_back(ipc);
  request.buffers[0].constant = true;
  request.buffers[1].resident = true;
  request.buffers[2].zero_fill = true;
  request.buffers[3].ephemeral = true;
  request.n_iter = {5, "height"};
  request.until = 2;
  request.parameters = {"height"};
  return request;
}

Status refusal(const RequestSpec& spec, std::int32_t until = -1) {
  auto decoded = decode_request(encode_request(spec, until));
  if (decoded.has_value()) return Status{StatusCode::Ok, "was accepted"};
  return decoded.error();
}

struct Fault {
  const char* message;  // The whole one, so that it is seen to name field, found and allowed.
  std::function<void(RequestSpec&)> make;
};

void expect_refusals(const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    RequestSpec spec = saxpy_request();
    fault.make(spec);
    const Status status = refusal(spec);
    EXPECT_EQ(status.code, StatusCode::InvalidArgument) << fault.message;
    EXPECT_EQ(status.message, fault.message);
  }
}

TEST(DecodeRequest, KernelIsProgrammaticOrCooperativeNotBoth) {
  RequestSpec request = saxpy_request();
  request.kernels[0].programmatic = true;
  const auto decoded = decode_request(encode_request(request));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_TRUE(decoded->kernels[0].programmatic);
  request.kernels[0].cooperative = true;
  const Status refused = refusal(request);
  EXPECT_EQ(refused.code, StatusCode::InvalidArgument);
  EXPECT_NE(refused.message.find("is cooperative and programmatic"), std::string::npos)
      << refused.message;
}

TEST(DecodeRequest, EveryFieldComesBack) {
  const RequestSpec request = full_request();
  const auto bytes = encode_request(request);
  auto decoded = decode_request(bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  EXPECT_EQ(encode_request(*decoded), bytes);
  EXPECT_EQ(decoded->kernels[0].grid[1].expression, "ceil_div(height, 2)");
  EXPECT_EQ(decoded->kernels[0].order, request.kernels[0].order);
  EXPECT_EQ(decoded->buffers[4].place.ipc_handle.size(), kIpcHandleBytes);
  EXPECT_EQ(decoded->buffers[4].place.ipc_base_bytes, 1u << 20);
  EXPECT_EQ(decoded->until, std::uint16_t{2});
}

TEST(DecodeRequest, BytesOfAnyAlignmentAreRead) {
  const auto bytes = encode_request(full_request());
  std::vector<std::byte> shifted(bytes.size() + 16);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::memcpy(shifted.data() + shift, bytes.data(), bytes.size());
    auto decoded = decode_request({shifted.data() + shift, bytes.size()});
    ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
    EXPECT_EQ(encode_request(*decoded), bytes);
  }
}

TEST(DecodeRequest, AbsentKeyIsTheName) {
  RequestSpec request = saxpy_request();
  request.buffers[0].place.key.clear();
  auto decoded = decode_request(encode_request(request));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->buffers[0].place.key, "x");
}

TEST(DecodeRequest, AbsentGridAndBlockAreOne) {
  flatbuffers::FlatBufferBuilder builder;
  const auto kernel = wire::CreateKernelDirect(builder, "std", "copy");
  const auto kernels = builder.CreateVector(&kernel, 1);
  builder.Finish(wire::CreateRequest(builder, kernels));
  auto decoded = decode_request(finished(builder));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  for (unsigned axis = 0; axis < 3; ++axis) {
    EXPECT_EQ(decoded->kernels[0].grid[axis].value, 1u);
    EXPECT_EQ(decoded->kernels[0].block[axis].value, 1u);
  }
}

TEST(DecodeRequest, NarrowLiteralsKeepTheirLowBytes) {
  RequestSpec request = saxpy_request();
  request.kernels[0].literals = {{LiteralType::I32, kMax, "", {}, {}},
                                 {LiteralType::I64, kMax, "", {}, {}}};
  auto decoded = decode_request(encode_request(request));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->kernels[0].literals[0].bits, 0xFFFF'FFFFu);
  EXPECT_EQ(decoded->kernels[0].literals[1].bits, kMax);
}

TEST(DecodeRequest, MalformedBytesBreakTheProtocol) {
  for (const std::size_t size : {0, 1, 3, 4, 8, 64}) {
    const std::vector<std::byte> bytes(size, std::byte{0xFF});
    auto decoded = decode_request(bytes);
    ASSERT_FALSE(decoded.has_value());
    EXPECT_EQ(decoded.error().code, StatusCode::ProtocolViolation);
  }
}

TEST(DecodeRequest, EveryCutIsRefused) {
  const auto bytes = encode_request(full_request());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy of its own, so that a sanitizer sees a read past the end.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<long>(size));
    auto decoded = decode_request(cut);
    if (decoded.has_value()) continue;  // Some endings are only padding.
    EXPECT_EQ(decoded.error().code, StatusCode::ProtocolViolation) << size;
  }
}

TEST(DecodeRequest, FaultsOfTheWholeRequestAreNamed) {
  expect_refusals({
      {"request has no kernels, needs at least 1", [](RequestSpec& r) { r.kernels.clear(); }},
      {"n_iter is 0, allowed 1 to 4294967296", [](RequestSpec& r) { r.n_iter.value = 0; }},
      {"n_iter is 18446744073709551615, allowed 1 to 4294967296",
       [](RequestSpec& r) { r.n_iter.value = kMax; }},
      {"until names buffer 2, request has 2 buffers", [](RequestSpec& r) { r.until = 2; }},
      {"until names buffer 2 ('flag') of 3 bytes, needs 4 for a u32",
       [](RequestSpec& r) {
         r.buffers.push_back(store_buffer("flag", 3));
         r.until = 2;
       }},
      {"parameter 0 is named '2x'; allowed are letters, digits and '_', not a digit first, and not "
       "the name of a function (ceil_div, min, max)",
       [](RequestSpec& r) { r.parameters = {"2x"}; }},
      {"parameter 1 is named 'min'; allowed are letters, digits and '_', not a digit first, and "
       "not the name of a function (ceil_div, min, max)",
       [](RequestSpec& r) {
         r.parameters = {"a", "min"};
       }},
      {"parameter 1 is named 'a' like an earlier one",
       [](RequestSpec& r) {
         r.parameters = {"a", "a"};
       }},
      {"parameter 0 name is empty", [](RequestSpec& r) { r.parameters = {""}; }},
      {"n_iter expression bytes: 257, limit 256",
       [](RequestSpec& r) { r.n_iter.expression.assign(257, '1'); }},
  });
  EXPECT_EQ(refusal(saxpy_request(), -2).message, "until names buffer -2, request has 2 buffers");
}

TEST(DecodeRequest, FaultsOfKernelsAreNamed) {
  expect_refusals({
      {"kernel 0 name is empty", [](RequestSpec& r) { r.kernels[0].kernel = ""; }},
      {"kernel 1 ('k') library is empty",
       [](RequestSpec& r) {
         r.kernels.push_back(kernel_on("k", {}));
         r.kernels[1].library = "";
       }},
      {"kernel 0 name 'a?b' has control characters or is not UTF-8, neither is allowed",
       [](RequestSpec& r) { r.kernels[0].kernel = "a\nb"; }},
      {"kernel 0 ('saxpy') library 'a?' has control characters or is not UTF-8, neither is allowed",
       [](RequestSpec& r) { r.kernels[0].library = "a\xC3"; }},
      {"kernel 0 ('saxpy') grid.x is 0, allowed 1 to 2147483647",
       [](RequestSpec& r) { r.kernels[0].grid[0].value = 0; }},
      {"kernel 0 ('saxpy') grid.x is 4294967295, allowed 1 to 2147483647",
       [](RequestSpec& r) { r.kernels[0].grid[0].value = 0xFFFF'FFFF; }},
      {"kernel 0 ('saxpy') grid.z is 65536, allowed 1 to 65535",
       [](RequestSpec& r) { r.kernels[0].grid[2].value = 65536; }},
      {"kernel 0 ('saxpy') block.y is 0, allowed 1 to 1024",
       [](RequestSpec& r) { r.kernels[0].block[1].value = 0; }},
      {"kernel 0 ('saxpy') block.z is 65, allowed 1 to 64",
       [](RequestSpec& r) { r.kernels[0].block[2].value = 65; }},
      {"kernel 0 ('saxpy') block's number of threads is 1280, allowed 1 to 1024",
       [](RequestSpec& r) { r.kernels[0].block[1].value = 5; }},
      {"kernel 0 ('saxpy') shared_bytes is 232449, allowed 0 to 232448",
       [](RequestSpec& r) { r.kernels[0].shared_bytes = kSharedBytesMax + 1; }},
      {"kernel 0 ('saxpy') cluster is 0, allowed 1 to 16",
       [](RequestSpec& r) {
         r.kernels[0].cluster = {2, 0, 1};
       }},
      {"kernel 0 ('saxpy') cluster's number of blocks is 32, allowed 1 to 16",
       [](RequestSpec& r) {
         r.kernels[0].cluster = {2, 16, 1};
       }},
      {"kernel 0 ('saxpy') grid.y expression bytes: 300, limit 256",
       [](RequestSpec& r) { r.kernels[0].grid[1].expression.assign(300, '1'); }},
      {"kernel 0 ('saxpy') argument 1 names buffer 17, request has 2 buffers",
       [](RequestSpec& r) { r.kernels[0].arguments[1].buffer = 17; }},
      {"kernel 0 ('saxpy') argument 0 has access 4, limit 3",
       [](RequestSpec& r) { r.kernels[0].arguments[0].access = static_cast<Access>(4); }},
      {"kernel 0 ('saxpy') order entries: 5, limit 4",
       [](RequestSpec& r) {
         r.kernels[0].order = {0, 1, 2, 3, 3};
       }},
      {"kernel 0 ('saxpy') order names parameter 4, kernel has 2 literals and 2 arguments",
       [](RequestSpec& r) {
         r.kernels[0].order = {0, 1, 2, 4};
       }},
      {"kernel 0 ('saxpy') order names parameter 2 twice",
       [](RequestSpec& r) {
         r.kernels[0].order = {0, 1, 2, 2};
       }},
      {"kernel 0 ('saxpy') order leaves out parameter 3; it must name every literal and argument "
       "once",
       [](RequestSpec& r) {
         r.kernels[0].order = {0, 1, 2};
       }},
  });
}

TEST(DecodeRequest, FaultsOfLiteralsAreNamed) {
  const auto raw = [](std::size_t bytes, std::vector<RawSlot> slots) {
    return LiteralSpec{LiteralType::Raw, 0, "", std::vector<std::byte>(bytes), std::move(slots)};
  };
  expect_refusals({
      {"kernel 0 ('saxpy') literal 1 has type 7, limit 6",
       [](RequestSpec& r) { r.kernels[0].literals[1].type = static_cast<LiteralType>(7); }},
      {"kernel 0 ('saxpy') literal 1 has type F32 and an expression; only I32, U32, I64 and U64 "
       "may",
       [](RequestSpec& r) { r.kernels[0].literals[1].expression = "1"; }},
      {"kernel 0 ('saxpy') literal 0 has type U64 and raw bytes or address slots; only Raw may",
       [](RequestSpec& r) { r.kernels[0].literals[0].raw.resize(1); }},
      {"kernel 0 ('saxpy') literal 0 has type Raw and no bytes",
       [&](RequestSpec& r) { r.kernels[0].literals[0] = raw(0, {}); }},
      {"kernel 0 ('saxpy') literal 0 raw bytes: 4097, limit 4096",
       [&](RequestSpec& r) { r.kernels[0].literals[0] = raw(4097, {}); }},
      {"kernel 0 ('saxpy') literal 0 address slot 1 is at 9, its 8 bytes exceed the literal's 16",
       [&](RequestSpec& r) {
         r.kernels[0].literals[0] = raw(16, {{0, 0}, {9, 0}});
       }},
      {"kernel 0 ('saxpy') literal 0 address slot 0 is at 4294967295, its 8 bytes exceed the "
       "literal's 16",
       [&](RequestSpec& r) {
         r.kernels[0].literals[0] = raw(16, {{0xFFFF'FFFF, 0}});
       }},
      {"kernel 0 ('saxpy') literal 0 address slot 0 names buffer 9, request has 2 buffers",
       [&](RequestSpec& r) {
         r.kernels[0].literals[0] = raw(16, {{0, 9}});
       }},
      {"kernel 0 ('saxpy') literal 0 has address slots of 8 bytes at 0 and 7, which overlap",
       [&](RequestSpec& r) {
         r.kernels[0].literals[0] = raw(16, {{7, 0}, {0, 0}});
       }},
      {"kernel 0 ('saxpy') literal 0 has an address slot for buffer 2, which must also be an "
       "argument of the kernel, to say how it is used",
       [&](RequestSpec& r) {
         r.buffers.push_back(store_buffer("z", 4));
         r.kernels[0].literals[0] = raw(16, {{0, 2}});
       }},
  });
}

TEST(DecodeRequest, FaultsOfBuffersAreNamed) {
  const auto ipc = [](std::size_t handle_bytes) {
    BufferSpec buffer = store_buffer("p", 16);
    buffer.place = {};
    buffer.place.where = Where::Ipc;
    buffer.place.ipc_handle.resize(handle_bytes);
    return buffer;
  };
  expect_refusals({
      {"buffer 1 name is empty", [](RequestSpec& r) { r.buffers[1].name = ""; }},
      {"buffers 0 and 1 are both named 'x', with sizes 4096 and 16; names must differ",
       [](RequestSpec& r) { r.buffers[1] = store_buffer("x", 16, "other"); }},
      {"buffer 1 ('y') size is 0, allowed 1 to 1099511627776",
       [](RequestSpec& r) { r.buffers[1].bytes.value = 0; }},
      {"buffer 1 ('y') size is 18446744073709551615, allowed 1 to 1099511627776",
       [](RequestSpec& r) { r.buffers[1].bytes.value = kMax; }},
      {"buffer 1 ('y') offset 18446744073709547520 + size 4096 exceeds 18446744073709551615",
       [](RequestSpec& r) { r.buffers[1].offset.value = kMax - 4095; }},
      {"buffer 1 ('y') has place 4, limit 3",
       [](RequestSpec& r) { r.buffers[1].place.where = static_cast<Where>(4); }},
      {"buffer 1 ('y') is in Store and gives a segment, which that kind of place does not have",
       [](RequestSpec& r) { r.buffers[1].place.segment = 3; }},
      {"buffer 1 ('y') is in Store and gives inline data, which that kind of place does not have",
       [](RequestSpec& r) { r.buffers[1].place.data.resize(1); }},
      {"buffer 1 ('y') is in Store and gives an IPC handle, which that kind of place does not have",
       [](RequestSpec& r) { r.buffers[1].place.ipc_handle.resize(64); }},
      {"buffer 1 ('y') is in Segment and gives no segment",
       [](RequestSpec& r) { r.buffers[1] = segment_buffer("y", 16, 0); }},
      {"buffer 1 ('y') is in Inline and gives a key, which that kind of place does not have",
       [](RequestSpec& r) {
         r.buffers[1] = inline_buffer("y", 16);
         r.buffers[1].place.key = "y";
       }},
      {"buffer 1 ('y') inline size is 65537, allowed 1 to 65536",
       [](RequestSpec& r) { r.buffers[1] = inline_buffer("y", kInlineBytesMax + 1); }},
      {"buffer 1 ('y') inline data bytes: 17, limit 16",
       [](RequestSpec& r) { r.buffers[1] = inline_buffer("y", 16, std::vector<std::byte>(17)); }},
      {"buffer 1 ('y') is inline and has offset 1, allowed 0",
       [](RequestSpec& r) {
         r.buffers[1] = inline_buffer("y", 16);
         r.buffers[1].offset.value = 1;
       }},
      {"buffer 1 ('p') IPC handle has 63 bytes, must have 64",
       [&](RequestSpec& r) { r.buffers[1] = ipc(63); }},
      {"buffer 1 ('p') IPC base_bytes is 1099511627777, limit 1099511627776",
       [&](RequestSpec& r) {
         r.buffers[1] = ipc(64);
         r.buffers[1].place.ipc_base_bytes = kSegmentBytesMax + 1;
       }},
      {"buffer 1 ('p') is in Ipc and gives no handle",
       [&](RequestSpec& r) { r.buffers[1] = ipc(0); }},
      {"buffer 1 ('p') offset 1 + size 16 + base_offset 18446744073709551600 exceeds "
       "18446744073709551615",
       [&](RequestSpec& r) {
         r.buffers[1] = ipc(64);
         r.buffers[1].offset.value = 1;
         r.buffers[1].place.ipc_base_offset = kMax - 15;
       }},
      {"buffer 1 ('y') is resident, which only outputs to the store can be, and it is ephemeral",
       [](RequestSpec& r) { r.buffers[1].resident = r.buffers[1].ephemeral = true; }},
      {"buffer 1 ('y') is resident, which only outputs to the store can be, and it is Segment",
       [](RequestSpec& r) {
         r.buffers[1] = segment_buffer("y", 16, 3);
         r.buffers[1].resident = true;
       }},
      {"buffer 1 ('y') size expression bytes: 257, limit 256",
       [](RequestSpec& r) { r.buffers[1].bytes.expression.assign(257, '1'); }},
  });
}

TEST(DecodeRequest, LargestOffsetIsAllowed) {
  RequestSpec request = saxpy_request();
  request.buffers[1].offset.value = kMax - 4096;
  EXPECT_EQ(refusal(request).message, "was accepted");
}

TEST(DecodeRequest, OrderMayLeaveOutOnlyWhatSlotsReach) {
  RequestSpec request = saxpy_request();
  request.kernels[0].literals[0] = {LiteralType::Raw, 0, "", std::vector<std::byte>(8), {{0, 1}}};
  request.kernels[0].order = {1, 0, 2};
  EXPECT_EQ(refusal(request).message, "was accepted");
  request.kernels[0].order = {1, 0, 3};
  EXPECT_EQ(refusal(request).message,
            "kernel 0 ('saxpy') order leaves out parameter 2; it must name every literal and "
            "argument once");
}

TEST(DecodeRequest, LongNamesAreCutInMessages) {
  RequestSpec request = saxpy_request();
  request.buffers[0].name.assign(kNameBytesMax + 1, 'n');
  EXPECT_EQ(refusal(request).message,
            "buffer 0 name '" + std::string(64, 'n') + "...' has 257 bytes, limit 256");
}

}  // namespace
}  // namespace kaas
