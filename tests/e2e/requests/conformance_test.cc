// What requests mean, end to end: the behaviours of the original system, and what it got wrong.
#include <nlohmann/json.hpp>

#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

class Conformance : public E2eTest {
 protected:
  // Of the one executor; asked twice because the status shows what executors reported last.
  nlohmann::json executor_status(Client& client) {
    nlohmann::json executor;
    for (int i = 0; i < 3; ++i) {
      const auto status = client.status_json();
      EXPECT_OK(status);
      if (!status.has_value()) return executor;
      executor = nlohmann::json::parse(*status)["executors"][0];
      static_cast<void>(client.run(noop()));
    }
    return executor;
  }
  static Request noop() {
    RequestBuilder builder;
    builder.kernel("std", "noop").grid(1).block(1);
    return built(builder);
  }
  // out = sum of a * b, over slices of one object.
  static Request dot(std::uint64_t count, std::uint64_t a_offset, std::uint64_t b_offset) {
    RequestBuilder builder;
    builder.buffer("a", count * 4).at("vectors", a_offset);
    builder.buffer("b", count * 4).at("vectors", b_offset);
    builder.buffer("products", count * 4).ephemeral();
    builder.buffer("partials", 16 * 4).ephemeral();
    builder.buffer("out", 4).at("dot");
    builder.kernel("std", "product")
        .grid(4)
        .block(128)
        .literal(count)
        .in("a")
        .in("b")
        .out("products");
    builder.kernel("std", "sum").grid(16).block(128).literal(count).in("products").out("partials");
    builder.kernel("std", "sum")
        .grid(1)
        .block(128)
        .literal(std::uint64_t{16})
        .in("partials")
        .out("out");
    return built(builder);
  }
};

TEST_F(Conformance, DotProductReadsTwoSlicesOfOneObject) {
  Client client = connect();
  std::vector<float> vectors(2000);
  for (std::size_t i = 0; i < vectors.size(); ++i) vectors[i] = static_cast<float>(i % 7);
  ASSERT_OK(client.put("vectors", bytes_of(vectors)));
  ASSERT_OK(client.run(dot(900, 0, 1000 * 4)));
  double expected = 0;
  for (std::size_t i = 0; i < 900; ++i) expected += double{vectors[i]} * double{vectors[1000 + i]};
  EXPECT_NEAR(floats(client, "dot").at(0), expected, 1e-2);
  EXPECT_FALSE(client.get("products").has_value());  // Ephemeral outputs are not kept.
}

TEST_F(Conformance, ThreeThousandIterationsOfJacobi) {
  Client client = connect();
  constexpr std::uint64_t kN = 24;
  std::vector<float> matrix(kN * kN, 1.0f);
  for (std::size_t i = 0; i < kN; ++i) matrix[i * kN + i] = 2.0f * kN;
  std::vector<float> solution(kN);
  for (std::size_t i = 0; i < kN; ++i) solution[i] = static_cast<float>(i) - 3.0f;
  std::vector<float> b(kN);
  for (std::size_t r = 0; r < kN; ++r) {
    double sum = 0;
    for (std::size_t c = 0; c < kN; ++c) sum += double{matrix[r * kN + c]} * double{solution[c]};
    b[r] = static_cast<float>(sum);
  }
  ASSERT_OK(client.put("A", bytes_of(matrix)));
  ASSERT_OK(client.put("b", bytes_of(b)));
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>(kN, 0.0f))));
  RequestBuilder builder;
  builder.buffer("A", kN * kN * 4).constant();
  builder.buffer("b", kN * 4).constant();
  builder.buffer("x", kN * 4);
  builder.buffer("y", kN * 4).ephemeral();
  builder.kernel("std", "jacobi").grid(kN).block(32).literal(kN).in("A").in("b").in("x").out("y");
  builder.kernel("std", "jacobi").grid(kN).block(32).literal(kN).in("A").in("b").in("y").out("x");
  builder.n_iter(1500);
  RunOptions options;
  options.profile = true;
  const auto reply = client.run(built(builder), options);
  ASSERT_OK(reply);
  ASSERT_TRUE(reply->profile.has_value());
  EXPECT_EQ(reply->profile->counters.launches, 3000u);
  EXPECT_EQ(reply->profile->counters.iterations, 1500u);
  const auto x = floats(client, "x");
  for (std::size_t i = 0; i < kN; ++i) EXPECT_NEAR(x.at(i), solution[i], 1e-3) << i;
}

