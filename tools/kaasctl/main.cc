// kaasctl: controls the daemon and moves data in and out of it.
#include <signal.h>

#include <cstdio>
#include <new>
#include <string_view>

#include "tools/kaasctl/commands.h"

namespace kaas {
namespace {

int dispatch(const CommandLine& line, Console& console) {
  switch (line.command) {
    case Command::Status:
      return show_status(line, console);
    case Command::Ps:
      return show_sessions(line, console);
    case Command::Run:
      return run_request(line, console);
    case Command::Deploy:
      return deploy_function(line, console);
    case Command::Undeploy:
      return undeploy_function(line, console);
    case Command::Functions:
      return show_functions(line, console);
    case Command::Call:
      return call_function(line, console);
    case Command::Cancel:
      return cancel_request(line, console);
    case Command::Kick:
      return kick_session(line, console);
    case Command::KvPut:
      return put_object(line, console);
    case Command::KvGet:
      return get_object(line, console);
    case Command::KvLs:
      return list_objects(line, console);
    case Command::KvStat:
      return show_object(line, console);
    case Command::KvRm:
      return remove_objects(line, console);
    case Command::KvShare:
      return share_object(line, console);
    case Command::Libraries:
      return show_libraries(line, console);
    case Command::Logs:
      return show_logs(line, console);
    case Command::Doctor:
      return examine(line, console);
    case Command::Reload:
      return reload_configuration(line, console);
    case Command::Suspend:
      return suspend_device(line, console);
    case Command::Resume:
      return resume_device(line, console);
    case Command::Completion:
      return print_completion_script(console);
  }
  return kExitUsage;
}

int run(int argc, char** argv) {
  // A reader of our output that goes away is an error of the write, not the end of us: what was
  // begun is still tidied up.
  ::signal(SIGPIPE, SIG_IGN);
  // Not part of the grammar: the words behind it are half of a command line.
  if (argc > 1 && std::string_view(argv[1]) == "__complete") {
    Console console(CommandLine{});
    return console.finish(complete({argv + 2, argv + argc}, console));
  }
  const ParsedCommandLine parsed = parse_command_line(argc, argv);
  if (parsed.exit) return *parsed.exit;
  Console console(parsed.line);
  return console.finish(dispatch(parsed.line, console));
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  try {
    return kaas::run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs(kaas::asks_for_json(argc, argv)
                   ? "{\"error\":{\"code\":\"ResourceExhausted\",\"message\":\"out of memory\"}}\n"
                   : "kaasctl: out of memory\n",
               stderr);
    return kaas::kExitFailed;
  }
}
