#include "daemon/session/access_index.h"

#include <algorithm>
#include <bit>

#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

// Found runs are made unique whenever there are more than this, and twice those that are left.
constexpr std::size_t kFoundMin = 1024;

void make_unique(std::vector<std::uint64_t>& runs) {
  std::sort(runs.begin(), runs.end());
  runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
}

// Whether the access writes all of these bytes, of which it is known to touch some.
bool covers(std::uint64_t begin, std::uint64_t bytes, const SegmentAccess& other) {
  return begin <= other.offset && other.bytes <= bytes &&
         other.offset - begin <= bytes - other.bytes;
}

}  // namespace

// One call of find_conflicts().
class AccessIndex::Search {
 public:
  Search(const AccessIndex& index, std::vector<std::uint64_t>& runs) : index_(index), runs_(runs) {}

  std::size_t run(std::span<const SegmentAccess> accesses) {
    for (const SegmentAccess& access : accesses) {
      if (!find_recent(access)) find_ranges(access);
      if (steps_ >= kStepsMax) return kStepsMax;
      if (runs_.size() <= found_max_) continue;
      make_unique(runs_);
      found_max_ = std::max(kFoundMin, 2 * runs_.size());
    }
    return steps_;
  }

 private:
  // True: one of them writes all bytes of the access, so that those before it do not matter.
  bool find_recent(const SegmentAccess& access) {
    std::uint64_t covered_by = 0;
    const std::span<const Recent> recent = index_.recent();
    for (auto one = recent.rbegin(); one != recent.rend(); ++one) {
      if (one->run < covered_by) break;
      ++steps_;
      const SegmentAccess& earlier = one->access;
      if (earlier.segment != access.segment || !(earlier.writes || access.writes) ||
          !ranges_overlap(earlier.offset, earlier.bytes, access.offset, access.bytes)) {
        continue;
      }
      runs_.push_back(one->run);
      if (earlier.writes && covers(earlier.offset, earlier.bytes, access)) covered_by = one->run;
    }
    return covered_by != 0;
  }

  void find_ranges(const SegmentAccess& access) {
    if (index_.ranges_.empty() || access.bytes == 0) return;
    std::uint64_t covered_by = 0;
    for_each_overlap(access, [&](const Range& range, const Users& users) {
      if (!users.writers.empty() && covers(range.begin, range.bytes, access)) {
        covered_by = std::max(covered_by, users.writers.back());
      }
    });
    for_each_overlap(access, [&](const Range&, const Users& users) {
      append_from(covered_by, users.writers);
      if (access.writes) append_from(covered_by, users.readers);
    });
  }

  template <class Visit>
  void for_each_overlap(const SegmentAccess& access, Visit visit) {
    for (std::uint64_t sizes = index_.sizes_; sizes != 0; sizes &= sizes - 1) {
      const auto size_bits = static_cast<std::uint32_t>(std::countr_zero(sizes));
      const std::uint64_t reach = std::uint64_t{1} << size_bits;
      const std::uint64_t first = access.offset >= reach ? access.offset - reach + 1 : 0;
      for (auto one = index_.ranges_.lower_bound(Range{access.segment, size_bits, first, 0});
           one != index_.ranges_.end(); ++one) {
        const Range& range = one->first;
        if (range.segment != access.segment || range.size_bits != size_bits) break;
        const bool begins_behind =
            range.begin > access.offset && range.begin - access.offset >= access.bytes;
        if (begins_behind || ++steps_ >= kStepsMax) break;
        if (ranges_overlap(range.begin, range.bytes, access.offset, access.bytes)) {
          visit(range, one->second);
        }
      }
    }
  }

  void append_from(std::uint64_t first, const std::pmr::vector<std::uint64_t>& users) {
    for (auto run = users.rbegin(); run != users.rend() && *run >= first; ++run) {
      if (++steps_ >= kStepsMax) return;
      runs_.push_back(*run);
    }
  }

  const AccessIndex& index_;
  std::vector<std::uint64_t>& runs_;
  std::size_t found_max_ = kFoundMin;
  std::size_t steps_ = 0;
};

std::size_t AccessIndex::find_conflicts(std::span<const SegmentAccess> accesses,
                                        std::vector<std::uint64_t>& runs) const {
  return Search(*this, runs).run(accesses);
}

AccessIndex::Range AccessIndex::range_of(const SegmentAccess& access) {
  return {access.segment, static_cast<std::uint32_t>(std::bit_width(access.bytes - 1)),
          access.offset, access.bytes};
}

void AccessIndex::add(std::uint64_t run, std::span<const SegmentAccess> accesses) {
  if (recent().size() + accesses.size() > kRecentMax) {
    for (const Recent& one : recent()) insert(one.run, one.access);
    recent_.clear();
    recent_begin_ = 0;
  } else if (recent_begin_ > kRecentMax) {
    recent_.erase(recent_.begin(), recent_.begin() + static_cast<std::ptrdiff_t>(recent_begin_));
    recent_begin_ = 0;
  }
  for (const SegmentAccess& access : accesses) {
    if (accesses.size() <= kRecentMax) {
      recent_.push_back({run, access});
    } else {
      insert(run, access);
    }
  }
}

void AccessIndex::remove(std::uint64_t run, std::span<const SegmentAccess> accesses) {
  if (!recent_.empty() && recent().front().run <= run) return remove_recent(run);
  if (ranges_.empty()) return;
  for (const SegmentAccess& access : accesses) erase(run, access);
  if (ranges_.empty()) memory_.release();
}

// A run's accesses lie together, and most runs end in their order: then nothing is moved.
void AccessIndex::remove_recent(std::uint64_t run) {
  const std::size_t first = recent_begin_;
  while (recent_begin_ < recent_.size() && recent_[recent_begin_].run == run) ++recent_begin_;
  if (recent_begin_ == recent_.size()) {
    recent_.clear();
    recent_begin_ = 0;
  } else if (recent_begin_ == first) {
    std::erase_if(recent_, [run](const Recent& one) { return one.run == run; });
  }
}

void AccessIndex::insert(std::uint64_t run, const SegmentAccess& access) {
  if (access.bytes == 0) return;  // They touch nothing.
  const Range range = range_of(access);
  const auto [found, is_new] = ranges_.try_emplace(range, &memory_);
  if (is_new && count_of_size_[range.size_bits]++ == 0)
    sizes_ |= std::uint64_t{1} << range.size_bits;
  auto& users = access.writes ? found->second.writers : found->second.readers;
  if (users.empty() || users.back() != run) users.push_back(run);
}

// Nothing, where a run had named the same bytes twice.
void AccessIndex::erase(std::uint64_t run, const SegmentAccess& access) {
  if (access.bytes == 0) return;
  const Range range = range_of(access);
  const auto found = ranges_.find(range);
  if (found == ranges_.end()) return;
  auto& users = access.writes ? found->second.writers : found->second.readers;
  const auto own = std::lower_bound(users.begin(), users.end(), run);
  if (own != users.end() && *own == run) users.erase(own);
  if (!found->second.readers.empty() || !found->second.writers.empty()) return;
  ranges_.erase(found);
  if (--count_of_size_[range.size_bits] == 0) sizes_ &= ~(std::uint64_t{1} << range.size_bits);
}

}  // namespace kaas