// On a GPU the first run goes by stream, and some later one as the graph that was made of it.
TEST_F(Conformance, ProfileSaysWhichWayARunTook) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>(8, 0.0f))));
  RunOptions options;
  options.profile = true;
  const auto way = [&] {
    const auto reply = client.run(scale("x", 8), options);
    EXPECT_OK(reply);
    return reply.has_value() ? *reply->profile : Profile{};
  };
  const Profile first = way();
  if (!wants_gpu()) {
    EXPECT_EQ(first.way, RunWay::Host);
    EXPECT_EQ(first.why_stream, "");
    return;
  }
  EXPECT_EQ(first.way, RunWay::Stream);
  EXPECT_EQ(first.why_stream, "first use");
  Profile last;
  ASSERT_TRUE(eventually([&] {
    last = way();
    return last.way == RunWay::Graph;
  })) << last.why_stream;
  EXPECT_EQ(last.why_stream, "");
}

TEST_F(Conformance, AProfileTellsWhenARequestPassedEachPoint) {
  Client client = connect();
  RequestBuilder builder;
  builder.kernel("std", "noop");
  RunOptions options;
  options.profile = true;
  const std::uint64_t before_ns = now_ns();
  const auto reply = client.run(built(builder), options);
  const std::uint64_t after_ns = now_ns();
  ASSERT_OK(reply);
  ASSERT_TRUE(reply->profile.has_value());
  const Moments& at = reply->profile->moments;
  const std::vector<std::uint64_t> way = {before_ns,
                                          at.taken_ns,
                                          at.decoded_ns,
                                          at.planned_ns,
                                          at.sent_ns,
                                          at.executor_taken_ns,
                                          at.executor_started_ns,
                                          at.executor_launched_ns,
                                          at.executor_ended_ns,
                                          at.reported_ns,
                                          at.settled_ns,
                                          after_ns};
  for (std::size_t i = 1; i < way.size(); ++i) EXPECT_LE(way[i - 1], way[i]) << "point " << i;
}

TEST_F(Conformance, UntilEndsIterationsEarly) {
  Client client = connect();
  constexpr std::uint64_t kN = 8;
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>(kN, 1.0f))));
  RequestBuilder builder;
  builder.buffer("x", kN * 4);
  builder.buffer("before", kN * 4).ephemeral();
  builder.buffer("done", 4).in_message();
  builder.kernel("std", "copy").grid(1).block(32).literal(kN * 4).in("x").out("before");
  builder.kernel("std", "scale").grid(1).block(32).literal(kN).literal(0.5f).inout("x");
  builder.kernel("std", "converged")
      .grid(1)
      .block(32)
      .literal(kN)
      .literal(0.01f)
      .in("x")
      .in("before")
      .out("done");
  builder.n_iter(1000).until("done");
  RunOptions options;
  options.profile = true;
  const auto reply = client.run(built(builder), options);
  ASSERT_OK(reply);
  EXPECT_EQ(reply->profile->counters.iterations, 7u);  // 2^-7 < 0.01 <= 2^-6.
  EXPECT_EQ(values_of<std::uint32_t>(reply->data("done")).at(0), 1u);
  EXPECT_EQ(floats(client, "x").at(0), 1.0f / 128);
}

TEST_F(Conformance, InPlaceDoubleIsWritten) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1, 2, 3})));
  ASSERT_OK(client.run(scale("x", 3)));
  ASSERT_OK(client.run(scale("x", 3)));
  EXPECT_EQ(floats(client, "x"), (std::vector<float>{4, 8, 12}));
}

