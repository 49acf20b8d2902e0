// Charts that other programs describe, as SVG: kaas-bench plot.
//
// A description is JSON: {"caption": TEXT, "charts": [{"title": TEXT, "x": AXIS, "y": AXIS,
// "series": [{"name": TEXT, "points": [[X, Y], ...], "marks": BOOL, "dashed": BOOL}]}]}, an AXIS
// {"label": TEXT, "logarithmic": BOOL, "from_zero": BOOL, "ticks": [NUMBER, ...]}. What is absent
// is empty or false. svg.h says what they mean.
// Threads: any.
#pragma once

#include <string>

#include "schema/ipc/result.h"

namespace kaas {

// The SVG file's text. InvalidArgument says what is no such description.
Result<std::string> svg_of_description(const std::string& json);

// Reads the description at `from` and writes its SVG to `to`.
Result<void> plot_file(const std::string& from, const std::string& to);

}  // namespace kaas
