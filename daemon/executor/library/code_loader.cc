#include "daemon/executor/library/code_loader.h"

#include <algorithm>
#include <new>
#include <utility>

namespace kaas {
namespace {

Result<std::shared_ptr<OpenedLibrary>> open_library(const SeenFile& file, LibraryOpener& opener) {
  try {
    return opener.open(file);
  } catch (const std::bad_alloc&) {
    return Status{StatusCode::ResourceExhausted, "no memory to load a library"};
  }
}

Result<LoadedKernel> load_kernel(const std::shared_ptr<OpenedLibrary>& library,
                                 const std::string& name, Device& device) {
  try {
    LoadedKernel kernel;
    kernel.library = library;
    KAAS_ASSIGN_OR_RETURN(kernel.entry, library->find(name, kernel.first_use));
    kernel.function = device.load(*kernel.entry);
    return kernel;
  } catch (const std::bad_alloc&) {
    return Status{StatusCode::ResourceExhausted, "no memory to load a kernel"};
  }
}

}  // namespace

void run_job(LoadJob& job, LibraryOpener& opener, Device& device) {
  CodeLibrary& library = *job.library;
  device.enter_thread();
  if (job.opens) library.opened = open_library(library.file, opener);
  for (const std::string& name : job.kernels) {
    if (!*library.opened) {
      job.loaded.emplace_back(library.opened->error());
      continue;
    }
    // Code of the library has run meanwhile.
    device.enter_thread();
    job.loaded.push_back(load_kernel(**library.opened, name, device));
  }
}

CodeLoader::CodeLoader(LibraryOpener& opener, Device& device, std::function<void()> wake)
    : opener_(opener), device_(device), wake_(std::move(wake)) {
  for (std::uint32_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { run(); });
}

CodeLoader::~CodeLoader() {
  // Destroyed without the lock: what they refer to may be closed by it.
  std::deque<std::unique_ptr<LoadJob>> forgotten;
  {
    const std::lock_guard lock(mutex_);
    forgotten.swap(waiting_);
  }
  forgotten.clear();
  while (take_finished() != nullptr) {
  }
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  // What ended last is closed here.
  while (take_finished() != nullptr) {
  }
  device_.enter_thread();
  const auto call = device_.library_call();
  closing_.clear();
}

void CodeLoader::add(std::unique_ptr<LoadJob> job) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  changed_.notify_one();
}

std::unique_ptr<LoadJob> CodeLoader::take_finished() {
  if (!has_finished()) return nullptr;
  const std::lock_guard lock(mutex_);
  std::unique_ptr<LoadJob> first = std::move(finished_.front());
  finished_.pop_front();
  finished_count_.fetch_sub(1, std::memory_order_relaxed);
  return first;
}

bool CodeLoader::is_loading() {
  const std::lock_guard lock(mutex_);
  return !busy_.empty();
}

std::unique_ptr<LoadJob> CodeLoader::next_job() {
  const auto next = std::find_if(waiting_.begin(), waiting_.end(), [this](const auto& job) {
    return std::find(busy_.begin(), busy_.end(), job->library.get()) == busy_.end();
  });
  if (next == waiting_.end()) return nullptr;
  std::unique_ptr<LoadJob> job = std::move(*next);
  waiting_.erase(next);
  return job;
}

void CodeLoader::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!closing_.empty()) {
      std::shared_ptr<OpenedLibrary> library = std::move(closing_.front());
      closing_.pop_front();
      lock.unlock();
      device_.enter_thread();
      {
        const auto call = device_.library_call();  // For its close hook.
        library.reset();
      }
      lock.lock();
      continue;
    }
    if (ending_) return;
    std::unique_ptr<LoadJob> job = next_job();
    if (job == nullptr) {
      changed_.wait(lock);
      continue;
    }
    busy_.push_back(job->library.get());
    lock.unlock();
    do_job(*job);
    lock.lock();
    std::erase(busy_, job->library.get());
    finished_.push_back(std::move(job));
    finished_count_.fetch_add(1, std::memory_order_release);
    // The next job of this library may have waited for this one.
    changed_.notify_all();
    lock.unlock();
    if (wake_) wake_();
    lock.lock();
  }
}

void CodeLoader::do_job(LoadJob& job) {
  run_job(job, opener_, device_);
  auto& opened = job.library->opened;
  if (job.opens && *opened) {
    auto shared = closed_here(**opened);
    for (auto& kernel : job.loaded) {
      if (kernel) kernel->library = shared;
    }
    *opened = std::move(shared);
  }
}

std::shared_ptr<OpenedLibrary> CodeLoader::closed_here(std::shared_ptr<OpenedLibrary> library) {
  OpenedLibrary* raw = library.get();
  return {raw,
          [this, kept = std::move(library)](OpenedLibrary*) mutable { close(std::move(kept)); }};
}

void CodeLoader::close(std::shared_ptr<OpenedLibrary> library) {
  {
    const std::lock_guard lock(mutex_);
    closing_.push_back(std::move(library));
  }
  changed_.notify_one();
}

}  // namespace kaas
