// What a caller says is sent as it is said, whichever way it goes, or is refused by name.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <kaas/client.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/eventually.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

std::string outcome_of(const Result<Reply>& reply) {
  return reply.has_value() ? "ok" : to_string(reply.error());
}

// A way to run something with bindings and options.
struct Way {
  const char* name;
  std::function<Result<Reply>(const Bindings&, const RunOptions&)> run;
};

class ClientSending : public testing::Test {
 protected:
  using Check = std::function<void(const wire::Submission&)>;

  // `check` sees every operation, on the peer's thread, before it is answered.
  void on_operation(Check check) {
    peer_.run([&](LoopbackPeer& peer) {
      peer.on_submission = [check](PeerSession&, PeerRing& ring, const wire::Submission& given) {
        check(given);
        if (given.operation_as_Call() == nullptr) return false;
        ring.answer(given.id());
        return true;
      };
    });
  }
  Client connect(bool administration_only = false) {
    ClientOptions options;
    options.socket = peer_.path();
    options.administration_only = administration_only;
    return *Client::connect(options);
  }
  static Request request() {
    RequestBuilder builder;
    builder.buffer("x", 64);
    builder.kernel("std", "fill_u32").literal(std::uint64_t{16}).literal(7u).out("x");
    return *builder.build();
  }
  // Those that take options. `plan` is one of request().
  static std::vector<Way> ways_with_options(Client& client, const Plan& plan) {
    return {
        {"Plan::run", [&](auto& bindings, auto& o) { return plan.run(bindings, o); }},
        {"Plan::submit", [&](auto& bindings, auto& o) { return plan.submit(bindings, o).get(); }},
        {"Plan::try_submit",
         [&](auto& bindings, auto& o) { return plan.try_submit(bindings, o).get(); }},
        {"Client::call",
         [&](auto& bindings, auto& o) { return client.call("f", {}, bindings, o); }},
        {"Client::call_async",
         [&](auto& bindings, auto& o) { return client.call_async("f", {}, bindings, o).get(); }},
    };
  }
  static std::vector<Way> ways_without_bindings(Client& client, const Request& request) {
    return {
        {"Client::run", [&](auto&, auto& o) { return client.run(request, o); }},
        {"Client::submit", [&](auto&, auto& o) { return client.submit(request, o).get(); }},
        {"Client::try_submit", [&](auto&, auto& o) { return client.try_submit(request, o).get(); }},
    };
  }
  static std::vector<Way> ways_with_bindings(Client& client, const Plan& plan) {
    std::vector<Way> ways = ways_with_options(client, plan);
    ways.push_back({"BoundPlan::run", [&](auto& b, auto&) { return plan.bind(b).run(); }});
    ways.push_back(
        {"BoundPlan::submit", [&](auto& b, auto&) { return plan.bind(b).submit().get(); }});
    ways.push_back(
        {"BoundPlan::try_submit", [&](auto& b, auto&) { return plan.bind(b).try_submit().get(); }});
    return ways;
  }

  int arrived_ = 0;  // What a check counts; it may run until the peer has ended.
  LoopbackPeer peer_;
};

const wire::RunOptions* options_of(const wire::Submission& given) {
  if (const auto* submit = given.operation_as_Submit()) return submit->options();
  if (const auto* invoke = given.operation_as_Invoke()) return invoke->options();
  if (const auto* call = given.operation_as_Call()) return call->options();
  return nullptr;
}

// Bindings and literals of whatever has them.
struct Bound {
  const flatbuffers::Vector<flatbuffers::Offset<wire::Binding>>* bindings = nullptr;
  const flatbuffers::Vector<flatbuffers::Offset<wire::LiteralOverride>>* literals = nullptr;
};
Bound bound_of(const wire::Submission& given) {
  if (const auto* invoke = given.operation_as_Invoke()) {
    return {invoke->bindings(), invoke->literals()};
  }
  if (const auto* call = given.operation_as_Call()) return {call->bindings(), call->literals()};
  if (const auto* open = given.operation_as_OpenLane()) return {open->bindings(), open->literals()};
  return {};
}