TEST_F(Conformance, SeveralOutputsComeInDeclaredOrder) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("unused_first", 4).ephemeral();
  builder.buffer("late", 4).in_message();
  builder.buffer("early", 4).in_message();
  builder.buffer("kept", 4);
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(1.0f)
      .out("early");
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(2.0f)
      .out("kept");
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(3.0f)
      .out("late");
  const auto reply = client.run(built(builder));
  ASSERT_OK(reply);
  ASSERT_EQ(reply->outputs.size(), 3u);
  EXPECT_EQ(reply->outputs[0].name, "early");
  EXPECT_EQ(reply->outputs[1].name, "kept");
  EXPECT_NE(reply->outputs[1].version, 0u);
  EXPECT_EQ(reply->outputs[2].name, "late");
  EXPECT_EQ(values_of<float>(reply->outputs[2].data).at(0), 3.0f);
  EXPECT_EQ(floats(client, "kept").at(0), 2.0f);
}

TEST_F(Conformance, RenameOnTheSecondCallDoesNotStick) {
  Client client = connect();
  for (const char* key : {"a", "b"}) {
    ASSERT_OK(client.put(key, bytes_of(std::vector<float>{key[0] == 'a' ? 10.0f : 20.0f})));
  }
  RequestBuilder builder;
  builder.buffer("in", 4).at("a");
  builder.buffer("out", 4).in_message();
  builder.kernel("std", "copy").grid(1).block(1).literal(std::uint64_t{4}).in("in").out("out");
  auto plan = client.prepare(built(builder));
  ASSERT_OK(plan);
  const auto value = [](const Result<Reply>& reply) {
    return reply.has_value() ? values_of<float>(reply->data("out")).at(0) : -1.0f;
  };
  EXPECT_EQ(value(plan->run()), 10.0f);
  EXPECT_EQ(value(plan->run(Bindings().at("in", "b"))), 20.0f);
  EXPECT_EQ(value(plan->run()), 10.0f);
}

TEST_F(Conformance, RenameThatMakesTwoBuffersOneObjectIsHonoured) {
  Client client = connect();
  ASSERT_OK(client.put("a", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(client.put("b", bytes_of(std::vector<float>{5.0f})));
  RequestBuilder builder;  // x *= 2, then out = y.
  builder.buffer("x", 4).at("a");
  builder.buffer("y", 4).at("b");
  builder.buffer("out", 4).in_message();
  builder.kernel("std", "scale")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(2.0f)
      .inout("x");
  builder.kernel("std", "copy").grid(1).block(1).literal(std::uint64_t{4}).in("y").out("out");
  auto plan = client.prepare(built(builder));
  ASSERT_OK(plan);
  auto reply = plan->run();
  ASSERT_OK(reply);
  EXPECT_EQ(values_of<float>(reply->data("out")).at(0), 5.0f);
  reply = plan->run(Bindings().at("y", "a"));
  ASSERT_OK(reply);
  EXPECT_EQ(values_of<float>(reply->data("out")).at(0), 4.0f);
}

TEST_F(Conformance, LiteralOverrideHoldsForOneCall) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("out", 4).in_message();
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(1.5f)
      .out("out");
  auto plan = client.prepare(built(builder));
  ASSERT_OK(plan);
  const auto value = [](const Result<Reply>& reply) {
    return reply.has_value() ? values_of<float>(reply->data("out")).at(0) : -1.0f;
  };
  EXPECT_EQ(value(plan->run(Bindings().literal(0, 1, 7.0f))), 7.0f);
  EXPECT_EQ(value(plan->run()), 1.5f);
}

TEST_F(Conformance, BufferThatIsTemporaryThenInputThenOutput) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("b", 16);
  builder.buffer("copy", 16);
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(4)
      .literal(std::uint64_t{4})
      .literal(3.0f)
      .temporary("b");
  builder.kernel("std", "copy").grid(1).block(4).literal(std::uint64_t{16}).in("b").out("copy");
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(4)
      .literal(std::uint64_t{4})
      .literal(9.0f)
      .out("b");
  ASSERT_OK(client.run(built(builder)));  // "b" need not exist: its first use is `t`.
  EXPECT_EQ(floats(client, "copy"), std::vector<float>(4, 3.0f));
  EXPECT_EQ(floats(client, "b"), std::vector<float>(4, 9.0f));
}

