// A request as the simulation thinks of it: a few kernels over words. It can be made into a
// RequestSpec, and it can be computed by a plain loop.
// Threads: values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/sim/requests.h"

namespace kaas {

struct ProgramBuffer {
  enum class Where { Key, Arena, Inline, Temporary };
  Where where = Where::Key;
  std::uint64_t words = 0;
  std::string key;           // Key.
  std::uint64_t offset = 0;  // In words: Key, Arena.
  Words data;                // Inline inputs.
  bool zero_fill = false;
  bool resident = false;  // Key: as an output it asks to stay on the device.
};

struct ProgramKernel {
  enum class Kind { Fill, Copy, Add, AddOne, Fail };
  Kind kind = Kind::Fill;
  std::uint32_t value = 0;  // Fill.
  std::uint16_t a = 0;      // Copy, Add: read.
  std::uint16_t b = 0;      // Add: read.
  std::uint16_t out = 0;    // Written; AddOne: read and written.
};

struct Program {
  std::vector<ProgramBuffer> buffers;
  std::vector<ProgramKernel> kernels;
  std::uint64_t n_iter = 1;
  bool stateful = false;  // Its library says that it keeps state.

  // Whether the buffer's first use reads it.
  [[nodiscard]] bool reads(std::size_t buffer) const;
  [[nodiscard]] bool writes(std::size_t buffer) const;
  // A second execution gives the same.
  [[nodiscard]] bool replayable() const;
  [[nodiscard]] bool fails() const;
  // Computes it. `memory` has the words of each buffer, loaded where reads() says so.
  void compute(std::vector<Words>& memory) const;
  [[nodiscard]] RequestSpec to_request(std::uint32_t arena) const;
  // For people: "arena+448:64 = s1r0k2:64; fail; ".
  [[nodiscard]] std::string describe() const;
};

}  // namespace kaas
