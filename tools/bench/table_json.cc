// Reports as JSON, both ways, and several as one. docs/measurements/README.md is the format.
#include <algorithm>
#include <type_traits>

#include "tools/bench/table.h"

namespace kaas {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;

// Empty text says that there is none.
json text_json(const std::string& text) {
  return text.empty() ? json() : json(text);
}

json estimate_json(const Estimate& found) {
  if (found.rounds == 0) return nullptr;
  return {
      {"median", found.median}, {"low", found.low}, {"high", found.high}, {"rounds", found.rounds}};
}

json row_json(const TableRow& row) {
  json beside = json::array();
  for (const BesideColumn& column : row.beside) {
    beside.push_back({{"name", column.name},
                      {"figure", estimate_json(estimate(column.rounds))},
                      {"rounds", column.rounds},
                      {"absent", text_json(column.absent)}});
  }
  return {{"row", row.name},
          {"what", row.what},
          {"unit", row.unit},
          {"figure", estimate_json(row.figure)},
          {"figure_rounds", row.figure_rounds},
          {"peer_name", text_json(row.peer_name)},
          {"peer", estimate_json(row.peer)},
          {"peer_rounds", row.peer_rounds},
          {"ratio", estimate_json(row.ratio)},
          {"bound", row.bound},
          {"bound_is", row.at_most ? "at most" : "at least"},
          {"bound_on", row.bound_on_ratio ? "ratio" : "figure"},
          {"judged", row.judged()},
          {"met", row.met()},
          {"stable", row.stable},
          {"error", text_json(row.error)},
          {"beside", beside},
          {"notes", row.notes}};
}

json machine_json(const MachineFacts& machine) {
  return {{"processor", machine.processor},
          {"cores", machine.cores},
          {"virtualised", machine.virtualised},
          {"kernel", machine.kernel},
          {"governor", machine.governor},
          {"memory_bytes", machine.memory_bytes},
          {"load", machine.load},
          {"build", machine.build}};
}

// Reads the fields of one object; the first that is absent or of another kind is the error.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail("", "an object");
  }

  void text(const char* name, std::string& into, bool or_null = false) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (value->is_string()) {
      into = value->get<std::string>();
    } else if (or_null && value->is_null()) {
      into.clear();
    } else {
      fail(name, or_null ? "a text or null" : "a text");
    }
  }
  void flag(const char* name, bool& into) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_boolean()) return fail(name, "true or false");
    into = value->get<bool>();
  }
  template <class Number>
  void number(const char* name, Number& into) {
    const json* value = find(name);
    if (value == nullptr) return;
    if (std::is_unsigned_v<Number> && !value->is_number_unsigned()) {
      return fail(name, "an integer from 0 on");
    }
    if (!value->is_number()) return fail(name, "a number");
    into = value->get<Number>();
  }
  void numbers(const char* name, std::vector<double>& into) {
    const json* value = array(name);
    if (value == nullptr) return;
    into.clear();
    for (const json& item : *value) {
      if (!item.is_number()) return fail(name, "an array of numbers");
      into.push_back(item.get<double>());
    }
  }
  void texts(const char* name, std::vector<std::string>& into) {
    const json* value = array(name);
    if (value == nullptr) return;
    into.clear();
    for (const json& item : *value) {
      if (!item.is_string()) return fail(name, "an array of texts");
      into.push_back(item.get<std::string>());
    }
  }
  // One of two texts; `into`: whether it is `yes`.
  void choice(const char* name, const char* yes, const char* no, bool& into) {
    std::string found;
    text(name, found);
    if (failed_) return;
    if (found != yes && found != no) {
      return fail(name, std::string("'") + yes + "' or '" + no + "'");
    }
    into = found == yes;
  }
  const json* array(const char* name) {
    const json* value = find(name);
    if (value == nullptr || value->is_array()) return value;
    fail(name, "an array");
    return nullptr;
  }
  const json* find(const char* name) {
    if (failed_) return nullptr;
    const auto found = object_.find(name);
    if (found != object_.end()) return &*found;
    fail(name, "present");
    return nullptr;
  }
  void fail(const std::string& name, const std::string& allowed) {
    if (failed_) return;
    failed_ = true;
    std::string found = "absent";
    const json* value = name.empty() ? &object_ : nullptr;
    if (!name.empty() && object_.contains(name)) value = &object_[name];
    if (value != nullptr) found = value->dump().substr(0, 60);
    error_ = {StatusCode::InvalidArgument,
              where_ + (name.empty() ? "" : "." + name) + " is " + found + ", allowed: " + allowed};
  }
  [[nodiscard]] Result<void> result() const {
    return failed_ ? Result<void>(error_) : Result<void>();
  }

 private:
  const json& object_;
  std::string where_;
  bool failed_ = false;
  Status error_;
};

Result<BesideColumn> beside_from_json(const json& object, const std::string& where) {
  BesideColumn column;
  Fields fields(object, where);
  fields.text("name", column.name);
  fields.numbers("rounds", column.rounds);
  fields.text("absent", column.absent, true);
  KAAS_RETURN_IF_ERROR(fields.result());
  return column;
}

Result<TableRow> row_from_json(const json& object, const std::string& where) {
  TableRow row;
  Fields fields(object, where);
  fields.text("row", row.name);
  fields.text("what", row.what);
  fields.text("unit", row.unit);
  fields.text("peer_name", row.peer_name, true);
  fields.number("bound", row.bound);
  fields.choice("bound_is", "at most", "at least", row.at_most);
  fields.choice("bound_on", "ratio", "figure", row.bound_on_ratio);
  fields.numbers("figure_rounds", row.figure_rounds);
  fields.numbers("peer_rounds", row.peer_rounds);
  fields.text("error", row.error, true);
  fields.texts("notes", row.notes);
  const json* beside = fields.array("beside");
  KAAS_RETURN_IF_ERROR(fields.result());
  for (std::size_t i = 0; i < beside->size(); ++i) {
    KAAS_ASSIGN_OR_RETURN(
        BesideColumn column,
        beside_from_json((*beside)[i], where + ".beside[" + std::to_string(i) + "]"));
    row.beside.push_back(std::move(column));
  }
  row.summarise();
  return row;
}

