// Text from outside in messages for people: quoted, bounded, and with the names that were perhaps
// meant. Pure functions. Threads: any.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kaas {

// Bytes of a name that an error message shows; longer ones are cut and end in "...".
inline constexpr std::size_t kQuotedBytesMax = 64;

// Bytes of the UTF-8 character that begins `text`; 0: malformed (overlong, a surrogate, cut).
[[nodiscard]] inline std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t n) { return static_cast<unsigned char>(text[n]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t n = 1; n < length; ++n) {
    if ((byte(n) & 0xC0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return 0;
  return length;
}

// Whether text is UTF-8 without control characters: fit for logs, terminals and JSON.
[[nodiscard]] inline bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text.front());
    const std::size_t length = utf8_length(text);
    if (length == 0 || lead < 0x20 || lead == 0x7F) return false;
    text.remove_prefix(length);
  }
  return true;
}

// 'text' for an error message: control and malformed bytes as '?', cut at bytes_max.
[[nodiscard]] inline std::string quoted(std::string_view text,
                                        std::size_t bytes_max = kQuotedBytesMax) {
  std::string shown = "'";
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text.front());
    const std::size_t length = utf8_length(text);
    if (shown.size() + std::max<std::size_t>(length, 1) > bytes_max + 1) {
      shown += "...";
      break;
    }
    if (length == 0 || lead < 0x20 || lead == 0x7F) {
      shown += '?';
      text.remove_prefix(1);
    } else {
      shown += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return shown + "'";
}

// Levenshtein distance of the first 64 bytes of both.
[[nodiscard]] inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, 64);
  b = b.substr(0, 64);
  std::array<std::size_t, 65> row{};
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// The end of a "not found" message: "; nearest: 'saxpy', 'saxp2'" with at most three names that
// resemble `wanted`, else "; there are: " with the first few, else "" when there are none.
// `names` is a range of things that convert to string_view.
template <class Names>
[[nodiscard]] std::string nearest_names(std::string_view wanted, const Names& names) {
  constexpr std::size_t kShownMax = 3;
  std::vector<std::pair<std::size_t, std::string_view>> ranked;
  for (const auto& name : names) {
    ranked.emplace_back(edit_distance(wanted, std::string_view(name)), std::string_view(name));
  }
  if (ranked.empty()) return "";
  std::sort(ranked.begin(), ranked.end());
  const bool alike = ranked.front().first <= std::max<std::size_t>(2, wanted.size() / 3);
  std::string text = alike ? "; nearest: " : "; there are: ";
  for (std::size_t n = 0; n < ranked.size(); ++n) {
    if (n == kShownMax) return alike ? text : text + ", ...";
    if (alike && n > 0 && ranked[n].first > ranked.front().first + 1) break;
    text += (n > 0 ? ", " : "") + quoted(ranked[n].second);
  }
  return text;
}

// The functions of expressions, which no parameter may be named like.
inline constexpr std::array<std::string_view, 3> kExpressionFunctions = {"ceil_div", "min", "max"};

[[nodiscard]] constexpr bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
[[nodiscard]] constexpr bool continues_name(char c) {
  return begins_name(c) || (c >= '0' && c <= '9');
}

// Whether a parameter may have this name: a letter or underscore, then those or digits; not the
// name of a function of expressions.
[[nodiscard]] inline bool is_parameter_name(std::string_view name) {
  return !name.empty() && begins_name(name.front()) &&
         std::all_of(name.begin(), name.end(), continues_name) &&
         std::find(kExpressionFunctions.begin(), kExpressionFunctions.end(), name) ==
             kExpressionFunctions.end();
}

}  // namespace kaas
