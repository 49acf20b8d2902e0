// A template bound to versions of library files: what executors load and runs name.
// Immutable but for being referenced. Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/flow/template.h"
#include "daemon/store/object_version.h"

namespace kaas {

// One version of one library file. A changed file is another LibraryVersion with another id.
struct LibraryVersion {
  std::uint32_t id = 0;  // kaasd's number, never reused.
  std::string path;      // Absolute, resolved.
  std::uint64_t file_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;
};

// Ids of plans that nobody refers to any more; the dispatcher tells executors and clears it.
using DroppedPlans = std::vector<std::uint32_t>;

struct PlanInstance {
  PlanInstance(std::uint32_t plan_id, std::shared_ptr<const PlanTemplate> compiled,
               std::shared_ptr<DroppedPlans> dropped_plans)
      : id(plan_id), plan(std::move(compiled)), dropped(std::move(dropped_plans)) {}
  ~PlanInstance() { dropped->push_back(id); }
  PlanInstance(const PlanInstance&) = delete;
  PlanInstance& operator=(const PlanInstance&) = delete;

  const std::uint32_t id;  // Never reused.
  const std::shared_ptr<const PlanTemplate> plan;
  const std::shared_ptr<DroppedPlans> dropped;
  std::vector<std::shared_ptr<const LibraryVersion>> libraries;  // Distinct.
  std::vector<std::uint16_t> kernel_library;  // Index in `libraries`, per kernel.
  bool stateful = false;  // An executor said that a kernel in it keeps state: not replayable.
  // Executors have said of all its kernels that they keep no state. False: at least of one unknown.
  bool stateless = false;
  bool failed = false;  // An executor refused it; a later request makes a new instance.
  // Versions of the template's own inline inputs, by buffer; made at the first run.
  std::vector<VersionRef> inline_versions;
};

}  // namespace kaas
