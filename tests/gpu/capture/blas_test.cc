// cuBLAS in a graph: the same product as by stream.
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint32_t kN = 64;

class Blas : public E2eTest {};

TEST_F(Blas, ProductInAGraphIsTheProductByStream) {
  Client client = connect();
  std::vector<float> a(kN * kN);
  std::vector<float> b(kN * kN);
  for (std::uint32_t i = 0; i < kN * kN; ++i) {
    a[i] = static_cast<float>(i % 7);
    b[i] = static_cast<float>(i % 5);
  }
  std::vector<float> wanted(kN * kN, 0.0f);
  for (std::uint32_t column = 0; column < kN; ++column) {
    for (std::uint32_t k = 0; k < kN; ++k) {
      for (std::uint32_t row = 0; row < kN; ++row) {
        wanted[column * kN + row] += a[k * kN + row] * b[column * kN + k];
      }
    }
  }
  ASSERT_OK(client.put("a", bytes_of(a)));
  ASSERT_OK(client.put("b", bytes_of(b)));
  RequestBuilder builder;
  for (const char* name : {"a", "b", "c"}) builder.buffer(name, kN * kN * 4);
  builder.kernel("blas", "gemm").grid(1).block(1).literal(kN).in("a").in("b").out("c");
  const Request request = built(builder);
  RunOptions options;
  options.profile = true;
  const auto first = client.run(request, options);
  ASSERT_OK(first);
  EXPECT_EQ(first->profile->way, RunWay::Stream);
  EXPECT_EQ(floats(client, "c"), wanted) << "whole numbers: exact";
  Profile last;
  ASSERT_TRUE(eventually([&] {
    const auto reply = client.run(request, options);
    if (!reply.has_value()) return false;
    last = *reply->profile;
    return last.way == RunWay::Graph;
  })) << last.why_stream;
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK(client.run(request, options));
    EXPECT_EQ(floats(client, "c"), wanted);
  }
}

}  // namespace
}  // namespace kaas
