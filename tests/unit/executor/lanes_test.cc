// Lanes: invocations that a client's ring brings, answers, order, revocation, violations.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/unit/executor/lanes_fixture.h"

namespace kaas {
namespace {

INSTANTIATE_TEST_SUITE_P(Devices, LanesTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

// --- Serving -------------------------------------------------------------------------------------

TEST_P(LanesTest, InvocationsAreExecutedAndAnsweredWithTheirIds) {
  LaneEnd& one = lane(1);
  for (const std::uint64_t id : {7u, 5u, 1'000'000u}) one.invoke(id, 1);
  EXPECT_TRUE(harness_.settle().empty()) << "kaasd hears nothing of invocations";
  EXPECT_EQ((*memory_)[0], 3u);
  EXPECT_EQ(one.read(), (std::vector<Answered>{{7}, {5}, {1'000'000}}));
  EXPECT_EQ(one.taken(), 3u);
  EXPECT_EQ(one.out.view().header->answered.load(), 3u);
  EXPECT_GT(one.out.view().header->busy_ns.load(), 0u);
}

TEST_P(LanesTest, LapsOfTheRingAreServed) {
  LaneEnd& one = lane(1);
  std::uint64_t id = 0;
  for (int round = 0; round < 5; ++round) {
    for (std::uint32_t n = 0; n < kLaneSlots; ++n) one.invoke(++id, 1);
    harness_.settle();
    const auto answers = one.read();
    ASSERT_EQ(answers.size(), kLaneSlots);
    EXPECT_EQ(answers.back().id, id);
  }
  EXPECT_EQ((*memory_)[0], id);
}

TEST_P(LanesTest, FailuresAreAnsweredAndTheLaneGoesOn) {
  LaneEnd& one = lane(1);
  load(failing_plan(2));
  add(one, 2, {.plan = 2, .stores = {at(kMemory, 4)}});
  one.invoke(1, 2);
  one.invoke(2, 1);
  harness_.settle();
  auto answers = one.read();
  ASSERT_EQ(answers.size(), 2u);
  if (answers[0].id != 1) std::swap(answers[0], answers[1]);
  EXPECT_EQ(answers[0].code, StatusCode::KernelFault);
  EXPECT_NE(answers[0].text, "");
  EXPECT_EQ(answers[1], (Answered{2}));
}

TEST_P(LanesTest, TextsOfFailuresAreCutToTheSlot) {
  LaneEnd& one = lane(1);
  const std::string cause(1000, 'x');
  harness_.source.queue.push_back({30, Status{StatusCode::DataLost, cause}});
  add(one, 2, {.plan = 1, .loads = {at(30, 0)}, .stores = {at(30, 0)}});
  one.invoke(1, 2);
  harness_.settle();
  const auto answers = one.read();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].code, StatusCode::DataLost);
  EXPECT_EQ(answers[0].text.size(), kLaneTextBytesMax);
  EXPECT_EQ(answers[0].text.back(), 'x');
}

TEST_P(LanesTest, CallsThatWriteTheSameBytesKeepTheirOrder) {
  LaneEnd& one = lane(1);
  load(fill_plan(2, 10));
  load(fill_plan(3, 20, 5));
  add(one, 2, {.plan = 2, .stores = {at(kMemory, 0)}});
  add(one, 3, {.plan = 3, .stores = {at(kMemory, 0)}});
  std::minstd_rand random(1);
  std::uint32_t expected = 0;
  for (int round = 0; round < 40; ++round) {
    for (std::uint64_t id = 1; id <= 48; ++id) {
      const auto call = static_cast<std::uint32_t>(random() % 3 + 1);
      one.invoke(id, call);
      expected = call == 1 ? expected + 1 : 10 * (call - 1);
    }
    harness_.settle();
    ASSERT_EQ(one.read().size(), 48u);
    ASSERT_EQ((*memory_)[0], expected) << "round " << round;
  }
}

TEST_P(LanesTest, CallsOfDifferentBytesMayOverlap) {
  LaneEnd& one = lane(1, 5);
  load(fill_plan(2, 1, 40));
  add(one, 2, {.plan = 2, .stores = {at(kMemory, 0)}});
  add(one, 3, {.plan = 2, .stores = {at(kMemory, 0)}});
  load(fill_plan(3, 2));
  add(one, 4, {.plan = 3, .stores = {at(kMemory, 0)}});
  one.invoke(1, 2);
  one.invoke(2, 1);  // Elsewhere.
  harness_.settle();
  const auto apart = one.read();
  ASSERT_EQ(apart.size(), 2u);
  EXPECT_EQ(apart.front().id, GetParam() ? 2u : 1u) << "the short one is done first";
  one.invoke(3, 3);
  one.invoke(4, 4);  // At the same place.
  harness_.settle();
  EXPECT_EQ(one.read(), (std::vector<Answered>{{3}, {4}}));
  EXPECT_EQ((*memory_)[0], 2u);
}

TEST_P(LanesTest, OldestInvocationIsSaidWhateverElseEnds) {
  if (!GetParam()) GTEST_SKIP() << "each ends before the next is taken";
  LaneEnd& one = lane(1, 5);
  load(fill_plan(2, 1, 40));
  add(one, 2, {.plan = 2, .stores = {at(kMemory, 0)}});
  const auto oldest = [&] { return one.out.view().header->oldest.load(); };
  one.invoke(1, 1);
  harness_.settle();
  EXPECT_EQ(oldest(), 1u);
  one.invoke(2, 2);
  for (std::uint64_t id = 3; id <= 6; ++id) one.invoke(id, 1);
  one.read();
  std::vector<std::uint64_t> ended;
  while (ended.size() < 5) {
    harness_.loop->step();
    for (const Answered& answer : one.read()) ended.push_back(answer.id);
    const bool long_one_ended = std::find(ended.begin(), ended.end(), 2u) != ended.end();
    if (!long_one_ended) {
      EXPECT_EQ(oldest(), 1u) << "after " << ended.size() << " answers";
    }
  }
  EXPECT_NE(ended.front(), 2u) << "the short ones are done first";
  EXPECT_EQ(oldest(), 6u);
}

// The call copies the word in which the client reads how much was taken.
TEST_P(LanesTest, WhatIsTakenIsSaidBeforeItCanHaveAnEffect) {
  LaneEnd& one = lane(1);
  load(copy_plan(2, 2));
  one.attach(40, bytes_of(one.out), false);
  add(one, 2,
      {.plan = 2, .loads = {at(40, offsetof(RingHeader, consumed))}, .stores = {at(kMemory, 8)}});
  for (std::uint64_t id = 1; id <= 5; ++id) {
    one.invoke(id, 2);
    harness_.settle();
    EXPECT_EQ((*memory_)[2], id);
    one.read();
  }
}

TEST_P(LanesTest, LanesAndWorkAreServedTogether) {
  LaneEnd& one = lane(1, 1);
  LaneEnd& two = lane(2, 2);
  for (std::uint64_t id = 1; id <= kLaneSlots; ++id) {
    one.invoke(id, 1);
    two.invoke(id, 1);
  }
  for (std::uint64_t run = 1; run <= 40; ++run) {
    harness_.run(
        {.run = run, .loads = {at(kMemory, 0)}, .stores = {at(kMemory, 0)}, .after = {run - 1}});
  }
  harness_.loop->step();
  EXPECT_GT(one.taken(), 0u);
  EXPECT_LT(one.taken(), kLaneSlots) << "it is not served at the others' expense";
  EXPECT_EQ(one.taken(), two.taken());
  EXPECT_GT(harness_.report.view().header->consumed.load(), 0u);
  EXPECT_EQ(harness_.settle().size(), 40u);
  EXPECT_EQ(one.read().size(), kLaneSlots);
  EXPECT_EQ(two.read().size(), kLaneSlots);
  EXPECT_EQ((*memory_)[0], 40u);
  EXPECT_EQ((*memory_)[1], kLaneSlots);
  EXPECT_EQ((*memory_)[2], kLaneSlots);
}

TEST_P(LanesTest, ClientThatReadsNothingIsServedAsFarAsItsAnswersHaveRoom) {
  LaneEnd& one = lane(1);
  std::uint64_t id = 0;
  for (std::uint32_t n = 0; n < kLaneSlots; ++n) one.invoke(++id, 1);
  harness_.settle();
  EXPECT_EQ(one.taken(), kLaneSlots);
  for (std::uint32_t n = 0; n < kLaneSlots; ++n) one.invoke(++id, 1);
  harness_.settle();
  EXPECT_EQ(one.taken(), kLaneSlots);
  EXPECT_EQ((*memory_)[0], kLaneSlots);
  EXPECT_TRUE(harness_.loop->announce_sleep()) << "it is the client's move";
  harness_.loop->retract_sleep();
  EXPECT_EQ(one.read(10).size(), 10u);
  harness_.settle();
  EXPECT_EQ(one.taken(), kLaneSlots + 10);
  while (!one.read().empty()) harness_.settle();
  EXPECT_EQ((*memory_)[0], 2 * kLaneSlots);
}

// --- Sleep ---------------------------------------------------------------------------------------

TEST_P(LanesTest, NobodySleepsOverASlotThatWaits) {
  LaneEnd& one = lane(1);
  ASSERT_TRUE(harness_.loop->announce_sleep());
  EXPECT_TRUE(one.writer.wake_due()) << "the client knows that it sleeps";
  harness_.loop->retract_sleep();
  EXPECT_FALSE(one.writer.wake_due());
  one.invoke(1, 1);
  EXPECT_FALSE(harness_.loop->announce_sleep());
  EXPECT_FALSE(one.writer.wake_due()) << "it was taken back";
  harness_.settle();
  EXPECT_EQ(one.read().size(), 1u);
  EXPECT_TRUE(harness_.loop->announce_sleep());
  harness_.loop->retract_sleep();
}

TEST_P(LanesTest, BellIsHeardUntilItsLaneEnds) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2);
  EXPECT_EQ(harness_.bells.size(), 2u);
  one.bell.ring();
  EXPECT_EQ(harness_.bells.ringing(), (std::vector<std::uint32_t>{1}));
  harness_.loop->bell_rang(1);
  EXPECT_TRUE(harness_.bells.ringing().empty()) << "it was cleared";
  one.bell = Doorbell();
  ASSERT_EQ(harness_.bells.ringing().size(), 1u);
  harness_.loop->bell_rang(1);
  EXPECT_EQ(harness_.bells.size(), 1u) << "the client has closed it";
  EXPECT_EQ(harness_.loop->open_lanes(), 2u);
  one.invoke(1, 1);
  harness_.settle();
  EXPECT_EQ(one.read().size(), 1u) << "it wakes nobody, but is taken";
  two.end();
  EXPECT_EQ(ended().lane, 2u);
  EXPECT_EQ(harness_.bells.size(), 0u);
  harness_.loop->bell_rang(2);
  harness_.loop->bell_rang(77);
}

