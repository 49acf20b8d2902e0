// The simulation itself: a seed is one world, and a world that breaks is told.
#include <gtest/gtest.h>

#include "tools/sim/model.h"
#include "tools/sim/requests.h"
#include "tools/sim/simulation.h"

namespace kaas {
namespace {

SimulationResult run(std::uint64_t seed) {
  SimulationOptions options;
  options.seed = seed;
  options.steps = 400;
  return simulate(options);
}

TEST(Simulation, SameSeedGivesTheSameTrace) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const SimulationResult first = run(seed);
    const SimulationResult second = run(seed);
    EXPECT_EQ(first.failure, "");
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.ok, second.ok);
  }
}

TEST(Simulation, OtherSeedsGiveOtherTraces) {
  EXPECT_NE(run(1).trace_hash, run(2).trace_hash);
}

TEST(Simulation, WorkIsDoneAndFaultsHappen) {
  SimulationResult sum;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const SimulationResult one = run(seed);
    sum.ok += one.ok;
    sum.failed += one.failed;
    sum.executor_deaths += one.executor_deaths;
    sum.suspensions += one.suspensions;
    sum.releases += one.releases;
    sum.lost += one.lost;
    sum.resident += one.resident;
    sum.lanes += one.lanes;
    sum.by_lane += one.by_lane;
  }
  EXPECT_GT(sum.ok, 500u);
  EXPECT_GT(sum.failed, 100u);
  EXPECT_GT(sum.executor_deaths, 5u);
  EXPECT_GT(sum.suspensions, 5u);
  EXPECT_GT(sum.releases, 5u);
  EXPECT_GT(sum.lost, 5u);
  EXPECT_GT(sum.resident, 5u);
  EXPECT_GT(sum.lanes, 20u);
  EXPECT_GT(sum.by_lane, 100u);
}

// --- What the model takes and what it does not --------------------------------------------------

class ModelTest : public testing::Test {
 protected:
  std::string answered(std::uint64_t id, StatusCode code = StatusCode::Ok,
                       const Words& words = {}) {
    SeenAnswer answer;
    answer.id = id;
    answer.code = code;
    answer.data = to_bytes(words);
    answer.bytes = answer.data.size();
    return model.answered(std::move(answer), std::nullopt, faults);
  }
  SimOperation operation(std::uint64_t id, SimOperation::Kind kind, const std::string& key,
                         const Words& words = {}) {
    SimOperation made;
    made.id = id;
    made.kind = kind;
    made.key = key;
    made.words = words;
    return made;
  }
  std::set<std::uint32_t> shared;
  RingModel model{0, shared};
  Faults faults;
};

TEST_F(ModelTest, TakesTheBytesThatWerePut) {
  model.sent(operation(1, SimOperation::Kind::Put, "x", {1, 2}));
  model.sent(operation(2, SimOperation::Kind::Get, "x"));
  EXPECT_EQ(answered(2, StatusCode::Ok, {1, 2}), "");
  EXPECT_EQ(answered(1), "");
  EXPECT_EQ(model.unanswered(), 0u);
}

TEST_F(ModelTest, RefusesOtherBytesSecondAnswersAndUnknownIds) {
  model.sent(operation(1, SimOperation::Kind::Put, "x", {1, 2}));
  model.sent(operation(2, SimOperation::Kind::Get, "x"));
  EXPECT_NE(answered(3), "");
  EXPECT_EQ(answered(2, StatusCode::Ok, {1, 3}), "");
  EXPECT_NE(answered(2, StatusCode::Ok, {1, 3}), "");
  EXPECT_NE(answered(1), "") << "the get's wrong bytes are seen once the put is known";
}

TEST_F(ModelTest, FailuresNeedAReason) {
  model.sent(operation(1, SimOperation::Kind::Put, "x", {1}));
  EXPECT_NE(answered(1, StatusCode::ResourceExhausted), "");
}

TEST_F(ModelTest, FailuresWithAReasonAreTaken) {
  faults.store_is_small = true;
  model.sent(operation(1, SimOperation::Kind::Put, "x", {1}));
  model.sent(operation(2, SimOperation::Kind::Get, "x"));
  EXPECT_EQ(answered(1, StatusCode::ResourceExhausted), "");
  EXPECT_EQ(answered(2, StatusCode::NotFound), "");
}

TEST_F(ModelTest, OnlyAnObjectThatWasOnADeviceOfADeadExecutorMayBeLost) {
  SimOperation make = operation(1, SimOperation::Kind::Run, "");
  ProgramBuffer out;
  out.key = "x";
  out.words = 1;
  out.resident = true;
  make.program.buffers = {out};
  make.program.kernels = {{.value = 7}};
  model.sent(make);
  model.sent(operation(2, SimOperation::Kind::Get, "x"));
  EXPECT_EQ(answered(1), "");
  EXPECT_NE(answered(2, StatusCode::DataLost), "") << "nobody died";
  ++faults.executor_deaths;
  make.id = 3;
  model.sent(make);  // Sent before that death, as far as it says.
  model.sent(operation(4, SimOperation::Kind::Get, "x"));
  EXPECT_EQ(answered(3), "");
  EXPECT_EQ(answered(4, StatusCode::DataLost), "");
  make.id = 5;
  model.sent(make);
  model.sent(operation(6, SimOperation::Kind::Get, "x"));
  model.sent(operation(7, SimOperation::Kind::Get, "x"));
  EXPECT_EQ(answered(5), "");
  EXPECT_EQ(answered(6, StatusCode::Ok, {7}), "");
  EXPECT_NE(answered(7, StatusCode::DataLost), "") << "the host has had it since";
}

TEST_F(ModelTest, ArenaThatDiffersIsSeen) {
  std::vector<std::byte> arena(kCellsPerRing * kCellWords * 4);
  EXPECT_EQ(model.check_arena(arena), "");
  arena.back() = std::byte{1};
  EXPECT_NE(model.check_arena(arena), "");
}

}  // namespace
}  // namespace kaas
