// What requests of one ring see of one another.
#include <algorithm>

#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

const Words kOnes(16, 1);
const Words kTwos(16, 2);
constexpr std::uint64_t kBytes = 64;

TEST_F(DispatcherTest, RequestReadsWhatThePutBeforeItWrote) {
  put("x", kTwos);
  const auto id = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(read_key("y"), kTwos);
}

TEST_F(DispatcherTest, ReaderIsPipelinedOnAPendingVersion) {
  submit(fill_request(store_buffer("x", kBytes), 7));
  const auto id = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(read_key("y"), Words(16, 7));
}

TEST_F(HeldDispatcherTest, PipelinedRequestsAreInFlightTogether) {
  submit(fill_request(store_buffer("x", kBytes), 7));
  submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  submit(copy_request(store_buffer("y", kBytes), store_buffer("z", kBytes)));
  SimExecutor& executor = start();
  step();
  EXPECT_EQ(dispatcher().executors().at(executor.number())->in_flight.size(), 3u);
  settle();
  EXPECT_EQ(read_key("z"), Words(16, 7));
}

TEST_F(DispatcherTest, LaterWriterOfAKeyWins) {
  for (std::uint32_t value = 1; value <= 5; ++value) {
    submit(fill_request(store_buffer("x", kBytes), value));
  }
  settle();
  EXPECT_EQ(read_key("x"), Words(16, 5));
}

TEST_F(DispatcherTest, ReaderBeforeAWriterSeesTheOldVersion) {
  put("x", kOnes);
  submit(copy_request(store_buffer("x", kBytes), store_buffer("old", kBytes)));
  submit(fill_request(store_buffer("x", kBytes), 9));
  settle();
  EXPECT_EQ(read_key("old"), kOnes);
  EXPECT_EQ(read_key("x"), Words(16, 9));
}

TEST_F(DispatcherTest, ArenaRangesAreReadAndWrittenInOrder) {
  const std::uint32_t arena = client->arena();
  const auto at = [&](std::uint64_t offset) {
    return segment_buffer("at" + std::to_string(offset), kBytes, arena, offset);
  };
  submit(fill_request(at(0), 3));          // Write.
  submit(copy_request(at(0), at(1024)));   // Read after write.
  submit(fill_request(at(0), 4));          // Write after read.
  submit(add_one_request(at(0)));          // In place.
  submit(copy_request(at(32), at(2048)));  // Half of it; half nobody wrote.
  settle();
  const auto words_at = [&](std::uint64_t offset) {
    return to_words(client->arena_bytes().subspan(offset, kBytes));
  };
  EXPECT_EQ(words_at(1024), Words(16, 3));
  EXPECT_EQ(words_at(0), Words(16, 5));
  Words half(16, 0);
  std::fill_n(half.begin(), 8, 5u);
  EXPECT_EQ(words_at(2048), half);
}

// Room for requests of thousands of buffers, which nobody executes.
class WideDispatcherTest : public DispatcherTest {
 protected:
  static WorldOptions options() {
    WorldOptions wide;
    wide.start_executors = false;
    wide.client_rings = {64, 8u << 20};
    wide.arena_bytes = 1u << 20;
    return wide;
  }
  WideDispatcherTest() : DispatcherTest(options()) {}

  // Buffers of the arena that overlap one another, each but a little behind the one before.
  RequestSpec crowded(std::size_t buffers, wire::Access access) {
    RequestSpec request;
    for (std::size_t b = 0; b < buffers; ++b) {
      request.buffers.push_back(
          segment_buffer("b" + std::to_string(b), 64u << 10, client->arena(), b * 4));
      request.kernels.push_back(fake_kernel("any", {}, {{static_cast<std::uint16_t>(b), access}}));
    }
    return request;
  }
  // Of the request with that id.
  std::vector<std::uint64_t> depends_on(std::uint64_t id) {
    std::vector<std::uint64_t> ids;
    dispatcher().runs().for_each([&](const auto& run) {
      if (run.id != id) return;
      for (const auto* earlier : run.depends_on) ids.push_back(earlier->id);
    });
    std::sort(ids.begin(), ids.end());
    return ids;
  }
};

TEST_F(WideDispatcherTest, RequestFollowsAllBeforeItWhereTooMuchOverlaps) {
  const auto apart = submit(
      fill_request(segment_buffer("apart", kBytes, client->arena(), (1u << 20) - kBytes), 1));
  const auto reader = submit(crowded(4000, wire::Access::In));
  const auto few = submit(crowded(10, wire::Access::Out));
  const auto many = submit(crowded(4000, wire::Access::InOut));
  step();
  EXPECT_EQ(depends_on(reader), std::vector<std::uint64_t>{});
  EXPECT_EQ(depends_on(few), std::vector<std::uint64_t>{reader});
  EXPECT_EQ(depends_on(many), (std::vector<std::uint64_t>{apart, reader, few}));
}

