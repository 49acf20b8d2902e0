#include "daemon/intake/submission.h"

#include <gtest/gtest.h>

#include <limits>

#include "schema/ipc/messages.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;

template <class T>
Result<Submission> decoded(Builder& builder, wire::Operation type, flatbuffers::Offset<T> value) {
  builder.Finish(wire::CreateSubmission(builder, 42, type, value.Union()));
  return decode_submission(finished(builder));
}

// The operation of a submission that must decode.
template <class Wanted, class T>
Wanted operation(Builder& builder, wire::Operation type, flatbuffers::Offset<T> value) {
  auto submission = decoded(builder, type, value);
  EXPECT_TRUE(submission.has_value()) << submission.error().message;
  EXPECT_EQ(submission->id, 42u);
  EXPECT_TRUE(submission->operation.has_value()) << submission->operation.error().message;
  return std::get<Wanted>(*submission->operation);
}

template <class T>
std::string fault(Builder& builder, wire::Operation type, flatbuffers::Offset<T> value) {
  auto submission = decoded(builder, type, value);
  EXPECT_TRUE(submission.has_value());
  EXPECT_EQ(submission->id, 42u);
  if (submission->operation.has_value()) return "was accepted";
  EXPECT_EQ(submission->operation.error().code, StatusCode::InvalidArgument);
  return submission->operation.error().message;
}

TEST(DecodeSubmission, RequestsAreHandedOnUnread) {
  const std::vector<std::uint8_t> request{1, 2, 3};
  Builder submit;
  EXPECT_EQ(operation<SubmitOperation>(submit, wire::Operation::Submit,
                                       wire::CreateSubmitDirect(submit, &request))
                .request.size(),
            3u);
  Builder prepare;
  EXPECT_EQ(operation<PrepareOperation>(prepare, wire::Operation::Prepare,
                                        wire::CreatePrepareDirect(prepare, &request))
                .request[2],
            std::byte{3});
  Builder deploy;
  const auto deployed = operation<DeployOperation>(
      deploy, wire::Operation::Deploy, wire::CreateDeployDirect(deploy, "edges", &request));
  EXPECT_EQ(deployed.function, "edges");
  EXPECT_EQ(deployed.request.size(), 3u);
}

TEST(DecodeSubmission, InvokeAndCallCarryTheirParts) {
  Builder invoke;
  const std::vector<flatbuffers::Offset<wire::Binding>> bindings{
      wire::CreateBindingDirect(invoke, 0, "in")};
  const auto invoked = operation<InvokeOperation>(invoke, wire::Operation::Invoke,
                                                  wire::CreateInvokeDirect(invoke, 7, &bindings));
  EXPECT_EQ(invoked.plan, 7u);
  EXPECT_EQ(invoked.bindings.at(0).name, "in");
  Builder call;
  const std::vector<flatbuffers::Offset<wire::NamedInteger>> parameters{
      wire::CreateNamedIntegerDirect(call, "width", 512)};
  const auto called = operation<CallOperation>(
      call, wire::Operation::Call, wire::CreateCallDirect(call, "edges", 2, &parameters));
  EXPECT_EQ(called.function, "edges");
  EXPECT_EQ(called.version, 2u);
  EXPECT_EQ(called.parameters.at(0).value, 512);
}

TEST(DecodeSubmission, StoreOperationsCarryTheirKeys) {
  Builder get;
  const auto got =
      operation<GetOperation>(get, wire::Operation::Get, wire::CreateGetDirect(get, "k", 1000));
  EXPECT_EQ(got.key, "k");
  EXPECT_EQ(got.owner_uid, 1000u);
  Builder stat;
  EXPECT_FALSE(
      operation<StatOperation>(stat, wire::Operation::Stat, wire::CreateStatDirect(stat, "k"))
          .owner_uid.has_value());
  Builder remove;
  EXPECT_EQ(operation<RemoveOperation>(remove, wire::Operation::Remove,
                                       wire::CreateRemoveDirect(remove, "k"))
                .key,
            "k");
  Builder cancel;
  EXPECT_EQ(
      operation<CancelOperation>(cancel, wire::Operation::Cancel, wire::CreateCancel(cancel, 9)).id,
      9u);
  Builder release;
  EXPECT_EQ(operation<ReleasePlanOperation>(release, wire::Operation::ReleasePlan,
                                            wire::CreateReleasePlan(release, 3))
                .plan,
            3u);
}

TEST(DecodeSubmission, PutHasOneSource) {
  const std::vector<std::uint8_t> data{1, 2};
  Builder both;
  EXPECT_EQ(fault(both, wire::Operation::Put, wire::CreatePutDirect(both, "k", &data, 17, 0, 2)),
            "put of 'k' gives more than one of data, segment and token; one is allowed");
  Builder inlined;
  EXPECT_EQ(operation<PutOperation>(inlined, wire::Operation::Put,
                                    wire::CreatePutDirect(inlined, "k", &data))
                .data.size(),
            2u);
  Builder length;
  EXPECT_EQ(fault(length, wire::Operation::Put, wire::CreatePutDirect(length, "k", &data, 0, 0, 3)),
            "put bytes is 3, its inline data has 2");
  Builder offset;
  EXPECT_EQ(fault(offset, wire::Operation::Put, wire::CreatePutDirect(offset, "k", &data, 0, 1)),
            "put offset is 1 without a segment, allowed 0");
}

TEST(DecodeSubmission, PutRangesNearTheEndOfNumbersAreRefused) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  Builder end;
  EXPECT_EQ(
      fault(end, wire::Operation::Put, wire::CreatePutDirect(end, "k", nullptr, 17, kMax - 7, 16)),
      "put range [18446744073709551608, 18446744073709551608 + 16) is outside 1099511627776 "
      "bytes");
  Builder bytes;
  EXPECT_EQ(
      fault(bytes, wire::Operation::Put, wire::CreatePutDirect(bytes, "k", nullptr, 17, 0, kMax)),
      "put bytes is 18446744073709551615, allowed 0 to 1099511627776");
}

TEST(DecodeSubmission, FaultyFieldsAreAnswered) {
  Builder key;
  EXPECT_EQ(fault(key, wire::Operation::Get, wire::CreateGetDirect(key, "")), "key is empty");
  Builder function;
  EXPECT_EQ(fault(function, wire::Operation::Call, wire::CreateCallDirect(function, "")),
            "function is empty");
}

TEST(DecodeSubmission, WhatIsNoSubmissionEndsTheSession) {
  const std::vector<std::byte> noise(64, std::byte{0xFF});
  EXPECT_EQ(decode_submission(noise).error().code, StatusCode::ProtocolViolation);
  EXPECT_EQ(decode_submission({}).error().code, StatusCode::ProtocolViolation);
  Builder none;
  none.Finish(wire::CreateSubmission(none, 1));
  EXPECT_EQ(decode_submission(finished(none)).error().code, StatusCode::ProtocolViolation);
  Builder absent;
  absent.Finish(wire::CreateSubmission(absent, 1, wire::Operation::Get));
  EXPECT_EQ(decode_submission(finished(absent)).error().message, "submission has no operation");
  Builder unknown;
  EXPECT_EQ(decoded(unknown, static_cast<wire::Operation>(200), wire::CreateCancel(unknown, 1))
                .error()
                .message,
            "submission has operation 200, allowed 1 to 13");
}

}  // namespace
}  // namespace kaas
