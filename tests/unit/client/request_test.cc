#include <gtest/gtest.h>
#include <kaas/client.h>

#include "schema/ipc/messages.h"

namespace kaas {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

const wire::Request* root_of(const Result<Request>& request) {
  EXPECT_TRUE(request.has_value()) << to_string(request.error());
  const auto* root = verified_root<wire::Request>(request->bytes());
  EXPECT_NE(root, nullptr);
  return root;
}

TEST(RequestBuilder, WritesEveryFieldOfABuffer) {
  RequestBuilder builder;
  builder.buffer("a", 100).at("key", 8).constant().zero_fill();
  builder.buffer("b", 16).ephemeral().resident();
  builder.buffer("c", "4 * n").offset("n").in_segment(17, 64);
  builder.buffer("d", 3).inline_bytes(bytes_of("xyz"));
  IpcHandle handle;
  handle.handle[63] = std::byte{9};
  handle.base_offset = 512;
  builder.buffer("e", 8).device_memory(handle);
  builder.kernel("std", "fill");
  const auto built = builder.build();
  const auto* buffers = root_of(built)->buffers();
  ASSERT_EQ(buffers->size(), 5u);
  const auto* a = buffers->Get(0);
  EXPECT_EQ(view(a->name()), "a");
  EXPECT_EQ(view(a->key()), "key");
  EXPECT_EQ(a->size(), 100u);
  EXPECT_EQ(a->offset(), 8u);
  EXPECT_TRUE(a->constant() && a->zero_fill());
  EXPECT_FALSE(a->ephemeral() || a->resident());
  EXPECT_EQ(buffers->Get(1)->key(), nullptr);
  EXPECT_TRUE(buffers->Get(1)->ephemeral() && buffers->Get(1)->resident());
  const auto* c = buffers->Get(2);
  EXPECT_EQ(view(c->size_expression()), "4 * n");
  EXPECT_EQ(view(c->offset_expression()), "n");
  EXPECT_EQ(c->where(), wire::Where::Segment);
  EXPECT_EQ(c->segment(), 17u);
  EXPECT_EQ(c->offset(), 64u);
  EXPECT_EQ(buffers->Get(3)->where(), wire::Where::Inline);
  EXPECT_EQ(buffers->Get(3)->data()->size(), 3u);
  EXPECT_EQ(buffers->Get(4)->where(), wire::Where::Ipc);
  EXPECT_EQ(buffers->Get(4)->ipc()->handle()->Get(63), 9);
  EXPECT_EQ(buffers->Get(4)->ipc()->base_offset(), 512u);
}

TEST(RequestBuilder, WritesEveryFieldOfAKernel) {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.buffer("y", 8);
  builder.kernel("lib", "k")
      .grid(1, 2, 3)
      .block({"n", "", "2"})
      .shared_bytes(48)
      .cluster(2)
      .cooperative()
      .programmatic()
      .literal(std::int32_t{-1})
      .literal(1.5f)
      .literal(-2.0)
      .literal(LiteralType::U64, "n * 2")
      .raw(bytes_of("0123456789abcdef"), {{8, "y"}})
      .in("x")
      .out("y")
      .inout("x")
      .temporary("y")
      .order({5, 0, 1, 2, 3, 4, 6, 7, 8});
  const auto built = builder.build();
  const auto* kernel = root_of(built)->kernels()->Get(0);
  EXPECT_EQ(view(kernel->library()), "lib");
  EXPECT_EQ(kernel->grid()->z(), 3u);
  EXPECT_EQ(view(kernel->block_expression()->Get(0)), "n");
  EXPECT_EQ(kernel->block_expression()->Get(1)->size(), 0u);
  EXPECT_EQ(kernel->shared_bytes(), 48u);
  EXPECT_EQ(kernel->cluster()->x(), 2u);
  EXPECT_TRUE(kernel->cooperative());
  EXPECT_TRUE(kernel->programmatic());
  const auto* literals = kernel->literals();
  ASSERT_EQ(literals->size(), 5u);
  EXPECT_EQ(literals->Get(0)->bits(), 0xffff'ffffu);
  EXPECT_EQ(literals->Get(1)->bits(), 0x3fc0'0000u);
  EXPECT_EQ(literals->Get(2)->bits(), 0xc000'0000'0000'0000u);
  EXPECT_EQ(view(literals->Get(3)->expression()), "n * 2");
  EXPECT_EQ(literals->Get(4)->type(), wire::LiteralType::Raw);
  EXPECT_EQ(literals->Get(4)->raw()->size(), 16u);
  EXPECT_EQ(literals->Get(4)->slots()->Get(0)->offset(), 8u);
  EXPECT_EQ(literals->Get(4)->slots()->Get(0)->buffer(), 1u);
  const auto* arguments = kernel->arguments();
  ASSERT_EQ(arguments->size(), 4u);
  EXPECT_EQ(arguments->Get(0)->access(), wire::Access::In);
  EXPECT_EQ(arguments->Get(1)->access(), wire::Access::Out);
  EXPECT_EQ(arguments->Get(2)->access(), wire::Access::InOut);
  EXPECT_EQ(arguments->Get(3)->access(), wire::Access::Temporary);
  EXPECT_EQ(arguments->Get(3)->buffer(), 1u);
  EXPECT_EQ(kernel->order()->size(), 9u);
}

TEST(RequestBuilder, WritesIterationsUntilAndParameters) {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.buffer("stop", 4);
  builder.kernel("std", "fill").inout("x").out("stop");
  builder.n_iter(3000).until("stop").parameter("width").parameter("height");
  const auto built = builder.build();
  EXPECT_EQ(root_of(built)->n_iter(), 3000u);
  EXPECT_EQ(root_of(built)->until(), 1);
  EXPECT_EQ(root_of(built)->parameters()->size(), 2u);
  builder.n_iter("2 * width");
  const auto again = builder.build();
  EXPECT_EQ(view(root_of(again)->n_iter_expression()), "2 * width");
}

TEST(RequestBuilder, ABufferMayBeDeclaredAfterTheKernelThatUsesIt) {
  RequestBuilder builder;
  builder.kernel("std", "fill").out("later");
  builder.buffer("later", 8);
  const auto built = builder.build();
  EXPECT_EQ(root_of(built)->kernels()->Get(0)->arguments()->Get(0)->buffer(), 0u);
}

TEST(RequestBuilder, RefusesANameThatIsNotDeclaredAndNamesTheKernel) {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.kernel("std", "fill").out("x");
  builder.kernel("std", "copy").in("y").out("x");
  const auto built = builder.build();
  ASSERT_FALSE(built.has_value());
  EXPECT_EQ(to_string(built.error()),
            "InvalidArgument: kernel 1 'copy' names buffer 'y', which the request does not "
            "declare");
}

TEST(RequestBuilder, RefusesABufferThatIsDeclaredTwice) {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.buffer("x", 16);
  const auto built = builder.build();
  ASSERT_FALSE(built.has_value());
  EXPECT_NE(built.error().message.find("'x'"), std::string::npos);
}

TEST(RequestBuilder, RefusesMoreBuffersThanAnIndexCanName) {
  RequestBuilder builder;
  for (std::uint32_t i = 0; i <= kBuffersMax; ++i) builder.buffer(std::to_string(i), 1);
  const auto built = builder.build();
  ASSERT_FALSE(built.has_value());
  EXPECT_EQ(built.error().message, "number of buffers is 8193, limit 8192");
}

TEST(RequestBuilder, ABuiltRequestDoesNotChangeWithItsBuilder) {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.kernel("std", "fill").out("x");
  const auto first = builder.build();
  builder.kernel("std", "fill").out("x");
  const auto second = builder.build();
  EXPECT_EQ(root_of(first)->kernels()->size(), 1u);
  EXPECT_EQ(root_of(second)->kernels()->size(), 2u);
}

TEST(Status, NamesAreThoseOfTheSchema) {
  for (int code = 0; code <= static_cast<int>(wire::StatusCode::MAX); ++code) {
    const auto value = static_cast<StatusCode>(code);
    EXPECT_STREQ(name_of(value), wire::EnumNameStatusCode(value));
  }
  EXPECT_STREQ(name_of(static_cast<StatusCode>(200)), "unknown status");
}

}  // namespace
}  // namespace kaas
