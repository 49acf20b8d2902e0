#include "daemon/plan/functions.h"

#include <gtest/gtest.h>

#include <string>

#include "schema/limits.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

constexpr std::uint32_t kAnn = 1000;
constexpr std::uint32_t kBob = 1001;

RequestSpec scalable(const std::string& grid = "ceil_div(n, 256)") {
  RequestSpec request = saxpy_request();
  request.parameters = {"n"};
  request.kernels[0].grid[0].expression = grid;
  return request;
}

// grid.x of a call; 0 and the message in `fault` when it fails.
std::uint32_t grid_of(FunctionRegistry& registry, std::uint32_t uid, std::string_view name,
                      std::uint32_t version, std::vector<ParameterValue> parameters) {
  auto compiled = registry.compiled(uid, name, version, parameters);
  EXPECT_TRUE(compiled.has_value()) << compiled.error().message;
  return compiled.has_value() ? compiled->plan->kernels[0].grid[0] : 0;
}

TEST(FunctionRegistry, VersionsCountUpAndTheNewestIsCurrent) {
  FunctionRegistry registry;
  EXPECT_EQ(*registry.deploy(kAnn, "f", scalable("n")), 1u);
  EXPECT_EQ(*registry.deploy(kAnn, "f", scalable("2 * n")), 2u);
  EXPECT_EQ(grid_of(registry, kAnn, "f", 0, {{"n", 5}}), 10u);
  EXPECT_EQ(grid_of(registry, kAnn, "f", 1, {{"n", 5}}), 5u);
}

TEST(FunctionRegistry, AnOlderVersionCanBeMadeCurrentAgain) {
  FunctionRegistry registry;
  ASSERT_TRUE(registry.deploy(kAnn, "f", scalable("n")).has_value());
  ASSERT_TRUE(registry.deploy(kAnn, "f", scalable("2 * n")).has_value());
  ASSERT_TRUE(registry.make_current(kAnn, "f", 1).has_value());
  EXPECT_EQ(grid_of(registry, kAnn, "f", 0, {{"n", 5}}), 5u);
  EXPECT_EQ(*registry.deploy(kAnn, "f", scalable("3 * n")), 3u);
  EXPECT_EQ(grid_of(registry, kAnn, "f", 0, {{"n", 5}}), 15u);
}

TEST(FunctionRegistry, TheListNamesWhatACallCanBind) {
  using wire::Access;
  FunctionRegistry registry;
  RequestSpec request;
  for (const char* name : {"in", "changed", "scratch", "middle", "reused", "out"}) {
    request.buffers.push_back(store_buffer(name, 64));
  }
  request.buffers[3].ephemeral = true;
  request.kernels = {kernel_on("a", {{0, Access::In},
                                     {1, Access::InOut},
                                     {2, Access::Temporary},
                                     {3, Access::Out},
                                     {4, Access::Temporary}}),
                     kernel_on("b", {{3, Access::In}, {4, Access::In}, {5, Access::Out}}),
                     kernel_on("c", {{4, Access::Out}, {5, Access::In}})};
  for (KernelSpec& kernel : request.kernels) {
    kernel.grid[0].value = 1;
    kernel.block[0].value = 1;
  }
  ASSERT_TRUE(registry.deploy(kAnn, "f", request).has_value());
  const auto version = registry.list(kAnn)[0].versions[0];
  EXPECT_EQ(version.inputs, (std::vector<std::string>{"in", "changed"}));
  EXPECT_EQ(version.outputs, (std::vector<std::string>{"changed", "reused", "out"}));
}

TEST(FunctionRegistry, UndeployOfTheCurrentVersionFallsBackToTheHighestLeft) {
  FunctionRegistry registry;
  for (const char* grid : {"n", "2 * n", "3 * n"}) {
    ASSERT_TRUE(registry.deploy(kAnn, "f", scalable(grid)).has_value());
  }
  ASSERT_TRUE(registry.undeploy(kAnn, "f", 3).has_value());
  EXPECT_EQ(grid_of(registry, kAnn, "f", 0, {{"n", 5}}), 10u);
  EXPECT_EQ(*registry.deploy(kAnn, "f", scalable("n")), 4u) << "versions are never reused";
  ASSERT_TRUE(registry.undeploy(kAnn, "f", 0).has_value());
  EXPECT_TRUE(registry.list(kAnn).empty());
}

