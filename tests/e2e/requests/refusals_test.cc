// What would go wrong unseen is refused, whichever way it is asked for: bytes beyond a client's own
// memory, literals of another type, events that are not there.
#include <functional>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

class Refusals : public E2eTest {
 protected:
  // 7 to each u32 of the buffer x.
  static void fill(RequestBuilder& builder, std::uint64_t count) {
    builder.kernel("std", "fill_u32").grid(1).block(64).literal(count).literal(7u).out("x");
  }
  // A bound plan without and with a lane, if it gets one, and what both say.
  static std::string run_often(const BoundPlan& plan) {
    std::string outcome;
    for (int i = 0; i < 50 && (outcome.empty() || outcome == "ok"); ++i) {
      outcome = outcome_of(plan.run());
    }
    return outcome;
  }
};

TEST_F(Refusals, BytesBeyondAClientsMemoryAreNotWritten) {
  Client client = connect();
  const auto memory = client.allocate(16);
  const auto neighbour = client.allocate(4096);
  ASSERT_OK(memory);
  ASSERT_OK(neighbour);
  std::memset(neighbour->data(), 1, neighbour->size());

  RequestBuilder numbers;
  numbers.buffer("x", 4096).in(*memory);
  fill(numbers, 1024);
  EXPECT_EQ(outcome_of(numbers.build()),
            "InvalidArgument: buffer 'x' offset 0 + size 4096 exceeds the 16 bytes of its memory");

  RequestBuilder plain;
  plain.buffer("x", 4096);
  fill(plain, 1024);
  const auto plan = client.prepare(built(plain));
  ASSERT_OK(plan);
  const Bindings bindings = Bindings().in("x", *memory);
  const std::string refused = "exceeds the 16 bytes of its memory in segment";
  const auto expect_refused = [&](const std::string& outcome) {
    EXPECT_EQ(outcome.rfind("InvalidArgument: ", 0), 0u) << outcome;
    EXPECT_NE(outcome.find(refused), std::string::npos) << outcome;
  };
  expect_refused(outcome_of(plan->run(bindings)));
  expect_refused(run_often(plan->bind(bindings)));
  EXPECT_OK(client.deploy("fill", built(plain)));
  expect_refused(outcome_of(client.call("fill", {}, bindings)));

  RequestBuilder sized;
  sized.parameter("n");
  sized.buffer("x", "4 * n").in(*memory);
  sized.kernel("std", "fill_u32")
      .grid(1)
      .block(64)
      .literal(LiteralType::U64, "n")
      .literal(7u)
      .out("x");
  EXPECT_OK(client.deploy("sized", built(sized)));
  const auto call = [&](std::int64_t n) {
    const Parameter parameters[] = {{"n", n}};
    return outcome_of(client.call("sized", parameters));
  };
  expect_refused(call(1024));
  expect_refused(call(5));
  EXPECT_EQ(call(4), "ok");
  EXPECT_EQ(memory->data()[15], std::byte{0});
  EXPECT_EQ(memory->data()[12], std::byte{7});
  for (std::size_t i = 0; i < neighbour->size(); ++i) {
    ASSERT_EQ(neighbour->data()[i], std::byte{1}) << i;
  }
  // All of it is there to be bound.
  EXPECT_OK(plan->run(Bindings().in("x", *neighbour)));
  EXPECT_EQ(neighbour->data()[4092], std::byte{7});
}

TEST_F(Refusals, LiteralOfAnotherTypeIsNotTaken) {
  Client client = connect();
  const auto memory = client.allocate(16);
  ASSERT_OK(memory);
  const auto plan = client.prepare(scale("v", 4));
  ASSERT_OK(plan);
  EXPECT_OK(client.deploy("scale", scale("v", 4)));
  const auto ways = [&](const Bindings& given) {
    Bindings bindings = given;
    bindings.in("v", *memory);
    return std::vector<std::string>{outcome_of(plan->run(bindings)),
                                    run_often(plan->bind(bindings)),
                                    outcome_of(client.call("scale", {}, bindings))};
  };
  for (const std::string& outcome : ways(Bindings().literal(0, 1, 3.0))) {
    EXPECT_EQ(outcome,
              "InvalidArgument: literal override 0: literal 1 of kernel 0 ('scale') is F64, the "
              "request wants F32");
  }
  for (const std::string& outcome : ways(Bindings().literal(0, 0, 1.0))) {
    EXPECT_EQ(outcome,
              "InvalidArgument: literal override 0: literal 0 of kernel 0 ('scale') is F64, the "
              "request wants U64");
  }
  EXPECT_NE(ways(Bindings().raw(0, 1, {}))[0], "ok") << "no bytes are not the value 0";
  const float values[] = {1, 2, 3, 4};
  std::memcpy(memory->data(), values, sizeof values);
  // As an older client sends it.
  EXPECT_OK(plan->run(Bindings().in("v", *memory).literal_bits(0, 1, 0x40400000)));
  EXPECT_OK(plan->run(Bindings().in("v", *memory).literal(0, 1, 2.0f)));
  EXPECT_EQ(values_of<float>(memory->bytes()), (std::vector<float>{6, 12, 18, 24}));
}

TEST_F(Refusals, EventThatIsNotThereIsNotOverlooked) {
  Client client = connect();
  EXPECT_OK(client.put("v", bytes_of(std::vector<float>{1, 2, 3, 4})));
  const auto plan = client.prepare(scale("v", 4));
  ASSERT_OK(plan);
  RunOptions waits;
  waits.wait_events = {77};
  EXPECT_EQ(outcome_of(plan->run({}, waits)),
            "NotFound: wait_events names 77, which is no event of this session");
  RunOptions records;
  records.record_events = {99};
  EXPECT_EQ(outcome_of(plan->run({}, records)),
            "NotFound: record_events names 99, which is no event of this session");
}

}  // namespace
}  // namespace kaas
