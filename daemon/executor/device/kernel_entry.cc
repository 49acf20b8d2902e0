#include "daemon/executor/device/kernel_entry.h"

#include <charconv>
#include <optional>

namespace kaas {
namespace {

using Kind = ParameterType::Kind;

std::optional<ParameterType> simple_type(char item) noexcept {
  using wire::LiteralType;
  switch (item) {
    case 'i':
      return ParameterType{Kind::Literal, LiteralType::I32, 4};
    case 'I':
      return ParameterType{Kind::Literal, LiteralType::U32, 4};
    case 'q':
      return ParameterType{Kind::Literal, LiteralType::I64, 8};
    case 'Q':
      return ParameterType{Kind::Literal, LiteralType::U64, 8};
    case 'f':
      return ParameterType{Kind::Literal, LiteralType::F32, 4};
    case 'd':
      return ParameterType{Kind::Literal, LiteralType::F64, 8};
    case 'p':
      return ParameterType{Kind::Input, LiteralType::U64, 8};
    case 'P':
      return ParameterType{Kind::Output, LiteralType::U64, 8};
    default:
      return std::nullopt;
  }
}

Status not_understood(std::string_view signature, std::size_t at) {
  return Status{StatusCode::InvalidArgument, "signature '" + std::string(signature) +
                                                 "' is not understood at character " +
                                                 std::to_string(at)};
}

}  // namespace

Result<std::vector<ParameterType>> parse_signature(std::string_view signature) {
  std::vector<ParameterType> types;
  std::size_t at = 0;
  while (at < signature.size()) {
    if (const auto simple = simple_type(signature[at])) {
      types.push_back(*simple);
      ++at;
      continue;
    }
    if (signature.substr(at, 2) != "b<") return not_understood(signature, at);
    const char* end = signature.data() + signature.size();
    std::uint32_t bytes = 0;
    const auto number = std::from_chars(signature.data() + at + 2, end, bytes);
    if (number.ec != std::errc() || number.ptr == end || *number.ptr != '>' || bytes == 0 ||
        bytes > KAAS_SIGNATURE_RAW_BYTES_MAX) {
      return not_understood(signature, at);
    }
    types.push_back({Kind::Raw, wire::LiteralType::Raw, bytes});
    at = static_cast<std::size_t>(number.ptr - signature.data()) + 1;
  }
  return types;
}

std::string describe(const ParameterType& type) {
  switch (type.kind) {
    case Kind::Literal:
      return name_of(type.literal);
    case Kind::Raw:
      return std::to_string(type.bytes) + " raw bytes";
    case Kind::Input:
      return "an input buffer";
    case Kind::Output:
      return "an output buffer";
    case Kind::Untyped:
      return "a value of " + std::to_string(type.bytes) + " bytes" +
             (type.bytes == 8 ? " or a buffer" : "");
  }
  return "nothing known";
}

const char* name_of(wire::LiteralType type) noexcept {
  static constexpr const char* kNames[] = {"i32", "u32", "i64", "u64", "f32", "f64", "raw"};
  const auto index = static_cast<std::size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

std::uint32_t literal_bytes(wire::LiteralType type) noexcept {
  switch (type) {
    case wire::LiteralType::I32:
    case wire::LiteralType::U32:
    case wire::LiteralType::F32:
      return 4;
    case wire::LiteralType::I64:
    case wire::LiteralType::U64:
    case wire::LiteralType::F64:
      return 8;
    case wire::LiteralType::Raw:
      break;
  }
  return 0;
}

}  // namespace kaas
