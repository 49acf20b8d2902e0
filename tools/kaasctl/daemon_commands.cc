// What the daemon says of itself, and orders to it.
#include <poll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <deque>
#include <nlohmann/json.hpp>
#include <utility>

#include "tools/kaasctl/commands.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"

namespace kaas {
namespace {

constexpr int kFollowEveryMs = 200;
constexpr std::uint32_t kLogPageLines = 1000;

std::string count(const Json& object, const char* field) {
  return std::to_string(natural_at(object, field));
}

std::string bytes(const Json& object, const char* field) {
  return human_bytes(natural_at(object, field));
}

// Of a device's memory: nothing is known before its executor has told its limit.
std::string device_bytes(const Json& object, const char* field, const char* limit_field) {
  return natural_at(object, limit_field) == 0 ? "-" : bytes(object, field);
}

std::string executor_table(const Json& status) {
  Table table({">EXECUTOR", "DEVICE", ">DOMAIN", ">PID", "STATE", "CONFINED", ">RUNNING",
               ">FINISHED", ">RESTARTS", ">MEMORY", ">OF", ">HITS", ">MISSES", ">EVICTED",
               ">LAUNCHES"});
  const Json& executors = list_at(status, "executors");
  for (const Json& executor : executors) {
    const Json& counters = object_at(executor, "counters");
    const std::string confinement = text_at(executor, "confinement");
    table.add({count(executor, "executor"), text_at(executor, "device"), count(executor, "domain"),
               count(executor, "pid"), text_at(executor, "state"),
               confinement.substr(0, confinement.find(':')), count(executor, "in_flight"),
               count(executor, "finished"), count(executor, "restarts"),
               device_bytes(executor, "device_used_bytes", "device_limit_bytes"),
               device_bytes(executor, "device_limit_bytes", "device_limit_bytes"),
               count(counters, "device_hits"), count(counters, "device_misses"),
               count(counters, "evictions"), count(counters, "launches")});
  }
  return executors.empty() ? "no executors; a request starts one\n" : table.to_string();
}

std::string device_table(const Json& status) {
  Table table({"DEVICE", "NAME", "STATE", ">RUNNING", ">EXECUTORS", ">MEMORY", ">OF", ">EXPORTED",
               "CAUSE"});
  for (const Json& device : list_at(status, "devices")) {
    table.add({text_at(device, "id"), text_at(device, "name"), text_at(device, "state"),
               count(device, "in_flight"), count(device, "executors"),
               device_bytes(device, "used_bytes", "limit_bytes"),
               device_bytes(device, "limit_bytes", "limit_bytes"), bytes(device, "exported_bytes"),
               text_at(device, "cause")});
  }
  return table.to_string();
}

std::string status_text(const Json& status) {
  const Json& store = object_at(status, "store");
  const Json& memory = object_at(status, "memory");
  std::string health = text_at(status, "health");
  if (const std::string reason = text_at(status, "health_reason"); !reason.empty()) {
    health += ": " + reason;
  }
  const std::pair<const char*, std::string> rows[] = {
      {"kaasd", text_at(status, "version") + ", process " + count(status, "pid") + ", uid " +
                    count(status, "uid") + ", up " + human_seconds(number_at(status, "uptime_s"))},
      {"health", health},
      {"socket", text_at(status, "socket")},
      {"sessions", count(status, "sessions")},
      {"requests", count(status, "requests_under_way") + " under way, " + count(status, "queued") +
                       " of them queued"},
      {"store", count(store, "objects") + " objects, " + bytes(store, "object_bytes") + "; " +
                    count(store, "versions") + " versions, " + bytes(store, "version_bytes") +
                    "; slabs " + bytes(store, "slab_bytes")},
      {"memory", bytes(memory, "used_bytes") + " of " + bytes(memory, "limit_bytes") + " (" +
                     text_at(memory, "bound") + ")"},
      {"functions", count(status, "functions")},
      {"libraries", count(status, "libraries") + " loaded"}};
  std::string text;
  for (const auto& [name, value] : rows) {
    text += name + std::string(11 - std::string_view(name).size(), ' ') + printable(value) + "\n";
  }
  return text + "\n" + device_table(status) + "\n" + executor_table(status);
}

std::string sessions_text(const Json& clients) {
  Table sessions({">SESSION", ">UID", ">PID", "NAME", ">CONNECTED", ">RINGS", ">REQUESTS",
                  ">FAILED", ">PUTS", ">GETS", ">SEGMENTS", ">SHARED", ">EXPORTED"});
  Table requests({"REQUEST", "STATE", ">TAG", ">EXECUTOR", ">AGE"});
  bool has_requests = false;
  for (const Json& client : list_at(clients, "clients")) {
    sessions.add({count(client, "session"), count(client, "uid"), count(client, "pid"),
                  text_at(client, "name"), human_seconds(number_at(client, "connected_s")),
                  count(client, "rings"), count(client, "requests"), count(client, "failed"),
                  count(client, "puts"), count(client, "gets"), count(client, "segments"),
                  bytes(client, "segment_bytes"), bytes(client, "exported_bytes")});
    for (const Json& run : list_at(client, "under_way")) {
      has_requests = true;
      const std::uint64_t executor = natural_at(run, "executor");
      requests.add({count(client, "session") + "." + count(run, "ring") + "." + count(run, "id"),
                    text_at(run, "state"), count(run, "tag"),
                    executor == 0 ? "" : std::to_string(executor),
                    human_ns(natural_at(run, "age_ms") * 1'000'000)});
    }
  }
  return sessions.to_string() + (has_requests ? "\n" + requests.to_string() : "");
}

// A library that a request has named is opened when a run needs it; what is in it is known then.
std::string library_state(const Json& library) {
  const std::string error = text_at(library, "error");
  if (!error.empty()) return error;
  const bool is_known = !text_at(library, "name").empty() || !list_at(library, "kernels").empty();
  return is_known ? "ok" : "not loaded";
}

std::string libraries_text(const Json& libraries) {
  Table table({">LIBRARY", "NAME", ">KERNELS", ">SIZE", "PATH", "STATE"});
  std::string kernels;
  for (const Json& library : list_at(libraries, "libraries")) {
    const Json& names = list_at(library, "kernels");
    table.add({count(library, "library"), text_at(library, "name"), std::to_string(names.size()),
               bytes(library, "bytes"), text_at(library, "path"), library_state(library)});
    std::string line;
    for (const Json& name : names) {
      line += (line.empty() ? "" : ", ") + (name.is_string() ? name.get<std::string>() : "");
    }
    if (!line.empty()) {
      kernels += "\n" + printable(text_at(library, "name")) + ": " + printable(line) + "\n";
    }
  }
  return table.to_string() + kernels;
}

// Local time of a log line: "2025-11-25 10:00:00.123".
std::string time_text(double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  tm local{};
  ::localtime_r(&whole, &local);
  std::array<char, 64> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local);
  const int milliseconds = static_cast<int>((seconds - static_cast<double>(whole)) * 1000);
  std::snprintf(text.data() + length, text.size() - length, ".%03d", milliseconds);
  return text.data();
}

std::string log_line(const Json& line) {
  std::string text = time_text(number_at(line, "time")) + " " + text_at(line, "level") + " ";
  if (natural_at(line, "session") != 0) {
    text += "[" + count(line, "session") + " " + count(line, "request") + "] ";
  }
  return printable(text + text_at(line, "text")) + "\n";
}

// A command that shows one answer of the daemon.
int show(const CommandLine& line, Console& console, Result<std::string> (Client::*ask)(),
         std::string (*render)(const Json&)) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto answer = (*client.*ask)();
  if (!answer.has_value()) return fail(console, *client, answer.error());
  if (console.json()) {
    console.print(*answer + "\n");
    return kExitDone;
  }
  const auto parsed = parse_answer(*answer);
  if (!parsed.has_value()) return fail(console, *client, parsed.error());
  console.print(render(*parsed));
  return kExitDone;
}

