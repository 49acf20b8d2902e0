// One finding of `kaasctl doctor`, and the groups of checks.
// Threads: one.
#pragma once

#include <kaas/client.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "tools/kaasctl/console.h"
#include "tools/kaasctl/reading.h"

namespace kaas {

struct Check {
  enum class Level : std::uint8_t { Ok, Warn, Fail };
  Level level = Level::Ok;
  std::string name;
  std::string text;    // What was found.
  std::string advice;  // What to do; empty when all is well.
};

// What was found, told one by one as it is found; with --json, at the end.
class Checks {
 public:
  explicit Checks(Console& console) : console_(console) {}

  void add(const Check& check);
  void end();
  [[nodiscard]] bool has_failed() const { return has_failed_; }

 private:
  Console& console_;
  Json list_ = Json::array();
  bool has_failed_ = false;
};

// NVIDIA GPUs that the driver offers here.
std::size_t count_gpus();

// Of this machine and this process, with or without a daemon.
void check_machine(Checks& checks);
// The places where a daemon is looked for. doctor_daemon.cc
void check_sockets(const std::string& socket, Checks& checks);
// Of the daemon that answered: who it is, its health, memory, devices and libraries, and a request
// that does nothing, in a session of its own. doctor_daemon.cc
void check_daemon(const CommandLine& line, Client& client, Checks& checks);
// What to do when there is no session, for this reason. doctor_daemon.cc
std::string advice_for(const Status& reason);

}  // namespace kaas