TEST_F(Conformance, ThousandKernelsInOneRequest) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{0.0f, 1.0f})));
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.buffer("one", 8).inline_bytes(bytes_of(std::vector<float>{1.0f, 1.0f}));
  for (int i = 0; i < 1000; ++i) {
    builder.kernel("std", "add")
        .grid(1)
        .block(2)
        .literal(std::uint64_t{2})
        .in("x")
        .in("one")
        .out("x");
  }
  ASSERT_OK(client.run(built(builder)));
  EXPECT_EQ(floats(client, "x"), (std::vector<float>{1000.0f, 1001.0f}));
}

TEST_F(Conformance, OverwriteThenRerunReadsTheNewBytes) {
  Client client = connect();
  RequestBuilder builder;
  builder.buffer("in", 4).constant();
  builder.buffer("out", 4).in_message();
  builder.kernel("std", "copy").grid(1).block(1).literal(std::uint64_t{4}).in("in").out("out");
  const Request request = built(builder);
  for (const float value : {1.0f, 2.0f, 3.0f}) {
    ASSERT_OK(client.put("in", bytes_of(std::vector<float>{value})));
    const auto reply = client.run(request);
    ASSERT_OK(reply);
    EXPECT_EQ(values_of<float>(reply->data("out")).at(0), value);
  }
}

TEST_F(Conformance, ObjectIsReadAgainFromTheDeviceCache) {
  Client client = connect();
  ASSERT_OK(client.put("in", bytes_of(std::vector<float>(4096, 1.0f))));
  RequestBuilder builder;
  builder.buffer("in", 4096 * 4);
  builder.buffer("out", 4).in_message();
  builder.kernel("std", "copy").grid(1).block(1).literal(std::uint64_t{4}).in("in").out("out");
  RunOptions options;
  options.profile = true;
  const auto first = client.run(built(builder), options);
  ASSERT_OK(first);
  EXPECT_EQ(first->profile->counters.device_misses, 1u);
  // A device that reaches host memory keeps a small object when it is asked for again.
  ASSERT_OK(client.run(built(builder), options));
  const auto third = client.run(built(builder), options);
  ASSERT_OK(third);
  EXPECT_EQ(third->profile->counters.device_hits, 1u);
  EXPECT_EQ(third->profile->counters.host_to_device_bytes, 0u);
}

TEST_F(Conformance, FailedRequestChangesNothingAndLeavesNothingPinned) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  const auto before = client.stat("x");
  RequestBuilder builder;
  builder.buffer("x", 4);
  builder.kernel("std", "scale")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(2.0f)
      .inout("x");
  builder.kernel("std", "no_such_kernel").grid(1).block(1).inout("x");
  const auto reply = client.run(built(builder));
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, StatusCode::NotFound) << reply.error().message;
  const auto after = client.stat("x");
  ASSERT_OK(after);
  EXPECT_EQ(after->version, before->version);
  EXPECT_EQ(floats(client, "x").at(0), 1.0f);
  ASSERT_OK(client.remove("x"));
  EXPECT_TRUE(eventually([&] {
    const auto status = client.status_json();
    return status.has_value() && nlohmann::json::parse(*status)["store"]["versions"] == 0;
  }));
}

