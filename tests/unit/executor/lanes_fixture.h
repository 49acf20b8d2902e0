// Lanes of an executor loop, from their client's end.
// Threads: one.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tests/unit/executor/loop_harness.h"

namespace kaas {

using wire::Access;
using Words = std::vector<std::uint32_t>;

inline constexpr std::uint32_t kMemory = 20;  // The segment that calls work in.

// ++data, n words.
inline TestPlan add_one_plan(std::uint32_t id, std::uint64_t words) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "add_one";
  plan.kernels[0].literals = {u64(words)};
  plan.kernels[0].arguments = {argument(0, words * 4, Access::InOut)};
  plan.allocations = {words * 4};
  plan.loads = {wire::PlanRange(0, words * 4, 0, false)};
  plan.stores = {wire::PlanRange(0, words * 4, 0, false)};
  return plan;
}

// data = value, `kernels` times over.
inline TestPlan fill_plan(std::uint32_t id, std::uint32_t value, std::size_t kernels = 1) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "fill";
  plan.kernels[0].literals = {u64(1), u32(value)};
  plan.kernels[0].arguments = {argument(0, 4, Access::Out)};
  plan.kernels.resize(kernels, plan.kernels[0]);
  for (std::size_t i = 1; i < kernels; ++i) {
    plan.kernels[i].after = {static_cast<std::uint16_t>(i - 1)};
  }
  plan.allocations = {4};
  plan.stores = {wire::PlanRange(0, 4, 0, false)};
  return plan;
}

inline TestPlan failing_plan(std::uint32_t id) {
  TestPlan plan;
  plan.plan = id;
  plan.kernels[0].kernel = "fail";
  plan.allocations = {4};
  plan.stores = {wire::PlanRange(0, 4, 0, false)};
  return plan;
}

struct Answered {
  std::uint64_t id = 0;
  StatusCode code = StatusCode::Ok;
  std::string text{};
  bool operator==(const Answered& other) const {
    return id == other.id && code == other.code && text == other.text;
  }
};

inline std::span<std::byte> bytes_of(const RingMemory& ring) {
  return {reinterpret_cast<std::byte*>(ring.view().header), ring.view().geometry.segment_bytes()};
}

// A lane's two segments, its bell, and the client's end of it.
class LaneEnd {
 public:
  LaneEnd(LoopHarness& harness, std::uint32_t number)
      : in(kLaneGeometry), out(kLaneGeometry), lane(number), harness_(harness) {
    attach(in_segment(), bytes_of(in), false);
    attach(out_segment(), bytes_of(out), true);
    auto ends = Doorbell::create_pair();
    KAAS_CHECK(ends.has_value());
    bell = std::move(ends->first);
    SegmentTerms terms;
    terms.segment = bell_segment();
    harness_.source.queue.push_back(
        {bell_segment(), ExecutorSegment::of_bell(terms, ends->second.release())});
    writer = RingWriter(in.view(), out.view().header);
    reader = RingReader(out.view(), in.view().header);
  }
  [[nodiscard]] std::uint32_t in_segment() const noexcept { return 100 + 3 * lane; }
  [[nodiscard]] std::uint32_t out_segment() const noexcept { return 101 + 3 * lane; }
  [[nodiscard]] std::uint32_t bell_segment() const noexcept { return 102 + 3 * lane; }

