#include "tools/request_json/json_node.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/request_json/encoded_bytes.h"

namespace kaas {
namespace {

constexpr std::size_t kShownBytesMax = 48;

// Levenshtein distance; names are short, so the plain table row does.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
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

std::string listed(std::span<const std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

std::string between(const std::string& lowest, const std::string& highest) {
  return "a whole number from " + lowest + " to " + highest;
}

}  // namespace

std::string nearest_of(std::string_view wanted, std::span<const std::string_view> names) {
  wanted = wanted.substr(0, kShownBytesMax);
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, wanted.size() / 3) + 1;
  for (const std::string_view name : names) {
    const std::size_t distance = edit_distance(wanted, name.substr(0, kShownBytesMax));
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best.empty() ? "" : "; nearest: " + shown(best);
}

std::string shown(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text.substr(0, kShownBytesMax)) {
    const auto byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  if (text.size() > kShownBytesMax) {
    // Not in the middle of a character.
    while (!quoted.empty() && (static_cast<unsigned char>(quoted.back()) & 0xC0) == 0x80) {
      quoted.pop_back();
    }
    if (static_cast<unsigned char>(quoted.back()) >= 0xC0) quoted.pop_back();
    quoted += "...";
  }
  return quoted + "'";
}

std::string JsonNode::found() const {
  if (value_->is_string()) return shown(value_->get_ref<const std::string&>());
  if (value_->is_object()) return "an object";
  if (value_->is_array()) return "a list of " + std::to_string(value_->size());
  return value_->dump();  // A number, true, false or null.
}

Status JsonNode::wrong(std::string_view allowed) const {
  return fault("is " + found() + ", allowed " + std::string(allowed));
}

Status JsonNode::fault(std::string_view what) const {
  return {StatusCode::InvalidArgument,
          (path_.empty() ? "the request" : path_) + " " + std::string(what)};
}

Result<void> JsonNode::has_only(std::span<const std::string_view> fields) const {
  if (!is_object()) return wrong("an object");
  for (const auto& item : value_->items()) {
    if (std::find(fields.begin(), fields.end(), item.key()) != fields.end()) continue;
    return fault("has the unknown field " + shown(item.key()) + nearest_of(item.key(), fields) +
                 "; allowed: " + listed(fields));
  }
  return {};
}

std::optional<JsonNode> JsonNode::find(std::string_view field) const {
  if (!is_object()) return std::nullopt;
  const auto position = value_->find(field);
  if (position == value_->end() || position->is_null()) return std::nullopt;
  return JsonNode(*position, (path_.empty() ? "" : path_ + ".") + std::string(field));
}

Result<JsonNode> JsonNode::field(std::string_view field) const {
  if (!is_object()) return wrong("an object");
  auto node = find(field);
  if (!node) return fault("lacks the field '" + std::string(field) + "'");
  return *std::move(node);
}

std::vector<std::string_view> JsonNode::keys() const {
  std::vector<std::string_view> names;
  if (!is_object()) return names;
  for (auto item = value_->begin(); item != value_->end(); ++item) names.emplace_back(item.key());
  return names;
}

Result<std::vector<JsonNode>> JsonNode::elements(std::size_t fewest, std::size_t most) const {
  const bool fits = is_list() && value_->size() >= fewest && value_->size() <= most;
  if (!fits) {
    return wrong("a list of " + std::to_string(fewest) + " to " + std::to_string(most));
  }
  std::vector<JsonNode> nodes;
  nodes.reserve(value_->size());
  for (std::size_t n = 0; n < value_->size(); ++n) {
    nodes.emplace_back((*value_)[n], path_ + "[" + std::to_string(n) + "]");
  }
  return nodes;
}

Result<std::string> JsonNode::text(std::size_t most) const {
  const std::string allowed = "a text of 1 to " + std::to_string(most) + " bytes";
  if (!is_text()) return wrong(allowed);
  const auto& text = value_->get_ref<const std::string&>();
  if (text.empty() || text.size() > most) {
    return fault("has " + std::to_string(text.size()) + " bytes, allowed " + allowed);
  }
  return text;
}

Result<bool> JsonNode::flag() const {
  if (!value_->is_boolean()) return wrong("true or false");
  return value_->get<bool>();
}

Result<std::uint64_t> JsonNode::natural(std::uint64_t lowest, std::uint64_t highest) const {
  if (value_->is_number_unsigned()) {
    const auto value = value_->get<std::uint64_t>();
    if (value >= lowest && value <= highest) return value;
  }
  return wrong(between(std::to_string(lowest), std::to_string(highest)));
}

Result<std::int64_t> JsonNode::integer(std::int64_t lowest, std::int64_t highest) const {
  // Numbers without a sign are kept unsigned, so that those above 2^63 are not negative here.
  if (value_->is_number_unsigned()) {
    const auto value = value_->get<std::uint64_t>();
    if (highest >= 0 && value <= static_cast<std::uint64_t>(highest) &&
        static_cast<std::int64_t>(value) >= lowest) {
      return static_cast<std::int64_t>(value);
    }
  } else if (value_->is_number_integer()) {
    const auto value = value_->get<std::int64_t>();
    if (value >= lowest && value <= highest) return value;
  }
  return wrong(between(std::to_string(lowest), std::to_string(highest)));
}

Result<double> JsonNode::number(double highest) const {
  if (value_->is_number()) {
    const auto value = value_->get<double>();
    if (std::isfinite(value) && std::fabs(value) <= highest) return value;
  }
  std::array<char, 64> allowed{};
  std::snprintf(allowed.data(), allowed.size(), "a number from -%.9g to %.9g", highest, highest);
  return wrong(allowed.data());
}

Result<std::vector<std::byte>> JsonNode::bytes(std::size_t most) const {
  const std::string allowed =
      "'hex:...' or 'base64:...' with 1 to " + std::to_string(most) + " bytes";
  if (!is_text()) return wrong(allowed);
  const auto decoded = decode_bytes(value_->get_ref<const std::string&>());
  if (!decoded.has_value()) return fault(decoded.error().message);
  if (decoded->empty() || decoded->size() > most) {
    return fault("has " + std::to_string(decoded->size()) + " bytes, allowed " + allowed);
  }
  return *decoded;
}

}  // namespace kaas
