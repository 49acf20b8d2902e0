#include "tools/kaasctl/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

namespace kaas {
namespace {

Status invalid(std::string message) {
  return {StatusCode::InvalidArgument, std::move(message)};
}

// Three significant digits, without zeros behind the point: "1.5", "64", "1023".
std::string three_digits(double value) {
  std::array<char, 32> text{};
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  std::string result = text.data();
  if (decimals > 0) {
    while (result.back() == '0') result.pop_back();
    if (result.back() == '.') result.pop_back();
  }
  return result;
}

// Bytes of the character that begins `text`; 0: malformed or a control character.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t n) { return static_cast<unsigned char>(text[n]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return lead < 0x20 || lead == 0x7F ? 0 : 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t n = 1; n < length; ++n) {
    if ((byte(n) & 0xC0) != 0x80) return 0;
  }
  // U+0080 to U+009F are control characters as well.
  return lead == 0xC2 && byte(1) < 0xA0 ? 0 : length;
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 6> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return three_digits(value) + " " + kUnits[unit];
}

std::string human_seconds(double seconds) {
  if (!(seconds > 0)) return "0 s";
  if (seconds < 999.5e-9) return three_digits(seconds * 1e9) + " ns";
  if (seconds < 999.5e-6) return three_digits(seconds * 1e6) + " us";
  if (seconds < 999.5e-3) return three_digits(seconds * 1e3) + " ms";
  if (seconds < 99.95) return three_digits(seconds) + " s";
  const auto whole = static_cast<std::uint64_t>(std::min(seconds, 1e15));
  const auto pair = [&](std::uint64_t big, const char* big_name, std::uint64_t small,
                        const char* small_name) {
    const std::uint64_t rest = whole % big / small;
    std::string text = std::to_string(whole / big) + " " + big_name;
    if (rest > 0) text += " " + std::to_string(rest) + " " + small_name;
    return text;
  };
  if (whole < 3600) return pair(60, "min", 1, "s");
  if (whole < 86'400) return pair(3600, "h", 60, "min");
  return pair(86'400, "d", 3600, "h");
}

std::string human_ns(std::uint64_t ns) {
  return ns == 0 ? "0 ns" : human_seconds(static_cast<double>(ns) * 1e-9);
}

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    result += bytes == 0 ? "?" : text.substr(0, bytes);
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return result;
}

// --- Table ---------------------------------------------------------------------------------------

Table::Table(std::vector<std::string> headers) {
  for (std::string& header : headers) {
    align_right_.push_back(header.starts_with('>'));
    if (align_right_.back()) header.erase(0, 1);
  }
  rows_.push_back(std::move(headers));
}

void Table::add(std::vector<std::string> cells) {
  KAAS_CHECK(cells.size() == align_right_.size());
  for (std::string& cell : cells) cell = cell.empty() ? "-" : printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::to_string() const {
  std::vector<std::size_t> widths(align_right_.size());
  for (const auto& row : rows_) {
    for (std::size_t n = 0; n < row.size(); ++n) widths[n] = std::max(widths[n], width_of(row[n]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t n = 0; n < row.size(); ++n) {
      const std::string padding(widths[n] - width_of(row[n]), ' ');
      if (n > 0) line += "  ";
      line += align_right_[n] ? padding + row[n] : row[n] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

// --- Arguments -----------------------------------------------------------------------------------

std::optional<std::uint64_t> parse_natural(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<std::uint64_t> parse_duration_ns(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::uint64_t>, 6> kUnits{
      {{"ns", 1},
       {"us", 1'000},
       {"ms", 1'000'000},
       {"min", 60'000'000'000},
       {"s", 1'000'000'000},
       {"h", 3'600'000'000'000}}};
  const std::string allowed = "duration is '" + printable(text) +
                              "', allowed a whole number and one of ns, us, ms, s, min, h, such as "
                              "500ms";
  for (const auto& [unit, factor] : kUnits) {
    if (!text.ends_with(unit)) continue;
    const auto number = parse_natural(text.substr(0, text.size() - unit.size()));
    if (!number) continue;  // "5ms" ends with "s", too.
    if (*number == 0 || *number > std::numeric_limits<std::int64_t>::max() / factor) {
      return invalid("duration is '" + printable(text) +
                     "', allowed more than 0 and less than 292 "
                     "years");
    }
    return *number * factor;
  }
  return invalid(allowed);
}

Result<RequestName> parse_request_name(std::string_view text) {
  const std::size_t first = text.find('.');
  const std::size_t second = first == text.npos ? first : text.find('.', first + 1);
  if (second != text.npos) {
    const auto session = parse_natural(text.substr(0, first));
    const auto ring = parse_natural(text.substr(first + 1, second - first - 1));
    const auto id = parse_natural(text.substr(second + 1));
    if (session && ring && *ring <= std::numeric_limits<std::uint32_t>::max() && id) {
      return RequestName{*session, static_cast<std::uint32_t>(*ring), *id};
    }
  }
  return invalid("request is '" + printable(text) +
                 "', allowed SESSION.RING.ID, three numbers such as 12.0.7");
}

Result<Assignment> parse_assignment(std::string_view word) {
  constexpr const char* kAllowed =
      "allowed NAME=INTEGER for a parameter, and for a buffer NAME=@FILE, NAME=in:FILE, "
      "NAME=out:FILE or NAME=key:KEY";
  const std::size_t equals = word.find('=');
  if (equals == 0 || equals == word.npos) {
    return invalid("'" + printable(word) + "' is no NAME=VALUE; " + kAllowed);
  }
  Assignment assignment;
  assignment.name = word.substr(0, equals);
  const std::string_view value = word.substr(equals + 1);
  constexpr std::array<std::pair<std::string_view, Assignment::Kind>, 4> kPrefixes{
      {{"@", Assignment::Kind::File},
       {"in:", Assignment::Kind::Input},
       {"out:", Assignment::Kind::Output},
       {"key:", Assignment::Kind::Key}}};
  for (const auto& [prefix, kind] : kPrefixes) {
    if (!value.starts_with(prefix) || value.size() == prefix.size()) continue;
    assignment.kind = kind;
    assignment.value = value.substr(prefix.size());
    return assignment;
  }
  const auto [end, error] =
      std::from_chars(value.data(), value.data() + value.size(), assignment.integer);
  if (error == std::errc::result_out_of_range) {
    return invalid(assignment.name + " is " + printable(value) +
                   ", allowed -9223372036854775808 to 9223372036854775807");
  }
  if (error != std::errc() || end != value.data() + value.size()) {
    return invalid(printable(assignment.name) + " is '" + printable(value) + "'; " + kAllowed);
  }
  return assignment;
}

}  // namespace kaas
