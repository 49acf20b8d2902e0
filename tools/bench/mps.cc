#include "tools/bench/mps.h"

#include <sys/wait.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "tools/bench/child_process.h"

namespace kaas {
namespace {

constexpr const char* kControl = "nvidia-cuda-mps-control";
constexpr std::uint64_t kTimeoutNs = 20'000'000'000;

std::vector<std::string> environment_of(const std::string& folder) {
  return {"CUDA_MPS_PIPE_DIRECTORY=" + folder + "/pipe",
          "CUDA_MPS_LOG_DIRECTORY=" + folder + "/log"};
}

// Gives the control daemon of `folder` one command; returns its answer.
Result<std::string> command(const std::string& folder, const std::string& line) {
  KAAS_ASSIGN_OR_RETURN(ChildProcess control,
                        ChildProcess::start({kControl}, environment_of(folder)));
  KAAS_RETURN_IF_ERROR(control.send(line));
  KAAS_ASSIGN_OR_RETURN(const ChildProcess::Ending ending, control.finish(kTimeoutNs));
  if (ending.status != 0) {
    return Status{StatusCode::Unavailable, std::string(kControl) + ": " + ending.output};
  }
  return ending.output;
}

}  // namespace

Mps::Mps(Mps&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}

Mps& Mps::operator=(Mps&& other) noexcept {
  if (this == &other) return *this;
  stop();
  folder_ = std::exchange(other.folder_, {});
  return *this;
}

Mps::~Mps() {
  stop();
}

void Mps::stop() noexcept {
  if (folder_.empty()) return;
  static_cast<void>(command(folder_, "quit").has_value());
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
  folder_.clear();
}

Result<Mps> Mps::start() {
  std::string folder = (std::filesystem::temp_directory_path() / "kaas-mps-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) {
    return Status{StatusCode::ResourceExhausted, folder + ": " + std::strerror(errno)};
  }
  std::error_code error;
  std::filesystem::create_directory(folder + "/pipe", error);
  std::filesystem::create_directory(folder + "/log", error);
  auto control = ChildProcess::start({kControl, "-d"}, environment_of(folder));
  if (!control) {
    std::filesystem::remove_all(folder, error);
    if (control.error().code != StatusCode::NotFound) return std::move(control).error();
    return Status{StatusCode::NotFound, std::string(kControl) + " is not installed"};
  }
  Mps mps(folder);
  KAAS_ASSIGN_OR_RETURN(const ChildProcess::Ending ending, control->finish(kTimeoutNs));
  if (ending.status != 0) {
    return Status{StatusCode::Unavailable, std::string(kControl) + " -d ended with wait status " +
                                               std::to_string(ending.status) + ": " +
                                               ending.output};
  }
  return mps;
}

std::vector<std::string> Mps::environment() const {
  return environment_of(folder_);
}

Result<void> Mps::check_server() const {
  KAAS_ASSIGN_OR_RETURN(const std::string servers, command(folder_, "get_server_list"));
  for (const char character : servers) {
    if (std::isdigit(static_cast<unsigned char>(character)) != 0) return {};
  }
  return Status{StatusCode::Unavailable,
                std::string(kControl) + " has no server: " + (servers.empty() ? "-" : servers)};
}

}  // namespace kaas
