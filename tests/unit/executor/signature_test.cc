#include <gtest/gtest.h>

#include "daemon/executor/device/kernel_entry.h"
#include "daemon/executor/library/nearest_names.h"

namespace kaas {
namespace {

using Kind = ParameterType::Kind;

TEST(Signature, EveryItemIsRead) {
  const auto types = parse_signature("iIqQfdb<12>pPb<4096>");
  ASSERT_TRUE(types.has_value());
  ASSERT_EQ(types->size(), 10u);
  EXPECT_EQ((*types)[0].literal, wire::LiteralType::I32);
  EXPECT_EQ((*types)[3].literal, wire::LiteralType::U64);
  EXPECT_EQ((*types)[5].bytes, 8u);
  EXPECT_EQ((*types)[6].kind, Kind::Raw);
  EXPECT_EQ((*types)[6].bytes, 12u);
  EXPECT_EQ((*types)[7].kind, Kind::Input);
  EXPECT_EQ((*types)[8].kind, Kind::Output);
  EXPECT_EQ((*types)[9].bytes, 4096u);
}

TEST(Signature, EmptyIsNoParameters) {
  EXPECT_TRUE(parse_signature("")->empty());
}

TEST(Signature, WhatIsNotUnderstoodIsRefusedWithItsPlace) {
  for (const char* text : {"x", "ix", "b", "b<", "b<>", "b<0>", "b<4097>", "b<-1>", "b<12", "b<1 >",
                           "b<99999999999999999999>", "i i"}) {
    const auto types = parse_signature(text);
    ASSERT_FALSE(types.has_value()) << text;
    EXPECT_EQ(types.error().code, StatusCode::InvalidArgument);
  }
  EXPECT_NE(parse_signature("iix").error().message.find("character 2"), std::string::npos);
}

TEST(NearestNames, NearestComeFirstAndFarOnesNot) {
  const std::vector<std::string> names{"axpy", "copy", "fill", "saxpy", "saxpy2", "sum"};
  EXPECT_EQ(nearest_names("saxpi", names), (std::vector<std::string>{"saxpy", "axpy", "saxpy2"}));
  EXPECT_TRUE(nearest_names("normalise", names).empty());
  EXPECT_TRUE(nearest_names("x", {}).empty());
}

}  // namespace
}  // namespace kaas
