// Device memory of clients in kaasd: one segment an allocation, its order, its end, no second run.
#include <array>

#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
constexpr std::byte kHandle{1};

BufferSpec handle_buffer(std::string name, std::byte handle, std::uint64_t base_offset = 0,
                         std::uint64_t offset = 0, std::uint64_t base_bytes = 0) {
  BufferSpec buffer;
  buffer.name = std::move(name);
  buffer.bytes.value = kBytes;
  buffer.offset.value = offset;
  buffer.place.where = wire::Where::Ipc;
  buffer.place.ipc_handle.assign(kIpcHandleBytes, handle);
  buffer.place.ipc_base_offset = base_offset;
  buffer.place.ipc_base_bytes = base_bytes;
  return buffer;
}

class DeviceMemoryTest : public DispatcherTest {
 protected:
  static WorldOptions options() {
    WorldOptions options;
    options.start_executors = false;
    options.client_rings.slot_count = 512;
    return options;
  }
  DeviceMemoryTest() : DispatcherTest(options()) {}

  SimExecutor& start() {
    SimExecutor& executor = world.start_executor(client->uid());
    executor.step();
    return executor;
  }
  SimExecutor& start_with_memory() {
    SimExecutor& executor = start();
    executor.device().offer(kHandle, std::as_writable_bytes(std::span(memory)));
    return executor;
  }
  Session& session() { return *dispatcher().find_session(client->session()); }
  Result<SegmentRef> try_add(std::byte handle, std::uint64_t bytes) {
    DeviceMemoryTerms terms;
    terms.handle.assign(kIpcHandleBytes, handle);
    terms.bytes = bytes;
    return session().device_memory.add_registered(
        device_segment(std::move(terms), {}, client->uid(), client->session()), world.segments());
  }
  std::uint32_t add(std::byte handle, std::uint64_t bytes = 4096) {
    const auto added = try_add(handle, bytes);
    EXPECT_TRUE(added.has_value());
    session().segments[(*added)->id] = *added;
    return (*added)->id;
  }
  std::uint32_t add_event(std::byte handle) {
    Segment event;
    event.kind = SegmentKind::Event;
    event.session = client->session();
    event.event.assign(kIpcHandleBytes, handle);
    const SegmentRef added = world.segments().add(std::move(event));
    session().segments[added->id] = added;
    return added->id;
  }
  void drop(std::uint32_t segment) {
    if (session().device_memory.drop(segment)) session().segments.erase(segment);
  }

  Words memory = Words(1024, 3);
};

TEST_F(DeviceMemoryTest, RegisteredMemoryIsReadAndWritten) {
  SimExecutor& executor = start_with_memory();
  const auto segment = add(kHandle);
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, segment, 128)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(memory[31], 3u);
  EXPECT_EQ(memory[32], 4u);
  EXPECT_EQ(memory[47], 4u);
  EXPECT_EQ(memory[48], 3u);
  EXPECT_EQ(executor.device().mapped(), 1u);
}

TEST_F(DeviceMemoryTest, FirstRequestWorksInPlaceAlready) {
  alignas(kDeviceAlignmentBytes) static std::array<std::uint32_t, 64> aligned{};
  SimExecutor& executor = start();
  executor.device().offer(kHandle, std::as_writable_bytes(std::span(aligned)));
  executor.device().fail_allocation(1);
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, add(kHandle, 256))));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(aligned[0], 1u);
}

