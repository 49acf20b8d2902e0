#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/request_json/decoded_request.h"

namespace kaas {
namespace {

// The examples of docs/request-format.md, in order.
std::vector<std::string> documented_examples() {
  const char* root = std::getenv("KAAS_TEST_SOURCE_DIR");
  std::ifstream file(std::string(root == nullptr ? "." : root) + "/docs/request-format.md");
  std::vector<std::string> examples;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line == "```json") {
      examples.emplace_back();
      inside = true;
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      examples.back() += line + "\n";
    }
  }
  return examples;
}

class DocumentedExample : public testing::Test {
 protected:
  void SetUp() override {
    examples_ = documented_examples();
    ASSERT_EQ(examples_.size(), 5U);
  }
  std::vector<std::string> examples_;
};

TEST_F(DocumentedExample, EdgesIsAFunctionOfItsSize) {
  const DecodedRequest edges(examples_[0]);
  ASSERT_TRUE(edges.ok());
  EXPECT_EQ(edges.parsed().format, RequestFormat::Kaas);
  EXPECT_EQ(edges.parsed().function, "edges");
  EXPECT_EQ(edges.parsed().parameters, (std::vector<std::string>{"width", "height"}));
  EXPECT_EQ(edges.roles(), "in:in luma: rows: smooth: gradient: peak: out:out");
  ASSERT_EQ(edges.wire().kernels()->size(), 6U);
  EXPECT_EQ(edges.wire().parameters()->size(), 2U);
  EXPECT_EQ(edges.buffer(0).size_expression()->str(), "width * height * 3");
  EXPECT_EQ(edges.buffer(5).size(), 4U);
  EXPECT_TRUE(edges.buffer(1).ephemeral());
  const auto& gaussian = edges.kernel(1);
  EXPECT_EQ(gaussian.grid_expression()->Get(1)->str(), "ceil_div(height, 16)");
  EXPECT_EQ(gaussian.block()->x(), 16U);
  EXPECT_EQ(gaussian.block()->y(), 16U);
  EXPECT_EQ(gaussian.block()->z(), 1U);
  EXPECT_EQ(gaussian.literals()->Get(0)->expression()->str(), "width");
  EXPECT_EQ(gaussian.literals()->Get(2)->bits(), 2U);
  EXPECT_EQ(gaussian.literals()->Get(2)->type(), wire::LiteralType::U32);
  EXPECT_EQ(edges.arguments(5), "gradient:i peak:i out:o");
}

TEST_F(DocumentedExample, InlineBytesAndIterationsTravelInTheRequest) {
  const DecodedRequest request(examples_[1]);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.parsed().function, "");
  EXPECT_EQ(request.wire().n_iter(), 3U);
  EXPECT_EQ(request.buffer(0).where(), wire::Where::Inline);
  EXPECT_EQ(request.buffer(0).size(), 16U);
  EXPECT_EQ(request.buffer(0).data()->size(), 16U);
  EXPECT_EQ(request.buffer(1).key()->str(), "result");
  EXPECT_TRUE(request.buffer(1).zero_fill());
  EXPECT_EQ(request.roles(), "x:in y:in,out");
  EXPECT_EQ(request.kernel(0).literals()->Get(1)->bits(), std::bit_cast<std::uint32_t>(2.5F));
  EXPECT_EQ(request.kernel(0).literals()->Get(1)->type(), wire::LiteralType::F32);
}

TEST_F(DocumentedExample, LaterFormatIsTranslated) {
  const DecodedRequest request(examples_[2]);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.parsed().format, RequestFormat::OriginalLater);
  EXPECT_EQ(request.arguments(0), "a:i b:i products:o");
  EXPECT_EQ(request.arguments(1), "products:i dot:o");
  // The ephemeral `o` was written back by the original: it is an output here.
  EXPECT_EQ(request.roles(), "a:in b:in products:out dot:out");
  for (const auto* buffer : *request.wire().buffers()) {
    EXPECT_FALSE(buffer->ephemeral());
    EXPECT_TRUE(buffer->zero_fill());
  }
  EXPECT_EQ(request.buffer(1).key()->str(), "vectors");
  EXPECT_EQ(request.buffer(1).offset(), 256U);
  EXPECT_TRUE(request.buffer(1).constant());
  EXPECT_EQ(request.kernel(0).literals()->Get(0)->type(), wire::LiteralType::U64);
  EXPECT_EQ(request.kernel(1).grid()->y(), 1U);
  EXPECT_EQ(request.kernel(1).block()->x(), 64U);
}

