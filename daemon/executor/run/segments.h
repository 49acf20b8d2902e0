// Shared memory that runs name by number: what of it is attached, and how its bytes are reached.
// Threads: ExecutorSegments by the main thread only. An ExecutorSegment may be read and written by
//          several threads; the requests see to it that they do not touch the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>

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
  // Around memory of this process, which must outlive it.
  static std::shared_ptr<ExecutorSegment> around(const SegmentTerms& terms,
                                                 std::span<std::byte> memory);

  [[nodiscard]] const SegmentTerms& terms() const noexcept { return terms_; }
  // Where it is mapped; null for a guarded one.
  [[nodiscard]] std::byte* mapped() const noexcept { return memory_; }

  // Copies from and to a guarded segment. The range was checked against terms().bytes. DataLost:
  // the segment has become shorter.
  Result<void> read(std::uint64_t offset, std::span<std::byte> to) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) const;

 private:
  explicit ExecutorSegment(const SegmentTerms& terms) noexcept : terms_(terms) {}

  SegmentTerms terms_;
  Mapping mapping_;
  Descriptor descriptor_;  // Guarded ones only.
  std::byte* memory_ = nullptr;
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

class ExecutorSegments {
 public:
  // `source` must outlive this.
  explicit ExecutorSegments(SegmentSource& source) : source_(source) {}

  // Takes in what has arrived.
  void poll();
  // Replaces a segment of the same number.
  void add(AttachedSegment attached);
  // The segment, after another look at what has arrived if it is not known. InvalidArgument: not
  // attached, or the error that attaching it met.
  Result<std::shared_ptr<ExecutorSegment>> find(std::uint32_t segment);
  // Whoever still has it keeps it mapped.
  void detach(std::uint32_t segment) { segments_.erase(segment); }
  [[nodiscard]] std::size_t size() const noexcept { return segments_.size(); }

 private:
  SegmentSource& source_;
  std::unordered_map<std::uint32_t, Result<std::shared_ptr<ExecutorSegment>>> segments_;
};

}  // namespace kaas
