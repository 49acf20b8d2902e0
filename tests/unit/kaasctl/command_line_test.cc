#include "tools/kaasctl/command_line.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tools/kaasctl/reading.h"

namespace kaas {
namespace {

ParsedCommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "kaasctl");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

// Parses words that are right.
CommandLine parsed(const std::vector<const char*>& words) {
  const auto result = parse(words);
  EXPECT_FALSE(result.exit.has_value()) << words.front();
  return result.line;
}

// The exit status and what went to standard error.
std::pair<int, std::string> refused(const std::vector<const char*>& words) {
  testing::internal::CaptureStderr();
  const auto result = parse(words);
  return {result.exit.value_or(-1), testing::internal::GetCapturedStderr()};
}

TEST(CommandLineTest, EveryCommandIsKnown) {
  const std::pair<std::vector<const char*>, Command> cases[] = {
      {{"status"}, Command::Status},
      {{"ps"}, Command::Ps},
      {{"run", "f.json"}, Command::Run},
      {{"deploy", "f.json"}, Command::Deploy},
      {{"undeploy", "f"}, Command::Undeploy},
      {{"functions"}, Command::Functions},
      {{"call", "f"}, Command::Call},
      {{"cancel", "1.2.3"}, Command::Cancel},
      {{"kick", "1"}, Command::Kick},
      {{"kv", "put", "k", "f"}, Command::KvPut},
      {{"kv", "get", "k"}, Command::KvGet},
      {{"kv", "ls"}, Command::KvLs},
      {{"kv", "stat", "k"}, Command::KvStat},
      {{"kv", "rm", "k", "l"}, Command::KvRm},
      {{"kv", "share", "k", "--everyone"}, Command::KvShare},
      {{"libraries"}, Command::Libraries},
      {{"logs"}, Command::Logs},
      {{"doctor"}, Command::Doctor},
      {{"reload"}, Command::Reload},
      {{"suspend", "GPU-1"}, Command::Suspend},
      {{"resume", "all"}, Command::Resume},
      {{"completion", "bash"}, Command::Completion}};
  for (const auto& [words, command] : cases) EXPECT_EQ(parsed(words).command, command);
}

TEST(CommandLineTest, OptionsOfAllCommandsStandAnywhere) {
  for (const auto& line : {parsed({"--json", "--socket", "/s", "kv", "stat", "k"}),
                           parsed({"kv", "stat", "k", "--socket", "/s", "--json"})}) {
    EXPECT_TRUE(line.json);
    EXPECT_EQ(line.socket, "/s");
    EXPECT_EQ(line.key, "k");
  }
}

TEST(CommandLineTest, RunTakesBindingsAndOptions) {
  const auto line = parsed({"run", "-", "a=1", "b=@f", "--repeat", "5", "--profile", "--deadline",
                            "2s", "--tag", "7", "c=key:k", "--priority", "-3", "--tenant", "t"});
  EXPECT_EQ(line.file, "-");
  EXPECT_EQ(line.assignments, (std::vector<std::string>{"a=1", "b=@f", "c=key:k"}));
  EXPECT_EQ(line.repeat, 5U);
  EXPECT_TRUE(line.profile);
  EXPECT_EQ(line.deadline, "2s");
  EXPECT_EQ(line.tag, 7U);
  EXPECT_EQ(line.priority, -3);
  EXPECT_EQ(line.tenant, "t");
}

TEST(CommandLineTest, VersionsAreChosen) {
  EXPECT_EQ(parsed({"functions", "f", "--use", "2"}).version, 2U);
  EXPECT_EQ(parsed({"undeploy", "f", "--version", "3"}).version, 3U);
  EXPECT_EQ(parsed({"call", "f", "--version", "4"}).version, 4U);
  EXPECT_FALSE(parsed({"call", "f"}).version.has_value());
}

TEST(CommandLineTest, SuspensionWaitsHalfAMinuteUnlessItIsToldOtherwise) {
  EXPECT_EQ(parsed({"suspend", "GPU-1"}).within_s, 30U);
  EXPECT_FALSE(parsed({"suspend", "GPU-1"}).force);
  const auto line = parsed({"suspend", "GPU-1", "--within", "0", "--force"});
  EXPECT_EQ(line.target, "GPU-1");
  EXPECT_EQ(line.within_s, 0U);
  EXPECT_TRUE(line.force);
  EXPECT_EQ(parsed({"resume", "GPU-1"}).target, "GPU-1");
}

TEST(CommandLineTest, StoreCommandsTakeKeysAndFiles) {
  const auto put = parsed({"kv", "put", "key", "-"});
  EXPECT_EQ(put.key, "key");
  EXPECT_EQ(put.file, "-");
  EXPECT_EQ(parsed({"kv", "rm", "a", "b"}).keys, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parsed({"kv", "ls", "pre"}).prefix, "pre");
  const auto share = parsed({"kv", "share", "k", "--uid", "1000", "--write"});
  EXPECT_EQ(share.uid, 1000U);
  EXPECT_TRUE(share.write);
  EXPECT_EQ(parsed({"logs", "-f", "-n", "5"}).lines, 5U);
}

TEST(CommandLineTest, WrongUsageEndsWithTwoAndSaysWhy) {
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{}, "A subcommand is required"},
      {{"statsu"}, "there is no command 'statsu'; nearest: 'status'"},
      {{"kv", "gte"}, "there is no command 'gte'; nearest: 'get'"},
      {{"kv"}, "A subcommand is required"},
      {{"status", "--jsn"}, "The following argument was not expected: --jsn"},
      {{"kv", "get"}, "key is required"},
      {{"kick"}, "session is required"},
      {{"suspend"}, "device is required"},
      {{"suspend", "d", "--within", "3601"},
       "--within: '3601' is given, allowed is a whole number from 0 to 3600"},
      {{"suspend", "d", "--within", "1.5"},
       "--within: '1.5' is given, allowed is a whole number from 0 to 3600"},
      {{"suspend", "d", "--within", "-1"}, "--within"},
      {{"kv", "share", "k", "--uid", "x"},
       "--uid: 'x' is given, allowed is a whole number from 0 to 4294967295"},
      {{"run", "f", "--tag", "x"},
       "--tag: 'x' is given, allowed is a whole number from 0 to 18446744073709551615"},
      {{"run", "f", "--tag", "-1"}, "--tag: '-1' is given"},
      {{"logs", "-n", "x"},
       "--lines: 'x' is given, allowed is a whole number from 0 to 4294967295"},
      {{"run", "f", "--version", "2"}, "run: --version was not expected"},
      {{"status", "--version"}, "status: --version was not expected"},
      {{"kv", "ls", "--version"}, "kv: --version was not expected"},
      {{"deploy", "f", "--name", ""}, "--name: it is empty"},
      {{"functions", ""}, "function: it is empty"},
      {{"kv", "get", "k", ""}, "file: it is empty"},
      {{"status", "--socket", ""}, "--socket: it is empty"},
      {{"run", "f", "--deadline", ""}, "--deadline: it is empty"},
      {{"run"}, "file is required"},
      {{"run", "f", "--repeat", "0"}, "--repeat"},
      {{"run", "f", "--repeat", "x"}, "--repeat"},
      {{"run", "f", "--priority", "101"}, "--priority"},
      {{"functions", "f", "--use", "-1"}, "--use"},
      {{"functions", "f", "--use", "0"}, "--use"},
      {{"call", "f", "--version", "0"}, "--version"},
      {{"undeploy", "f", "--version", "4294967296"}, "--version"},
      {{"run", "f", "--repeat", "10000001"}, "--repeat"},
      {{"functions", "--use", "1"}, "functions --use: give the function's name"},
      {{"kv", "share", "k"}, "kv share: give --uid N or --everyone"},
      {{"kv", "share", "k", "--uid", "1", "--everyone"}, "excludes"},
      {{"kv", "share", "k", "--everyone", "--write", "--revoke"}, "excludes"},
      {{"completion", "zsh"}, "zsh not in"},
      {{"status", "extra"}, "not expected: extra"}};
  for (const auto& [words, text] : cases) {
    const auto [exit, message] = refused(words);
    EXPECT_EQ(exit, kExitUsage) << text;
    EXPECT_NE(message.find(text), std::string::npos) << message;
    EXPECT_TRUE(message.starts_with("kaasctl: ")) << message;
  }
}

