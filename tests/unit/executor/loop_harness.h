// An ExecutorLoop without a process: rings in plain memory, kaasd's end of them, a FakeDevice (or
// another one), and short forms of the work items.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/executor/run/executor_loop.h"
#include "schema/ipc/messages.h"
#include "tests/support/fake_device.h"
#include "tests/support/heard_bells.h"

namespace kaas {

// Memory of one ring segment, zeroed as a memfd is.
class RingMemory {
 public:
  explicit RingMemory(RingGeometry geometry)
      : memory_(static_cast<std::byte*>(
            ::operator new (geometry.segment_bytes(), std::align_val_t{kPairBytes}))),
        view_(RingView::at(memory_.get(), geometry)) {
    std::memset(memory_.get(), 0, geometry.segment_bytes());
    view_.initialise(1);
  }
  [[nodiscard]] const RingView& view() const noexcept { return view_; }

 private:
  struct Release {
    void operator()(std::byte* memory) const noexcept {
      ::operator delete (memory, std::align_val_t{kPairBytes});
    }
  };
  std::unique_ptr<std::byte, Release> memory_;
  RingView view_;
};

class QueuedSegments final : public SegmentSource {
 public:
  std::optional<AttachedSegment> next() override {
    if (queue.empty()) return std::nullopt;
    AttachedSegment first = std::move(queue.front());
    queue.pop_front();
    return first;
  }
  std::deque<AttachedSegment> queue;
};

// Descriptors of exports as kaasd would get them.
class KeptExports final : public ExportSink {
 public:
  bool send(std::uint64_t number, int descriptor) override {
    if (refuse) return false;
    auto copy = duplicate(descriptor);
    KAAS_CHECK(copy.has_value());
    sent[number] = *std::move(copy);
    return true;
  }
  std::map<std::uint64_t, Descriptor> sent;
  bool refuse = false;
};

// A report in values of its own.
struct SeenReport {
  wire::Report type = wire::Report::NONE;
  std::uint64_t id = 0;    // Of the run, plan, library, export or call.
  std::uint32_t lane = 0;  // LaneCallAdded, LaneEnded.
  StatusCode code = StatusCode::Ok;
  std::string message;
  bool stateful = false;
  std::uint64_t working_set_bytes = 0;
  std::vector<std::string> kernels;
  std::optional<wire::Counters> counters;
  std::uint64_t used_bytes = 0;
  bool cancelled = false;
  wire::RunWay way = wire::RunWay::Unknown;
  wire::WhyStream why_stream = wire::WhyStream::None;
  std::vector<std::uint32_t> words{};     // Of Fetched.
  std::vector<std::uint64_t> versions{};  // Of MemoryShort.
  std::uint64_t allocation_bytes = 0;
  std::size_t gpu_bytes = 0;
};

struct TestLiteral {
  wire::LiteralType type = wire::LiteralType::U64;
  std::uint64_t bits = 0;
  std::vector<std::uint8_t> raw{};
  std::vector<wire::AddressSlot> slots{};
};

struct TestKernel {
  std::string kernel = "noop";
  std::vector<TestLiteral> literals{};
  std::vector<wire::PlanArgument> arguments{};
  std::vector<std::uint16_t> order{};
  std::vector<std::uint16_t> after{};
  wire::Dim3 grid{1, 1, 1};
  wire::Dim3 block{1, 1, 1};
  std::uint32_t shared_bytes = 0;
  std::uint32_t library = 1;
  bool cooperative = false;
};

struct TestPlan {
  std::uint32_t plan = 1;
  std::vector<TestKernel> kernels{TestKernel{}};
  std::vector<std::uint64_t> allocations{};
  std::vector<wire::PlanRange> loads{};
  std::vector<wire::PlanRange> stores{};
  std::vector<wire::PlanBufferAddress> buffers{};
  std::uint64_t n_iter = 1;
  int until = -1;
};

struct TestOverride {
  std::uint16_t kernel = 0;
  std::uint16_t literal = 0;
  std::uint64_t bits = 0;
  std::vector<std::uint8_t> raw{};
  flatbuffers::Optional<wire::LiteralType> type = flatbuffers::nullopt;
};

struct TestRun {
  std::uint64_t run = 1;
  std::uint32_t plan = 1;
  std::uint32_t tenant = 7;
  std::vector<wire::Location> loads{};
  std::vector<wire::Location> stores{};
  std::vector<TestOverride> literals{};
  std::vector<std::uint64_t> after{};
  bool profile = true;
  std::uint64_t session = 0;
  std::uint64_t request = 0;
  std::vector<std::uint32_t> wait_events{};
  std::vector<std::uint32_t> record_events{};
  bool device_memory = false;
  bool background = false;
};

inline TestLiteral u64(std::uint64_t value) {
  return {wire::LiteralType::U64, value, {}, {}};
}
inline TestLiteral u32(std::uint32_t value) {
  return {wire::LiteralType::U32, value, {}, {}};
}

// Bytes of an object version, or of a segment only (version 0).
inline wire::Location at(std::uint32_t segment, std::uint64_t offset, std::uint64_t version = 0,
                         std::uint64_t object_offset = 0, std::uint64_t available = 0) {
  return {version, offset, object_offset, available, segment};
}
inline wire::PlanArgument argument(std::uint16_t allocation, std::uint64_t bytes,
                                   wire::Access access, std::uint64_t offset = 0) {
  return {offset, bytes, allocation, access};
}

// Allocation 0 is loaded, allocation 1 is stored: out = in, n words.
inline TestPlan copy_plan(std::uint32_t id, std::uint64_t words) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "copy";
  plan.kernels[0].literals = {u64(words * 4)};
  plan.kernels[0].arguments = {argument(0, words * 4, wire::Access::In),
                               argument(1, words * 4, wire::Access::Out)};
  plan.allocations = {words * 4, words * 4};
  plan.loads = {wire::PlanRange(0, words * 4, 0, false)};
  plan.stores = {wire::PlanRange(0, words * 4, 1, false)};
  return plan;
}

