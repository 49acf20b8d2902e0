// resolve_bindings, renames_need_recompile and check_overrides.
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "daemon/plan/compile.h"
#include "schema/limits.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

using wire::Access;
using wire::Where;

PlanTemplate plan_of(const RequestSpec& request) {
  auto plan = compile(request);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return *std::move(plan);
}

// in (i) -> out (o), with a temporary and a second input.
RequestSpec pipeline() {
  RequestSpec request;
  request.buffers = {store_buffer("in", 64, "in", 128), store_buffer("out", 64),
                     store_buffer("scratch", 64), store_buffer("table", 64)};
  request.buffers[2].ephemeral = true;
  request.kernels = {
      kernel_on("k", {{0, Access::In}, {3, Access::In}, {2, Access::Out}, {1, Access::Out}})};
  return request;
}

BindingSpec to_store(std::uint16_t buffer, std::string key,
                     std::optional<std::uint64_t> offset = std::nullopt) {
  BindingSpec binding;
  binding.buffer = buffer;
  binding.place.key = std::move(key);
  binding.offset = offset;
  return binding;
}

BindingSpec to_segment(std::uint16_t buffer, std::uint32_t segment, std::uint64_t offset = 0) {
  BindingSpec binding;
  binding.buffer = buffer;
  binding.place.where = Where::Segment;
  binding.place.segment = segment;
  binding.offset = offset;
  return binding;
}

BindingSpec to_inline(std::uint16_t buffer, std::size_t bytes) {
  BindingSpec binding;
  binding.buffer = buffer;
  binding.place.where = Where::Inline;
  binding.place.data.resize(bytes);
  return binding;
}

std::string fault_of(const PlanTemplate& plan, std::vector<BindingSpec> bindings) {
  auto resolved = resolve_bindings(plan, bindings);
  return resolved.has_value() ? "resolved" : resolved.error().message;
}

bool recompiles(const RequestSpec& request, std::vector<BindingSpec> bindings) {
  const PlanTemplate plan = plan_of(request);
  auto resolved = resolve_bindings(plan, bindings);
  EXPECT_TRUE(resolved.has_value()) << resolved.error().message;
  return renames_need_recompile(plan, bindings);
}

TEST(ResolveBindings, AbsentPartsAreTheTemplates) {
  std::vector<BindingSpec> bindings{to_store(0, ""), to_store(1, "elsewhere")};
  bindings[1].buffer = 99;
  bindings[1].name = "out";
  ASSERT_TRUE(resolve_bindings(plan_of(pipeline()), bindings).has_value());
  EXPECT_EQ(bindings[0].place.key, "in");
  EXPECT_EQ(bindings[0].offset, 128u);
  EXPECT_EQ(bindings[1].buffer, 1);
  EXPECT_EQ(bindings[1].place.key, "elsewhere");
}

TEST(ResolveBindings, InlineBytesBeginAtZeroAndFromASegmentToTheStoreTheKeyIsTheName) {
  RequestSpec request = pipeline();
  request.buffers[1] = segment_buffer("out", 64, 16, 32);
  std::vector<BindingSpec> bindings{to_inline(0, 64), to_store(1, "")};
  ASSERT_TRUE(resolve_bindings(plan_of(request), bindings).has_value());
  EXPECT_EQ(bindings[0].offset, 0u);
  EXPECT_EQ(bindings[1].place.key, "out");
}

TEST(ResolveBindings, FaultsAreNamed) {
  const PlanTemplate plan = plan_of(pipeline());
  BindingSpec unknown = to_store(0, "k");
  unknown.name = "scrach";
  EXPECT_EQ(fault_of(plan, {unknown}),
            "binding 0 names buffer 'scrach', which the request does not have; nearest: 'scratch'");
  EXPECT_EQ(fault_of(plan, {to_store(4, "k")}), "binding 0 names buffer 4, request has 4 buffers");
  EXPECT_EQ(fault_of(plan, {to_store(0, "k"), to_store(0, "k")}),
            "binding 1 names buffer 0 ('in') again");
  EXPECT_EQ(fault_of(plan, {to_store(0, "k", std::numeric_limits<std::uint64_t>::max() - 62)}),
            "binding 0 of buffer 0 ('in'): offset 18446744073709551553 + size 64 exceeds "
            "18446744073709551615");
  EXPECT_EQ(fault_of(plan, {to_inline(0, 65)}),
            "binding 0 of buffer 0 ('in'): inline data bytes: 65, limit 64");
}

