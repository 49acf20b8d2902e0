// From the library name in a request to one version of one file.
// Looks at the file system on every call (a few stats); whoever calls often keeps the result and
// compares. Threads: any.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

enum class DeviceKind : std::uint8_t { Host, Cuda };

// One version of a file: equal as long as the file is the same and unchanged.
struct ResolvedLibrary {
  std::string path;  // Absolute, symbolic links resolved.
  std::uint64_t bytes = 0;
  std::int64_t mtime_ns = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;

  bool operator==(const ResolvedLibrary&) const = default;
};

struct LibraryRules {
  DeviceKind device = DeviceKind::Host;
  std::vector<std::string> search_path;  // Absolute folders, first hit counts.
  // Whose files may be loaded; empty: anybody's. uid 0 and this process's own uid always may.
  std::vector<uid_t> owners;
  // Uids that share a trust domain with others: for them the operator's files only, which are those
  // of uid 0 and of this process's own.
  std::vector<uid_t> joined;
  bool operators_only = false;  // This is for one of them.
};

// A name without '/' is looked for in each folder as NAME.so, on a CUDA device as NAME.cuda.so,
// then with any of the endings that CUDA loads (.cubin, .fatbin, .ptx, .cu). A name that already
// ends so is taken as it is. An absolute path is the file itself; on a CUDA device X.cuda.so is
// preferred to X.so beside it. Anything else with a '/' is refused.
// Fails: InvalidArgument: the name's form. NotFound: lists where it looked. PermissionDenied: not a
//        regular readable file, of another owner, or it or a folder above it can be written by
//        everybody (a sticky folder such as /tmp may, if its entry's owner is trusted). With
//        operators_only the same of the group, and of folders of another owner.
Result<ResolvedLibrary> resolve_library(std::string_view name, const LibraryRules& rules);

}  // namespace kaas
