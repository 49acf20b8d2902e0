#include "daemon/plan/library_path.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <system_error>

#include "daemon/flow/field_limits.h"
#include "daemon/flow/text.h"
#include "schema/limits.h"

namespace kaas {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

Status denied(const std::string& path, const std::string& why) {
  return Status{StatusCode::PermissionDenied, "library " + quoted(path, kPathBytesMax) + " " + why};
}

bool has_library_ending(std::string_view name) {
  constexpr std::string_view kEndings[] = {".so", ".cubin", ".fatbin", ".ptx", ".cu"};
  return std::any_of(std::begin(kEndings), std::end(kEndings),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

// The file names that `stem` may have, the preferred one first. `stem` is a name or an absolute
// path.
std::vector<std::string> candidates(std::string_view stem, DeviceKind device) {
  const std::string name(stem);
  if (device == DeviceKind::Host) {
    return {has_library_ending(name) ? name : name + ".so"};
  }
  if (name.ends_with(".so") && !name.ends_with(".cuda.so")) {
    return {name.substr(0, name.size() - 3) + ".cuda.so", name};
  }
  if (has_library_ending(name)) return {name};
  return {name + ".cuda.so", name + ".cubin", name + ".fatbin", name + ".ptx", name + ".cu"};
}

bool is_trusted(uid_t owner, const LibraryRules& rules) {
  return owner == 0 || owner == geteuid() ||
         std::find(rules.owners.begin(), rules.owners.end(), owner) != rules.owners.end();
}

std::string own_uid() {
  return geteuid() == 0 ? "0" : "0, " + std::to_string(geteuid());
}

Result<void> check_operators(const std::string& path, const std::string& what,
                             const struct stat& found) {
  if (found.st_uid != 0 && found.st_uid != geteuid()) {
    return denied(path, what + "belongs to uid " + std::to_string(found.st_uid) +
                            "; users of a joined trust domain load libraries of its operator "
                            "only, uid " +
                            own_uid());
  }
  const bool is_sticky = S_ISDIR(found.st_mode) && (found.st_mode & S_ISVTX) != 0;
  if ((found.st_mode & S_IWGRP) != 0 && !is_sticky) {
    return denied(path, what +
                            "can be written by its group; users of a joined trust domain load "
                            "libraries that only the operator can write");
  }
  return {};
}

// Whoever can write the file, or replace it or a folder above it, chooses the code that runs.
Result<void> check_writers(const std::string& path, const struct stat& file,
                           const LibraryRules& rules) {
  if (rules.operators_only) KAAS_RETURN_IF_ERROR(check_operators(path, "", file));
  if (!rules.owners.empty() && !is_trusted(file.st_uid, rules)) {
    return denied(path, "belongs to uid " + std::to_string(file.st_uid) +
                            ", whose libraries may not be loaded here");
  }
  if ((file.st_mode & S_IWOTH) != 0) return denied(path, "can be written by everybody");
  uid_t entry_owner = file.st_uid;
  for (std::size_t end = path.rfind('/'); end != std::string::npos;
       end = end == 0 ? std::string::npos : path.rfind('/', end - 1)) {
    const std::string folder = end == 0 ? "/" : path.substr(0, end);
    struct stat status {};
    if (stat(folder.c_str(), &status) != 0) {
      return denied(path, "is in " + quoted(folder, kPathBytesMax) +
                              ", which cannot be examined: " + reason(errno));
    }
    if (rules.operators_only) {
      const std::string what = "is in " + quoted(folder, kPathBytesMax) + ", which ";
      KAAS_RETURN_IF_ERROR(check_operators(path, what, status));
    }
    // In a sticky folder only the owner of an entry replaces it.
    const bool is_open = (status.st_mode & S_IWOTH) != 0 &&
                         ((status.st_mode & S_ISVTX) == 0 || !is_trusted(entry_owner, rules));
    entry_owner = status.st_uid;
    if (!is_open) continue;
    return denied(path,
                  "is in " + quoted(folder, kPathBytesMax) + ", which can be written by everybody");
  }
  return {};
}

Result<ResolvedLibrary> examine(const std::string& path, const LibraryRules& rules) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) return denied(path, "cannot be resolved: " + reason(errno));
  ResolvedLibrary library;
  library.path = real.get();
  struct stat status {};
  if (stat(library.path.c_str(), &status) != 0) {
    return denied(path, "cannot be examined: " + reason(errno));
  }
  if (!S_ISREG(status.st_mode)) return denied(path, "is not a regular file");
  if (access(library.path.c_str(), R_OK) != 0) {
    return denied(path, "cannot be read: " + reason(errno));
  }
  KAAS_RETURN_IF_ERROR(check_writers(library.path, status, rules));
  library.bytes = static_cast<std::uint64_t>(status.st_size);
  library.mtime_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  library.inode = status.st_ino;
  library.device = status.st_dev;
  return library;
}

}  // namespace

Result<ResolvedLibrary> resolve_library(std::string_view name, const LibraryRules& rules) {
  if (name.empty() || name.size() > kPathBytesMax || name.find('\0') != std::string_view::npos) {
    return invalid("library name " + quoted(name) + " has " + std::to_string(name.size()) +
                   " bytes, allowed 1 to " + std::to_string(kPathBytesMax) + " without zeros");
  }
  const bool is_absolute = name.front() == '/';
  if (!is_absolute && name.find('/') != std::string_view::npos) {
    return invalid("library " + quoted(name, kPathBytesMax) +
                   " is a relative path; allowed are absolute paths and names without '/'");
  }
  std::vector<std::string> paths;
  if (is_absolute) {
    const bool is_complete = rules.device == DeviceKind::Host || !name.ends_with(".so");
    paths = is_complete ? std::vector{std::string(name)} : candidates(name, rules.device);
  } else {
    for (const std::string& folder : rules.search_path) {
      for (const std::string& file : candidates(name, rules.device)) {
        paths.push_back(folder + "/" + file);
      }
    }
  }
  std::string looked;
  for (const std::string& path : paths) {
    struct stat status {};
    if (stat(path.c_str(), &status) == 0) return examine(path, rules);
    looked += (looked.empty() ? "" : ", ") + path + " (" + reason(errno) + ")";
  }
  return Status{StatusCode::NotFound,
                "library " + quoted(name, kPathBytesMax) + " not found; looked for " +
                    (looked.empty() ? "nothing, the search path is empty" : looked)};
}

}  // namespace kaas
