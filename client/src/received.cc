#include "client/src/received.h"

namespace kaas {
inline namespace v1 {

Result<Mapping> map_received(int descriptor, std::uint64_t bytes, Mapping::Mode mode,
                             const char* what) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t actual, segment_bytes_of(descriptor, what));
  if (bytes == 0 || actual < bytes) {
    return Status{StatusCode::ProtocolViolation,
                  std::string("kaasd sent ") + what + " of " + std::to_string(bytes) +
                      " bytes in a segment of " + std::to_string(actual)};
  }
  if (!has_seals(seals_of(descriptor), Seals::Size)) {
    return Status{StatusCode::ProtocolViolation,
                  std::string("kaasd sent ") + what + " that could change its size"};
  }
  return Mapping::create(descriptor, bytes, mode, what);
}

}  // namespace v1
}  // namespace kaas
