// What breaks the rules: clients that write anything into what they share with kaasd, and executors
// that report anything. kaasd must survive them, and nobody else may notice.
// Threads: one.
#pragma once

#include <cstdint>
#include <string>

#include "tools/sim/random.h"
#include "tools/sim/world.h"

namespace kaas {

class LyingClient {
 public:
  // `foreign_arena`: a segment of another session.
  LyingClient(SimClient& client, Random& random, std::uint32_t foreign_arena)
      : client_(client), random_(random), foreign_arena_(foreign_arena) {}

  // Does one bad thing; returns its name.
  std::string act();
  [[nodiscard]] SimClient& client() noexcept { return client_; }

 private:
  Bytes message();
  RequestSpec request();

  SimClient& client_;
  Random& random_;
  std::uint32_t foreign_arena_;
  std::uint64_t next_id_ = 1;
};

// Reports in the place of the executor's loop, which is never stepped. `dispatcher` says what there
// is to lie about. Returns what was reported.
std::string lie(SimExecutor& executor, const Dispatcher& dispatcher, Random& random);

}  // namespace kaas
