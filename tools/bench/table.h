// Tables of what must be fast: rows with a figure, often a peer, and a bound; how they are
// measured, judged, printed, written as JSON, read back and joined.
//
// A row repeats rounds until the interval of its median (statistics.h) is narrow or its time is up,
// and leaves out none of them. Where there is a peer, the ratio is the median of the ratios of
// neighbouring rounds, so that a drift of the machine touches both.
// Threads: one.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "schema/ipc/result.h"
#include "tools/bench/machine.h"
#include "tools/bench/statistics.h"

namespace kaas {

// What a row is before it is measured. `unit` is of figure and peer; `bound` is of the ratio where
// bound_on_ratio, else of the figure.
struct RowSpec {
  std::string name;
  std::string what;
  std::string unit;
  std::string peer_name;  // Empty: no peer.
  double bound = 0;
  bool at_most = true;  // Else at least.
  bool bound_on_ratio = false;
};

// Something that a row shows beside figure and peer, without a bound. In the row's unit.
struct BesideColumn {
  std::string name;
  std::vector<double> rounds;
  std::string absent;  // Not empty: why it was not measured.
};

struct TableRow : RowSpec {
  std::vector<double> figure_rounds;
  std::vector<double> peer_rounds;  // Empty where there is no peer.
  std::vector<BesideColumn> beside;
  Estimate figure;
  Estimate peer;
  Estimate ratio;
  bool stable = false;  // The interval of what the bound is on is narrow, or clear of the bound.
  std::string error;    // Not empty: it could not be measured, and is not met.
  std::vector<std::string> notes;

  // Figure, peer, ratio and stable anew, from the rounds.
  void summarise();
  // Whether there is a value that the bound can be held against: a bound on a ratio needs a peer.
  [[nodiscard]] bool judged() const noexcept;
  [[nodiscard]] bool met() const noexcept;
};

struct TableReport {
  std::string kind;  // "suite", "gpu"
  MachineFacts machine;
  std::string device;  // Empty: not told.
  std::string when;    // UTC.
  std::string daemon_version;
  std::string pinning = "none: the kernel places all processes";
  bool quick = false;
  unsigned runs = 1;  // How many it was joined from.
  std::vector<TableRow> rows;

  [[nodiscard]] bool all_met() const noexcept;
};

// A report without rows: the machine, and the time.
[[nodiscard]] TableReport new_report(const std::string& kind, bool quick);

// What one row has measured so far.
struct RowRounds {
  std::vector<double> ours;
  std::vector<double> peers;
};
// Repeats `round`, which measures once and appends to `rounds`, until `row` is stable or its time
// is up; twice, if `quick`.
Result<void> measure_rounds(bool quick, TableRow& row, RowRounds& rounds,
                            const std::function<Result<void>()>& round);
// The row of `spec`; what goes wrong in `measure` is in its `error`.
TableRow run_row(const RowSpec& spec, const std::function<Result<void>(TableRow&)>& measure);

// Which rows of `known` are meant by `wanted` (empty: all), in the table's order. InvalidArgument
// names one that is unknown, and all that are known.
Result<std::vector<std::size_t>> chosen_rows(const std::vector<std::string>& known,
                                             const std::vector<std::string>& wanted);

// The line above all, and the lines of one row.
[[nodiscard]] std::string table_heading();
[[nodiscard]] std::string row_lines(const TableRow& row);

// The format of docs/measurements/README.md.
[[nodiscard]] nlohmann::json report_json(const TableReport& report);
// Reads what report_json wrote. InvalidArgument names the field.
Result<TableReport> report_from_json(const nlohmann::json& json);

// Several runs as one: the rounds of a row are those of all runs in which it was measured.
// InvalidArgument, naming both, if runs differ in kind, device, quick or a row's bound.
Result<TableReport> join_reports(const std::vector<TableReport>& reports);

}  // namespace kaas
