// Exports in kaasd: what is refused, what is charged and to whom, who may use one, and that nothing
// is left of it, however it ends.
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 64;
constexpr std::uint64_t kPiece = FakeDevice::kExportPieceBytes;
const Words kOnes(16, 1);

class ExportTest : public DispatcherTest {
 protected:
  static WorldOptions options(std::uint32_t devices = 1) {
    WorldOptions options;
    options.start_executors = false;
    options.devices = devices;
    options.export_bytes = 3 * kExportGranuleBytes;
    return options;
  }
  explicit ExportTest(const WorldOptions& wanted = options()) : DispatcherTest(wanted) {
    put("x", kOnes);
  }

  SimExecutor& start(std::uint32_t place = 1) {
    SimExecutor& executor = world.start_executor(client->uid(), place);
    executor.step();
    return executor;
  }
  std::uint64_t ask(const std::string& key, const ExportSpec& wanted = {}, std::size_t ring = 0) {
    return send([&](std::uint64_t id) { return export_message(id, key, wanted); }, ring);
  }
  // Asks and waits; the answer.
  const SeenAnswer& exported(const std::string& key, const ExportSpec& wanted = {}) {
    const std::uint64_t id = ask(key, wanted);
    settle();
    return answer(id);
  }
  void expect_refused(const SeenAnswer& refused, StatusCode code, const std::string& text) {
    EXPECT_EQ(refused.code, code) << refused.message;
    EXPECT_NE(refused.message.find(text), std::string::npos) << refused.message;
    EXPECT_FALSE(refused.exported.has_value());
    EXPECT_EQ(refused.token, 0u);
  }
  Session& session() { return *dispatcher().find_session(client->session()); }
  void drop(std::uint32_t segment) {
    session().segments.erase(segment);
    settle();
  }
  // The memory as the client has it mapped; it stays so until the test ends it.
  Descriptor memory_of(const SeenAnswer& answer) {
    auto descriptor = client->take_descriptor(answer.token);
    EXPECT_TRUE(descriptor.has_value());
    return descriptor ? std::move(*descriptor) : Descriptor();
  }
  static Words read(const Descriptor& memory, std::size_t words) {
    Words seen(words);
    EXPECT_EQ(::pread(memory.get(), seen.data(), words * 4, 0), static_cast<ssize_t>(words * 4));
    return seen;
  }
  void expect_nothing_left(SimExecutor& executor) {
    EXPECT_EQ(executor.device().exports(), 0u);
    EXPECT_TRUE(dispatcher().exports().empty());
    EXPECT_EQ(export_usage(session()).count, 0u);
  }
};

TEST_F(ExportTest, AnswerNamesTheMemoryAndTheDescriptorIsThere) {
  SimExecutor& executor = start();
  const SeenAnswer answer = exported("x");
  ASSERT_EQ(answer.code, StatusCode::Ok) << answer.message;
  ASSERT_TRUE(answer.exported.has_value());
  EXPECT_EQ(answer.bytes, kBytes);
  EXPECT_NE(answer.version, 0u);
  EXPECT_EQ(answer.exported->allocation_bytes, kPiece);
  EXPECT_EQ(answer.exported->gpu_bytes, kGpuUuidBytes);
  EXPECT_EQ(answer.exported->device, "fake-0");
  Words wanted = kOnes;
  wanted.resize(kPiece / 4);
  EXPECT_EQ(read(memory_of(answer), kPiece / 4), wanted);
  EXPECT_EQ(executor.device().exports(), 1u);
}

class ResidentExportTest : public ExportTest {
 protected:
  static WorldOptions keeping_outputs() {
    WorldOptions wanted = options();
    wanted.executor.device.keeps_outputs = true;
    return wanted;
  }
  ResidentExportTest() : ExportTest(keeping_outputs()) {}
  std::uint64_t keep(const std::string& key) {
    BufferSpec out = store_buffer(key, kBytes);
    out.resident = true;
    return submit(fill_request(out, 8));
  }
};