struct OptionCase {
  const char* name;
  void (*set)(RunOptions&);
  bool (*is_in)(const wire::RunOptions&);
};

bool is_seven(const flatbuffers::Vector<std::uint32_t>* numbers) {
  return numbers != nullptr && numbers->size() == 1 && numbers->Get(0) == 7;
}

const OptionCase kOptions[] = {
    {"priority", [](RunOptions& o) { o.priority = -3; },
     [](const wire::RunOptions& o) { return o.priority() == -3; }},
    {"deadline", [](RunOptions& o) { o.deadline.emplace(std::chrono::hours(1'000'000)); },
     [](const wire::RunOptions& o) { return o.deadline_ns() == 3'600'000'000'000'000'000u; }},
    {"tag", [](RunOptions& o) { o.tag = 5; },
     [](const wire::RunOptions& o) { return o.tag() == 5; }},
    {"profile", [](RunOptions& o) { o.profile = true; },
     [](const wire::RunOptions& o) { return o.profile(); }},
    {"tenant", [](RunOptions& o) { o.tenant = "blue"; },
     [](const wire::RunOptions& o) { return view(o.tenant()) == "blue"; }},
    {"wait_events", [](RunOptions& o) { o.wait_events = {7}; },
     [](const wire::RunOptions& o) { return is_seven(o.wait_events()); }},
    {"record_events", [](RunOptions& o) { o.record_events = {7}; },
     [](const wire::RunOptions& o) { return is_seven(o.record_events()); }},
};

// A member that is added does not compile here, until it has a case above.
std::size_t option_count() {
  const auto [priority, deadline, tag, profile, tenant, waits, records] = RunOptions();
  return std::tuple_size_v<decltype(std::tie(priority, deadline, tag, profile, tenant, waits,
                                             records))>;
}

TEST_F(ClientSending, EveryOptionAloneArrivesEveryWay) {
  ASSERT_EQ(option_count(), std::size(kOptions));
  Client client = connect();
  const auto plan = client.prepare(request());
  ASSERT_TRUE(plan.has_value());
  const Request whole = request();
  std::vector<Way> ways = ways_with_options(client, *plan);
  for (Way& way : ways_without_bindings(client, whole)) ways.push_back(std::move(way));
  for (const OptionCase& option : kOptions) {
    RunOptions options;
    option.set(options);
    for (const Way& way : ways) {
      arrived_ = 0;
      on_operation([&](const wire::Submission& given) {
        const wire::RunOptions* sent = options_of(given);
        if (sent != nullptr && option.is_in(*sent)) ++arrived_;
      });
      EXPECT_EQ(outcome_of(way.run({}, options)), "ok") << way.name;
      peer_.run(
          [&](LoopbackPeer&) { EXPECT_EQ(arrived_, 1) << option.name << " by " << way.name; });
    }
  }
}

TEST_F(ClientSending, APriorityBeyondTheRangeIsRefusedEveryWay) {
  Client client = connect();
  const auto plan = client.prepare(request());
  const Request whole = request();
  std::vector<Way> ways = ways_with_options(client, *plan);
  for (Way& way : ways_without_bindings(client, whole)) ways.push_back(std::move(way));
  for (const int priority : {500, -500, 101, -101, 256}) {
    RunOptions options;
    options.priority = priority;
    for (const Way& way : ways) {
      EXPECT_EQ(
          outcome_of(way.run({}, options)),
          "InvalidArgument: priority is " + std::to_string(priority) + ", allowed -100 to 100")
          << way.name;
    }
  }
}

