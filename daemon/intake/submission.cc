#include "daemon/intake/submission.h"

#include <utility>

#include "daemon/flow/text.h"
#include "daemon/intake/decode.h"
#include "daemon/intake/fields.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

Result<Operation> decode_invoke(const wire::Invoke& wire) {
  InvokeOperation invoke;
  invoke.plan = wire.plan();
  KAAS_ASSIGN_OR_RETURN(invoke.bindings, decode_bindings(wire.bindings()));
  KAAS_ASSIGN_OR_RETURN(invoke.literals, decode_literal_overrides(wire.literals()));
  KAAS_ASSIGN_OR_RETURN(invoke.options, decode_options(wire.options()));
  return Operation(std::move(invoke));
}

Result<Operation> decode_call(const wire::Call& wire) {
  CallOperation call;
  KAAS_ASSIGN_OR_RETURN(call.function, decode_name(wire.function(), "function", kNameBytesMax));
  call.version = wire.version();
  KAAS_ASSIGN_OR_RETURN(call.parameters, decode_parameters(wire.parameters()));
  KAAS_ASSIGN_OR_RETURN(call.bindings, decode_bindings(wire.bindings()));
  KAAS_ASSIGN_OR_RETURN(call.literals, decode_literal_overrides(wire.literals()));
  KAAS_ASSIGN_OR_RETURN(call.options, decode_options(wire.options()));
  return Operation(std::move(call));
}

Result<Operation> decode_put(const wire::Put& wire) {
  PutOperation put;
  KAAS_ASSIGN_OR_RETURN(put.key, decode_name(wire.key(), "key", kKeyBytesMax));
  const bool has_data = count(wire.data()) > 0;
  if (has_data + (wire.segment() != 0) + (wire.token() != 0) > 1) {
    return invalid("put of " + quoted(put.key) +
                   " gives more than one of data, segment and token; one is allowed");
  }
  put.data = to_span(wire.data());
  put.segment = wire.segment();
  put.offset = wire.offset();
  put.bytes = wire.bytes();
  put.token = wire.token();
  if (put.segment == 0 && put.offset != 0) {
    return invalid("put offset is " + std::to_string(put.offset) + " without a segment, allowed 0");
  }
  if (put.segment == 0 && put.token == 0 && put.bytes != 0 && put.bytes != put.data.size()) {
    return invalid("put bytes is " + std::to_string(put.bytes) + ", its inline data has " +
                   std::to_string(put.data.size()));
  }
  KAAS_RETURN_IF_ERROR(check_between("put bytes", put.bytes, 0, kBufferBytesMax));
  KAAS_RETURN_IF_ERROR(check_range("put", put.offset, put.bytes, kSegmentBytesMax));
  return Operation(std::move(put));
}

std::optional<std::uint32_t> owner(flatbuffers::Optional<std::uint32_t> uid) {
  if (!uid.has_value()) return std::nullopt;
  return *uid;
}

Result<Operation> decode_export(const wire::Export& wire) {
  ExportOperation exported;
  KAAS_ASSIGN_OR_RETURN(exported.key, decode_name(wire.key(), "key", kKeyBytesMax));
  exported.owner_uid = owner(wire.owner_uid());
  ExportSpec& wanted = exported.wanted;
  wanted.offset = wire.offset();
  wanted.bytes = wire.bytes();
  KAAS_RETURN_IF_ERROR(check_between("export bytes", wanted.bytes, 0, kBufferBytesMax));
  KAAS_RETURN_IF_ERROR(check_between("export offset", wanted.offset, 0, kBufferBytesMax));
  if (wire.device() != nullptr) {
    KAAS_ASSIGN_OR_RETURN(wanted.device, decode_name(wire.device(), "device", kNameBytesMax));
  }
  return Operation(std::move(exported));
}

