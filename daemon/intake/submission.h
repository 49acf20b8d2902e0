// A message of a submit ring: wire bytes to an operation.
// Threads: pure functions; any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "daemon/flow/request.h"
#include "schema/ipc/result.h"

namespace kaas {

// Spans refer to the bytes that were decoded; `request` is not yet verified (decode_request does
// that, unless the template cache knows the bytes).
struct SubmitOperation {
  std::span<const std::byte> request;
  RunOptions options;
};
struct PrepareOperation {
  std::span<const std::byte> request;
};
struct InvokeOperation {
  std::uint32_t plan = 0;
  std::vector<BindingSpec> bindings;
  std::vector<LiteralOverrideSpec> literals;
  RunOptions options;
};
struct CallOperation {
  std::string function;
  std::uint32_t version = 0;  // 0: the current one.
  std::vector<ParameterValue> parameters;
  std::vector<BindingSpec> bindings;
  std::vector<LiteralOverrideSpec> literals;
  RunOptions options;
};
struct DeployOperation {
  std::string function;
  std::span<const std::byte> request;
};
struct ReleasePlanOperation {
  std::uint32_t plan = 0;
};
// Exactly one source: `data`, a segment's range (`segment` not 0) or a donated memfd (`token` not
// 0). An object of no bytes has none of them.
struct PutOperation {
  std::string key;
  std::span<const std::byte> data;
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;  // In the segment; offset + bytes does not overflow.
  std::uint64_t bytes = 0;   // Of the segment's range or the donated memfd.
  std::uint64_t token = 0;
};
struct GetOperation {
  std::string key;
  std::optional<std::uint32_t> owner_uid;  // Absent: the caller's own namespace.
};
struct StatOperation {
  std::string key;
  std::optional<std::uint32_t> owner_uid;
};
struct RemoveOperation {
  std::string key;
};
struct CancelOperation {
  std::uint64_t id = 0;
};
struct OpenLaneOperation {
  std::uint32_t plan = 0;
  std::vector<BindingSpec> bindings;
  std::vector<LiteralOverrideSpec> literals;
};
struct DropLaneCallOperation {
  std::uint32_t lane = 0;
  std::uint32_t call = 0;
};

struct ExportOperation {
  std::string key;
  std::optional<std::uint32_t> owner_uid;
  ExportSpec wanted;
};

using Operation =
    std::variant<SubmitOperation, PrepareOperation, InvokeOperation, CallOperation, DeployOperation,
                 ReleasePlanOperation, PutOperation, GetOperation, StatOperation, RemoveOperation,
                 CancelOperation, OpenLaneOperation, DropLaneCallOperation, ExportOperation>;

struct Submission {
  std::uint64_t id = 0;
  Result<Operation> operation;  // An error is the answer to `id`; the session goes on.
};

// Trust: `bytes` is a private copy, aligned to 8; nothing else is assumed of it.
// Fails: ProtocolViolation if it is not a Submission with a known operation; the session is closed.
Result<Submission> decode_submission(std::span<const std::byte> bytes);

}  // namespace kaas