TEST_F(ClientSending, TypesOfLiteralsArriveEveryWay) {
  Client client = connect();
  const auto plan = client.prepare(request());
  const std::byte raw[3] = {};
  const std::pair<std::optional<wire::LiteralType>, std::function<void(Bindings&)>> cases[] = {
      {wire::LiteralType::I32, [](Bindings& b) { b.literal(0, 1, std::int32_t{-1}); }},
      {wire::LiteralType::U32, [](Bindings& b) { b.literal(0, 1, std::uint32_t{1}); }},
      {wire::LiteralType::I64, [](Bindings& b) { b.literal(0, 1, std::int64_t{-1}); }},
      {wire::LiteralType::U64, [](Bindings& b) { b.literal(0, 1, std::uint64_t{1}); }},
      {wire::LiteralType::F32, [](Bindings& b) { b.literal(0, 1, 1.0f); }},
      {wire::LiteralType::F64, [](Bindings& b) { b.literal(0, 1, 1.0); }},
      {wire::LiteralType::Raw, [&](Bindings& b) { b.raw(0, 1, raw); }},
      {wire::LiteralType::F32, [](Bindings& b) { b.literal_bits(0, 1, LiteralType::F32, 1); }},
      {std::nullopt, [](Bindings& b) { b.literal_bits(0, 1, 1); }},
  };
  for (const auto& [type, give] : cases) {
    Bindings bindings;
    give(bindings);
    for (const Way& way : ways_with_bindings(client, *plan)) {
      arrived_ = 0;
      on_operation([&, wanted = type](const wire::Submission& given) {
        const auto* literals = bound_of(given).literals;
        if (literals == nullptr) return;
        const auto sent = literals->Get(0)->type();
        if (sent.has_value() == wanted.has_value() && (!sent.has_value() || *sent == *wanted)) {
          ++arrived_;
        }
      });
      EXPECT_EQ(outcome_of(way.run(bindings, {})), "ok");
      peer_.run([&](LoopbackPeer&) { EXPECT_EQ(arrived_, 1) << way.name; });
    }
  }
}

TEST_F(ClientSending, TheQuestionForALaneSaysWhatTheRunSays) {
  Client client = connect();
  const auto memory = client.allocate(64);
  const BoundPlan bound =
      client.prepare(request())->bind(Bindings().in("x", *memory).literal(0, 1, 7u));
  on_operation([&](const wire::Submission& given) {
    if (given.operation_as_OpenLane() == nullptr) return;
    const auto* binding = bound_of(given).bindings->Get(0);
    const bool is_whole = binding->part() != nullptr && binding->part()->bytes() == 64 &&
                          bound_of(given).literals->Get(0)->type() == wire::LiteralType::U32;
    if (is_whole) ++arrived_;
  });
  EXPECT_TRUE(eventually([&] {
    EXPECT_EQ(outcome_of(bound.run()), "ok");
    bool seen = false;
    peer_.run([&](LoopbackPeer&) { seen = arrived_ > 0; });
    return seen;
  }));
}

// --- Memory --------------------------------------------------------------------------------------

std::string built(const std::function<void(RequestBuilder&)>& describe) {
  RequestBuilder builder;
  describe(builder);
  builder.kernel("std", "k").out("x");
  const auto request = builder.build();
  return request.has_value() ? "ok" : to_string(request.error());
}

TEST_F(ClientSending, BytesBeyondABufferAreRefusedWhenTheRequestIsBuilt) {
  Client client = connect();
  const auto first = client.allocate(16);
  const auto second = client.allocate(16);
  for (const Buffer* memory : {&*first, &*second}) {
    EXPECT_EQ(built([&](auto& b) { b.buffer("x", 16).in(*memory); }), "ok");
    EXPECT_EQ(built([&](auto& b) { b.buffer("x", 6).in(*memory, 10); }), "ok");
    EXPECT_EQ(
        built([&](auto& b) { b.buffer("x", 4096).in(*memory); }),
        "InvalidArgument: buffer 'x' offset 0 + size 4096 exceeds the 16 bytes of its memory");
    EXPECT_EQ(built([&](auto& b) { b.buffer("x", 7).in(*memory, 10); }),
              "InvalidArgument: buffer 'x' offset 10 + size 7 exceeds the 16 bytes of its memory");
    EXPECT_NE(built([&](auto& b) { b.buffer("x", 4096).in(*memory).zero_fill(); }), "ok");
    EXPECT_NE(built([&](auto& b) { b.buffer("x", 1).in(*memory, ~std::uint64_t{0}); }), "ok");
    EXPECT_NE(built([&](auto& b) { b.buffer("x", ~std::uint64_t{0}).in(*memory, 1); }), "ok");
  }
  EXPECT_EQ(built([&](auto& b) { b.buffer("x", 8).in(*second).offset(4); }),
            "InvalidArgument: buffer 'x' offset 4 is before its memory, which begins at " +
                std::to_string(second->offset()) + " of its segment");
  // The last place counts.
  EXPECT_EQ(built([&](auto& b) {
              b.buffer("x", 4096).in(*first).in_segment(first->segment(), first->offset());
            }),
            "ok");
}

