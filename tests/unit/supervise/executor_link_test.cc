#include "daemon/supervise/executor_link.h"

#include <gtest/gtest.h>

#include "daemon/plan/compile.h"
#include "tests/support/request_specs.h"

namespace kaas {
namespace {

// A buffer that no kernel uses has no memory: an executor is not told of it, and the others are
// numbered without it wherever they are named.
TEST(EncodePlan, BufferThatNobodyUsesIsLeftOut) {
  RequestSpec request;
  request.buffers = {store_buffer("unused", 64), store_buffer("x", 64), store_buffer("spare", 64),
                     store_buffer("end", 4)};
  KernelSpec kernel = kernel_on("f", {{1, wire::Access::In}, {3, wire::Access::InOut}});
  kernel.literals = {{wire::LiteralType::Raw, 0, "", std::vector<std::byte>(16), {{0, 1}, {8, 3}}}};
  request.kernels = {kernel};
  request.until = 3;
  auto compiled = compile(request, {}, {});
  ASSERT_TRUE(compiled.has_value()) << compiled.error().message;
  auto library = std::make_shared<LibraryVersion>();
  library->id = 7;
  PlanInstance instance(1, std::make_shared<const PlanTemplate>(*std::move(compiled)),
                        std::make_shared<DroppedPlans>());
  instance.libraries = {library};
  instance.kernel_library = {0};

  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(encode_plan(builder, instance));
  const auto* plan = flatbuffers::GetRoot<wire::LoadPlan>(builder.GetBufferPointer());
  ASSERT_EQ(plan->allocations()->size(), 2u);
  ASSERT_EQ(plan->buffers()->size(), 2u);
  EXPECT_EQ(plan->buffers()->Get(0)->allocation(), 0u);
  EXPECT_EQ(plan->buffers()->Get(1)->allocation(), 1u);
  EXPECT_EQ(plan->until(), 1);
  const auto* slots = plan->kernels()->Get(0)->literals()->Get(0)->slots();
  EXPECT_EQ(slots->Get(0)->buffer(), 0u);
  EXPECT_EQ(slots->Get(1)->buffer(), 1u);
}

}  // namespace
}  // namespace kaas
