// kaas-demo-client: finds the edges of a photograph by calling the deployed function `edges`,
// compares them with a computation of its own, and says how fast it was.
// Exit status: 0 all right, 1 a call failed or the pixels differ, 2 wrong usage, 3 no daemon.
#include <kaas/client.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "schema/ipc/clock.h"
#include "tools/demo_client/picture.h"
#include "tools/demo_client/reference.h"

namespace kaas {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitWrongUsage = 2;
constexpr int kExitNoDaemon = 3;
constexpr int kRadius = 2;         // Of the Gaussian in edges.json.
constexpr int kDifferenceMax = 1;  // Grey levels.
constexpr int kProfiledCalls = 21;
constexpr std::size_t kCallsMin = 20;

struct DemoOptions {
  std::string socket, name, picture, output;
  std::vector<std::uint32_t> crop;  // x, y, width, height
  double seconds = 2;
};

double ms(std::uint64_t time_ns) {
  return static_cast<double>(time_ns) / 1e6;
}

// Nearest rank; sorts.
std::uint64_t percentile_ns(std::vector<std::uint64_t>& times_ns, double percent) {
  std::sort(times_ns.begin(), times_ns.end());
  const auto rank = static_cast<std::size_t>(percent / 100 * static_cast<double>(times_ns.size()));
  return times_ns[std::min(rank, times_ns.size() - 1)];
}

// The session with its shared memory: the photograph in, the edges out.
struct EdgesCall {
  Client client;
  Buffer frame, edges;
  std::vector<Parameter> parameters;
  Bindings bindings;

  static Result<EdgesCall> open(const DemoOptions& options, const Picture& picture) {
    ClientOptions connecting;
    connecting.socket = options.socket;
    connecting.name = options.name;
    KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(connecting));
    KAAS_ASSIGN_OR_RETURN(Buffer frame, client.allocate(picture.pixels.size()));
    KAAS_ASSIGN_OR_RETURN(Buffer edges, client.allocate(picture.pixels.size() / 3));
    std::memcpy(frame.data(), picture.pixels.data(), picture.pixels.size());
    EdgesCall call{std::move(client),
                   std::move(frame),
                   std::move(edges),
                   {{"width", picture.width}, {"height", picture.height}},
                   {}};
    call.bindings.in("in", call.frame).in("out", call.edges);
    return call;
  }
  Result<Reply> run(bool profile = false) {
    RunOptions options;
    options.profile = profile;
    return client.call("edges", parameters, bindings, options);
  }
};

void print_stages(std::vector<Stages> stages, const std::string& name, const std::string& device) {
  struct Column {
    const char* name;
    std::uint64_t Stages::*time_ns;
  };
  static constexpr Column kColumns[] = {
      {"intake", &Stages::intake_ns},   {"plan", &Stages::plan_ns},    {"queue", &Stages::queue_ns},
      {"load", &Stages::load_ns},       {"kernels", &Stages::run_ns},  {"store", &Stages::store_ns},
      {"execute", &Stages::execute_ns}, {"settle", &Stages::settle_ns}};
  std::string line;
  for (const Column& column : kColumns) {
    std::vector<std::uint64_t> times_ns;
    for (const Stages& one : stages) times_ns.push_back(one.*column.time_ns);
    char text[64];
    std::snprintf(text, sizeof text, "  %s %.1f", column.name,
                  static_cast<double>(percentile_ns(times_ns, 50)) / 1000);
    line += text;
  }
  std::printf("[%s] stages on '%s', medians in us:%s\n", name.c_str(), device.c_str(),
              line.c_str());
  std::printf(
      "[%s]   (execute is from handing over to the report: load, kernels, store and the "
      "way there and back)\n",
      name.c_str());
}

// Calls for a while, one after the other, and says how long they took.
Result<void> measure_warm(EdgesCall& call, const DemoOptions& options) {
  std::vector<std::uint64_t> times_ns;
  const std::uint64_t begin_ns = now_ns();
  const std::uint64_t end_ns = begin_ns + static_cast<std::uint64_t>(options.seconds * 1e9);
  std::uint64_t now = begin_ns;
  while (now < end_ns || times_ns.size() < kCallsMin) {
    KAAS_RETURN_IF_ERROR(call.run());
    const std::uint64_t done_ns = now_ns();
    times_ns.push_back(done_ns - now);
    now = done_ns;
  }
  const double rate =
      static_cast<double>(times_ns.size()) * 1e9 / static_cast<double>(now - begin_ns);
  const double p50_ms = ms(percentile_ns(times_ns, 50));
  const double p99_ms = ms(percentile_ns(times_ns, 99));
  std::printf("[%s] warm: p50 %.3f ms, p99 %.3f ms, %.0f requests/s (%zu calls, one at a time)\n",
              options.name.c_str(), p50_ms, p99_ms, rate, times_ns.size());
  return {};
}

