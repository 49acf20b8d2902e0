// What accompanies a request in one run: options, bindings, overrides, parameter values.
#include <utility>

#include "daemon/flow/text.h"
#include "daemon/intake/decode.h"
#include "daemon/intake/fields.h"

namespace kaas {

Result<std::string> decode_name(const flatbuffers::String* name, std::string_view field,
                                std::size_t bytes_max) {
  const std::string_view text = view(name);
  if (text.empty()) return invalid(std::string(field) + " is empty");
  if (text.size() > bytes_max) {
    return invalid(std::string(field) + " " + quoted(text) + " has " + std::to_string(text.size()) +
                   " bytes, limit " + std::to_string(bytes_max));
  }
  if (!is_printable(text)) {
    return invalid(std::string(field) + " " + quoted(text) +
                   " has control characters or is not UTF-8, neither is allowed");
  }
  return std::string(text);
}

namespace {

Result<std::vector<std::uint32_t>> decode_events(const flatbuffers::Vector<std::uint32_t>* events,
                                                 std::string_view field) {
  KAAS_RETURN_IF_ERROR(check_count(field, count(events), kEventsPerRunMax));
  std::vector<std::uint32_t> decoded;
  for (std::size_t n = 0; n < count(events); ++n) decoded.push_back(value_at(events, n));
  return decoded;
}

}  // namespace

Result<RunOptions> decode_options(const wire::RunOptions* options) {
  RunOptions decoded;
  if (options == nullptr) return decoded;
  decoded.priority = options->priority();
  if (decoded.priority < kPriorityMin || decoded.priority > kPriorityMax) {
    return invalid("priority is " + std::to_string(decoded.priority) + ", allowed " +
                   std::to_string(kPriorityMin) + " to " + std::to_string(kPriorityMax));
  }
  decoded.deadline_ns = options->deadline_ns();
  decoded.tag = options->tag();
  decoded.profile = options->profile();
  if (count(options->tenant()) > 0) {
    KAAS_ASSIGN_OR_RETURN(decoded.tenant,
                          decode_name(options->tenant(), "tenant", kTenantBytesMax));
  }
  KAAS_ASSIGN_OR_RETURN(decoded.wait_events, decode_events(options->wait_events(), "wait_events"));
  KAAS_ASSIGN_OR_RETURN(decoded.record_events,
                        decode_events(options->record_events(), "record_events"));
  return decoded;
}

namespace {

Result<BindingSpec> decode_binding(const wire::Binding& wire, std::size_t& payload_bytes) {
  BindingSpec binding;
  binding.buffer = wire.buffer();
  if (wire.name() != nullptr) {
    KAAS_ASSIGN_OR_RETURN(binding.name, decode_name(wire.name(), "name", kNameBytesMax));
  }
  KAAS_RETURN_IF_ERROR(add_payload(payload_bytes, count(wire.data())));
  KAAS_ASSIGN_OR_RETURN(binding.place, decode_place(wire));
  if (wire.offset().has_value()) binding.offset = *wire.offset();
  return binding;
}

Result<LiteralOverrideSpec> decode_override(const wire::LiteralOverride& wire,
                                            std::size_t& payload_bytes) {
  KAAS_RETURN_IF_ERROR(check_count("raw bytes", count(wire.raw()), kRawLiteralBytesMax));
  KAAS_RETURN_IF_ERROR(add_payload(payload_bytes, count(wire.raw())));
  LiteralOverrideSpec decoded{wire.kernel(), wire.literal(), wire.bits(), to_bytes(wire.raw()),
                              std::nullopt};
  if (wire.type().has_value()) decoded.type = *wire.type();
  if (decoded.type > wire::LiteralType::MAX) {
    return invalid("type is " + std::to_string(static_cast<int>(*decoded.type)) + ", limit " +
                   std::to_string(static_cast<int>(wire::LiteralType::MAX)));
  }
  return decoded;
}

}  // namespace

Result<std::vector<BindingSpec>> decode_bindings(
    const flatbuffers::Vector<flatbuffers::Offset<wire::Binding>>* bindings) {
  KAAS_RETURN_IF_ERROR(check_count("bindings", count(bindings), kBuffersMax));
  std::vector<BindingSpec> decoded;
  decoded.reserve(count(bindings));
  std::size_t payload_bytes = 0;
  for (std::size_t n = 0; n < count(bindings); ++n) {
    KAAS_ASSIGN_OR_RETURN(
        auto binding,
        named([&] { return "binding " + std::to_string(n); },
              decode_binding(*bindings->Get(static_cast<unsigned>(n)), payload_bytes)));
    decoded.push_back(std::move(binding));
  }
  return decoded;
}

Result<std::vector<LiteralOverrideSpec>> decode_literal_overrides(
    const flatbuffers::Vector<flatbuffers::Offset<wire::LiteralOverride>>* overrides) {
  KAAS_RETURN_IF_ERROR(check_count("literal overrides", count(overrides), kVerifierTablesMax));
  std::vector<LiteralOverrideSpec> decoded;
  decoded.reserve(count(overrides));
  std::size_t payload_bytes = 0;
  for (std::size_t n = 0; n < count(overrides); ++n) {
    KAAS_ASSIGN_OR_RETURN(
        auto literal,
        named([&] { return "literal override " + std::to_string(n); },
              decode_override(*overrides->Get(static_cast<unsigned>(n)), payload_bytes)));
    decoded.push_back(std::move(literal));
  }
  return decoded;
}

Result<std::vector<ParameterValue>> decode_parameters(
    const flatbuffers::Vector<flatbuffers::Offset<wire::NamedInteger>>* parameters) {
  KAAS_RETURN_IF_ERROR(check_count("parameters", count(parameters), kParametersMax));
  std::vector<ParameterValue> decoded;
  decoded.reserve(count(parameters));
  for (std::size_t n = 0; n < count(parameters); ++n) {
    const wire::NamedInteger& wire = *parameters->Get(static_cast<unsigned>(n));
    KAAS_ASSIGN_OR_RETURN(auto name, decode_name(wire.name(), "parameter name", kNameBytesMax));
    for (const ParameterValue& earlier : decoded) {
      if (earlier.name == name) return invalid("parameter " + quoted(name) + " is given twice");
    }
    decoded.push_back({std::move(name), wire.value()});
  }
  return decoded;
}

}  // namespace kaas