TEST_P(LanesTest, RingingForSomethingGoesOnForEver) {
  LaneEnd& one = lane(1);
  for (std::uint64_t id = 1; id <= 4 * kLaneRingsInVainMax; ++id) {
    one.bell.ring();
    harness_.loop->bell_rang(1);
    if (id % kLaneRingsInVainMax != 0) continue;
    one.invoke(id, 1);
    harness_.settle();
    EXPECT_EQ(one.read().size(), 1u);
  }
  EXPECT_EQ(harness_.loop->open_lanes(), 1u);
}

TEST_P(LanesTest, SleepingClientIsWokenByItsAnswerOnce) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2);
  const auto word = [](const LaneEnd& end) { return end.out.view().header->wake_word.load(); };
  announce_sleep(*one.in.view().header);
  announce_sleep(*two.in.view().header);
  one.invoke(1, 1);
  one.invoke(2, 1);
  harness_.settle();
  EXPECT_EQ(word(one), 1u);
  EXPECT_EQ(word(two), 0u);
}

// --- The end -------------------------------------------------------------------------------------

TEST_P(LanesTest, LaneThatIsEndedAnswersWhatItTookAndThenSaysSo) {
  LaneEnd& one = lane(1);
  for (std::uint64_t id = 1; id <= 5; ++id) one.invoke(id, 1);
  harness_.loop->step();
  ASSERT_EQ(one.taken(), 5u);
  one.invoke(6, 1);
  set_lanes_ended(1);
  one.end();
  std::size_t answered = 0;
  for (bool over = false; !over;) {
    harness_.loop->step();
    const auto reports = harness_.read_reports();
    answered += one.read().size();
    over = !reports.empty();
    if (over) {
      EXPECT_EQ(reports.front().type, wire::Report::LaneEnded);
      EXPECT_EQ(reports.front().lane, 1u);
      EXPECT_EQ(reports.front().code, StatusCode::Unavailable);
    }
  }
  EXPECT_EQ(answered, 5u);
  EXPECT_EQ(one.taken(), 5u) << "the sixth goes another way";
  EXPECT_EQ((*memory_)[0], 5u);
  EXPECT_EQ(harness_.loop->open_lanes(), 0u);
}

