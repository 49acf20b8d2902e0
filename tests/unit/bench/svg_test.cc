#include "tools/bench/svg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

namespace kaas {
namespace {

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

Chart sample_chart() {
  Chart chart;
  chart.title = "latency & rate";
  chart.x = {"clients", true, false, {}};
  chart.y = {"requests/s", false, true, {}};
  chart.series = {{"p50 <median>", {{1, 100}, {2, 190}, {4, 350}}, true, false},
                  {"p99", {{1, 300}, {2, 400}, {4, 900}}, false, true}};
  return chart;
}

TEST(Svg, HasAPolylineASeriesAndEscapesText) {
  const std::string svg = svg_of("a \"caption\"", {sample_chart(), sample_chart()});
  EXPECT_EQ(count_of(svg, "<polyline"), 4u);
  EXPECT_EQ(count_of(svg, "<circle"), 6u);
  EXPECT_NE(svg.find("latency &amp; rate"), std::string::npos);
  EXPECT_NE(svg.find("p50 &lt;median&gt;"), std::string::npos);
  EXPECT_NE(svg.find("a &quot;caption&quot;"), std::string::npos);
  EXPECT_EQ(count_of(svg, "<svg"), count_of(svg, "</svg>"));
}

TEST(Svg, LeavesOutWhatAnAxisCannotShow) {
  Chart chart = sample_chart();
  const double infinity = std::numeric_limits<double>::infinity();
  chart.series = {{"odd", {{0, 5}, {-1, 5}, {1, infinity}, {1, NAN}, {2, 3}}, true, false}};
  const std::string svg = svg_of("", {chart});
  EXPECT_EQ(count_of(svg, "<circle"), 1u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(Svg, PutsTicksWhereTheyAreAskedFor) {
  Chart chart = sample_chart();
  chart.x.ticks = {1, 4};
  const std::string svg = svg_of("", {chart});
  EXPECT_NE(svg.find(">4</text>"), std::string::npos);
  EXPECT_EQ(svg.find(">2</text>"), std::string::npos);
}

TEST(Svg, DrawsAxesWithoutAnyData) {
  Chart chart = sample_chart();
  chart.series.clear();
  const std::string svg = svg_of("", {chart});
  EXPECT_EQ(count_of(svg, "<polyline"), 0u);
  EXPECT_NE(svg.find("clients"), std::string::npos);
}

TEST(AxisTicks, AreRoundAndWithinTheRange) {
  EXPECT_EQ(axis_ticks(0, 100, false), (std::vector<double>{0, 20, 40, 60, 80, 100}));
  EXPECT_EQ(axis_ticks(0.9, 1100, true), (std::vector<double>{1, 10, 100, 1000}));
  EXPECT_EQ(axis_ticks(3, 60, true), (std::vector<double>{5, 10, 20, 50}));
  for (const double tick : axis_ticks(-3.7, 12.1, false)) {
    EXPECT_GE(tick, -3.7);
    EXPECT_LE(tick, 12.1);
  }
}

TEST(AxisTicks, AreAtLeastTwoOnANarrowLogarithmicAxis) {
  EXPECT_GE(axis_ticks(11, 13, true).size(), 2u);
}

TEST(WriteTextFile, NamesThePathThatFails) {
  const Result<void> written = write_text_file("/no/such/folder/plot.svg", "x");
  ASSERT_FALSE(written.has_value());
  EXPECT_NE(written.error().message.find("/no/such/folder/plot.svg"), std::string::npos);
}

TEST(TextFile, WhetherItCanBeWrittenIsSaidWithoutWritingIt) {
  const Result<void> refused = check_can_write("/no/such/folder/plot.svg");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "/no/such/folder/plot.svg: No such file or directory");
  EXPECT_FALSE(check_can_write(testing::TempDir()).has_value()) << "a folder";
  EXPECT_FALSE(check_can_write("").has_value());
  EXPECT_TRUE(check_can_write("/dev/null").has_value());

  const auto path = std::filesystem::path(testing::TempDir()) / "kaas_can_write_test.txt";
  std::filesystem::remove(path);
  EXPECT_TRUE(check_can_write(path.string()).has_value());
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(write_text_file(path.string(), "kept").has_value());
  EXPECT_TRUE(check_can_write(path.string()).has_value());
  EXPECT_EQ(std::filesystem::file_size(path), 4U);
  std::filesystem::remove(path);
}

TEST(WriteTextFile, WritesAllOfIt) {
  const auto path = std::filesystem::path(testing::TempDir()) / "kaas_svg_test.txt";
  ASSERT_TRUE(write_text_file(path.string(), "one\ntwo\n").has_value());
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(text, "one\ntwo\n");
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace kaas
