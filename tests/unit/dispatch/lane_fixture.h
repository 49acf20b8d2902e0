// A DispatcherTest with lanes: short forms of asking for one, using it and looking at its end.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {

inline constexpr std::uint64_t kLaneBytes = 64;      // Of each buffer: 16 words.
inline constexpr std::uint64_t kOthers = 1'000'000;  // Ids of clients that are not the fixture's.

class LaneTest : public DispatcherTest {
 protected:
  explicit LaneTest(const WorldOptions& options = {}) : DispatcherTest(options) { settle(); }

  std::uint32_t prepare(const RequestSpec& request, std::size_t ring = 0) {
    const auto id =
        send([&](std::uint64_t number) { return prepare_message(number, encode_request(request)); },
             ring);
    settle();
    EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
    return answer(id).plan;
  }
  std::uint64_t open(std::uint32_t plan, std::size_t ring = 0,
                     const std::vector<std::pair<std::string, std::string>>& renames = {}) {
    return send([&](std::uint64_t id) { return open_lane_message(id, plan, renames); }, ring);
  }
  std::uint64_t drop(std::uint32_t lane, std::uint32_t call) {
    return send([&](std::uint64_t id) { return drop_lane_call_message(id, lane, call); });
  }
  // Memory of the client, `word` words into its arena.
  BufferSpec arena(const std::string& name, std::uint64_t word = 0) {
    return segment_buffer(name, kLaneBytes, client->arena(), word * 4);
  }
  std::uint32_t& word(std::uint64_t index) {
    return reinterpret_cast<std::uint32_t*>(client->arena_bytes().data())[index];
  }
  // ++memory, in place.
  RequestSpec in_place(std::uint64_t at = 0) { return add_one_request(arena("x", at)); }
  // memory = key.
  RequestSpec reading(const std::string& key, std::uint64_t at = 64) {
    return copy_request(store_buffer(key, kLaneBytes), arena("out", at));
  }
  // A lane that is granted for the request.
  SeenGrant granted(const RequestSpec& request, std::size_t ring = 0) {
    const auto id = open(prepare(request, ring), ring);
    settle();
    EXPECT_EQ(code(id), StatusCode::Ok) << answer(id).message;
    EXPECT_TRUE(answer(id).lane.has_value());
    return answer(id).lane.value_or(SeenGrant{});
  }
  std::unique_ptr<SimLane> lane_for(const RequestSpec& request) {
    const SeenGrant grant = granted(request);
    return client->map_lane(grant);
  }
  [[nodiscard]] std::size_t lanes() { return dispatcher().lanes_of(client->session()); }
  // What the client has been told of the lane's end, both ways.
  StatusCode end_of(const SimLane& lane) {
    const auto reason = client->lane_end(lane.number());
    EXPECT_TRUE(reason.has_value()) << "it has not ended";
    EXPECT_EQ(client->ring(0).completion.view().header->lanes_ended.load(), lane.number());
    if (!reason) return StatusCode::Ok;
    end_message = reason->message;
    return reason->code;
  }
  // No answer yet, and no end, but kaasd has told the executor to take nothing more.
  [[nodiscard]] std::uint64_t ends_asked() {
    return world.executor().work().header->lanes_ended.load();
  }

  std::string end_message;
};

}  // namespace kaas