TEST(CommandLineTest, WrongUsageIsJsonWhereJsonIsWanted) {
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{"--json"}, "A subcommand is required"},
      {{"statsu", "--json"}, "there is no command 'statsu'"},
      {{"--json", "kv", "share", "k"}, "kv share: give --uid N or --everyone"},
      {{"logs", "-n", "x", "--json"}, "--lines: 'x' is given"},
      {{"run", "f", "--version", "2", "--json"}, "run: --version was not expected"},
      {{"kv", "get", "k", "--json"}, "kv get --json: give a file"}};
  for (const auto& [words, text] : cases) {
    const auto [exit, message] = refused(words);
    EXPECT_EQ(exit, kExitUsage);
    const auto object = parse_answer(message);
    ASSERT_TRUE(object.has_value()) << message;
    const Json& error = object_at(*object, "error");
    EXPECT_EQ(text_at(error, "code"), "InvalidArgument");
    EXPECT_TRUE(text_at(error, "message").starts_with(text)) << message;
  }
}

TEST(CommandLineTest, HelpAndVersionAreNoFailure) {
  for (const std::vector<const char*>& words :
       {std::vector<const char*>{"--help"}, {"--version"}, {"kv", "put", "--help"}}) {
    testing::internal::CaptureStdout();
    EXPECT_EQ(parse(words).exit, kExitDone);
    EXPECT_NE(testing::internal::GetCapturedStdout(), "");
  }
}

