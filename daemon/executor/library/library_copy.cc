#include "daemon/executor/library/library_copy.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "schema/ipc/segment.h"

namespace kaas {
namespace {

std::string quoted(const std::string& path) {
  return "library '" + path + "'";
}

std::string mode_text(mode_t mode) {
  char text[8];
  std::snprintf(text, sizeof text, "%04o", static_cast<unsigned>(mode & 07777));
  return text;
}

constexpr mode_t kOthersMayWrite = S_IWGRP | S_IWOTH;

Result<void> check_owner(const struct stat& found, const LibraryTrust& trust,
                         const std::string& what) {
  if (found.st_uid == 0 || found.st_uid == trust.owner) return {};
  return Status{StatusCode::PermissionDenied,
                what + " belongs to uid " + std::to_string(found.st_uid) + ", allowed: 0, " +
                    std::to_string(trust.owner) + (trust.is_joined ? " (a joined domain)" : "")};
}

Result<void> check_owner_and_mode(const struct stat& found, const LibraryTrust& trust,
                                  const std::string& what) {
  KAAS_RETURN_IF_ERROR(check_owner(found, trust, what));
  if ((found.st_mode & kOthersMayWrite) != 0) {
    return Status{StatusCode::PermissionDenied,
                  what + " has mode " + mode_text(found.st_mode) +
                      ": group or others may write it; allowed: the owner alone"};
  }
  return {};
}

Result<void> check_folders(const std::string& path, const LibraryTrust& trust) {
  std::string folder = path.substr(0, path.find_last_of('/'));
  for (bool nearest = true;; nearest = false) {
    const std::string name = folder.empty() ? "/" : folder;
    struct stat found {};
    if (::stat(name.c_str(), &found) != 0) {
      return Status{StatusCode::NotFound, "folder '" + name + "': " + std::strerror(errno)};
    }
    const std::string what = "folder '" + name + "' of " + quoted(path);
    if (trust.is_joined) KAAS_RETURN_IF_ERROR(check_owner(found, trust, what));
    if (nearest) {
      KAAS_RETURN_IF_ERROR(check_owner_and_mode(found, trust, what));
    } else if ((found.st_mode & kOthersMayWrite) != 0 && (found.st_mode & S_ISVTX) == 0) {
      // With the sticky bit nobody can exchange a folder in it that is not theirs.
      return Status{StatusCode::PermissionDenied,
                    what + " has mode " + mode_text(found.st_mode) +
                        ": group or others may replace what is in it"};
    }
    if (folder.empty()) return {};
    folder.resize(folder.find_last_of('/'));
  }
}

Result<void> check_seen(const struct stat& found, const SeenFile& seen) {
  const std::int64_t mtime_ns = found.st_mtim.tv_sec * 1'000'000'000ll + found.st_mtim.tv_nsec;
  if (static_cast<std::uint64_t>(found.st_size) == seen.file_bytes && mtime_ns == seen.mtime_ns &&
      found.st_ino == seen.inode) {
    return {};
  }
  return Status{StatusCode::Unavailable,
                quoted(seen.path) + " was replaced while it was being loaded"};
}

Result<void> copy_bytes(int from, int to, std::uint64_t bytes, const std::string& path) {
  while (bytes > 0) {
    const ssize_t moved = ::sendfile(to, from, nullptr, bytes);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) {
      return Status{StatusCode::ResourceExhausted,
                    "copying " + quoted(path) + ": " + std::strerror(errno)};
    }
    if (moved == 0) {
      return Status{StatusCode::Unavailable, quoted(path) + " became shorter while it was copied"};
    }
    bytes -= static_cast<std::uint64_t>(moved);
  }
  return {};
}

Result<Descriptor> open_checked(const SeenFile& seen, const LibraryTrust& trust) {
  if (seen.path.empty() || seen.path.front() != '/') {
    return Status{StatusCode::InvalidArgument, quoted(seen.path) + " is not an absolute path"};
  }
  // Not blocking: the path may be a FIFO.
  Descriptor file(::open(seen.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) {
    const bool absent = errno == ENOENT || errno == ENOTDIR;
    return Status{absent ? StatusCode::NotFound : StatusCode::PermissionDenied,
                  quoted(seen.path) + ": " + std::strerror(errno)};
  }
  struct stat found {};
  if (::fstat(file.get(), &found) != 0 || !S_ISREG(found.st_mode)) {
    return Status{StatusCode::InvalidArgument, quoted(seen.path) + " is not a regular file"};
  }
  KAAS_RETURN_IF_ERROR(check_owner_and_mode(found, trust, quoted(seen.path)));
  KAAS_RETURN_IF_ERROR(check_folders(seen.path, trust));
  KAAS_RETURN_IF_ERROR(check_seen(found, seen));
  if (found.st_size == 0) {
    return Status{StatusCode::InvalidArgument, quoted(seen.path) + " is empty"};
  }
  return file;
}

}  // namespace

Result<Descriptor> copy_library(const SeenFile& seen, const LibraryTrust& trust) {
  KAAS_ASSIGN_OR_RETURN(const Descriptor file, open_checked(seen, trust));
  KAAS_ASSIGN_OR_RETURN(Descriptor copy, create_segment("kaas-library", seen.file_bytes));
  KAAS_RETURN_IF_ERROR(copy_bytes(file.get(), copy.get(), seen.file_bytes, seen.path));
  // Written meanwhile? Then the copy may be half of each version.
  struct stat found {};
  if (::fstat(file.get(), &found) != 0) {
    return Status{StatusCode::Unavailable, quoted(seen.path) + ": " + std::strerror(errno)};
  }
  KAAS_RETURN_IF_ERROR(check_seen(found, seen));
  KAAS_RETURN_IF_ERROR(add_seals(copy.get(), Seals::Write | Seals::Seal));
  return copy;
}

}  // namespace kaas