TEST_F(ClientSending, BytesBeyondARegionAreRefusedWhenTheRequestIsBuilt) {
  Client client = connect();
  const Descriptor descriptor(::memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(descriptor.get(), 4096), 0);
  const auto shared = client.register_region(descriptor.get(), 4096, true);
  const std::vector<std::byte> handle(64);
  DeviceAllocation allocation;
  allocation.handle = handle;
  allocation.bytes = 4096;
  const auto device = client.register_device_memory(allocation);
  for (const Region* region : {&*shared, &*device}) {
    EXPECT_EQ(built([&](auto& b) { b.buffer("x", 4096).in(*region); }), "ok");
    EXPECT_EQ(
        built([&](auto& b) { b.buffer("x", 97).in(*region, 4000); }),
        "InvalidArgument: buffer 'x' offset 4000 + size 97 exceeds the 4096 bytes of its memory");
  }
  // kaasd fills what an input lacks, and knows the segment's size.
  EXPECT_EQ(built([&](auto& b) { b.buffer("x", 5000).in(*shared).zero_fill(); }), "ok");
  // One that has no bytes, such as an event's, is for kaasd to refuse.
  EXPECT_EQ(built([&](auto& b) { b.buffer("x", 4).in(Region()); }), "ok");
}

TEST_F(ClientSending, WhereAnExpressionGivesTheBytesKaasdIsToldOfTheBuffer) {
  Client client = connect();
  const auto before = client.allocate(16);
  const auto memory = client.allocate(24);
  RequestBuilder builder;
  builder.parameter("n");
  builder.buffer("size", "n").in(*memory);
  builder.buffer("offset", 8).in(*memory).offset("n");
  builder.buffer("numbers", 8).in(*memory);
  builder.buffer("raw", "n").in_segment(memory->segment(), 0);
  builder.buffer("key", "n").in(*memory).at("k");
  builder.kernel("std", "k").out("size");
  const auto request = builder.build();
  ASSERT_TRUE(request.has_value()) << to_string(request.error());
  const auto* buffers = verified_root<wire::Request>(request->bytes())->buffers();
  for (const unsigned told : {0u, 1u}) {
    ASSERT_NE(buffers->Get(told)->part(), nullptr);
    EXPECT_EQ(buffers->Get(told)->part()->offset(), memory->offset());
    EXPECT_EQ(buffers->Get(told)->part()->bytes(), 24u);
  }
  for (const unsigned other : {2u, 3u, 4u}) EXPECT_EQ(buffers->Get(other)->part(), nullptr);
}

TEST_F(ClientSending, ABindingBeyondItsMemoryIsRefusedEveryWay) {
  Client client = connect();
  const auto memory = client.allocate(16);
  const Descriptor descriptor(::memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(descriptor.get(), 4096), 0);
  const auto region = client.register_region(descriptor.get(), 4096, true);
  const auto plan = client.prepare(request());
  for (const Way& way : ways_with_bindings(client, *plan)) {
    EXPECT_EQ(outcome_of(way.run(Bindings().in("x", *memory, 1'000'000).at("y", "k"), {})),
              "InvalidArgument: buffer 'x' offset 1000000 exceeds the 16 bytes of its memory")
        << way.name;
    EXPECT_EQ(outcome_of(way.run(Bindings().in("x", *region, 4097), {})),
              "InvalidArgument: buffer 'x' offset 4097 exceeds the 4096 bytes of its memory")
        << way.name;
    EXPECT_NE(outcome_of(way.run(Bindings().in("x", *memory, ~std::uint64_t{0}), {})), "ok");
  }
  const BoundPlan refused = plan->bind(Bindings().in("x", *memory, 17));
  EXPECT_FALSE(refused.has_lane());
  // Only until they are cleared.
  Bindings bindings;
  bindings.in("x", *memory, 17).clear();
  EXPECT_EQ(outcome_of(plan->run(bindings.in("x", *memory, 16))), "ok");
}

