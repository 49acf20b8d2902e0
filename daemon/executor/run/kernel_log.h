// What kernels and libraries print, as lines that name the request that printed them.
//
// C's stdout and stderr and C++'s cout, cerr and clog are replaced by streams of our own. Each
// thread collects its text until a line is whole; the line is then written to the log pipe in one
// piece, as "\x1e<session> <request> text\n" if the thread works for a request, else as it is.
// Text that a kernel writes to descriptors 1 or 2 itself passes by unattributed.
//
// The pipe never holds anybody up: what does not fit is dropped and counted, and the number is
// written when there is room again.
// Threads: install() once, from the main thread, before others run; everything else from any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "schema/ipc/handle.h"

namespace kaas {

// Lines to a descriptor that is never waited for.
class LogPipe {
 public:
  // Longer lines are cut into several: a pipe takes so much in one piece or not at all.
  static constexpr std::size_t kLineBytesMax = 4000;

  // Writes to the file that `descriptor` refers to. Borrows it if it cannot be opened anew.
  explicit LogPipe(int descriptor);

  // Writes one line of at most kLineBytesMax bytes, newline included, or drops it.
  void write_line(std::string_view line) noexcept;
  [[nodiscard]] std::uint64_t dropped() const noexcept {
    return dropped_.load(std::memory_order_relaxed);
  }

 private:
  bool try_write(std::string_view line) noexcept;

  std::mutex mutex_;  // Orders writers, so that a look for room and a write belong together.
  Descriptor opened_;
  int descriptor_;
  std::uint64_t untold_ = 0;  // Of the dropped ones, those not told of yet. Under mutex_.
  std::atomic<std::uint64_t> dropped_{0};
};

// Puts the streams of this process in place; text goes to what is descriptor 1 now. The streams
// live as long as the process. Returns the pipe, for its count.
LogPipe& install_kernel_log();

// Ends the calling thread's unfinished lines. To be given to the runner as RunTagEnd.
void end_kernel_log_lines() noexcept;

// Cuts `text` into whole lines of `pending` + text, and keeps the rest in `pending`. Each is given
// to `pipe` with the calling thread's request. Exposed for tests.
void log_text(LogPipe& pipe, std::string& pending, std::string_view text);
void log_rest(LogPipe& pipe, std::string& pending);

}  // namespace kaas
