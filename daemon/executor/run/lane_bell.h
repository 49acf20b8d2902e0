// The executor's end of a lane's bell (schema/ipc/lane.h): the client rings it when it has
// published an invocation and finds the executor asleep.
// Trust:   whoever has the other end may ring at any time, as often as it likes, or close it.
// Threads: main thread only.
#pragma once

#include <cstdint>
#include <memory>

#include "daemon/executor/run/segments.h"
#include "schema/ipc/result.h"

namespace kaas {

// Where bells are heard: in a process of its own, what the executor sleeps in. A bell that is heard
// ends a sleep, and each further one until it is cleared.
class LaneBells {
 public:
  virtual ~LaneBells() = default;
  // `descriptor`, the bell of `lane`, is heard from now on until ignore(). Fails with
  // ResourceExhausted.
  virtual Result<void> listen(std::uint32_t lane, int descriptor) = 0;
  virtual void ignore(int descriptor) noexcept = 0;
};

// One bell while it is heard. Move-only.
class LaneBell {
 public:
  // None: nothing is heard.
  LaneBell() noexcept = default;
  // `bells` must outlive this. InvalidArgument: the segment is no bell.
  static Result<LaneBell> create(LaneBells& bells, std::uint32_t lane,
                                 std::shared_ptr<ExecutorSegment> segment);
  LaneBell(LaneBell&& other) noexcept;
  LaneBell& operator=(LaneBell&& other) noexcept;
  ~LaneBell();

  // It has ended a sleep. One that the client has closed is ignored from now on. False: it has
  // ended more than kLaneRingsInVainMax in a row, for nothing.
  [[nodiscard]] bool rang() noexcept;
  // There was an invocation.
  void rang_for_something() noexcept { in_vain_ = 0; }

 private:
  LaneBell(LaneBells& bells, std::shared_ptr<ExecutorSegment> segment) noexcept;

  LaneBells* bells_ = nullptr;
  std::shared_ptr<ExecutorSegment> segment_;  // Null: none.
  std::uint32_t in_vain_ = 0;
};

}  // namespace kaas
