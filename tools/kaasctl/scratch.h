// What lies in the daemon only for the time of a run or call.
// Threads: one.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <string>

#include "tools/kaasctl/bindings.h"
#include "tools/kaasctl/console.h"

namespace kaas {

// The bytes of files lie in objects with keys of their own (".kaasctl/SESSION/BUFFER"), a request
// with parameters in a function (".kaasctl/SESSION"). remove() ends that.
class Scratch {
 public:
  // Both must outlive this.
  Scratch(Client& client, const RunArguments& arguments);

  // Stores the files that are inputs, and says in `bindings` where all the buffers are.
  Result<void> bind(Bindings& bindings, const Console& console);
  // Makes the request from `file` a function. Returns its name.
  Result<std::string> deploy(const Request& request, const std::string& file);
  // Writes the outputs' files.
  Result<void> write_outputs(Console& console);

  // Nothing is there that remove() would have to remove.
  [[nodiscard]] bool empty() const;
  // Given the client of the runs, it waits for them; a client of its own does not. Failures are not
  // reported: what never came to be is gone as well.
  void remove(Client& client) const;

  // `status` with the names of the files where the daemon said those of the objects and the
  // function, which the user does not know.
  [[nodiscard]] Status in_words_of_user(Status status) const;

 private:
  [[nodiscard]] std::string key_of(const BoundFile& file) const;

  Client& client_;
  const RunArguments& arguments_;
  std::string function_;  // Also the beginning of the keys.
  std::string request_file_;
  std::uint32_t version_ = 0;
  bool may_be_deployed_ = false;
};

}  // namespace kaas
