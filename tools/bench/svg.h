// Line charts as one SVG file, panels side by side, without any dependency.
// Threads: values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// One line of a chart. Points with a coordinate that its axis cannot show (not finite, or not
// positive on a logarithmic axis) are left out.
struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;
  bool marks = false;  // A dot at each point.
  bool dashed = false;
};

struct ChartAxis {
  std::string label;
  bool logarithmic = false;
  bool from_zero = false;     // Linear axes only: begins at 0 whatever the data.
  std::vector<double> ticks;  // Where they stand; empty: at round numbers.
};

struct Chart {
  std::string title;
  ChartAxis x;
  ChartAxis y;
  std::vector<ChartSeries> series;
};

// The whole file's text. `caption` stands above the panels.
[[nodiscard]] std::string svg_of(const std::string& caption, const std::vector<Chart>& charts);

// Where the ticks of an axis stand that shows [low, high]: round numbers, at least two.
// Logarithmic: powers of ten, and 2 and 5 times those where they are few.
[[nodiscard]] std::vector<double> axis_ticks(double low, double high, bool logarithmic);

// Whether write_text_file() could write there: what is there stays, what is not is not made. Fails:
// InvalidArgument, with the reason.
Result<void> check_can_write(const std::string& path);
Result<void> write_text_file(const std::string& path, const std::string& text);

}  // namespace kaas
