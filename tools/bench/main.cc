// kaas-bench: measures kaasd. docs/kaas-bench.md is the manual.
// Exit status: 0 done, 1 a request failed, there is no GPU, or (with --check) a row is missed, 2
// wrong usage, 3 no daemon.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "tools/bench/gpu.h"
#include "tools/bench/mps.h"
#include "tools/bench/plot_file.h"
#include "tools/bench/run_command.h"
#include "tools/bench/stages.h"
#include "tools/bench/suite.h"

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitWrongUsage = 2;
constexpr int kExitNoDaemon = 3;

int fail(const kaas::Status& status) {
  std::fprintf(stderr, "kaas-bench: %s\n", to_string(status).c_str());
  return status.code == kaas::StatusCode::Unavailable ? kExitNoDaemon : kExitFailed;
}

// How the report of a table is asked for.
struct Output {
  std::string json;
  bool check = false;
};

void print_row(const kaas::TableRow& row) {
  std::printf("%s\n", row_lines(row).c_str());
  std::fflush(stdout);
}

// What is left to do when all rows are printed; the exit status.
int finish_table(const kaas::TableReport& report, const Output& output) {
  if (!output.json.empty()) {
    const auto written = kaas::write_text_file(output.json, report_json(report).dump(2) + "\n");
    if (!written) return fail(written.error());
  }
  const bool failed = std::any_of(report.rows.begin(), report.rows.end(),
                                  [](const kaas::TableRow& row) { return !row.error.empty(); });
  std::printf("\n%s\n", report.all_met() ? "all met" : "NOT all met");
  return failed || (output.check && !report.all_met()) ? kExitFailed : 0;
}

void print_heading(bool quick, const char* more = "") {
  std::printf("%s\npinning: none; rounds of figure and peer in turns%s%s\n\n%s\n",
              to_string(kaas::machine_facts()).c_str(),
              quick ? "; QUICK: too few rounds for a verdict" : "", more,
              kaas::table_heading().c_str());
  std::fflush(stdout);
}

int run_suite(const kaas::SuiteOptions& options, const Output& output) {
  print_heading(options.quick);
  const auto report = kaas::run_suite(options, print_row);
  return report ? finish_table(*report, output) : fail(report.error());
}

int run_gpu(const kaas::GpuOptions& options, const std::vector<std::string>& merge,
            const Output& output) {
  if (merge.empty()) {
    print_heading(options.quick,
                  options.device == "host" ? "; HOST DEVICE: the bounds are those of a GPU" : "");
  }
  const auto report = merge.empty() ? kaas::run_gpu(options, print_row)
                                    : kaas::merge_gpu_reports(merge, options.rows);
  if (!report) {
    fail(report.error());
    return kExitFailed;
  }
  if (!merge.empty()) {
    std::printf("%u runs on %s; %s\n\n%s\n", report->runs, report->device.c_str(),
                to_string(report->machine).c_str(), kaas::table_heading().c_str());
    for (const kaas::TableRow& row : report->rows) print_row(row);
  }
  return finish_table(*report, output);
}

int run_target(const kaas::RunCommand& command, const std::string& json, const std::string& plot) {
  if (const auto right = kaas::check_form(command); !right) {
    fail(right.error());
    return kExitWrongUsage;
  }
  std::printf("%s\n%s\n\n", command.target.c_str(), to_string(kaas::machine_facts()).c_str());
  const auto report = kaas::run_command(command);
  if (!report) return fail(report.error());
  if (!json.empty()) {
    const auto written = kaas::write_text_file(json, run_json(*report).dump(2) + "\n");
    if (!written) return fail(written.error());
  }
  if (!plot.empty()) {
    const auto written = kaas::write_text_file(
        plot, kaas::svg_of("kaas-bench run " + command.target, run_charts(*report)));
    if (!written) return fail(written.error());
  }
  return 0;
}

