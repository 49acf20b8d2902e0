#include "tools/kaasctl/bindings.h"

#include <algorithm>
#include <utility>

#include "tools/kaasctl/text.h"

namespace kaas {
namespace {

Status invalid(std::string message) {
  return {StatusCode::InvalidArgument, std::move(message)};
}

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + printable(name);
  return text.empty() ? "none" : text;
}

// Decides which way "@FILE" goes, and refuses a way that the buffer does not go.
Result<Assignment::Kind> direction_of(const Assignment& assignment, const Roles& roles) {
  using Kind = Assignment::Kind;
  const bool is_input = holds(roles.inputs, assignment.name);
  const bool is_output = holds(roles.outputs, assignment.name);
  const std::string name = printable(assignment.name);
  if (assignment.kind == Kind::File && is_input && is_output) {
    return invalid("'" + name + "' is changed in place; say " + name +
                   "=in:FILE for what it starts with and " + name + "=out:FILE for the result");
  }
  const Kind kind = assignment.kind != Kind::File ? assignment.kind
                    : is_input                    ? Kind::Input
                                                  : Kind::Output;
  if (kind == Kind::Input ? is_input : is_output) return kind;
  const std::string what = assignment.kind == Kind::File    ? "neither input nor output"
                           : assignment.kind == Kind::Input ? "no input"
                                                            : "no output";
  return invalid("'" + name + "' is " + what + "; inputs: " + listed(roles.inputs) +
                 "; outputs: " + listed(roles.outputs));
}

Status twice_used(const std::string& stream, const std::string& first, const std::string& second) {
  return invalid("standard " + stream + " (-) is for " + first + " and for " + second +
                 ", allowed is one of them; name a file");
}

class Sorter {
 public:
  explicit Sorter(const Roles& roles) : roles_(roles) {}

  Result<void> add(Assignment assignment) {
    switch (assignment.kind) {
      case Assignment::Kind::Integer:
        return add_parameter(std::move(assignment));
      case Assignment::Kind::Key:
        return add_key(std::move(assignment));
      case Assignment::Kind::File:
      case Assignment::Kind::Input:
      case Assignment::Kind::Output:
        break;
    }
    KAAS_ASSIGN_OR_RETURN(assignment.kind, direction_of(assignment, roles_));
    return add_file(std::move(assignment));
  }

  RunArguments take() { return std::move(sorted_); }

 private:
  static Status twice(const std::string& name) {
    return invalid("'" + printable(name) + "' is given twice");
  }

  Result<void> add_parameter(Assignment assignment) {
    for (const Parameter& parameter : sorted_.parameters) {
      if (parameter.name == assignment.name) return twice(assignment.name);
    }
    sorted_.parameters.push_back({std::move(assignment.name), assignment.integer});
    return {};
  }

  [[nodiscard]] bool has_key(const std::string& buffer) const {
    return std::any_of(sorted_.keys.begin(), sorted_.keys.end(),
                       [&](const auto& bound) { return bound.first == buffer; });
  }

  BoundFile* find_file(const std::string& buffer) {
    const auto found = std::find_if(sorted_.files.begin(), sorted_.files.end(),
                                    [&](const BoundFile& file) { return file.buffer == buffer; });
    return found == sorted_.files.end() ? nullptr : &*found;
  }

  Result<void> add_key(Assignment assignment) {
    if (has_key(assignment.name) || find_file(assignment.name) != nullptr) {
      return twice(assignment.name);
    }
    sorted_.keys.emplace_back(std::move(assignment.name), std::move(assignment.value));
    return {};
  }

  Result<void> add_file(Assignment assignment) {
    if (has_key(assignment.name)) return twice(assignment.name);
    BoundFile* file = find_file(assignment.name);
    if (file == nullptr) {
      sorted_.files.push_back({assignment.name, {}, {}});
      file = &sorted_.files.back();
    }
    std::string& side = assignment.kind == Assignment::Kind::Input ? file->input : file->output;
    if (!side.empty()) return twice(assignment.name);
    side = std::move(assignment.value);
    return {};
  }

  const Roles& roles_;
  RunArguments sorted_;
};

}  // namespace

Result<RunArguments> sort_assignments(const std::vector<std::string>& words, const Roles& roles) {
  Sorter sorter(roles);
  for (const std::string& word : words) {
    KAAS_ASSIGN_OR_RETURN(Assignment assignment, parse_assignment(word));
    KAAS_RETURN_IF_ERROR(sorter.add(std::move(assignment)));
  }
  return sorter.take();
}

bool writes_standard_output(const RunArguments& arguments) {
  return std::any_of(arguments.files.begin(), arguments.files.end(),
                     [](const BoundFile& file) { return file.output == "-"; });
}

Result<void> check_streams(const CommandLine& line, const RunArguments& arguments) {
  std::string reader = line.file == "-" ? "the request" : "";
  std::string writer = line.json ? "the JSON of --json" : "";
  for (const BoundFile& file : arguments.files) {
    const std::string name = "'" + printable(file.buffer) + "'";
    if (file.input == "-") {
      if (!reader.empty()) return twice_used("input", reader, name);
      reader = name;
    }
    if (file.output == "-") {
      if (!writer.empty()) return twice_used("output", writer, name);
      writer = name;
    }
  }
  return {};
}

}  // namespace kaas
