// One run on its way through the executor, and what it takes to execute it.
//
//   Waiting   ── the runs it waits for have ended ──> Ready
//   Ready     ── memory taken, steps built (main) ──> Running
//   Running   ── steps executed (any thread) ───────> Finished, reported and forgotten (main)
//
// A task that fails before Running goes straight to Finished.
//
// On an asynchronous device a task that must come after another one, but reads nothing on the host
// that the other one writes there, need not wait until that has ended: enqueued behind it, it
// follows it. It then ends after it, too, since both may write the same bytes of the host.
// Threads: main thread, but for what execute() is given while the task is Running.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/executor/cache/device_cache.h"
#include "daemon/executor/device/device.h"
#include "daemon/executor/run/counters.h"
#include "daemon/executor/run/plan.h"
#include "daemon/executor/run/reports.h"
#include "daemon/executor/run/segments.h"
#include "schema/ipc/clock.h"

namespace kaas {

// Bytes that are brought to device memory before the kernels run.
struct LoadStep {
  enum class Source : std::uint8_t { Zero, Mapped, Guarded, Device };
  Source source = Source::Zero;
  DeviceAddress to = 0;
  std::byte* staged = nullptr;  // Not null: through here, by the processor; `to` may be the same.
  bool moved = false;           // From there on by the program.
  std::uint64_t bytes = 0;
  const std::byte* mapped = nullptr;         // Mapped.
  const ExecutorSegment* segment = nullptr;  // Guarded.
  std::uint64_t offset = 0;                  // Guarded.
  DeviceAddress from = 0;                    // Device.
};

// Bytes that are taken from device memory after the kernels have run.
struct StoreStep {
  DeviceAddress from = 0;
  std::byte* staged = nullptr;  // Not null: through here, by the processor once all is idle.
  bool moved = false;           // To there by the program.
  std::uint64_t bytes = 0;
  DeviceAddress to = 0;         // Not 0: device memory of a client.
  std::byte* mapped = nullptr;  // Null, and no `to`: guarded.
  const ExecutorSegment* segment = nullptr;
  std::uint64_t offset = 0;
};

// A literal that a run gives another value.
struct RunLiteral {
  std::uint16_t kernel = 0;
  std::uint16_t literal = 0;
  std::uint64_t bits = 0;
  std::vector<std::byte> raw;
  std::optional<wire::LiteralType> type = std::nullopt;  // Nothing: the client did not tell it.
};

// What execute() works through. It refers to nothing that the main thread changes meanwhile.
struct RunBody {
  std::vector<ImportedEvent*> waits;    // Before the loads.
  std::vector<ImportedEvent*> records;  // After the stores.
  std::vector<LoadStep> loads;
  std::vector<StoreStep> stores;
  std::vector<Move> before;
  std::vector<Move> behind;
  KernelProgram program;
  std::unique_ptr<DeviceStream> stream;

  // Whether the processor reads host bytes in enqueue(), at once and not in the stream's order.
  [[nodiscard]] bool reads_while_enqueued() const noexcept;
};

// What a run is asked to do, besides its plan: the message, checked and copied.
struct RunTerms {
  std::uint32_t tenant = 0;
  bool profile = false;
  bool device_memory = false;  // Some of its bytes are in a client's device memory.
  bool background = false;     // It leaves part of the device to others.
  RunTag tag;
  std::vector<wire::Location> loads;
  std::vector<wire::Location> stores;
  std::vector<RunLiteral> literals;
  std::vector<std::uint32_t> wait_events;  // Segments.
  std::vector<std::uint32_t> record_events;
};

struct RunTask;

// What is asked for again and again in the same terms, as calls of lanes are. Tasks that have run
// it stay prepared for the next time.
struct RepeatedRun {
  RunTerms terms;
  PlanRef plan;
  std::vector<RunTask*> idle;   // Prepared, and not under way; the runner's.
  std::uint32_t under_way = 0;  // Runs; the runner's.
};

// Who hears of the end of runs that kaasd did not send one by one. Main thread.
class RunSink {
 public:
  virtual ~RunSink() = default;
  // Once for each; the task's failure and times are those of the run.
  virtual void run_ended(const RunTask& task) = 0;
};

struct RunTask : RunTerms {
  std::uint64_t run = 0;
  PlanRef plan;
  RunSink* sink = nullptr;          // Null: its report goes to kaasd.
  std::uint64_t ticket = 0;         // The sink's own.
  RepeatedRun* repeated = nullptr;  // Not null: this is one of its runs.
  // Its memory, steps and program are those of an earlier run of `repeated`, and may be given up as
  // long as it has not started; see ExecutorRunner::release_kept().
  bool kept = false;

  // What a later task expects of this one.
  enum class Expects : std::uint8_t {
    End,       // Waits until this one has ended.
    Enqueued,  // Waits until this one is enqueued, or has ended otherwise.
    Order      // Is enqueued behind it: ends after it.
  };
  struct Dependent {
    RunTask* task = nullptr;
    Expects expects = Expects::End;
  };
  bool started = false;                      // Past Ready.
  bool enqueued = false;                     // All of it is on the device's stream.
  std::uint32_t waits = 0;                   // Tasks that must end, or be enqueued, first.
  std::uint32_t unordered = 0;               // Tasks that this one follows and that have not ended.
  std::vector<Dependent> dependents;         // Tasks that refer to this one.
  std::vector<RunTask*> follows;             // Tasks that refer to this one by Expects::Order.
  std::vector<std::vector<CachePin>> parts;  // Per load: entries pinned at arrival.
  std::vector<CachePin> outputs;             // Per store: the entry it produces, if any.

  std::vector<CachePin> pins;            // Cached copies that this run reads.
  std::vector<BlockRef> blocks;          // Per allocation; empty where a cached copy serves.
  std::vector<DeviceAddress> addresses;  // Per allocation.
  std::vector<DeviceAddress> foreign;    // Per allocation: where it is a client's; 0: it is not.
  std::vector<std::shared_ptr<ExecutorSegment>> segments;
  std::unique_ptr<ParameterFrame> frame;
  Placement::Way way = Placement::Way::InPlace;
  bool slow = false;        // Something in it may block: a worker's work.
  bool all_staged = false;  // It touches segments by way of staging memory only.
  std::uint64_t start = 0;  // How many runs were started before it; see ExecutorRunner.
  RunBody body;

  std::uint64_t fetches = 0;       // Not 0: no run of kaasd's, but the fetch of this version.
  std::vector<std::byte> fetched;  // Its bytes, where no segment takes them.

  std::optional<Status> failure;
  ExecutorCounters counters;
  ExecutorCounters prepared_counters;  // What preparing counted.
  wire::RunWay way_taken = wire::RunWay::Unknown;
  wire::WhyStream why_stream = wire::WhyStream::None;
  std::uint64_t load_ns = 0;
  std::uint64_t run_ns = 0;
  std::uint64_t store_ns = 0;
  RunMoments moments;
  std::uint64_t (*clock)() noexcept = &now_ns;  // Of its moments.
  // It has come so far. Costs nothing unless the run is profiled.
  void stamp(std::uint64_t RunMoments::*moment) noexcept {
    if (profile) moments.*moment = clock();
  }

  // Handing the task to another thread and back. Partners: each other, in the runner.
  std::atomic<bool> handed{false};
  RunTask* next_finished = nullptr;
};

// Enqueues the whole body, which on a synchronous device executes it. Fills counters.
Result<void> enqueue(RunTask& task);
// After the stream is idle: outputs in staging memory are taken to their places; times, and what a
// device only knows then.
Result<void> collect(RunTask& task);

}  // namespace kaas
