// The parts of binding that compile() shares with runs. Internal to plan. Threads: pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "daemon/flow/request.h"
#include "daemon/flow/template.h"
#include "schema/ipc/result.h"

namespace kaas {

// Whether a buffer of this size can be there: inline limits, data not longer, end below 2^64.
// Fails: InvalidArgument.
Result<void> check_place(const TemplateBuffer& buffer, const Place& place, std::uint64_t offset);

// resolve_bindings but for what needs to know how buffers are used. Of the template only the
// buffers' names, sizes and places are looked at.
Result<void> resolve_places(const PlanTemplate& plan, std::span<BindingSpec> bindings);

// Fails: ResourceExhausted: inline outputs exceed kInlineOutputBytesMax together.
Result<void> check_inline_outputs(const PlanTemplate& plan, std::span<const BindingSpec> resolved);

}  // namespace kaas