  void attach(std::uint32_t number, std::span<std::byte> memory, bool writable) {
    SegmentTerms terms;
    terms.segment = number;
    terms.bytes = memory.size();
    terms.writable = writable;
    harness_.source.queue.push_back({number, ExecutorSegment::around(terms, memory)});
  }
  void start() { start(kLaneGeometry, in_segment(), out_segment()); }
  void start(RingGeometry geometry, std::uint32_t in_number, std::uint32_t out_number) {
    start(geometry, in_number, out_number, bell_segment());
  }
  void start(RingGeometry geometry, std::uint32_t in_number, std::uint32_t out_number,
             std::uint32_t bell_number) {
    harness_.send(wire::Work::StartLane, [&](auto& b) {
      return wire::CreateStartLane(b, lane, geometry.slot_count, geometry.heap_bytes, in_number,
                                   out_number, bell_number);
    });
  }
  void add(std::uint32_t call, const TestRun& run) {
    harness_.send(wire::Work::AddLaneCall,
                  [&](auto& b) { return wire::CreateAddLaneCall(b, lane, call, encode(b, run)); });
  }
  void remove(std::uint32_t call) {
    harness_.send(wire::Work::RemoveLaneCall,
                  [&](auto& b) { return wire::CreateRemoveLaneCall(b, lane, call); });
  }
  void end() {
    harness_.send(wire::Work::EndLane, [&](auto& b) { return wire::CreateEndLane(b, lane); });
  }
  void invoke(std::uint64_t id, std::uint32_t call) {
    const LaneInvoke message{id, call, 0};
    ASSERT_TRUE(writer.try_write(lane_message(message)));
  }
  // Answers, in the order in which they came.
  std::vector<Answered> read(std::size_t limit = SIZE_MAX) {
    std::vector<Answered> answers;
    std::span<const std::byte> message;
    while (answers.size() < limit && reader.read(buffer_, message) == ReadOutcome::Message) {
      LaneAnswer answer{};
      EXPECT_TRUE(read_lane_message(message, answer));
      EXPECT_EQ(message.size(), sizeof answer + answer.text_bytes);
      const char* text = reinterpret_cast<const char*>(message.data()) + sizeof answer;
      answers.push_back(
          {answer.id, static_cast<StatusCode>(answer.code), std::string(text, answer.text_bytes)});
      reader.advance();
    }
    reader.publish();
    return answers;
  }
  // Takes the answers that are there.
  std::size_t count_answers() {
    std::size_t answers = 0;
    std::span<const std::byte> message;
    for (; reader.read(buffer_, message) == ReadOutcome::Message; ++answers) reader.advance();
    reader.publish();
    return answers;
  }
  [[nodiscard]] std::uint64_t taken() const { return out.view().header->consumed.load(); }
  [[nodiscard]] Slot& next_slot() {
    return in.view().slots[writer.written() % kLaneGeometry.slot_count];
  }

  RingMemory in;
  RingMemory out;
  std::uint32_t lane;
  Doorbell bell;
  RingWriter writer;
  RingReader reader;

 private:
  LoopHarness& harness_;
  MessageBuffer buffer_{kLaneGeometry.message_bytes_max()};
};

class LanesTest : public testing::TestWithParam<bool> {
 protected:
  LanesTest() : LanesTest(HarnessOptions{.asynchronous = GetParam()}) {}
  explicit LanesTest(const HarnessOptions& options) : harness_(options) {
    harness_.load_library();
    EXPECT_EQ(harness_.only_report().code, StatusCode::Ok);
    memory_ = &harness_.segment(kMemory, Words(64));
  }
  ~LanesTest() override {
    if (harness_.fake->lost()) return;
    EXPECT_EQ(harness_.loop->unfinished_runs(), 0u);
  }
  void load(const TestPlan& plan) {
    harness_.load_plan(plan);
    const SeenReport report = harness_.only_report();
    ASSERT_EQ(report.code, StatusCode::Ok) << report.message;
  }
  // A lane whose call 1 is ++memory[word].
  LaneEnd& lane(std::uint32_t number, std::uint64_t word = 0) {
    if (number == 1) load(add_one_plan(1, 1));
    lanes_.push_back(std::make_unique<LaneEnd>(harness_, number));
    LaneEnd& made = *lanes_.back();
    made.start();
    add(made, 1, {.plan = 1, .loads = {at(kMemory, word * 4)}, .stores = {at(kMemory, word * 4)}});
    return made;
  }
  void add(LaneEnd& lane, std::uint32_t call, const TestRun& run) {
    lane.add(call, run);
    const SeenReport report = harness_.only_report();
    EXPECT_EQ(report.type, wire::Report::LaneCallAdded);
    EXPECT_EQ(report.code, StatusCode::Ok) << report.message;
    EXPECT_EQ(report.lane, lane.lane);
    EXPECT_EQ(report.id, call);
  }
  SeenReport ended() {
    const SeenReport report = harness_.only_report();
    EXPECT_EQ(report.type, wire::Report::LaneEnded);
    return report;
  }
  void set_lanes_ended(std::uint64_t count) {
    harness_.work.view().header->lanes_ended.store(count);
  }

  LoopHarness harness_;
  Words* memory_ = nullptr;
  std::vector<std::unique_ptr<LaneEnd>> lanes_;
};
}  // namespace kaas
