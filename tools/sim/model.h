// What one ring's operations must give: they are looked at in the order in which they were sent,
// each when its answer is there, and done again by plain loops over words.
// Threads: one.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tools/sim/program.h"

namespace kaas {

inline constexpr std::uint64_t kCellWords = 64;  // Of an arena: operations touch whole cells.
inline constexpr std::uint64_t kCellsPerRing = 16;
inline constexpr std::uint64_t kTickCell = kCellsPerRing - 1;  // Of a ring's: for what reads ticks.

// What has been done to the world so far, by which failures are excused.
struct Faults {
  std::uint64_t executor_deaths = 0;
  std::uint64_t executors_refused = 0;  // Domains for which none could be started.
  bool launches_fail = false;           // Some launch was told to fail.
  bool device_is_small = false;         // Some allocation was told to fail.
  bool store_is_small = false;
};

struct SimOperation {
  enum class Kind {
    Put,
    PutArena,
    Get,
    Stat,
    Remove,
    Run,
    Prepare,
    Release,
    Cancel,
    OpenLane,
    DropLaneCall
  };
  Kind kind = Kind::Get;
  std::uint64_t id = 0;
  std::string key;                  // Put, PutArena, Get, Stat, Remove.
  Words words;                      // Put.
  std::uint64_t offset = 0;         // PutArena, in words.
  std::uint64_t count = 0;          // PutArena, in words.
  Program program;                  // Run.
  bool has_deadline = false;        // Run.
  bool profile = false;             // Run.
  std::uint64_t target = 0;         // Cancel.
  std::uint32_t plan = 0;           // OpenLane.
  bool for_lane = false;            // Prepare.
  std::uint32_t tick_min = 0;       // Run: the tick that was there for certain when it was sent.
  std::uint64_t deaths_before = 0;  // Run: Faults::executor_deaths when it was sent.
  bool cancel_sent = false;         // Run, Prepare: somebody tried to cancel it.
  std::optional<SeenAnswer> answer;
  std::optional<Bytes> object;  // Get of a large object.
};

// For people: "run 7 with a deadline: arena+448:64 = s1r0k2:64; ".
std::string describe(const SimOperation& operation);

class RingModel {
 public:
  // `first_cell`: where this ring's part of the arena begins. `shared`: all values that anybody of
  // this uid ever wrote to keys that begin with "shared".
  RingModel(std::uint64_t first_cell, const std::set<std::uint32_t>& shared)
      : first_cell_(first_cell), shared_(shared) {}

  // An operation that was sent.
  void sent(SimOperation operation) { log_.push_back(std::move(operation)); }
  // Its answer. Empty: all is well, else what is wrong.
  std::string answered(SeenAnswer answer, std::optional<Bytes> object, const Faults& faults);

  [[nodiscard]] std::size_t unanswered() const;
  [[nodiscard]] const std::deque<SimOperation>& log() const noexcept { return log_; }
  [[nodiscard]] SimOperation* find(std::uint64_t id);
  // Compares the arena with the model; nothing may be under way. Empty: all is well.
  [[nodiscard]] std::string check_arena(std::span<const std::byte> arena) const;

 private:
  struct Value {
    Words words;
    bool known = true;
    // Deaths when it was made as one that stays on the device, if the host has not had it since: it
    // may be lost by a later one.
    std::optional<std::uint64_t> resident_since{};
  };
  struct Cell {
    Words words = Words(kCellWords, 0);
    bool known = true;
  };

  std::string look_at(const SimOperation& operation, const Faults& faults);
  std::string look_at_get(const SimOperation& operation, const Faults& faults);
  std::string look_at_run(const SimOperation& operation, const Faults& faults);
  std::string look_at_cancel(const SimOperation& operation);
  std::string apply_outputs(const SimOperation& operation, const std::vector<Words>& memory,
                            const std::vector<bool>& known);
  void store_slices(const SimOperation& operation, const std::string& key,
                    const std::vector<Words>& memory, bool known);
  [[nodiscard]] bool may_be_lost(const std::string& key, const Faults& faults) const;
  [[nodiscard]] bool needs_lost(const SimOperation& operation, const Faults& faults) const;
  [[nodiscard]] std::string excuse(const SimOperation& operation, const Faults& faults,
                                   const std::vector<StatusCode>& expected) const;
  void spoil(const SimOperation& operation, const Faults& faults);
  [[nodiscard]] bool reads_tainted(const SimOperation& operation) const;
  [[nodiscard]] bool may_be_overwritten(const SimOperation& operation) const;
  bool load(const ProgramBuffer& buffer, Words& words, std::vector<StatusCode>& expected) const;
  [[nodiscard]] static bool is_shared(const std::string& key) {
    return key.rfind("shared", 0) == 0;
  }

  std::uint64_t first_cell_;
  const std::set<std::uint32_t>& shared_;
  std::deque<SimOperation> log_;
  std::map<std::string, Value> keys_;
  std::set<std::string> tainted_;  // Keys whose last writer failed: who read it meanwhile may fail.
  std::array<Cell, kCellsPerRing> cells_;
  std::map<std::uint64_t, StatusCode> outcomes_;  // Of operations that were looked at.
};

}  // namespace kaas
