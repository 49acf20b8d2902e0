// The slot ring, one thread: what is written arrives, and no word of a peer is believed.
#include <random>

#include "tests/unit/ipc/ring_pair.h"

namespace kaas {
namespace {

TEST(SpscRing, MessagesArriveInOrderOverManyLaps) {
  RingPair ring;
  for (std::uint32_t n = 0; n < 1000; ++n) {
    ASSERT_TRUE(ring.write(n % 200, n));
    ring.expect(n % 200, n);
  }
  EXPECT_EQ(ring.look(), ReadOutcome::Empty);
  EXPECT_EQ(ring.writer.written(), 1000u);
  EXPECT_EQ(ring.writer.consumed(), 1000u);
}

TEST(SpscRing, FullRingRefusesUntilTheReaderPublishes) {
  RingPair ring;
  for (std::uint32_t n = 0; n < 8; ++n) ASSERT_TRUE(ring.write(10, n));
  EXPECT_FALSE(ring.write(10, 8));
  ASSERT_EQ(ring.look(), ReadOutcome::Message);
  ring.reader.advance();
  EXPECT_EQ(ring.reader.unpublished(), 1u);
  EXPECT_FALSE(ring.write(10, 8)) << "read, but not published";
  ring.reader.publish();
  EXPECT_TRUE(ring.write(10, 8));
  EXPECT_FALSE(ring.write(10, 9));
  for (std::uint32_t n = 1; n < 9; ++n) ring.expect(10, n);
}

TEST(SpscRing, MessageThatJustFitsASlotNeedsNoHeap) {
  RingPair ring;
  ASSERT_TRUE(ring.write(kSlotPayloadBytes, 1));
  ASSERT_TRUE(ring.write(kSlotPayloadBytes + 1, 2));
  EXPECT_EQ(ring.a.view().slots[0].heap_offset, kInSlot);
  EXPECT_EQ(ring.a.view().slots[1].heap_offset, 0u);
  ring.expect(kSlotPayloadBytes, 1);
  ring.expect(kSlotPayloadBytes + 1, 2);
}

TEST(SpscRing, EmptyMessageIsAMessage) {
  RingPair ring;
  ASSERT_TRUE(ring.write(0, 1));
  ring.expect(0, 1);
}

TEST(SpscRing, HeapMessageNeverStraddlesTheEnd) {
  RingPair ring;                     // A heap of 4096 bytes.
  ASSERT_TRUE(ring.write(1500, 1));  // [0, 1536)
  ASSERT_TRUE(ring.write(1500, 2));  // [1536, 3072)
  ring.expect(1500, 1);
  ASSERT_TRUE(ring.write(1500, 3)) << "the end is too short; the first 1536 bytes are free";
  EXPECT_EQ(ring.a.view().slots[2].heap_offset, 0u);
  EXPECT_FALSE(ring.write(1500, 4)) << "message 2 lies there";
  ring.expect(1500, 2);
  ring.expect(1500, 3);
}

TEST(SpscRing, FullHeapRefusesThoughSlotsAreFree) {
  RingPair ring;
  ASSERT_TRUE(ring.write(2000, 1));
  ASSERT_TRUE(ring.write(2000, 2));
  EXPECT_FALSE(ring.write(300, 3));
  EXPECT_TRUE(ring.write(100, 4)) << "short ones need no heap";
  ring.expect(2000, 1);
  EXPECT_TRUE(ring.write(300, 5));
  ring.expect(2000, 2);
  ring.expect(100, 4);
  ring.expect(300, 5);
}

TEST(SpscRing, MessageOverHalfAHeapNeverFits) {
  RingPair ring;
  EXPECT_FALSE(ring.writer.can_write(2049));
  EXPECT_FALSE(ring.write(2049, 1));
  EXPECT_TRUE(ring.write(2048, 1));
}

TEST(SpscRing, LargestMessageAlwaysFitsAnEmptyRing) {
  std::mt19937 random(1);
  RingPair ring;
  for (std::uint32_t n = 0; n < 2000; ++n) {
    const std::size_t bytes = random() % 2049;
    ASSERT_TRUE(ring.write(bytes, n));
    ring.expect(bytes, n);
    ASSERT_TRUE(ring.writer.can_write(2048)) << "after message " << n;
  }
}

// Against a plain queue: sizes, batches and publishing at random.
TEST(SpscRing, BehavesAsAQueueThatIsSometimesFull) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    RingPair ring;
    std::vector<std::pair<std::size_t, std::uint32_t>> queue;
    std::size_t first = 0;
    for (std::uint32_t n = 0; n < 2000; ++n) {
      if (random() % 2 == 0) {
        const std::size_t bytes = random() % 3 == 0 ? random() % 2048 : random() % 240;
        if (ring.write(bytes, n)) queue.emplace_back(bytes, n);
      } else if (first < queue.size()) {
        ring.expect(queue[first].first, queue[first].second);
        ++first;
      } else {
        ASSERT_EQ(ring.look(), ReadOutcome::Empty);
      }
    }
    EXPECT_GT(first, 500u);
  }
}