TEST_F(DocumentedExample, OlderFormatKeepsItsMeaning) {
  const DecodedRequest request(examples_[3]);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.parsed().format, RequestFormat::OriginalOlder);
  EXPECT_EQ(request.arguments(0), "count:i a:i b:i products:o");
  EXPECT_EQ(request.arguments(1), "count:i products:i dot:o");
  EXPECT_EQ(request.roles(), "count:in a:in b:in products: dot:out");
  EXPECT_TRUE(request.buffer(3).ephemeral());
  EXPECT_FALSE(request.buffer(0).zero_fill());
  EXPECT_EQ(request.kernel(0).grid()->x(), 2U);
  EXPECT_EQ(request.kernel(0).block()->x(), 32U);
}

TEST_F(DocumentedExample, ListsOfInputsAndOutputsAreArguments) {
  const DecodedRequest request(examples_[4]);
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.arguments(0), "count:i a:i b:i product:o");
  EXPECT_EQ(request.roles(), "count:in a:in b:in product:out");
}

// --- Our own format, field by field --------------------------------------------------------------

TEST(KaasFormat, EveryFieldOfAKernelIsWritten) {
  const DecodedRequest request(R"({
    "buffers": [{"name": "a", "size": 64}, {"name": "b", "size": 64}, {"name": "stop", "size": 4}],
    "until": "stop",
    "kernels": [{"library": "/opt/lib.so", "kernel": "k", "grid": [4, 5, 6], "block": [7, 8],
      "shared_bytes": 1024, "cluster": [2, 1, 1], "programmatic": true, "comment": "all of it",
      "literals": [{"i32": -1}, {"u32": 4294967295}, {"i64": -9223372036854775808},
                   {"u64": 18446744073709551615}, {"f32": 1}, {"f64": -0.5}, {"i": 2}, {"f": 0.5},
                   {"d": 1e300}, {"Q": 3}, {"type": "i64", "value": "3 * 4"},
                   {"raw": "hex:00112233445566778899aabbccddeeff",
                    "slots": [{"offset": 8, "buffer": "b"}]}],
      "arguments": [["a", "t"], ["b", "io"], ["stop", "o"]],
      "order": [14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]}]})");
  ASSERT_TRUE(request.ok());
  const auto& kernel = request.kernel(0);
  EXPECT_EQ(kernel.library()->str(), "/opt/lib.so");
  EXPECT_EQ(kernel.grid()->z(), 6U);
  EXPECT_EQ(kernel.block()->y(), 8U);
  EXPECT_EQ(kernel.shared_bytes(), 1024U);
  EXPECT_EQ(kernel.cluster()->x(), 2U);
  EXPECT_TRUE(kernel.programmatic());
  EXPECT_FALSE(kernel.cooperative());
  EXPECT_EQ(request.wire().until(), 2);
  EXPECT_EQ(kernel.order()->Get(0), 14U);
  EXPECT_EQ(request.arguments(0), "a:t b:io stop:o");
  EXPECT_EQ(request.roles(), "a: b:in,out stop:out");

  const auto& literals = *kernel.literals();
  ASSERT_EQ(literals.size(), 12U);
  EXPECT_EQ(static_cast<std::uint32_t>(literals.Get(0)->bits()), 0xFFFF'FFFFU);
  EXPECT_EQ(literals.Get(1)->bits(), 0xFFFF'FFFFU);
  EXPECT_EQ(literals.Get(2)->bits(), std::uint64_t{1} << 63);
  EXPECT_EQ(literals.Get(3)->bits(), ~std::uint64_t{0});
  EXPECT_EQ(literals.Get(4)->bits(), std::bit_cast<std::uint32_t>(1.0F));
  EXPECT_EQ(literals.Get(5)->bits(), std::bit_cast<std::uint64_t>(-0.5));
  EXPECT_EQ(literals.Get(6)->type(), wire::LiteralType::I32);
  EXPECT_EQ(literals.Get(8)->bits(), std::bit_cast<std::uint64_t>(1e300));
  EXPECT_EQ(literals.Get(9)->type(), wire::LiteralType::U64);
  EXPECT_EQ(literals.Get(10)->expression()->str(), "3 * 4");
  EXPECT_EQ(literals.Get(11)->type(), wire::LiteralType::Raw);
  EXPECT_EQ(literals.Get(11)->raw()->Get(15), 0xFFU);
  EXPECT_EQ(literals.Get(11)->slots()->Get(0)->offset(), 8U);
  EXPECT_EQ(literals.Get(11)->slots()->Get(0)->buffer(), 1U);
}

TEST(KaasFormat, EveryFieldOfABufferIsWritten) {
  const DecodedRequest request(R"({
    "parameters": ["n"], "n_iter": "n * 2",
    "buffers": [{"name": "a", "size": "n", "offset": "n * 4", "key": "k", "const": true,
                 "zero_fill": true, "where": "store"},
                {"name": "b", "size": 8, "offset": 18446744073709551000, "resident": true,
                 "ephemeral": true},
                {"name": "c", "size": 65536, "where": "inline"},
                {"name": "d", "data": "base64:AP8=", "size": 2, "key": null}],
    "kernels": [{"library": "l", "kernel": "k", "grid": "n", "block": [1, "n", 2]}]})");
  ASSERT_TRUE(request.ok());
  const auto& a = request.buffer(0);
  EXPECT_EQ(a.key()->str(), "k");
  EXPECT_EQ(a.size_expression()->str(), "n");
  EXPECT_EQ(a.offset_expression()->str(), "n * 4");
  EXPECT_TRUE(a.constant());
  EXPECT_TRUE(a.zero_fill());
  EXPECT_FALSE(a.resident());
  EXPECT_EQ(request.parsed().buffers[0].bytes, 0U);
  EXPECT_EQ(request.buffer(1).offset(), 18446744073709551000U);
  EXPECT_TRUE(request.buffer(1).resident());
  EXPECT_TRUE(request.buffer(1).ephemeral());
  EXPECT_EQ(request.parsed().buffers[1].bytes, 8U);
  EXPECT_EQ(request.buffer(2).where(), wire::Where::Inline);
  EXPECT_EQ(request.buffer(2).size(), 65536U);
  EXPECT_EQ(request.buffer(3).data()->size(), 2U);
  EXPECT_EQ(request.wire().n_iter_expression()->str(), "n * 2");
  // A number among expressions becomes one.
  EXPECT_EQ(request.kernel(0).block_expression()->Get(0)->str(), "1");
  EXPECT_EQ(request.kernel(0).block_expression()->Get(1)->str(), "n");
  EXPECT_EQ(request.kernel(0).block_expression()->Get(2)->str(), "2");
}

