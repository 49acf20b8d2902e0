// Programmatic dependent launch: the same results with and without it, by stream and as a graph.
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint64_t kCount = 100'000;
constexpr int kLinks = 6;
constexpr std::uint64_t kRounds = 20;

class Programmatic : public E2eTest {
 protected:
  // x goes through all links and back into itself, kRounds times. The last one is an ordinary
  // kernel, so that ordinary edges are among the others.
  static Request chain(bool programmatic) {
    RequestBuilder builder;
    builder.buffer("x", kCount * 4);
    builder.buffer("y", kCount * 4).ephemeral();
    for (int i = 0; i < kLinks; ++i) {
      builder.kernel("chain", "chain_link")
          .grid(64)
          .block(256)
          .programmatic(programmatic && i + 1 < kLinks)
          .literal(kCount)
          .in(i % 2 == 0 ? "x" : "y")
          .out(i % 2 == 0 ? "y" : "x");
    }
    builder.n_iter(kRounds);
    return built(builder);
  }
  // What one run makes of i at place i.
  static std::vector<std::uint32_t> wanted() {
    std::vector<std::uint32_t> values(kCount);
    std::iota(values.begin(), values.end(), 0u);
    for (std::uint32_t& value : values) {
      for (std::uint64_t n = 0; n < kRounds * kLinks; ++n) value = value * 3 + 1;
    }
    return values;
  }
};

TEST_F(Programmatic, ChainOfLinksThatWaitThemselvesGivesTheSame) {
  Client client = connect();
  std::vector<std::uint32_t> start(kCount);
  std::iota(start.begin(), start.end(), 0u);
  const std::vector<std::uint32_t> expected = wanted();
  RunOptions options;
  options.profile = true;
  for (const bool programmatic : {false, true}) {
    const Request request = chain(programmatic);
    bool by_stream = false;
    Profile last;
    EXPECT_TRUE(eventually([&] {
      EXPECT_OK(client.put("x", bytes_of(start)));
      const auto reply = client.run(request, options);
      EXPECT_OK(reply);
      if (!reply.has_value()) return true;
      last = *reply->profile;
      const auto object = client.get("x");
      EXPECT_OK(object);
      EXPECT_EQ(values_of<std::uint32_t>(object->bytes()), expected);
      by_stream = by_stream || last.way == RunWay::Stream;
      return last.way == RunWay::Graph || HasFailure();
    })) << last.why_stream;
    EXPECT_TRUE(by_stream);
    EXPECT_EQ(last.counters.launches, kLinks * kRounds);
  }
}

TEST_F(Programmatic, LaunchFunctionCannotBeProgrammatic) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("x", 4);
  builder.kernel("chain", "launcher").grid(1).block(1).programmatic().out("x");
  const auto reply = client.run(built(builder));
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(reply.error().message.find("is programmatic, which only kernels can be"),
            std::string::npos)
      << reply.error().message;
}

}  // namespace
}  // namespace kaas