TEST_P(LanesTest, NothingIsTakenOnceKaasdHasCountedAnEndThatWasNotSeen) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2, 1);
  for (std::uint64_t id = 1; id <= 5; ++id) {
    one.invoke(id, 1);
    two.invoke(id, 1);
  }
  set_lanes_ended(1);
  for (int i = 0; i < 10; ++i) harness_.loop->step();
  EXPECT_EQ(one.taken() + two.taken(), 0u);
  EXPECT_FALSE(harness_.loop->announce_sleep());
  one.end();
  EXPECT_EQ(ended().lane, 1u);
  EXPECT_EQ(one.taken(), 0u);
  EXPECT_EQ((*memory_)[0], 0u);
  EXPECT_EQ(two.read().size(), 5u) << "the other lane goes on";
}

TEST_P(LanesTest, TheCountIsLookedAtBeforeEverySlot) {
  LaneEnd& one = lane(1);
  // The second invocation of a batch finds what the first one's kernel has counted.
  load(fill_plan(2, 1));
  one.attach(41, bytes_of(harness_.work), true);
  add(one, 2, {.plan = 2, .stores = {at(41, offsetof(RingHeader, lanes_ended))}});
  one.invoke(1, 2);
  one.invoke(2, 1);
  harness_.loop->step();
  EXPECT_EQ(one.taken(), GetParam() ? 2u : 1u) << "kernels are done later there";
  one.end();
  ended();
  EXPECT_EQ(one.read().size(), one.taken());
}