TEST_F(Conformance, RequestsOfOneRingSeeEachOther) {
  Client client = connect();
  std::vector<Future<Reply>> runs;
  std::vector<Future<Object>> gets;
  auto put = client.put_async("x", bytes_of(std::vector<float>{1.0f}));
  for (int i = 0; i < 20; ++i) {
    runs.push_back(client.submit(scale("x", 1)));
    gets.push_back(client.get_async("x"));
  }
  EXPECT_OK(put.get());
  for (auto& run : runs) EXPECT_OK(run.get());
  float expected = 1.0f;
  for (auto& get : gets) {
    expected *= 2.0f;
    const auto object = get.get();
    ASSERT_OK(object);
    EXPECT_EQ(values_of<float>(object->bytes()).at(0), expected);
  }
}

TEST_F(Conformance, RequestThatReadsWhatAFailedOneMakesFailsToo) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  RequestBuilder bad;
  bad.buffer("x", 4);
  bad.buffer("y", 4);
  bad.kernel("std", "no_such_kernel").grid(1).block(1).in("x").out("y");
  RequestBuilder reader;
  reader.buffer("y", 4);
  reader.buffer("out", 4).in_message();
  reader.kernel("std", "copy").grid(1).block(1).literal(std::uint64_t{4}).in("y").out("out");
  auto first = client.submit(built(bad));
  auto second = client.submit(built(reader));
  EXPECT_EQ(first.get().error().code, StatusCode::NotFound);
  const auto outcome = second.get();
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::DependencyFailed) << outcome.error().message;
}

TEST_F(Conformance, ArenaBuffersAreReadAndWrittenInPlaceInOrder) {
  Client client = connect();
  auto memory = client.allocate(4096);
  ASSERT_OK(memory);
  auto* values = reinterpret_cast<float*>(memory->data());
  values[0] = 1.0f;
  RequestBuilder builder;
  builder.buffer("x", 4).in(*memory);
  builder.kernel("std", "scale")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(2.0f)
      .inout("x");
  const Request request = built(builder);
  std::vector<Future<Reply>> runs;
  for (int i = 0; i < 10; ++i) runs.push_back(client.submit(request));
  for (auto& run : runs) ASSERT_OK(run.get());
  EXPECT_EQ(values[0], 1024.0f);
}

TEST_F(Conformance, SliceOutputsAreJoinedWithTheRestOfTheObject) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1, 2, 3, 4})));
  RequestBuilder builder;
  builder.buffer("slice", 4).at("x", 8);
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(1)
      .literal(std::uint64_t{1})
      .literal(9.0f)
      .out("slice");
  ASSERT_OK(client.run(built(builder)));
  EXPECT_EQ(floats(client, "x"), (std::vector<float>{1, 2, 9, 4}));
}

TEST_F(Conformance, LargeOutputComesBackWithoutACopy) {
  Client client = connect();
  constexpr std::uint64_t kCount = 1u << 20;
  RequestBuilder builder;
  builder.buffer("big", kCount * 4);
  builder.kernel("std", "fill_f32").grid(256).block(256).literal(kCount).literal(0.25f).out("big");
  ASSERT_OK(client.run(built(builder)));
  const auto values = floats(client, "big");
  ASSERT_EQ(values.size(), kCount);
  EXPECT_EQ(values.front(), 0.25f);
  EXPECT_EQ(values.back(), 0.25f);
  ASSERT_OK(client.run(scale("big", kCount, 4.0f)));
  EXPECT_EQ(floats(client, "big").back(), 1.0f);
}

