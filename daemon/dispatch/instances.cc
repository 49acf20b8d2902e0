#include "daemon/dispatch/instances.h"

#include <sys/stat.h>

#include <algorithm>

namespace kaas {

Result<std::shared_ptr<PlanInstance>> Instances::current(const CompiledRequest& compiled,
                                                         std::uint32_t uid) {
  const Key key{compiled.plan.get(), uid};
  if (const auto found = entries_.find(key); found != entries_.end()) {
    const auto& instance = found->second->instance;
    const auto& used = instance->libraries;
    if (!instance->failed && std::all_of(used.begin(), used.end(),
                                         [](const auto& library) { return unchanged(*library); })) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return instance;
    }
    recent_.erase(found->second);
    entries_.erase(found);
  }
  KAAS_ASSIGN_OR_RETURN(auto instance, create(compiled.plan, uid));
  recent_.push_front({key, compiled, instance});
  entries_[key] = recent_.begin();
  while (recent_.size() > entries_max_) {
    entries_.erase(recent_.back().key);
    recent_.pop_back();
  }
  return instance;
}

Result<std::shared_ptr<PlanInstance>> Instances::create(std::shared_ptr<const PlanTemplate> plan,
                                                        std::uint32_t uid) {
  auto instance = std::make_shared<PlanInstance>(next_plan_++, std::move(plan), dropped_);
  std::unordered_map<std::string, std::uint16_t> known;
  for (const TemplateKernel& kernel : instance->plan->kernels) {
    auto [found, is_new] =
        known.try_emplace(kernel.library, static_cast<std::uint16_t>(instance->libraries.size()));
    if (is_new) {
      KAAS_ASSIGN_OR_RETURN(auto version, library(kernel.library, uid));
      instance->libraries.push_back(std::move(version));
    }
    instance->kernel_library.push_back(found->second);
  }
  return instance;
}

std::shared_ptr<PlanInstance> Instances::derive(const PlanInstance& instance,
                                                std::shared_ptr<const PlanTemplate> plan) {
  auto derived = std::make_shared<PlanInstance>(next_plan_++, std::move(plan), dropped_);
  derived->libraries = instance.libraries;
  derived->kernel_library = instance.kernel_library;
  derived->stateful = instance.stateful;
  derived->stateless = instance.stateless;
  return derived;
}

Result<std::shared_ptr<const LibraryVersion>> Instances::library(const std::string& name,
                                                                 std::uint32_t uid) {
  LibraryRules rules = rules_;
  rules.operators_only =
      std::find(rules.joined.begin(), rules.joined.end(), uid) != rules.joined.end();
  if (rules.operators_only) {
    rules.owners.clear();
  } else if (rules.owners.empty()) {
    rules.owners = {uid};
  }
  KAAS_ASSIGN_OR_RETURN(const ResolvedLibrary file, resolve_library(name, rules));
  for (const auto& [id, library] : libraries_) {
    const LibraryVersion& known = *library.version;
    if (known.path == file.path && known.file_bytes == file.bytes &&
        known.mtime_ns == file.mtime_ns && known.inode == file.inode &&
        known.device == file.device) {
      return library.version;
    }
  }
  auto version = std::make_shared<LibraryVersion>();
  version->id = next_library_++;
  version->path = file.path;
  version->file_bytes = file.bytes;
  version->mtime_ns = file.mtime_ns;
  version->inode = file.inode;
  version->device = file.device;
  libraries_[version->id].version = version;
  libraries_[version->id].uid = uid;
  return std::shared_ptr<const LibraryVersion>(std::move(version));
}

bool Instances::unchanged(const LibraryVersion& version) {
  struct stat now {};
  if (::stat(version.path.c_str(), &now) != 0) return false;
  const std::int64_t mtime_ns =
      std::int64_t{now.st_mtim.tv_sec} * 1'000'000'000 + now.st_mtim.tv_nsec;
  return static_cast<std::uint64_t>(now.st_size) == version.file_bytes &&
         mtime_ns == version.mtime_ns && now.st_ino == version.inode &&
         now.st_dev == version.device;
}

void Instances::forget_plan(std::uint32_t plan) {
  for (auto entry = recent_.begin(); entry != recent_.end(); ++entry) {
    if (entry->instance->id != plan) continue;
    entry->instance->failed = true;
    entries_.erase(entry->key);
    recent_.erase(entry);
    return;
  }
}

void Instances::forget_library(std::uint32_t library) {
  libraries_.erase(library);
}

std::vector<std::uint32_t> Instances::collect_libraries() {
  std::vector<std::uint32_t> gone;
  for (auto library = libraries_.begin(); library != libraries_.end();) {
    if (library->second.version.use_count() == 1 && !unchanged(*library->second.version)) {
      gone.push_back(library->first);
      library = libraries_.erase(library);
    } else {
      ++library;
    }
  }
  return gone;
}

void Instances::set_rules(LibraryRules rules) {
  rules_ = std::move(rules);
}

}  // namespace kaas
