// Texts for people: sizes, times, aligned columns; and the small grammars of arguments.
// Pure functions. Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

std::string human_bytes(std::uint64_t bytes);  // "512 B", "64 KiB", "1.5 MiB".
std::string human_seconds(double seconds);     // "350 us", "1.25 s", "2 h 3 min", "5 d 1 h".
std::string human_ns(std::uint64_t ns);        // "480 ns", then as above.

// `text` without control characters and malformed UTF-8, which become '?': what others wrote does
// not steer the terminal.
std::string printable(std::string_view text);

// Columns of text, two blanks apart. A header that begins with '>' aligns its column to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> headers);
  void add(std::vector<std::string> cells);  // As many as headers.
  [[nodiscard]] std::string to_string() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<bool> align_right_;
};

// "500ms", "2s", "1min", "1h", "20us", "100ns"; whole numbers of a unit.
Result<std::uint64_t> parse_duration_ns(std::string_view text);

// Digits only, the whole text, within the type.
std::optional<std::uint64_t> parse_natural(std::string_view text);

struct RequestName {
  std::uint64_t session = 0;
  std::uint32_t ring = 0;
  std::uint64_t id = 0;
};
// "SESSION.RING.ID".
Result<RequestName> parse_request_name(std::string_view text);

// A word NAME=VALUE of run and call.
struct Assignment {
  enum class Kind : std::uint8_t {
    Integer,  // 512: a parameter.
    File,     // @FILE: read if the buffer is an input, written if it is an output.
    Input,    // in:FILE
    Output,   // out:FILE
    Key,      // key:KEY
  };
  Kind kind = Kind::Integer;
  std::string name;
  std::string value;  // The file or key.
  std::int64_t integer = 0;
};
Result<Assignment> parse_assignment(std::string_view word);

}  // namespace kaas