TEST(KaasFormat, BufferThatIsScratchThenReadThenWrittenIsAnOutputOnly) {
  const DecodedRequest request(R"({
    "buffers": [{"name": "b", "size": 4}],
    "kernels": [
      {"library": "l", "kernel": "k", "grid": 1, "block": 1, "arguments": [["b", "t"]]},
      {"library": "l", "kernel": "k", "grid": 1, "block": 1, "arguments": [["b", "i"]]},
      {"library": "l", "kernel": "k", "grid": 1, "block": 1, "arguments": [["b", "o"]]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.roles(), "b:out");
}

// --- The original's formats ----------------------------------------------------------------------

TEST(OriginalFormat, FormatFieldMayBeGiven) {
  const DecodedRequest later(R"({"format": "original-later", "kernels": [
      {"library": "l", "kernel": "k", "gridDim": 3, "blockDim": 4, "sharedSize": 5}]})");
  ASSERT_TRUE(later.ok());
  EXPECT_EQ(later.kernel(0).grid()->x(), 3U);
  EXPECT_EQ(later.kernel(0).shared_bytes(), 5U);
  EXPECT_STREQ(name_of(later.parsed().format), "original-later");
  const DecodedRequest older(R"({"format": "original-older", "kernels": [
      {"library": "l", "kernel": "k", "nGrid": 3, "nBlock": 4}]})");
  ASSERT_TRUE(older.ok());
  EXPECT_STREQ(name_of(older.parsed().format), "original-older");
}

