#include "daemon/executor/run/kernel_log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <streambuf>

#include "daemon/executor/device/run_tag.h"

namespace kaas {
namespace {

constexpr std::size_t kTagBytesMax = 48;
constexpr std::size_t kTextBytesMax = LogPipe::kLineBytesMax - kTagBytesMax;

// Unfinished lines of one thread, one for each of the two streams.
enum class Stream : std::uint8_t { Out, Error };
struct PendingLines {
  std::string lines[2];
};
thread_local PendingLines pending_lines;

LogPipe* process_pipe = nullptr;  // Set once by install_kernel_log, never destroyed.

void write_text(Stream stream, std::string_view text) noexcept {
  try {
    log_text(*process_pipe, pending_lines.lines[static_cast<std::size_t>(stream)], text);
    current_run_tag_state.printed = true;
  } catch (const std::bad_alloc&) {
    // The text is lost; what it is about goes on.
  }
}

template <Stream kStream>
ssize_t write_cookie(void*, const char* text, std::size_t bytes) {
  write_text(kStream, {text, bytes});
  return static_cast<ssize_t>(bytes);
}

// A C stream without a buffer of its own: a buffer would mix the text of several threads.
template <Stream kStream>
std::FILE* open_stream() {
  cookie_io_functions_t functions{};
  functions.write = &write_cookie<kStream>;
  std::FILE* stream = ::fopencookie(nullptr, "w", functions);
  if (stream != nullptr) std::setvbuf(stream, nullptr, _IONBF, 0);
  return stream;
}

class LineBuffer final : public std::streambuf {
 public:
  explicit LineBuffer(Stream stream) : stream_(stream) {}

 protected:
  int_type overflow(int_type character) override {
    if (traits_type::eq_int_type(character, traits_type::eof()))
      return traits_type::not_eof(character);
    const char text = traits_type::to_char_type(character);
    write_text(stream_, {&text, 1});
    return character;
  }
  std::streamsize xsputn(const char* text, std::streamsize bytes) override {
    write_text(stream_, {text, static_cast<std::size_t>(bytes)});
    return bytes;
  }

 private:
  Stream stream_;
};

void write_tagged(LogPipe& pipe, std::string_view text) {
  const RunTag& tag = current_run_tag_state.tag;
  std::string line;
  line.reserve(kTagBytesMax + text.size() + 1);
  if (tag != RunTag{}) {
    line += '\x1e';
    line += std::to_string(tag.session);
    line += ' ';
    line += std::to_string(tag.request);
    line += ' ';
  }
  line += text;
  line += '\n';
  pipe.write_line(line);
}

}  // namespace

// --- LogPipe -------------------------------------------------------------------------------------

LogPipe::LogPipe(int descriptor) : descriptor_(descriptor) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISFIFO(status.st_mode)) return;
  // An open file of its own: O_NONBLOCK on the given one would hold for all who share it.
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  opened_ = Descriptor(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  if (opened_) descriptor_ = opened_.get();
}

void LogPipe::write_line(std::string_view line) noexcept {
  const std::lock_guard lock(mutex_);
  if (untold_ != 0) {
    char text[80];
    const int bytes = std::snprintf(text, sizeof text, "%llu lines of kernel output were dropped\n",
                                    static_cast<unsigned long long>(untold_));
    if (try_write({text, static_cast<std::size_t>(bytes)})) untold_ = 0;
  }
  if (untold_ == 0 && try_write(line)) return;
  ++untold_;
  dropped_.fetch_add(1, std::memory_order_relaxed);
}

bool LogPipe::try_write(std::string_view line) noexcept {
  // POLLOUT says that a pipe has room for a page, hence for any line.
  pollfd room{descriptor_, POLLOUT, 0};
  if (::poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0) return false;
  ssize_t written = 0;
  do {
    written = ::write(descriptor_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(line.size());
}

// --- Lines ---------------------------------------------------------------------------------------

void log_text(LogPipe& pipe, std::string& pending, std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::size_t room = kTextBytesMax - pending.size();
    const std::size_t taken = std::min(end == std::string_view::npos ? text.size() : end, room);
    pending += text.substr(0, taken);
    text.remove_prefix(taken);
    const bool line_ends = !text.empty() && text.front() == '\n';
    if (line_ends) text.remove_prefix(1);
    if (line_ends || pending.size() == kTextBytesMax) {
      write_tagged(pipe, pending);
      pending.clear();
    }
  }
}

void log_rest(LogPipe& pipe, std::string& pending) {
  if (pending.empty()) return;
  write_tagged(pipe, pending);
  pending.clear();
}

void end_kernel_log_lines() noexcept {
  current_run_tag_state.printed = false;
  try {
    for (std::string& line : pending_lines.lines) log_rest(*process_pipe, line);
  } catch (const std::bad_alloc&) {
    // As in write_text.
  }
}

LogPipe& install_kernel_log() {
  if (process_pipe != nullptr) return *process_pipe;
  std::fflush(nullptr);
  // Never destroyed: libraries may print until the very end of the process.
  process_pipe = new LogPipe(STDOUT_FILENO);
  if (std::FILE* out = open_stream<Stream::Out>()) stdout = out;
  if (std::FILE* error = open_stream<Stream::Error>()) stderr = error;
  std::cout.rdbuf(new LineBuffer(Stream::Out));
  std::cerr.rdbuf(new LineBuffer(Stream::Error));
  std::clog.rdbuf(new LineBuffer(Stream::Error));
  return *process_pipe;
}

}  // namespace kaas