int run_stages(const kaas::StagesOptions& options, const std::string& json) {
  const auto report = kaas::run_stages(options);
  if (!report) return fail(report.error());
  std::printf("%s", to_string(*report).c_str());
  if (json.empty()) return 0;
  const auto written = kaas::write_text_file(json, stages_json(*report).dump(2) + "\n");
  return written ? 0 : fail(written.error());
}

// Until standard input ends.
int run_mps() {
  const auto mps = kaas::Mps::start();
  if (!mps) {
    fail(mps.error());
    return kExitFailed;
  }
  for (const std::string& variable : mps->environment()) std::printf("%s\n", variable.c_str());
  std::printf("\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
  }
  return 0;
}

// A file that can be written. What can't be is refused before anything is measured.
CLI::Validator writable_file() {
  return CLI::Validator(
      [](const std::string& path) {
        const auto can = kaas::check_can_write(path);
        return can ? std::string() : can.error().message;
      },
      "");
}

// As CLI::Range, which lets "nan" through.
CLI::Validator between(double low, double high) {
  return CLI::Validator(
      [low, high](const std::string& text) {
        double value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool is_number = error == std::errc() && end == text.data() + text.size();
        if (is_number && value >= low && value <= high) return std::string();
        char allowed[64];
        std::snprintf(allowed, sizeof allowed, "%g to %g", low, high);
        return "is '" + text + "', allowed: " + allowed;
      },
      "");
}

void add_output(CLI::App& command, Output& output) {
  command.add_option("--json", output.json, "Write the report to this file")
      ->check(writable_file());
  command.add_flag("--check", output.check, "Exit with 1 unless all rows are met");
}

void add_suite(CLI::App& app, kaas::SuiteOptions& options, Output& output) {
  CLI::App* suite = app.add_subcommand("suite", "Measure what must be fast, beside its peers");
  suite->add_option("--rows", options.rows, "Only these rows")
      ->delimiter(',')
      ->check(CLI::IsMember(kaas::suite_row_names()));
  suite->add_option("--socket", options.socket, "Of a running kaasd; else one is started");
  suite->add_flag("--quick", options.quick, "Few rounds, small objects: no verdict");
  add_output(*suite, output);
}

void add_gpu(CLI::App& app, kaas::GpuOptions& options, std::vector<std::string>& merge,
             Output& output) {
  CLI::App* gpu = app.add_subcommand(
      "gpu", "Measure what must be fast on a GPU, beside programs with contexts of their own");
  gpu->add_option("--rows", options.rows, "Only these rows")
      ->delimiter(',')
      ->check(CLI::IsMember(kaas::gpu_row_names()));
  CLI::Option* device =
      gpu->add_option("--device", options.device, "cuda, or host: the rows without their peer")
          ->check(CLI::IsMember({"cuda", "host"}))
          ->capture_default_str();
  CLI::Option* quick = gpu->add_flag("--quick", options.quick, "Few rounds: no verdict");
  CLI::Option* spin =
      gpu->add_option("--spin-us", options.spin_us, "How long clients poll before they sleep")
          ->capture_default_str();
  gpu->add_option("--merge", merge, "Measure nothing: join the reports of earlier runs")
      ->excludes(device)
      ->excludes(quick)
      ->excludes(spin);
  add_output(*gpu, output);
}