// --- What a peer may write -----------------------------------------------------------------------

class HostileRing : public testing::Test {
 protected:
  Slot& next_slot() {
    return ring.a.view().slots[ring.reader.position() % ring.a.view().geometry.slot_count];
  }
  // Makes the next slot Ready with these words.
  void present(std::uint32_t bytes, std::uint32_t heap_offset) {
    next_slot().bytes = bytes;
    next_slot().heap_offset = heap_offset;
    next_slot().sequence.store(ring.reader.position() + 1);
  }
  void go_round() {
    for (std::uint32_t n = 0; n < 20; ++n) {
      ASSERT_TRUE(ring.write(10, n));
      ring.expect(10, n);
    }
  }
  RingPair ring;
};

TEST_F(HostileRing, SequenceFarAheadIsAViolation) {
  next_slot().sequence.store(2);
  EXPECT_EQ(ring.look(), ReadOutcome::Violation);
  EXPECT_TRUE(ring.reader.waiting()) << "it must not be slept over";
  next_slot().sequence.store(~std::uint64_t{0});
  EXPECT_EQ(ring.look(), ReadOutcome::Violation);
}

TEST_F(HostileRing, SequenceOfAnEarlierLapIsAnEmptySlotAndOthersAreNot) {
  go_round();  // Position 20: the slot's last sequence is 13.
  EXPECT_EQ(ring.look(), ReadOutcome::Empty);
  EXPECT_FALSE(ring.reader.waiting());
  for (const std::uint64_t sequence : {0u, 5u, 12u, 14u, 20u, 22u, 29u}) {
    next_slot().sequence.store(sequence);
    EXPECT_EQ(ring.look(), ReadOutcome::Violation) << sequence;
  }
  next_slot().sequence.store(13);
  EXPECT_EQ(ring.look(), ReadOutcome::Empty);
}