TEST_F(DeviceMemoryTest, HandleInARequestIsThatOfTheRegistration) {
  SimExecutor& executor = start_with_memory();
  const auto segment = add(kHandle);
  const auto id = submit(add_one_request(handle_buffer("a", kHandle, 128, 64)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(memory[47], 3u);
  EXPECT_EQ(memory[48], 4u);
  EXPECT_EQ(session().device_memory.size(), 1u);
  EXPECT_EQ(executor.device().imports(), 1u);
  EXPECT_EQ(session().segments.count(segment), 1u);
}

TEST_F(DeviceMemoryTest, HandleWithoutRegistrationIsOpenedOnceForAllRequests) {
  SimExecutor& executor = start_with_memory();
  for (int i = 0; i < 10; ++i) submit(add_one_request(handle_buffer("a", kHandle)));
  settle();
  EXPECT_EQ(memory[0], 13u);
  EXPECT_EQ(executor.device().imports(), 1u);
  EXPECT_EQ(session().device_memory.size(), 1u);
}

TEST_F(DeviceMemoryTest, OverlappingRangesWaitForOneAnotherHoweverTheyAreNamed) {
  const auto segment = add(kHandle);
  submit(fill_request(segment_buffer("a", kBytes, segment, 0), 1));
  submit(fill_request(handle_buffer("b", kHandle, 16, 16), 2));
  submit(fill_request(handle_buffer("c", kHandle, 1024), 3));
  submit(fill_request(handle_buffer("d", std::byte{2}, 0), 4));
  step();
  std::map<std::uint64_t, std::size_t> waits;
  dispatcher().runs().for_each([&](const auto& run) { waits[run.id] = run.depends_on.size(); });
  EXPECT_EQ(waits, (std::map<std::uint64_t, std::size_t>{{1, 0}, {2, 1}, {3, 0}, {4, 0}}));
}

TEST_F(DeviceMemoryTest, OneAllocationUnderTwoNamesInARequestIsRefusedIfItIsWritten) {
  start_with_memory();
  const auto segment = add(kHandle);
  const auto both = [&](std::uint64_t in_offset, std::uint64_t out_offset) {
    return submit(copy_request(handle_buffer("in", kHandle, in_offset),
                               segment_buffer("out", kBytes, segment, out_offset)));
  };
  const auto overlapping = both(0, 32);
  const auto before = both(96, 64);
  const auto apart = both(0, 64);
  settle();
  EXPECT_EQ(code(overlapping), StatusCode::InvalidArgument);
  EXPECT_EQ(answer(overlapping).message,
            "buffer 'in' (by IPC handle) and buffer 'out' (in segment " + std::to_string(segment) +
                ") are the same device memory, and one is written: name both by segment");
  EXPECT_EQ(code(before), StatusCode::InvalidArgument);
  EXPECT_EQ(code(apart), StatusCode::Ok) << answer(apart).message;
}

TEST_F(DeviceMemoryTest, RangeBeyondWhatWasRegisteredIsRefusedBeforeItIsSent) {
  const auto segment = add(kHandle, 100);
  const auto by_number = submit(add_one_request(segment_buffer("a", kBytes, segment, 64)));
  const auto by_handle = submit(add_one_request(handle_buffer("b", kHandle, 64)));
  step();
  EXPECT_EQ(code(by_number), StatusCode::InvalidArgument);
  EXPECT_NE(answer(by_number).message.find("100"), std::string::npos);
  EXPECT_EQ(code(by_handle), StatusCode::InvalidArgument);
  EXPECT_NE(answer(by_handle).message.find("100"), std::string::npos);
}

TEST_F(DeviceMemoryTest, RangeBeyondAnAllocationOfUnknownSizeIsRefusedByTheExecutor) {
  start_with_memory();
  const auto inside = submit(add_one_request(handle_buffer("a", kHandle, 4096 - kBytes)));
  const auto outside = submit(add_one_request(handle_buffer("a", kHandle, 4096 - kBytes + 4)));
  settle();
  EXPECT_EQ(code(inside), StatusCode::Ok) << answer(inside).message;
  EXPECT_EQ(code(outside), StatusCode::InvalidArgument);
  EXPECT_NE(answer(outside).message.find("4096"), std::string::npos) << answer(outside).message;
}

TEST_F(DeviceMemoryTest, AnotherSizeForTheSameHandleIsRefused) {
  add(kHandle, 4096);
  const auto other = try_add(kHandle, 8192);
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().message,
            "bytes of the device memory is 8192, the same handle was given with 4096");
  const auto id = submit(add_one_request(handle_buffer("a", kHandle, 0, 0, 2048)));
  step();
  EXPECT_EQ(code(id), StatusCode::InvalidArgument);
}

TEST_F(DeviceMemoryTest, HandleThatCantBeOpenedIsTheErrorOfItsRequest) {
  start_with_memory();
  const auto bad = submit(add_one_request(handle_buffer("a", std::byte{9})));
  const auto good = submit(add_one_request(handle_buffer("a", kHandle)));
  settle();
  EXPECT_EQ(code(bad), StatusCode::InvalidArgument);
  EXPECT_NE(answer(bad).message.find("names no memory"), std::string::npos) << answer(bad).message;
  EXPECT_EQ(code(good), StatusCode::Ok);
}

TEST_F(DeviceMemoryTest, PutOfDeviceMemoryIsRefusedWithWhatToDo) {
  const auto segment = add(kHandle);
  const auto id =
      send([&](std::uint64_t n) { return put_segment_message(n, "x", segment, 0, kBytes); });
  step();
  EXPECT_EQ(code(id), StatusCode::InvalidArgument);
  EXPECT_NE(answer(id).message.find("device memory"), std::string::npos);
}

// --- Its end -------------------------------------------------------------------------------------

TEST_F(DeviceMemoryTest, MemoryThatIsRegisteredTwiceStaysUntilItIsDroppedTwice) {
  SimExecutor& executor = start_with_memory();
  const auto segment = add(kHandle);
  EXPECT_EQ(add(kHandle), segment);
  submit(add_one_request(segment_buffer("a", kBytes, segment)));
  settle();
  drop(segment);
  settle();
  EXPECT_EQ(executor.device().mapped(), 1u);
  drop(segment);
  settle();
  EXPECT_EQ(executor.device().mapped(), 0u);
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, segment)));
  settle();
  EXPECT_EQ(code(id), StatusCode::NotFound);
}