// Each overlaps all before it and covers none.
TEST_F(WideDispatcherTest, CancelledRequestsLeaveTheOrderOfTheOthersAsItWas) {
  std::vector<std::uint64_t> left;
  std::vector<std::uint64_t> cancelled;
  for (std::uint64_t n = 0; n < 40; ++n) {
    const auto id = submit(fill_request(segment_buffer("b", 4096, client->arena(), n * 4), 1));
    (n * 7 % 3 == 1 ? cancelled : left).push_back(id);
  }
  step();
  std::reverse(cancelled.begin() + 4, cancelled.end());
  for (const std::uint64_t id : cancelled) cancel(id);
  step();
  for (std::size_t n = 0; n < left.size(); ++n) {
    EXPECT_EQ(depends_on(left[n]),
              std::vector<std::uint64_t>(left.begin(), left.begin() + static_cast<int>(n)));
  }
}

TEST_F(HeldDispatcherTest, OverlappingArenaRangesWaitForOneAnother) {
  const std::uint32_t arena = client->arena();
  submit(fill_request(segment_buffer("a", kBytes, arena, 0), 1));
  submit(fill_request(segment_buffer("b", kBytes, arena, 32), 2));
  submit(fill_request(segment_buffer("c", kBytes, arena, 4096), 3));
  step();
  std::map<std::uint64_t, std::size_t> waits;
  dispatcher().runs().for_each([&](const auto& run) { waits[run.id] = run.depends_on.size(); });
  EXPECT_EQ(waits, (std::map<std::uint64_t, std::size_t>{{1, 0}, {2, 1}, {3, 0}}));
}

// A put copies from the arena what the requests before it leave there.
TEST_F(HeldDispatcherTest, PutOfAnArenaRangeWaitsForItsWriter) {
  const std::uint32_t arena = client->arena();
  submit(fill_request(segment_buffer("a", kBytes, arena, 0), 8));
  const auto id =
      send([&](std::uint64_t n) { return put_segment_message(n, "x", arena, 0, kBytes); });
  step();
  EXPECT_FALSE(answered(id));
  start();
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(read_key("x"), Words(16, 8));
}

