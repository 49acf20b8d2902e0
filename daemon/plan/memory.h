// The parts of compile() that reason about bytes: which buffers are the same memory, what has to be
// loaded, and which kernels must follow which. Each fills its fields of the template, in this
// order. Internal to plan. Threads: pure functions of the template they are given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "daemon/flow/template.h"
#include "schema/ipc/result.h"

namespace kaas {

// Whether two places are in one object, so that offsets in them compare.
[[nodiscard]] bool same_object(const Place& a, const Place& b);

// Where a buffer's first byte lies in its object.
[[nodiscard]] inline std::uint64_t object_position(const Place& place, std::uint64_t offset) {
  return place.where == wire::Where::Ipc ? place.ipc_base_offset + offset : offset;
}

// Needs `used`, `object`, `written` of the buffers. Sets allocations, the buffers' places in them
// and the sums over them.
void assign_allocations(PlanTemplate& plan);

// Bytes of allocations, cut where any buffer begins or ends: what happens to one byte of a cell
// happens to all. Cells of all allocations are numbered through.
class Cells {
 public:
  explicit Cells(const PlanTemplate& plan);

  struct Range {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  // Of a used buffer.
  [[nodiscard]] Range of(std::size_t buffer) const { return ranges_[buffer]; }
  [[nodiscard]] std::uint32_t count() const { return count_; }

 private:
  std::uint32_t count_ = 0;
  std::vector<Range> ranges_;
};

// Sets loads, the buffers' `reads`, and `idempotent`. Needs stores.
void find_loads(PlanTemplate& plan, const Cells& cells);

// Sets `after` of the kernels: byte ranges of one iteration in the order of the list. Where that
// would take too long or too many entries, each kernel simply follows the one before.
void order_kernels(PlanTemplate& plan, const Cells& cells);

}  // namespace kaas