TEST(FunctionRegistry, NotFoundNamesWhatThereIs) {
  FunctionRegistry registry;
  ASSERT_TRUE(registry.deploy(kAnn, "edges", scalable()).has_value());
  EXPECT_EQ(registry.compiled(kAnn, "egdes", 0, {}).error().message,
            "there is no function 'egdes'; nearest: 'edges'");
  EXPECT_EQ(registry.compiled(kBob, "edges", 0, {}).error().message,
            "there is no function 'edges'");
  EXPECT_EQ(registry.compiled(kAnn, "edges", 7, {}).error().message,
            "function 'edges' has no version 7; there are 1, from 1 to 1, current is 1");
  EXPECT_EQ(registry.make_current(kAnn, "edges", 7).error().code, StatusCode::NotFound);
  EXPECT_EQ(registry.undeploy(kAnn, "edges", 7).error().code, StatusCode::NotFound);
  EXPECT_EQ(registry.undeploy(kAnn, "other", 0).error().code, StatusCode::NotFound);
}

TEST(FunctionRegistry, OwnersSeeTheirOwnAndThoseOfRoot) {
  FunctionRegistry registry;
  ASSERT_TRUE(registry.deploy(0, "shared", scalable("n")).has_value());
  ASSERT_TRUE(registry.deploy(0, "both", scalable("n")).has_value());
  ASSERT_TRUE(registry.deploy(kAnn, "both", scalable("2 * n")).has_value());
  EXPECT_EQ(grid_of(registry, kBob, "shared", 0, {{"n", 5}}), 5u);
  EXPECT_EQ(grid_of(registry, kAnn, "both", 0, {{"n", 5}}), 10u);
  EXPECT_EQ(grid_of(registry, kBob, "both", 0, {{"n", 5}}), 5u);
  EXPECT_EQ(registry.undeploy(kBob, "shared", 0).error().message,
            "function 'shared' belongs to uid 0, caller is uid 1001");
  EXPECT_EQ(registry.make_current(kBob, "shared", 1).error().code, StatusCode::PermissionDenied);

  const auto seen = registry.list(kAnn);
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[0].name, "both");
  EXPECT_EQ(seen[0].owner_uid, kAnn);
  EXPECT_EQ(seen[1].owner_uid, 0u);
  EXPECT_EQ(seen[2].name, "shared");
  EXPECT_EQ(seen[2].versions.at(0).parameters, std::vector<std::string>{"n"});
}

