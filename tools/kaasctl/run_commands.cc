// run and call: one request, perhaps often.
#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "tools/kaasctl/bindings.h"
#include "tools/kaasctl/commands.h"
#include "tools/kaasctl/interruption.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/scratch.h"
#include "tools/kaasctl/session_guard.h"
#include "tools/kaasctl/text.h"
#include "tools/kaasctl/transfer.h"
#include "tools/request_json/request_json.h"

namespace kaas {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kShownDataBytesMax = 16;
constexpr auto kLookForSignalEvery = std::chrono::milliseconds(100);
// 128 + SIGINT, as shells say it, for every signal.
constexpr int kExitInterrupted = 130;

std::string hex(std::span<const std::byte> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 0xF];
  }
  return text;
}

// --- What came of it -----------------------------------------------------------------------------

// The runs of one command.
struct Outcome {
  Reply last;
  std::vector<std::uint64_t> latencies_ns;
  double seconds = 0;
};

constexpr std::pair<const char*, std::uint64_t Stages::*> kStages[] = {
    {"intake_ns", &Stages::intake_ns},   {"plan_ns", &Stages::plan_ns},
    {"queue_ns", &Stages::queue_ns},     {"load_ns", &Stages::load_ns},
    {"run_ns", &Stages::run_ns},         {"store_ns", &Stages::store_ns},
    {"execute_ns", &Stages::execute_ns}, {"settle_ns", &Stages::settle_ns}};
constexpr std::pair<const char*, std::uint64_t Counters::*> kCounters[] = {
    {"device_hits", &Counters::device_hits},
    {"device_misses", &Counters::device_misses},
    {"host_to_device_bytes", &Counters::host_to_device_bytes},
    {"device_to_host_bytes", &Counters::device_to_host_bytes},
    {"evictions", &Counters::evictions},
    {"evicted_bytes", &Counters::evicted_bytes},
    {"kernel_hits", &Counters::kernel_hits},
    {"kernel_misses", &Counters::kernel_misses},
    {"launches", &Counters::launches},
    {"iterations", &Counters::iterations}};

std::uint64_t percentile(const std::vector<std::uint64_t>& sorted, double fraction) {
  const auto index = static_cast<std::size_t>(fraction * static_cast<double>(sorted.size()));
  return sorted[std::min(index, sorted.size() - 1)];
}

Json outcome_json(const Outcome& outcome) {
  Json outputs = Json::array();
  for (const Output& output : outcome.last.outputs) {
    Json entry = {{"name", output.name}, {"bytes", output.bytes}};
    if (output.version != 0) entry["version"] = output.version;
    if (!output.data.empty()) entry["data"] = "hex:" + hex(output.data);
    outputs.push_back(std::move(entry));
  }
  Json json = {{"outputs", std::move(outputs)}};
  if (outcome.last.tag != 0) json["tag"] = outcome.last.tag;
  if (const auto& profile = outcome.last.profile) {
    Json stages = Json::object();
    for (const auto& [name, field] : kStages) stages[name] = profile->stages.*field;
    Json counters = Json::object();
    for (const auto& [name, field] : kCounters) counters[name] = profile->counters.*field;
    json["profile"] = {{"device", profile->device},
                       {"way", name_of(profile->way)},
                       {"stages", stages},
                       {"counters", counters}};
    if (!profile->why_stream.empty()) json["profile"]["why_stream"] = profile->why_stream;
  }
  std::vector<std::uint64_t> sorted = outcome.latencies_ns;
  std::sort(sorted.begin(), sorted.end());
  json["runs"] = {{"count", sorted.size()},
                  {"seconds", outcome.seconds},
                  {"min_ns", sorted.front()},
                  {"p50_ns", percentile(sorted, 0.5)},
                  {"p99_ns", percentile(sorted, 0.99)},
                  {"max_ns", sorted.back()}};
  return json;
}

std::string outcome_text(const Outcome& outcome) {
  std::string text;
  if (!outcome.last.outputs.empty()) {
    Table table({"OUTPUT", ">SIZE", ">VERSION", "BYTES"});
    for (const Output& output : outcome.last.outputs) {
      const std::span<const std::byte> data(output.data);
      std::string shown = hex(data.first(std::min(data.size(), kShownDataBytesMax)));
      if (data.size() > kShownDataBytesMax) shown += "...";
      table.add({output.name, human_bytes(output.bytes),
                 output.version == 0 ? "" : std::to_string(output.version), shown});
    }
    text += table.to_string();
  }
  if (outcome.latencies_ns.size() > 1) {
    std::vector<std::uint64_t> sorted = outcome.latencies_ns;
    std::sort(sorted.begin(), sorted.end());
    text += std::to_string(sorted.size()) + " runs in " + human_seconds(outcome.seconds) +
            ": min " + human_ns(sorted.front()) + ", p50 " + human_ns(percentile(sorted, 0.5)) +
            ", p99 " + human_ns(percentile(sorted, 0.99)) + ", max " + human_ns(sorted.back()) +
            "\n";
  }
  if (const auto& profile = outcome.last.profile) {
    Table stages({"STAGE", ">TIME"});
    for (const auto& [name, field] : kStages) {
      stages.add({std::string(name).substr(0, std::string_view(name).rfind('_')),
                  human_ns(profile->stages.*field)});
    }
    Table counters({"COUNTER", ">VALUE"});
    for (const auto& [name, field] : kCounters) {
      counters.add({name, std::to_string(profile->counters.*field)});
    }
    text += "device " + printable(profile->device) + ", by " + name_of(profile->way) +
            (profile->why_stream.empty() ? "" : " (" + profile->why_stream + ")") + "\n" +
            stages.to_string() + counters.to_string();
  }
  return text;
}

