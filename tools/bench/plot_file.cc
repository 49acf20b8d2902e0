#include "tools/bench/plot_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tools/bench/svg.h"

namespace kaas {
namespace {

using Json = nlohmann::json;

ChartAxis axis_of(const Json& json) {
  return {json.value("label", ""), json.value("logarithmic", false), json.value("from_zero", false),
          json.value("ticks", std::vector<double>{})};
}

ChartSeries series_of(const Json& json) {
  ChartSeries series;
  series.name = json.value("name", "");
  series.marks = json.value("marks", false);
  series.dashed = json.value("dashed", false);
  for (const Json& point : json.at("points")) {
    series.points.emplace_back(point.at(0).get<double>(), point.at(1).get<double>());
  }
  return series;
}

Chart chart_of(const Json& json) {
  Chart chart;
  chart.title = json.value("title", "");
  chart.x = axis_of(json.value("x", Json::object()));
  chart.y = axis_of(json.value("y", Json::object()));
  for (const Json& series : json.at("series")) chart.series.push_back(series_of(series));
  return chart;
}

}  // namespace

Result<std::string> svg_of_description(const std::string& json) {
  try {
    const Json description = Json::parse(json);
    std::vector<Chart> charts;
    for (const Json& chart : description.at("charts")) charts.push_back(chart_of(chart));
    return svg_of(description.value("caption", ""), charts);
  } catch (const Json::exception& error) {
    return Status{StatusCode::InvalidArgument,
                  std::string("not a description of charts: ") + error.what()};
  }
}

Result<void> plot_file(const std::string& from, const std::string& to) {
  errno = 0;
  std::ifstream file(from);
  file.peek();  // A folder can be opened, not read.
  if (!file.is_open() || file.bad()) {
    return Status{StatusCode::NotFound, from + ": can't be read: " + std::strerror(errno)};
  }
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  auto svg = svg_of_description(text);
  if (!svg) return Status{svg.error().code, from + ": " + svg.error().message};
  return write_text_file(to, *svg);
}

}  // namespace kaas
