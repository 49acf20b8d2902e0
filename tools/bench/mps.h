// NVIDIA's MPS, started for a measurement: one server through which several processes share a GPU
// without time slices.
//
// Owns:    the control daemon, and a folder for its pipes and logs; both are gone afterwards.
//          An MPS that runs already is left alone: this one has pipes of its own.
// Threads: one.
#pragma once

#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

class Mps {
 public:
  // NotFound: it is not installed. Unavailable, with what it said: it does not start.
  static Result<Mps> start();
  Mps(Mps&& other) noexcept;
  Mps& operator=(Mps&& other) noexcept;
  ~Mps();

  // What a process that shall use it has in its environment.
  [[nodiscard]] std::vector<std::string> environment() const;
  // Unavailable: no server runs, so processes that were started use the GPU without it.
  Result<void> check_server() const;

 private:
  explicit Mps(std::string folder) noexcept : folder_(std::move(folder)) {}
  void stop() noexcept;
  std::string folder_;  // Empty: nothing to stop.
};

}  // namespace kaas