TEST(FunctionRegistry, ListsWhatACallCanBind) {
  FunctionRegistry registry;
  RequestSpec request = scalable();
  request.buffers.push_back(store_buffer("scratch", 16));
  request.buffers.back().ephemeral = true;
  request.kernels[0].arguments.push_back({2, wire::Access::Out});
  ASSERT_TRUE(registry.deploy(kAnn, "f", request).has_value());
  const auto listed = registry.list(kAnn);
  EXPECT_EQ(listed.at(0).versions.at(0).inputs, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(listed.at(0).versions.at(0).outputs, std::vector<std::string>{"y"});
}

TEST(FunctionRegistry, FaultsAreFoundWhenDeployed) {
  FunctionRegistry registry;
  EXPECT_EQ(registry.deploy(kAnn, "f", scalable("m")).error().message,
            "kernel 0 ('saxpy') grid.x expression 'm', column 1: no parameter 'm'; nearest: 'n'");
  EXPECT_EQ(registry.deploy(kAnn, "", scalable()).error().code, StatusCode::InvalidArgument);
  EXPECT_EQ(registry.deploy(kAnn, "a\nb", scalable()).error().code, StatusCode::InvalidArgument);
  EXPECT_EQ(registry.deploy(kAnn, std::string(kNameBytesMax + 1, 'f'), scalable()).error().code,
            StatusCode::InvalidArgument);
  RequestSpec constant = saxpy_request();
  constant.kernels[0].grid[0].expression = "1 / 0";
  EXPECT_EQ(registry.deploy(kAnn, "f", constant).error().message,
            "kernel 0 ('saxpy') grid.x expression '1 / 0', column 3: 1 is divided by zero");
  EXPECT_TRUE(registry.list(kAnn).empty());
}

TEST(FunctionRegistry, CallsWithWrongParametersSayWhich) {
  FunctionRegistry registry;
  ASSERT_TRUE(registry.deploy(kAnn, "f", scalable()).has_value());
  const auto fault = [&](std::vector<ParameterValue> parameters) {
    return registry.compiled(kAnn, "f", 0, parameters).error().message;
  };
  EXPECT_EQ(fault({}), "function 'f' version 1: parameter 'n' has no value; needed are 'n'");
  EXPECT_EQ(fault({{"m", 1}}), "function 'f' version 1: there is no parameter 'm'; nearest: 'n'");
  EXPECT_EQ(fault({{"n", 0}}),
            "function 'f' version 1: kernel 0 ('saxpy') grid.x is 0 by expression "
            "'ceil_div(n, 256)', allowed 1 to 2147483647");
  EXPECT_EQ(registry.list(kAnn)[0].versions[0].compiled, 0u);
}

TEST(FunctionRegistry, EachSetOfValuesIsCompiledOnce) {
  FunctionRegistry registry(2);
  RequestSpec request = scalable();
  request.parameters = {"n", "m"};
  ASSERT_TRUE(registry.deploy(kAnn, "f", request).has_value());
  const auto plan = [&](std::vector<ParameterValue> parameters) {
    return registry.compiled(kAnn, "f", 0, parameters)->plan;
  };
  const auto first = plan({{"n", 1}, {"m", 2}});
  EXPECT_EQ(plan({{"m", 2}, {"n", 1}}), first) << "the order of names does not matter";
  const auto second = plan({{"n", 2}, {"m", 1}});
  EXPECT_NE(second, first);
  EXPECT_EQ(plan({{"n", 1}, {"m", 2}}), first);
  plan({{"n", 3}, {"m", 3}});  // Sends the second away.
  EXPECT_EQ(plan({{"n", 1}, {"m", 2}}), first);
  EXPECT_NE(plan({{"n", 2}, {"m", 1}}), second);
  EXPECT_EQ(registry.list(kAnn)[0].versions[0].compiled, 2u);
}

TEST(FunctionRegistry, WhatWasHandedOutOutlivesUndeploy) {
  FunctionRegistry registry;
  ASSERT_TRUE(registry.deploy(kAnn, "f", scalable("n")).has_value());
  const std::vector<ParameterValue> five{{"n", 5}};
  const CompiledRequest kept = *registry.compiled(kAnn, "f", 0, five);
  ASSERT_TRUE(registry.undeploy(kAnn, "f", 0).has_value());
  ASSERT_TRUE(registry.deploy(kAnn, "f", scalable("2 * n")).has_value());
  EXPECT_EQ(grid_of(registry, kAnn, "f", 0, five), 10u) << "not the template of the old version";
  EXPECT_EQ(kept.plan->kernels[0].grid[0], 5u);
  EXPECT_EQ(kept.request->kernels.size(), 1u);
}

TEST(FunctionRegistry, NumbersOfAnOwnerAreLimited) {
  FunctionRegistry registry;
  for (std::uint32_t n = 0; n < kVersionsPerFunctionMax; ++n) {
    ASSERT_TRUE(registry.deploy(kAnn, "f", scalable()).has_value());
  }
  EXPECT_EQ(registry.deploy(kAnn, "f", scalable()).error().message,
            "number of versions of 'f' is 257, limit 256");
  for (std::uint32_t n = 1; n < kFunctionsPerOwnerMax; ++n) {
    ASSERT_TRUE(registry.deploy(kAnn, "f" + std::to_string(n), scalable()).has_value());
  }
  EXPECT_EQ(registry.deploy(kAnn, "one more", scalable()).error().code,
            StatusCode::ResourceExhausted);
  EXPECT_TRUE(registry.deploy(kBob, "f", scalable()).has_value());
}

TEST(FunctionRegistry, BytesOfAnOwnerAreLimited) {
  FunctionRegistry registry;
  RequestSpec large = saxpy_request();
  for (int n = 0; n < 200; ++n) {
    large.buffers.push_back(inline_buffer("b" + std::to_string(n), kInlineBytesMax,
                                          std::vector<std::byte>(kInlineBytesMax)));
  }
  StatusCode code = StatusCode::Ok;
  int deployed = 0;
  for (; deployed < 10 && code == StatusCode::Ok; ++deployed) {
    auto version = registry.deploy(kAnn, "f", large);
    if (!version.has_value()) code = version.error().code;
  }
  EXPECT_EQ(code, StatusCode::ResourceExhausted);
  EXPECT_EQ(deployed, 6);  // 12.5 MiB each; five fit 64 MiB.
}

}  // namespace
}  // namespace kaas