TEST_F(DeviceMemoryTest, OwnerHearsWhenNobodyHasItOpenAnyMore) {
  SimExecutor& executor = start_with_memory();
  const auto segment = add(kHandle);
  submit(add_one_request(segment_buffer("a", kBytes, segment)));
  step();
  bool told = false;
  dispatcher().when_detached(segment, [&] { told = true; });
  drop(segment);
  step();
  EXPECT_FALSE(told) << "a run still uses it";
  while (executor.step() == StepOutcome::Progress) {
  }
  step();
  EXPECT_FALSE(told) << "the executor has not closed it yet";
  EXPECT_EQ(executor.device().mapped(), 1u);
  settle();
  EXPECT_TRUE(told);
  EXPECT_EQ(executor.device().mapped(), 0u);
}

TEST_F(DeviceMemoryTest, ExecutorThatWasNotAskedSaysNothingOfWhoHasIt) {
  start_with_memory();
  const auto segment = add(kHandle);
  submit(add_one_request(segment_buffer("a", kBytes, segment)));
  step();
  bool told = false;
  dispatcher().when_detached(segment, [&] { told = true; });
  drop(segment);
  step();
  SimExecutor& stranger = world.start_executor(client->uid() + 1);
  stranger.step();
  step();
  flatbuffers::FlatBufferBuilder b;
  b.Finish(wire::CreateReportItem(b, wire::Report::SegmentDetached,
                                  wire::CreateSegmentDetached(b, segment).Union()));
  stranger.forge_report(finished(b));
  step();
  EXPECT_FALSE(told) << "a run still uses it";
  settle();
  EXPECT_TRUE(told);
}

TEST_F(DeviceMemoryTest, OwnerHearsAtOnceOfWhatNobodyHas) {
  start_with_memory();
  const auto segment = add(kHandle);
  bool told = false;
  dispatcher().when_detached(segment, [&] { told = true; });
  drop(segment);
  step();
  EXPECT_TRUE(told);
}

