#include "tools/bench/run_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <random>

#include "tools/bench/daemon_process.h"
#include "tools/bench/machine.h"
#include "tools/bench/statistics.h"
#include "tools/request_json/request_json.h"

namespace kaas {
namespace {

constexpr double kShares[] = {0.2, 0.4, 0.6, 0.8, 0.9};  // Of the highest closed-loop rate.
constexpr std::uint64_t kFillBytesMax = std::uint64_t{16} << 30;

// "NAME=VALUE" in two. `what` names the option in the error.
Result<std::pair<std::string, std::string>> split(const std::string& text, const char* what) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Status{StatusCode::InvalidArgument,
                  std::string(what) + " is '" + text + "', allowed: NAME=VALUE"};
  }
  return std::pair{text.substr(0, equals), text.substr(equals + 1)};
}

template <class Number>
Result<Number> parse_number(const std::string& text, const std::string& what, Number least,
                            Number most) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (is_number && value >= least && value <= most) return value;
  return Status{StatusCode::InvalidArgument,
                what + " is '" + text + "', allowed: an integer from " + std::to_string(least) +
                    " to " + std::to_string(most)};
}

Result<std::vector<Parameter>> parse_parameters(const std::vector<std::string>& texts) {
  std::vector<Parameter> parameters;
  for (const std::string& text : texts) {
    KAAS_ASSIGN_OR_RETURN(const auto parts, split(text, "parameter"));
    using Limits = std::numeric_limits<std::int64_t>;
    KAAS_ASSIGN_OR_RETURN(const auto value,
                          parse_number(parts.second, "parameter '" + parts.first + "'",
                                       Limits::min(), Limits::max()));
    parameters.push_back({parts.first, value});
  }
  return parameters;
}

std::string for_client(std::string key, unsigned number) {
  static constexpr std::string_view kMark = "{client}";
  for (std::size_t at = 0; (at = key.find(kMark, at)) != std::string::npos;) {
    const std::string text = std::to_string(number);
    key.replace(at, kMark.size(), text);
    at += text.size();
  }
  return key;
}

Result<Bindings> parse_bindings(const std::vector<std::string>& texts, unsigned number) {
  Bindings bindings;
  for (const std::string& text : texts) {
    KAAS_ASSIGN_OR_RETURN(const auto parts, split(text, "--at"));
    bindings.at(parts.first, for_client(parts.second, number));
  }
  return bindings;
}

struct Fill {
  std::string key;
  std::uint64_t bytes = 0;
};

Result<std::vector<Fill>> parse_fills(const std::vector<std::string>& texts) {
  std::vector<Fill> fills;
  for (const std::string& text : texts) {
    KAAS_ASSIGN_OR_RETURN(const auto parts, split(text, "--fill"));
    KAAS_ASSIGN_OR_RETURN(const auto bytes, parse_number(parts.second, "--fill " + parts.first,
                                                         std::uint64_t{1}, kFillBytesMax));
    fills.push_back({parts.first, bytes});
  }
  return fills;
}

// Objects that are there while it lives.
class FilledObjects {
 public:
  explicit FilledObjects(Client& client) : client_(client) {}
  FilledObjects(const FilledObjects&) = delete;
  FilledObjects& operator=(const FilledObjects&) = delete;
  ~FilledObjects() {
    for (const std::string& key : keys_) static_cast<void>(client_.remove(key).has_value());
  }
  Result<void> put(const Fill& fill) {
    // f32 values of ordinary size, so that kernels compute with neither NaN nor denormals.
    std::vector<std::byte> content(fill.bytes);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> value(-1.0F, 1.0F);
    for (std::uint64_t at = 0; at + sizeof(float) <= fill.bytes; at += sizeof(float)) {
      const float next = value(random);
      std::memcpy(content.data() + at, &next, sizeof next);
    }
    KAAS_RETURN_IF_ERROR(client_.put(fill.key, content));
    keys_.push_back(fill.key);
    return {};
  }

