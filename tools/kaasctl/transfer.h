// Files to objects and back. "-" is a standard stream.
// Threads: one.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <string>

#include "schema/ipc/handle.h"
#include "tools/kaasctl/console.h"

namespace kaas {

// Stores the bytes of `path` under `key`. A large one is copied once, into memory that is then the
// daemon's. One that the daemon has no room for is refused: a file before it is copied, a stream
// when it has given more.
// Fails: InvalidArgument: the file can't be read. Cancelled: interrupted(). What Client::put and
// donate fail with.
Result<ObjectInfo> put_file(Client& client, const std::string& key, const std::string& path,
                            const Console& console);

// Writes the object's bytes to `path`: over the file's old contents, or to a new file. Writes to
// standard output are Console's business: an unread pipe ends them without an error.
// Fails: InvalidArgument: the file can't be written. Cancelled: interrupted() while nobody takes
//        what is written. A file that was begun is then incomplete.
Result<void> write_object(const Object& object, const std::string& path, Console& console);

// How messages name a file: "-" is "standard input".
std::string name_of_source(const std::string& path);

// The whole text of a file or of standard input, at most `most` bytes.
// Fails: InvalidArgument, ResourceExhausted.
Result<std::string> read_text(const std::string& path, std::size_t most);

}  // namespace kaas