TEST_P(LanesTest, EndOfALaneThatHasEndedIsCounted) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2);
  one.invoke(1, 77);
  EXPECT_EQ(ended().code, StatusCode::ProtocolViolation);
  set_lanes_ended(1);
  one.end();  // kaasd had not read of it yet.
  EXPECT_TRUE(harness_.settle().empty());
  two.invoke(1, 1);
  harness_.settle();
  EXPECT_EQ(two.read().size(), 1u);
}

TEST_P(LanesTest, RemovedCallGoesOnWhereItWasTaken) {
  LaneEnd& one = lane(1);
  add(one, 2, {.plan = 1, .loads = {at(kMemory, 4)}, .stores = {at(kMemory, 4)}});
  one.invoke(1, 2);
  harness_.loop->step();
  one.remove(2);
  one.remove(3);
  one.invoke(2, 1);
  harness_.settle();
  EXPECT_EQ(one.read().size(), 2u);
  EXPECT_EQ((*memory_)[0], 1u);
  EXPECT_EQ((*memory_)[1], 1u);
  one.invoke(3, 2);
  EXPECT_EQ(ended().code, StatusCode::ProtocolViolation);
}

// --- Clients that break the protocol -------------------------------------------------------------

class LaneViolationTest : public LanesTest {
 protected:
  // Lane 1 ends with what it had taken answered; lane 2 and kaasd's work go on.
  void expect_violation(LaneEnd& one, LaneEnd& two, std::uint64_t answers = 1) {
    harness_.run({.run = 9, .loads = {at(kMemory, 8)}, .stores = {at(kMemory, 8)}});
    two.invoke(1, 1);
    auto reports = harness_.settle();
    std::erase_if(reports, [](const auto& each) { return each.type == wire::Report::RunDone; });
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].type, wire::Report::LaneEnded);
    EXPECT_EQ(reports[0].lane, 1u);
    EXPECT_EQ(reports[0].code, StatusCode::ProtocolViolation);
    EXPECT_NE(reports[0].message.find("lane 1"), std::string::npos) << reports[0].message;
    EXPECT_EQ(one.read().size(), answers);
    EXPECT_EQ(one.taken(), answers);
    EXPECT_EQ((*memory_)[2], 1u);
    EXPECT_EQ(two.read().size(), 1u);
    EXPECT_EQ(harness_.loop->open_lanes(), 1u);
  }
  LaneEnd& begun() {
    LaneEnd& one = lane(1);
    one.invoke(1, 1);
    return one;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, LaneViolationTest, testing::Bool(), [](const auto& kind) {
  return kind.param ? "Asynchronous" : "Synchronous";
});

