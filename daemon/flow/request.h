// A request as the user wrote it, in private memory: what intake makes of the wire bytes.
// Plain values; may still contain expressions over the function's integer parameters.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "schema/kaas_generated.h"

namespace kaas {

// A number, or an expression that replaces it when not empty.
struct Integer {
  std::uint64_t value = 0;
  std::string expression;
};

struct RawSlot {
  std::uint32_t offset = 0;  // In the raw literal.
  std::uint16_t buffer = 0;  // Whose device address goes there; an argument of the same kernel.
};

struct LiteralSpec {
  wire::LiteralType type = wire::LiteralType::I32;
  std::uint64_t bits = 0;
  std::string expression;  // Integer types only.
  std::vector<std::byte> raw;
  std::vector<RawSlot> slots;
};

struct ArgumentSpec {
  std::uint16_t buffer = 0;
  wire::Access access = wire::Access::In;
};

struct KernelSpec {
  std::string library;  // As the user wrote it: a name on the search path or an absolute path.
  std::string kernel;
  std::array<Integer, 3> grid;
  std::array<Integer, 3> block;
  std::uint32_t shared_bytes = 0;
  std::optional<std::array<std::uint32_t, 3>> cluster;
  bool cooperative = false;
  bool programmatic = false;  // Waits itself for the kernels that it comes behind.
  std::vector<LiteralSpec> literals;
  std::vector<ArgumentSpec> arguments;
  // Empty: literals, then arguments. Else every literal and argument once; an argument whose buffer
  // an address slot of this kernel names may be left out (it is reached through the slot alone).
  std::vector<std::uint16_t> order;
};

// Where a buffer's bytes are. Two places with the same object (key, segment or IPC handle) and
// overlapping ranges are the same memory; inline bytes are never those of another buffer.
struct Place {
  wire::Where where = wire::Where::Store;
  // Store: the object. Segment and Ipc: empty, or the key that the output is stored under as well.
  std::string key;
  std::uint32_t segment = 0;  // Segment.
  // Segment: the bytes of it that the client means, [part_offset, part_end); by default all.
  std::uint64_t part_offset = 0;
  std::uint64_t part_end = std::numeric_limits<std::uint64_t>::max();
  std::vector<std::byte> data;        // Inline input.
  std::vector<std::byte> ipc_handle;  // Ipc: 64 bytes, of an allocation.
  std::uint64_t ipc_base_offset = 0;  // Ipc: where in the allocation offset 0 lies.
  std::uint64_t ipc_base_bytes = 0;   // Ipc: of the allocation; 0: not told.
};

struct BufferSpec {
  std::string name;
  Integer bytes;
  Integer offset;  // In the object or segment.
  Place place;
  bool ephemeral = false;
  bool constant = false;
  bool zero_fill = false;
  bool resident = false;
};

struct RequestSpec {
  std::vector<KernelSpec> kernels;
  std::vector<BufferSpec> buffers;
  Integer n_iter{1, {}};
  std::optional<std::uint16_t> until;  // Index of a u32 buffer.
  std::vector<std::string> parameters;
};

struct RunOptions {
  int priority = 0;
  std::uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none.
  std::uint64_t tag = 0;
  bool profile = false;
  std::string tenant;
  std::vector<std::uint32_t> wait_events;  // Segments of the session that are events.
  std::vector<std::uint32_t> record_events;
};

// One rename of a run: what replaces a buffer's place. An absent offset keeps the template's; so
// does an empty key where the template's place is in the store too.
struct BindingSpec {
  std::uint16_t buffer = 0;
  std::string name;  // Replaces `buffer` when not empty.
  Place place;
  std::optional<std::uint64_t> offset;
};

struct LiteralOverrideSpec {
  std::uint16_t kernel = 0;
  std::uint16_t literal = 0;
  std::uint64_t bits = 0;
  std::vector<std::byte> raw;
  std::optional<wire::LiteralType> type = std::nullopt;  // Nothing: the client did not tell it.
};

struct ParameterValue {
  std::string name;
  std::int64_t value = 0;
};

// Which bytes of an object are exported, and from which device.
struct ExportSpec {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // 0: the rest of the object. offset + bytes does not overflow.
  std::string device;       // Empty: kaasd chooses.
};

}  // namespace kaas