TEST_F(Conformance, FunctionsServeEverySizeAndKeepVersions) {
  Client client = connect();
  RequestBuilder builder;
  builder.parameter("n").parameter("times");
  builder.buffer("x", "n * 4").at("x");
  builder.kernel("std", "scale")
      .grid({"ceil_div(n, 64)", "", ""})
      .block(64)
      .literal(LiteralType::U64, "n")
      .literal(2.0f)
      .inout("x");
  builder.n_iter("times");
  const auto first = client.deploy("grow", built(builder));
  ASSERT_OK(first);
  EXPECT_EQ(*first, 1u);
  for (const std::size_t n : {3u, 1000u}) {
    ASSERT_OK(client.put("x", bytes_of(std::vector<float>(n, 1.0f))));
    const std::vector<Parameter> parameters = {{"n", static_cast<std::int64_t>(n)}, {"times", 3}};
    ASSERT_OK(client.call("grow", parameters));
    EXPECT_EQ(floats(client, "x"), std::vector<float>(n, 8.0f));
  }
  const auto second = client.deploy("grow", scale("x", 1, 10.0f));
  ASSERT_OK(second);
  EXPECT_EQ(*second, 2u);
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(client.call("grow", {}));
  EXPECT_EQ(floats(client, "x").at(0), 10.0f);
  ASSERT_OK(client.make_current("grow", 1));
  const std::vector<Parameter> parameters = {{"n", 1}, {"times", 1}};
  ASSERT_OK(client.call("grow", parameters));
  EXPECT_EQ(floats(client, "x").at(0), 20.0f);
  ASSERT_OK(client.undeploy("grow"));
  EXPECT_EQ(client.call("grow", parameters).error().code, StatusCode::NotFound);
}

class SmallDevice : public Conformance {
 protected:
  std::vector<std::string> arguments() override { return {"--device-bytes", "4194304"}; }
};

// Three clients whose data is more than the device holds, with values checked on the device.
TEST_F(SmallDevice, EvictionUnderThreeClientsIsNeverWrong) {
  constexpr std::uint64_t kCount = 256 * 1024;  // 1 MiB each, 9 MiB in all.
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(connect());
  for (int c = 0; c < 3; ++c) {
    for (int m = 0; m < 3; ++m) {
      const auto key = "model" + std::to_string(c) + std::to_string(m);
      ASSERT_OK(clients[static_cast<std::size_t>(c)].put(
          key, bytes_of(std::vector<float>(kCount, static_cast<float>(c * 3 + m)))));
    }
  }
  for (int round = 0; round < 4; ++round) {
    for (int m = 0; m < 3; ++m) {
      std::vector<Future<Reply>> runs;
      for (int c = 0; c < 3; ++c) {
        RequestBuilder builder;
        builder.buffer("model", kCount * 4).at("model" + std::to_string(c) + std::to_string(m));
        builder.buffer("partials", 64 * 4).ephemeral();
        builder.buffer("total", 4).in_message();
        builder.kernel("std", "sum")
            .grid(64)
            .block(256)
            .literal(kCount)
            .in("model")
            .out("partials");
        builder.kernel("std", "sum")
            .grid(1)
            .block(64)
            .literal(std::uint64_t{64})
            .in("partials")
            .out("total");
        runs.push_back(clients[static_cast<std::size_t>(c)].submit(built(builder)));
      }
      for (int c = 0; c < 3; ++c) {
        const auto reply = runs[static_cast<std::size_t>(c)].get();
        ASSERT_OK(reply);
        EXPECT_EQ(values_of<float>(reply->data("total")).at(0),
                  static_cast<float>(c * 3 + m) * static_cast<float>(kCount));
      }
    }
  }
  EXPECT_GT(executor_status(clients[0])["counters"]["evictions"].get<int>(), 0);
}

TEST_F(SmallDevice, WorkingSetOverTheDeviceIsRefusedWithBothNumbers) {
  Client client = connect();
  constexpr std::uint64_t kCount = 2u << 20;  // 8 MiB.
  RequestBuilder builder;
  builder.buffer("big", kCount * 4).ephemeral();
  builder.kernel("std", "fill_f32").grid(1).block(256).literal(kCount).literal(1.0f).out("big");
  const auto reply = client.run(built(builder));
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, StatusCode::OutOfMemory);
  EXPECT_NE(reply.error().message.find("8388608"), std::string::npos) << reply.error().message;
  EXPECT_NE(reply.error().message.find("4194304"), std::string::npos) << reply.error().message;
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(client.run(scale("x", 1)));
}

}  // namespace
}  // namespace kaas