TEST_F(ResidentExportTest, WhatIsOnADeviceOnlyIsFetchedFirst) {
  SimExecutor& executor = start();
  const auto kept = keep("there");
  settle();
  ASSERT_EQ(code(kept), StatusCode::Ok);
  ASSERT_EQ(executor.loop().cache().figures().residents, 1u);
  const SeenAnswer answer = exported("there");
  ASSERT_EQ(answer.code, StatusCode::Ok) << answer.message;
  EXPECT_EQ(read(memory_of(answer), 16), Words(16, 8));
}

TEST_F(ResidentExportTest, WhatIsLostBeforeItWasFetchedIsSaidToBe) {
  SimExecutor& executor = start();
  keep("there");
  settle();
  ASSERT_EQ(executor.loop().cache().figures().residents, 1u);
  const auto id = ask("there");
  world.step();
  world.end_executor(executor.number(), "it was killed");
  start();
  settle();
  expect_refused(answer(id), StatusCode::DataLost, "it was killed");
  EXPECT_TRUE(dispatcher().exports().empty());
}

TEST_F(ExportTest, WhatTheClientWritesChangesNoObject) {
  start();
  const SeenAnswer answer = exported("x");
  const Descriptor memory = memory_of(answer);
  const std::uint32_t value = 77;
  ASSERT_EQ(::pwrite(memory.get(), &value, 4, 0), 4);
  EXPECT_EQ(read_key("x"), kOnes);
  const auto copied = submit(copy_request(store_buffer("x", kBytes), store_buffer("y", kBytes)));
  settle();
  EXPECT_EQ(code(copied), StatusCode::Ok);
  EXPECT_EQ(read_key("y"), kOnes);
  EXPECT_EQ(read(memory_of(exported("x")), 1)[0], 1u) << "another copy";
}

TEST_F(ExportTest, LaterVersionsDoNotChangeIt) {
  start();
  const Descriptor memory = memory_of(exported("x"));
  put("x", Words(16, 9));
  settle();
  EXPECT_EQ(read(memory, 16), kOnes);
}

TEST_F(ExportTest, ItIsFedBackAsInputAndOutput) {
  SimExecutor& executor = start();
  const SeenAnswer answer = exported("x");
  const Descriptor memory = memory_of(answer);
  const std::uint32_t segment = answer.exported->segment;
  const auto inout = submit(add_one_request(segment_buffer("a", kBytes, segment)));
  const auto out =
      submit(copy_request(segment_buffer("a", kBytes, segment), store_buffer("y", kBytes)));
  settle();
  EXPECT_EQ(code(inout), StatusCode::Ok) << answers[inout].message;
  EXPECT_EQ(code(out), StatusCode::Ok) << answers[out].message;
  EXPECT_EQ(read(memory, 16), Words(16, 2));
  EXPECT_EQ(read_key("y"), Words(16, 2));
  EXPECT_EQ(executor.device().imports(), 0u) << "it is the executor's own";
}

TEST_F(ExportTest, AnotherExecutorImportsIt) {
  SimExecutor& first = start();
  const SeenAnswer answer = exported("x");
  const Descriptor memory = memory_of(answer);
  world.end_executor(first.number());
  SimExecutor& second = start();
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, answer.exported->segment)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answers[id].message;
  EXPECT_EQ(read(memory, 16), Words(16, 2));
  EXPECT_EQ(second.device().imports(), 1u);
}

// --- Order ---------------------------------------------------------------------------------------

TEST_F(ExportTest, ItWaitsForTheRequestOfItsRingThatMakesTheObject) {
  submit(fill_request(store_buffer("x", kBytes), 5));
  const auto id = ask("x");
  put("x", Words(16, 9));
  start();
  settle();
  EXPECT_EQ(read(memory_of(answer(id)), 16), Words(16, 5));
}