 private:
  Client& client_;
  std::vector<std::string> keys_;
};

// What is sent: a prepared request, or a function, possibly one that was deployed for this run.
class LoadTarget {
 public:
  LoadTarget(Client& client, const RunCommand& command) : client_(client), command_(command) {}
  LoadTarget(const LoadTarget&) = delete;
  LoadTarget& operator=(const LoadTarget&) = delete;
  ~LoadTarget() {
    if (deployed_) static_cast<void>(client_.undeploy(function_).has_value());
  }

  Result<void> open() {
    KAAS_ASSIGN_OR_RETURN(parameters_, parse_parameters(command_.parameters));
    std::error_code error;
    if (!std::filesystem::is_regular_file(command_.target, error)) {
      function_ = command_.target;
      return {};
    }
    std::ifstream file(command_.target);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    auto parsed = parse_request(text);
    if (!parsed) {
      Status status = std::move(parsed).error();
      status.message = command_.target + ": " + status.message;
      return status;
    }
    if (parsed->parameters.empty()) {
      request_ = parsed->request;
      return {};
    }
    function_ = "kaas-bench-" + std::to_string(::getpid());
    KAAS_RETURN_IF_ERROR(client_.deploy(function_, parsed->request));
    deployed_ = true;
    return {};
  }

  // What was no file was taken for a function's name.
  [[nodiscard]] Status in_words_of_user(Status status) const {
    if (status.code == StatusCode::NotFound && !deployed_ && function_ == command_.target &&
        status.message.starts_with("there is no function")) {
      status.message += "; nor is there a file of this name";
    }
    return status;
  }

  [[nodiscard]] Result<LoadClient> make(const ClientOptions& options, unsigned number) const {
    KAAS_ASSIGN_OR_RETURN(const Bindings bindings, parse_bindings(command_.bindings, number));
    KAAS_ASSIGN_OR_RETURN(Client connected, Client::connect(options));
    auto client = std::make_shared<Client>(std::move(connected));
    if (request_) {
      KAAS_ASSIGN_OR_RETURN(const Plan plan, client->prepare(*request_));
      return LoadClient{client, [plan, bindings] { return plan.submit(bindings); }};
    }
    return LoadClient{client, [client, bindings, this] {
                        return client->call_async(function_, parameters_, bindings);
                      }};
  }

 private:
  Client& client_;
  const RunCommand& command_;
  std::string function_;  // Empty: request_ is sent.
  bool deployed_ = false;
  std::optional<Request> request_;
  std::vector<Parameter> parameters_;
};

double median_rate(const LoadResult& result) {
  return estimate(result.rates).median;
}

double us(std::uint64_t time_ns) {
  return static_cast<double>(time_ns) / 1000;
}

