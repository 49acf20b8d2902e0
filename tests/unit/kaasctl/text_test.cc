#include "tools/kaasctl/text.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

TEST(HumanText, SizesHaveThreeDigitsAndBinaryUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1 KiB");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(10 * 1024 + 512), "10.5 KiB");
  EXPECT_EQ(human_bytes(1023 * 1024), "1023 KiB");
  EXPECT_EQ(human_bytes(1024 * 1024 - 1), "1 MiB");
  EXPECT_EQ(human_bytes(std::uint64_t{5} << 30), "5 GiB");
  EXPECT_EQ(human_bytes(~std::uint64_t{0}), "16 EiB");
}

TEST(HumanText, TimesUseTheUnitThatFits) {
  EXPECT_EQ(human_seconds(0), "0 s");
  EXPECT_EQ(human_seconds(-1), "0 s");
  EXPECT_EQ(human_ns(480), "480 ns");
  EXPECT_EQ(human_ns(22'900), "22.9 us");
  EXPECT_EQ(human_ns(999'999), "1 ms");
  EXPECT_EQ(human_seconds(1.25), "1.25 s");
  EXPECT_EQ(human_seconds(99.9), "99.9 s");
  EXPECT_EQ(human_seconds(125), "2 min 5 s");
  EXPECT_EQ(human_seconds(7200), "2 h");
  EXPECT_EQ(human_seconds(7380), "2 h 3 min");
  EXPECT_EQ(human_seconds(5 * 86'400 + 3'700), "5 d 1 h");
}

TEST(HumanText, ForeignTextDoesNotSteerTheTerminal) {
  EXPECT_EQ(printable("plain \u00e4\u20ac\U0001F600"), "plain \u00e4\u20ac\U0001F600");
  EXPECT_EQ(printable("a\x1b[2Jb\nc\x7f"), "a?[2Jb?c?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "??31m");                      // A control character of two bytes.
  EXPECT_EQ(printable("\xff\xc3"), "??");  // No UTF-8; a cut character.
}

TEST(Table, ColumnsAreAlignedByCharacters) {
  Table table({"NAME", ">SIZE", "STATE"});
  table.add({"\u00e4", "1", "ok"});
  table.add({"long name", "1000", ""});
  EXPECT_EQ(table.to_string(),
            "NAME       SIZE  STATE\n"
            "\u00e4             1  ok\n"
            "long name  1000  -\n");
}

TEST(ParseDuration, TakesWholeNumbersWithAUnit) {
  EXPECT_EQ(*parse_duration_ns("100ns"), 100U);
  EXPECT_EQ(*parse_duration_ns("20us"), 20'000U);
  EXPECT_EQ(*parse_duration_ns("500ms"), 500'000'000U);
  EXPECT_EQ(*parse_duration_ns("2s"), 2'000'000'000U);
  EXPECT_EQ(*parse_duration_ns("1min"), 60'000'000'000U);
  EXPECT_EQ(*parse_duration_ns("1h"), 3'600'000'000'000U);
}

TEST(ParseDuration, SaysWhatIsAllowed) {
  for (const char* text : {"", "5", "s", "ms", "1.5s", "-1s", "5 s", "5sec", "0x5s"}) {
    const auto parsed = parse_duration_ns(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().message,
              "duration is '" + std::string(text) +
                  "', allowed a whole number and one of ns, us, ms, s, min, h, such as 500ms");
  }
  EXPECT_FALSE(parse_duration_ns("0s").has_value());
  EXPECT_FALSE(parse_duration_ns("9223372036854775807s").has_value());
}

TEST(ParseRequestName, IsThreeNumbers) {
  const auto name = parse_request_name("12.0.7");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->session, 12U);
  EXPECT_EQ(name->ring, 0U);
  EXPECT_EQ(name->id, 7U);
  for (const char* text : {"", "1", "1.2", "1.2.", ".1.2", "1.2.3.4", "a.b.c", "1.-2.3",
                           "1.4294967296.3", "1.2.18446744073709551616"}) {
    const auto wrong = parse_request_name(text);
    ASSERT_FALSE(wrong.has_value()) << text;
    EXPECT_EQ(wrong.error().message, "request is '" + std::string(text) +
                                         "', allowed SESSION.RING.ID, three numbers such as "
                                         "12.0.7");
  }
}

TEST(ParseAssignment, EachFormHasItsKind) {
  using Kind = Assignment::Kind;
  struct Case {
    const char* word;
    Kind kind;
    const char* name;
    const char* value;
  };
  constexpr Case kCases[] = {{"in=@a/b.bin", Kind::File, "in", "a/b.bin"},
                             {"in=@@x", Kind::File, "in", "@x"},
                             {"x=in:-", Kind::Input, "x", "-"},
                             {"x=out:a=b", Kind::Output, "x", "a=b"},
                             {"x=key:@1000/k", Kind::Key, "x", "@1000/k"}};
  for (const Case& word : kCases) {
    const auto parsed = parse_assignment(word.word);
    ASSERT_TRUE(parsed.has_value()) << word.word;
    EXPECT_EQ(parsed->kind, word.kind) << word.word;
    EXPECT_EQ(parsed->name, word.name);
    EXPECT_EQ(parsed->value, word.value);
  }
  EXPECT_EQ(parse_assignment("w=512")->integer, 512);
  EXPECT_EQ(parse_assignment("w=-9223372036854775808")->integer,
            std::numeric_limits<std::int64_t>::min());
}

TEST(ParseAssignment, RefusesWhatIsNone) {
  const std::string allowed =
      "; allowed NAME=INTEGER for a parameter, and for a buffer NAME=@FILE, NAME=in:FILE, "
      "NAME=out:FILE or NAME=key:KEY";
  for (const char* word : {"", "name", "=5"}) {
    const auto parsed = parse_assignment(word);
    ASSERT_FALSE(parsed.has_value()) << word;
    EXPECT_EQ(parsed.error().message, "'" + std::string(word) + "' is no NAME=VALUE" + allowed);
  }
  for (const char* value : {"", "@", "in:", "key:", "1.5", "5x", "+5", "file.bin"}) {
    const auto parsed = parse_assignment("x=" + std::string(value));
    ASSERT_FALSE(parsed.has_value()) << value;
    EXPECT_EQ(parsed.error().message, "x is '" + std::string(value) + "'" + allowed);
  }
  EXPECT_EQ(parse_assignment("x=9223372036854775808").error().message,
            "x is 9223372036854775808, allowed -9223372036854775808 to 9223372036854775807");
}

}  // namespace
}  // namespace kaas