TEST_F(ExportTest, RequestThatFailsTakesTheExportWithIt) {
  RequestSpec failing = fill_request(store_buffer("x", kBytes), 5);
  failing.kernels[0].kernel = "unknown";
  submit(failing);
  const auto id = ask("x");
  SimExecutor& executor = start();
  settle();
  expect_refused(answer(id), StatusCode::DependencyFailed, "the request that makes 'x' failed");
  expect_nothing_left(executor);
}

TEST_F(ExportTest, ItWaitsUntilThereIsAnExecutor) {
  const auto id = ask("x");
  step();
  EXPECT_FALSE(answered(id));
  start();
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

// --- Refusals ------------------------------------------------------------------------------------

TEST_F(ExportTest, WhatCantBeExportedIsRefusedWithTheReason) {
  SimExecutor& executor = start();
  put("empty", {});
  expect_refused(exported("unknown"), StatusCode::NotFound, "unknown");
  expect_refused(exported("@1001/x"), StatusCode::NotFound, "x");
  expect_refused(exported("empty"), StatusCode::InvalidArgument, "has 0 bytes");
  expect_refused(exported("x", {kBytes, 0, ""}), StatusCode::InvalidArgument,
                 "export offset is 64, object 'x' has 64 bytes");
  expect_refused(exported("x", {8, kBytes, ""}), StatusCode::InvalidArgument, "64");
  expect_refused(exported("x", {0, kBufferBytesMax + 1, ""}), StatusCode::InvalidArgument,
                 "export bytes is");
  expect_refused(exported("x", {0, 0, "GPU-nowhere"}), StatusCode::NotFound, "there are fake-0");
  expect_refused(exported("x", {0, 0, std::string(kNameBytesMax + 1, 'a')}),
                 StatusCode::InvalidArgument, "device");
  EXPECT_EQ(executor.device().exports_made(), 0u);
  expect_nothing_left(executor);
}

TEST_F(ExportTest, SharedObjectOfAnotherUserIsExportedWithPermissionOnly) {
  SimClient& owner = world.connect(1001);
  const Bytes bytes = to_bytes(Words(16, 3));
  ASSERT_TRUE(owner.send(0, put_message(1'000, "theirs", bytes)));
  start();
  settle();
  expect_refused(exported("@1001/theirs"), StatusCode::NotFound, "theirs");
  Grant grant;
  grant.uid = client->uid();
  ASSERT_TRUE(world.store().share(1001, "theirs", grant).has_value());
  const SeenAnswer answer = exported("@1001/theirs");
  ASSERT_EQ(answer.code, StatusCode::Ok) << answer.message;
  EXPECT_EQ(read(memory_of(answer), 16), Words(16, 3));
}

TEST_F(ExportTest, FailureOfTheDeviceIsTheAnswerAndLeavesNothing) {
  SimExecutor& executor = start();
  const std::size_t alive = world.segments().alive();
  executor.device().fail_export(1);
  expect_refused(exported("x"), StatusCode::OutOfMemory, "export of 64 bytes");
  executor.device().fail_copy(1);
  expect_refused(exported("x"), StatusCode::Internal, "told to fail");
  executor.device().fail_export_descriptor(1);
  expect_refused(exported("x"), StatusCode::ResourceExhausted, "told to fail");
  expect_nothing_left(executor);
  EXPECT_LE(world.segments().alive(), alive + 1) << "the slab that the object is in";
}

TEST_F(ExportTest, SuspendedDeviceIsRefused) {
  start();
  dispatcher().suspend_devices("fake-0", 0, false,
                               [](const auto& done) { EXPECT_TRUE(done.has_value()); });
  settle();
  expect_refused(exported("x"), StatusCode::Unavailable, "every device is suspended");
  expect_refused(exported("x", {0, 0, "fake-0"}), StatusCode::Unavailable,
                 "device fake-0 is suspended; a get brings the bytes to host memory");
}

TEST_F(ExportTest, WhatWaitsForADeviceThatIsSuspendedEnds) {
  const auto id = ask("x");
  step();
  dispatcher().suspend_devices("all", 0, false, [](const auto&) {});
  settle();
  expect_refused(answer(id), StatusCode::Unavailable, "is being suspended");
}

TEST_F(ExportTest, DeviceThatCantBeHadIsTheReason) {
  const auto id = ask("x");
  step();
  dispatcher().executor_failed(client->uid(), 1, Status{StatusCode::Unavailable, "it is taken"});
  settle();
  expect_refused(answer(id), StatusCode::Unavailable, "it is taken");
}

// --- The charge ----------------------------------------------------------------------------------

TEST_F(ExportTest, SessionIsChargedUntilItDropsWhatItHas) {
  SimExecutor& executor = start();
  const SeenAnswer first = exported("x");
  EXPECT_EQ(export_usage(session()).count, 1u);
  EXPECT_EQ(export_usage(session()).bytes, kPiece);
  drop(first.exported->segment);
  expect_nothing_left(executor);
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, first.exported->segment)));
  settle();
  EXPECT_EQ(code(id), StatusCode::NotFound);
}

TEST_F(ExportTest, MoreThanTheLimitIsRefusedWithBothNumbers) {
  // Those that are under way count with whole granules.
  const auto first = ask("x");
  const auto second = ask("x");
  const auto third = ask("x");
  const auto fourth = ask("x");
  step();
  expect_refused(answer(fourth), StatusCode::ResourceExhausted,
                 "device memory exported to this session (export.bytes of kaasd) is 8388608, limit "
                 "6291456");
  start();
  settle();
  for (const auto id : {first, second, third}) EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(exported("x").code, StatusCode::Ok) << "what is there counts with what it takes";
}

TEST_F(ExportTest, ChargeIsTheSessionsOwn) {
  start();
  for (int i = 0; i < 3; ++i) ask("x");
  client = &world.connect();
  const auto id = ask("x");
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
}

TEST_F(ExportTest, DeathOfTheExecutorLeavesTheCharge) {
  SimExecutor& executor = start();
  const SeenAnswer answer = exported("x");
  const Descriptor memory = memory_of(answer);
  world.end_executor(executor.number());
  settle();
  EXPECT_EQ(export_usage(session()).bytes, kPiece);
  EXPECT_EQ(read(memory, 16), kOnes);
  drop(answer.exported->segment);
  EXPECT_EQ(export_usage(session()).bytes, 0u);
}

// --- Ends ----------------------------------------------------------------------------------------

TEST_F(ExportTest, EndOfTheSessionFreesWhatItHas) {
  SimExecutor& executor = start();
  exported("x");
  exported("x");
  EXPECT_EQ(executor.device().exports(), 2u);
  world.hang_up(*client);
  settle();
  EXPECT_EQ(executor.device().exports(), 0u);
  EXPECT_EQ(executor.loop().attached_segments(), 2u) << "the outbox, and the slab";
}

TEST_F(ExportTest, ClientThatEndsInTheMiddleLeavesNothing) {
  SimExecutor& executor = start();
  ask("x");
  step();
  EXPECT_EQ(dispatcher().exports().size(), 1u);
  world.hang_up(*client);
  step();
  while (executor.step() == StepOutcome::Progress) {
  }
  EXPECT_EQ(executor.device().exports(), 1u);
  settle();
  EXPECT_EQ(executor.device().exports(), 0u);
  EXPECT_TRUE(dispatcher().exports().empty());
}

TEST_F(ExportTest, ClientThatEndsBeforeItIsBegunLeavesNothing) {
  ask("x");
  step();
  world.hang_up(*client);
  step();
  EXPECT_TRUE(dispatcher().exports().empty());
}

TEST_F(ExportTest, DeathOfTheExecutorInTheMiddleIsTriedOnceMore) {
  SimExecutor& first = start();
  const auto once = ask("x");
  step();
  world.end_executor(first.number());
  step();
  EXPECT_FALSE(answered(once));
  SimExecutor& second = start();
  settle();
  EXPECT_EQ(code(once), StatusCode::Ok);
  const auto twice = ask("x");
  step();
  world.end_executor(second.number());
  SimExecutor& third = start();
  step();
  world.end_executor(third.number());
  step();
  expect_refused(answer(twice), StatusCode::Unavailable, "signal 9");
}

TEST_F(ExportTest, ManyWaitForTheirTurn) {
  client = &world.connect();
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(ask("x"));
  for (int i = 0; i < 30; ++i) {
    client = &world.connect();
    ids.push_back(ask("x"));
  }
  SimExecutor& executor = start();
  step();
  std::size_t in_flight = 0;
  for (const auto& [number, one] : dispatcher().exports()) in_flight += one.executor != 0;
  EXPECT_EQ(in_flight, kExportsPerExecutor);
  settle();
  for (const auto id : ids) EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(executor.device().exports(), ids.size());
}

TEST_F(ExportTest, ClientThatDoesNotReadItsSocketGetsAnErrorAndNothingIsKept) {
  SimExecutor& executor = start();
  std::size_t refused = 0;
  for (int i = 0; i < 2000 && refused == 0; ++i) {
    const SeenAnswer answer = exported("x");
    if (answer.code == StatusCode::Ok) {
      drop(answer.exported->segment);
      continue;
    }
    ++refused;
    EXPECT_EQ(answer.code, StatusCode::ResourceExhausted) << answer.message;
  }
  EXPECT_EQ(refused, 1u);
  expect_nothing_left(executor);
}

// --- Devices that are given back -----------------------------------------------------------------

TEST_F(ExportTest, SuspensionIsRefusedWhileClientsHaveExportsUnlessItIsForced) {
  SimExecutor& executor = start();
  const SeenAnswer answer = exported("x");
  const Descriptor memory = memory_of(answer);
  Result<std::vector<std::uint32_t>> outcome = std::vector<std::uint32_t>{};
  const auto keep = [&](const auto& done) { outcome = done; };
  dispatcher().suspend_devices("fake-0", 0, false, keep);
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().message,
            "force is false, and the device's memory has 1 export of 4096 bytes, which stay with "
            "sessions " +
                std::to_string(client->session()) + " until they close them");
  EXPECT_EQ(executor.device().exports(), 1u);
  dispatcher().suspend_devices("fake-0", 0, true, keep);
  settle();
  EXPECT_TRUE(outcome.has_value());
  EXPECT_EQ(read(memory, 16), kOnes) << "it is the client's";
  EXPECT_EQ(export_usage(session()).bytes, kPiece);
  ASSERT_TRUE(dispatcher().resume_devices("fake-0").has_value());
  start();
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, answer.exported->segment)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answers[id].message;
  EXPECT_EQ(read(memory, 16), Words(16, 2));
}