TEST_F(DeviceMemoryTest, ExecutorThatDiesHasNothingOpen) {
  const auto number = start_with_memory().number();
  const auto segment = add(kHandle);
  submit(add_one_request(segment_buffer("a", kBytes, segment)));
  settle();
  bool told = false;
  dispatcher().when_detached(segment, [&] { told = true; });
  drop(segment);
  step();
  EXPECT_FALSE(told);
  world.end_executor(number);
  step();
  EXPECT_TRUE(told);
}

TEST_F(DeviceMemoryTest, EndOfTheSessionClosesItsMemory) {
  SimExecutor& executor = start_with_memory();
  const auto segment = add(kHandle);
  executor.device().offer(std::byte{2}, std::as_writable_bytes(std::span(memory)).subspan(2048));
  submit(copy_request(segment_buffer("a", kBytes, segment), store_buffer("x", kBytes)));
  submit(copy_request(handle_buffer("a", std::byte{2}), store_buffer("y", kBytes)));
  settle();
  EXPECT_EQ(executor.device().mapped(), 2u);
  const std::size_t alive = world.segments().alive();
  world.hang_up(*client);
  settle();
  EXPECT_EQ(executor.device().mapped(), 0u);
  EXPECT_EQ(world.segments().alive(), alive - 3) << "both, and the arena";
}

