// Opens libraries, loads their kernels and closes them on threads of its own: a constructor or a
// hook of a library may take its time, and compiling its source takes seconds. Whoever needs one
// waits for it; nobody else does.
//
//   main thread   add(job) ─────────┐                        ┌──> take_finished()
//   loader                          └─> open, load kernels ──┘
//
// Jobs of one library are done in the order in which they were added, those of several side by
// side.
// Threads: functions by the main thread, but for run_job() and what `wake` is called from.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "daemon/executor/device/device.h"
#include "daemon/executor/library/opened_library.h"
#include "schema/ipc/result.h"

namespace kaas {

// A kernel that was found; plans can be made of it for as long as `library` is kept.
struct LoadedKernel {
  std::shared_ptr<OpenedLibrary> library;
  const KernelEntry* entry = nullptr;
  Result<DeviceFunction> function = DeviceFunction{};  // Or why the device can't run it.
  bool first_use = false;                              // Nobody asked for it before.
};

// A library that was asked for. Main thread, but for `opened`.
struct CodeLibrary {
  std::uint32_t number = 0;  // kaasd's.
  SeenFile file;
  bool is_known = false;  // Its first job is finished: `opened` is there, and stays as it is.
  std::optional<Result<std::shared_ptr<OpenedLibrary>>> opened;  // Set by the first job.
  std::unordered_map<std::string, LoadedKernel> kernels;  // By the names that plans have used.
};

struct PendingPlan;  // run/executor_code.h

// What is to be done for a library, and what came of it.
struct LoadJob {
  std::shared_ptr<CodeLibrary> library;
  bool opens = false;  // The library's first job.
  std::vector<std::string> kernels;
  std::vector<Result<LoadedKernel>> loaded;  // Of each kernel, or why there is none.
  std::shared_ptr<PendingPlan> plan;         // Who waits for it; only the main thread looks at it.
};

// Does the job on the calling thread.
void run_job(LoadJob& job, LibraryOpener& opener, Device& device);

class CodeLoader {
 public:
  static constexpr std::uint32_t kThreads = 4;

  // `opener` and `device` must outlive this, and this every library that it has opened. `wake` is
  // called by a loader thread that has finished something.
  CodeLoader(LibraryOpener& opener, Device& device, std::function<void()> wake);
  // Forgets the jobs that have not begun, and waits for those that have, and for libraries to be
  // closed.
  ~CodeLoader();
  CodeLoader(const CodeLoader&) = delete;
  CodeLoader& operator=(const CodeLoader&) = delete;

  void add(std::unique_ptr<LoadJob> job);
  // A job that is done; null: none is now.
  std::unique_ptr<LoadJob> take_finished();
  [[nodiscard]] bool has_finished() const noexcept {
    return finished_count_.load(std::memory_order_acquire) != 0;
  }
  // Whether a job is under way: it may never end.
  [[nodiscard]] bool is_loading();

 private:
  void run();
  void do_job(LoadJob& job);
  // The first job whose library no other thread works on.
  std::unique_ptr<LoadJob> next_job();
  // The same library; its last owner, on any thread, has it closed here.
  std::shared_ptr<OpenedLibrary> closed_here(std::shared_ptr<OpenedLibrary> library);
  void close(std::shared_ptr<OpenedLibrary> library);

  LibraryOpener& opener_;
  Device& device_;
  std::function<void()> wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Under mutex_.
  std::deque<std::unique_ptr<LoadJob>> waiting_;
  std::deque<std::shared_ptr<OpenedLibrary>> closing_;
  std::vector<const CodeLibrary*> busy_;
  std::deque<std::unique_ptr<LoadJob>> finished_;
  bool ending_ = false;

  std::atomic<std::size_t> finished_count_{0};  // Partner: has_finished.
  std::vector<std::thread> threads_;
};

}  // namespace kaas