// --- Running -------------------------------------------------------------------------------------

using Submit = std::function<Future<Reply>(const RunOptions&)>;

// Waits until the user has lost patience. The end of the session then drops what is queued: to
// cancel the request and wait for the answer could take as long as the kernel that runs.
Result<Reply> await(Future<Reply> future) {
  while (!future.wait(kLookForSignalEvery)) {
    if (interrupted()) break;
  }
  if (future.ready()) return future.get();
  return Status{StatusCode::Cancelled,
                "interrupted; a request that is still queued is dropped, the results of one that "
                "runs are not waited for"};
}

struct RunSettings {
  RunOptions options;
  std::optional<std::uint64_t> deadline_ns;
  std::uint64_t repeat = 1;
};

Result<RunSettings> settings_of(const CommandLine& line) {
  RunSettings settings;
  settings.repeat = line.repeat;
  settings.options.priority = line.priority;
  settings.options.tag = line.tag;
  settings.options.profile = line.profile;
  settings.options.tenant = line.tenant;
  if (!line.deadline.empty()) {
    KAAS_ASSIGN_OR_RETURN(settings.deadline_ns, parse_duration_ns(line.deadline));
  }
  return settings;
}

Result<Outcome> run_all(RunSettings settings, const Submit& submit) {
  Outcome outcome;
  const auto started = Clock::now();
  for (std::uint64_t n = 0; n < settings.repeat; ++n) {
    const auto began = Clock::now();
    if (settings.deadline_ns) {
      settings.options.deadline = began + std::chrono::nanoseconds(*settings.deadline_ns);
    }
    KAAS_ASSIGN_OR_RETURN(outcome.last, await(submit(settings.options)));
    outcome.latencies_ns.push_back(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count()));
    if (interrupted()) break;
  }
  outcome.seconds = std::chrono::duration<double>(Clock::now() - started).count();
  return outcome;
}

using MakeSubmit = std::function<Result<Submit>(const Bindings&)>;

// Stores the input files, runs, and writes the output files.
Result<Outcome> run_between_files(Console& console, Scratch& scratch, const RunSettings& settings,
                                  const MakeSubmit& make_submit) {
  Bindings bindings;
  KAAS_RETURN_IF_ERROR(scratch.bind(bindings, console));
  KAAS_ASSIGN_OR_RETURN(const Submit submit, make_submit(bindings));
  KAAS_ASSIGN_OR_RETURN(Outcome outcome, run_all(settings, submit));
  KAAS_RETURN_IF_ERROR(scratch.write_outputs(console));
  return outcome;
}

// A request that has not ended may still be running, and whatever this session sends would wait for
// it: the session is ended first, and another one tidies up. And the session may have been ended
// while the daemon is well.
void tidy_up(const CommandLine& line, Client& client, const Scratch& scratch, bool has_ended) {
  if (scratch.empty()) return;
  if (has_ended) scratch.remove(client);
  const auto alive = client.alive();
  if (has_ended && alive.has_value()) return;
  // All of it has gone with the daemon.
  if (!alive.has_value() && exit_without_session(alive.error()) == kExitNoDaemon) return;
  CommandLine same_daemon = line;
  same_daemon.socket = client.socket();
  const Client ended = std::move(client);
  if (auto other = connect(same_daemon, SessionKind::Full); other.has_value()) {
    scratch.remove(*other);
  }
}

// Shows what came of the runs: beside data on standard output, on standard error.
void show(Console& console, const Outcome& outcome, bool beside_data) {
  if (console.json()) {
    console.print(dump(outcome_json(outcome)) + "\n");
    return;
  }
  std::string text = outcome_text(outcome);
  if (beside_data) {
    if (text.ends_with('\n')) text.pop_back();
    console.note(text);
  } else if (!console.quiet()) {
    console.print(text);
  }
}

