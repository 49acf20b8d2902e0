#include "client/src/upload.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace kaas {
inline namespace v1 {

// Writing, where a mapping would do as well: the kernel does not clear a page that a write is about
// to fill, and no page fault is taken.
Result<Descriptor> fill_segment(std::span<const std::byte> bytes) {
  constexpr std::size_t kChunkBytes = std::size_t{8} << 20;
  KAAS_ASSIGN_OR_RETURN(Descriptor descriptor, create_segment("kaas-object", bytes.size()));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const std::size_t wanted = std::min(kChunkBytes, bytes.size() - done);
    const ssize_t written =
        ::pwrite(descriptor.get(), bytes.data() + done, wanted, static_cast<off_t>(done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      return Status{StatusCode::ResourceExhausted, "filling a segment of " +
                                                       std::to_string(bytes.size()) +
                                                       " bytes: " + std::strerror(errno)};
    }
    done += static_cast<std::size_t>(written);
  }
  return descriptor;
}

Result<std::uint64_t> seal_for_donation(int descriptor) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t bytes,
                        segment_bytes_of(descriptor, "the donated descriptor"));
  if (bytes == 0) {
    return Status{StatusCode::InvalidArgument,
                  "the donated descriptor is empty; put the key instead"};
  }
  const Seals wanted = Seals::Size | Seals::Write | Seals::Seal;
  if (has_seals(seals_of(descriptor), wanted)) return bytes;
  if (auto sealed = add_seals(descriptor, wanted); !sealed.has_value()) {
    return Status{StatusCode::InvalidArgument,
                  "the donated descriptor can't be sealed: it must be a memfd that allows sealing "
                  "and that nobody maps writable (" +
                      sealed.error().message + ")"};
  }
  return bytes;
}

}  // namespace v1
}  // namespace kaas
