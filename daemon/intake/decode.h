// Wire bytes to request values. Everything is checked here that needs no store, library or device:
// every limit of schema/limits.h, every index, every name. What depends on expressions is checked
// by the plan stage once they have values.
// Trust:   callers pass private memory; these functions verify it and check its meaning. Nothing in
//          the results refers to the bytes, unless a type says so.
// Threads: pure functions; any.
// Fails:   ProtocolViolation: not a FlatBuffer of that root; the sender breaks the protocol.
//          InvalidArgument: a field is wrong; the message names it, what was found and what is
//          allowed, e.g. "kernel 3 ('saxpy') argument 2 names buffer 17, request has 5 buffers".
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/flow/request.h"
#include "schema/ipc/result.h"

namespace kaas {

// `bytes`: a finished FlatBuffer with root Request, of any alignment.
Result<RequestSpec> decode_request(std::span<const std::byte> bytes);

// The rest take parts of a verified message. Absent (null) means defaults, or none.
Result<RunOptions> decode_options(const wire::RunOptions* options);
Result<std::vector<BindingSpec>> decode_bindings(
    const flatbuffers::Vector<flatbuffers::Offset<wire::Binding>>* bindings);
Result<std::vector<LiteralOverrideSpec>> decode_literal_overrides(
    const flatbuffers::Vector<flatbuffers::Offset<wire::LiteralOverride>>* overrides);
Result<std::vector<ParameterValue>> decode_parameters(
    const flatbuffers::Vector<flatbuffers::Offset<wire::NamedInteger>>* parameters);

// A name of the given field: not empty, at most bytes_max, printable UTF-8.
Result<std::string> decode_name(const flatbuffers::String* name, std::string_view field,
                                std::size_t bytes_max);

}  // namespace kaas