Result<void> profile_stages(EdgesCall& call, const DemoOptions& options) {
  std::vector<Stages> stages;
  std::string device;
  for (int i = 0; i < kProfiledCalls; ++i) {
    KAAS_ASSIGN_OR_RETURN(const Reply reply, call.run(true));
    if (!reply.profile) return Status{StatusCode::Internal, "the reply has no profile"};
    stages.push_back(reply.profile->stages);
    device = reply.profile->device;
  }
  print_stages(std::move(stages), options.name, device);
  return {};
}

Result<void> compare(const EdgesCall& call, const Picture& expected, const DemoOptions& options,
                     const char* which) {
  const auto* found = reinterpret_cast<const std::uint8_t*>(call.edges.data());
  const Difference difference = difference_of(expected, found);
  std::printf(
      "[%s] %s result against plain C++: %llu of %zu pixels differ, by %d grey level at "
      "most\n",
      options.name.c_str(), which, static_cast<unsigned long long>(difference.pixels),
      expected.pixels.size(), difference.largest);
  if (difference.largest <= kDifferenceMax) return {};
  return over_limit(StatusCode::DataLost, "the difference in grey levels",
                    static_cast<unsigned long long>(difference.largest), kDifferenceMax);
}

Result<void> run_demo(const DemoOptions& options) {
  KAAS_ASSIGN_OR_RETURN(Picture picture, read_png(options.picture));
  if (!options.crop.empty()) {
    KAAS_ASSIGN_OR_RETURN(
        picture, crop(picture, options.crop[0], options.crop[1], options.crop[2], options.crop[3]));
  }
  const Picture expected = reference_edges(picture, kRadius);

  const std::uint64_t begin_ns = now_ns();
  KAAS_ASSIGN_OR_RETURN(EdgesCall call, EdgesCall::open(options, picture));
  const std::uint64_t connected_ns = now_ns();
  KAAS_RETURN_IF_ERROR(call.run());
  const std::uint64_t first_ns = now_ns();
  std::printf(
      "[%s] %u x %u pixels; connect to first result: %.2f ms (connect and memory %.2f ms)\n",
      options.name.c_str(), picture.width, picture.height, ms(first_ns - begin_ns),
      ms(connected_ns - begin_ns));
  KAAS_RETURN_IF_ERROR(compare(call, expected, options, "first"));

  KAAS_RETURN_IF_ERROR(measure_warm(call, options));
  KAAS_RETURN_IF_ERROR(profile_stages(call, options));
  KAAS_RETURN_IF_ERROR(compare(call, expected, options, "last"));

  Picture edges{picture.width, picture.height, 1, {}};
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(call.edges.data());
  edges.pixels.assign(bytes, bytes + call.edges.size());
  KAAS_RETURN_IF_ERROR(write_png(options.output, edges));
  std::printf("[%s] wrote %s\n", options.name.c_str(), options.output.c_str());
  return {};
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  kaas::DemoOptions options;
  CLI::App app("Finds the edges of a photograph through kaasd.", "kaas-demo-client");
  app.add_option("--socket", options.socket, "Of kaasd; else where clients look");
  app.add_option("--name", options.name, "In what is printed, and for lists")->required();
  app.add_option("--picture", options.picture, "PNG file to read")->required();
  app.add_option("--crop", options.crop, "X,Y,WIDTH,HEIGHT: only this part")
      ->delimiter(',')
      ->expected(4);
  app.add_option("--output", options.output, "PNG file to write")->required();
  app.add_option("--seconds", options.seconds, "How long to measure warm calls")
      ->check(CLI::Range(0.0, 3600.0));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kaas::kExitWrongUsage;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // Two of these write to one terminal, line by line.
  const auto done = kaas::run_demo(options);
  if (done) return 0;
  std::fprintf(stderr, "[%s] %s\n", options.name.c_str(), to_string(done.error()).c_str());
  return done.error().code == kaas::StatusCode::Unavailable ? kaas::kExitNoDaemon
                                                            : kaas::kExitFailed;
}
