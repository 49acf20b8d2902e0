// Which kernels must follow which, from the bytes that they touch.
#include <algorithm>
#include <vector>

#include "daemon/plan/memory.h"

namespace kaas {
namespace {

using wire::Access;

// Beyond these a plan is run in the order of its list: a request could otherwise keep the daemon
// busy for seconds, or make a plan that fits no message.
constexpr std::size_t kStepsMax = std::size_t{1} << 22;
constexpr std::size_t kAfterEntriesMax = std::size_t{1} << 17;
// Longer lists of predecessors are not searched for those that follow from others.
constexpr std::size_t kReducedEntriesMax = 8;

class KernelOrder {
 public:
  KernelOrder(PlanTemplate& plan, const Cells& cells)
      : plan_(plan),
        cells_(cells),
        last_writer_(cells.count(), kNobody),
        readers_(cells.count()),
        listed_for_(plan.kernels.size(), kNobody) {}

  // False: too many steps or entries; what was set is incomplete.
  bool run() {
    for (std::size_t k = 0; k < plan_.kernels.size(); ++k) {
      if (!collect(k)) return false;
      reduce(k);
      entries_ += plan_.kernels[k].after.size();
      if (entries_ > kAfterEntriesMax || !record(k)) return false;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t kNobody = 0xFFFF'FFFFu;

  // Bytes that no kernel writes order nothing. In an allocation of several buffers one is written.
  [[nodiscard]] bool matters(const TemplateArgument& argument) const {
    const TemplateBuffer& buffer = plan_.buffers[argument.buffer];
    return buffer.written || buffer.shared;
  }

  void follow(std::size_t k, std::uint32_t earlier) {
    if (earlier == kNobody || listed_for_[earlier] == k) return;
    listed_for_[earlier] = static_cast<std::uint32_t>(k);
    plan_.kernels[k].after.push_back(static_cast<std::uint16_t>(earlier));
  }

  // Who wrote what k touches, and who has read since what k writes.
  bool collect(std::size_t k) {
    for (const TemplateArgument& argument : plan_.kernels[k].arguments) {
      if (!matters(argument)) continue;
      const Cells::Range range = cells_.of(argument.buffer);
      for (std::uint32_t cell = range.begin; cell < range.end; ++cell) {
        follow(k, last_writer_[cell]);
        if (argument.access != Access::In) {
          for (const std::uint16_t reader : readers_[cell]) follow(k, reader);
          steps_ += readers_[cell].size();
        }
        if (++steps_ > kStepsMax) return false;
      }
    }
    return true;
  }

  bool record(std::size_t k) {
    const auto number = static_cast<std::uint16_t>(k);
    const auto& arguments = plan_.kernels[k].arguments;
    for (const TemplateArgument& argument : arguments) {
      if (!matters(argument) || argument.access != Access::In) continue;
      const Cells::Range range = cells_.of(argument.buffer);
      for (std::uint32_t cell = range.begin; cell < range.end; ++cell) {
        auto& readers = readers_[cell];
        if (readers.empty() || readers.back() != number) readers.push_back(number);
        if (++steps_ > kStepsMax) return false;
      }
    }
    for (const TemplateArgument& argument : arguments) {
      if (argument.access == Access::In) continue;
      const Cells::Range range = cells_.of(argument.buffer);
      for (std::uint32_t cell = range.begin; cell < range.end; ++cell) {
        last_writer_[cell] = number;
        readers_[cell].clear();
        if (++steps_ > kStepsMax) return false;
      }
    }
    return true;
  }

  // Drops predecessors that are predecessors of another one.
  void reduce(std::size_t k) {
    auto& after = plan_.kernels[k].after;
    std::sort(after.begin(), after.end());
    if (after.size() < 2 || after.size() > kReducedEntriesMax) return;
    std::erase_if(after, [&, all = after](std::uint16_t early) {
      return std::any_of(all.begin(), all.end(), [&](std::uint16_t late) {
        const auto& implied = plan_.kernels[late].after;
        return std::binary_search(implied.begin(), implied.end(), early);
      });
    });
  }

  PlanTemplate& plan_;
  const Cells& cells_;
  std::vector<std::uint32_t> last_writer_;           // By cell.
  std::vector<std::vector<std::uint16_t>> readers_;  // By cell: since its last writer.
  std::vector<std::uint32_t> listed_for_;            // By kernel: in whose list it was put last.
  std::size_t steps_ = 0;
  std::size_t entries_ = 0;
};

}  // namespace

void order_kernels(PlanTemplate& plan, const Cells& cells) {
  if (KernelOrder(plan, cells).run()) return;
  for (std::size_t k = 0; k < plan.kernels.size(); ++k) {
    plan.kernels[k].after.clear();
    if (k > 0) plan.kernels[k].after.push_back(static_cast<std::uint16_t>(k - 1));
  }
}

}  // namespace kaas
