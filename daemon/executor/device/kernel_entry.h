// What is known of one kernel of an opened library: its name, its signature, and how it is entered.
// Immutable. Threads: values; shared for reading.
#pragma once

#include <kaas/kernel_abi.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// One parameter of a kernel.
struct ParameterType {
  enum class Kind : std::uint8_t {
    Literal,  // A number of type `literal`.
    Raw,      // `bytes` bytes by value.
    Input,    // Address of memory that the kernel only reads.
    Output,   // Address of memory that the kernel may write.
    Untyped   // `bytes` bytes of which nothing else is known: a number, a struct or an address.
  };
  Kind kind = Kind::Literal;
  wire::LiteralType literal = wire::LiteralType::I32;
  std::uint32_t bytes = 0;
};

// Reads a signature of kernel_abi.h. InvalidArgument names the place of what is not understood.
Result<std::vector<ParameterType>> parse_signature(std::string_view signature);

// The type as users write it in requests: "f32", "raw bytes (16)", "input buffer", "output buffer".
std::string describe(const ParameterType& type);
// "i32" .. "f64", "raw".
const char* name_of(wire::LiteralType type) noexcept;
// Bytes of a number of that type; 0 for Raw and for values outside the enum.
std::uint32_t literal_bytes(wire::LiteralType type) noexcept;

// A kernel of the original form: its grid and block are one number each, it gets buffers only, and
// what it returns is not looked at (some return nothing).
using OriginalKernel = int (*)(int grid, int block, void** buffers);

struct KernelEntry {
  std::string name;
  std::vector<ParameterType> parameters;  // Empty for the original form.
  bool stateful = false;
  bool capture_pure = false;
  bool waits = false;  // As KAAS_WAITS says.
  // Shared memory that the kernel needs, whatever the request says.
  std::uint32_t shared_bytes_fixed = 0;
  std::uint32_t shared_bytes_per_thread = 0;
  // Exactly one of these six is set.
  void* module_function = nullptr;  // The device's own handle, of a kernel from a module.
  std::uintptr_t variable = 0;  // Address of a module's variable; a launch copies its buffer there.
  kaas_host_blocks host_blocks = nullptr;
  kaas_opaque_launch opaque = nullptr;
  const void* device_entry = nullptr;  // For `resolve`.
  OriginalKernel original = nullptr;
  // Beside device_entry, for `resolve`, too: see kaas_kernel_descriptor. May be null.
  const void* ending_entry = nullptr;
  int (*resolve)(const void* device_entry, void** function, char* error,
                 std::size_t error_bytes) = nullptr;
  std::uint64_t variable_bytes = 0;  // Of `variable`: what the buffer must have.
  void* context = nullptr;           // The library's, as its open hook made it.

  // Shared memory of a block of `threads` threads when the request asks for `requested`.
  [[nodiscard]] std::uint64_t shared_bytes(std::uint64_t requested,
                                           std::uint32_t threads) const noexcept {
    const std::uint64_t needed =
        shared_bytes_fixed + std::uint64_t{shared_bytes_per_thread} * threads;
    return needed > requested ? needed : requested;
  }
};

}  // namespace kaas
