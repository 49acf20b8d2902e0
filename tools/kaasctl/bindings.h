// From the words NAME=VALUE of run and call to parameters, bindings, and the files around them.
// Threads: one.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "schema/ipc/result.h"
#include "tools/kaasctl/command_line.h"
#include "tools/kaasctl/text.h"

namespace kaas {

// What a request or function takes and gives, by buffer name.
struct Roles {
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
};

// A file on one side of a run.
struct BoundFile {
  std::string buffer;
  std::string input;   // Read before; empty: nothing.
  std::string output;  // Written afterwards; empty: nothing.
};

struct RunArguments {
  std::vector<Parameter> parameters;
  std::vector<std::pair<std::string, std::string>> keys;  // Buffer, key.
  std::vector<BoundFile> files;
};

// Sorts the words. "@FILE" is an input or an output as `roles` says.
// Fails: InvalidArgument: a word that is none; a buffer bound twice; a file for a buffer that is
//        not read or not written; "@FILE" for one that is both. These are wrong usage.
Result<RunArguments> sort_assignments(const std::vector<std::string>& words, const Roles& roles);

// Whether an output goes to standard output.
bool writes_standard_output(const RunArguments& arguments);

// Refuses two uses of one standard stream ("-"): of the command's own file and JSON, and of the
// files around the runs. Fails: InvalidArgument, which is wrong usage.
Result<void> check_streams(const CommandLine& line, const RunArguments& arguments);

}  // namespace kaas
