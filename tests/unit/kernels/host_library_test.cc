// Libraries that only a host build can run in a test: opaque kernels, and the oldest wrapper form.
#include "tests/unit/kernels/kernel_call.h"

namespace kaas {
namespace {

class OpaqueLibrary : public testing::Test {
 protected:
  // Opens the library; `error_` gets the text of a refusal.
  int open(std::uint32_t host_threads) {
    kaas_open_info info{};
    info.struct_size = sizeof(info);
    info.device_kind = KAAS_DEVICE_HOST;
    info.host_threads = host_threads;
    info.error = error_;
    info.error_bytes = sizeof(error_);
    return library_.table().open(&info, &context_);
  }

  int launch(const char* kernel, std::vector<void*> params) {
    kaas_launch launch{};
    launch.struct_size = sizeof(launch);
    launch.context = context_;
    return library_.find(kernel)->launch(&launch, params.data(), nullptr, context_, error_,
                                         sizeof(error_));
  }

  KernelLibrary library_{kernel_library_path("opaque.so")};
  void* context_ = nullptr;
  char error_[64] = "";
};

TEST_F(OpaqueLibrary, DeclaresItsState) {
  EXPECT_EQ(library_.table().flags, KAAS_STATEFUL);
  EXPECT_EQ(library_.find("count_calls")->flags, KAAS_OPAQUE | KAAS_STATEFUL);
  EXPECT_EQ(library_.find("closed")->flags, KAAS_OPAQUE | KAAS_CAPTURE_PURE);
  EXPECT_STREQ(library_.find("count_calls")->signature, "QP");
  EXPECT_EQ(library_.find("count_calls")->host_blocks, nullptr);
}

TEST_F(OpaqueLibrary, ContextLivesFromOpenToClose) {
  ASSERT_EQ(open(3), 0);
  std::uint64_t limit = 2;
  std::uint64_t out[2] = {};
  void* address = out;
  ASSERT_EQ(launch("count_calls", {&limit, &address}), 0);
  ASSERT_EQ(launch("count_calls", {&limit, &address}), 0);
  EXPECT_EQ(out[0], 2U);
  EXPECT_EQ(out[1], 3U);
  EXPECT_NE(launch("count_calls", {&limit, &address}), 0);
  EXPECT_STREQ(error_, "call 3, limit 2");
  library_.table().close(context_);
  ASSERT_EQ(launch("closed", {&address}), 0);
  EXPECT_EQ(out[0], 1U);
}

TEST_F(OpaqueLibrary, OpenCanRefuseWithAText) {
  EXPECT_NE(open(0), 0);
  EXPECT_STREQ(error_, "host_threads is 0, at least 1 is needed");
}

TEST(LegacyLibrary, DotProductOfTwoFunctionsFoundByName) {
  using Wrapper = int (*)(int grid, int block, void** buffers);
  const KernelLibrary library(kernel_library_path("legacy.so"));
  EXPECT_EQ(library.symbol(KAAS_LIBRARY_SYMBOL), nullptr);
  auto* product = reinterpret_cast<Wrapper>(library.symbol("prodKernel"));
  auto* sum = reinterpret_cast<Wrapper>(library.symbol("sumKernel"));
  ASSERT_NE(product, nullptr);
  ASSERT_NE(sum, nullptr);

  std::uint64_t count = 1001;
  std::vector<float> a(count);
  std::vector<float> b(count);
  double exact = 0;
  for (std::size_t i = 0; i < count; ++i) {
    a[i] = static_cast<float>(i % 13);
    b[i] = static_cast<float>(i % 7) - 3;
    exact += double{a[i]} * double{b[i]};
  }
  std::vector<float> products(count, -1.0F);
  float result = -1;
  void* product_buffers[] = {&count, a.data(), b.data(), products.data()};
  ASSERT_EQ(product(4, 128, product_buffers), 0);
  void* sum_buffers[] = {&count, products.data(), &result};
  ASSERT_EQ(sum(4, 128, sum_buffers), 0);
  EXPECT_EQ(result, exact);
}

TEST(ExampleLibrary, InvertIsTheNegative) {
  const auto device = make_kernel_device();
  const KernelLibrary library(*device, "invert");
  const std::vector<std::uint8_t> in{0, 1, 128, 254, 255};
  std::vector<std::uint8_t> out(in.size(), 7);
  KernelCall(*device, library, "invert", {{2, 1, 1}, {2, 1, 1}})
      .literal(std::uint64_t{in.size()})
      .in(in)
      .out(&out)
      .run();
  EXPECT_EQ(out, (std::vector<std::uint8_t>{255, 254, 127, 1, 0}));
}

}  // namespace
}  // namespace kaas
