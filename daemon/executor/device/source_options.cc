#include "daemon/executor/device/source_options.h"

#include <algorithm>
#include <cctype>

namespace kaas {
namespace {

constexpr std::string_view kMarker = "kaas-options:";
constexpr std::size_t kWordsMax = 256;
constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr const char* kArchitecturePrefixes[] = {
    "-arch=", "--gpu-architecture=", "--gpu-architecture", "-arch"};

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// Words between blanks; quotes keep blanks together.
Result<void> add_words(std::string_view line, std::vector<std::string>& words,
                       const std::string& what) {
  std::string word;
  bool inside = false;
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
      inside = true;
    } else if (!quoted && kBlanks.find(c) != std::string_view::npos) {
      if (inside) words.push_back(std::exchange(word, ""));
      inside = false;
    } else {
      word += c;
      inside = true;
    }
  }
  if (inside) words.push_back(word);
  if (quoted) {
    return Status{
        StatusCode::InvalidArgument,
        what + ": kaas-options '" + std::string(trimmed(line)) + "' has a quote that does not end"};
  }
  if (words.size() <= kWordsMax) return {};
  return over_limit(StatusCode::InvalidArgument, what + ": number of kaas-options", words.size(),
                    kWordsMax);
}

// Architecture words go from `options.words` to where they belong.
Result<void> take_architecture(SourceOptions& options, const std::string& what) {
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < options.words.size(); ++i) {
    const std::string& word = options.words[i];
    const auto* prefix = std::find_if(
        std::begin(kArchitecturePrefixes), std::end(kArchitecturePrefixes), [&](const char* one) {
          const std::string_view text(one);
          return text.ends_with('=') ? word.starts_with(text) : word == text;
        });
    if (prefix == std::end(kArchitecturePrefixes)) {
      rest.push_back(word);
      continue;
    }
    const bool joined = std::string_view(*prefix).ends_with('=');
    std::string value;
    if (joined) value = word.substr(std::string_view(*prefix).size());
    if (!joined && i + 1 < options.words.size()) value = options.words[++i];
    if (value.size() < 4 || !value.starts_with("sm_") ||
        std::isdigit(static_cast<unsigned char>(value[3])) == 0) {
      return Status{StatusCode::InvalidArgument,
                    what + ": kaas-options ask for architecture '" + value +
                        "', allowed: sm_N, such as sm_90a; without it, that of the device"};
    }
    options.architecture = value;
  }
  options.words = std::move(rest);
  return {};
}

bool adds_includes(const std::string& word) {
  return word.starts_with("-I") || word.starts_with("--include-path") ||
         word.starts_with("-include") || word.starts_with("--pre-include") ||
         word.starts_with("-pre-include");
}

// Anything but <file>, which comes from the compiler's own folders.
bool includes_own_files(std::string_view source) {
  if (source.find("\\\n") != std::string_view::npos) {
    return source.find("include") != std::string_view::npos;  // A directive may be in pieces.
  }
  while (!source.empty()) {
    std::string_view line = trimmed(take_line(source));
    for (std::size_t at = line.find('#'); at != std::string_view::npos;
         at = line.find('#', at + 1)) {
      const std::string_view directive = trimmed(line.substr(at + 1));
      if (!directive.starts_with("include")) continue;
      if (!trimmed(directive.substr(std::string_view("include").size())).starts_with('<')) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

Result<SourceOptions> source_options(std::string_view source, const std::string& what) {
  SourceOptions options;
  for (std::string_view rest = source; !rest.empty();) {
    std::string_view line = trimmed(take_line(rest));
    if (line.empty()) continue;
    if (!line.starts_with("//")) break;
    line = trimmed(line.substr(2));
    if (!line.starts_with(kMarker)) continue;
    KAAS_RETURN_IF_ERROR(add_words(line.substr(kMarker.size()), options.words, what));
  }
  KAAS_RETURN_IF_ERROR(take_architecture(options, what));
  options.self_contained =
      std::none_of(options.words.begin(), options.words.end(), adds_includes) &&
      !includes_own_files(source);
  return options;
}

}  // namespace kaas