TEST(ResolveBindings, InlineInputsNeedAllTheirBytes) {
  RequestSpec request = pipeline();
  request.buffers[0] = inline_buffer("in", 64);
  const PlanTemplate plan = plan_of(request);
  EXPECT_EQ(fault_of(plan, {}),
            "buffer 0 ('in') is an inline input with 0 bytes of data, needs 64; "
            "give its data, or bind it to a place (of kaasctl: NAME=@FILE)");
  EXPECT_EQ(fault_of(plan, {to_inline(0, 63)}),
            "buffer 0 ('in') is an inline input with 63 bytes of data, needs 64; "
            "give its data, or bind it to a place (of kaasctl: NAME=@FILE)");
  EXPECT_EQ(fault_of(plan, {to_inline(0, 64)}), "resolved");
  EXPECT_EQ(fault_of(plan, {to_store(0, "in")}), "resolved");
  request.buffers[0].zero_fill = true;
  EXPECT_EQ(fault_of(plan_of(request), {to_inline(0, 63)}), "resolved");
}

TEST(ResolveBindings, InlineOutputsAreBoundedTogether) {
  RequestSpec request;
  request.kernels.push_back(kernel_on("k", {}));
  for (std::uint16_t b = 0; b < 5; ++b) {
    request.buffers.push_back(store_buffer("b" + std::to_string(b), kInlineBytesMax));
    request.kernels[0].arguments.push_back({b, Access::Out});
  }
  const PlanTemplate plan = plan_of(request);
  std::vector<BindingSpec> bindings;
  for (std::uint16_t b = 0; b < 4; ++b) bindings.push_back(to_inline(b, 0));
  EXPECT_EQ(fault_of(plan, bindings), "resolved");
  bindings.push_back(to_inline(4, 0));
  EXPECT_EQ(fault_of(plan, bindings), "bytes of all inline outputs is 327680, limit 262144");
}

TEST(ResolveBindings, HugeBuffersAreNeverInline) {
  RequestSpec request = pipeline();
  request.buffers[1].bytes.value = kInlineBytesMax + 1;
  EXPECT_EQ(fault_of(plan_of(request), {to_inline(1, 0)}),
            "binding 0 of buffer 1 ('out'): inline size is 65537, allowed 1 to 65536");
}

TEST(RenamesNeedRecompile, PlainRenamesDoNot) {
  EXPECT_FALSE(recompiles(pipeline(), {}));
  EXPECT_FALSE(recompiles(pipeline(), {to_store(0, "another"), to_store(1, "result")}));
  EXPECT_FALSE(recompiles(pipeline(), {to_segment(0, 16), to_segment(1, 16, 64)}));
  EXPECT_FALSE(recompiles(pipeline(), {to_inline(0, 64), to_inline(1, 0)}));
  EXPECT_FALSE(recompiles(pipeline(), {to_store(0, "table", 0)})) << "both are only read";
}

TEST(RenamesNeedRecompile, OverlapWithSomethingWrittenDoes) {
  EXPECT_TRUE(recompiles(pipeline(), {to_store(1, "in", 191)}));
  EXPECT_FALSE(recompiles(pipeline(), {to_store(1, "in", 192)}));
  EXPECT_TRUE(recompiles(pipeline(), {to_segment(0, 16, 0), to_segment(1, 16, 63)}));
}

TEST(RenamesNeedRecompile, PlacesOfTemporariesMeanNothing) {
  EXPECT_FALSE(recompiles(pipeline(), {to_store(2, "in", 128)}));
}

TEST(RenamesNeedRecompile, SharedAllocationsThatAreTornApartDo) {
  RequestSpec request = pipeline();
  request.buffers[1] = store_buffer("out", 64, "in", 160);
  EXPECT_TRUE(recompiles(request, {to_store(1, "result", 0)}));
  EXPECT_FALSE(recompiles(request, {to_store(3, "another")})) << "not one of the shared ones";
  EXPECT_FALSE(recompiles(request, {to_store(1, "in", 160)})) << "the same place";
}