Result<Operation> decode_operation(const wire::Submission& submission) {
  switch (submission.operation_type()) {
    case wire::Operation::Submit: {
      const auto& wire = *submission.operation_as_Submit();
      KAAS_ASSIGN_OR_RETURN(auto options, decode_options(wire.options()));
      return Operation(SubmitOperation{to_span(wire.request()), std::move(options)});
    }
    case wire::Operation::Prepare:
      return Operation(PrepareOperation{to_span(submission.operation_as_Prepare()->request())});
    case wire::Operation::Invoke:
      return decode_invoke(*submission.operation_as_Invoke());
    case wire::Operation::Call:
      return decode_call(*submission.operation_as_Call());
    case wire::Operation::Deploy: {
      const auto& wire = *submission.operation_as_Deploy();
      KAAS_ASSIGN_OR_RETURN(auto name, decode_name(wire.function(), "function", kNameBytesMax));
      return Operation(DeployOperation{std::move(name), to_span(wire.request())});
    }
    case wire::Operation::ReleasePlan:
      return Operation(ReleasePlanOperation{submission.operation_as_ReleasePlan()->plan()});
    case wire::Operation::Put:
      return decode_put(*submission.operation_as_Put());
    case wire::Operation::Get: {
      const auto& wire = *submission.operation_as_Get();
      KAAS_ASSIGN_OR_RETURN(auto key, decode_name(wire.key(), "key", kKeyBytesMax));
      return Operation(GetOperation{std::move(key), owner(wire.owner_uid())});
    }
    case wire::Operation::Stat: {
      const auto& wire = *submission.operation_as_Stat();
      KAAS_ASSIGN_OR_RETURN(auto key, decode_name(wire.key(), "key", kKeyBytesMax));
      return Operation(StatOperation{std::move(key), owner(wire.owner_uid())});
    }
    case wire::Operation::Remove: {
      KAAS_ASSIGN_OR_RETURN(
          auto key, decode_name(submission.operation_as_Remove()->key(), "key", kKeyBytesMax));
      return Operation(RemoveOperation{std::move(key)});
    }
    case wire::Operation::Cancel:
      return Operation(CancelOperation{submission.operation_as_Cancel()->id()});
    case wire::Operation::OpenLane: {
      const auto& wire = *submission.operation_as_OpenLane();
      OpenLaneOperation open{wire.plan(), {}, {}};
      KAAS_ASSIGN_OR_RETURN(open.bindings, decode_bindings(wire.bindings()));
      KAAS_ASSIGN_OR_RETURN(open.literals, decode_literal_overrides(wire.literals()));
      return Operation(std::move(open));
    }
    case wire::Operation::DropLaneCall: {
      const auto& wire = *submission.operation_as_DropLaneCall();
      return Operation(DropLaneCallOperation{wire.lane(), wire.call()});
    }
    case wire::Operation::Export:
      return decode_export(*submission.operation_as_Export());
    case wire::Operation::NONE:
      break;
  }
  // NONE, or one that a newer client knows: the verifier lets both pass.
  return Status{StatusCode::ProtocolViolation,
                "submission has operation " +
                    std::to_string(static_cast<int>(submission.operation_type())) +
                    ", allowed 1 to " + std::to_string(static_cast<int>(wire::Operation::MAX))};
}

}  // namespace

Result<Submission> decode_submission(std::span<const std::byte> bytes) {
  const auto* submission = verified_root<wire::Submission>(bytes);
  if (submission == nullptr) {
    return Status{StatusCode::ProtocolViolation,
                  "submission of " + std::to_string(bytes.size()) + " bytes is malformed"};
  }
  // The verifier lets an absent value with a known type pass.
  if (submission->operation() == nullptr) {
    return Status{StatusCode::ProtocolViolation, "submission has no operation"};
  }
  auto operation = decode_operation(*submission);
  if (!operation.has_value() && operation.error().code == StatusCode::ProtocolViolation) {
    return std::move(operation).error();
  }
  return Submission{submission->id(), std::move(operation)};
}

}  // namespace kaas