flatbuffers::Offset<wire::Run> encode(flatbuffers::FlatBufferBuilder& builder, const TestRun& run);

struct HarnessOptions {
  std::uint64_t memory_bytes = 1u << 20;
  bool asynchronous = false;
  bool reaches_host = false;
  bool prepares = false;
  bool confines_background = false;
  RingGeometry geometry{64, 1u << 16};
  ExecutorWorkers* workers = nullptr;
  std::function<void()> wake{};  // Exports are copied by a thread of their own if it is given.
  CodeLoader* loader = nullptr;
};

class LoopHarness {
 public:
  explicit LoopHarness(const HarnessOptions& options = {});
  // A device of the caller's own.
  LoopHarness(const HarnessOptions& options, Device& device, LibraryOpener& libraries);

  // A writable segment of `words`, attached under its number.
  // Registers a segment that waits to be attached with the device, as a pinner would.
  void pin(std::uint32_t id);
  std::vector<std::uint32_t>& segment(std::uint32_t id, std::vector<std::uint32_t> words,
                                      bool writable = true, bool once = false);

  void load_library(std::uint32_t library = 1, const std::string& path = "/fake");
  void load_plan(const TestPlan& plan);
  void run(const TestRun& run);
  void cancel(std::uint64_t run);
  void fetch(std::uint64_t version, std::uint64_t bytes, std::uint32_t segment = 0);
  void export_object(std::uint64_t number, std::uint32_t segment, const wire::Location& location,
                     std::uint64_t bytes);
  void drop_versions(const std::vector<std::uint64_t>& versions);
  template <class Create>
  void send(wire::Work type, Create create) {
    builder.Clear();
    const auto item = create(builder);
    builder.Finish(wire::CreateWorkItem(builder, type, item.Union()));
    send_raw(finished(builder));
  }
  void send_raw(std::span<const std::byte> bytes);

  // Steps until there is nothing to do; returns the reports since the last call.
  std::vector<SeenReport> settle();
  // Reports that are there, without a step.
  std::vector<SeenReport> read_reports();
  // The one report that settle() must bring.
  SeenReport only_report();

  std::unique_ptr<FakeDevice> fake;
  std::unique_ptr<FakeLibraries> fake_libraries;
  QueuedSegments source;
  KeptExports exports;
  HeardBells bells;
  RingMemory work;
  RingMemory report;
  std::unique_ptr<ExecutorLoop> loop;
  RingWriter writer;
  RingReader reader;
  MessageBuffer buffer;
  flatbuffers::FlatBufferBuilder builder;
  int wakes = 0;

 private:
  void make_loop(const HarnessOptions& options, Device& device, LibraryOpener& libraries);

  std::map<std::uint32_t, std::unique_ptr<std::vector<std::uint32_t>>> memory_;
};

}  // namespace kaas
