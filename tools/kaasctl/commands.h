// The commands of kaasctl. Each does the whole of its work, reports what goes wrong itself, and
// returns the exit status.
// Threads: one.
#pragma once

#include "tools/kaasctl/command_line.h"
#include "tools/kaasctl/console.h"

namespace kaas {

// daemon_commands.cc
int show_status(const CommandLine& line, Console& console);
int show_sessions(const CommandLine& line, Console& console);
int show_libraries(const CommandLine& line, Console& console);
int show_logs(const CommandLine& line, Console& console);
int cancel_request(const CommandLine& line, Console& console);
int kick_session(const CommandLine& line, Console& console);
int reload_configuration(const CommandLine& line, Console& console);
int suspend_device(const CommandLine& line, Console& console);
int resume_device(const CommandLine& line, Console& console);

// function_commands.cc
int deploy_function(const CommandLine& line, Console& console);
int undeploy_function(const CommandLine& line, Console& console);
int show_functions(const CommandLine& line, Console& console);

// run_commands.cc
int run_request(const CommandLine& line, Console& console);
int call_function(const CommandLine& line, Console& console);

// store_commands.cc
int put_object(const CommandLine& line, Console& console);
int get_object(const CommandLine& line, Console& console);
int list_objects(const CommandLine& line, Console& console);
int show_object(const CommandLine& line, Console& console);
int remove_objects(const CommandLine& line, Console& console);
int share_object(const CommandLine& line, Console& console);

// doctor.cc
int examine(const CommandLine& line, Console& console);

// completion.cc
int print_completion_script(Console& console);
// Prints what may stand in the place of the last of `words`, a candidate a line. "@files" among
// them means any file name.
int complete(const std::vector<std::string>& words, Console& console);

}  // namespace kaas
