#include "tools/kaasctl/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <limits>
#include <set>
#include <string_view>
#include <type_traits>

#include "schema/limits.h"
#include "tools/kaasctl/console.h"
#include "tools/kaasctl/text.h"
#include "tools/request_json/json_node.h"

namespace kaas {
namespace {

constexpr std::uint64_t kRepeatMax = 10'000'000;

constexpr const char* kDeviceHelp =
    "Its id, as status shows it, what only one id begins with, or all";

// A whole number of type T, as CLI11 reads one, but for "-1" as the largest; else a text that says
// what is allowed.
template <class T>
CLI::Validator whole_number(T least = std::numeric_limits<T>::min(),
                            T most = std::numeric_limits<T>::max()) {
  const auto fault = [least, most](const std::string& text) -> std::string {
    T value{};
    const bool wraps = std::is_unsigned_v<T> && text.starts_with('-');
    const bool is_number = !wraps && CLI::detail::lexical_cast(text, value);
    if (is_number && value >= least && value <= most) return {};
    return shown(text) + " is given, allowed is a whole number from " + std::to_string(least) +
           " to " + std::to_string(most);
  };
  return {fault, ""};
}

// For words whose absence means something: an empty one would be taken for that.
CLI::Validator not_empty() {
  const auto fault = [](const std::string& text) -> std::string {
    return text.empty() ? "it is empty; give a text, or leave it out" : "";
  };
  return {fault, ""};
}

constexpr const char* kFooter =
    "Exit status: 0 done, 1 the request failed, 2 wrong usage, 3 no daemon, 130 interrupted.";

// The grammar. Commands set line.command when they are met.
class Grammar {
 public:
  Grammar() {
    app_.name("kaasctl");
    app_.footer(kFooter);
    app_.set_version_flag("--version", std::string("kaasctl ") + KAAS_VERSION);
    app_.require_subcommand(1);
    app_.add_option("--socket", line_.socket,
                    "Socket of the daemon; default: $KAAS_SOCKET, else "
                    "$XDG_RUNTIME_DIR/kaas/kaasd.sock, else /run/kaas/kaasd.sock")
        ->type_name("PATH")
        ->check(not_empty());
    app_.add_flag("--json", line_.json, "Machine-readable output");
    app_.add_flag("-q,--quiet", line_.quiet, "Print nothing but what was asked for, and errors");
    app_.add_flag("--progress", line_.progress,
                  "Show the progress of transfers without a terminal");
    add_daemon_commands();
    add_request_commands();
    add_function_commands();
    add_store_commands();
  }

  CLI::App& app() { return app_; }
  CommandLine& line() { return line_; }

 private:
  CLI::App* command(CLI::App& parent, const char* name, const char* help, Command command) {
    CLI::App* added = parent.add_subcommand(name, help);
    added->fallthrough();  // Options of every command may stand behind its name.
    added->callback([this, command] { line_.command = command; });
    return added;
  }

  void add_daemon_commands() {
    command(app_, "status", "The daemon, its executors, store and memory", Command::Status);
    command(app_, "ps", "Sessions and the requests under way", Command::Ps);
    CLI::App* cancel = command(app_, "cancel", "Drop a queued request", Command::Cancel);
    cancel->add_option("request", line_.target, "SESSION.RING.ID, as ps shows it")->required();
    CLI::App* kick = command(app_, "kick", "End a session", Command::Kick);
    kick->add_option("session", line_.target, "Number of the session, as ps shows it")->required();
    command(app_, "libraries", "Loaded kernel libraries and their kernels", Command::Libraries);
    CLI::App* logs = command(app_, "logs", "The daemon's log", Command::Logs);
    logs->add_flag("-f,--follow", line_.follow, "Go on with new lines");
    logs->add_option("-n,--lines", line_.lines, "How many of the last lines (100)")
        ->check(whole_number<std::uint32_t>());
    command(app_, "doctor", "Check this machine and the daemon", Command::Doctor);
    command(app_, "reload", "Make the daemon read its configuration again", Command::Reload);
    CLI::App* suspend =
        command(app_, "suspend", "Give a device's memory back to other programs", Command::Suspend);
    suspend->add_option("device", line_.target, kDeviceHelp)->required();
    suspend
        ->add_option("--within", line_.within_s,
                     "Seconds that what runs there is waited for (30); then the device goes on")
        ->check(whole_number<std::uint32_t>(0, kSuspendWithinMsMax / 1000));
    suspend->add_flag("--force", line_.force, "Also if the state of libraries would be lost");
    CLI::App* resume = command(app_, "resume", "Take a device again", Command::Resume);
    resume->add_option("device", line_.target, kDeviceHelp)->required();
    CLI::App* completion =
        command(app_, "completion", "Print a completion script", Command::Completion);
    completion->add_option("shell", line_.shell, "bash")
        ->required()
        ->check(CLI::IsMember({"bash"}));
  }

