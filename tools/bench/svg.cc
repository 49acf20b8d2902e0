#include "tools/bench/svg.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

namespace kaas {
namespace {

constexpr double kPanelWidth = 560, kPanelHeight = 400;
constexpr double kLeft = 74, kRight = 24, kTop = 44, kBottom = 58;  // Margins in a panel.
constexpr double kCaption = 34;
constexpr double kLegendStep = 17;
constexpr std::size_t kPointsMax = 1500;  // More can't be seen, and make the file large.
// Told apart by most kinds of colour blindness (Okabe and Ito), then repeated.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                    "#e69f00", "#56b4e9", "#000000"};

std::string number(double value, const char* format = "%.2f") {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '"') {
      result += "&quot;";
    } else {
      result += c;
    }
  }
  return result;
}

// 20000 as "20k": short enough to stand beside a tick.
std::string tick_text(double value) {
  const double size = std::abs(value);
  if (size >= 1e6) return number(value / 1e6, "%g") + "M";
  if (size >= 1e4) return number(value / 1e3, "%g") + "k";
  return number(value, "%g");
}

bool showable(double value, const ChartAxis& axis) {
  return std::isfinite(value) && (!axis.logarithmic || value > 0);
}

// An axis with the range it shows: data values to a fraction of its length.
struct Scale {
  double low = 0;
  double high = 1;
  bool logarithmic = false;

  [[nodiscard]] double at(double value) const {
    if (logarithmic) return std::log(value / low) / std::log(high / low);
    return (value - low) / (high - low);
  }
};

Scale scale_of(const Chart& chart, bool along_x) {
  const ChartAxis& axis = along_x ? chart.x : chart.y;
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const ChartSeries& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      if (!showable(x, chart.x) || !showable(y, chart.y)) continue;
      low = std::min(low, along_x ? x : y);
      high = std::max(high, along_x ? x : y);
    }
  }
  if (low > high) low = axis.logarithmic ? 1 : 0, high = axis.logarithmic ? 10 : 1;
  if (axis.logarithmic) {
    if (high / low < 2) low /= 2, high *= 2;
    return {low / 1.08, high * 1.08, true};
  }
  if (axis.from_zero) low = std::min(low, 0.0);
  if (high == low) high = low + 1;
  const double margin = (high - low) * 0.04;
  return {axis.from_zero && low >= 0 ? low : low - margin, high + margin, false};
}

struct Panel {
  Scale x, y;
  double left, top;  // Of the plot area, in the file.

  [[nodiscard]] double width() const { return kPanelWidth - kLeft - kRight; }
  [[nodiscard]] double height() const { return kPanelHeight - kTop - kBottom; }
  [[nodiscard]] double at_x(double value) const { return left + x.at(value) * width(); }
  [[nodiscard]] double at_y(double value) const { return top + (1 - y.at(value)) * height(); }
};

void draw_text(std::string& svg, double x, double y, const char* anchor, const std::string& text,
               const char* more = "") {
  svg += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\"" +
         more + ">" + escaped(text) + "</text>\n";
}

void draw_line(std::string& svg, double x1, double y1, double x2, double y2, const char* colour) {
  svg += "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) +
         "\" y2=\"" + number(y2) + "\" stroke=\"" + colour + "\"/>\n";
}

std::vector<double> ticks_of(const ChartAxis& axis, const Scale& scale) {
  return axis.ticks.empty() ? axis_ticks(scale.low, scale.high, scale.logarithmic) : axis.ticks;
}

void draw_axes(std::string& svg, const Chart& chart, const Panel& panel) {
  const double right = panel.left + panel.width();
  const double bottom = panel.top + panel.height();
  for (const double tick : ticks_of(chart.x, panel.x)) {
    const double x = panel.at_x(tick);
    draw_line(svg, x, panel.top, x, bottom, "#e4e4e4");
    draw_text(svg, x, bottom + 17, "middle", tick_text(tick));
  }
  for (const double tick : ticks_of(chart.y, panel.y)) {
    const double y = panel.at_y(tick);
    draw_line(svg, panel.left, y, right, y, "#e4e4e4");
    draw_text(svg, panel.left - 7, y + 4, "end", tick_text(tick));
  }
  draw_line(svg, panel.left, bottom, right, bottom, "#444444");
  draw_line(svg, panel.left, panel.top, panel.left, bottom, "#444444");
  draw_text(svg, panel.left + panel.width() / 2, panel.top - 14, "middle", chart.title,
            " font-weight=\"bold\" font-size=\"14\"");
  draw_text(svg, panel.left + panel.width() / 2, bottom + 40, "middle", chart.x.label);
  const double x = panel.left - 54;
  const double y = panel.top + panel.height() / 2;
  const std::string turn = " transform=\"rotate(-90 " + number(x) + " " + number(y) + ")\"";
  draw_text(svg, x, y, "middle", chart.y.label, turn.c_str());
}

void draw_series(std::string& svg, const Chart& chart, const Panel& panel,
                 const ChartSeries& series, const char* colour) {
  const std::size_t stride = series.points.size() / kPointsMax + 1;
  std::string line;
  std::string marks;
  for (std::size_t i = 0; i < series.points.size(); ++i) {
    if (i % stride != 0 && i + 1 != series.points.size()) continue;
    const auto& [x, y] = series.points[i];
    if (!showable(x, chart.x) || !showable(y, chart.y)) continue;
    const std::string at_x = number(panel.at_x(x));
    const std::string at_y = number(panel.at_y(y));
    line += at_x + "," + at_y + " ";
    if (series.marks) {
      marks +=
          "<circle cx=\"" + at_x + "\" cy=\"" + at_y + "\" r=\"3\" fill=\"" + colour + "\"/>\n";
    }
  }
  if (line.empty()) return;
  svg += "<polyline fill=\"none\" stroke-width=\"1.8\" stroke-linejoin=\"round\" stroke=\"" +
         std::string(colour) + "\"" + (series.dashed ? " stroke-dasharray=\"6 4\"" : "") +
         " points=\"" + line + "\"/>\n" + marks;
}

