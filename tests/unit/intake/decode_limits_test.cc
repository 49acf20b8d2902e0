// The largest legal requests pass the verifier and the decoder; what is one larger does not.
#include <gtest/gtest.h>

#include <string>

#include "daemon/intake/decode.h"
#include "daemon/plan/compile.h"
#include "schema/limits.h"
#include "tests/support/encode_request.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

using wire::Access;
using wire::LiteralType;

RequestSpec request_of(std::size_t kernels, std::size_t buffers) {
  RequestSpec request;
  for (std::size_t b = 0; b < buffers; ++b) {
    request.buffers.push_back(store_buffer("b" + std::to_string(b), 64));
    request.buffers.back().place.key.clear();
  }
  for (std::size_t k = 0; k < kernels; ++k) request.kernels.push_back(kernel_on("k", {}));
  return request;
}

Status outcome(std::span<const std::byte> bytes) {
  auto decoded = decode_request(bytes);
  return decoded.has_value() ? Status{StatusCode::Ok, ""} : decoded.error();
}

TEST(DecodeLimits, MostKernelsAndBuffersAreAcceptedAndCompile) {
  RequestSpec request = request_of(kKernelsMax, kBuffersMax);
  for (std::size_t k = 0; k < kKernelsMax; ++k) {
    const auto b = static_cast<std::uint16_t>(2 * k);
    request.kernels[k].arguments = {{b, Access::In},
                                    {static_cast<std::uint16_t>(b + 1), Access::Out}};
  }
  const auto bytes = encode_request(request);
  ASSERT_LE(bytes.size(), kMessageBytesMax);
  auto decoded = decode_request(bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
  auto plan = compile(*decoded);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->stores.size(), kKernelsMax);
}

TEST(DecodeLimits, OneKernelMoreIsRefused) {
  EXPECT_EQ(outcome(encode_request(request_of(kKernelsMax + 1, 1))).message,
            "kernels: 4097, limit 4096");
}

TEST(DecodeLimits, OneBufferMoreIsRefused) {
  EXPECT_EQ(outcome(encode_request(request_of(1, kBuffersMax + 1))).message,
            "buffers: 8193, limit 8192");
}

TEST(DecodeLimits, ArgumentsLiteralsSlotsAndParameters) {
  RequestSpec request = request_of(1, 1);
  KernelSpec& kernel = request.kernels[0];
  kernel.arguments.assign(kArgumentsPerKernelMax, {0, Access::In});
  kernel.literals.assign(kLiteralsPerKernelMax - 1, {});
  kernel.literals.push_back({LiteralType::Raw, 0, "", std::vector<std::byte>(4096), {}});
  for (std::uint32_t n = 0; n < kAddressSlotsMax; ++n) {
    kernel.literals.back().slots.push_back({n * 8, 0});
  }
  for (std::uint32_t n = 0; n < kParametersMax; ++n) {
    request.parameters.push_back("p" + std::to_string(n));
  }
  EXPECT_EQ(outcome(encode_request(request)).message, "");

  RequestSpec larger = request;
  larger.kernels[0].arguments.push_back({0, Access::In});
  EXPECT_EQ(outcome(encode_request(larger)).message, "kernel 0 ('k') arguments: 65, limit 64");
  larger = request;
  larger.kernels[0].literals.emplace_back();
  EXPECT_EQ(outcome(encode_request(larger)).message, "kernel 0 ('k') literals: 65, limit 64");
  larger = request;
  larger.kernels[0].literals.back().slots.push_back({kAddressSlotsMax * 8, 0});
  EXPECT_EQ(outcome(encode_request(larger)).message,
            "kernel 0 ('k') literal 63 address slots: 65, limit 64");
  larger = request;
  larger.parameters.push_back("more");
  EXPECT_EQ(outcome(encode_request(larger)).message, "parameters: 65, limit 64");
}

TEST(DecodeLimits, LongestNamesPass) {
  RequestSpec request = request_of(1, 1);
  request.buffers[0].name.assign(kNameBytesMax, 'n');
  request.buffers[0].place.key.assign(kKeyBytesMax, 'k');
  request.kernels[0].kernel.assign(kNameBytesMax, 'f');
  request.kernels[0].library.assign(kPathBytesMax, '/');
  EXPECT_EQ(outcome(encode_request(request)).message, "");
  request.buffers[0].place.key += 'k';
  EXPECT_EQ(outcome(encode_request(request)).code, StatusCode::InvalidArgument);
}

// As many literals as fit a message: every table of it is visited once, whatever the mixture.
TEST(DecodeLimits, FullestMessagePassesTheVerifier) {
  RequestSpec request = request_of(kKernelsMax, 1);
  std::size_t literals = 0;
  for (KernelSpec& kernel : request.kernels) kernel.literals.assign(28, {});
  auto bytes = encode_request(request);
  ASSERT_GT(bytes.size(), kMessageBytesMax);
  while (bytes.size() > kMessageBytesMax) {
    literals = 0;
    for (KernelSpec& kernel : request.kernels) {
      kernel.literals.pop_back();
      literals += kernel.literals.size();
    }
    bytes = encode_request(request);
  }
  EXPECT_GT(literals, 100'000u);
  EXPECT_EQ(outcome(bytes).message, "");
}

TEST(DecodeLimits, MessageOverTheLimitIsRefusedUnread) {
  const std::vector<std::byte> bytes(kMessageBytesMax + 1, std::byte{0xFF});
  EXPECT_EQ(outcome(bytes).message, "request bytes is 1048577, limit 1048576");
}

// A message may name one table many times: small, and yet endless to walk.
TEST(DecodeLimits, TablesNamedTooOftenBreakTheProtocol) {
  flatbuffers::FlatBufferBuilder builder;
  const auto literal = wire::CreateLiteral(builder);
  const std::vector<flatbuffers::Offset<wire::Literal>> many(kVerifierTablesMax, literal);
  const auto literals = builder.CreateVector(many);
  const auto library = builder.CreateString("std");
  const auto kernel = wire::CreateKernel(builder, library, library, nullptr, nullptr, 0, 0, 0,
                                         nullptr, false, literals);
  const auto kernels = builder.CreateVector(&kernel, 1);
  builder.Finish(wire::CreateRequest(builder, kernels));
  ASSERT_LE(builder.GetSize(), kMessageBytesMax);
  EXPECT_EQ(outcome(finished(builder)).code, StatusCode::ProtocolViolation);
}

// One raw literal of 4 KiB in every kernel would make 16 MiB of 1 MiB.
TEST(DecodeLimits, BytesNamedTooOftenAreRefused) {
  flatbuffers::FlatBufferBuilder builder;
  const std::vector<std::uint8_t> raw(kRawLiteralBytesMax);
  const auto raw_bytes = builder.CreateVector(raw);
  const auto literal = wire::CreateLiteral(builder, LiteralType::Raw, 0, 0, raw_bytes);
  const auto literals = builder.CreateVector(&literal, 1);
  const auto library = builder.CreateString("std");
  const auto kernel = wire::CreateKernel(builder, library, library, nullptr, nullptr, 0, 0, 0,
                                         nullptr, false, literals);
  const std::vector<flatbuffers::Offset<wire::Kernel>> many(kKernelsMax, kernel);
  const auto kernels = builder.CreateVector(many);
  builder.Finish(wire::CreateRequest(builder, kernels));
  EXPECT_EQ(outcome(finished(builder)).message,
            "kernel 256 ('std') literal 0 bytes of all raw literals and inline data: 1052672, "
            "limit 1048576");
}

}  // namespace
}  // namespace kaas