  void add_run_options(CLI::App& command) {
    command
        .add_option("bindings", line_.assignments,
                    "NAME=INTEGER, NAME=@FILE, NAME=in:FILE, NAME=out:FILE, NAME=key:KEY")
        ->type_name("NAME=VALUE");
    command.add_option("--repeat", line_.repeat, "Run so often, and show the times")
        ->check(whole_number<std::uint64_t>(1, kRepeatMax));
    command.add_option("--deadline", line_.deadline, "Longest time for each run: 500ms, 2s, 1min")
        ->check(not_empty());
    command.add_option("--tag", line_.tag, "A number of your own, shown by ps")
        ->check(whole_number<std::uint64_t>());
    command.add_option("--priority", line_.priority, "-100 to 100, higher first")
        ->check(whole_number<int>(-100, 100));
    command.add_option("--tenant", line_.tenant, "For whom it is, inside your user");
    command.add_flag("--profile", line_.profile, "Show stage times and counters");
  }

  void add_request_commands() {
    CLI::App* run = command(app_, "run", "Run the request in a JSON file", Command::Run);
    run->add_option("file", line_.file, "Request; -: standard input")->required();
    add_run_options(*run);
    CLI::App* call = command(app_, "call", "Call a function", Command::Call);
    call->add_option("function", line_.name, "Its name")->required();
    add_run_options(*call);
    add_version(*call, "--version", "Another version than the current one");
  }

  void add_function_commands() {
    CLI::App* deploy = command(app_, "deploy", "Make a request a function", Command::Deploy);
    deploy->add_option("file", line_.file, "Request; -: standard input")->required();
    deploy->add_option("--name", line_.name, "Its name; default: the file's field 'function'")
        ->check(not_empty());
    CLI::App* undeploy = command(app_, "undeploy", "Remove a function", Command::Undeploy);
    undeploy->add_option("function", line_.name, "Its name")->required();
    add_version(*undeploy, "--version", "Only this version");
    CLI::App* functions =
        command(app_, "functions", "Functions and their versions", Command::Functions);
    functions->add_option("function", line_.name, "Only this one, with all its versions")
        ->check(not_empty());
    add_version(*functions, "--use", "Make this version of the function current");
  }

  void add_store_commands() {
    CLI::App* kv = app_.add_subcommand("kv", "The store: put, get, ls, stat, rm, share");
    kv->require_subcommand(1);
    kv->fallthrough();
    CLI::App* put = command(*kv, "put", "Store a file", Command::KvPut);
    add_key(*put);
    put->add_option("file", line_.file, "File; -: standard input")->required();
    CLI::App* get = command(*kv, "get", "Fetch an object", Command::KvGet);
    add_key(*get);
    get->add_option("file", line_.file, "File; - or nothing: standard output")->check(not_empty());
    CLI::App* list = command(*kv, "ls", "List keys", Command::KvLs);
    list->add_option("prefix", line_.prefix, "Only keys that begin so; @UID/ for another user's");
    CLI::App* stat = command(*kv, "stat", "Size and version of an object", Command::KvStat);
    add_key(*stat);
    CLI::App* remove = command(*kv, "rm", "Remove objects", Command::KvRm);
    remove->add_option("keys", line_.keys, "Keys")->required();
    CLI::App* share =
        command(*kv, "share", "Let other users read or write a key", Command::KvShare);
    add_key(*share);
    CLI::Option* uid =
        share->add_option("--uid", line_.uid, "A user")->check(whole_number<std::uint32_t>());
    share->add_flag("--everyone", line_.everyone, "Every user")->excludes(uid);
    CLI::Option* write =
        share->add_flag("--write", line_.write, "Also write, which includes removing the object");
    share->add_flag("--revoke", line_.revoke, "Take it back")->excludes(write);
  }

  void add_version(CLI::App& command, const char* option, const char* help) {
    command.add_option(option, line_.version, help)->check(whole_number<std::uint32_t>(1));
  }

  void add_key(CLI::App& command) {
    command.add_option("key", line_.key, "Key; @UID/KEY for another user's")->required();
  }

