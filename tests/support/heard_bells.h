// Bells of lanes as an executor hears them that is no process: whoever plays its sleep asks.
// Threads: one.
#pragma once

#include <poll.h>

#include <map>
#include <vector>

#include "daemon/executor/run/lane_bell.h"

namespace kaas {

class HeardBells final : public LaneBells {
 public:
  Result<void> listen(std::uint32_t lane, int descriptor) override {
    if (refuse) return Status{StatusCode::ResourceExhausted, "no bell is heard"};
    heard_.emplace(descriptor, lane);
    return {};
  }
  void ignore(int descriptor) noexcept override { heard_.erase(descriptor); }

  // The lanes whose bells ring now, or whose clients have closed them.
  [[nodiscard]] std::vector<std::uint32_t> ringing() const {
    std::vector<std::uint32_t> lanes;
    for (const auto& [descriptor, lane] : heard_) {
      pollfd bell{descriptor, POLLIN, 0};
      if (::poll(&bell, 1, 0) > 0) lanes.push_back(lane);
    }
    return lanes;
  }
  [[nodiscard]] std::size_t size() const noexcept { return heard_.size(); }

  bool refuse = false;

 private:
  std::map<int, std::uint32_t> heard_;
};

}  // namespace kaas
