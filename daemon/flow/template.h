// A compiled request: what the plan stage makes of a RequestSpec, its parameters and the places of
// its buffers. Immutable; shared by all runs of it. Says what an executor has to do in terms of
// *allocations* (device memory of one run), *loads* (bytes brought in before the first kernel) and
// *stores* (bytes taken out after the last).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/flow/request.h"

namespace kaas {

// A buffer's place in device memory. Buffers that are the same bytes of one object, where at least
// one is written, share an allocation; all others have one each.
struct TemplateBuffer {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t object_offset = 0;
  Place place;  // Template's binding; its inline data included.
  std::uint16_t allocation = 0;
  std::uint64_t allocation_offset = 0;
  bool used = false;     // By any argument or `until`; else it has no allocation.
  bool reads = false;    // Its bytes are fetched before the first kernel.
  bool writes = false;   // Its bytes are an output of the request.
  bool written = false;  // Some kernel writes it (o, io or t), output or not.
  // Its bytes are those of `place`: fetched from there, stored there, or the same memory as another
  // buffer's. False: a temporary of the run, whose place means nothing.
  bool object = false;
  bool shared = false;  // Its allocation holds other buffers too.
  bool constant = false;
  bool zero_fill = false;
  bool resident = false;
};

struct TemplateArgument {
  std::uint16_t buffer = 0;
  wire::Access access = wire::Access::In;
};

struct TemplateKernel {
  std::string library;
  std::string kernel;
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::array<std::uint32_t, 3> block{1, 1, 1};
  std::uint32_t shared_bytes = 0;
  std::optional<std::array<std::uint32_t, 3>> cluster;
  bool cooperative = false;
  bool programmatic = false;
  std::vector<LiteralSpec> literals;  // Expressions evaluated into `bits`.
  std::vector<TemplateArgument> arguments;
  std::vector<std::uint16_t> order;  // As in KernelSpec: may leave out arguments in slots.
  // Kernels of the same iteration that must have ended: no byte that one writes is touched by the
  // other, unless it is listed here (directly or through others).
  std::vector<std::uint16_t> after;
};

// Loads and stores each name a buffer; a run gives the place of each, in this order. Stores are in
// declared order: kernel order, then argument order.
struct PlanTemplate {
  std::vector<TemplateBuffer> buffers;
  std::vector<TemplateKernel> kernels;
  std::vector<std::uint64_t> allocations;  // Bytes of each.
  std::vector<std::uint16_t> loads;        // Buffer indices.
  std::vector<std::uint16_t> stores;       // Buffer indices.
  std::uint64_t n_iter = 1;
  std::optional<std::uint16_t> until;   // Buffer index.
  std::uint64_t working_set_bytes = 0;  // Sum of allocations.
  // No output overlaps a load in place (segment or IPC), so a second execution gives the same.
  bool idempotent = true;
  // Some buffers share an allocation: a rename may make or end that, so it compiles anew.
  bool has_shared_allocations = false;
};

// A request in both forms; a run whose renames change which buffers share memory needs the first.
struct CompiledRequest {
  std::shared_ptr<const RequestSpec> request;
  std::shared_ptr<const PlanTemplate> plan;
};

}  // namespace kaas