TEST_F(HostileRing, SlotThatClaimsMoreThanItHoldsIsAViolation) {
  present(kSlotPayloadBytes + 1, kInSlot);
  EXPECT_EQ(ring.look(), ReadOutcome::Violation);
  present(0xffff'ffffu, kInSlot);
  EXPECT_EQ(ring.look(), ReadOutcome::Violation);
}

TEST_F(HostileRing, HeapPlacesOutsideTheHeapAreViolations) {
  const std::uint32_t cases[][2] = {
      {2049, 0},                     // Over half a heap.
      {64, 4096},                    // Behind the end.
      {2048, 2112},                  // Over the end.
      {65, 4032},         {64, 32},  // Not where a message can begin.
      {64, 0xffff'ffc0u},            // Would overflow.
      {0xffff'ffffu, 0},  {0xffff'ffc0u, 64},
  };
  for (const auto& [bytes, offset] : cases) {
    present(bytes, offset);
    EXPECT_EQ(ring.look(), ReadOutcome::Violation) << bytes << " at " << offset;
  }
  present(64, 4032);
  EXPECT_EQ(ring.look(), ReadOutcome::Message);
}

TEST_F(HostileRing, MessageLargerThanTheBufferIsAViolation) {
  MessageBuffer small(100);
  ASSERT_TRUE(ring.write(101, 1));
  EXPECT_EQ(ring.reader.read(small, ring.seen), ReadOutcome::Violation);
}

TEST_F(HostileRing, AnyWordsAtAllStayInsideTheBuffer) {
  std::mt19937 random(3);
  for (int n = 0; n < 20'000; ++n) {
    const auto word = [&] { return static_cast<std::uint32_t>(random() >> random() % 32); };
    present(word(), word());
    if (ring.look() == ReadOutcome::Message) {
      EXPECT_LE(ring.seen.size(), ring.a.view().geometry.message_bytes_max());
    }
  }
}

TEST_F(HostileRing, CounterThatGoesBackIsNotBelieved) {
  go_round();
  ASSERT_EQ(ring.writer.consumed(), 20u);
  ring.b.header().consumed.store(19);
  EXPECT_EQ(ring.writer.consumed(), 20u);
  EXPECT_FALSE(ring.writer.peer_is_sane());
}

TEST_F(HostileRing, CounterAheadOfWhatWasWrittenIsNotBelieved) {
  for (std::uint32_t n = 0; n < 8; ++n) ASSERT_TRUE(ring.write(10, n));
  EXPECT_TRUE(ring.writer.peer_is_sane());
  ring.b.header().consumed.store(9);
  EXPECT_FALSE(ring.write(10, 8)) << "it would overwrite what nobody has read";
  EXPECT_FALSE(ring.writer.peer_is_sane());
  ring.b.header().consumed.store(8);
  EXPECT_FALSE(ring.writer.peer_is_sane()) << "for ever";
}

// --- Sleep flags ---------------------------------------------------------------------------------

TEST(WakeUp, IsDueOnceForEachSleep) {
  RingPair ring;
  EXPECT_FALSE(ring.writer.wake_due());
  announce_sleep(ring.b.header());
  EXPECT_TRUE(ring.writer.wake_due());
  EXPECT_FALSE(ring.writer.wake_due()) << "it was woken from this sleep";
  retract_sleep(ring.b.header());
  EXPECT_FALSE(ring.writer.wake_due());
  announce_sleep(ring.b.header());
  EXPECT_TRUE(ring.writer.wake_due()) << "another sleep";
}

TEST(WakeUp, AnnouncingTwiceIsOneSleepAndRetractingTwiceIsNothing) {
  RingPair ring;
  announce_sleep(ring.b.header());
  const std::uint32_t first = ring.b.header().sleeping.load();
  announce_sleep(ring.b.header());
  EXPECT_EQ(ring.b.header().sleeping.load(), first);
  retract_sleep(ring.b.header());
  const std::uint32_t awake = ring.b.header().sleeping.load();
  EXPECT_EQ(awake % 2, 0u);
  retract_sleep(ring.b.header());
  EXPECT_EQ(ring.b.header().sleeping.load(), awake);
}

TEST(WakeUp, FlagThatWrapsStillTellsSleepsApart) {
  RingPair ring;
  ring.b.header().sleeping.store(0xffff'fffeu);
  announce_sleep(ring.b.header());
  EXPECT_TRUE(ring.writer.wake_due());
  retract_sleep(ring.b.header());
  EXPECT_EQ(ring.b.header().sleeping.load(), 0u);
  announce_sleep(ring.b.header());
  EXPECT_TRUE(ring.writer.wake_due());
}

}  // namespace
}  // namespace kaas