TEST_F(ExportTest, SuspensionWaitsForAnExportThatIsUnderWay) {
  SimExecutor& executor = start();
  const auto id = ask("x");
  step();
  bool suspended = false;
  dispatcher().suspend_devices("fake-0", 1'000'000, false,
                               [&](const auto& done) { suspended = done.has_value(); });
  step();
  EXPECT_FALSE(suspended);
  EXPECT_FALSE(answered(id));
  while (executor.step() == StepOutcome::Progress) {
  }
  step();
  EXPECT_TRUE(suspended);
  EXPECT_EQ(code(id), StatusCode::Ok);
}

class TwoDevicesExportTest : public ExportTest {
 protected:
  TwoDevicesExportTest() : ExportTest(options(2)) {}
};

TEST_F(TwoDevicesExportTest, DeviceIsTheOneThatWasAskedFor) {
  start(1);
  start(2);
  EXPECT_EQ(exported("x", {0, 0, "fake-1"}).exported->device, "fake-1");
  EXPECT_EQ(exported("x", {0, 0, "fake-0"}).exported->device, "fake-0");
  EXPECT_EQ(world.executor_at(2)->device().exports(), 1u);
  expect_refused(exported("x", {0, 0, "fake"}), StatusCode::NotFound, "which names 2");
  expect_refused(exported("x", {0, 0, "all"}), StatusCode::InvalidArgument, "names 2 devices");
}

