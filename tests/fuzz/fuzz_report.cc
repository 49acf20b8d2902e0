// Arbitrary bytes as the report segment of an executor that has work: the worst that may come of it
// is the executor's own end. Its client gets an answer to each request, kaasd stays whole.
#include <map>

#include "tests/fuzz/driver.h"
#include "tests/fuzz/fuzz_scene.h"
#include "tests/fuzz/ring_image.h"

namespace kaas {
namespace {

void must_be_whole(World& world) {
  const std::string fault = check_state(world);
  if (fault.empty()) return;
  std::fprintf(stderr, "%s\n", fault.c_str());
  std::abort();
}

void report(const std::uint8_t* data, std::size_t size) {
  Scene scene;
  if (size % 2 == 1) scene.open_lane();
  World& world = scene.world;
  SimClient& bystander = world.connect(1001);
  overwrite(scene.executor.report(), data, size);
  KAAS_CHECK(bystander.send(0, put_message(1, "z", Bytes(8))));
  for (int i = 0; i < 3; ++i) {
    world.step();
    must_be_whole(world);
  }
  KAAS_CHECK(world.closed.empty());
  KAAS_CHECK(bystander.read(0).size() == 1);
  // The liar ends, by kaasd's will or by ours; an honest one does what is left.
  for (const std::uint32_t killed : world.killed) KAAS_CHECK(killed == scene.executor.number());
  if (world.killed.empty()) world.end_executor(scene.executor.number());
  world.do_chores();
  must_be_whole(world);
  world.start_executor(scene.client.uid());
  world.settle();
  must_be_whole(world);
  std::map<std::uint64_t, int> answers;
  for (const SeenAnswer& answer : scene.client.read(0)) ++answers[answer.id];
  for (std::uint64_t id = 1; id <= kSceneOperations; ++id) {
    if (answers[id] == 1) continue;
    std::fprintf(stderr, "request %d has %d answers\n", static_cast<int>(id), answers[id]);
    std::abort();
  }
  KAAS_CHECK(world.dispatcher().runs().size() == 0);
}

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  std::vector<FuzzSeed> seeds;
  Scene scene;
  seeds.push_back({"ready", image_of(scene.executor.report())});
  while (scene.executor.step() == StepOutcome::Progress) {
  }
  seeds.push_back({"done", image_of(scene.executor.report())});
  Scene lanes;
  lanes.open_lane();
  while (lanes.executor.step() == StepOutcome::Progress) {
  }
  seeds.push_back({"lane-call-added", image_of(lanes.executor.report())});
  lanes.world.step();
  lanes.world.dispatcher().end_lanes_using(lanes.client.arena());
  lanes.world.step();
  while (lanes.executor.step() == StepOutcome::Progress) {
  }
  seeds.push_back({"lane-ended", image_of(lanes.executor.report())});
  return seeds;
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kaas::report(data, size);
  return 0;
}
