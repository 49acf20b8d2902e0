// Launch functions of a library in graphs: with the same results as by stream, and with the stream
// for those that can't be captured.
#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint64_t kCount = 1000;

class Capture : public E2eTest {
 protected:
  // out = in * factor + 1, by the function.
  static Request call(const std::string& function, const std::string& in, const std::string& out,
                      float factor = 2.0f) {
    RequestBuilder builder;
    builder.buffer(in, kCount * 4);
    builder.buffer(out, kCount * 4);
    builder.kernel("capture", function)
        .grid(1)
        .block(1)
        .literal(kCount)
        .literal(factor)
        .in(in)
        .out(out);
    return built(builder);
  }
  // The profile of a run whose result is checked.
  Profile run(Client& client, const Request& request, const std::string& out, float wanted) {
    RunOptions options;
    options.profile = true;
    const auto reply = client.run(request, options);
    EXPECT_OK(reply);
    if (!reply.has_value()) return {};
    EXPECT_EQ(floats(client, out), std::vector<float>(kCount, wanted));
    return *reply->profile;
  }
  static void put(Client& client, const std::string& key, float value) {
    ASSERT_OK(client.put(key, bytes_of(std::vector<float>(kCount, value))));
  }
  static int executor_pid(Client& client) {
    const auto status = client.status_json();
    EXPECT_OK(status);
    return nlohmann::json::parse(*status)["executors"][0]["pid"].get<int>();
  }
};

TEST_F(Capture, FunctionThatIsDeclaredPureBecomesPartOfAGraph) {
  Client client = connect();
  put(client, "in", 3.0f);
  const Request request = call("two_kernels", "in", "out");
  EXPECT_EQ(run(client, request, "out", 7.0f).why_stream, "first use");
  Profile last;
  ASSERT_TRUE(eventually([&] {
    last = run(client, request, "out", 7.0f);
    return last.way == RunWay::Graph;
  })) << last.why_stream;
  // Other bytes at the same addresses or at others: the result is right, whichever way.
  for (int i = 0; i < 30; ++i) {
    put(client, "in", static_cast<float>(i));
    run(client, request, "out", 2.0f * static_cast<float>(i) + 1.0f);
  }
}

TEST_F(Capture, RunWithOtherValuesIsCapturedAgainButNotForEver) {
  Client client = connect();
  put(client, "in", 3.0f);
  auto plan = client.prepare(call("two_kernels", "in", "out"));
  ASSERT_OK(plan);
  RunOptions options;
  options.profile = true;
  bool graph = false;
  bool stream = false;
  for (int i = 0; i < 200; ++i) {
    const auto factor = static_cast<float>(i % 50);
    Bindings bindings;
    bindings.literal(0, 1, factor);
    const auto reply = plan->run(bindings, options);
    ASSERT_OK(reply);
    EXPECT_EQ(floats(client, "out"), std::vector<float>(kCount, 3.0f * factor + 1.0f));
    graph = graph || reply->profile->way == RunWay::Graph;
    stream = stream || reply->profile->why_stream == "addresses";
  }
  EXPECT_TRUE(stream);
  static_cast<void>(graph);  // Only if it came back while that value was captured.
}

TEST_F(Capture, ManyRunsAtATimeHaveGraphsOfTheirOwn) {
  Client client = connect();
  put(client, "in", 3.0f);
  std::vector<Future<Reply>> runs;
  for (int round = 0; round < 20; ++round) {
    runs.clear();
    for (int i = 0; i < 16; ++i) {
      runs.push_back(client.submit(call("two_kernels", "in", "out" + std::to_string(i))));
    }
    for (auto& one : runs) EXPECT_OK(one.get());
  }
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(floats(client, "out" + std::to_string(i)), std::vector<float>(kCount, 7.0f));
  }
}

// Kernels before and behind it, several times over.
TEST_F(Capture, CapturedFunctionKeepsItsPlaceAmongKernels) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("x", kCount * 4);
  builder.buffer("y", kCount * 4).ephemeral();
  builder.kernel("std", "scale").grid(4).block(256).literal(kCount).literal(2.0f).inout("x");
  builder.kernel("capture", "two_kernels")
      .grid(1)
      .block(1)
      .literal(kCount)
      .literal(3.0f)
      .in("x")
      .out("y");
  builder.kernel("std", "copy").grid(4).block(256).literal(kCount * 4).in("y").out("x");
  builder.n_iter(3);
  const Request request = built(builder);
  float wanted = 1.0f;
  for (int i = 0; i < 3; ++i) wanted = wanted * 6.0f + 1.0f;
  Profile last;
  ASSERT_TRUE(eventually([&] {
    put(client, "x", 1.0f);
    last = run(client, request, "x", wanted);
    return last.way == RunWay::Graph;
  })) << last.why_stream;
  EXPECT_EQ(last.counters.launches, 9u);
}

TEST_F(Capture, FunctionThatIsNotDeclaredPureGoesByStream) {
  Client client = connect();
  put(client, "in", 3.0f);
  for (int i = 0; i < 5; ++i) {
    const Profile profile = run(client, call("undeclared", "in", "out"), "out", 7.0f);
    EXPECT_EQ(profile.way, RunWay::Stream);
    EXPECT_EQ(profile.why_stream, "opaque");
  }
}

// Each in turn, with an honest neighbour in the same library: whatever they do while they are
// captured must hurt neither the executor nor the neighbour.
TEST_F(Capture, FunctionThatLiesGoesByStreamForGoodAndHurtsNobody) {
  Client client = connect();
  Client neighbour = connect();
  put(client, "in", 3.0f);
  const Request honest = call("two_kernels", "in", "mine");
  run(neighbour, honest, "mine", 7.0f);
  const int pid = executor_pid(client);
  for (const char* function : {"synchronises", "synchronises_all", "allocates", "ends_capture"}) {
    const Request request = call(function, "in", "out");
    Profile last;
    EXPECT_TRUE(eventually([&] {
      run(neighbour, honest, "mine", 7.0f);
      last = run(client, request, "out", 7.0f);
      return last.why_stream == "failed";
    })) << function
        << ": " << last.why_stream;
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(run(client, request, "out", 7.0f).why_stream, "failed") << function;
    }
  }
  Profile last;
  EXPECT_TRUE(eventually([&] {
    last = run(neighbour, honest, "mine", 7.0f);
    return last.way == RunWay::Graph;
  })) << last.why_stream;
  EXPECT_EQ(executor_pid(client), pid);
}

}  // namespace
}  // namespace kaas
