#include "daemon/executor/library/code_names.h"

#include <cxxabi.h>

#include <cctype>
#include <cstdlib>
#include <memory>

#include "daemon/executor/library/nearest_names.h"

namespace kaas {
namespace {

constexpr std::size_t kCandidatesListed = 8;

std::string demangled(const std::string& mangled) {
  int outcome = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &outcome), &std::free);
  return outcome == 0 && text != nullptr ? text.get() : mangled;
}

// `text` without the bracket that ends it: "f<g(1)>(int (*)(int))" -> "f<g(1)>".
std::string without_last_bracket(const std::string& text, char open, char close) {
  if (text.empty() || text.back() != close) return text;
  int depth = 0;
  for (std::size_t i = text.size(); i-- > 0;) {
    if (text[i] == close) ++depth;
    if (text[i] == open && --depth == 0) return text.substr(0, i);
  }
  return text;
}

bool is_word(char c) noexcept {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// The same for all ways to write a name: without spaces that part no words, numbers without suffix.
std::string plain(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') {
      const bool parts =
          !result.empty() && is_word(result.back()) && i + 1 < text.size() && is_word(text[i + 1]);
      if (parts) result += ' ';
      continue;
    }
    const bool starts_number = std::isdigit(static_cast<unsigned char>(text[i])) != 0 &&
                               (result.empty() || !is_word(result.back()));
    result += text[i];
    if (!starts_number) continue;
    while (i + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[i + 1])) != 0) {
      result += text[++i];
    }
    while (i + 1 < text.size() && std::string_view("uUlL").find(text[i + 1]) != std::string::npos) {
      ++i;
    }
  }
  return result;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kCandidatesListed; ++i) {
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  }
  if (names.size() > kCandidatesListed) {
    text += " and " + std::to_string(names.size() - kCandidatesListed) + " more";
  }
  return text;
}

Status not_found(const std::vector<CodeName>& names, std::string_view wanted,
                 const std::string& kind, const std::string& owner) {
  std::vector<std::string> briefs;
  for (const CodeName& name : names) briefs.push_back(name.brief);
  auto near = nearest_names(wanted, briefs);
  std::string message = owner + " has no " + kind + " '" + std::string(wanted) + "'";
  if (!near.empty()) {
    message += "; nearest: " + listed(near);
  } else {
    message += briefs.empty() ? "; it has none" : "; it has: " + listed(briefs);
  }
  return Status{StatusCode::NotFound, std::move(message)};
}

}  // namespace

CodeName::CodeName(std::string linker_name) : mangled(std::move(linker_name)) {
  full = demangled(mangled);
  // Instances of templates are demangled with what they return: kernels return nothing.
  if (full.starts_with("void ")) full.erase(0, 5);
  // What is static lies in a namespace that the compiler makes of the file's name.
  if (full.starts_with("_INTERNAL_")) {
    if (const std::size_t end = full.find("::"); end != std::string::npos) full.erase(0, end + 2);
  }
  brief = without_last_bracket(full, '(', ')');
  base = without_last_bracket(brief, '<', '>');
}

Result<const CodeName*> find_name(const std::vector<CodeName>& names, std::string_view wanted,
                                  const std::string& kind, const std::string& owner) {
  for (const CodeName& name : names) {
    if (name.mangled == wanted) return &name;
  }
  std::string like = plain(wanted);
  if (like.starts_with("void ")) like.erase(0, 5);
  for (std::string CodeName::*form : {&CodeName::full, &CodeName::brief, &CodeName::base}) {
    std::vector<const CodeName*> found;
    for (const CodeName& name : names) {
      if (plain(name.*form) == like) found.push_back(&name);
    }
    if (found.size() == 1) return found.front();
    if (found.empty()) continue;
    std::vector<std::string> candidates;
    for (const CodeName* name : found) candidates.push_back(name->full);
    return Status{StatusCode::InvalidArgument, owner + ": " + kind + " '" + std::string(wanted) +
                                                   "' may be any of " + listed(candidates)};
  }
  return not_found(names, wanted, kind, owner);
}

}  // namespace kaas
