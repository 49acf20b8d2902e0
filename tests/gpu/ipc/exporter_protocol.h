// What a test and its exporter say to each other: one command, one reply, over a SOCK_SEQPACKET
// pair.
// The exporter is a process of its own because nobody can open what it has exported itself, and
// because it is to be killed.
// Threads: values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kaas {

enum class Memory : std::uint32_t { Malloc, CuMem, Pool };

struct ExporterCommand {
  enum class What : std::uint32_t {
    Allocate,  // `memory` of `bytes` on GPU `device`, all words `value`; exported from `offset` on.
    Check,     // Whether all words of [offset, offset + bytes) of `allocation` are `value`.
    Fill,      // The same, written.
    Free,
    Spin,  // Starts a kernel that never ends and writes into `allocation`.
  };
  What what = What::Allocate;
  Memory memory = Memory::Malloc;
  std::int32_t device = 0;
  std::uint32_t value = 0;
  std::uint64_t allocation = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
};

// A descriptor comes with it if the memory has one.
struct ExporterReply {
  std::uint32_t done = 0;  // 0: `error` says why not.
  std::uint32_t kind = 0;  // DeviceAllocation::Kind.
  std::uint64_t allocation = 0;
  std::uint64_t bytes = 0;  // Of the whole allocation.
  std::uint64_t offset = 0;
  std::uint64_t handle_bytes = 0;
  std::byte handle[64] = {};
  std::byte gpu[16] = {};
  char error[512] = {};
};

}  // namespace kaas
