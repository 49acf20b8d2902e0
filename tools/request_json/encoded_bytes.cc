#include "tools/request_json/encoded_bytes.h"

#include <cstdint>
#include <optional>
#include <string>

namespace kaas {
namespace {

constexpr std::string_view kHex = "hex:";
constexpr std::string_view kBase64 = "base64:";
constexpr std::string_view kBase64Digits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

Status invalid(std::string message) {
  return {StatusCode::InvalidArgument, std::move(message)};
}

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

Result<std::vector<std::byte>> decode_hex(std::string_view digits) {
  if (digits.size() % 2 != 0) {
    return invalid("has " + std::to_string(digits.size()) + " hex digits, allowed an even number");
  }
  std::vector<std::byte> bytes;
  bytes.reserve(digits.size() / 2);
  for (std::size_t n = 0; n < digits.size(); n += 2) {
    const auto high = hex_digit(digits[n]);
    const auto low = hex_digit(digits[n + 1]);
    if (!high || !low) {
      return invalid("has no hex digit at position " + std::to_string(high ? n + 1 : n) +
                     ", allowed 0-9, a-f, A-F");
    }
    bytes.push_back(static_cast<std::byte>(*high << 4 | *low));
  }
  return bytes;
}

Result<std::vector<std::byte>> decode_base64(std::string_view digits) {
  if (digits.size() % 4 != 0) {
    return invalid("has " + std::to_string(digits.size()) +
                   " base64 characters, allowed a multiple of 4 (with '=' at the end)");
  }
  std::size_t padding = 0;
  while (padding < 2 && digits.ends_with('=')) {
    digits.remove_suffix(1);
    ++padding;
  }
  std::vector<std::byte> bytes;
  bytes.reserve(digits.size() * 3 / 4);
  std::uint32_t pending = 0;
  unsigned pending_bits = 0;
  for (std::size_t n = 0; n < digits.size(); ++n) {
    const std::size_t value = kBase64Digits.find(digits[n]);
    if (value == kBase64Digits.npos) {
      return invalid("has no base64 character at position " + std::to_string(n) +
                     ", allowed A-Z, a-z, 0-9, + and /");
    }
    pending = pending << 6 | static_cast<std::uint32_t>(value);
    pending_bits += 6;
    if (pending_bits < 8) continue;
    pending_bits -= 8;
    bytes.push_back(static_cast<std::byte>(pending >> pending_bits & 0xFF));
  }
  if ((pending & ((1u << pending_bits) - 1)) != 0) {
    return invalid("has base64 whose last character holds bits beyond the last byte");
  }
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> decode_bytes(std::string_view text) {
  if (text.starts_with(kHex)) return decode_hex(text.substr(kHex.size()));
  if (text.starts_with(kBase64)) return decode_base64(text.substr(kBase64.size()));
  return invalid("begins with neither 'hex:' nor 'base64:'");
}

}  // namespace kaas
