#include "daemon/executor/run/segments.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "schema/limits.h"

namespace kaas {
namespace {

std::string named(const SegmentTerms& terms) {
  return "segment " + std::to_string(terms.segment);
}

// What pread and pwrite have in common: `move(offset, done)` moves some bytes and says how many.
template <class Move>
Result<void> move_all(const SegmentTerms& terms, std::uint64_t offset, std::size_t bytes,
                      Move move) {
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t moved = move(offset + done, done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) {
      return Status{StatusCode::DataLost, named(terms) + ": " + std::strerror(errno)};
    }
    if (moved == 0) {
      return Status{StatusCode::DataLost,
                    named(terms) + " ends at byte " + std::to_string(offset + done) +
                        ", it was registered with " + std::to_string(terms.bytes)};
    }
    done += static_cast<std::size_t>(moved);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<ExecutorSegment>> ExecutorSegment::create(const SegmentTerms& terms,
                                                                 Descriptor descriptor) {
  if (terms.bytes == 0 || terms.bytes > kSegmentBytesMax) {
    return over_limit(StatusCode::InvalidArgument, named(terms) + " bytes", terms.bytes,
                      kSegmentBytesMax);
  }
  std::shared_ptr<ExecutorSegment> segment(new ExecutorSegment(terms));
  if (terms.guarded) {
    segment->descriptor_ = std::move(descriptor);
    return segment;
  }
  if (!has_seals(seals_of(descriptor.get()), Seals::Size)) {
    return Status{StatusCode::InvalidArgument, named(terms) + " is not sealed against shrinking"};
  }
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t found, segment_bytes_of(descriptor.get(), "a segment"));
  if (found < terms.bytes) {
    return Status{StatusCode::InvalidArgument, named(terms) + " has " + std::to_string(found) +
                                                   " bytes, announced " +
                                                   std::to_string(terms.bytes)};
  }
  const auto mode = terms.writable ? Mapping::Mode::ReadWrite : Mapping::Mode::ReadOnly;
  KAAS_ASSIGN_OR_RETURN(segment->mapping_,
                        Mapping::create(descriptor.get(), terms.bytes, mode, named(terms).c_str()));
  segment->memory_ = segment->mapping_.data();
  return segment;
}

Result<std::shared_ptr<ExecutorSegment>> ExecutorSegment::of_device(const SegmentTerms& terms,
                                                                    ImportRequest request,
                                                                    Descriptor descriptor) {
  const bool has_name_only = request.kind == wire::DeviceMemoryKind::CuMem;
  if (has_name_only ? request.handle.size() > kIpcHandleBytes
                    : request.handle.size() != kIpcHandleBytes) {
    return Status{StatusCode::InvalidArgument,
                  named(terms) + ": a handle of " + std::to_string(request.handle.size()) +
                      " bytes, wanted " + std::to_string(kIpcHandleBytes)};
  }
  const bool wants_descriptor = request.kind != wire::DeviceMemoryKind::Legacy;
  if (wants_descriptor != static_cast<bool>(descriptor)) {
    return Status{StatusCode::InvalidArgument,
                  named(terms) + ": device memory of this kind comes " +
                      (wants_descriptor ? "with a descriptor" : "without a descriptor")};
  }
  std::shared_ptr<ExecutorSegment> segment(new ExecutorSegment(terms));
  segment->descriptor_ = std::move(descriptor);
  segment->request_ = std::move(request);
  segment->request_->descriptor = segment->descriptor_.get();
  return segment;
}

Result<std::shared_ptr<ExecutorSegment>> ExecutorSegment::of_event(const SegmentTerms& terms,
                                                                   std::vector<std::byte> handle) {
  if (handle.size() != kIpcHandleBytes) {
    return Status{StatusCode::InvalidArgument,
                  named(terms) + ": an event's handle of " + std::to_string(handle.size()) +
                      " bytes, wanted " + std::to_string(kIpcHandleBytes)};
  }
  std::shared_ptr<ExecutorSegment> segment(new ExecutorSegment(terms));
  segment->event_handle_ = std::move(handle);
  return segment;
}

Result<void> ExecutorSegment::open(ImportCache& imports) {
  if (!event_handle_.empty() && event_ == nullptr) {
    auto event = imports.open_event(event_handle_);
    if (event) event_ = *std::move(event);
    if (event) return {};
    Status failure = std::move(event).error();
    failure.message = "event of " + named(terms_) + ": " + failure.message;
    return failure;
  }
  if (!request_ || imported_ != nullptr) return {};
  auto opened = imports.open(*request_);
  if (!opened) {
    Status failure = std::move(opened).error();
    failure.message = "device memory of " + named(terms_) + ": " + failure.message;
    return failure;
  }
  imported_ = *std::move(opened);
  terms_.bytes = request_->bytes == 0 ? imported_->bytes() : request_->bytes;
  return {};
}

std::shared_ptr<ExecutorSegment> ExecutorSegment::of_bell(const SegmentTerms& terms,
                                                          Descriptor descriptor) {
  std::shared_ptr<ExecutorSegment> segment(new ExecutorSegment(terms));
  segment->terms_.bytes = 0;
  segment->bell_.emplace(std::move(descriptor));
  return segment;
}

std::shared_ptr<ExecutorSegment> ExecutorSegment::of_export(
    const SegmentTerms& terms, std::shared_ptr<const ImportedMemory> memory) {
  std::shared_ptr<ExecutorSegment> segment(new ExecutorSegment(terms));
  segment->terms_.bytes = memory->bytes();
  segment->imported_ = std::move(memory);
  return segment;
}

std::shared_ptr<ExecutorSegment> ExecutorSegment::around(const SegmentTerms& terms,
                                                         std::span<std::byte> memory) {
  std::shared_ptr<ExecutorSegment> segment(new ExecutorSegment(terms));
  segment->terms_.bytes = memory.size();
  segment->memory_ = memory.data();
  return segment;
}

Result<void> ExecutorSegment::pin(Device& device) {
  if (memory_ == nullptr) return {};
  KAAS_ASSIGN_OR_RETURN(registration_,
                        device.register_host({memory_, terms_.bytes}, terms_.writable));
  pinned_.store(static_cast<bool>(registration_), std::memory_order_release);
  return {};
}

Result<void> ExecutorSegment::read(std::uint64_t offset, std::span<std::byte> to) const {
  return move_all(terms_, offset, to.size(), [&](std::uint64_t at, std::size_t done) {
    return ::pread(descriptor_.get(), to.data() + done, to.size() - done, static_cast<off_t>(at));
  });
}

Result<void> ExecutorSegment::write(std::uint64_t offset, std::span<const std::byte> from) const {
  // A write behind the end would make the segment longer than its owner left it.
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t now,
                        segment_bytes_of(descriptor_.get(), "a registered region"));
  if (now < offset + from.size()) {
    return Status{StatusCode::DataLost, named(terms_) + " ends at byte " + std::to_string(now) +
                                            ", it was registered with " +
                                            std::to_string(terms_.bytes)};
  }
  return move_all(terms_, offset, from.size(), [&](std::uint64_t at, std::size_t done) {
    return ::pwrite(descriptor_.get(), from.data() + done, from.size() - done,
                    static_cast<off_t>(at));
  });
}

void ExecutorSegments::poll() {
  while (auto attached = source_.next()) add(*std::move(attached));
}

// Arenas and regions are used again and again. Objects are not: what is read of them is cached on
// the device, and what is written is written once.
void ExecutorSegments::add(AttachedSegment attached) {
  if (pinner_ != nullptr && attached.outcome) {
    const SegmentTerms& terms = (*attached.outcome)->terms();
    const bool is_mapped = (*attached.outcome)->mapped() != nullptr;
    if (is_mapped && terms.writable && !terms.once) pinner_->pin(*attached.outcome);
  }
  segments_.insert_or_assign(attached.segment, std::move(attached.outcome));
}

void ExecutorSegments::detach(std::uint32_t segment) {
  const auto found = segments_.find(segment);
  if (found == segments_.end()) return;
  const bool is_mapped = found->second && (*found->second)->mapped() != nullptr;
  if (pinner_ != nullptr && is_mapped) pinner_->let_go(*std::move(found->second));
  segments_.erase(found);
}

Result<std::shared_ptr<ExecutorSegment>> ExecutorSegments::find(std::uint32_t segment) {
  auto found = segments_.find(segment);
  if (found == segments_.end()) {
    poll();
    found = segments_.find(segment);
  }
  if (found != segments_.end()) return found->second;
  return Status{StatusCode::InvalidArgument,
                "segment " + std::to_string(segment) + " is not attached"};
}

Result<std::shared_ptr<ExecutorSegment>> ExecutorSegments::open(std::uint32_t segment) {
  auto found = find(segment);
  if (!found) return found;
  KAAS_RETURN_IF_ERROR((*found)->open(imports_));
  return found;
}

// --- SegmentPinner -------------------------------------------------------------------------------

SegmentPinner::SegmentPinner(Device& device) : device_(device), thread_([this] { run(); }) {}

SegmentPinner::~SegmentPinner() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SegmentPinner::pin(std::shared_ptr<ExecutorSegment> segment) {
  add({std::move(segment), true});
}

void SegmentPinner::let_go(std::shared_ptr<ExecutorSegment> segment) {
  add({std::move(segment), false});
}

void SegmentPinner::add(Item item) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(item));
  }
  changed_.notify_all();
}

void SegmentPinner::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    Item item = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    if (item.pin) {
      if (const auto pinned = item.segment->pin(device_); !pinned) {
        std::fprintf(stderr, "kaas-executor: segment %u is copied from and to the slow way: %s\n",
                     item.segment->terms().segment, pinned.error().message.c_str());
      }
    }
    item.segment.reset();
    lock.lock();
  }
}

}  // namespace kaas
