// Memory that runs name by number: what of it is attached, and how its bytes are reached.
// Threads: ExecutorSegments by the main thread only. An ExecutorSegment may be read and written by
//          several threads; the requests see to it that they do not touch the same bytes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>

#include "daemon/executor/device/imported_memory.h"
#include "schema/ipc/doorbell.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"
#include "schema/ipc/segment.h"

namespace kaas {

// What kaasd says of a segment, see AttachSegment in the schema.
struct SegmentTerms {
  std::uint32_t segment = 0;
  std::uint64_t bytes = 0;
  bool writable = false;
  bool guarded = false;  // Not sealed: may shrink at any time, so it is never mapped.
  bool once = false;     // Forgotten at the end of the run that writes it.
};

class ExecutorSegment {
 public:
  // Maps it, or keeps the descriptor of a guarded one. InvalidArgument: not of the size it is said
  // to have, or not sealed against shrinking although not guarded.
  static Result<std::shared_ptr<ExecutorSegment>> create(const SegmentTerms& terms,
                                                         Descriptor descriptor);
  // Device memory of a client. Not open yet: that is for the first run that uses it, whose error it
  // is if it can't be opened. `request.descriptor` is not looked at.
  static Result<std::shared_ptr<ExecutorSegment>> of_device(const SegmentTerms& terms,
                                                            ImportRequest request,
                                                            Descriptor descriptor);
  // An event of a client, not open yet. InvalidArgument: the handle is not of 64 bytes.
  static Result<std::shared_ptr<ExecutorSegment>> of_event(const SegmentTerms& terms,
                                                           std::vector<std::byte> handle);
  // The executor's end of a lane's bell: no bytes, nothing for a run.
  static std::shared_ptr<ExecutorSegment> of_bell(const SegmentTerms& terms, Descriptor descriptor);
  // Memory that this process has exported: open, and not opened a second time.
  static std::shared_ptr<ExecutorSegment> of_export(const SegmentTerms& terms,
                                                    std::shared_ptr<const ImportedMemory> memory);
  // Around memory of this process, which must outlive it.
  static std::shared_ptr<ExecutorSegment> around(const SegmentTerms& terms,
                                                 std::span<std::byte> memory);

  [[nodiscard]] const SegmentTerms& terms() const noexcept { return terms_; }
  [[nodiscard]] bool is_device_memory() const noexcept {
    return request_.has_value() || imported_ != nullptr;
  }
  // Where it is mapped; null for a guarded one and for device memory.
  [[nodiscard]] std::byte* mapped() const noexcept { return memory_; }

  // Whether the device copies from and to it without the processor.
  [[nodiscard]] bool pinned() const noexcept { return pinned_.load(std::memory_order_acquire); }

  // Registers it with the device, which must outlive it. Once, by one thread; a refusal leaves it
  // as it is.
  Result<void> pin(Device& device);
  // Opens device memory or an event, if it is that and not open. The next call tries again what has
  // failed.
  Result<void> open(ImportCache& imports);
  // Where open device memory begins; 0 for what has host bytes.
  [[nodiscard]] DeviceAddress device_address() const noexcept {
    return imported_ == nullptr ? 0 : imported_->address();
  }
  // An event that is open; null for all else.
  [[nodiscard]] ImportedEvent* event() const noexcept { return event_.get(); }
  // Null for all else.
  [[nodiscard]] const Doorbell* bell() const noexcept { return bell_ ? &*bell_ : nullptr; }
  // Whether kernels may use device_address() as their own memory.
  [[nodiscard]] bool is_direct() const noexcept {
    return imported_ != nullptr && imported_->direct();
  }

  // Copies from and to a guarded segment. The range was checked against terms().bytes. DataLost:
  // the segment has become shorter.
  Result<void> read(std::uint64_t offset, std::span<std::byte> to) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) const;

 private:
  explicit ExecutorSegment(const SegmentTerms& terms) noexcept : terms_(terms) {}

  SegmentTerms terms_;
  Mapping mapping_;
  Descriptor descriptor_;  // Guarded ones, and device memory that came with one.
  std::byte* memory_ = nullptr;
  HostRegistration registration_;         // Ends before the mapping.
  std::atomic<bool> pinned_{false};       // Partner: pin.
  std::optional<ImportRequest> request_;  // Device memory.
  std::shared_ptr<const ImportedMemory> imported_;
  std::vector<std::byte> event_handle_;  // Events.
  std::shared_ptr<ImportedEvent> event_;
  std::optional<Doorbell> bell_;
};

// A segment that was attached, or why it could not be. `segment` is its number.
struct AttachedSegment {
  std::uint32_t segment = 0;
  Result<std::shared_ptr<ExecutorSegment>> outcome;
};

// Where attachments come from: in a process of its own, the socket from kaasd.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  // The next attachment that has arrived; nullopt when there is none now. Never blocks.
  virtual std::optional<AttachedSegment> next() = 0;
};

// Registers segments with the device, and lets go of them, on a thread of its own: both take about
// 0.1 ms a MiB.
// Threads: functions by the main thread.
class SegmentPinner {
 public:
  // `device` must outlive this.
  explicit SegmentPinner(Device& device);
  // Forgets what waits to be registered.
  ~SegmentPinner();
  SegmentPinner(const SegmentPinner&) = delete;
  SegmentPinner& operator=(const SegmentPinner&) = delete;

  void pin(std::shared_ptr<ExecutorSegment> segment);
  // Drops the reference there, so that the last one is not dropped here.
  void let_go(std::shared_ptr<ExecutorSegment> segment);

 private:
  struct Item {
    std::shared_ptr<ExecutorSegment> segment;
    bool pin = false;
  };
  void add(Item item);
  void run();

  Device& device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> waiting_;  // Under mutex_.
  bool ending_ = false;       // Under mutex_.
  std::thread thread_;
};

class ExecutorSegments {
 public:
  // All must outlive this, and `device` every segment; `pinner` may be null.
  ExecutorSegments(SegmentSource& source, Device& device, SegmentPinner* pinner = nullptr)
      : source_(source), imports_(device), pinner_(pinner) {}

  // Takes in what has arrived.
  void poll();
  // Replaces a segment of the same number.
  void add(AttachedSegment attached);
  // The segment, after another look at what has arrived if it is not known. InvalidArgument: not
  // attached, or the error that attaching it met.
  Result<std::shared_ptr<ExecutorSegment>> find(std::uint32_t segment);
  // The segment, open if it is device memory or an event; or what opening it met.
  Result<std::shared_ptr<ExecutorSegment>> open(std::uint32_t segment);
  // Whoever still has it keeps it mapped.
  void detach(std::uint32_t segment);
  [[nodiscard]] std::size_t size() const noexcept { return segments_.size(); }
  // Handles of device memory and events that are open now.
  [[nodiscard]] std::size_t open_handles() { return imports_.open_handles(); }

 private:
  SegmentSource& source_;
  ImportCache imports_;
  SegmentPinner* pinner_;
  std::unordered_map<std::uint32_t, Result<std::shared_ptr<ExecutorSegment>>> segments_;
};

}  // namespace kaas