TEST_F(ClientSending, KaasdIsToldWhichBufferABindingMeans) {
  Client client = connect();
  const auto before = client.allocate(16);
  const auto memory = client.allocate(24);
  const auto plan = client.prepare(request());
  for (const Way& way : ways_with_bindings(client, *plan)) {
    arrived_ = 0;
    on_operation([&](const wire::Submission& given) {
      const auto* bindings = bound_of(given).bindings;
      if (bindings == nullptr) return;
      const wire::SegmentRange* part = bindings->Get(0)->part();
      const bool is_told = part != nullptr && part->offset() == memory->offset() &&
                           part->bytes() == 24 &&
                           *bindings->Get(0)->offset() == memory->offset() + 8;
      if (is_told) ++arrived_;
    });
    EXPECT_EQ(outcome_of(way.run(Bindings().in("x", *memory, 8), {})), "ok");
    peer_.run([&](LoopbackPeer&) { EXPECT_EQ(arrived_, 1) << way.name; });
  }
}

// --- Connections ---------------------------------------------------------------------------------

TEST_F(ClientSending, ADescriptorThatIsNoneIsNamedAndTheSessionGoesOn) {
  Client client = connect();
  const int closed = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 500);
  ASSERT_EQ(::close(closed), 0);
  for (const int none : {-1, closed}) {
    const std::string wanted =
        "InvalidArgument: the descriptor " + std::to_string(none) + ": Bad file descriptor";
    EXPECT_EQ(to_string(client.register_region(none, 4096, true).error()), wanted);
    if (none < 0) continue;
    DeviceAllocation allocation;
    allocation.kind = DeviceAllocation::Kind::CuMem;
    allocation.bytes = 4096;
    allocation.descriptor = none;
    EXPECT_EQ(to_string(client.register_device_memory(allocation).error()), wanted);
  }
  EXPECT_EQ(client.donate("k", -1).error().code, StatusCode::InvalidArgument);
  EXPECT_TRUE(client.put("k", {}).has_value());
  EXPECT_TRUE(client.status_json().has_value());
}

TEST_F(ClientSending, AClientForAdministrationSaysThatItIs) {
  Client client = connect(true);
  const Descriptor descriptor(::memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(descriptor.get(), 4096), 0);
  const std::vector<std::byte> bytes(64);
  const std::vector<std::byte> large(kInlineBytesMax + 1);
  const auto expect_refused = [](const Status& status) {
    EXPECT_EQ(status.code, StatusCode::InvalidArgument) << status.message;
    EXPECT_NE(status.message.find("administration_only"), std::string::npos) << status.message;
  };
  expect_refused(client.put("k", bytes).error());
  expect_refused(client.put("k", large).error());
  expect_refused(client.get("k").error());
  expect_refused(client.run(request()).error());
  expect_refused(client.prepare(request()).error());
  expect_refused(client.call("f", {}).error());
  expect_refused(client.export_object("k").error());
  expect_refused(client.allocate(16).error());
  expect_refused(client.register_region(descriptor.get(), 4096, true).error());
  expect_refused(client.register_event(bytes).error());
  expect_refused(client.register_device_memory({}).error());
  expect_refused(client.donate("k", descriptor.get()).error());
  EXPECT_TRUE(client.status_json().has_value());
  peer_.run([](LoopbackPeer& peer) {
    for (const std::string& asked : peer.control_log)
      EXPECT_TRUE(asked == "Hello" || asked == "GetStatus") << asked;
  });
}

TEST_F(ClientSending, ANameThatIsTooLongIsRefusedNotCut) {
  ClientOptions options;
  options.socket = peer_.path();
  options.name = std::string(128, 'n');
  EXPECT_TRUE(Client::connect(options).has_value());
  options.name += 'n';
  const auto refused = Client::connect(options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(to_string(refused.error()),
            "InvalidArgument: bytes of the client's name is 129, limit 128");
}

}  // namespace
}  // namespace kaas