TEST(CheckOverrides, FaultsAreNamed) {
  RequestSpec request = saxpy_request();
  request.kernels[0].literals.push_back(
      {wire::LiteralType::Raw, 0, "", std::vector<std::byte>(16), {}});
  const PlanTemplate plan = plan_of(request);
  const auto fault = [&](LiteralOverrideSpec given) {
    auto checked = check_overrides(plan, std::vector{std::move(given)});
    return checked.has_value() ? "fits" : checked.error().message;
  };
  EXPECT_EQ(fault({0, 0, 5, {}}), "fits");
  EXPECT_EQ(fault({0, 2, 0, std::vector<std::byte>(16)}), "fits");
  EXPECT_EQ(fault({1, 0, 5, {}}), "literal override 0 names kernel 1, request has 1 kernels");
  EXPECT_EQ(fault({0, 3, 5, {}}),
            "literal override 0 names literal 3 of kernel 0 ('saxpy'), which has 3 literals");
  EXPECT_EQ(fault({0, 0, 5, std::vector<std::byte>(1)}),
            "literal override 0 of kernel 0 ('saxpy') has 1 raw bytes, the literal has 0");
  EXPECT_EQ(fault({0, 2, 0, std::vector<std::byte>(15)}),
            "literal override 0 of kernel 0 ('saxpy') has 15 raw bytes, the literal has 16");
}

TEST(CheckOverrides, TypeThatIsToldMustBeTheLiterals) {
  using wire::LiteralType;
  RequestSpec request = saxpy_request();  // Literals: U64, F32.
  request.kernels[0].literals.push_back({LiteralType::Raw, 0, "", std::vector<std::byte>(16), {}});
  const PlanTemplate plan = plan_of(request);
  const std::vector<LiteralType> types{LiteralType::U64, LiteralType::F32, LiteralType::Raw};
  for (std::uint16_t literal = 0; literal < types.size(); ++literal) {
    for (int type = 0; type <= static_cast<int>(LiteralType::MAX); ++type) {
      LiteralOverrideSpec given{0, literal, 5, {}, static_cast<LiteralType>(type)};
      if (types[literal] == LiteralType::Raw) given.raw.resize(16);
      const bool fits = check_overrides(plan, std::span(&given, 1)).has_value();
      EXPECT_EQ(fits, *given.type == types[literal]) << literal << " " << type;
    }
  }
  const LiteralOverrideSpec wrong{0, 1, 0, {}, LiteralType::F64};
  EXPECT_EQ(check_overrides(plan, std::span(&wrong, 1)).error().message,
            "literal override 0: literal 1 of kernel 0 ('saxpy') is F64, the request wants F32");
}

TEST(ResolveBindings, BytesOutsideThePartOfASegmentAreRefused) {
  const PlanTemplate plan = plan_of(saxpy_request());  // Buffers of 4096 bytes.
  const auto fault = [&](std::uint64_t offset) {
    BindingSpec binding = to_segment(0, 17, offset);
    binding.place.part_offset = 256;
    binding.place.part_end = 256 + 5000;
    auto resolved = resolve_bindings(plan, std::span(&binding, 1));
    return resolved.has_value() ? "fits" : resolved.error().message;
  };
  EXPECT_EQ(fault(256), "fits");
  EXPECT_EQ(fault(256 + 904), "fits");
  EXPECT_EQ(fault(256 + 905),
            "binding 0 of buffer 0 ('x'): offset 905 + size 4096 exceeds the 5000 bytes of its "
            "memory in segment 17");
  EXPECT_EQ(fault(255),
            "binding 0 of buffer 0 ('x'): offset 255 is before its memory in segment 17, which "
            "begins at 256");
}

TEST(Compile, BytesThatAnExpressionGivesOutsideThePartOfASegmentAreRefused) {
  RequestSpec request = saxpy_request();
  request.parameters = {"n"};
  request.buffers[0].place = {};
  request.buffers[0].place.where = Where::Segment;
  request.buffers[0].place.segment = 17;
  request.buffers[0].place.part_end = 16;
  request.buffers[0].bytes = {0, "4 * n"};
  const auto compiled = [&](std::int64_t n) {
    const ParameterValue value{"n", n};
    auto plan = compile(request, std::span(&value, 1));
    return plan.has_value() ? "fits" : plan.error().message;
  };
  EXPECT_EQ(compiled(4), "fits");
  EXPECT_EQ(compiled(5),
            "buffer 0 ('x') offset 0 + size 20 exceeds the 16 bytes of its memory in segment 17");
}

}  // namespace
}  // namespace kaas