  CLI::App app_{"Controls the KaaS daemon"};
  CommandLine line_;
};

// What CLI11 can't say: conditions over several options.
std::optional<std::string> usage_fault(const CommandLine& line) {
  if (line.command == Command::KvShare && !line.uid && !line.everyone) {
    return "kv share: give --uid N or --everyone";
  }
  if (line.command == Command::Functions && line.version && line.name.empty()) {
    return "functions --use: give the function's name";
  }
  if (line.command == Command::KvGet && line.json && (line.file.empty() || line.file == "-")) {
    return "kv get --json: give a file, because standard output has the JSON";
  }
  return std::nullopt;
}

// A word where a command belongs, with the commands it may have meant; nullopt: none is the fault.
std::optional<std::string> unknown_command(const CLI::App& app) {
  const CLI::App* level = &app;
  while (!level->get_subcommands().empty()) level = level->get_subcommands().front();
  const std::vector<std::string> words = app.remaining(true);
  std::vector<std::string_view> names;
  const auto commands = level->get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands) names.emplace_back(command->get_name());
  if (names.empty() || words.empty() || words.front().starts_with('-')) return std::nullopt;
  return "there is no command " + shown(words.front()) + nearest_of(words.front(), names);
}

// Wrong usage, on standard error; returns the exit status.
int report_usage(const CommandLine& line, const std::string& text, const char* hint = "") {
  const Console console(line);
  console.error({StatusCode::InvalidArgument, text});
  if (!line.json) std::fputs(hint, stderr);
  return kExitUsage;
}

// Prints what is wrong, or the help that was asked for. Returns the exit status.
int report_parse_error(const CLI::App& app, const CLI::ParseError& error, const CommandLine& line) {
  const bool is_success = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
  // Behind a command it may well be meant for that: `call` has an option of the name.
  if (is_success && error.get_name() == "CallForVersion" && !app.get_subcommands().empty()) {
    const std::string command = app.get_subcommands().front()->get_name();
    return report_usage(line, command +
                                  ": --version was not expected; it stands alone, or behind " +
                                  "call and undeploy with a number");
  }
  if (is_success) return app.exit(error) == 0 ? kExitDone : kExitFailed;
  return report_usage(line, unknown_command(app).value_or(error.what()),
                      "Run kaasctl --help, or kaasctl COMMAND --help.\n");
}

}  // namespace

bool asks_for_json(int argc, const char* const* argv) {
  return std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--json"; });
}

ParsedCommandLine parse_command_line(int argc, const char* const* argv) {
  Grammar grammar;
  ParsedCommandLine parsed;
  try {
    grammar.app().parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    CommandLine unparsed;
    unparsed.json = asks_for_json(argc, argv);
    parsed.exit = report_parse_error(grammar.app(), error, unparsed);
    return parsed;
  }
  parsed.line = std::move(grammar.line());
  if (const auto fault = usage_fault(parsed.line)) {
    parsed.exit = report_usage(parsed.line, *fault);
  }
  return parsed;
}

Expected expected_after(const std::vector<std::string>& words) {
  Grammar grammar;
  CLI::App* app = &grammar.app();
  Expected expected;
  for (const std::string& word : words) {
    if (expected.option_value) {
      expected.option_value = false;
      continue;
    }
    if (word.size() > 1 && word[0] == '-') {
      const CLI::Option* option = app->get_option_no_throw(word);
      if (option == nullptr) option = grammar.app().get_option_no_throw(word);
      expected.option_value = option != nullptr && option->get_items_expected_min() > 0;
      continue;
    }
    const auto named =
        app->get_subcommands([&](const CLI::App* command) { return command->get_name() == word; });
    if (!named.empty() && expected.values.empty()) {
      app = named.front();
      expected.path.push_back(word);
    } else {
      expected.values.push_back(word);
    }
  }
  for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; })) {
    expected.words.push_back(command->get_name());
  }
  std::set<std::string> options;  // A command's own may hide one of all commands.
  std::vector<const CLI::App*> levels{app};
  if (app != &grammar.app()) levels.push_back(&grammar.app());
  for (const CLI::App* level : levels) {
    for (const CLI::Option* option : level->get_options()) {
      if (level != app && option == level->get_version_ptr()) continue;  // It stands alone.
      for (const std::string& name : option->get_lnames()) options.insert("--" + name);
    }
  }
  expected.words.insert(expected.words.end(), options.begin(), options.end());
  return expected;
}

}  // namespace kaas
