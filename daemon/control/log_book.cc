#include "daemon/control/log_book.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>

namespace kaas {
namespace {

constexpr std::size_t kLineBytesMax = 4096;

Result<spdlog::level::level_enum> parse_level(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    return Status{
        StatusCode::InvalidArgument,
        "log.level is '" + level + "', allowed: trace, debug, info, warning, error, critical, off"};
  }
  return parsed;
}

// A file that is made is not for everybody: what kernels of all users print is in it. Called before
// there are other threads, which would have the same mask.
spdlog::sink_ptr open_file(const std::string& file) {
  struct Mask {
    mode_t before = ::umask(0027);
    ~Mask() { ::umask(before); }
  };
  const Mask mask;
  return std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
}

std::int64_t wall_clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Result<std::unique_ptr<LogBook>> LogBook::create(const std::string& file,
                                                 const std::string& level) {
  std::unique_ptr<LogBook> book(new LogBook());
  try {
    spdlog::sink_ptr sink;
    if (file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = open_file(file);
    }
    book->logger_ = std::make_shared<spdlog::logger>("kaasd", std::move(sink));
  } catch (const spdlog::spdlog_ex& failure) {
    return Status{StatusCode::InvalidArgument, "log file '" + file + "': " + failure.what()};
  }
  book->logger_->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  book->logger_->flush_on(spdlog::level::info);
  KAAS_RETURN_IF_ERROR(book->set_level(level));
  return book;
}

Result<void> LogBook::set_level(const std::string& level) {
  KAAS_ASSIGN_OR_RETURN(const auto parsed, parse_level(level));
  logger_->set_level(parsed);
  return {};
}

void LogBook::write(spdlog::level::level_enum level, const std::string& text) {
  if (!logger_->should_log(level)) return;
  logger_->log(level, "{}", text);
  LogLine line;
  const auto name = spdlog::level::to_string_view(level);
  line.level = std::string(name.data(), name.size());
  line.text = text;
  keep(std::move(line));
}

void LogBook::write_kernel_line(std::uint32_t uid, std::uint64_t session, std::uint64_t request,
                                const std::string& text) {
  const std::string cut = text.substr(0, kLineBytesMax);
  logger_->log(spdlog::level::info, "[{}.{}] {}", session, request, cut);
  LogLine line;
  line.level = "kernel";
  line.text = cut;
  line.uid = uid;
  line.session = session;
  line.request = request;
  line.of_kernel = true;
  keep(std::move(line));
}

void LogBook::keep(LogLine line) {
  const std::lock_guard lock(mutex_);
  line.sequence = ++sequence_;
  line.time_ns = wall_clock_ns();
  lines_.push_back(std::move(line));
  if (lines_.size() > kLinesMax) lines_.pop_front();
}

std::vector<LogLine> LogBook::lines(std::uint64_t after, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  const auto first = std::find_if(lines_.begin(), lines_.end(),
                                  [after](const LogLine& line) { return line.sequence > after; });
  const auto count = std::min<std::size_t>(limit, static_cast<std::size_t>(lines_.end() - first));
  return {first, first + static_cast<std::ptrdiff_t>(count)};
}

std::uint64_t LogBook::last() const {
  const std::lock_guard lock(mutex_);
  return sequence_;
}

}  // namespace kaas
