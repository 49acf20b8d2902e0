// Memory that kaasd has sent: mapped only where it can't hurt.
#pragma once

#include <cstdint>

#include "schema/ipc/segment.h"

namespace kaas {
inline namespace v1 {

// Maps the first `bytes` of a descriptor that kaasd sent. Fails with ProtocolViolation when it is
// shorter, empty, or not sealed against a change of size: touching what is not there would end
// this process. `what` names it in messages.
Result<Mapping> map_received(int descriptor, std::uint64_t bytes, Mapping::Mode mode,
                             const char* what);

}  // namespace v1
}  // namespace kaas
