// What the kernel "attack" of the library "hostile" can try.
#pragma once

#include <cstdint>

enum class Attack : std::uint32_t {
  None,  // Signals to oneself: they must work.
  Kill,
  KillGroup,
  ThreadKill,
  PidfdSignal,
  Owner,  // Signals by way of a descriptor.
  Trace,
  ReadMemory,      // By process_vm_readv, of its own process.
  TakeDescriptor,  // By pidfd_getfd, of its own process.
  OpenMemory,      // /proc/PID/mem
  Limit,
};