bool holds(const std::vector<std::string>& words, const char* word) {
  return std::count(words.begin(), words.end(), word) == 1;
}

TEST(ExpectedAfter, NamesCommandsAndOptionsOfTheLevel) {
  const Expected start = expected_after({});
  EXPECT_TRUE(holds(start.words, "status"));
  EXPECT_TRUE(holds(start.words, "kv"));
  EXPECT_TRUE(holds(start.words, "--socket"));
  EXPECT_FALSE(holds(start.words, "put"));
  const Expected kv = expected_after({"--json", "kv"});
  EXPECT_TRUE(holds(kv.words, "put"));
  EXPECT_FALSE(holds(kv.words, "status"));
  const Expected undeploy = expected_after({"undeploy", "f"});
  EXPECT_EQ(undeploy.path, std::vector<std::string>{"undeploy"});
  EXPECT_EQ(undeploy.values, std::vector<std::string>{"f"});
  EXPECT_TRUE(holds(undeploy.words, "--version"));
  EXPECT_TRUE(holds(start.words, "--version"));
  EXPECT_FALSE(holds(expected_after({"run", "f"}).words, "--version"));
}

TEST(ExpectedAfter, KnowsWhichOptionsWantAValue) {
  EXPECT_TRUE(expected_after({"--socket"}).option_value);
  EXPECT_FALSE(expected_after({"--socket", "/s"}).option_value);
  EXPECT_FALSE(expected_after({"--json"}).option_value);
  EXPECT_TRUE(expected_after({"run", "f", "--repeat"}).option_value);
  EXPECT_TRUE(expected_after({"run", "f", "--socket"}).option_value);
}

TEST(ExpectedAfter, ValueThatIsNamedLikeACommandIsAValue) {
  const Expected expected = expected_after({"call", "edges", "status"});
  EXPECT_EQ(expected.path, std::vector<std::string>{"call"});
  EXPECT_EQ(expected.values, (std::vector<std::string>{"edges", "status"}));
}

}  // namespace
}  // namespace kaas