TEST_F(DeviceMemoryTest, ClientThatDiesInTheMiddleOfARunLosesItsMemoryAfterIt) {
  SimExecutor& executor = start_with_memory();
  submit(add_one_request(segment_buffer("a", kBytes, add(kHandle))));
  step();
  world.hang_up(*client);
  step();
  settle();
  EXPECT_EQ(executor.device().mapped(), 0u);
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(DeviceMemoryTest, AnotherClientsMappingOfTheSameMemoryStays) {
  SimExecutor& executor = start_with_memory();
  submit(add_one_request(handle_buffer("a", kHandle)));
  settle();
  SimClient* first = client;
  client = &world.connect();
  const auto id = submit(add_one_request(handle_buffer("a", kHandle)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(executor.device().imports(), 1u);
  world.hang_up(*first);
  settle();
  EXPECT_EQ(executor.device().mapped(), 1u);
  submit(add_one_request(handle_buffer("a", kHandle)));
  settle();
  EXPECT_EQ(memory[0], 6u);
  EXPECT_EQ(executor.device().imports(), 1u);
}

TEST_F(DeviceMemoryTest, NewExecutorOpensItAgain) {
  SimExecutor& first = start_with_memory();
  const auto segment = add(kHandle);
  submit(add_one_request(segment_buffer("a", kBytes, segment)));
  settle();
  world.end_executor(first.number());
  SimExecutor& second = start_with_memory();
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, segment)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(memory[0], 5u);
  EXPECT_EQ(second.device().mapped(), 1u);
}

TEST_F(DeviceMemoryTest, RequestWithItIsNotTriedAgain) {
  const auto segment = add(kHandle);
  const auto reads =
      submit(copy_request(segment_buffer("a", kBytes, segment), store_buffer("x", kBytes)));
  const auto writes = submit(fill_request(handle_buffer("a", kHandle, 1024), 2));
  const auto neither = submit(fill_request(store_buffer("z", kBytes), 2));
  const auto number = start_with_memory().number();
  step();
  step();
  world.end_executor(number);
  step();
  EXPECT_EQ(code(reads), StatusCode::UnknownOutcome);
  EXPECT_NE(answer(reads).message.find("device memory"), std::string::npos);
  EXPECT_EQ(code(writes), StatusCode::UnknownOutcome);
  EXPECT_FALSE(answered(neither));
  start();
  settle();
  EXPECT_EQ(code(neither), StatusCode::Ok);
}

// --- Events --------------------------------------------------------------------------------------

TEST_F(DeviceMemoryTest, EventsOfARequestReachItsExecutor) {
  SimExecutor& executor = start();
  executor.device().offer_event(std::byte{1});
  executor.device().offer_event(std::byte{2});
  RunOptions options;
  options.wait_events = {add_event(std::byte{1})};
  options.record_events = {add_event(std::byte{2})};
  const auto id = submit(fill_request(store_buffer("x", kBytes), 5), options);
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
  EXPECT_EQ(executor.device().event_log(),
            (std::vector<std::string>{"wait 1 after 0 launches", "record 2 after 1 launches"}));
  world.hang_up(*client);
  settle();
  EXPECT_EQ(executor.device().open_events(), 0u);
}

TEST_F(DeviceMemoryTest, WhatIsNoEventOfTheSessionIsRefused) {
  RunOptions options;
  options.record_events = {client->arena()};
  const auto arena = submit(fill_request(store_buffer("x", kBytes), 5), options);
  options.record_events = {99'999};
  const auto unknown = submit(fill_request(store_buffer("x", kBytes), 5), options);
  const auto event = add_event(std::byte{1});
  const auto as_buffer = submit(fill_request(segment_buffer("a", kBytes, event), 5));
  const auto as_put =
      send([&](std::uint64_t n) { return put_segment_message(n, "x", event, 0, 4); });
  step();
  EXPECT_EQ(code(arena), StatusCode::NotFound);
  EXPECT_EQ(answer(unknown).message,
            "record_events names 99999, which is no event of this session");
  EXPECT_EQ(code(as_buffer), StatusCode::InvalidArgument);
  EXPECT_NE(answer(as_buffer).message.find("is an event"), std::string::npos);
  EXPECT_EQ(code(as_put), StatusCode::InvalidArgument);
  EXPECT_EQ(under_way(), 0u);
}

TEST_F(DeviceMemoryTest, RequestWithEventsIsNotTriedAgain) {
  RunOptions options;
  options.wait_events = {add_event(std::byte{1})};
  const auto id = submit(fill_request(store_buffer("x", kBytes), 5), options);
  const auto number = start().number();
  step();
  step();
  world.end_executor(number);
  step();
  EXPECT_EQ(code(id), StatusCode::UnknownOutcome);
  EXPECT_NE(answer(id).message.find("events"), std::string::npos);
}

// --- How many are kept ---------------------------------------------------------------------------

TEST_F(DeviceMemoryTest, HandlesThatWereNotNamedForLongAreClosed) {
  SimExecutor& executor = start_with_memory();
  const auto bytes = std::as_writable_bytes(std::span(memory));
  for (std::uint32_t i = 1; i <= kHandlesKeptPerSession + 10; ++i) {
    const auto handle = static_cast<std::byte>(i);
    executor.device().offer(handle, bytes.subspan(i * 32 - 32, kBytes));
    submit(copy_request(handle_buffer("a", handle), store_buffer("x", kBytes)));
    submit(copy_request(handle_buffer("a", kHandle), store_buffer("x", kBytes)));
    settle();
  }
  EXPECT_EQ(executor.device().mapped(), kHandlesKeptPerSession);
  EXPECT_EQ(executor.device().imports(), kHandlesKeptPerSession + 10) << "the first was kept";
}

// A handle whose run is under way keeps its number: later runs must be ordered behind it.
TEST_F(DeviceMemoryTest, HandlesInUseAreNotClosed) {
  for (std::uint32_t round = 0; round < 2; ++round) {
    for (std::uint32_t i = 0; i < 25; ++i) {
      for (std::uint32_t j = 0; j < 4; ++j) {
        submit(fill_request(handle_buffer("a", static_cast<std::byte>(i * 4 + j)), 1));
      }
      step();
    }
  }
  EXPECT_EQ(session().device_memory.size(), 100u);
  std::size_t ordered = 0;
  dispatcher().runs().for_each([&](const auto& run) { ordered += run.depends_on.size(); });
  EXPECT_EQ(ordered, 100u);
}

}  // namespace
}  // namespace kaas
