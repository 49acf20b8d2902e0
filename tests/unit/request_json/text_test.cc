#include "tools/request_json/json_text.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/request_json/decoded_request.h"
#include "tools/request_json/encoded_bytes.h"

namespace kaas {
namespace {

std::string parse_error(std::string_view text) {
  const auto parsed = parse_json(text);
  if (parsed.has_value()) return "accepted";
  EXPECT_EQ(parsed.error().code, StatusCode::InvalidArgument);
  return parsed.error().message;
}

// The message up to the parser's own words.
std::string parse_place(std::string_view text) {
  const std::string message = parse_error(text);
  return message.substr(0, message.find(": "));
}

TEST(JsonText, MalformedTextIsReportedByLineAndColumn) {
  EXPECT_EQ(parse_place("{\"a\": 1x}"), "malformed JSON at line 1, column 8");
  EXPECT_EQ(parse_place("{\n  \"a\": [1,\n    }"), "malformed JSON at line 3, column 5");
  EXPECT_EQ(parse_place("\n\n\"open"), "malformed JSON at line 3, column 6");
  EXPECT_EQ(parse_place(""), "malformed JSON at line 1, column 1");
  EXPECT_EQ(parse_place("[1] 2"), "malformed JSON at line 1, column 5");
  EXPECT_EQ(parse_place("[NaN]"), "malformed JSON at line 1, column 2");
  EXPECT_EQ(parse_place("[1e999]"), "malformed JSON at line 1, column 6");
  EXPECT_EQ(parse_place("[1,]"), "malformed JSON at line 1, column 4");
}

TEST(JsonText, NulByteIsNoEndOfTheText) {
  using std::string_view_literals::operator""sv;
  EXPECT_EQ(parse_error("\0{}"sv), "it is not JSON text: there is a NUL byte at line 1, column 1");
  EXPECT_EQ(parse_error("{}\n\0"sv),
            "it is not JSON text: there is a NUL byte at line 2, column 1");
}

TEST(JsonText, ColumnsCountCharactersNotBytes) {
  EXPECT_EQ(parse_place("[\"\u00e4\u00f6\u20ac\", x]"), "malformed JSON at line 1, column 9");
}

TEST(JsonText, InvalidUtf8IsMalformed) {
  EXPECT_EQ(parse_place("[\"\xC3\x28\"]"), "malformed JSON at line 1, column 4");
}

TEST(JsonText, MessageOfAnEndlessTokenIsShort) {
  EXPECT_LT(parse_error("[\"" + std::string(100'000, 'a')).size(), 300U);
  std::string wide = "[\"";
  for (int n = 0; n < 1000; ++n) wide += "\u20ac";
  EXPECT_NO_THROW(Json(parse_error(wide)).dump());  // Cut between characters.
}

TEST(JsonText, KeyGivenTwiceIsRefusedWithItsPath) {
  EXPECT_EQ(parse_error(R"({"a": 1, "a": 2})"), "a is given twice");
  EXPECT_EQ(parse_error(R"({"k": [{}, {"b": {"c": 1, "d": 2, "c": 3}}]})"),
            "k[1].b.c is given twice");
}

TEST(JsonText, SameKeyInTwoObjectsIsFine) {
  EXPECT_EQ(parse_error(R"([{"a": 1}, {"a": {"a": 1}}])"), "accepted");
}

TEST(JsonText, DepthIsBounded) {
  const auto nested = [](std::size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  EXPECT_EQ(parse_error(nested(kJsonDepthMax)), "accepted");
  EXPECT_EQ(parse_error(nested(kJsonDepthMax + 1)),
            "[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0] is deeper than 16 levels");
  EXPECT_NE(parse_error(std::string(1'000'000, '[')).find("is deeper than 16"), std::string::npos);
}

TEST(JsonText, TreeHoldsWhatTheTextSays) {
  const auto parsed = parse_json(R"({"a": [1, -2, 2.5, "x", true, null, {"b": []}], "c": {}})");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->dump(), R"({"a":[1,-2,2.5,"x",true,null,{"b":[]}],"c":{}})");
}

TEST(JsonText, TooLongTextIsRefusedBeforeItIsRead) {
  const auto parsed = parse_request(std::string(kRequestTextBytesMax + 1, '['));
  ASSERT_FALSE(parsed.has_value());
  EXPECT_EQ(parsed.error().code, StatusCode::ResourceExhausted);
  EXPECT_EQ(parsed.error().message, "the request's text in bytes is 16777217, limit 16777216");
}

std::string decoded(std::string_view text) {
  const auto bytes = decode_bytes(text);
  if (!bytes.has_value()) return "! " + bytes.error().message;
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

TEST(EncodedBytes, HexAndBase64Decode) {
  EXPECT_EQ(decoded("hex:6b61aA53"), "ka\xAAS");
  EXPECT_EQ(decoded("hex:"), "");
  EXPECT_EQ(decoded("base64:"), "");
  EXPECT_EQ(decoded("base64:Zg=="), "f");
  EXPECT_EQ(decoded("base64:Zm8="), "fo");
  EXPECT_EQ(decoded("base64:Zm9vYmFy"), "foobar");
  EXPECT_EQ(decoded("base64:+/+/"), "\xFB\xFF\xBF");
}

TEST(EncodedBytes, WhatIsNoneIsRefused) {
  EXPECT_EQ(decoded("00ff"), "! begins with neither 'hex:' nor 'base64:'");
  EXPECT_EQ(decoded("hex:00f"), "! has 3 hex digits, allowed an even number");
  EXPECT_EQ(decoded("hex:0g"), "! has no hex digit at position 1, allowed 0-9, a-f, A-F");
  EXPECT_EQ(decoded("base64:Zg"),
            "! has 2 base64 characters, allowed a multiple of 4 (with '=' at the end)");
  EXPECT_EQ(decoded("base64:Z==="),
            "! has no base64 character at position 1, allowed A-Z, a-z, 0-9, + and /");
  EXPECT_EQ(decoded("base64:Zm 9"),
            "! has no base64 character at position 2, allowed A-Z, a-z, 0-9, + and /");
  EXPECT_EQ(decoded("base64:Zh=="),
            "! has base64 whose last character holds bits beyond the last byte");
}

}  // namespace
}  // namespace kaas
