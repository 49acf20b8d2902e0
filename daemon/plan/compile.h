// The plan stage: a request, its parameters and the places of its buffers to a template.
// Pure functions over values; no store, library or device is asked. Threads: any.
#pragma once

#include <span>

#include "daemon/flow/request.h"
#include "daemon/flow/template.h"
#include "schema/ipc/result.h"

namespace kaas {

// Evaluates the expressions, checks every limit on their results, and derives allocations, loads,
// stores and dependencies.
//
// What the access types mean, over the kernels in order and byte by byte:
// - A byte that is read (i, io, `until`) before any kernel wrote it (o, io, t) is loaded, unless
//   the same memory was written through another buffer before. A buffer is loaded whole, or not at
//   all.
// - A buffer is an output if some kernel has it as o or io and it is not ephemeral, else a
//   temporary.
// - `t` leaves scratch bytes: never loaded, seen by later kernels. A buffer that is t, then i, then
//   o is not loaded; i sees what t left, and o is the output.
// - An ephemeral buffer whose first use is o or t, and any buffer that is only ever t, has no
//   object: it is nobody else's memory whatever its place says.
//
// `bindings` replace places as in a run (names or indices); then they are the template's own.
// Fails: InvalidArgument: a parameter is missing, unknown or given twice; an expression fails or
//        its result is beyond the field's limit; two outputs overlap in one key; a binding is
//        wrong.
//        ResourceExhausted: inline outputs exceed kInlineOutputBytesMax together.
Result<PlanTemplate> compile(const RequestSpec& request,
                             std::span<const ParameterValue> parameters = {},
                             std::span<const BindingSpec> bindings = {});

// Whether every expression of a request parses and names known parameters: what can be said of a
// function when it is deployed. Fails: InvalidArgument.
Result<void> check_expressions(const RequestSpec& request);

// Checks the bindings of one run against a template and completes them in place: afterwards each
// has its buffer's index, its whole place and its offset. To be called for runs without bindings
// too.
// Fails: InvalidArgument: no such buffer (with the nearest names), bound twice, offset + size
//        overflows, inline data of a wrong size, or an inline input that nobody gave data for.
//        ResourceExhausted: inline outputs exceed kInlineOutputBytesMax together.
Result<void> resolve_bindings(const PlanTemplate& plan, std::span<BindingSpec> bindings);

// Whether resolved bindings make or end shared memory between buffers of which one is written; the
// request must then be compiled anew with them. Cheap; may say true where false would do. False
// means that all of the template still holds but `idempotent`, which is about its own places.
[[nodiscard]] bool renames_need_recompile(const PlanTemplate& plan,
                                          std::span<const BindingSpec> resolved);

// Whether each override names a literal of the template and fits it: raw bytes replace raw bytes of
// the same size, and a type that is told is the literal's. Fails: InvalidArgument.
Result<void> check_overrides(const PlanTemplate& plan,
                             std::span<const LiteralOverrideSpec> overrides);

}  // namespace kaas
