// From the words NAME=VALUE of run and call to parameters, bindings, and the files around them.
// Threads: one.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tools/kaasctl/console.h"
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

// The files' bytes lie in objects with keys of their own (".kaasctl/SESSION/BUFFER") while a
// request runs; remove() ends that.
class FileObjects {
 public:
  FileObjects(Client& client, const std::vector<BoundFile>& files);

  // Stores the inputs and adds all files to `bindings`.
  Result<void> bind(Bindings& bindings, const Console& console);
  // Writes the outputs' files.
  Result<void> write_outputs(Console& console);
  // Removes the objects. Given the client of the runs, it waits for them; a client of its own does
  // not. Failures are not reported: what never came to be is gone as well.
  void remove(Client& client) const;

 private:
  [[nodiscard]] std::string key_of(const BoundFile& file) const;

  Client& client_;
  std::uint64_t session_;
  const std::vector<BoundFile>& files_;
};

}  // namespace kaas
