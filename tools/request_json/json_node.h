// A value of a JSON tree together with its path: every reader says where a wrong value is, what was
// found there and what is allowed.
// Owns nothing: the tree must outlive its nodes. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/request_json/json_text.h"

namespace kaas {

// "; nearest: 'grid'", the one of `names` that resembles `wanted` most; "" when none does.
[[nodiscard]] std::string nearest_of(std::string_view wanted,
                                     std::span<const std::string_view> names);

// "'text'" for messages; long texts are cut, control characters become '?'.
[[nodiscard]] std::string shown(std::string_view text);

class JsonNode {
 public:
  JsonNode(const Json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_text() const { return value_->is_string(); }
  [[nodiscard]] bool is_list() const { return value_->is_array(); }
  [[nodiscard]] bool is_object() const { return value_->is_object(); }

  // "PATH is FOUND, allowed ALLOWED".
  [[nodiscard]] Status wrong(std::string_view allowed) const;
  // "PATH what".
  [[nodiscard]] Status fault(std::string_view what) const;

  // --- Objects -----------------------------------------------------------------------------------
  // Whether this is an object with no other fields than these.
  Result<void> has_only(std::span<const std::string_view> fields) const;
  // A field that is absent or null: nullopt. Of what is no object: nullopt too.
  [[nodiscard]] std::optional<JsonNode> find(std::string_view field) const;
  Result<JsonNode> field(std::string_view field) const;
  // The fields' names.
  [[nodiscard]] std::vector<std::string_view> keys() const;

  // --- Values ------------------------------------------------------------------------------------
  // The elements of a list, `fewest` to `most` of them.
  Result<std::vector<JsonNode>> elements(std::size_t fewest, std::size_t most) const;
  // 1 to `most` bytes.
  Result<std::string> text(std::size_t most) const;
  Result<bool> flag() const;
  // A whole number within both bounds. A number with a fraction or an exponent is none.
  Result<std::uint64_t> natural(std::uint64_t lowest, std::uint64_t highest) const;
  Result<std::int64_t> integer(std::int64_t lowest, std::int64_t highest) const;
  // Any number, at most `highest` in magnitude.
  Result<double> number(double highest) const;
  // "hex:00ff" or "base64:AP8=", 1 to `most` bytes.
  Result<std::vector<std::byte>> bytes(std::size_t most) const;

 private:
  [[nodiscard]] std::string found() const;

  const Json* value_;
  std::string path_;
};

}  // namespace kaas