TEST_F(HeldDispatcherTest, PutOfAnArenaRangeDoesNotWaitForReadersOrOthers) {
  const std::uint32_t arena = client->arena();
  submit(copy_request(segment_buffer("a", kBytes, arena, 0), store_buffer("y", kBytes)));
  submit(fill_request(segment_buffer("b", kBytes, arena, 1024), 8));
  const auto id =
      send([&](std::uint64_t n) { return put_segment_message(n, "x", arena, 0, kBytes); });
  step();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(HeldDispatcherTest, GetAndStatOfAPendingKeyAreAnsweredWhenItIsPublished) {
  put("x", kOnes);
  submit(fill_request(store_buffer("x", kBytes), 6));
  const auto read = get("x");
  const auto info = stat("x");
  const auto other = get("none");
  step();
  EXPECT_FALSE(answered(read));
  EXPECT_FALSE(answered(info));
  EXPECT_EQ(code(other), StatusCode::NotFound);
  start();
  settle();
  EXPECT_EQ(words(read), Words(16, 6));
  EXPECT_EQ(answer(info).bytes, kBytes);
  EXPECT_EQ(answer(info).version, answer(read).version);
}

TEST_F(HeldDispatcherTest, PutAndRemoveOfAPendingKeyStallTheirRingOnly) {
  SimClient& other = world.connect(client->uid());
  submit(fill_request(store_buffer("x", kBytes), 6));
  const auto stalled = put("x", kOnes);
  const auto behind = remove("x");
  const auto last = stat("x");
  ASSERT_TRUE(other.send(0, put_message(100, "y", to_bytes(kOnes))));
  step();
  EXPECT_FALSE(answered(stalled));
  EXPECT_FALSE(answered(behind));
  EXPECT_EQ(code(100), StatusCode::Ok);
  start();
  settle();
  EXPECT_EQ(code(stalled), StatusCode::Ok);
  EXPECT_EQ(code(behind), StatusCode::Ok);
  EXPECT_EQ(code(last), StatusCode::NotFound);
}

TEST_F(DispatcherTest, SlicesOfAKeyAreAssembledOverItsOldBytes) {
  put("x", Words(32, 1));
  submit(fill_request(store_buffer("part", kBytes, "x", 64), 5));
  settle();
  Words expected(32, 1);
  std::fill(expected.begin() + 16, expected.end(), 5u);
  EXPECT_EQ(read_key("x"), expected);
}

TEST_F(DispatcherTest, SlicesOfOneRequestMakeOneVersion) {
  RequestSpec request;
  request.buffers = {store_buffer("low", 32, "x", 0), store_buffer("high", 32, "x", 64)};
  request.kernels = {fill_kernel(8, 1, 0), fill_kernel(8, 2, 1)};
  submit(request);
  const auto read = submit(copy_request(store_buffer("x", 96), store_buffer("y", 96)));
  settle();
  EXPECT_EQ(code(read), StatusCode::Ok);
  Words expected(24, 0);
  std::fill_n(expected.begin(), 8, 1u);
  std::fill_n(expected.begin() + 16, 8, 2u);
  EXPECT_EQ(read_key("y"), expected);
}

TEST_F(DispatcherTest, LargeOutputsAndTheirSlicesArrive) {
  const std::uint64_t large = kSlabObjectBytesMax + 4096;
  submit(fill_request(store_buffer("x", large), 3));
  submit(fill_request(store_buffer("part", large, "x", 4096), 4));
  settle();
  Words expected((large + 4096) / 4, 4);
  std::fill_n(expected.begin(), 1024, 3u);
  EXPECT_EQ(read_key("x"), expected);
}

TEST_F(DispatcherTest, ZeroFilledInputMayBeShorterThanItsBuffer) {
  submit(fill_request(store_buffer("x", 32), 3));
  BufferSpec in = store_buffer("x", kBytes);
  in.zero_fill = true;
  submit(copy_request(in, store_buffer("y", kBytes)));
  settle();
  Words expected(16, 0);
  std::fill_n(expected.begin(), 8, 3u);
  EXPECT_EQ(read_key("y"), expected);
}

TEST_F(DispatcherTest, RingsHaveNoCommonOrderButKeepTheirOwn) {
  SimClient& two = world.connect(client->uid(), 2);
  for (std::uint32_t value = 1; value <= 20; ++value) {
    const auto bytes = encode_request(fill_request(store_buffer("x", kBytes), value));
    ASSERT_TRUE(two.send(value % 2, submit_message(100 + value, bytes)));
  }
  settle();
  for (std::uint64_t id = 101; id <= 120; ++id) EXPECT_EQ(code(id), StatusCode::Ok);
  const std::uint32_t last = read_key("x").front();
  EXPECT_TRUE(last == 19 || last == 20) << last;
}

// --- Writers that end before their time ---------------------------------------------------------

// The one executor takes one run at a time, so that the others are queued.
class NarrowDispatcherTest : public DispatcherTest {
 protected:
  static WorldOptions options() {
    WorldOptions narrow;
    narrow.start_executors = false;
    narrow.runs_per_executor = 1;
    return narrow;
  }
  NarrowDispatcherTest() : DispatcherTest(options()) {
    world.start_executor(client->uid()).step();
    step();
  }
};

TEST_F(NarrowDispatcherTest, RequestCancelledBehindARunningOneIsForgottenByIt) {
  const auto running = submit(fill_request(store_buffer("x", kBytes), 1));
  const auto queued = submit(fill_request(store_buffer("x", kBytes), 2));
  const auto cancelled = cancel(queued);
  step();
  EXPECT_EQ(code(cancelled), StatusCode::Ok);
  EXPECT_EQ(code(queued), StatusCode::Cancelled);
  settle();
  EXPECT_EQ(code(running), StatusCode::Ok);
  EXPECT_EQ(under_way(), 0u);
  EXPECT_EQ(read_key("x"), kOnes);
}

TEST_F(NarrowDispatcherTest, CancelledWriterGivesTheKeyBackToTheWriterBeforeIt) {
  submit(fill_request(store_buffer("x", kBytes), 1));
  const auto queued = submit(fill_request(store_buffer("x", kBytes), 2));
  cancel(queued);
  const auto read = get("x");
  const auto copied = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  step();
  EXPECT_EQ(code(queued), StatusCode::Cancelled);
  EXPECT_FALSE(answered(read)) << answers[read].message;
  settle();
  EXPECT_EQ(words(read), kOnes);
  EXPECT_EQ(code(copied), StatusCode::Ok);
  EXPECT_EQ(read_key("y"), kOnes);
}

TEST_F(NarrowDispatcherTest, WriterBehindACancelledOneStillWaitsForTheWriterBeforeBoth) {
  submit(fill_request(store_buffer("x", kBytes), 1));
  const auto second = submit(fill_request(store_buffer("x", kBytes), 2));
  const auto third = submit(fill_request(store_buffer("x", kBytes), 3));
  cancel(second);
  step();
  std::map<std::uint64_t, std::vector<std::uint64_t>> waits;
  dispatcher().runs().for_each([&](const auto& run) {
    for (const auto* earlier : run.depends_on) waits[run.id].push_back(earlier->id);
  });
  EXPECT_EQ(waits, (std::map<std::uint64_t, std::vector<std::uint64_t>>{{third, {1}}}));
  settle();
  EXPECT_EQ(read_key("x"), Words(16, 3));
}

TEST_F(NarrowDispatcherTest, SlicesBehindACancelledSliceStillWaitForTheWriterBeforeIt) {
  submit(fill_request(store_buffer("x", kBytes), 1));
  const auto second = submit(fill_request(store_buffer("x", kBytes), 2));
  cancel(second);
  submit(fill_request(store_buffer("part", 32, "x", 32), 3));
  settle();
  Words expected(16, 1);
  std::fill(expected.begin() + 8, expected.end(), 3u);
  EXPECT_EQ(read_key("x"), expected);
}

}  // namespace
}  // namespace kaas