// Runs, shows what came of it and tidies up.
int run_bound(const CommandLine& line, Console& console, Client& client,
              const RunArguments& arguments, Scratch& scratch, const MakeSubmit& make_submit) {
  const auto settings = settings_of(line);
  if (!settings.has_value()) {
    console.error(settings.error());
    return kExitUsage;
  }
  catch_interruption();
  auto outcome = [&] {
    const SessionGuard guard(line, client);
    return run_between_files(console, scratch, *settings, make_submit);
  }();
  // The end of the session fails whichever call was under way.
  if (!outcome.has_value() && interrupted() &&
      !outcome.error().message.starts_with("interrupted")) {
    outcome = Status{StatusCode::Cancelled, "interrupted"};
  }
  int code = kExitDone;
  if (outcome.has_value()) {
    show(console, *outcome, writes_standard_output(arguments));
  } else {
    code = fail(console, client, scratch.in_words_of_user(outcome.error()));
  }
  tidy_up(line, client, scratch, outcome.has_value());
  return interrupted() ? kExitInterrupted : code;
}

Roles roles_of(const JsonRequest& request) {
  Roles roles;
  for (const JsonBuffer& buffer : request.buffers) {
    if (buffer.is_input) roles.inputs.push_back(buffer.name);
    if (buffer.is_output) roles.outputs.push_back(buffer.name);
  }
  return roles;
}

std::vector<std::string> names_of(const Json& list) {
  std::vector<std::string> names;
  for (const Json& name : list) {
    if (name.is_string()) names.push_back(name.get<std::string>());
  }
  return names;
}

// The roles of a function's buffers, as far as the daemon knows the function; a call says better
// what is wrong with its name or version.
Result<Roles> roles_of(Client& client, const CommandLine& line) {
  KAAS_ASSIGN_OR_RETURN(const std::string answer, client.functions_json());
  KAAS_ASSIGN_OR_RETURN(const Json parsed, parse_answer(answer));
  for (const Json& function : list_at(parsed, "functions")) {
    if (text_at(function, "name") != line.name) continue;
    const std::uint64_t wanted =
        line.version.value_or(static_cast<std::uint32_t>(natural_at(function, "current_version")));
    for (const Json& version : list_at(function, "versions")) {
      if (natural_at(version, "version") != wanted) continue;
      return Roles{names_of(list_at(version, "inputs")), names_of(list_at(version, "outputs"))};
    }
  }
  return Status{StatusCode::NotFound, ""};
}

// The words of the command line, sorted and possible.
Result<RunArguments> arguments_of(const CommandLine& line, const Roles& roles) {
  KAAS_ASSIGN_OR_RETURN(RunArguments arguments, sort_assignments(line.assignments, roles));
  KAAS_RETURN_IF_ERROR(check_streams(line, arguments));
  return arguments;
}

}  // namespace

int run_request(const CommandLine& line, Console& console) {
  const auto text = read_text(line.file, kRequestTextBytesMax);
  if (!text.has_value()) {
    console.error(text.error());
    return kExitFailed;
  }
  const auto request = parse_request(*text);
  if (!request.has_value()) {
    console.error(
        {request.error().code, name_of_source(line.file) + ": " + request.error().message});
    return kExitFailed;
  }
  const auto arguments = arguments_of(line, roles_of(*request));
  if (!arguments.has_value()) {
    console.error(arguments.error());
    return kExitUsage;
  }
  if (request->parameters.empty() && !arguments->parameters.empty()) {
    console.error(
        {StatusCode::InvalidArgument, "'" + printable(arguments->parameters.front().name) +
                                          "' is given a number, but " + name_of_source(line.file) +
                                          " has no parameters"});
    return kExitUsage;
  }
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  Scratch scratch(*client, *arguments);
  const auto make_submit = [&](const Bindings& bindings) -> Result<Submit> {
    if (!request->parameters.empty()) {
      KAAS_ASSIGN_OR_RETURN(const std::string name, scratch.deploy(request->request, line.file));
      return Submit([&, name](const RunOptions& options) {
        return client->call_async(name, arguments->parameters, bindings, options);
      });
    }
    if (line.repeat == 1 && bindings.empty()) {
      return Submit(
          [&](const RunOptions& options) { return client->submit(request->request, options); });
    }
    KAAS_ASSIGN_OR_RETURN(const Plan plan, client->prepare(request->request));
    return Submit(
        [plan, &bindings](const RunOptions& options) { return plan.submit(bindings, options); });
  };
  return run_bound(line, console, *client, *arguments, scratch, make_submit);
}

int call_function(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  auto roles = roles_of(*client, line);
  if (!roles.has_value()) {
    if (roles.error().code != StatusCode::NotFound) {
      return fail(console, *client, roles.error());
    }
    // The answer to a call names what there is.
    const auto refused = client->call(line.name, {}, {}, {}, line.version.value_or(0));
    return fail(console, *client,
                refused.has_value() ? Status{StatusCode::NotFound, "there is no such function"}
                                    : refused.error());
  }
  const auto arguments = arguments_of(line, *roles);
  if (!arguments.has_value()) {
    console.error(arguments.error());
    return kExitUsage;
  }
  Scratch scratch(*client, *arguments);
  const auto make_submit = [&](const Bindings& bindings) -> Result<Submit> {
    return Submit([&](const RunOptions& options) {
      return client->call_async(line.name, arguments->parameters, bindings, options,
                                line.version.value_or(0));
    });
  };
  return run_bound(line, console, *client, *arguments, scratch, make_submit);
}

}  // namespace kaas
