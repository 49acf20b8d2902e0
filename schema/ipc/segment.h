// Shared memory: anonymous memfds, sealed, passed by descriptor, mapped through
// Boost.Interprocess. PROTOCOL.md has the table of segments, their rights, seals and lives.
// Threads: values with one owner; a Mapping may be read from several threads.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

// A mapped range of a descriptor. Owns the mapping, not the descriptor. Move-only.
class Mapping {
 public:
  enum class Mode { ReadOnly, ReadWrite };

  Mapping() noexcept = default;
  // Maps all `bytes` from the start. Fails with ResourceExhausted when the address space or the
  // descriptor refuses; `what` names the segment in the message.
  static Result<Mapping> create(int descriptor, std::uint64_t bytes, Mode mode, const char* what);

  [[nodiscard]] std::byte* data() const noexcept {
    return static_cast<std::byte*>(region_.get_address());
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return region_.get_size(); }

 private:
  boost::interprocess::mapped_region region_;
};

// Seals of a memfd, in the words of fcntl(2).
enum class Seals : unsigned {
  None = 0,
  Size = 1,         // SHRINK | GROW
  FutureWrite = 2,  // FUTURE_WRITE: nobody maps it writable from now on.
  Write = 4,        // WRITE: nobody writes it any more; fails while someone maps it writable.
  Seal = 8,         // SEAL: nobody adds a seal.
};
constexpr Seals operator|(Seals a, Seals b) noexcept {
  return static_cast<Seals>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool has_seals(Seals have, Seals want) noexcept {
  return (static_cast<unsigned>(have) & static_cast<unsigned>(want)) == static_cast<unsigned>(want);
}

// A new memfd of `bytes` > 0, zero-filled, sealed against any change of size. `name` shows in
// /proc/*/maps. Fails with ResourceExhausted. Pages are allocated at first touch: the caller has
// asked its byte budget before.
Result<Descriptor> create_segment(const char* name, std::uint64_t bytes);

Result<void> add_seals(int descriptor, Seals seals);

// The seals of an imported descriptor; None for what is not a memfd.
Seals seals_of(int descriptor) noexcept;

// Size in bytes of a regular file or memfd. Fails with InvalidArgument for anything else.
Result<std::uint64_t> segment_bytes_of(int descriptor, const char* what);

// The same file opened O_RDONLY: the only way, before Linux 6.7, that a receiver can map a
// write-sealed memfd; and a receiver of it can't write.
Result<Descriptor> reopen_read_only(int descriptor);

// Another descriptor of the same open file.
Result<Descriptor> duplicate(int descriptor);

}  // namespace kaas
