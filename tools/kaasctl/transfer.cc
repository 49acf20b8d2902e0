#include "tools/kaasctl/transfer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "schema/limits.h"
#include "tools/kaasctl/interruption.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"

namespace kaas {
namespace {

constexpr std::size_t kChunkBytes = 4u << 20;
// Smaller ones are not worth a question before they are sent.
constexpr std::uint64_t kAskFirstBytes = 1u << 20;
constexpr const char* kAtLeast = "at least ";

Status file_error(const std::string& path, const char* what) {
  const int error = errno;
  return {StatusCode::InvalidArgument,
          std::string(what) + " '" + path + "': " + std::strerror(error)};
}

Status interruption() {
  return {StatusCode::Cancelled, "interrupted"};
}

// A file that is read: its own descriptor, or standard input.
struct Source {
  Descriptor owned;
  int descriptor = STDIN_FILENO;
  std::optional<std::uint64_t> bytes;  // Of a regular file.
};

Result<Source> open_source(const std::string& path) {
  Source source;
  if (path != "-") {
    source.owned = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!source.owned) return file_error(path, "can't read");
    source.descriptor = source.owned.get();
  }
  struct stat info {};
  if (::fstat(source.descriptor, &info) != 0) return file_error(path, "can't read");
  if (S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    return file_error(path, "can't read");
  }
  if (S_ISREG(info.st_mode)) source.bytes = static_cast<std::uint64_t>(info.st_size);
  return source;
}

// Whether the daemon has room for what is copied. Its own refusal would come after the copy, and
// the copy is what may be too much for this machine.
class Room {
 public:
  Room(Client& client, const std::string& path) : client_(client), path_(path) {}

  // `how_many` is what the message says before the number: "" for a file, whose size is known. The
  // daemon is asked only if `bytes` are more than it has said there is room for.
  Result<void> check(std::uint64_t bytes, const char* how_many) {
    if (bytes <= known_) return {};
    KAAS_ASSIGN_OR_RETURN(const std::string answer, client_.status_json());
    KAAS_ASSIGN_OR_RETURN(const Json status, parse_answer(answer));
    const Json& memory = object_at(status, "memory");
    const std::uint64_t used = natural_at(memory, "used_bytes");
    const std::uint64_t limit = natural_at(memory, "limit_bytes");
    if (limit == 0) return {};
    known_ = limit > used ? limit - used : 0;
    if (bytes <= known_) return {};
    return Status{StatusCode::ResourceExhausted,
                  "'" + name_of_source(path_) + "' has " + how_many + std::to_string(bytes) +
                      " bytes, the daemon has room for " + std::to_string(known_) + " of its " +
                      std::to_string(limit)};
  }

 private:
  Client& client_;
  const std::string& path_;
  std::uint64_t known_ = kAskFirstBytes;
};

Result<std::uint64_t> copy_by_buffer(const Source& source, int to, const std::string& path,
                                     std::uint64_t done, Room& room, Progress& progress) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kChunkBytes);
  for (;;) {
    if (!wait_for_input(source.descriptor)) return interruption();
    const ssize_t got = ::read(source.descriptor, buffer.get(), kChunkBytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error(path, "can't read");
    if (got == 0) return done;
    KAAS_RETURN_IF_ERROR(room.check(done + static_cast<std::uint64_t>(got), kAtLeast));
    for (ssize_t written = 0; written < got;) {
      const ssize_t count =
          ::write(to, buffer.get() + written, static_cast<std::size_t>(got - written));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return file_error(path, "no memory for a copy of");
      written += count;
    }
    done += static_cast<std::uint64_t>(got);
    progress.update(done);
  }
}

// Copies the whole source into `to`, inside the kernel where it can. Returns the bytes. A stream
// has no end that is known, and a file may grow.
Result<std::uint64_t> copy_into(const Source& source, int to, const std::string& path, Room& room,
                                Progress& progress) {
  std::uint64_t done = 0;
  while (source.bytes) {
    if (interrupted()) return interruption();
    const ssize_t moved = ::sendfile(to, source.descriptor, nullptr, kChunkBytes);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0 && (errno == EINVAL || errno == ENOSYS)) break;
    if (moved < 0) return file_error(path, "can't copy");
    if (moved == 0) return done;
    done += static_cast<std::uint64_t>(moved);
    KAAS_RETURN_IF_ERROR(room.check(done, kAtLeast));
    progress.update(done);
  }
  return copy_by_buffer(source, to, path, done, room, progress);
}

}  // namespace

Result<ObjectInfo> put_file(Client& client, const std::string& key, const std::string& path,
                            const Console& console) {
  KAAS_ASSIGN_OR_RETURN(const Source source, open_source(path));
  Room room(client, path);
  KAAS_RETURN_IF_ERROR(room.check(source.bytes.value_or(0), ""));
  const Descriptor memfd(::memfd_create("kaasctl", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) return file_error(path, "no memory for a copy of");
  std::uint64_t bytes = 0;
  {
    Progress progress(console, "put " + key, source.bytes.value_or(0));
    KAAS_ASSIGN_OR_RETURN(bytes, copy_into(source, memfd.get(), path, room, progress));
  }
  if (bytes > kSlabObjectBytesMax) return client.donate(key, memfd.get());
  std::vector<std::byte> small(bytes);
  for (std::size_t done = 0; done < small.size();) {
    const ssize_t got =
        ::pread(memfd.get(), small.data() + done, small.size() - done, static_cast<off_t>(done));
    if (got <= 0) return file_error(path, "can't copy");
    done += static_cast<std::size_t>(got);
  }
  return client.put(key, small);
}

Result<void> write_object(const Object& object, const std::string& path, Console& console) {
  const auto bytes = object.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Progress progress(console, "get", bytes.size());
  if (path == "-") {
    for (std::size_t done = 0; done < text.size();) {
      const std::string_view chunk = text.substr(done, kChunkBytes);
      if (!console.print(chunk)) return {};
      done += chunk.size();
      progress.update(done);
    }
    return {};
  }
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file) return file_error(path, "can't write");
  for (std::size_t done = 0; done < text.size();) {
    const std::string_view chunk = text.substr(done, kChunkBytes);
    const ssize_t count = ::write(file.get(), chunk.data(), chunk.size());
    if (count < 0 && errno == EINTR && interrupted()) return interruption();
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_error(path, "can't write");
    done += static_cast<std::size_t>(count);
    progress.update(done);
  }
  return {};
}

std::string name_of_source(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

Result<std::string> read_text(const std::string& path, std::size_t most) {
  KAAS_ASSIGN_OR_RETURN(const Source source, open_source(path));
  std::string text;
  std::vector<char> buffer(64u << 10);
  for (;;) {
    const ssize_t got = ::read(source.descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error(path, "can't read");
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > most) {
      return Status{StatusCode::ResourceExhausted,
                    "'" + path + "' has more than " + std::to_string(most) + " bytes"};
    }
  }
}

}  // namespace kaas
