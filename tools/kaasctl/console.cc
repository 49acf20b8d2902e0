#include "tools/kaasctl/console.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/kaasctl/text.h"

namespace kaas {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr auto kProgressAfter = std::chrono::milliseconds(400);
constexpr auto kProgressEvery = std::chrono::milliseconds(100);

}  // namespace

Console::Console(const CommandLine& line)
    : json_(line.json),
      quiet_(line.quiet),
      colour_(!line.json && ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr),
      progress_(line.progress || (!line.quiet && ::isatty(STDERR_FILENO) == 1)) {}

bool Console::print(std::string_view text) {
  if (!failed_ && std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) failed_ = true;
  return !failed_;
}

bool Console::flush() {
  if (std::fflush(stdout) != 0) failed_ = true;
  return !failed_;
}

void Console::note(std::string_view text) const {
  if (quiet_) return;
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

void Console::error(const Status& status) const {
  if (json_) {
    const Json text = {{"error", {{"code", name_of(status.code)}, {"message", status.message}}}};
    const std::string dumped = text.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::fprintf(stderr, "%s\n", dumped.c_str());
    return;
  }
  std::fprintf(stderr, "kaasctl: %s\n", printable(status.message).c_str());
}

int Console::finish(int code) {
  errno = 0;
  if (flush() || code != kExitDone) return code;
  // A reader that has gone has seen what it wanted; anything else is worth a word.
  if (errno != EPIPE && errno != 0) {
    error({StatusCode::ResourceExhausted, std::string("standard output: ") + std::strerror(errno)});
  }
  return kExitFailed;
}

// --- Progress ------------------------------------------------------------------------------------

Progress::Progress(const Console& console, std::string label, std::uint64_t total_bytes)
    : console_(console),
      label_(printable(label)),
      total_bytes_(total_bytes),
      started_(Clock::now()),
      shown_(started_) {}

Progress::~Progress() {
  if (!visible_) return;
  show(done_bytes_);
  std::fputc('\n', stderr);
}

void Progress::update(std::uint64_t done_bytes) {
  done_bytes_ = done_bytes;
  if (!console_.shows_progress()) return;
  const auto now = Clock::now();
  if (now - started_ < kProgressAfter || (visible_ && now - shown_ < kProgressEvery)) return;
  shown_ = now;
  visible_ = true;
  show(done_bytes);
}

void Progress::show(std::uint64_t done_bytes) {
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(done_bytes) / seconds);
  std::string text = label_ + "  " + human_bytes(done_bytes);
  if (total_bytes_ > 0) {
    text += " of " + human_bytes(total_bytes_) + ", " +
            std::to_string(done_bytes * 100 / total_bytes_) + " %";
  }
  text += "  " + human_bytes(rate) + "/s";
  std::fprintf(stderr, "\r%-70s", text.c_str());
  std::fflush(stderr);
}

// --- Sessions ------------------------------------------------------------------------------------

Result<Client> connect(const CommandLine& line, SessionKind kind) {
  ClientOptions options;
  options.socket = line.socket;
  options.name = "kaasctl";
  options.administration_only = kind == SessionKind::Administration;
  return Client::connect(options);
}

ExitCode exit_without_session(const Status& reason) {
  switch (reason.code) {
    case StatusCode::Unavailable:
    case StatusCode::DeadlineExceeded:
      return kExitNoDaemon;
    case StatusCode::InvalidArgument:  // The path of the socket is none.
      return kExitUsage;
    default:  // Somebody was there and said no.
      return kExitFailed;
  }
}

int no_session(const Console& console, const Status& reason) {
  console.error(reason);
  return exit_without_session(reason);
}

int fail(const Console& console, Client& client, const Status& status) {
  console.error(status);
  const auto alive = client.alive();
  return alive.has_value() ? kExitFailed : exit_without_session(alive.error());
}

}  // namespace kaas