// "12.3", "0.84", "15300": microseconds, three digits.
std::string time_text(std::uint64_t time_ns) {
  char text[32];
  const double value = us(time_ns);
  std::snprintf(text, sizeof text, value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
  return text;
}

void print_heading(const char* load, const char* more) {
  std::printf("%-10s %12s %8s %10s %10s %10s %10s %10s  %s\n", load, "requests/s", "spread",
              "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", more);
}

void print_point(const std::string& load, const LoadResult& result, const std::string& more) {
  const Estimate rate = estimate(result.rates);
  const LatencyHistogram& latency = result.latency;
  std::printf("%-10s %12.0f %7.1f%% %10s %10s %10s %10s %10s  %s%s\n", load.c_str(), rate.median,
              100 * rate.spread(), time_text(latency.percentile_ns(50)).c_str(),
              time_text(latency.percentile_ns(90)).c_str(),
              time_text(latency.percentile_ns(99)).c_str(),
              time_text(latency.percentile_ns(99.9)).c_str(), time_text(latency.max_ns()).c_str(),
              result.stable ? "" : "unstable ", more.c_str());
  std::fflush(stdout);
}

LoadPlan plan_of(const RunCommand& command) {
  LoadPlan plan;
  plan.depth = command.depth;
  plan.poisson = command.poisson;
  plan.seed = command.seed;
  plan.round_seconds = command.round_seconds;
  plan.seconds_max = command.seconds_max;
  plan.warm_up_seconds = std::min(0.2, command.round_seconds);
  return plan;
}

Result<void> sweep_clients(const RunCommand& command, const MakeLoadClient& make,
                           RunReport& report) {
  std::printf("closed loop, %u under way a client\n", command.depth);
  print_heading("clients", "");
  for (const unsigned clients : command.clients) {
    LoadPlan plan = plan_of(command);
    plan.clients = clients;
    KAAS_ASSIGN_OR_RETURN(LoadResult result, run_load(plan, make));
    print_point(std::to_string(clients), result, "");
    report.closed.push_back(std::move(result));
  }
  return {};
}

Result<void> sweep_rates(const RunCommand& command, const MakeLoadClient& make, RunReport& report) {
  const auto best = std::max_element(
      report.closed.begin(), report.closed.end(),
      [](const LoadResult& a, const LoadResult& b) { return median_rate(a) < median_rate(b); });
  std::vector<double> rates = command.rates;
  if (rates.empty()) {
    for (const double share : kShares) rates.push_back(median_rate(*best) * share);
  }
  std::printf("\nopen loop, %u clients, %s starts; latency from the intended start\n",
              best->plan.clients,
              command.poisson ? ("Poisson (seed " + std::to_string(command.seed) + ")").c_str()
                              : "equally spaced");
  print_heading("rate", "");
  for (const double rate : rates) {
    LoadPlan plan = plan_of(command);
    plan.clients = best->plan.clients;
    plan.rate = rate;
    KAAS_ASSIGN_OR_RETURN(LoadResult result, run_load(plan, make));
    char load[32];
    std::snprintf(load, sizeof load, "%.0f", rate);
    print_point(load, result, median_rate(result) < 0.95 * rate ? "rate not reached" : "");
    report.open.push_back(std::move(result));
  }
  return {};
}

nlohmann::json load_json(const LoadResult& result) {
  const Estimate rate = estimate(result.rates);
  const LatencyHistogram& latency = result.latency;
  nlohmann::json cumulative = nlohmann::json::array();
  for (const auto& [time_ns, share] : latency.cumulative()) cumulative.push_back({time_ns, share});
  return {
      {"loop", result.plan.rate > 0 ? "open" : "closed"},
      {"clients", result.plan.clients},
      {"depth", result.plan.rate > 0 ? nlohmann::json() : nlohmann::json(result.plan.depth)},
      {"rate_asked", result.plan.rate > 0 ? nlohmann::json(result.plan.rate) : nlohmann::json()},
      {"rate", {{"median", rate.median}, {"low", rate.low}, {"high", rate.high}}},
      {"rounds", result.rates},
      {"stable", result.stable},
      {"late_max_ns", result.late_max_ns},
      {"latency_ns",
       {{"count", latency.count()},
        {"min", latency.min_ns()},
        {"mean", latency.mean_ns()},
        {"p50", latency.percentile_ns(50)},
        {"p90", latency.percentile_ns(90)},
        {"p99", latency.percentile_ns(99)},
        {"p99.9", latency.percentile_ns(99.9)},
        {"max", latency.max_ns()},
        {"cumulative", cumulative}}}};
}

ChartSeries distribution(const LoadResult& result) {
  ChartSeries series;
  char name[64];
  if (result.plan.rate > 0) {
    std::snprintf(name, sizeof name, "open, %.0f/s", result.plan.rate);
    series.dashed = true;
  } else {
    std::snprintf(name, sizeof name, "%u client%s", result.plan.clients,
                  result.plan.clients == 1 ? "" : "s");
  }
  series.name = name;
  // Steps: the share of one latency holds until the next.
  double share = 0;
  for (const auto& [time_ns, up_to] : result.latency.cumulative()) {
    series.points.emplace_back(us(time_ns), share);
    series.points.emplace_back(us(time_ns), up_to);
    share = up_to;
  }
  return series;
}

}  // namespace