Result<MachineFacts> machine_from_json(const json& object) {
  MachineFacts machine;
  Fields fields(object, "machine");
  fields.text("processor", machine.processor);
  fields.number("cores", machine.cores);
  fields.flag("virtualised", machine.virtualised);
  fields.text("kernel", machine.kernel);
  fields.text("governor", machine.governor);
  fields.number("memory_bytes", machine.memory_bytes);
  fields.number("load", machine.load);
  fields.text("build", machine.build);
  KAAS_RETURN_IF_ERROR(fields.result());
  return machine;
}

Status differ(const std::string& what, const std::string& first, const std::string& second) {
  return {StatusCode::InvalidArgument, "the reports to merge differ in " + what + ": '" + first +
                                           "' and '" + second + "'; merge only runs that agree"};
}

std::string bound_text(const TableRow& row) {
  return (row.at_most ? "at most " : "at least ") + std::to_string(row.bound) + " on the " +
         (row.bound_on_ratio ? "ratio" : "figure") + " in " + row.unit;
}

void append(std::vector<double>& to, const std::vector<double>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// A column that any run has measured is there.
void join_beside(TableRow& into, const TableRow& from) {
  for (const BesideColumn& column : from.beside) {
    const auto same =
        std::find_if(into.beside.begin(), into.beside.end(),
                     [&column](const BesideColumn& known) { return known.name == column.name; });
    if (same == into.beside.end()) {
      into.beside.push_back(column);
      continue;
    }
    append(same->rounds, column.rounds);
    if (!same->rounds.empty()) same->absent.clear();
  }
}

Result<void> join_row(TableRow& into, const TableRow& from) {
  if (bound_text(into) != bound_text(from)) {
    return differ("the bound of row " + into.name, bound_text(into), bound_text(from));
  }
  // A row that failed in one run and was measured in another is measured. Ratios are of
  // neighbouring rounds, so rounds without their peers stay out where others have them.
  const bool replace =
      !into.error.empty() || (into.peer_rounds.empty() && !from.peer_rounds.empty());
  const bool leave = !from.error.empty() || (from.peer_rounds.empty() && !into.peer_rounds.empty());
  if (leave) return {};
  if (replace) {
    into = from;
    return {};
  }
  append(into.figure_rounds, from.figure_rounds);
  append(into.peer_rounds, from.peer_rounds);
  join_beside(into, from);
  for (const std::string& note : from.notes) {
    if (std::find(into.notes.begin(), into.notes.end(), note) == into.notes.end()) {
      into.notes.push_back(note);
    }
  }
  into.summarise();
  return {};
}

}  // namespace

json report_json(const TableReport& report) {
  json rows = json::array();
  for (const TableRow& row : report.rows) rows.push_back(row_json(row));
  return {{"format", kFormat},
          {"kind", report.kind},
          {"when", report.when},
          {"kaasd", report.daemon_version},
          {"quick", report.quick},
          {"machine", machine_json(report.machine)},
          {"device", text_json(report.device)},
          {"pinning", report.pinning},
          {"runs", report.runs},
          {"rows", rows},
          {"all_met", report.all_met()}};
}

Result<TableReport> report_from_json(const json& object) {
  TableReport report;
  Fields fields(object, "report");
  double format = 0;
  fields.number("format", format);
  if (format != kFormat) fields.fail("format", std::to_string(kFormat));
  fields.text("kind", report.kind);
  fields.text("when", report.when);
  fields.text("kaasd", report.daemon_version);
  fields.flag("quick", report.quick);
  fields.text("device", report.device, true);
  fields.text("pinning", report.pinning);
  fields.number("runs", report.runs);
  const json* machine = fields.find("machine");
  const json* rows = fields.array("rows");
  KAAS_RETURN_IF_ERROR(fields.result());
  KAAS_ASSIGN_OR_RETURN(report.machine, machine_from_json(*machine));
  for (std::size_t i = 0; i < rows->size(); ++i) {
    KAAS_ASSIGN_OR_RETURN(TableRow row,
                          row_from_json((*rows)[i], "rows[" + std::to_string(i) + "]"));
    report.rows.push_back(std::move(row));
  }
  return report;
}

Result<TableReport> join_reports(const std::vector<TableReport>& reports) {
  if (reports.empty()) return Status{StatusCode::InvalidArgument, "no report to merge"};
  TableReport joined = reports.front();
  for (std::size_t i = 1; i < reports.size(); ++i) {
    const TableReport& next = reports[i];
    if (next.kind != joined.kind) return differ("kind", joined.kind, next.kind);
    if (next.device != joined.device) return differ("device", joined.device, next.device);
    if (next.quick != joined.quick) {
      return differ("quick", joined.quick ? "true" : "false", next.quick ? "true" : "false");
    }
    joined.runs += next.runs;
    for (const TableRow& row : next.rows) {
      const auto same =
          std::find_if(joined.rows.begin(), joined.rows.end(),
                       [&row](const TableRow& known) { return known.name == row.name; });
      if (same == joined.rows.end()) {
        joined.rows.push_back(row);
      } else {
        KAAS_RETURN_IF_ERROR(join_row(*same, row));
      }
    }
  }
  return joined;
}

}  // namespace kaas
