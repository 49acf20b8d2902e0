#include "daemon/executor/run/run_task.h"

#include <algorithm>
#include <cstring>

namespace kaas {
namespace {

// Guarded segments are copied through private memory, a piece at a time.
constexpr std::uint64_t kStagingBytes = 1u << 20;

Result<void> load_guarded(const LoadStep& step, DeviceStream& stream) {
  std::vector<std::byte> staging(std::min(step.bytes, kStagingBytes));
  for (std::uint64_t done = 0; done < step.bytes;) {
    const std::uint64_t piece = std::min(step.bytes - done, kStagingBytes);
    const std::span<std::byte> bytes(staging.data(), piece);
    KAAS_RETURN_IF_ERROR(step.segment->read(step.offset + done, bytes));
    KAAS_RETURN_IF_ERROR(stream.copy_to_device(step.to + done, bytes));
    KAAS_RETURN_IF_ERROR(stream.wait());
    done += piece;
  }
  return {};
}

Result<void> store_guarded(const StoreStep& step, DeviceStream& stream) {
  std::vector<std::byte> staging(std::min(step.bytes, kStagingBytes));
  for (std::uint64_t done = 0; done < step.bytes;) {
    const std::uint64_t piece = std::min(step.bytes - done, kStagingBytes);
    const std::span<std::byte> bytes(staging.data(), piece);
    KAAS_RETURN_IF_ERROR(stream.copy_to_host(bytes, step.from + done));
    KAAS_RETURN_IF_ERROR(stream.wait());
    KAAS_RETURN_IF_ERROR(step.segment->write(step.offset + done, bytes));
    done += piece;
  }
  return {};
}

// Host bytes to staging memory, and on to the device if that is not where the kernels work.
Result<void> load_staged(const LoadStep& step, DeviceStream& stream) {
  switch (step.source) {
    case LoadStep::Source::Zero:
      std::memset(step.staged, 0, step.bytes);
      break;
    case LoadStep::Source::Mapped:
      std::memcpy(step.staged, step.mapped, step.bytes);
      break;
    case LoadStep::Source::Guarded:
      KAAS_RETURN_IF_ERROR(step.segment->read(step.offset, {step.staged, step.bytes}));
      break;
    case LoadStep::Source::Device:
      return stream.copy(step.to, step.from, step.bytes);
  }
  if (step.moved || step.to == reinterpret_cast<DeviceAddress>(step.staged)) return {};
  return stream.copy_to_device(step.to, {step.staged, step.bytes});
}

Result<void> enqueue_load(const LoadStep& step, DeviceStream& stream) {
  if (step.staged != nullptr) return load_staged(step, stream);
  switch (step.source) {
    case LoadStep::Source::Zero:
      return stream.zero(step.to, step.bytes);
    case LoadStep::Source::Mapped:
      return stream.copy_to_device(step.to, {step.mapped, step.bytes});
    case LoadStep::Source::Guarded:
      return load_guarded(step, stream);
    case LoadStep::Source::Device:
      return stream.copy(step.to, step.from, step.bytes);
  }
  return {};
}

Result<void> enqueue_store(const StoreStep& step, DeviceStream& stream) {
  if (step.to != 0) return stream.copy(step.to, step.from, step.bytes);
  if (step.staged != nullptr) {
    if (step.moved || step.from == reinterpret_cast<DeviceAddress>(step.staged)) return {};
    return stream.copy_to_host({step.staged, step.bytes}, step.from);
  }
  if (step.mapped == nullptr) return store_guarded(step, stream);
  return stream.copy_to_host({step.mapped, step.bytes}, step.from);
}

Result<void> take_staged(const StoreStep& step) {
  if (step.staged == nullptr || step.segment == nullptr) return {};
  if (step.mapped == nullptr) return step.segment->write(step.offset, {step.staged, step.bytes});
  std::memcpy(step.mapped, step.staged, step.bytes);
  return {};
}

// What the processor reads while it enqueues, it must not read before the events are over.
Result<void> await_events(const RunBody& body, DeviceStream& stream) {
  if (body.waits.empty()) return {};
  for (ImportedEvent* event : body.waits) KAAS_RETURN_IF_ERROR(stream.wait_event(*event));
  return body.reads_while_enqueued() ? stream.wait() : Result<void>();
}

}  // namespace

bool RunBody::reads_while_enqueued() const noexcept {
  return std::any_of(loads.begin(), loads.end(), [](const LoadStep& step) {
    return step.source == LoadStep::Source::Guarded ||
           (step.source == LoadStep::Source::Mapped && step.staged != nullptr);
  });
}

Result<void> enqueue(RunTask& task) {
  DeviceStream& stream = *task.body.stream;
  task.stamp(&RunMoments::started_ns);
  KAAS_RETURN_IF_ERROR(stream.begin(task.profile, task.body.program.background));
  stream.mark(StreamMark::Begin);
  KAAS_RETURN_IF_ERROR(await_events(task.body, stream));
  if (!task.body.loads.empty()) {
    for (const LoadStep& step : task.body.loads) KAAS_RETURN_IF_ERROR(enqueue_load(step, stream));
    stream.mark(StreamMark::Loaded);
  }
  KAAS_RETURN_IF_ERROR(stream.launch(task.body.program));
  stream.mark(StreamMark::Computed);
  if (!task.body.stores.empty()) {
    for (const StoreStep& step : task.body.stores) {
      KAAS_RETURN_IF_ERROR(enqueue_store(step, stream));
    }
    stream.mark(StreamMark::Stored);
  }
  for (ImportedEvent* event : task.body.records) KAAS_RETURN_IF_ERROR(stream.record_event(*event));
  const Result<void> ended = stream.end();
  task.stamp(&RunMoments::launched_ns);
  return ended;
}

Result<void> collect(RunTask& task) {
  for (const StoreStep& step : task.body.stores) KAAS_RETURN_IF_ERROR(take_staged(step));
  const DeviceStream& stream = *task.body.stream;
  StreamMark begin = StreamMark::Begin;
  if (!task.body.loads.empty()) {
    task.load_ns = stream.between_ns(begin, StreamMark::Loaded);
    begin = StreamMark::Loaded;
  }
  task.run_ns = stream.between_ns(begin, StreamMark::Computed);
  if (!task.body.stores.empty()) {
    task.store_ns = stream.between_ns(StreamMark::Computed, StreamMark::Stored);
  }
  const ProgramCounts counts = stream.counts();
  task.counters.launches = counts.launches;
  task.counters.iterations = counts.iterations;
  task.way_taken = counts.way;
  task.why_stream = counts.why;
  return {};
}

}  // namespace kaas
