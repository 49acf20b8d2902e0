// From a path to private bytes of a library: who may have written the file, whether it is the one
// that kaasd saw, and a sealed copy of it.
// Threads: any; blocks on the disk.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

// A file as kaasd saw it when it resolved the name.
struct SeenFile {
  std::string path;  // Absolute.
  std::uint64_t file_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::uint64_t inode = 0;
};

// Whose files are loaded.
struct LibraryTrust {
  uid_t owner = 0;         // Besides root.
  bool is_joined = false;  // Users share this executor: nobody else may have a hand in the file.
};

// Copies the file into a sealed memfd, which nobody can change any more. The name on disk may be
// given to another file at once: the copy stays what it is.
// The file and its folder must belong to root or the trusted owner, and group and others must not
// be able to write either; of the folders above, those that group or others may write must have the
// sticky bit, and in a joined domain all must belong to those two.
// Fails: NotFound (no such file), InvalidArgument (not a regular file, not a library),
//        PermissionDenied (rights), Unavailable (not the file that kaasd saw: look again),
//        ResourceExhausted (no memory for the copy).
Result<Descriptor> copy_library(const SeenFile& seen, const LibraryTrust& trust);

}  // namespace kaas
