// Which request the calling thread is working for, so that what a kernel prints can be told apart.
// Threads: each thread has its own; a Device sets it on the threads to which it deals out blocks.
#pragma once

#include <cstdint>

namespace kaas {

// As kaasd names a request in lists and logs. All zero: no request, the executor itself.
struct RunTag {
  std::uint64_t session = 0;
  std::uint64_t request = 0;

  friend bool operator==(const RunTag&, const RunTag&) = default;
};

// Called by RunTagScope when a thread stops working for a request; set once, by the kernel log.
using RunTagEnd = void (*)() noexcept;

// The calling thread's tag, and what to do when its scope ends.
struct RunTagState {
  RunTag tag;
  bool printed = false;  // The kernel log holds text of this thread for `tag`.
};
inline thread_local RunTagState current_run_tag_state;

// Sets the calling thread's tag for a scope. `end` (may be null) is called at the end of the scope
// if the thread printed something that is not written yet.
class RunTagScope {
 public:
  RunTagScope(const RunTag& tag, RunTagEnd end) noexcept
      : outer_(current_run_tag_state.tag), end_(end) {
    current_run_tag_state.tag = tag;
  }
  ~RunTagScope() {
    if (current_run_tag_state.printed && end_ != nullptr) end_();
    current_run_tag_state.tag = outer_;
  }
  RunTagScope(const RunTagScope&) = delete;
  RunTagScope& operator=(const RunTagScope&) = delete;

 private:
  RunTag outer_;
  RunTagEnd end_;
};

}  // namespace kaas
