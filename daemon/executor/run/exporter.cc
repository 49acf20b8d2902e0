#include "daemon/executor/run/exporter.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {

Exporter::~Exporter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Exporter::begin(const wire::ExportObject& message) {
  auto job = std::make_unique<Job>();
  job->number = message.export_();
  job->segment = message.segment();
  job->bytes = message.bytes();
  try {
    if (auto prepared = prepare(message, *job); !prepared) {
      job->failure = std::move(prepared).error();
    }
  } catch (const std::bad_alloc&) {
    job->failure = Status{StatusCode::ResourceExhausted, "no memory to make an export"};
  }
  if (job->failure) return finish(std::move(job));
  if (!parts_.wake) {
    if (auto copied = copy(*job); !copied) job->failure = std::move(copied).error();
    return finish(std::move(job));
  }
  jobs_.push_back(std::move(job));
  hand_over(*jobs_.back());
}

Result<void> Exporter::prepare(const wire::ExportObject& message, Job& job) {
  if (message.location() == nullptr || job.bytes == 0 || job.bytes > kBufferBytesMax) {
    return Status{StatusCode::InvalidArgument,
                  "bytes of an export is " + std::to_string(job.bytes) + ", allowed 1 to " +
                      std::to_string(kBufferBytesMax) + ", with a location"};
  }
  KAAS_RETURN_IF_ERROR(find_source(*message.location(), job));
  // After the source is pinned: making room may evict.
  KAAS_ASSIGN_OR_RETURN(job.memory, parts_.cache.allocate_exportable(job.bytes));
  KAAS_ASSIGN_OR_RETURN(job.stream, parts_.device.open_stream());
  return {};
}

Result<void> Exporter::find_source(const wire::Location& location, Job& job) {
  if (location.version() != 0 && location.object_offset() <= UINT64_MAX - job.bytes) {
    job.cached = parts_.cache.find({location.version(), location.object_offset(), job.bytes});
    if (job.cached) {
      job.from = job.cached->address() + (location.object_offset() - job.cached->key().offset);
      return {};
    }
  }
  if (location.segment() == 0) {
    return Status{StatusCode::Unavailable, "version " + std::to_string(location.version()) +
                                               " is not on this device any more"};
  }
  KAAS_ASSIGN_OR_RETURN(job.source, parts_.segments.find(location.segment()));
  if (job.source->mapped() == nullptr) {
    return Status{StatusCode::InvalidArgument, "segment " + std::to_string(location.segment()) +
                                                   " holds no object that could be exported"};
  }
  KAAS_RETURN_IF_ERROR(check_range("export: segment " + std::to_string(location.segment()),
                                   location.offset(), job.bytes, job.source->terms().bytes));
  job.host = {job.source->mapped() + location.offset(), job.bytes};
  return {};
}

Result<void> Exporter::copy(Job& job) {
  DeviceStream& stream = *job.stream;
  const DeviceAddress to = job.memory->address();
  KAAS_RETURN_IF_ERROR(stream.begin(false, false));
  if (job.memory->bytes() > job.bytes) {
    KAAS_RETURN_IF_ERROR(stream.zero(to + job.bytes, job.memory->bytes() - job.bytes));
  }
  if (job.cached) {
    KAAS_RETURN_IF_ERROR(stream.copy(to, job.from, job.bytes));
  } else {
    KAAS_RETURN_IF_ERROR(stream.copy_to_device(to, job.host));
  }
  return stream.wait();
}

// --- The copy's thread ---------------------------------------------------------------------------

void Exporter::hand_over(Job& job) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(&job);
  }
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void Exporter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    Job& job = *waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    // What was enqueued before a failure may still use the memory.
    if (auto copied = copy(job); !copied) {
      job.failure = std::move(copied).error();
      static_cast<void>(job.stream->wait());
    }
    lock.lock();
    finished_.push_back(&job);
    parts_.wake();
  }
}

bool Exporter::has_finished() {
  if (jobs_.empty()) return false;
  const std::lock_guard lock(mutex_);
  return !finished_.empty();
}

// --- Back on the main thread ---------------------------------------------------------------------

bool Exporter::advance() {
  if (jobs_.empty()) return false;
  std::vector<Job*> finished;
  {
    const std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (Job* job : finished) {
    const auto place = std::find_if(jobs_.begin(), jobs_.end(),
                                    [job](const auto& one) { return one.get() == job; });
    std::unique_ptr<Job> own = std::move(*place);
    jobs_.erase(place);
    finish(std::move(own));
  }
  return !finished.empty();
}

void Exporter::finish(std::unique_ptr<Job> job) {
  if (parts_.device.lost()) return;  // It says nothing of the export, and all ends.
  if (!job->failure) {
    if (auto published = publish(*job); !published) job->failure = std::move(published).error();
  }
  ExportReport report;
  report.number = job->number;
  if (!job->failure) {
    report.allocation_bytes = job->memory->bytes();
    report.gpu = job->memory->gpu();
  }
  parts_.reports.export_done(report, job->failure ? &*job->failure : nullptr);
}

// The descriptor goes first, so that it is there when kaasd reads the report.
Result<void> Exporter::publish(const Job& job) {
  KAAS_ASSIGN_OR_RETURN(const Descriptor descriptor, job.memory->descriptor());
  if (!parts_.sink.send(job.number, descriptor.get())) {
    return Status{StatusCode::ResourceExhausted, "kaasd has not taken earlier exports yet"};
  }
  SegmentTerms terms;
  terms.segment = job.segment;
  terms.writable = true;
  parts_.segments.add({job.segment, ExecutorSegment::of_export(terms, job.memory)});
  return {};
}

}  // namespace kaas
