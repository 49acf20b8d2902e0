// The daemon's log: spdlog to stderr or a file, and the last lines kept for `kaasctl logs`.
// Threads: all functions from any thread.
#pragma once

#include <spdlog/spdlog.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

struct LogLine {
  std::uint64_t sequence = 0;  // From 1.
  std::int64_t time_ns = 0;    // CLOCK_REALTIME.
  std::string level;
  std::string text;
  std::uint64_t session = 0;  // 0: none.
  std::uint64_t request = 0;
  std::uint32_t uid = 0;   // Whose: only they and the operator see lines of kernels.
  bool of_kernel = false;  // Printed by a kernel or a library, not by kaasd.
};

class LogBook {
 public:
  // `file` empty: stderr. `level` as spdlog names it. Fails with InvalidArgument.
  static Result<std::unique_ptr<LogBook>> create(const std::string& file, const std::string& level);

  Result<void> set_level(const std::string& level);
  void write(spdlog::level::level_enum level, const std::string& text);
  // What a kernel or a library printed. Not sent through the level filter.
  void write_kernel_line(std::uint32_t uid, std::uint64_t session, std::uint64_t request,
                         const std::string& text);

  // Lines with a sequence over `after`, at most `limit`, oldest first.
  [[nodiscard]] std::vector<LogLine> lines(std::uint64_t after, std::size_t limit) const;
  [[nodiscard]] std::uint64_t last() const;

 private:
  LogBook() = default;
  void keep(LogLine line);

  static constexpr std::size_t kLinesMax = 4096;
  std::shared_ptr<spdlog::logger> logger_;
  mutable std::mutex mutex_;
  std::deque<LogLine> lines_;   // Guarded by mutex_.
  std::uint64_t sequence_ = 0;  // Guarded by mutex_.
};

}  // namespace kaas
