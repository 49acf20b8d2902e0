#include "daemon/plan/memory.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace kaas {
namespace {

using wire::Access;
using wire::Where;

// A shared allocation begins where its first byte's object offset is a multiple of this, so that
// every buffer in it is aligned in device memory as it is in its object.
constexpr std::uint64_t kAlignment = 256;

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

int compare_objects(const Place& a, const Place& b) {
  if (a.where != b.where) return a.where < b.where ? -1 : 1;
  if (a.where == Where::Store) return a.key.compare(b.key);
  if (a.where == Where::Segment) {
    return a.segment == b.segment ? 0 : a.segment < b.segment ? -1 : 1;
  }
  if (a.ipc_handle == b.ipc_handle) return 0;
  return a.ipc_handle < b.ipc_handle ? -1 : 1;
}

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Extent extent_of(const TemplateBuffer& buffer) {
  const std::uint64_t begin = object_position(buffer.place, buffer.object_offset);
  return {begin, begin + buffer.bytes};
}

// Joins the buffers of one object that must share memory: chains of overlaps in which one of each
// two is written. Sets group[b] to one member's number for all members of a chain; buffers that
// join nobody keep their own.
class ObjectGroups {
 public:
  ObjectGroups(const PlanTemplate& plan, std::vector<std::uint32_t>& group)
      : plan_(plan), group_(group) {}

  // `members`: buffers of one object, ascending by where they begin.
  void join(const std::vector<std::uint32_t>& members) {
    runs_.clear();
    for (const std::uint32_t member : members) {
      if (plan_.buffers[member].written) add_written(member);
    }
    // Runs are joined from left to right, each with its right neighbour; next_[r] leads to the last
    // one of r's chain.
    next_.resize(runs_.size());
    std::iota(next_.begin(), next_.end(), 0u);
    for (const std::uint32_t member : members) {
      if (!plan_.buffers[member].written) add_read(member);
    }
    for (const std::uint32_t member : members) {
      if (run_of_[member] != kNone) group_[member] = runs_[last(run_of_[member])].first;
    }
  }

  void resize(std::size_t buffers) { run_of_.assign(buffers, kNone); }

 private:
  struct Run {
    Extent extent;
    std::uint32_t first = 0;  // The buffer that began it: the group's number.
  };

  void add_written(std::uint32_t member) {
    const Extent extent = extent_of(plan_.buffers[member]);
    if (runs_.empty() || runs_.back().extent.end <= extent.begin) {
      runs_.push_back({extent, member});
    }
    Extent& run = runs_.back().extent;
    run.end = std::max(run.end, extent.end);
    run_of_[member] = static_cast<std::uint32_t>(runs_.size() - 1);
  }

  void add_read(std::uint32_t member) {
    const Extent extent = extent_of(plan_.buffers[member]);
    const auto run = std::partition_point(
        runs_.begin(), runs_.end(), [&](const Run& r) { return r.extent.end <= extent.begin; });
    if (run == runs_.end() || run->extent.begin >= extent.end) return;
    const auto first = static_cast<std::uint32_t>(run - runs_.begin());
    run_of_[member] = first;
    for (std::uint32_t r = last(first);
         r + 1 < runs_.size() && runs_[r + 1].extent.begin < extent.end; r = last(first)) {
      next_[r] = r + 1;
    }
  }

  std::uint32_t last(std::uint32_t run) {
    while (next_[run] != run) {
      next_[run] = next_[next_[run]];
      run = next_[run];
    }
    return run;
  }

