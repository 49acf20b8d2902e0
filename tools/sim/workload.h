// An honest client: sends random valid operations on its rings, reads the answers, and has the
// model look at each.
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tools/sim/model.h"
#include "tools/sim/random.h"
#include "tools/sim/world.h"

namespace kaas {

// Told of everything that happens, in order.
class Trace {
 public:
  explicit Trace(bool verbose) : verbose_(verbose) {}
  void add(const std::string& event);
  void add_bytes(std::span<const std::byte> bytes);
  [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }

 private:
  bool verbose_;
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

struct WorkloadCounts {
  std::uint64_t sent = 0;
  std::uint64_t ok = 0;
  std::uint64_t failed = 0;
  std::uint64_t lost = 0;      // Of these, because an object was lost with its device.
  std::uint64_t resident = 0;  // Objects that were seen to be on a device.
  std::uint64_t lanes = 0;     // That were granted.
  std::uint64_t by_lane = 0;   // Of those sent.
};

// A key of which each put has a larger value, one put at a time: what reads it can be told to be
// too old.
inline constexpr const char* kTickKey = "tick";
struct Ticks {
  std::uint32_t answered = 1;  // Its value is there; later ones may be.
  std::uint32_t sent = 1;
  bool under_way = false;  // For ever, if its client ended meanwhile.
};

class HonestClient {
 public:
  // `shared`: the values of the uid's shared keys. `ticks`: of its tick key.
  HonestClient(SimClient& client, Random& random, Trace& trace, std::set<std::uint32_t>& shared,
               Ticks& ticks);

  // Sends one operation if there is room.
  void act(std::uint64_t now_ns, const Faults& faults);
  // Takes in at most `limit` answers of each ring. Empty: all is well.
  std::string read(const Faults& faults, std::size_t limit);
  [[nodiscard]] std::size_t unanswered() const;
  // Nothing is under way: compares the arena with the model.
  [[nodiscard]] std::string check_arena() const;
  [[nodiscard]] SimClient& client() noexcept { return client_; }
  [[nodiscard]] const WorkloadCounts& counts() const noexcept { return counts_; }

 private:
  struct Plan {
    std::uint32_t plan = 0;
    Program program;
  };
  struct LaneCall {
    std::uint32_t call = 0;
    std::uint32_t plan = 0;
    Program program;
    bool replayable = false;
  };
  struct OnLane {
    std::uint64_t position = 0;
    bool replayable = false;
    Bytes invoke;  // The same by the ring.
  };
  struct RingState {
    RingState(std::uint64_t first_cell, const std::set<std::uint32_t>& shared)
        : model(first_cell, shared) {}
    RingModel model;
    std::vector<Plan> plans;
    bool asleep = false;  // On `words`, as a client does that waits for answers.
    std::pair<std::uint32_t, std::uint32_t> words;  // The ring's, the lane's.

    std::vector<Plan> lane_plans;  // Not released.
    std::unique_ptr<SimLane> lane;
    std::vector<LaneCall> lane_calls;
    bool prefers_lane = true;                 // Sends nothing by the ring, so that it gets empty.
    std::map<std::uint64_t, OnLane> on_lane;  // Under way, by id.
    std::deque<Bytes> again;                  // Goes by the ring before anything else.
  };

  SimOperation make_operation(std::size_t ring, std::uint64_t now_ns, Bytes& message);
  SimOperation make_run(std::size_t ring, std::uint64_t now_ns, Bytes& message);
  SimOperation make_cancel(std::size_t ring, Bytes& message);
  Program make_program(std::size_t ring);
  ProgramBuffer key_buffer(std::size_t ring, std::set<std::string>& used);
  ProgramBuffer arena_buffer(std::size_t ring, std::uint64_t words, std::set<std::uint64_t>& used);
  void add_step(std::size_t ring, Program& program, std::set<std::string>& keys,
                std::set<std::uint64_t>& cells);
  // workload_lanes.cc
  Program make_lane_program(std::size_t ring);
  SimOperation make_lane_operation(std::size_t ring, Bytes& message);
  SimOperation make_tick(Bytes& message);
  bool act_on_lane(std::size_t ring, const Faults& faults);
  bool invoke(std::size_t ring, const Faults& faults);
  void send_again(std::size_t ring);
  std::string take_grant(std::size_t ring, const SimOperation& asked, const SeenAnswer& answer);
  std::string read_lane(std::size_t ring, const Faults& faults);
  std::string finish_lane(std::size_t ring, const Faults& faults);
  [[nodiscard]] std::string check_tick(const SimOperation& operation) const;

  [[nodiscard]] std::pair<std::uint32_t, std::uint32_t> wake_words(std::size_t ring);
  [[nodiscard]] bool asleep(std::size_t ring);
  void fall_asleep(std::size_t ring);
  std::string take(std::size_t ring, SeenAnswer answer, const Faults& faults);
  std::string key_name(std::size_t ring, std::uint64_t index) const;

  SimClient& client_;
  Random& random_;
  Trace& trace_;
  std::set<std::uint32_t>& shared_;
  Ticks& ticks_;
  std::vector<std::unique_ptr<RingState>> rings_;
  std::uint64_t next_id_ = 1;
  std::uint32_t next_value_;
  WorkloadCounts counts_;
};

}  // namespace kaas