void add_run(CLI::App& app, kaas::RunCommand& command, std::string& json, std::string& plot) {
  CLI::App* run = app.add_subcommand("run", "Measure a request or a function under load");
  run->add_option("target", command.target, "File with a request as JSON, or a function's name")
      ->required();
  run->add_option("parameters", command.parameters, "NAME=INTEGER of a function");
  run->add_option("--at", command.bindings,
                  "BUFFER=KEY: bind a buffer; {client} in KEY is the client's number")
      ->allow_extra_args(false);
  run->add_option("--fill", command.fills, "KEY=BYTES: put such an object first")
      ->allow_extra_args(false);
  run->add_option("--clients", command.clients, "Numbers of clients to go through")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  run->add_option("--rates", command.rates,
                  "Requests a second to go through; else shares of the closed loop's best")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(between(0.1, 1e8));
  run->add_flag("--closed", command.closed_only, "No open loop");
  run->add_option("--depth", command.depth, "Closed loop: requests under way a client")
      ->check(CLI::Range(1, 200))
      ->capture_default_str();
  run->add_flag("--poisson", command.poisson, "Open loop: starts at random distances");
  run->add_option("--seed", command.seed, "Of the random distances")
      ->check(between(0, 1e18))
      ->capture_default_str();
  run->add_option("--round", command.round_seconds, "Seconds of a round")
      ->check(between(0.01, 600))
      ->capture_default_str();
  run->add_option("--time", command.seconds_max, "Seconds of a point at most")
      ->check(between(0.01, 3600))
      ->capture_default_str();
  run->add_option("--socket", command.socket, "Of kaasd; else where clients look");
  run->add_flag("--start", command.own_daemon, "Start a kaasd for this run")->excludes("--socket");
  run->add_option("--json", json, "Write the report to this file")->check(writable_file());
  run->add_option("--plot", plot, "Write a picture to this SVG file")->check(writable_file());
}

void add_stages(CLI::App& app, kaas::StagesOptions& options, std::string& json) {
  CLI::App* stages = app.add_subcommand("stages", "Show where the time of a request goes");
  stages->add_option("--socket", options.socket, "Of kaasd; else where clients look");
  stages->add_option("--kernels", options.kernels, "Small kernels a request; 0: a null request")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  stages->add_option("--requests", options.requests, "How many, stamped and not, in turns")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  stages->add_option("--every-us", options.every_us, "Sleep so long before each request; 0: do not")
      ->check(CLI::Range(std::uint64_t{0}, kaas::kStagesEveryUsMax))
      ->capture_default_str();
  stages->add_option("--spin-us", options.spin_us,
                     "How long the client polls before it sleeps; else 1000, with --every-us as "
                     "clients do");
  stages->add_option("--json", json, "Write the report to this file")->check(writable_file());
}

void add_plot(CLI::App& app, std::string& from, std::string& to) {
  CLI::App* plot = app.add_subcommand("plot", "Draw charts that a JSON file describes as SVG");
  plot->add_option("description", from, "The JSON file")->required();
  plot->add_option("svg", to, "The SVG file to write")->required()->check(writable_file());
}

// Whether the first word, if it is no option, is a subcommand; else it is told.
bool knows_subcommand(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return true;
  std::string allowed;
  for (const CLI::App* known : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (known->get_name() == argv[1]) return true;
    allowed += (allowed.empty() ? "" : ", ") + known->get_name();
  }
  std::fprintf(stderr, "kaas-bench: subcommand is '%s', allowed: %s\n", argv[1], allowed.c_str());
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures kaasd.", "kaas-bench");
  app.require_subcommand(1);
  kaas::SuiteOptions suite;
  kaas::GpuOptions gpu;
  kaas::RunCommand command;
  kaas::StagesOptions stages;
  std::vector<std::string> merge;
  Output output;
  std::string plot;
  std::string description;
  add_suite(app, suite, output);
  add_gpu(app, gpu, merge, output);
  add_run(app, command, output.json, plot);
  add_stages(app, stages, output.json);
  add_plot(app, description, plot);
  app.add_subcommand("mps", "Run CUDA MPS until the input ends; print the environment to use it");
  if (!knows_subcommand(app, argc, argv)) return kExitWrongUsage;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitWrongUsage;
  }
  if (app.got_subcommand("suite")) return run_suite(suite, output);
  if (app.got_subcommand("gpu")) return run_gpu(gpu, merge, output);
  if (app.got_subcommand("stages")) return run_stages(stages, output.json);
  if (app.got_subcommand("mps")) return run_mps();
  if (app.got_subcommand("plot")) {
    const auto drawn = kaas::plot_file(description, plot);
    return drawn ? 0 : fail(drawn.error());
  }
  return run_target(command, output.json, plot);
}
