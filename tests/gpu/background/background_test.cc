// Requests of a priority below 0: the same results, on fewer multiprocessors.
#include <set>

#include "tests/support/e2e_fixture.h"

namespace kaas {
namespace {

constexpr std::uint32_t kBlocks = 1024;  // More than fit at a time, of 1024 threads each.
constexpr std::uint64_t kStayNs = 50'000;

class Background : public E2eTest {
 protected:
  static Request where() {
    RequestBuilder builder;
    builder.buffer("places", kBlocks * 4).in_message();
    builder.kernel("where", "where").grid(kBlocks).block(1024).literal(kStayNs).out("places");
    return built(builder);
  }
  // The multiprocessors that a request of this priority runs on.
  static std::set<std::uint32_t> used(Client& client, int priority, Profile* profile = nullptr) {
    RunOptions options;
    options.priority = priority;
    options.profile = true;
    std::set<std::uint32_t> all;
    for (int i = 0; i < 5; ++i) {
      const auto reply = client.run(where(), options);
      EXPECT_OK(reply);
      if (!reply.has_value()) return {};
      const auto places = values_of<std::uint32_t>(reply->data("places"));
      EXPECT_EQ(places.size(), kBlocks);
      all.insert(places.begin(), places.end());
      if (profile != nullptr) *profile = *reply->profile;
    }
    return all;
  }
};

TEST_F(Background, LeavesMultiprocessorsFree) {
  Client client = connect();
  const auto all = used(client, 0);
  Profile profile;
  const auto background = used(client, -1, &profile);
  EXPECT_LE(background.size() + 8, all.size());
  EXPECT_GE(background.size() * 10, all.size() * 8) << "and no more than it has to";
  EXPECT_EQ(profile.way, RunWay::Stream);
  EXPECT_EQ(profile.why_stream, "background");
  EXPECT_EQ(used(client, 100), all);
}

TEST_F(Background, DoesTheSameInTheSameOrder) {
  Client client = connect();
  constexpr std::uint64_t kCount = 100'000;
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>(kCount, 1.0f))));
  RunOptions background;
  background.priority = -1;
  std::vector<Future<Reply>> replies;
  for (int i = 0; i < 20; ++i) {
    replies.push_back(client.submit(scale("x", kCount), i % 3 == 0 ? background : RunOptions{}));
  }
  for (auto& reply : replies) EXPECT_OK(reply.get());
  EXPECT_EQ(floats(client, "x"), std::vector<float>(kCount, 1048576.0f));
}

class BackgroundEverywhere : public Background {
 protected:
  std::vector<std::string> arguments() override { return {"--reserved-sms", "0"}; }
};

TEST_F(BackgroundEverywhere, UsesAllOfItIfNothingIsReserved) {
  Client client = connect();
  const auto all = used(client, 0);
  Profile profile;
  EXPECT_EQ(used(client, -1, &profile), all);
  EXPECT_NE(profile.why_stream, "background");
}

class BackgroundNowhere : public Background {
 protected:
  std::vector<std::string> arguments() override { return {"--reserved-sms", "1000"}; }
};

TEST_F(BackgroundNowhere, RunsEverywhereIfMoreIsReservedThanThereIs) {
  Client client = connect();
  EXPECT_EQ(used(client, -1), used(client, 0));
  EXPECT_NE(daemon_->log().find("background runs use all of"), std::string::npos) << daemon_->log();
}

}  // namespace
}  // namespace kaas