// Whether any series has a point in the part of the plot area given as fractions from its top left.
bool occupied(const Chart& chart, const Panel& panel, double x1, double y1, double x2, double y2) {
  for (const ChartSeries& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      if (!showable(x, chart.x) || !showable(y, chart.y)) continue;
      const double at_x = panel.x.at(x);
      const double at_y = 1 - panel.y.at(y);
      if (at_x >= x1 && at_x <= x2 && at_y >= y1 && at_y <= y2) return true;
    }
  }
  return false;
}

// In the corner that the data leaves free, if one does.
void draw_legend(std::string& svg, const Chart& chart, const Panel& panel) {
  if (chart.series.size() < 2) return;
  std::size_t longest = 0;
  for (const ChartSeries& series : chart.series) longest = std::max(longest, series.name.size());
  const double width = 34 + 6.6 * static_cast<double>(longest);
  const double height = kLegendStep * static_cast<double>(chart.series.size()) + 8;
  const double share_x = (width + 12) / panel.width();
  const double share_y = (height + 12) / panel.height();
  bool right = true;
  bool low = true;
  for (const auto& [try_right, try_low] :
       {std::pair{true, true}, {false, false}, {true, false}, {false, true}}) {
    if (occupied(chart, panel, try_right ? 1 - share_x : 0, try_low ? 1 - share_y : 0,
                 try_right ? 1 : share_x, try_low ? 1 : share_y)) {
      continue;
    }
    right = try_right;
    low = try_low;
    break;
  }
  const double x = right ? panel.left + panel.width() - width - 6 : panel.left + 8;
  const double y = low ? panel.top + panel.height() - height - 6 : panel.top + 6;
  svg += "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) +
         "\" height=\"" + number(height) + "\" fill=\"#ffffff\" fill-opacity=\"0.85\"" +
         " stroke=\"#cccccc\"/>\n";
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const double row = y + kLegendStep * static_cast<double>(i) + 16;
    svg += "<line x1=\"" + number(x + 6) + "\" y1=\"" + number(row - 4) + "\" x2=\"" +
           number(x + 24) + "\" y2=\"" + number(row - 4) + "\" stroke-width=\"2\" stroke=\"" +
           kColours[i % std::size(kColours)] + "\"" +
           (chart.series[i].dashed ? " stroke-dasharray=\"6 4\"" : "") + "/>\n";
    draw_text(svg, x + 29, row, "start", chart.series[i].name);
  }
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, bool logarithmic) {
  std::vector<double> ticks;
  if (logarithmic) {
    const int first = static_cast<int>(std::floor(std::log10(low)));
    const int last = static_cast<int>(std::ceil(std::log10(high)));
    const bool dense = std::log10(high / low) < 3;
    for (int power = first; power <= last; ++power) {
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double tick = digit * std::pow(10.0, power);
        if ((digit == 1.0 || dense) && tick >= low && tick <= high) ticks.push_back(tick);
      }
    }
    if (ticks.size() >= 2) return ticks;
    return {low, high};
  }
  const double rough = (high - low) / 6;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double digit : {1.0, 2.0, 5.0, 10.0}) {
    step = digit * power;
    if (step >= rough) break;
  }
  for (double n = std::ceil(low / step); n * step <= high + step * 1e-9; ++n) {
    ticks.push_back(n * step);
  }
  return ticks;
}

std::string svg_of(const std::string& caption, const std::vector<Chart>& charts) {
  const double width = kPanelWidth * static_cast<double>(std::max<std::size_t>(charts.size(), 1));
  const double height = kPanelHeight + kCaption;
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(width, "%.0f") +
                    "\" height=\"" + number(height, "%.0f") + "\" viewBox=\"0 0 " +
                    number(width, "%.0f") + " " + number(height, "%.0f") +
                    "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n" +
                    "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  draw_text(svg, kLeft, 24, "start", caption, " font-size=\"15\"");
  for (std::size_t i = 0; i < charts.size(); ++i) {
    const Chart& chart = charts[i];
    const Panel panel{scale_of(chart, true), scale_of(chart, false),
                      kPanelWidth * static_cast<double>(i) + kLeft, kCaption + kTop};
    draw_axes(svg, chart, panel);
    for (std::size_t k = 0; k < chart.series.size(); ++k) {
      draw_series(svg, chart, panel, chart.series[k], kColours[k % std::size(kColours)]);
    }
    draw_legend(svg, chart, panel);
  }
  svg += "</svg>\n";
  return svg;
}

Result<void> check_can_write(const std::string& path) {
  if (path.empty()) return Status{StatusCode::InvalidArgument, "the file's name is empty"};
  struct stat found {};
  const bool exists = ::stat(path.c_str(), &found) == 0;
  // A pipe or a terminal is not opened: whoever reads it would see that it is closed.
  if (exists && !S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) return {};
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) {
    return Status{StatusCode::InvalidArgument, path + ": " + std::strerror(errno)};
  }
  std::fclose(file);
  if (!exists) ::unlink(path.c_str());
  return {};
}

Result<void> write_text_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return Status{StatusCode::InvalidArgument, path + ": " + std::strerror(errno)};
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) != 0 || !written) {
    return Status{StatusCode::ResourceExhausted, path + ": " + std::strerror(errno)};
  }
  return {};
}

}  // namespace kaas
