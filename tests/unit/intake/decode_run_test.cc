#include <gtest/gtest.h>

#include <functional>

#include "daemon/intake/decode.h"
#include "schema/ipc/messages.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using wire::Where;
using Builder = flatbuffers::FlatBufferBuilder;

// Builds one table and returns it as the reader sees it; the builder owns the bytes.
template <class Table>
const Table* built(Builder& builder, flatbuffers::Offset<Table> table) {
  builder.Finish(table);
  return flatbuffers::GetRoot<Table>(builder.GetBufferPointer());
}

Result<std::vector<BindingSpec>> decoded_bindings(
    const std::function<flatbuffers::Offset<wire::Binding>(Builder&)>& make) {
  Builder builder;
  const auto binding = make(builder);
  const auto bindings = builder.CreateVector(&binding, 1);
  return decode_bindings(built(builder, wire::CreateInvoke(builder, 1, bindings))->bindings());
}

TEST(DecodeOptions, AbsentOptionsAreDefaults) {
  auto options = decode_options(nullptr);
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->priority, 0);
  EXPECT_EQ(options->deadline_ns, 0u);
  EXPECT_FALSE(options->profile);
}

TEST(DecodeOptions, EveryFieldComesBack) {
  Builder builder;
  const std::vector<std::uint32_t> waits = {20, 21};
  const std::vector<std::uint32_t> records = {22};
  auto options =
      decode_options(built(builder, wire::CreateRunOptionsDirect(builder, -100, 12345, 77, true,
                                                                 "team", &waits, &records)));
  ASSERT_TRUE(options.has_value()) << options.error().message;
  EXPECT_EQ(options->priority, -100);
  EXPECT_EQ(options->deadline_ns, 12345u);
  EXPECT_EQ(options->tag, 77u);
  EXPECT_TRUE(options->profile);
  EXPECT_EQ(options->tenant, "team");
  EXPECT_EQ(options->wait_events, waits);
  EXPECT_EQ(options->record_events, records);
}

TEST(DecodeOptions, FaultsAreNamed) {
  Builder events;
  const std::vector<std::uint32_t> many(kEventsPerRunMax + 1, 20);
  EXPECT_EQ(decode_options(
                built(events, wire::CreateRunOptionsDirect(events, 0, 0, 0, false, nullptr, &many)))
                .error()
                .message,
            "wait_events: 17, limit 16");
  Builder low;
  EXPECT_EQ(decode_options(built(low, wire::CreateRunOptions(low, -101))).error().message,
            "priority is -101, allowed -100 to 100");
  Builder high;
  EXPECT_EQ(decode_options(built(high, wire::CreateRunOptions(high, 101))).error().message,
            "priority is 101, allowed -100 to 100");
  Builder tenant;
  EXPECT_EQ(
      decode_options(built(tenant, wire::CreateRunOptionsDirect(tenant, 0, 0, 0, false, "a\x1b[m")))
          .error()
          .message,
      "tenant 'a?[m' has control characters or is not UTF-8, neither is allowed");
}

TEST(DecodeBindings, EveryFieldComesBack) {
  auto bindings = decoded_bindings([](Builder& b) {
    return wire::CreateBindingDirect(b, 5, "in", Where::Segment, 17, 4096, nullptr);
  });
  ASSERT_TRUE(bindings.has_value()) << bindings.error().message;
  const BindingSpec& binding = bindings->at(0);
  EXPECT_EQ(binding.buffer, 5);
  EXPECT_EQ(binding.name, "in");
  EXPECT_EQ(binding.place.where, Where::Segment);
  EXPECT_EQ(binding.place.segment, 17u);
  EXPECT_EQ(binding.offset, 4096u);
}

TEST(DecodeBindings, AbsentOffsetAndKeyStayAbsent) {
  auto bindings = decoded_bindings([](Builder& b) { return wire::CreateBinding(b, 1); });
  ASSERT_TRUE(bindings.has_value());
  EXPECT_FALSE(bindings->at(0).offset.has_value());
  EXPECT_TRUE(bindings->at(0).place.key.empty());
}

TEST(DecodeBindings, OffsetZeroIsNotAbsent) {
  auto bindings =
      decoded_bindings([](Builder& b) { return wire::CreateBinding(b, 1, 0, Where::Store, 0, 0); });
  ASSERT_TRUE(bindings.has_value());
  EXPECT_EQ(bindings->at(0).offset, 0u);
}

TEST(DecodeBindings, FaultsAreNamed) {
  EXPECT_EQ(
      decoded_bindings([](Builder& b) { return wire::CreateBinding(b, 1, 0, Where::Segment); })
          .error()
          .message,
      "binding 0 is in Segment and gives no segment");
  EXPECT_EQ(decoded_bindings(
                [](Builder& b) { return wire::CreateBinding(b, 1, 0, static_cast<Where>(9)); })
                .error()
                .message,
            "binding 0 has place 9, limit 3");
  EXPECT_EQ(decoded_bindings([](Builder& b) { return wire::CreateBindingDirect(b, 1, ""); })
                .error()
                .message,
            "binding 0 name is empty");
  EXPECT_EQ(decoded_bindings([](Builder& b) {
              const std::vector<std::uint8_t> data(kInlineBytesMax + 1);
              return wire::CreateBindingDirect(b, 1, nullptr, Where::Inline, 0,
                                               flatbuffers::nullopt, nullptr, &data);
            })
                .error()
                .message,
            "binding 0 inline data bytes: 65537, limit 65536");
}

