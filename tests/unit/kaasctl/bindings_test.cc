#include "tools/kaasctl/bindings.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

const Roles kRoles{{"in", "x"}, {"out", "x"}};

std::string fault(const std::vector<std::string>& words) {
  const auto sorted = sort_assignments(words, kRoles);
  return sorted.has_value() ? "accepted" : sorted.error().message;
}

TEST(SortAssignments, FilesGoTheWayOfTheirBuffer) {
  const auto sorted = sort_assignments(
      {"width=5", "in=@a", "out=@b", "x=in:c", "x=out:d", "weights=key:k", "height=-1"}, kRoles);
  ASSERT_TRUE(sorted.has_value());
  ASSERT_EQ(sorted->parameters.size(), 2U);
  EXPECT_EQ(sorted->parameters[1].name, "height");
  EXPECT_EQ(sorted->parameters[1].value, -1);
  ASSERT_EQ(sorted->files.size(), 3U);
  EXPECT_EQ(sorted->files[0].input, "a");
  EXPECT_EQ(sorted->files[0].output, "");
  EXPECT_EQ(sorted->files[1].output, "b");
  EXPECT_EQ(sorted->files[1].input, "");
  EXPECT_EQ(sorted->files[2].input, "c");
  EXPECT_EQ(sorted->files[2].output, "d");
  ASSERT_EQ(sorted->keys.size(), 1U);
  EXPECT_EQ(sorted->keys[0], (std::pair<std::string, std::string>{"weights", "k"}));
}

TEST(SortAssignments, WhatCanNotBeMeantIsRefused) {
  EXPECT_EQ(fault({"x=@f"}),
            "'x' is changed in place; say x=in:FILE for what it starts with and x=out:FILE for the "
            "result");
  EXPECT_EQ(fault({"inn=@f"}), "'inn' is neither input nor output; inputs: in, x; outputs: out, x");
  EXPECT_EQ(fault({"out=in:f"}), "'out' is no input; inputs: in, x; outputs: out, x");
  EXPECT_EQ(fault({"in=out:f"}), "'in' is no output; inputs: in, x; outputs: out, x");
  EXPECT_EQ(fault({"w=1", "w=2"}), "'w' is given twice");
  EXPECT_EQ(fault({"in=@a", "in=@b"}), "'in' is given twice");
  EXPECT_EQ(fault({"in=@a", "in=key:k"}), "'in' is given twice");
  EXPECT_EQ(fault({"in=key:k", "in=@a"}), "'in' is given twice");
  EXPECT_EQ(fault({"in=key:k", "in=key:k"}), "'in' is given twice");
  EXPECT_TRUE(fault({"in"}).starts_with("'in' is no NAME=VALUE"));
}

TEST(SortAssignments, NoRolesAreNamedAsNone) {
  const auto sorted = sort_assignments({"in=@f"}, {});
  ASSERT_FALSE(sorted.has_value());
  EXPECT_EQ(sorted.error().message,
            "'in' is neither input nor output; inputs: none; outputs: none");
}

// What is refused of the files of a command; "accepted" if nothing is.
std::string stream_fault(const CommandLine& line, const std::vector<std::string>& words) {
  const auto sorted = sort_assignments(words, kRoles);
  if (!sorted.has_value()) return sorted.error().message;
  const auto checked = check_streams(line, *sorted);
  return checked.has_value() ? "accepted" : checked.error().message;
}

TEST(CheckStreams, StandardStreamHasOneUse) {
  CommandLine line;
  line.file = "f.json";
  EXPECT_EQ(stream_fault(line, {"in=@-", "out=@-"}), "accepted");
  EXPECT_EQ(stream_fault(line, {"in=@-", "x=in:-"}),
            "standard input (-) is for 'in' and for 'x', allowed is one of them; name a file");
  EXPECT_EQ(stream_fault(line, {"out=@-", "x=out:-"}),
            "standard output (-) is for 'out' and for 'x', allowed is one of them; name a file");
  line.file = "-";
  EXPECT_EQ(stream_fault(line, {"out=@-"}), "accepted");
  EXPECT_EQ(
      stream_fault(line, {"in=@-"}),
      "standard input (-) is for the request and for 'in', allowed is one of them; name a file");
  line.json = true;
  EXPECT_EQ(stream_fault(line, {"in=@f"}), "accepted");
  EXPECT_EQ(stream_fault(line, {"out=@-"}),
            "standard output (-) is for the JSON of --json and for 'out', allowed is one of them; "
            "name a file");
}

TEST(WritesStandardOutput, IsAboutOutputsAlone) {
  EXPECT_TRUE(writes_standard_output(*sort_assignments({"in=@f", "out=@-"}, kRoles)));
  EXPECT_FALSE(writes_standard_output(*sort_assignments({"in=@-", "out=@f"}, kRoles)));
}

}  // namespace
}  // namespace kaas