TEST_P(LaneViolationTest, CallThatTheLaneDoesNotHave) {
  LaneEnd& one = begun();
  LaneEnd& two = lane(2, 1);
  one.invoke(2, 2);
  one.invoke(3, 1);
  expect_violation(one, two);
}

TEST_P(LaneViolationTest, MessagesOfAnotherSize) {
  for (const std::size_t bytes : {std::size_t{0}, sizeof(LaneInvoke) - 1, sizeof(LaneInvoke) + 1,
                                  kSlotPayloadBytes, kSlotPayloadBytes + 1}) {
    LoopHarness fresh({.asynchronous = GetParam()});
    fresh.load_library();
    fresh.load_plan(add_one_plan(1, 1));
    fresh.segment(kMemory, Words(64));
    LaneEnd one(fresh, 1);
    one.start();
    one.add(1, {.plan = 1, .loads = {at(kMemory, 0)}, .stores = {at(kMemory, 0)}});
    fresh.settle();
    std::vector<std::byte> message(bytes);
    if (bytes >= 12) message[8] = std::byte{1};  // The call.
    ASSERT_TRUE(one.writer.try_write(message));
    const SeenReport report = fresh.only_report();
    EXPECT_EQ(report.type, wire::Report::LaneEnded) << bytes;
    EXPECT_EQ(report.code, StatusCode::ProtocolViolation) << bytes;
    EXPECT_EQ(one.taken(), 0u) << bytes;
  }
}

TEST_P(LaneViolationTest, SequenceThatCanNotBe) {
  LaneEnd& one = begun();
  LaneEnd& two = lane(2, 1);
  one.next_slot().sequence.store(77);
  expect_violation(one, two);
}

TEST_P(LaneViolationTest, BytesBeyondTheSlot) {
  LaneEnd& one = begun();
  LaneEnd& two = lane(2, 1);
  Slot& slot = one.next_slot();
  slot.bytes = 0x8000'0000u;
  slot.heap_offset = 0;
  slot.sequence.store(one.writer.written() + 1);
  expect_violation(one, two);
}

TEST_P(LaneViolationTest, MoreAnswersReadThanThereAre) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2, 1);
  for (std::uint32_t n = 0; n < kLaneSlots; ++n) one.invoke(n, 1);
  harness_.settle();
  one.invoke(1000, 1);
  one.in.view().header->consumed.store(kLaneSlots + 1);
  expect_violation(one, two, kLaneSlots);
}

TEST_P(LaneViolationTest, CountOfReadAnswersThatGoesBackwards) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2, 1);
  for (std::uint32_t n = 0; n < kLaneSlots; ++n) one.invoke(n, 1);
  harness_.settle();
  ASSERT_EQ(one.read().size(), kLaneSlots);
  for (std::uint32_t n = 0; n < kLaneSlots; ++n) one.invoke(n, 1);
  harness_.settle();
  one.invoke(1000, 1);
  one.in.view().header->consumed.store(3);
  harness_.run({.run = 9, .loads = {at(kMemory, 8)}, .stores = {at(kMemory, 8)}});
  two.invoke(1, 1);
  const auto reports = harness_.settle();
  EXPECT_TRUE(std::any_of(reports.begin(), reports.end(), [](const SeenReport& report) {
    return report.type == wire::Report::LaneEnded && report.code == StatusCode::ProtocolViolation;
  }));
  EXPECT_EQ(one.taken(), 2 * kLaneSlots);
  EXPECT_EQ(two.read().size(), 1u);
}