// Reports an order that was carried out.
int done(Console& console, const std::string& text, const Json& json) {
  if (console.json()) {
    console.print(json.dump() + "\n");
  } else if (!console.quiet()) {
    console.print(text + "\n");
  }
  return kExitDone;
}

int wrong_usage(const Console& console, const Status& status) {
  console.error(status);
  return kExitUsage;
}

// Reads log lines after `after` to the end of the log and hands each to `take`; moves `after` on.
template <class Take>
Result<void> read_logs(Client& client, std::uint64_t& after, Take take) {
  for (;;) {
    KAAS_ASSIGN_OR_RETURN(const std::string answer, client.logs_json(after, kLogPageLines));
    KAAS_ASSIGN_OR_RETURN(const Json page, parse_answer(answer));
    const Json& lines = list_at(page, "lines");
    for (const Json& line : lines) {
      after = std::max(after, natural_at(line, "sequence"));
      take(line);
    }
    if (lines.empty()) return {};
  }
}

}  // namespace

int show_status(const CommandLine& line, Console& console) {
  return show(line, console, &Client::status_json, status_text);
}

int show_sessions(const CommandLine& line, Console& console) {
  return show(line, console, &Client::clients_json, sessions_text);
}

int show_libraries(const CommandLine& line, Console& console) {
  return show(line, console, &Client::libraries_json, libraries_text);
}

