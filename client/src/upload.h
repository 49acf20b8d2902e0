// Getting bytes into memory that kaasd takes over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schema/ipc/segment.h"

namespace kaas {
inline namespace v1 {

// A fresh memfd with a copy of `bytes` (not empty). Fails with ResourceExhausted.
Result<Descriptor> fill_segment(std::span<const std::byte> bytes);

// Seals a memfd so that nobody can change it any more; returns its size. InvalidArgument: not a
// memfd that can be sealed, empty, or still mapped writable.
Result<std::uint64_t> seal_for_donation(int descriptor);

}  // namespace v1
}  // namespace kaas
