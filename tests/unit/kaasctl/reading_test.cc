#include "tools/kaasctl/reading.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

TEST(Reading, FieldsOfTheRightTypeAreRead) {
  const auto json =
      parse_answer(R"({"n": 5, "x": 1.5, "b": true, "t": "text", "l": [1], "o": {"a": 1}})");
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(natural_at(*json, "n"), 5U);
  EXPECT_EQ(number_at(*json, "x"), 1.5);
  EXPECT_EQ(number_at(*json, "n"), 5.0);
  EXPECT_TRUE(flag_at(*json, "b"));
  EXPECT_EQ(text_at(*json, "t"), "text");
  EXPECT_EQ(list_at(*json, "l").size(), 1U);
  EXPECT_EQ(object_at(*json, "o").size(), 1U);
}

TEST(Reading, AnswersOfAnotherVersionReadAsNothing) {
  const auto json = parse_answer(R"({"n": -5, "x": "1.5", "b": 1, "t": 7, "l": {}, "o": []})");
  ASSERT_TRUE(json.has_value());
  for (const char* field : {"n", "x", "absent"}) EXPECT_EQ(natural_at(*json, field), 0U);
  EXPECT_EQ(number_at(*json, "x"), 0.0);
  EXPECT_FALSE(flag_at(*json, "b"));
  EXPECT_EQ(text_at(*json, "t"), "");
  EXPECT_TRUE(list_at(*json, "l").empty());
  EXPECT_TRUE(object_at(*json, "o").empty());
  const Json list = Json::array();
  EXPECT_EQ(natural_at(list, "n"), 0U);
  EXPECT_TRUE(list_at(list, "n").is_array());
}

TEST(Reading, WhatIsNoJsonIsAnError) {
  EXPECT_EQ(parse_answer("{\"a\"").error().code, StatusCode::Internal);
  EXPECT_EQ(parse_answer("").error().message, "the daemon's answer is no JSON");
}

TEST(Reading, MalformedTextIsStillWritten) {
  EXPECT_EQ(dump(Json("a\xff")), "\"a\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace kaas