  const PlanTemplate& plan_;
  std::vector<std::uint32_t>& group_;
  std::vector<Run> runs_;
  std::vector<std::uint32_t> next_;
  std::vector<std::uint32_t> run_of_;  // By buffer.
};

std::vector<std::uint32_t> group_buffers(const PlanTemplate& plan) {
  std::vector<std::uint32_t> group(plan.buffers.size());
  std::iota(group.begin(), group.end(), 0u);
  std::vector<std::uint32_t> sorted;
  for (std::uint32_t b = 0; b < plan.buffers.size(); ++b) {
    const TemplateBuffer& buffer = plan.buffers[b];
    if (buffer.used && buffer.object && buffer.place.where != Where::Inline) sorted.push_back(b);
  }
  std::sort(sorted.begin(), sorted.end(), [&](std::uint32_t a, std::uint32_t b) {
    const TemplateBuffer& left = plan.buffers[a];
    const TemplateBuffer& right = plan.buffers[b];
    const int order = compare_objects(left.place, right.place);
    if (order != 0) return order < 0;
    return std::pair(extent_of(left).begin, a) < std::pair(extent_of(right).begin, b);
  });
  ObjectGroups groups(plan, group);
  groups.resize(plan.buffers.size());
  std::vector<std::uint32_t> members;
  for (std::size_t n = 0; n < sorted.size(); ++n) {
    members.push_back(sorted[n]);
    const bool is_last =
        n + 1 == sorted.size() ||
        compare_objects(plan.buffers[sorted[n]].place, plan.buffers[sorted[n + 1]].place) != 0;
    if (!is_last) continue;
    if (members.size() > 1) groups.join(members);
    members.clear();
  }
  return group;
}

}  // namespace

bool same_object(const Place& a, const Place& b) {
  return a.where != Where::Inline && compare_objects(a, b) == 0;
}

void assign_allocations(PlanTemplate& plan) {
  const std::vector<std::uint32_t> group = group_buffers(plan);
  std::vector<Extent> extents(plan.buffers.size(), {std::numeric_limits<std::uint64_t>::max(), 0});
  std::vector<std::uint32_t> sizes(plan.buffers.size(), 0);
  for (std::size_t b = 0; b < plan.buffers.size(); ++b) {
    if (!plan.buffers[b].used) continue;
    const Extent extent = extent_of(plan.buffers[b]);
    extents[group[b]].begin = std::min(extents[group[b]].begin, extent.begin);
    extents[group[b]].end = std::max(extents[group[b]].end, extent.end);
    ++sizes[group[b]];
  }
  std::vector<std::uint32_t> allocation_of(plan.buffers.size(), kNone);
  for (std::size_t b = 0; b < plan.buffers.size(); ++b) {
    TemplateBuffer& buffer = plan.buffers[b];
    if (!buffer.used) continue;
    buffer.shared = sizes[group[b]] > 1;
    Extent extent = extents[group[b]];
    if (buffer.shared) extent.begin -= extent.begin % kAlignment;
    std::uint32_t& allocation = allocation_of[group[b]];
    if (allocation == kNone) {
      allocation = static_cast<std::uint32_t>(plan.allocations.size());
      plan.allocations.push_back(extent.end - extent.begin);
      plan.working_set_bytes += plan.allocations.back();
    }
    buffer.allocation = static_cast<std::uint16_t>(allocation);
    buffer.allocation_offset = extent_of(buffer).begin - extent.begin;
    plan.has_shared_allocations |= buffer.shared;
  }
}

Cells::Cells(const PlanTemplate& plan) : ranges_(plan.buffers.size()) {
  // (allocation, offset) of every begin and end, sorted; a cell begins at each but the last of its
  // allocation, which keeps a number of its own that nobody uses.
  using Cut = std::pair<std::uint16_t, std::uint64_t>;
  std::vector<Cut> cuts;
  for (const TemplateBuffer& buffer : plan.buffers) {
    if (!buffer.used) continue;
    cuts.emplace_back(buffer.allocation, buffer.allocation_offset);
    cuts.emplace_back(buffer.allocation, buffer.allocation_offset + buffer.bytes);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  const auto number = [&](std::uint16_t allocation, std::uint64_t offset) {
    const auto cut = std::lower_bound(cuts.begin(), cuts.end(), Cut(allocation, offset));
    return static_cast<std::uint32_t>(cut - cuts.begin());
  };
  for (std::size_t b = 0; b < plan.buffers.size(); ++b) {
    const TemplateBuffer& buffer = plan.buffers[b];
    if (!buffer.used) continue;
    ranges_[b] = {number(buffer.allocation, buffer.allocation_offset),
                  number(buffer.allocation, buffer.allocation_offset + buffer.bytes)};
  }
  count_ = static_cast<std::uint32_t>(cuts.size());
}

}  // namespace kaas