TEST_P(LaneViolationTest, BellThatIsRungOnAndOn) {
  LaneEnd& one = lane(1);
  LaneEnd& two = lane(2, 1);
  for (std::uint32_t n = 0; n <= kLaneRingsInVainMax; ++n) {
    EXPECT_EQ(harness_.bells.size(), 2u) << n;
    one.bell.ring();
    harness_.loop->bell_rang(1);
  }
  EXPECT_EQ(harness_.bells.size(), 1u) << "not after the report only";
  expect_violation(one, two, 0);
}

// --- Messages of kaasd ---------------------------------------------------------------------------

class LaneStartTest : public LanesTest {
 protected:
  StatusCode refused(LaneEnd& one, const std::string& about) {
    const SeenReport report = ended();
    EXPECT_EQ(report.lane, one.lane);
    EXPECT_NE(report.message.find(about), std::string::npos) << report.message;
    return report.code;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, LaneStartTest, testing::Values(false));

TEST_P(LaneStartTest, GeometryIsThatOfLanes) {
  LaneEnd one(harness_, 1);
  one.start({kLaneSlots * 2, kLaneGeometry.heap_bytes}, one.in_segment(), one.out_segment());
  EXPECT_EQ(refused(one, "slot_count of a lane is 128, wanted 64"), StatusCode::InvalidArgument);
  one.start({kLaneSlots, 64}, one.in_segment(), one.out_segment());
  EXPECT_EQ(refused(one, "heap_bytes of a lane is 64, wanted 512"), StatusCode::InvalidArgument);
  EXPECT_EQ(harness_.loop->open_lanes(), 0u);
}

TEST_P(LaneStartTest, SegmentsAreAttachedMappedAndLargeEnough) {
  LaneEnd one(harness_, 1);
  one.start(kLaneGeometry, 999, one.out_segment());
  EXPECT_EQ(refused(one, "segment 999"), StatusCode::InvalidArgument);
  one.start(kLaneGeometry, one.in_segment(), 999);
  EXPECT_EQ(refused(one, "segment 999"), StatusCode::InvalidArgument);
  one.start(kLaneGeometry, one.in_segment(), one.in_segment());
  EXPECT_EQ(refused(one, "writable"), StatusCode::InvalidArgument);
  std::vector<std::uint64_t> little(64);
  one.attach(50, std::as_writable_bytes(std::span(little)), true);
  one.start(kLaneGeometry, one.in_segment(), 50);
  EXPECT_EQ(refused(one, "bytes"), StatusCode::InvalidArgument);
  one.start(kLaneGeometry, 50, one.out_segment());
  EXPECT_EQ(refused(one, "bytes"), StatusCode::InvalidArgument);
  SegmentTerms guarded;
  guarded.segment = 51;
  guarded.bytes = kLaneGeometry.segment_bytes();
  guarded.guarded = guarded.writable = true;
  harness_.source.queue.push_back(
      {51, ExecutorSegment::create(guarded, *create_segment("test", guarded.bytes))});
  one.start(kLaneGeometry, one.in_segment(), 51);
  EXPECT_EQ(refused(one, "mapped"), StatusCode::InvalidArgument);
  harness_.source.queue.push_back({52, Status{StatusCode::ResourceExhausted, "no map 52"}});
  one.start(kLaneGeometry, one.in_segment(), 52);
  EXPECT_EQ(refused(one, "no map 52"), StatusCode::ResourceExhausted);
  EXPECT_EQ(harness_.loop->open_lanes(), 0u);
}

TEST_P(LaneStartTest, BellIsOneAndCanBeHeard) {
  LaneEnd one(harness_, 1);
  one.start(kLaneGeometry, one.in_segment(), one.out_segment(), 999);
  EXPECT_EQ(refused(one, "segment 999"), StatusCode::InvalidArgument);
  one.start(kLaneGeometry, one.in_segment(), one.out_segment(), one.in_segment());
  EXPECT_EQ(refused(one, "bell_segment of a lane is segment 103, which is no bell"),
            StatusCode::InvalidArgument);
  one.start(kLaneGeometry, one.in_segment(), one.bell_segment());
  EXPECT_EQ(refused(one, "mapped"), StatusCode::InvalidArgument);
  harness_.bells.refuse = true;
  one.start();
  EXPECT_EQ(refused(one, "no bell is heard"), StatusCode::ResourceExhausted);
  EXPECT_EQ(harness_.loop->open_lanes(), 0u);
  EXPECT_EQ(harness_.bells.size(), 0u);
}

TEST_P(LaneStartTest, NumberThatIsKnownIsRefused) {
  LaneEnd& one = lane(1);
  one.start();
  EXPECT_EQ(refused(one, "known"), StatusCode::AlreadyExists);
  EXPECT_EQ(harness_.loop->open_lanes(), 1u);
}

TEST_P(LaneStartTest, CallsAreRefusedWithACause) {
  LaneEnd& one = lane(1);
  const auto refused_call = [&](std::uint32_t call, const TestRun& run, const char* about) {
    one.add(call, run);
    const SeenReport report = harness_.only_report();
    EXPECT_EQ(report.type, wire::Report::LaneCallAdded);
    EXPECT_EQ(report.id, call);
    EXPECT_NE(report.message.find(about), std::string::npos) << report.message;
    return report.code;
  };
  const TestRun good{.plan = 1, .loads = {at(kMemory, 0)}, .stores = {at(kMemory, 0)}};
  TestRun run = good;
  run.plan = 99;
  EXPECT_EQ(refused_call(2, run, "plan"), StatusCode::NotFound);
  run = good;
  run.stores = {at(kMemory, 0, 500)};
  EXPECT_EQ(refused_call(2, run, "store 0"), StatusCode::InvalidArgument);
  run.stores = {at(0, 0)};
  EXPECT_EQ(refused_call(2, run, "store 0"), StatusCode::InvalidArgument);
  run = good;
  run.loads = {at(0, 0, 500)};
  EXPECT_EQ(refused_call(2, run, "load 0"), StatusCode::InvalidArgument)
      << "a version that is on the device only may be gone at any time";
  run.loads = {};
  EXPECT_EQ(refused_call(2, run, "0 loads, its plan 1"), StatusCode::InvalidArgument);
  EXPECT_EQ(refused_call(1, good, "known"), StatusCode::InvalidArgument);
  for (std::uint32_t call = 2; call <= kLaneCallsMax; ++call) add(one, call, good);
  EXPECT_EQ(refused_call(kLaneCallsMax + 1, good, "64"), StatusCode::InvalidArgument);
  one.remove(5);
  add(one, kLaneCallsMax + 1, good);
  one.invoke(1, kLaneCallsMax + 1);
  harness_.settle();
  EXPECT_EQ(one.read(), std::vector<Answered>{{1}});
}

TEST_P(LaneStartTest, CallOfALaneThatIsNotThereIsRefused) {
  load(add_one_plan(1, 1));
  LaneEnd one(harness_, 1);
  one.add(3, {.plan = 1, .loads = {at(kMemory, 0)}, .stores = {at(kMemory, 0)}});
  const SeenReport report = harness_.only_report();
  EXPECT_EQ(report.type, wire::Report::LaneCallAdded);
  EXPECT_EQ(report.lane, 1u);
  EXPECT_EQ(report.id, 3u);
  EXPECT_EQ(report.code, StatusCode::Unavailable);
  one.end();
  one.remove(3);
  EXPECT_TRUE(harness_.settle().empty());
}

TEST_P(LaneStartTest, NothingIsTakenAfterTheDeviceWasLost) {
  LaneEnd& one = lane(1);
  for (std::uint64_t id = 1; id <= 10; ++id) one.invoke(id, 1);
  harness_.fake->lose_at_launch(3);
  while (harness_.loop->step() == StepOutcome::Progress) {
  }
  EXPECT_EQ(harness_.loop->step(), StepOutcome::Closed);
  EXPECT_EQ(one.taken(), 3u) << "what was not taken may be sent elsewhere";
  EXPECT_EQ(one.read(), (std::vector<Answered>{{1}, {2}}));
  EXPECT_TRUE(harness_.read_reports().empty());
}

}  // namespace
}  // namespace kaas
