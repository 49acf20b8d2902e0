#include "tools/bench/plot_file.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

TEST(PlotFile, ADescriptionBecomesAChart) {
  const auto svg = svg_of_description(R"({
    "caption": "all of it",
    "charts": [{"title": "latency", "x": {"label": "kernels", "logarithmic": true, "ticks": [1, 8]},
                "y": {"label": "us", "from_zero": true},
                "series": [{"name": "KaaS", "points": [[1, 2.5], [8, 4]], "marks": true},
                           {"name": "own", "points": [[1, 3], [8, 20]], "dashed": true}]}]})");
  ASSERT_TRUE(svg.has_value()) << to_string(svg.error());
  for (const char* part : {"all of it", "latency", "kernels", "KaaS", "own", "<polyline"}) {
    EXPECT_NE(svg->find(part), std::string::npos) << part;
  }
}

TEST(PlotFile, WhatIsNoDescriptionIsRefused) {
  for (const char* text : {"", "no json", "[]", "{}", R"({"charts": 5})", R"({"charts": [{}]})",
                           R"({"charts": [{"series": [{"name": "x"}]}]})",
                           R"({"charts": [{"series": [{"points": [[1]]}]}]})",
                           R"({"charts": [{"series": [{"points": [["a", 1]]}]}]})",
                           R"({"charts": [{"title": 7, "series": []}]})"}) {
    const auto svg = svg_of_description(text);
    ASSERT_FALSE(svg.has_value()) << text;
    EXPECT_EQ(svg.error().code, StatusCode::InvalidArgument);
  }
}

TEST(PlotFile, AFileThatIsNotThereIsNamed) {
  const auto drawn = plot_file("/nonexistent/charts.json", "/nonexistent/charts.svg");
  ASSERT_FALSE(drawn.has_value());
  EXPECT_NE(drawn.error().message.find("/nonexistent/charts.json"), std::string::npos);
}

}  // namespace
}  // namespace kaas