TEST(DecodeBindings, PartOfASegmentComesBack) {
  const wire::SegmentRange part(256, 24);
  auto bindings = decoded_bindings([&](Builder& b) {
    return wire::CreateBinding(b, 1, 0, Where::Segment, 17, 256, 0, 0, 0, &part);
  });
  ASSERT_TRUE(bindings.has_value()) << bindings.error().message;
  EXPECT_EQ(bindings->at(0).place.part_offset, 256u);
  EXPECT_EQ(bindings->at(0).place.part_end, 280u);
  auto whole = decoded_bindings(
      [&](Builder& b) { return wire::CreateBinding(b, 1, 0, Where::Segment, 17, 256); });
  EXPECT_EQ(whole->at(0).place.part_offset, 0u);
  EXPECT_EQ(whole->at(0).place.part_end, ~std::uint64_t{0});

  const wire::SegmentRange endless(256, ~std::uint64_t{0});
  EXPECT_EQ(decoded_bindings([&](Builder& b) {
              return wire::CreateBinding(b, 1, 0, Where::Segment, 17, 256, 0, 0, 0, &endless);
            })
                .error()
                .message,
            "binding 0 part of the segment has offset 256 + bytes 18446744073709551615, limit "
            "18446744073709551615");
  EXPECT_EQ(decoded_bindings([&](Builder& b) {
              return wire::CreateBinding(b, 1, 0, Where::Store, 0, 256, 0, 0, 0, &part);
            })
                .error()
                .message,
            "binding 0 is in Store and gives a part of a segment, which that kind of place does "
            "not have");
}

TEST(DecodeOverrides, TypeComesBackAndMayBeMissing) {
  Builder builder;
  const std::vector<flatbuffers::Offset<wire::LiteralOverride>> overrides{
      wire::CreateLiteralOverride(builder, 0, 0, 5),
      wire::CreateLiteralOverride(builder, 0, 0, 5, 0, wire::LiteralType::I32),
      wire::CreateLiteralOverride(builder, 0, 0, 5, 0, wire::LiteralType::Raw)};
  const auto list = builder.CreateVector(overrides);
  const auto decoded =
      decode_literal_overrides(built(builder, wire::CreateInvoke(builder, 1, 0, list))->literals());
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->at(0).type, std::nullopt);
  EXPECT_EQ(decoded->at(1).type, wire::LiteralType::I32);
  EXPECT_EQ(decoded->at(2).type, wire::LiteralType::Raw);

  Builder odd;
  const auto unknown =
      wire::CreateLiteralOverride(odd, 0, 0, 5, 0, static_cast<wire::LiteralType>(9));
  const auto odd_list = odd.CreateVector(&unknown, 1);
  EXPECT_EQ(
      decode_literal_overrides(built(odd, wire::CreateInvoke(odd, 1, 0, odd_list))->literals())
          .error()
          .message,
      "literal override 0 type is 9, limit 6");
}

TEST(DecodeOverrides, EveryFieldComesBackAndRawIsBounded) {
  Builder builder;
  const std::vector<std::uint8_t> raw{1, 2, 3};
  const auto override_ = wire::CreateLiteralOverrideDirect(builder, 3, 4, 5, &raw);
  const auto list = builder.CreateVector(&override_, 1);
  auto decoded =
      decode_literal_overrides(built(builder, wire::CreateInvoke(builder, 1, 0, list))->literals());
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->at(0).kernel, 3);
  EXPECT_EQ(decoded->at(0).literal, 4);
  EXPECT_EQ(decoded->at(0).bits, 5u);
  EXPECT_EQ(decoded->at(0).raw.size(), 3u);

  Builder large;
  const std::vector<std::uint8_t> bytes(kRawLiteralBytesMax + 1);
  const auto too_large = wire::CreateLiteralOverrideDirect(large, 0, 0, 0, &bytes);
  const auto large_list = large.CreateVector(&too_large, 1);
  EXPECT_EQ(decode_literal_overrides(
                built(large, wire::CreateInvoke(large, 1, 0, large_list))->literals())
                .error()
                .message,
            "literal override 0 raw bytes: 4097, limit 4096");
}

TEST(DecodeParameters, NamesOnceAndWithValues) {
  Builder builder;
  const std::vector<flatbuffers::Offset<wire::NamedInteger>> values{
      wire::CreateNamedIntegerDirect(builder, "width", -3),
      wire::CreateNamedIntegerDirect(builder, "height", 4)};
  auto decoded = decode_parameters(
      built(builder, wire::CreateCallDirect(builder, "f", 0, &values))->parameters());
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->at(0).name, "width");
  EXPECT_EQ(decoded->at(0).value, -3);

  Builder twice;
  const std::vector<flatbuffers::Offset<wire::NamedInteger>> doubled{
      wire::CreateNamedIntegerDirect(twice, "width", 1),
      wire::CreateNamedIntegerDirect(twice, "width", 2)};
  EXPECT_EQ(
      decode_parameters(built(twice, wire::CreateCallDirect(twice, "f", 0, &doubled))->parameters())
          .error()
          .message,
      "parameter 'width' is given twice");
}

}  // namespace
}  // namespace kaas
