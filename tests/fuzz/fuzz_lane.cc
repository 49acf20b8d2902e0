// Arbitrary bytes as the segment in which a client invokes what its lane serves: the worst that
// may come of it is the lane's own end. kaasd's other work is done, another client's lane is
// served, and each invocation that was taken ran once.
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

// A client with a lane of two calls: ++word 0, ++word 1.
struct LaneUser {
  LaneUser(World& world, SimClient& user) : client(user) {
    for (std::uint64_t n = 0; n < 2; ++n) {
      const auto request = add_one_request(segment_buffer("a", 4, user.arena(), n * 4));
      KAAS_CHECK(user.send(0, prepare_message(100 + n, encode_request(request))));
      world.settle();
      const std::uint32_t plan = user.read(0).back().plan;
      KAAS_CHECK(user.send(0, open_lane_message(200 + n, plan)));
      world.settle();
      const SeenAnswer granted = user.read(0).back();
      KAAS_CHECK(granted.code == StatusCode::Ok && granted.lane.has_value());
      if (n == 0) lane = user.map_lane(*granted.lane);
      calls[n] = granted.lane->call;
    }
  }
  [[nodiscard]] std::uint32_t word(std::size_t index) const {
    return to_words(client.arena_bytes())[index];
  }

  SimClient& client;
  std::unique_ptr<SimLane> lane;
  std::uint32_t calls[2] = {0, 0};
};

WorldOptions options(bool asynchronous) {
  WorldOptions made;
  made.executor.device.asynchronous = asynchronous;
  return made;
}

void invoke(const std::uint8_t* data, std::size_t size) {
  World world(options(size % 2 == 1));
  LaneUser liar(world, world.connect());
  LaneUser bystander(world, world.connect());
  overwrite(liar.lane->in(), data, size);
  // The mapping can't be lost, and an executor that sleeps is woken by whoever likes.
  liar.lane->bell.ring();
  for (std::uint64_t id = 1; id <= 3; ++id) {
    KAAS_CHECK(bystander.lane->invoke(id, bystander.calls[0]));
    world.settle();
    must_be_whole(world);
  }
  KAAS_CHECK(bystander.lane->read().size() == 3 && bystander.word(0) == 3);
  const auto fill = fill_request(store_buffer("x", 64), 2);
  KAAS_CHECK(bystander.client.send(0, submit_message(1, encode_request(fill))));
  world.settle();
  KAAS_CHECK(bystander.client.read(0).size() == 1);
  KAAS_CHECK(world.killed.empty() && world.closed.empty());
  // Each that was taken ran once.
  const std::uint64_t taken = liar.lane->taken();
  KAAS_CHECK(taken <= kLaneSlots && liar.word(0) + liar.word(1) == taken);
  KAAS_CHECK(liar.lane->out().header->answered.load() == taken);
  world.hang_up(liar.client);
  world.settle();
  KAAS_CHECK(world.dispatcher().lanes_of(liar.client.session()) == 0);
  must_be_whole(world);
}

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  std::vector<FuzzSeed> seeds;
  World world(options(false));
  LaneUser user(world, world.connect());
  for (std::uint64_t id = 1; id <= 4; ++id) {
    KAAS_CHECK(user.lane->invoke(id, user.calls[id % 2]));
  }
  seeds.push_back({"four", image_of(user.lane->in())});
  KAAS_CHECK(user.lane->invoke(5, 77));
  seeds.push_back({"unknown-call", image_of(user.lane->in())});
  return seeds;
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kaas::invoke(data, size);
  return 0;
}
