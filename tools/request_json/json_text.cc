#include "tools/request_json/json_text.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace kaas {
namespace {

constexpr std::size_t kDetailBytesMax = 200;

// "line 3, column 7" of the last of the first `read_bytes` bytes.
std::string place_of(std::string_view text, std::size_t read_bytes) {
  const std::string_view before = text.substr(0, read_bytes == 0 ? 0 : read_bytes - 1);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::string_view row = newline == before.npos ? before : before.substr(newline + 1);
  const auto column = 1 + std::count_if(row.begin(), row.end(), [](char c) {
                        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
                      });
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// The parser's own words without its error number and its place.
std::string detail_of(std::string_view what) {
  if (const auto end = what.find("] "); end != what.npos) what.remove_prefix(end + 2);
  if (what.starts_with("parse error at ")) {
    if (const auto end = what.find(": "); end != what.npos) what.remove_prefix(end + 2);
  }
  if (what.size() <= kDetailBytesMax) return std::string(what);
  std::size_t cut = kDetailBytesMax;
  while (cut > 0 && (static_cast<unsigned char>(what[cut]) & 0xC0) == 0x80) --cut;
  return std::string(what.substr(0, cut)) + "...";
}

// Builds the tree from the parser's events. Any false ends the parse with `failure`.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit TreeBuilder(std::string_view text) : text_(text) {}

  Json tree;
  Status failure;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return fail("holds binary data"); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    Level& level = levels_.back();
    level.key = std::move(value);
    if (level.container->contains(level.key)) return fail("is given twice");
    return true;
  }

  bool parse_error(std::size_t read_bytes, const std::string&,
                   const nlohmann::detail::exception& error) override {
    failure = {StatusCode::InvalidArgument,
               "malformed JSON at " + place_of(text_, read_bytes) + ": " + detail_of(error.what())};
    return false;
  }

 private:
  // An open object or list: the last child of the one below, so that its address holds.
  struct Level {
    Json* container;
    std::string key;  // Of an object: the one read last.
  };

  Json* place(Json value) {
    if (levels_.empty()) {
      tree = std::move(value);
      return &tree;
    }
    Json& container = *levels_.back().container;
    if (container.is_array()) {
      container.push_back(std::move(value));
      return &container.back();
    }
    return &(container[levels_.back().key] = std::move(value));
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (levels_.size() == kJsonDepthMax) {
      return fail("is deeper than " + std::to_string(kJsonDepthMax) + " levels");
    }
    levels_.push_back({place(std::move(value)), {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  bool fail(const std::string& what) {
    std::string path;
    for (const Level& level : levels_) {
      if (level.container->is_array()) {
        // The open element is in the list already; one that was refused is not.
        const bool has_open = &level != &levels_.back();
        path += "[" + std::to_string(level.container->size() - (has_open ? 1 : 0)) + "]";
      } else {
        path += (path.empty() ? "" : ".") + level.key;
      }
    }
    failure = {StatusCode::InvalidArgument, path + " " + what};
    return false;
  }

  std::string_view text_;
  std::vector<Level> levels_;
};

}  // namespace

Result<Json> parse_json(std::string_view text) {
  // To the parser a NUL byte is the end of the text.
  if (const std::size_t nul = text.find('\0'); nul != text.npos) {
    return Status{StatusCode::InvalidArgument,
                  "it is not JSON text: there is a NUL byte at " + place_of(text, nul + 1)};
  }
  TreeBuilder builder(text);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.failure);
  return std::move(builder.tree);
}

}  // namespace kaas
