#include "tools/bench/table.h"

#include <time.h>

#include <algorithm>
#include <cstdio>

#include "schema/ipc/clock.h"

namespace kaas {
namespace {

constexpr std::size_t kRoundsMin = 9;
constexpr std::size_t kRoundsMax = 200;
constexpr std::uint64_t kRowNs = 20'000'000'000;
constexpr std::size_t kQuickRounds = 2;
constexpr double kSpreadMax = 0.10;

std::string utc_now() {
  const time_t now = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string number(const char* format, double value) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Three significant digits, without an exponent.
std::string figure_text(double value) {
  if (value >= 100) return number("%.0f", value);
  if (value >= 10) return number("%.1f", value);
  return number("%.2f", value);
}

std::string ratio_text(const Estimate& ratio) {
  if (ratio.rounds == 0) return "-";
  return number(ratio.median < 0.1 ? "%.4f" : "%.2f", ratio.median);
}

std::string estimate_text(const Estimate& found, const std::string& unit) {
  if (found.rounds == 0) return "-";
  return figure_text(found.median) + " [" + figure_text(found.low) + ", " +
         figure_text(found.high) + "] " + unit;
}

// Whether the interval leaves no doubt on which side of the bound the value is.
bool clear_of_bound(const Estimate& found, double bound) {
  return found.high < bound || found.low > bound;
}

std::string verdict(const TableRow& row) {
  if (row.error.empty() && !row.judged()) return "not judged";
  return row.met() ? "met" : "MISSED";
}

}  // namespace

void TableRow::summarise() {
  figure = estimate(figure_rounds);
  peer = estimate(peer_rounds);
  ratio = estimate(ratios(figure_rounds, peer_rounds));
  const Estimate& held = bound_on_ratio ? ratio : figure;
  stable = judged() && (held.spread() <= kSpreadMax || clear_of_bound(held, bound));
}

bool TableRow::judged() const noexcept {
  return (bound_on_ratio ? ratio : figure).rounds != 0;
}

bool TableRow::met() const noexcept {
  if (!error.empty() || !judged()) return false;
  const double held = bound_on_ratio ? ratio.median : figure.median;
  return at_most ? held <= bound : held >= bound;
}

bool TableReport::all_met() const noexcept {
  return std::all_of(rows.begin(), rows.end(), [](const TableRow& row) { return row.met(); });
}

TableReport new_report(const std::string& kind, bool quick) {
  TableReport report;
  report.kind = kind;
  report.machine = machine_facts();
  report.when = utc_now();
  report.quick = quick;
  return report;
}

Result<void> measure_rounds(bool quick, TableRow& row, RowRounds& rounds,
                            const std::function<Result<void>()>& round) {
  const std::uint64_t end_ns = now_ns() + kRowNs;
  const std::size_t rounds_min = quick ? kQuickRounds : kRoundsMin;
  for (std::size_t done = 0; done < kRoundsMax; ++done) {
    KAAS_RETURN_IF_ERROR(round());
    row.figure_rounds = rounds.ours;
    row.peer_rounds = rounds.peers;
    row.summarise();
    if (done + 1 < rounds_min) continue;
    // What can't be judged is not measured for longer.
    if (quick || row.stable || !row.judged() || now_ns() >= end_ns) break;
  }
  return {};
}

TableRow run_row(const RowSpec& spec, const std::function<Result<void>(TableRow&)>& measure) {
  TableRow row;
  static_cast<RowSpec&>(row) = spec;
  const Result<void> measured = measure(row);
  if (!measured) row.error = to_string(measured.error());
  return row;
}

Result<std::vector<std::size_t>> chosen_rows(const std::vector<std::string>& known,
                                             const std::vector<std::string>& wanted) {
  for (const std::string& name : wanted) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string all;
    for (const std::string& row : known) all += (all.empty() ? "" : ", ") + row;
    return Status{StatusCode::InvalidArgument, "row is '" + name + "', allowed: " + all};
  }
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), known[i]) != wanted.end()) {
      chosen.push_back(i);
    }
  }
  return chosen;
}

std::string table_heading() {
  char line[256];
  std::snprintf(line, sizeof line, "%-13s %-38s %-36s %8s  %-9s %s", "row",
                "figure [95 % interval]", "peer", "ratio", "bound", "");
  return line;
}

std::string row_lines(const TableRow& row) {
  static constexpr const char* kIndent = "\n              ";
  const std::string peer = row.peer_name.empty() ? "-" : estimate_text(row.peer, row.unit);
  const std::string bound =
      std::string(row.at_most ? "<= " : ">= ") +
      (row.bound >= 1000 ? number("%.0f", row.bound) : number("%g", row.bound));
  char line[512];
  std::snprintf(line, sizeof line, "%-13s %-38s %-36s %8s  %-9s %s", row.name.c_str(),
                estimate_text(row.figure, row.unit).c_str(), peer.c_str(),
                ratio_text(row.ratio).c_str(), bound.c_str(), verdict(row).c_str());
  std::string text = line + (kIndent + row.what);
  if (!row.peer_name.empty()) text += "; peer: " + row.peer_name;
  text += "; " + std::to_string(row.figure.rounds) + " rounds";
  if (!row.error.empty()) text += kIndent + ("error: " + row.error);
  for (const BesideColumn& column : row.beside) {
    text += kIndent + ("beside: " + column.name + ": ") +
            (column.absent.empty() ? estimate_text(estimate(column.rounds), row.unit)
                                   : "-, " + column.absent);
  }
  for (const std::string& note : row.notes) text += kIndent + note;
  if (row.error.empty() && row.judged() && !row.stable) {
    text += kIndent + std::string("unstable: the interval is wide");
  }
  return text;
}

}  // namespace kaas
