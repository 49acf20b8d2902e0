// The libraries and plans of an executor, from kaasd's word to a report.
//
// A plan's shape (memory, loads, stores) is there at once, so that runs of it can be accepted and
// keep their order. Its kernels may have to be loaded first: by a CodeLoader, and until then the
// plan is `loading` and its runs wait. Where all its kernels are known already, nothing waits.
// Threads: main thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/executor/device/device.h"
#include "daemon/executor/library/code_loader.h"
#include "daemon/executor/run/plan.h"
#include "daemon/executor/run/reports.h"
#include "daemon/executor/run/runner.h"

namespace kaas {

struct CodeParts {
  // Borrowed; all must outlive this.
  Device& device;
  LibraryOpener& opener;
  ExecutorReports& reports;
  ExecutorRunner& runner;
  CodeLoader* loader = nullptr;  // Null: everything is loaded at once, by the caller.
  std::uint64_t memory_limit_bytes = 0;
};

// A plan whose kernels are being found.
struct PendingPlan {
  std::vector<std::byte> item;  // The verified WorkItem of the plan, once jobs are waited for.
  PlanRef plan;
  struct Kernel {
    std::shared_ptr<CodeLibrary> library;  // Null: it is found, or there is no such library.
    std::string name;
  };
  std::vector<Kernel> missing;                // Of each kernel of the plan.
  std::vector<Result<LoadedKernel>> kernels;  // The same.
  std::size_t jobs = 0;                       // That it waits for.
};

class ExecutorCode {
 public:
  explicit ExecutorCode(const CodeParts& parts) : parts_(parts) {}

  // Each is answered by one report, after those of what it needs. `item` is the verified WorkItem
  // that `message` is part of.
  void load_library(const wire::LoadLibrary& message);
  void load_plan(const wire::LoadPlan& message, std::span<const std::byte> item);
  // What uses it, or waits for it, keeps it.
  void drop_library(std::uint32_t library) { libraries_.erase(library); }
  void drop_plan(std::uint32_t plan) { plans_.erase(plan); }

  // The plan, or why there is none.
  [[nodiscard]] const Result<PlanRef>& plan(std::uint32_t plan) const;
  // Gives back the blocks that idle frames keep. Returns whether there were any.
  bool release_blocks();

  // Takes in what was loaded. Returns whether anything was.
  bool advance();
  [[nodiscard]] bool has_finished() const noexcept {
    return parts_.loader != nullptr && parts_.loader->has_finished();
  }
  // Whether something is being loaded, which may never end.
  [[nodiscard]] bool is_loading() const {
    return parts_.loader != nullptr && parts_.loader->is_loading();
  }

 private:
  void start(std::unique_ptr<LoadJob> job);
  void finished(LoadJob& job);
  void report_library(const CodeLibrary& library);
  void look_up_kernels(const wire::LoadPlan& message, PendingPlan& pending) const;
  void load_missing(const std::shared_ptr<PendingPlan>& pending);
  static void take_kernels(const LoadJob& job, PendingPlan& pending);
  void complete(const wire::LoadPlan& message, PendingPlan& pending);

  CodeParts parts_;
  std::unordered_map<std::uint32_t, std::shared_ptr<CodeLibrary>> libraries_;
  std::unordered_map<std::uint32_t, Result<PlanRef>> plans_;
};

}  // namespace kaas
