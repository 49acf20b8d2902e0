// A program of the tests' own as a process of its own.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace kaas {

// Runs build/.../tests/bin/`name` to its end. Its exit status, or minus the signal that killed it.
inline int run_program(const std::string& name, std::vector<std::string> arguments) {
  const std::string path = std::string(std::getenv("KAAS_TEST_BINARY_DIR")) + "/tests/bin/" + name;
  std::vector<char*> words{const_cast<char*>(path.c_str())};
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::execv(path.c_str(), words.data());
    ::_exit(127);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace kaas
