// What must hold of every request that is not refused. Faults abort.
// Threads: any.
#pragma once

#include <cstddef>
#include <set>
#include <span>
#include <vector>

#include "daemon/intake/decode.h"
#include "daemon/plan/compile.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"
#include "tests/support/encode_request.h"

namespace kaas {

// A template refers only to what it has, and its numbers are within their limits.
inline void check_template(const PlanTemplate& plan) {
  std::uint64_t sum = 0;
  for (const std::uint64_t bytes : plan.allocations) sum += bytes;
  KAAS_CHECK(sum == plan.working_set_bytes);
  for (const TemplateBuffer& buffer : plan.buffers) {
    KAAS_CHECK(buffer.used || (!buffer.reads && !buffer.writes));
    if (!buffer.used) continue;
    KAAS_CHECK(buffer.allocation < plan.allocations.size());
    KAAS_CHECK(
        range_fits(buffer.allocation_offset, buffer.bytes, plan.allocations[buffer.allocation]));
  }
  for (const auto* list : {&plan.loads, &plan.stores}) {
    const std::set<std::uint16_t> distinct(list->begin(), list->end());
    KAAS_CHECK(distinct.size() == list->size());
    KAAS_CHECK(distinct.empty() || *distinct.rbegin() < plan.buffers.size());
  }
  for (std::size_t k = 0; k < plan.kernels.size(); ++k) {
    const TemplateKernel& kernel = plan.kernels[k];
    KAAS_CHECK(kernel.after.empty() || kernel.after.back() < k);
    KAAS_CHECK(std::is_sorted(kernel.after.begin(), kernel.after.end()));
    for (unsigned axis = 0; axis < 3; ++axis) KAAS_CHECK(kernel.grid[axis] > 0);
    KAAS_CHECK(std::uint64_t{kernel.block[0]} * kernel.block[1] * kernel.block[2] <=
               kBlockThreadsMax);
    for (const LiteralSpec& literal : kernel.literals) KAAS_CHECK(literal.expression.empty());
  }
  KAAS_CHECK(plan.n_iter > 0 && plan.n_iter <= kIterationsMax);
}

// Decodes and compiles; what decodes is the same after a round trip.
inline void decode_and_compile(std::span<const std::byte> bytes) {
  auto request = decode_request(bytes);
  if (!request.has_value()) return;
  const auto encoded = encode_request(*request);
  if (encoded.size() <= kMessageBytesMax) {  // Shared strings are written out.
    auto again = decode_request(encoded);
    KAAS_CHECK(again.has_value());
    KAAS_CHECK(encode_request(*again) == encoded);
  }
  std::vector<ParameterValue> parameters;
  for (const std::string& name : request->parameters) {
    parameters.push_back({name, static_cast<std::int64_t>(parameters.size() * 37 + 16)});
  }
  auto plan = compile(*request, parameters);
  // Whatever compiles has expressions that parse.
  KAAS_CHECK(check_expressions(*request).has_value() || !plan.has_value());
  if (!plan.has_value()) return;
  check_template(*plan);
  static_cast<void>(resolve_bindings(*plan, {}).has_value());
}

}  // namespace kaas