Result<void> check_form(const RunCommand& command) {
  KAAS_RETURN_IF_ERROR(parse_parameters(command.parameters));
  KAAS_RETURN_IF_ERROR(parse_bindings(command.bindings, 0));
  KAAS_RETURN_IF_ERROR(parse_fills(command.fills));
  return {};
}

Result<RunReport> run_command(const RunCommand& command) {
  std::optional<DaemonProcess> daemon;
  ClientOptions options;
  options.name = "kaas-bench";
  options.socket = command.socket;
  if (command.own_daemon) {
    KAAS_ASSIGN_OR_RETURN(daemon, DaemonProcess::start(program_folder() + "/kaasd"));
    options.socket = daemon->socket();
  }
  RunReport report;
  report.target = command.target;
  {
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(options));
    FilledObjects objects(client);
    KAAS_ASSIGN_OR_RETURN(const auto fills, parse_fills(command.fills));
    for (const Fill& fill : fills) KAAS_RETURN_IF_ERROR(objects.put(fill));
    LoadTarget target(client, command);
    KAAS_RETURN_IF_ERROR(target.open());
    const MakeLoadClient make = [&](unsigned number) { return target.make(options, number); };
    // One before all others: an error shows at once, and the library gets loaded.
    KAAS_ASSIGN_OR_RETURN(const LoadClient first, make(0));
    const auto answer = first.send().get();
    if (!answer) return target.in_words_of_user(answer.error());
    KAAS_RETURN_IF_ERROR(sweep_clients(command, make, report));
    if (!command.closed_only) KAAS_RETURN_IF_ERROR(sweep_rates(command, make, report));
  }
  if (daemon) KAAS_RETURN_IF_ERROR(daemon->stop());
  return report;
}

nlohmann::json run_json(const RunReport& report) {
  nlohmann::json points = nlohmann::json::array();
  for (const LoadResult& result : report.closed) points.push_back(load_json(result));
  for (const LoadResult& result : report.open) points.push_back(load_json(result));
  return {{"format", 1},
          {"kind", "run"},
          {"target", report.target},
          {"machine", to_string(machine_facts())},
          {"points", points}};
}

std::vector<Chart> run_charts(const RunReport& report) {
  Chart latency;
  latency.title = "Latency distribution, closed loop";
  latency.x = {"latency, us", true, false, {}};
  latency.y = {"share of requests", false, true, {}};
  Chart rate;
  rate.title = "Rate over clients, closed loop";
  rate.x = {"clients", true, false, {}};
  rate.y = {"requests/s", false, true, {}};
  ChartSeries rates{"median", {}, true, false};
  for (const LoadResult& result : report.closed) {
    latency.series.push_back(distribution(result));
    rates.points.emplace_back(result.plan.clients, median_rate(result));
    rate.x.ticks.push_back(result.plan.clients);
  }
  rate.series.push_back(std::move(rates));
  std::vector<Chart> charts{std::move(latency), std::move(rate)};
  if (report.open.empty()) return charts;

  Chart open;
  open.title = "Latency over rate, open loop";
  open.x = {"requests/s asked for", false, true, {}};
  open.y = {"latency from the intended start, us", true, false, {}};
  for (const double percent : {50.0, 90.0, 99.0, 99.9}) {
    char name[16];
    std::snprintf(name, sizeof name, "p%g", percent);
    ChartSeries series{name, {}, true, false};
    for (const LoadResult& result : report.open) {
      series.points.emplace_back(result.plan.rate, us(result.latency.percentile_ns(percent)));
    }
    open.series.push_back(std::move(series));
  }
  charts.push_back(std::move(open));
  return charts;
}

}  // namespace kaas
