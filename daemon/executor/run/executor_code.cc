#include "daemon/executor/run/executor_code.h"

#include <algorithm>
#include <new>
#include <utility>

#include "schema/ipc/messages.h"
#include "schema/limits.h"

namespace kaas {
namespace {

// Names by which kernels of one library are known; beyond it they are looked up again.
constexpr std::size_t kKnownNamesMax = 65'536;

const Result<PlanRef>& unknown_plan() {
  static const Result<PlanRef> kUnknown(Status{StatusCode::NotFound, "the plan is not loaded"});
  return kUnknown;
}

Status no_memory(const char* what) {
  return Status{StatusCode::ResourceExhausted, std::string("no memory to load a ") + what};
}

}  // namespace

const Result<PlanRef>& ExecutorCode::plan(std::uint32_t plan) const {
  const auto found = plans_.find(plan);
  return found == plans_.end() ? unknown_plan() : found->second;
}

bool ExecutorCode::release_blocks() {
  bool released = false;
  for (const auto& [id, plan] : plans_) {
    if (plan.has_value()) released = (*plan)->release_blocks() || released;
  }
  return released;
}

void ExecutorCode::start(std::unique_ptr<LoadJob> job) {
  if (parts_.loader != nullptr) return parts_.loader->add(std::move(job));
  run_job(*job, parts_.opener, parts_.device);
  finished(*job);
}

bool ExecutorCode::advance() {
  if (!has_finished()) return false;
  while (const auto job = parts_.loader->take_finished()) finished(*job);
  return true;
}

// --- Libraries -----------------------------------------------------------------------------------

void ExecutorCode::load_library(const wire::LoadLibrary& message) {
  auto library = std::make_shared<CodeLibrary>();
  library->number = message.library();
  library->file.path = view(message.path());
  library->file.file_bytes = message.file_bytes();
  library->file.mtime_ns = message.mtime_ns();
  library->file.inode = message.inode();
  libraries_.insert_or_assign(message.library(), library);
  auto job = std::make_unique<LoadJob>();
  job->library = std::move(library);
  job->opens = true;
  start(std::move(job));
}

void ExecutorCode::report_library(const CodeLibrary& library) {
  const Result<std::shared_ptr<OpenedLibrary>>& opened = *library.opened;
  LibraryReport report;
  report.library = library.number;
  if (opened) {
    report.name = (*opened)->name();
    report.stateful = (*opened)->stateful();
    report.kernels = (*opened)->kernel_names();
  }
  parts_.reports.library_loaded(report, opened ? nullptr : &opened.error());
}

// Of a device that is lost nothing is reported, as nothing that fails from then on says anything
// about what was asked for.
void ExecutorCode::finished(LoadJob& job) {
  CodeLibrary& library = *job.library;
  if (job.opens) {
    library.is_known = true;
    if (!parts_.device.lost()) report_library(library);
  }
  for (std::size_t i = 0; i < job.kernels.size(); ++i) {
    if (!job.loaded[i] || !job.loaded[i]->function) continue;
    if (library.kernels.size() >= kKnownNamesMax) library.kernels.clear();
    library.kernels.insert_or_assign(job.kernels[i], *job.loaded[i]).first->second.first_use =
        false;
  }
  if (job.plan == nullptr) return;
  PendingPlan& pending = *job.plan;
  take_kernels(job, pending);
  if (--pending.jobs != 0 || parts_.device.lost()) return;
  const auto* item = flatbuffers::GetRoot<wire::WorkItem>(pending.item.data());
  complete(*item->work_as_LoadPlan(), pending);
}

// --- Plans ---------------------------------------------------------------------------------------

void ExecutorCode::load_plan(const wire::LoadPlan& message, std::span<const std::byte> item) {
  Result<PlanRef> plan = no_memory("plan");
  try {
    plan = begin_plan(message, parts_.device, parts_.memory_limit_bytes);
    if (plan) {
      const auto pending = std::make_shared<PendingPlan>();
      pending->plan = *plan;
      look_up_kernels(message, *pending);
      const bool is_missing =
          std::any_of(pending->missing.begin(), pending->missing.end(),
                      [](const PendingPlan::Kernel& kernel) { return kernel.library != nullptr; });
      if (is_missing) pending->item.assign(item.begin(), item.end());
      plans_.insert_or_assign(message.plan(), plan);
      return is_missing ? load_missing(pending) : complete(message, *pending);
    }
  } catch (const std::bad_alloc&) {
    plan = no_memory("plan");
  }
  PlanReport report;
  report.plan = message.plan();
  parts_.reports.plan_loaded(report, &plan.error());
  plans_.insert_or_assign(message.plan(), std::move(plan));
}

// Takes what is known, and notes what is not.
void ExecutorCode::look_up_kernels(const wire::LoadPlan& message, PendingPlan& pending) const {
  for (const wire::PlanKernel* kernel : *message.kernels()) {
    const std::string name(view(kernel->kernel()).substr(0, kNameBytesMax));
    PendingPlan::Kernel missing;
    Result<LoadedKernel> found =
        Status{StatusCode::NotFound, "kernel '" + name + "': library number " +
                                         std::to_string(kernel->library()) + " is not loaded"};
    const auto library = libraries_.find(kernel->library());
    if (library != libraries_.end()) {
      const CodeLibrary& code = *library->second;
      const auto known = code.kernels.find(name);
      if (known != code.kernels.end()) {
        found = known->second;
      } else if (code.is_known && !*code.opened) {
        found = code.opened->error();
      } else {
        missing = {library->second, name};
      }
    }
    pending.missing.push_back(std::move(missing));
    pending.kernels.push_back(std::move(found));
  }
}

// One job for each library of which kernels are missing.
void ExecutorCode::load_missing(const std::shared_ptr<PendingPlan>& pending) {
  std::vector<std::unique_ptr<LoadJob>> jobs;
  for (const PendingPlan::Kernel& kernel : pending->missing) {
    if (kernel.library == nullptr) continue;
    auto job = std::find_if(jobs.begin(), jobs.end(),
                            [&](const auto& one) { return one->library == kernel.library; });
    if (job == jobs.end()) {
      job = jobs.insert(jobs.end(), std::make_unique<LoadJob>());
      (*job)->library = kernel.library;
      (*job)->plan = pending;
    }
    auto& names = (*job)->kernels;
    if (std::find(names.begin(), names.end(), kernel.name) == names.end()) {
      names.push_back(kernel.name);
    }
  }
  pending->plan->loading = true;
  pending->jobs = jobs.size();
  for (auto& job : jobs) start(std::move(job));
}

void ExecutorCode::take_kernels(const LoadJob& job, PendingPlan& pending) {
  std::vector<bool> is_taken(job.kernels.size(), false);
  for (std::size_t i = 0; i < pending.missing.size(); ++i) {
    if (pending.missing[i].library != job.library) continue;
    const auto name = std::find(job.kernels.begin(), job.kernels.end(), pending.missing[i].name);
    const auto index = static_cast<std::size_t>(name - job.kernels.begin());
    pending.kernels[i] = job.loaded[index];
    // The second kernel of that name in the plan is no first use.
    if (is_taken[index] && pending.kernels[i]) pending.kernels[i]->first_use = false;
    is_taken[index] = true;
  }
}

void ExecutorCode::complete(const wire::LoadPlan& message, PendingPlan& pending) {
  ExecutorPlan& plan = *pending.plan;
  Result<void> completed = no_memory("plan");
  try {
    completed = complete_plan(message, pending.plan, pending.kernels, parts_.device);
  } catch (const std::bad_alloc&) {
    // Refused with what `completed` says.
  }
  if (parts_.device.lost()) return;
  plan.loading = false;
  PlanReport report;
  report.plan = plan.id;
  if (completed) {
    report.working_set_bytes = plan.working_set_bytes;
    report.stateful = plan.stateful;
  }
  const Status* failure = completed ? nullptr : &completed.error();
  parts_.reports.plan_loaded(report, failure);
  // It may have been dropped meanwhile, and another one been given its number.
  const auto listed = plans_.find(plan.id);
  const bool is_listed =
      listed != plans_.end() && listed->second.has_value() && *listed->second == pending.plan;
  if (failure != nullptr) plan.failure = *failure;
  if (failure != nullptr && is_listed) listed->second = *failure;
  parts_.runner.plan_loaded(plan, failure);
}

}  // namespace kaas
