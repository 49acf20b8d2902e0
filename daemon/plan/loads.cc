// Which buffers are loaded: byte by byte, in the order in which kernels first touch them.
#include <algorithm>
#include <vector>

#include "daemon/plan/memory.h"

namespace kaas {
namespace {

using wire::Access;
using wire::Where;

// A set of cells, handled 64 at a time: a hostile request can make buffers of thousands of cells.
class CellSet {
 public:
  explicit CellSet(std::uint32_t count) : words_(count / 64 + 1, 0) {}

  void insert(Cells::Range range) {
    for_words(range, [](std::uint64_t& word, std::uint64_t mask) {
      word |= mask;
      return true;
    });
  }
  bool contains_all(Cells::Range range) {
    return for_words(range,
                     [](std::uint64_t word, std::uint64_t mask) { return (word & mask) == mask; });
  }
  bool contains_any(Cells::Range range) {
    return !for_words(range,
                      [](std::uint64_t word, std::uint64_t mask) { return (word & mask) == 0; });
  }

 private:
  // Calls each(word, mask of the range in it) while it returns true; returns what the last did.
  template <class Each>
  bool for_words(Cells::Range range, Each each) {
    for (std::uint32_t cell = range.begin; cell < range.end;) {
      const std::uint32_t end = std::min(range.end, (cell / 64 + 1) * 64);
      const std::uint64_t ones =
          end - cell == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (end - cell)) - 1;
      if (!each(words_[cell / 64], ones << (cell % 64))) return false;
      cell = end;
    }
    return true;
  }

  std::vector<std::uint64_t> words_;
};

class LoadFinder {
 public:
  LoadFinder(PlanTemplate& plan, const Cells& cells)
      : plan_(plan),
        cells_(cells),
        present_(cells.count()),
        loaded_(cells.count()),
        read_(plan.buffers.size(), false),
        written_(plan.buffers.size(), false) {}

  void run() {
    for (const TemplateKernel& kernel : plan_.kernels) {
      // Within a kernel, what it reads was there before what it writes.
      for (const TemplateArgument& argument : kernel.arguments) {
        if (argument.access == Access::In || argument.access == Access::InOut) {
          read(argument.buffer);
        }
      }
      for (const TemplateArgument& argument : kernel.arguments) {
        if (argument.access != Access::In) write(argument.buffer);
      }
    }
    if (plan_.until.has_value()) read(*plan_.until);
    for (const std::uint16_t b : plan_.stores) {
      const Where where = plan_.buffers[b].place.where;
      const bool in_place = where == Where::Segment || where == Where::Ipc;
      if (in_place && loaded_.contains_any(cells_.of(b))) plan_.idempotent = false;
    }
  }

 private:
  void read(std::uint16_t b) {
    if (read_[b] || written_[b]) return;
    read_[b] = true;
    if (present_.contains_all(cells_.of(b))) return;
    plan_.buffers[b].reads = true;
    plan_.loads.push_back(b);
    loaded_.insert(cells_.of(b));
    // Bytes that may have been filled with zeros do not excuse a buffer that insists on them.
    if (!plan_.buffers[b].zero_fill) present_.insert(cells_.of(b));
  }

  void write(std::uint16_t b) {
    if (written_[b]) return;
    written_[b] = true;
    present_.insert(cells_.of(b));
  }

  PlanTemplate& plan_;
  const Cells& cells_;
  CellSet present_;  // Written by a kernel or loaded whole.
  CellSet loaded_;
  std::vector<bool> read_;
  std::vector<bool> written_;
};

}  // namespace

void find_loads(PlanTemplate& plan, const Cells& cells) {
  LoadFinder(plan, cells).run();
}

}  // namespace kaas
