// The original system's statistics, of one run or of the executor so far.
// Threads: values. A run's are written by the thread that executes it, then read by the main one.
#pragma once

#include <cstdint>

#include "schema/kaas_generated.h"

namespace kaas {

struct ExecutorCounters {
  std::uint64_t device_hits = 0;
  std::uint64_t device_misses = 0;
  std::uint64_t host_to_device_bytes = 0;
  std::uint64_t device_to_host_bytes = 0;
  std::uint64_t evictions = 0;
  std::uint64_t evicted_bytes = 0;
  std::uint64_t kernel_hits = 0;
  std::uint64_t kernel_misses = 0;
  std::uint64_t launches = 0;
  std::uint64_t iterations = 0;

  ExecutorCounters& operator+=(const ExecutorCounters& other) noexcept {
    device_hits += other.device_hits;
    device_misses += other.device_misses;
    host_to_device_bytes += other.host_to_device_bytes;
    device_to_host_bytes += other.device_to_host_bytes;
    evictions += other.evictions;
    evicted_bytes += other.evicted_bytes;
    kernel_hits += other.kernel_hits;
    kernel_misses += other.kernel_misses;
    launches += other.launches;
    iterations += other.iterations;
    return *this;
  }

  [[nodiscard]] wire::Counters to_wire() const noexcept {
    return {device_hits, device_misses, host_to_device_bytes, device_to_host_bytes,
            evictions,   evicted_bytes, kernel_hits,          kernel_misses,
            launches,    iterations};
  }
};

}  // namespace kaas