TEST_F(TwoDevicesExportTest, WithoutOneItIsWhereTheObjectWasUsed) {
  const std::uint64_t large = kSlabObjectBytesMax + 4096;
  start(2);
  submit(fill_request(store_buffer("large", large), 1));
  settle();
  start(1);
  step();
  EXPECT_EQ(exported("large").exported->device, "fake-1");
}

TEST_F(TwoDevicesExportTest, RequestOnOneDeviceUsesTheExportOfTheOther) {
  start(1);
  const SeenAnswer answer = exported("x", {0, 0, "fake-0"});
  const Descriptor memory = memory_of(answer);
  start(2);
  step();
  dispatcher().suspend_devices("fake-0", 0, true, [](const auto&) {});
  settle();
  const auto id = submit(add_one_request(segment_buffer("a", kBytes, answer.exported->segment)));
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok) << answers[id].message;
  EXPECT_EQ(read(memory, 16), Words(16, 2));
  EXPECT_EQ(world.executor_at(2)->device().mapped(), 1u);
}

// --- Executors that lie --------------------------------------------------------------------------

class LyingExportTest : public ExportTest {
 protected:
  // A report of the executor about the export that is under way.
  template <class Create>
  void report(SimExecutor& executor, Create create) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(
        wire::CreateReportItem(builder, wire::Report::ExportDone, create(builder).Union()));
    executor.forge_report(finished(builder));
  }
  void report(SimExecutor& executor, std::uint64_t number, std::uint64_t allocation_bytes,
              std::size_t gpu_bytes) {
    report(executor, [&](flatbuffers::FlatBufferBuilder& b) {
      const auto gpu = b.CreateVector(std::vector<std::uint8_t>(gpu_bytes, 1));
      return wire::CreateExportDone(b, number, wire::StatusCode::Ok, 0, allocation_bytes, gpu);
    });
  }
  void expect_killed(SimExecutor& executor, const char* what) {
    world.step();
    EXPECT_EQ(world.killed, std::vector<std::uint32_t>{executor.number()}) << what;
    world.killed.clear();
    world.end_executor(executor.number());
  }
};

