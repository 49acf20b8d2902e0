// Which run goes next: pure policy, no mechanism. The dispatcher asks; a policy never touches a
// run, an executor or a clock. placement.h says where a run goes that may go anywhere.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "daemon/flow/device.h"
#include "schema/ipc/result.h"

namespace kaas {

// What a policy knows of a run that waits. `run` is the dispatcher's number for it, never reused.
struct Candidate {
  std::uint64_t run = 0;
  int priority = 0;          // Higher first.
  std::uint32_t domain = 0;  // Trust domain: only executors of it may take the run.
  std::uint64_t session = 0;
  std::uint32_t place = kAnyPlace;  // Else only this one: what it needs is there.
  std::uint64_t working_set_bytes = 0;
};

// The places where a domain's executors have room for one more run.
struct Openings {
  std::uint32_t domain = 0;
  std::span<const std::uint32_t> places;
};

class Policy {
 public:
  virtual ~Policy() = default;

  // A run that may start now. Each run is added at most once until it is taken or removed.
  virtual void add(const Candidate& candidate) = 0;
  // The run that is to start next at one of the openings, which the policy then forgets; nullopt:
  // none of the waiting runs may go there.
  virtual std::optional<std::uint64_t> take(const Openings& openings) = 0;
  // Forgets a run. False: it was not waiting.
  virtual bool remove(std::uint64_t run) = 0;
  [[nodiscard]] virtual std::size_t waiting() const = 0;
};

// First come, first served within a priority; higher priorities first.
std::unique_ptr<Policy> make_fifo_policy();

// By the name in the config: "fifo". InvalidArgument lists the names there are.
Result<std::unique_ptr<Policy>> make_policy(const std::string& name);

}  // namespace kaas