int show_logs(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto render = [&](const Json& entry) {
    return console.json() ? dump(entry) + "\n" : log_line(entry);
  };
  std::uint64_t after = 0;
  std::deque<std::string> last;
  const auto keep = [&](const Json& entry) {
    last.push_back(render(entry));
    if (last.size() > line.lines) last.pop_front();
  };
  if (auto read = read_logs(*client, after, keep); !read.has_value()) {
    return fail(console, *client, read.error());
  }
  for (const std::string& text : last) console.print(text);
  if (!line.follow) return kExitDone;
  while (console.flush()) {
    ::poll(nullptr, 0, kFollowEveryMs);
    const auto print = [&](const Json& entry) { console.print(render(entry)); };
    if (auto read = read_logs(*client, after, print); !read.has_value()) {
      return fail(console, *client, read.error());
    }
  }
  return kExitDone;
}

int cancel_request(const CommandLine& line, Console& console) {
  const auto name = parse_request_name(line.target);
  if (!name.has_value()) return wrong_usage(console, name.error());
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto cancelled = client->cancel_request(name->session, name->ring, name->id);
  if (!cancelled.has_value()) return fail(console, *client, cancelled.error());
  return done(console, "cancelled " + line.target, {{"cancelled", line.target}});
}

int kick_session(const CommandLine& line, Console& console) {
  const auto session = parse_natural(line.target);
  if (!session) {
    return wrong_usage(
        console, {StatusCode::InvalidArgument,
                  "session is '" + printable(line.target) + "', allowed a number, as ps shows it"});
  }
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto kicked = client->kick(*session);
  if (!kicked.has_value()) return fail(console, *client, kicked.error());
  return done(console, "ended session " + line.target, {{"kicked", *session}});
}

namespace {

// Reports what an order did to devices: `verb` is the field of the answer that lists them.
int devices_done(Console& console, Client& client, const Result<std::string>& answer,
                 const char* verb) {
  if (!answer.has_value()) return fail(console, client, answer.error());
  const auto parsed = parse_answer(*answer);
  if (!parsed.has_value()) return fail(console, client, parsed.error());
  std::string text;
  for (const Json& id : list_at(*parsed, verb)) {
    if (!text.empty()) text += "\n";
    text += std::string(verb) + " " + (id.is_string() ? printable(id.get<std::string>()) : "");
  }
  return done(console, text, *parsed);
}

}  // namespace

int suspend_device(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto answer =
      client->suspend_device(line.target, std::chrono::seconds(line.within_s), line.force);
  return devices_done(console, *client, answer, "suspended");
}

int resume_device(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  return devices_done(console, *client, client->resume_device(line.target), "resumed");
}

int reload_configuration(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto reloaded = client->reload();
  if (!reloaded.has_value()) return fail(console, *client, reloaded.error());
  return done(console, "configuration re-read", {{"reloaded", true}});
}

}  // namespace kaas
