// One small scene for the targets that look at kaasd and an executor: a client has sent a few
// requests, kaasd has sent them on. The same each time, so that an input means the same each time.
#pragma once

#include "tools/sim/checks.h"
#include "tools/sim/requests.h"
#include "tools/sim/world.h"

namespace kaas {

inline constexpr RingGeometry kSceneRings{16, 16384};

inline WorldOptions scene_options() {
  WorldOptions options;
  options.start_executors = false;
  options.executor.geometry = kSceneRings;
  options.executor.outbox_bytes = 64u << 10;
  return options;
}

inline constexpr std::uint64_t kSceneOperations = 7;  // Their ids are 1 to this.

struct Scene {
  Scene() : client(world.connect()), executor(world.start_executor(client.uid())) {
    world.step();
    executor.step();
    world.step();
    send(prepare_message(1, encode_request(fill_request(store_buffer("p", 64), 1))));
    send(submit_message(2, encode_request(fill_request(store_buffer("x", 64), 2))));
    const auto copied = copy_request(store_buffer("x", 64), store_buffer("y", 64));
    RunOptions profiled;
    profiled.profile = true;
    send(submit_message(3, encode_request(copied), profiled));
    const auto in_place = add_one_request(segment_buffer("a", 64, client.arena()));
    send(submit_message(4, encode_request(in_place)));
    send(submit_message(5, encode_request(fill_request(inline_buffer("out", 64), 3))));
    send(put_message(6, "e", Bytes(64)));
    send(export_message(7, "e"));
    world.step();
    world.step();
  }
  // What was sent is done, and a lane is asked for, and kaasd has sent that on.
  void open_lane() {
    while (executor.step() == StepOutcome::Progress) {
    }
    world.step();
    const auto in_place = add_one_request(segment_buffer("a", 64, client.arena()));
    send(prepare_message(60, encode_request(in_place)));
    world.settle();
    send(open_lane_message(70, 2));
    world.step();
    world.step();
  }
  void send(const Bytes& message) { KAAS_CHECK(client.send(0, message)); }

  World world{scene_options()};
  SimClient& client;
  SimExecutor& executor;
};

}  // namespace kaas
