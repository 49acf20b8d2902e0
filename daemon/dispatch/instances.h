// Templates bound to the library files of now: which plan an executor is to load for a template.
// A changed file on disk gives later requests a new instance; who holds the old one keeps it.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/flow/plan_instance.h"
#include "daemon/plan/library_path.h"
#include "schema/ipc/result.h"

namespace kaas {

class Instances {
 public:
  // One file version that executors have been or may be told of.
  struct Library {
    std::shared_ptr<const LibraryVersion> version;
    std::uint32_t uid = 0;             // Whose request named it first.
    std::string name;                  // Its own, as the executor reported it.
    std::vector<std::string> kernels;  // As the executor reported them.
    std::string error;                 // Why the executor could not load it.
    std::uint64_t loads = 0;
    bool is_good = false;  // An executor has loaded it.
  };

  Instances(LibraryRules rules, std::size_t entries_max)
      : rules_(std::move(rules)),
        entries_max_(entries_max),
        dropped_(std::make_shared<DroppedPlans>()) {}

  // The instance of a template with the library files as they are now, for sessions of `uid` (its
  // inline inputs lie in that uid's slabs). Fails as resolve_library does.
  Result<std::shared_ptr<PlanInstance>> current(const CompiledRequest& compiled, std::uint32_t uid);

  // A new instance, not remembered.
  Result<std::shared_ptr<PlanInstance>> create(std::shared_ptr<const PlanTemplate> plan,
                                               std::uint32_t uid);

  // A variant of an instance with another template of the same kernels and its library versions.
  std::shared_ptr<PlanInstance> derive(const PlanInstance& instance,
                                       std::shared_ptr<const PlanTemplate> plan);

  // An executor refused the plan: the next request makes a new instance.
  void forget_plan(std::uint32_t plan);
  // An executor could not load the library: the next request names it by a new id, so that a
  // mended cause is seen though the file is the same.
  void forget_library(std::uint32_t library);

  // Of plans that nobody holds any more. The caller empties it.
  [[nodiscard]] DroppedPlans& dropped() noexcept { return *dropped_; }
  [[nodiscard]] std::map<std::uint32_t, Library>& libraries() noexcept { return libraries_; }
  // Drops what only this object holds and whose files are gone from all plans. Returns their ids.
  std::vector<std::uint32_t> collect_libraries();
  void set_rules(LibraryRules rules);

 private:
  struct Key {
    const PlanTemplate* plan;
    std::uint32_t uid;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept {
      return std::hash<const void*>()(key.plan) * 31 + key.uid;
    }
  };
  struct Entry {
    Key key;
    CompiledRequest compiled;  // Keeps the template, so that its address stays its name.
    std::shared_ptr<PlanInstance> instance;
  };

  Result<std::shared_ptr<const LibraryVersion>> library(const std::string& name, std::uint32_t uid);
  [[nodiscard]] static bool unchanged(const LibraryVersion& version);

  LibraryRules rules_;
  std::size_t entries_max_;
  std::shared_ptr<DroppedPlans> dropped_;
  std::list<Entry> recent_;  // Most recently used first.
  std::unordered_map<Key, std::list<Entry>::iterator, KeyHash> entries_;
  std::map<std::uint32_t, Library> libraries_;
  std::uint32_t next_plan_ = 1;
  std::uint32_t next_library_ = 1;
};

}  // namespace kaas