TEST(OriginalFormat, LiteralsHaveThreeSpellings) {
  const DecodedRequest request(R"({"nIter": 3000, "kernels": [
      {"library": "l", "kernel": "k", "gridDim": [1, 2, 3], "blockDim": [4],
       "literals": [{"type": "i", "val": -7}, {"type": "f", "value": 3}, ["d", 0.25],
                    ["Q", 1]]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.wire().n_iter(), 3000U);
  const auto& literals = *request.kernel(0).literals();
  EXPECT_EQ(static_cast<std::int32_t>(literals.Get(0)->bits()), -7);
  EXPECT_EQ(literals.Get(1)->bits(), std::bit_cast<std::uint32_t>(3.0F));
  EXPECT_EQ(literals.Get(2)->bits(), std::bit_cast<std::uint64_t>(0.25));
  EXPECT_EQ(literals.Get(3)->type(), wire::LiteralType::U64);
}

TEST(OriginalFormat, RepeatedListsBesideArgumentsAreIgnored) {
  const DecodedRequest request(R"({"kernels": [
      {"name": "lib.k", "library": "l", "kernel": "k", "gridDim": [1, 1, 1], "blockDim": [1, 1, 1],
       "arguments": [{"name": "x", "size": 4, "key": "x"}], "ioTypes": ["io"],
       "inputs": [{"name": "x", "size": 4, "key": "x"}], "temps": [],
       "outputs": [{"name": "x", "size": 4, "key": "x"}]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.arguments(0), "x:io");
}

TEST(OriginalFormat, OutputThatIsAnInputIsChangedInPlace) {
  const DecodedRequest request(R"({"kernels": [
      {"library": "l", "kernel": "k", "nGrid": 1, "nBlock": 1,
       "inputs": [{"name": "count", "size": 8}, {"name": "a", "size": 256}], "temps": [],
       "outputs": [{"name": "a", "size": 256}, {"name": "product", "size": 256}]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.arguments(0), "count:i a:io product:o");
  EXPECT_EQ(request.roles(), "count:in a:in,out product:out");
}

TEST(OriginalFormat, BufferMayBeDeclaredAgainTheSameWay) {
  const DecodedRequest request(R"({"kernels": [
      {"library": "l", "kernel": "k", "nGrid": 1, "nBlock": 1,
       "arguments": [[{"name": "x", "size": 4, "key": "x"}, "o"]]},
      {"library": "l", "kernel": "k", "nGrid": 1, "nBlock": 1,
       "arguments": [[{"name": "x", "size": 4}, "i"]]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.wire().buffers()->size(), 1U);
}

TEST(OriginalFormat, LaterEphemeralThatIsNeverWrittenByOStaysEphemeral) {
  const DecodedRequest request(R"({"kernels": [
      {"library": "l", "kernel": "k", "gridDim": 1, "blockDim": 1,
       "arguments": [[{"name": "x", "size": 4, "ephemeral": true}, "t"],
                     [{"name": "y", "size": 4, "ephemeral": true}, "io"]]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_TRUE(request.buffer(0).ephemeral());
  EXPECT_TRUE(request.buffer(1).ephemeral());
}

TEST(OriginalFormat, TemporaryThatIsAnOutputStaysTwoArguments) {
  const DecodedRequest request(R"({"kernels": [
      {"library": "l", "kernel": "k", "gridDim": 1, "blockDim": 1,
       "temps": [{"name": "x", "size": 4}], "outputs": [{"name": "x", "size": 4}]}]})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request.arguments(0), "x:t x:o");
}

}  // namespace
}  // namespace kaas