TEST_F(LyingExportTest, ReportWithoutADescriptorEndsTheExecutor) {
  SimExecutor& executor = start();
  ask("x");
  step();
  report(executor, 1, kPiece, kGpuUuidBytes);
  expect_killed(executor, "no descriptor");
}

TEST_F(LyingExportTest, ImpossibleReportEndsTheExecutor) {
  struct Lie {
    const char* what;
    std::uint64_t number;
    std::uint64_t bytes;
    std::size_t gpu;
  };
  std::uint64_t number = 0;
  for (const Lie& lie : {Lie{"another export", 99, kPiece, 16}, Lie{"too small", 0, 63, 16},
                         Lie{"too large", 0, kBytes + kExportPaddingBytesMax + 1, 16},
                         Lie{"no GPU", 0, kPiece, 0}, Lie{"a long GPU", 0, kPiece, 17}}) {
    client = &world.connect();
    SimExecutor& executor = start();
    step();
    ask("x");
    step();
    number = dispatcher().exports().rbegin()->first;
    report(executor, lie.number == 0 ? number : lie.number, lie.bytes, lie.gpu);
    expect_killed(executor, lie.what);
    world.hang_up(*client);
    world.do_chores();
    step();
  }
  EXPECT_TRUE(dispatcher().exports().empty());
}

TEST_F(LyingExportTest, ReportOfAnExportThatNobodyAskedForEndsTheExecutor) {
  SimExecutor& executor = start();
  step();
  report(executor, 1, kPiece, kGpuUuidBytes);
  expect_killed(executor, "nobody asked");
}

}  // namespace
}  // namespace kaas
