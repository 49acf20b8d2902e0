#include "daemon/executor/run/lane_bell.h"

#include <string>
#include <utility>

#include "schema/limits.h"

namespace kaas {

LaneBell::LaneBell(LaneBells& bells, std::shared_ptr<ExecutorSegment> segment) noexcept
    : bells_(&bells), segment_(std::move(segment)) {}

LaneBell::LaneBell(LaneBell&& other) noexcept
    : bells_(other.bells_), segment_(std::move(other.segment_)), in_vain_(other.in_vain_) {}

LaneBell& LaneBell::operator=(LaneBell&& other) noexcept {
  LaneBell dropped(std::move(other));
  std::swap(bells_, dropped.bells_);
  std::swap(segment_, dropped.segment_);
  std::swap(in_vain_, dropped.in_vain_);
  return *this;
}

LaneBell::~LaneBell() {
  if (segment_ != nullptr) bells_->ignore(segment_->bell()->descriptor());
}

Result<LaneBell> LaneBell::create(LaneBells& bells, std::uint32_t lane,
                                  std::shared_ptr<ExecutorSegment> segment) {
  if (segment->bell() == nullptr) {
    return Status{StatusCode::InvalidArgument, "bell_segment of a lane is segment " +
                                                   std::to_string(segment->terms().segment) +
                                                   ", which is no bell"};
  }
  KAAS_RETURN_IF_ERROR(bells.listen(lane, segment->bell()->descriptor()));
  return LaneBell(bells, std::move(segment));
}

bool LaneBell::rang() noexcept {
  if (segment_ == nullptr) return true;
  if (!segment_->bell()->clear()) {
    *this = LaneBell();
    return true;
  }
  return ++in_vain_ <= kLaneRingsInVainMax;
}

}  // namespace kaas
