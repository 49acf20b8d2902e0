#include "daemon/executor/device/compile_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "schema/ipc/handle.h"

namespace kaas {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMagic = 0x3165'6863'6161'6b6b;  // A later layout gets another one.
constexpr std::uint64_t kEntryBytesMax = 1u << 30;
constexpr std::string_view kEnding = ".cubin";

struct EntryHeader {
  std::uint64_t magic = kMagic;
  std::uint64_t key_bytes = 0;
  std::uint64_t code_bytes = 0;
  std::uint64_t checksum = 0;  // Of key and code.
};
static_assert(sizeof(EntryHeader) == 32);

// FNV-1a. Finds a file's place, and what a disk damaged; the key itself is compared in full.
std::uint64_t hash(const void* bytes, std::size_t count, std::uint64_t state) noexcept {
  const auto* at = static_cast<const unsigned char*>(bytes);
  for (std::size_t i = 0; i < count; ++i) state = (state ^ at[i]) * 0x100'0000'01b3;
  return state;
}
constexpr std::uint64_t kHashBegin = 0xcbf2'9ce4'8422'2325;

std::uint64_t checksum(std::string_view key, std::span<const std::byte> code) noexcept {
  return hash(code.data(), code.size(), hash(key.data(), key.size(), kHashBegin));
}

bool read_all(int file, void* to, std::size_t bytes) {
  for (auto* at = static_cast<char*>(to); bytes > 0;) {
    const ssize_t done = ::read(file, at, bytes);
    if (done <= 0) return false;
    at += done;
    bytes -= static_cast<std::size_t>(done);
  }
  return true;
}

bool write_all(int file, const void* from, std::size_t bytes) {
  for (const auto* at = static_cast<const char*>(from); bytes > 0;) {
    const ssize_t done = ::write(file, at, bytes);
    if (done <= 0) return false;
    at += done;
    bytes -= static_cast<std::size_t>(done);
  }
  return true;
}

bool is_own(const struct stat& status) {
  return status.st_uid == ::geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

}  // namespace

std::string CompileCache::default_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return std::string(cache) + "/kaas/cuda";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.cache/kaas/cuda";
  return "";
}

bool CompileCache::usable() const {
  if (folder_.empty()) return false;
  for (std::size_t end = folder_.find('/', 1); end != std::string::npos;
       end = folder_.find('/', end + 1)) {
    ::mkdir(folder_.substr(0, end).c_str(), 0700);
  }
  ::mkdir(folder_.c_str(), 0700);
  struct stat status {};
  return ::lstat(folder_.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && is_own(status);
}

std::string CompileCache::path_of(std::string_view key) const {
  char name[40];
  std::snprintf(name, sizeof name, "%016llx%016llx",
                static_cast<unsigned long long>(hash(key.data(), key.size(), kHashBegin)),
                static_cast<unsigned long long>(hash(key.data(), key.size(), ~kHashBegin)));
  return folder_ + "/" + name + std::string(kEnding);
}

std::optional<std::vector<std::byte>> CompileCache::find(std::string_view key) const {
  if (!usable()) return std::nullopt;
  const Descriptor file(::open(path_of(key).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || !is_own(status)) {
    return std::nullopt;
  }
  EntryHeader header;
  const auto bytes = static_cast<std::uint64_t>(status.st_size);
  if (!read_all(file.get(), &header, sizeof header) || header.magic != kMagic ||
      header.key_bytes != key.size() || header.code_bytes > kEntryBytesMax ||
      bytes != sizeof header + header.key_bytes + header.code_bytes) {
    return std::nullopt;
  }
  std::string its_key(key.size(), '\0');
  std::vector<std::byte> code(header.code_bytes);
  if (!read_all(file.get(), its_key.data(), its_key.size()) || its_key != key ||
      !read_all(file.get(), code.data(), code.size()) ||
      checksum(its_key, code) != header.checksum) {
    return std::nullopt;
  }
  return code;
}

bool CompileCache::keep(std::string_view key, std::span<const std::byte> code) const {
  if (code.size() > kEntryBytesMax || !usable()) return false;
  std::string name = folder_ + "/new-XXXXXX";
  const Descriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (!file) return false;
  EntryHeader header;
  header.key_bytes = key.size();
  header.code_bytes = code.size();
  header.checksum = checksum(key, code);
  const bool written = write_all(file.get(), &header, sizeof header) &&
                       write_all(file.get(), key.data(), key.size()) &&
                       write_all(file.get(), code.data(), code.size()) &&
                       ::rename(name.c_str(), path_of(key).c_str()) == 0;
  if (!written) ::unlink(name.c_str());
  if (written) make_room();
  return written;
}

void CompileCache::make_room() const {
  struct Entry {
    fs::file_time_type written;
    std::uint64_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  std::error_code error;
  // Whatever error there is: another process may be tidying up, too.
  for (fs::directory_iterator at(folder_, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    Entry entry{at->last_write_time(gone), at->file_size(gone), at->path()};
    if (gone) continue;
    total += entry.bytes;
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.written < b.written; });
  for (const Entry& entry : entries) {
    if (total <= bytes_max_) return;
    if (fs::remove(entry.path, error)) total -= entry.bytes;
  }
}

}  // namespace kaas
