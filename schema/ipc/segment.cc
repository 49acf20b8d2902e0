#include "schema/ipc/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace kaas {
namespace {

// What mapped_region needs to know of a descriptor.
class MappableDescriptor {
 public:
  explicit MappableDescriptor(int descriptor) : descriptor_(descriptor) {}
  [[nodiscard]] boost::interprocess::mapping_handle_t get_mapping_handle() const {
    return {descriptor_, false};
  }

 private:
  int descriptor_;
};

Status errno_status(StatusCode code, const std::string& what) {
  const int cause = errno;
  std::string message = what + ": " + std::strerror(cause);
  rlimit descriptors{};
  if (cause == EMFILE && ::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    message += ", limit " + std::to_string(descriptors.rlim_cur) + " (RLIMIT_NOFILE)";
  }
  return Status{code, std::move(message)};
}

}  // namespace

Result<Mapping> Mapping::create(int descriptor, std::uint64_t bytes, Mode mode, const char* what) {
  namespace ipc = boost::interprocess;
  try {
    Mapping mapping;
    mapping.region_ =
        ipc::mapped_region(MappableDescriptor(descriptor),
                           mode == Mode::ReadWrite ? ipc::read_write : ipc::read_only, 0, bytes);
    return mapping;
  } catch (const ipc::interprocess_exception& failure) {
    return Status{StatusCode::ResourceExhausted, std::string("cannot map ") + what + " of " +
                                                     std::to_string(bytes) +
                                                     " bytes: " + failure.what()};
  }
}

Result<Descriptor> create_segment(const char* name, std::uint64_t bytes) {
  Descriptor descriptor(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!descriptor) return errno_status(StatusCode::ResourceExhausted, "memfd_create");
  if (::ftruncate(descriptor.get(), static_cast<off_t>(bytes)) != 0) {
    return errno_status(StatusCode::ResourceExhausted,
                        "segment of " + std::to_string(bytes) + " bytes");
  }
  KAAS_RETURN_IF_ERROR(add_seals(descriptor.get(), Seals::Size));
  return descriptor;
}

Result<void> add_seals(int descriptor, Seals seals) {
  int bits = 0;
  if (has_seals(seals, Seals::Size)) bits |= F_SEAL_SHRINK | F_SEAL_GROW;
  if (has_seals(seals, Seals::FutureWrite)) bits |= F_SEAL_FUTURE_WRITE;
  if (has_seals(seals, Seals::Write)) bits |= F_SEAL_WRITE;
  if (has_seals(seals, Seals::Seal)) bits |= F_SEAL_SEAL;
  if (::fcntl(descriptor, F_ADD_SEALS, bits) == 0) return {};
  return errno_status(StatusCode::ResourceExhausted, "sealing a segment");
}

Seals seals_of(int descriptor) noexcept {
  const int bits = ::fcntl(descriptor, F_GET_SEALS);
  if (bits < 0) return Seals::None;
  Seals seals = Seals::None;
  const auto has = [bits](int wanted) { return (bits & wanted) == wanted; };
  if (has(F_SEAL_SHRINK | F_SEAL_GROW)) seals = seals | Seals::Size;
  if (has(F_SEAL_FUTURE_WRITE)) seals = seals | Seals::FutureWrite;
  if (has(F_SEAL_WRITE)) seals = seals | Seals::Write;
  if (has(F_SEAL_SEAL)) seals = seals | Seals::Seal;
  return seals;
}

Result<std::uint64_t> segment_bytes_of(int descriptor, const char* what) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    return errno_status(StatusCode::InvalidArgument, std::string(what) + ": fstat");
  }
  if (!S_ISREG(status.st_mode)) {
    return Status{StatusCode::InvalidArgument,
                  std::string(what) + " is not shared memory (a memfd or a shm_open object)"};
  }
  return static_cast<std::uint64_t>(status.st_size);
}

Result<Descriptor> reopen_read_only(int descriptor) {
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  Descriptor read_only(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!read_only) return errno_status(StatusCode::ResourceExhausted, "reopening a segment");
  return read_only;
}

Result<Descriptor> duplicate(int descriptor) {
  Descriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (!copy) return errno_status(StatusCode::ResourceExhausted, "duplicating a descriptor");
  return copy;
}

}  // namespace kaas
