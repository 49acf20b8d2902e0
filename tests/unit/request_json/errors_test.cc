// Every refusal of the importer: where, what was found, what is allowed.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/request_json/decoded_request.h"

namespace kaas {
namespace {

struct Case {
  const char* text;
  const char* message;
};

void expect_refusals(std::span<const Case> cases) {
  for (const Case& wrong : cases) {
    EXPECT_EQ(refusal(wrong.text), wrong.message) << wrong.text;
  }
}

// A kernel of our own format with one more field.
std::string kernel_with(const std::string& field) {
  return R"({"buffers": [{"name": "input", "size": 4}], "kernels": [
    {"library": "l", "kernel": "k", "grid": 1, "block": 1},
    {"library": "l", "kernel": "k", "grid": 1, "block": 1, )" +
         field + "}]}";
}

// A request of our own format with one more buffer.
std::string buffer_with(const std::string& fields) {
  return R"({"buffers": [{"name": "a", "size": 4}, {)" + fields +
         R"(}], "kernels": [{"library": "l", "kernel": "k", "grid": 1, "block": 1}]})";
}

TEST(RequestErrors, FormatIsFoundOrNamed) {
  constexpr Case kCases[] = {
      {"[]", "the request is a list of 0, allowed an object with 'kernels'"},
      {"7", "the request is 7, allowed an object with 'kernels'"},
      {"{}", "the request lacks the field 'kernels'"},
      {R"({"kernels": []})", "kernels is a list of 0, allowed a list of 1 to 4096"},
      {R"({"kernels": {}})", "kernels is an object, allowed a list of 1 to 4096"},
      {R"({"kernels": [{"library": "l"}]})",
       "kernels[0] has no grid; allowed: 'grid' and 'block', 'gridDim' and 'blockDim', or 'nGrid' "
       "and 'nBlock'"},
      {R"({"kernels": [{"nGrid": 1}, {"gridDim": 1}]})",
       "kernels[1].gridDim belongs to format 'original-later', but kernels[0].nGrid belongs to "
       "format 'original-older'; a request is of one format"},
      {R"({"kernels": [{"grid": 1, "nBlock": 1}]})",
       "kernels[0].nBlock belongs to format 'original-older', but kernels[0].grid belongs to "
       "format 'kaas'; a request is of one format"},
      {R"({"format": "kaas", "kernels": [{"gridDim": 1}]})",
       "kernels[0].gridDim belongs to format 'original-later', but format says 'kaas'; a request "
       "is of one format"},
      {R"({"format": "v2", "kernels": [{"grid": 1}]})",
       "format is 'v2', allowed 'kaas', 'original-older' or 'original-later'"},
      {R"({"format": 2, "kernels": [{"grid": 1}]})",
       "format is 2, allowed 'kaas', 'original-older' or 'original-later'"},
      {R"({"kernels": [1]})",
       "kernels[0] has no grid; allowed: 'grid' and 'block', 'gridDim' and 'blockDim', or 'nGrid' "
       "and 'nBlock'"},
  };
  expect_refusals(kCases);
}

TEST(RequestErrors, UnknownFieldsNameTheNearest) {
  EXPECT_EQ(refusal(R"({"niter": 2, "kernels": [{"grid": 1}]})"),
            "the request has the unknown field 'niter'; nearest: 'n_iter'; allowed: format, "
            "function, parameters, buffers, kernels, n_iter, until, comment");
  EXPECT_EQ(refusal(kernel_with(R"("gird": 1)")),
            "kernels[1] has the unknown field 'gird'; nearest: 'grid'; allowed: library, kernel, "
            "grid, block, shared_bytes, cluster, cooperative, programmatic, literals, arguments, "
            "order, comment");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 4, "temperature": 1)")),
            "buffers[1] has the unknown field 'temperature'; allowed: name, size, offset, key, "
            "ephemeral, const, zero_fill, resident, where, data");
  EXPECT_EQ(refusal(R"({"kernels": [{"library": "l", "kernel": "k", "gridDim": 1, "blockDim": 1,
                        "sharedsize": 1}]})"),
            "kernels[0] has the unknown field 'sharedsize'; nearest: 'sharedSize'; allowed: "
            "library, kernel, gridDim, blockDim, sharedSize, literals, arguments, type_list, "
            "ioTypes, inputs, temps, outputs, name");
  // Fields of another format are unknown in this one.
  EXPECT_EQ(refusal(R"({"nIter": 2, "kernels": [{"grid": 1}]})").substr(0, 69),
            "the request has the unknown field 'nIter'; nearest: 'n_iter'; allowed");
  EXPECT_NE(refusal(R"({"kernels": [{"library": "l", "kernel": "k", "nGrid": 1, "nBlock": 1,
                        "literals": []}]})")
                .find("unknown field 'literals'"),
            std::string::npos);
  // Control characters of a key do not reach the terminal.
  EXPECT_NE(refusal(R"({"a\u001b[2J": 2, "kernels": [{"grid": 1}]})").find("'a?[2J'"),
            std::string::npos);
}

TEST(RequestErrors, MissingFieldsAreNamed) {
  constexpr Case kCases[] = {
      {R"({"kernels": [{"kernel": "k", "grid": 1, "block": 1}]})",
       "kernels[0] lacks the field 'library'"},
      {R"({"kernels": [{"library": "l", "grid": 1, "block": 1}]})",
       "kernels[0] lacks the field 'kernel'"},
      {R"({"kernels": [{"library": "l", "kernel": "k", "block": 1}]})",
       "kernels[0] lacks the field 'grid'"},
      {R"({"kernels": [{"library": "l", "kernel": "k", "grid": 1}]})",
       "kernels[0] lacks the field 'block'"},
      {R"({"kernels": [{"library": "l", "kernel": "k", "gridDim": 1}]})",
       "kernels[0] lacks the field 'blockDim'"},
      {R"({"kernels": [{"library": "l", "kernel": "k", "nBlock": 1}]})",
       "kernels[0] lacks the field 'nGrid'"},
      {R"({"kernels": [{"library": null, "kernel": "k", "grid": 1, "block": 1}]})",
       "kernels[0] lacks the field 'library'"},
  };
  expect_refusals(kCases);
  EXPECT_EQ(refusal(buffer_with(R"("size": 4)")), "buffers[1] lacks the field 'name'");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b")")), "buffers[1] lacks the field 'size'");
}

TEST(RequestErrors, ShapesAreWithinTheirLimits) {
  const auto grid = [](const std::string& value) {
    return refusal(R"({"kernels": [{"library": "l", "kernel": "k", "block": 1, "grid": )" + value +
                   "}]}");
  };
  const std::string allowed =
      ", allowed a whole number from 1 to 2147483647 or an expression, or a list of up to three";
  EXPECT_EQ(grid("0"), "kernels[0].grid is 0" + allowed);
  EXPECT_EQ(grid("-1"), "kernels[0].grid is -1" + allowed);
  EXPECT_EQ(grid("1.5"), "kernels[0].grid is 1.5" + allowed);
  EXPECT_EQ(grid("1.0"), "kernels[0].grid is 1.0" + allowed);
  EXPECT_EQ(grid("4294967297"), "kernels[0].grid is 4294967297" + allowed);
  EXPECT_EQ(grid("18446744073709551617"), "kernels[0].grid is 1.8446744073709552e+19" + allowed);
  EXPECT_EQ(grid("true"), "kernels[0].grid is true" + allowed);
  EXPECT_EQ(grid("{}"), "kernels[0].grid is an object" + allowed);
  EXPECT_EQ(grid("[1, 65536]"),
            "kernels[0].grid[1] is 65536, allowed a whole number from 1 to 65535 or an expression");
  EXPECT_EQ(grid("[1, 1, [1]]"),
            "kernels[0].grid[2] is a list of 1, allowed a whole number from 1 "
            "to 65535 or an expression");
  EXPECT_EQ(grid("[]"), "kernels[0].grid is a list of 0, allowed a list of 1 to 3");
  EXPECT_EQ(grid("[1, 1, 1, 1]"), "kernels[0].grid is a list of 4, allowed a list of 1 to 3");
  EXPECT_EQ(grid("\"\""), "kernels[0].grid has 0 bytes, allowed a text of 1 to 256 bytes");

  constexpr Case kCases[] = {
      {R"({"kernels": [{"library": "l", "kernel": "k", "grid": 1, "block": 1025}]})",
       "kernels[0].block is 1025, allowed a whole number from 1 to 1024 or an expression, or a "
       "list of up to three"},
      {R"({"kernels": [{"library": "l", "kernel": "k", "gridDim": [1], "blockDim": [1, 1, 65]}]})",
       "kernels[0].blockDim[2] is 65, allowed a whole number from 1 to 64"},
      {R"({"kernels": [{"library": "l", "kernel": "k", "gridDim": "n", "blockDim": 1}]})",
       "kernels[0].gridDim is 'n', allowed a whole number from 1 to 2147483647, or a list of up to "
       "three"},
  };
  expect_refusals(kCases);
  EXPECT_EQ(refusal(kernel_with(R"("shared_bytes": 232449)")),
            "kernels[1].shared_bytes is 232449, allowed a whole number from 0 to 232448");
  EXPECT_EQ(refusal(kernel_with(R"("cluster": [17])")),
            "kernels[1].cluster[0] is 17, allowed a whole number from 1 to 16");
  EXPECT_EQ(refusal(kernel_with(R"("cooperative": 1)")),
            "kernels[1].cooperative is 1, allowed true or false");
}

TEST(RequestErrors, LiteralsFitTheirTypes) {
  const auto literal = [](const std::string& text) {
    return refusal(kernel_with("\"literals\": [" + text + "]"));
  };
  EXPECT_EQ(literal(R"({"i32": 2147483648})"),
            "kernels[1].literals[0].i32 is 2147483648, allowed a whole number from -2147483648 to "
            "2147483647");
  EXPECT_EQ(literal(R"({"i32": -2147483649})"),
            "kernels[1].literals[0].i32 is -2147483649, allowed a whole number from -2147483648 to "
            "2147483647");
  EXPECT_EQ(literal(R"({"u32": -1})"),
            "kernels[1].literals[0].u32 is -1, allowed a whole number from 0 to 4294967295");
  EXPECT_EQ(literal(R"({"i64": 9223372036854775808})"),
            "kernels[1].literals[0].i64 is 9223372036854775808, allowed a whole number from "
            "-9223372036854775808 to 9223372036854775807");
  EXPECT_EQ(literal(R"({"u64": 2.0})"),
            "kernels[1].literals[0].u64 is 2.0, allowed a whole number from 0 to "
            "18446744073709551615");
  EXPECT_EQ(literal(R"({"f32": 1e39})"),
            "kernels[1].literals[0].f32 is 1e+39, allowed a number from -3.40282347e+38 to "
            "3.40282347e+38");
  EXPECT_EQ(literal(R"({"f64": "pi"})"),
            "kernels[1].literals[0].f64 is 'pi', allowed a number from -1.79769313e+308 to "
            "1.79769313e+308");
  EXPECT_EQ(literal(R"({"type": "i16", "value": 1})"),
            "kernels[1].literals[0].type is 'i16', allowed i32, u32, i64, u64, f32, f64, or i, f, "
            "d, Q");
  EXPECT_EQ(literal(R"({"type": "i32"})"), "kernels[1].literals[0] lacks the field 'value'");
  EXPECT_EQ(literal(R"({"value": 1})"), "kernels[1].literals[0] lacks the field 'type'");
  EXPECT_EQ(literal(R"({"type": "i32", "val": 1})"),
            "kernels[1].literals[0] has the unknown field 'val'; nearest: 'value'; allowed: type, "
            "value");
  const std::string forms =
      R"(allowed {TYPE: value}, {"type": TYPE, "value": value} or {"raw": bytes, "slots": [...]} )"
      "with TYPE one of i32, u32, i64, u64, f32, f64, i, f, d, Q";
  EXPECT_EQ(literal(R"({"i16": 1})"),
            "kernels[1].literals[0] has the unknown field 'i16', " + forms);
  EXPECT_EQ(literal("{}"), "kernels[1].literals[0] is an object, " + forms);
  EXPECT_EQ(literal("1"), "kernels[1].literals[0] is 1, " + forms);
}

TEST(RequestErrors, RawLiteralsAndTheirSlotsAreChecked) {
  const auto literal = [](const std::string& text) {
    return refusal(kernel_with("\"literals\": [" + text + "]"));
  };
  EXPECT_EQ(literal(R"({"raw": "zz"})"),
            "kernels[1].literals[0].raw begins with neither 'hex:' nor 'base64:'");
  EXPECT_EQ(literal(R"({"raw": "hex:"})"),
            "kernels[1].literals[0].raw has 0 bytes, allowed 'hex:...' or 'base64:...' with 1 to "
            "4096 bytes");
  EXPECT_EQ(literal(R"({"raw": 5})"),
            "kernels[1].literals[0].raw is 5, allowed 'hex:...' or 'base64:...' with 1 to 4096 "
            "bytes");
  const std::string sixteen = R"("raw": "hex:00000000000000000000000000000000", )";
  EXPECT_EQ(literal("{" + sixteen + R"("slots": [{"offset": 9, "buffer": "input"}]})"),
            "kernels[1].literals[0].slots[0].offset is 9, allowed a whole number from 0 to 8");
  EXPECT_EQ(literal("{" + sixteen + R"("slots": [{"offset": 0, "buffer": "inputt"}]})"),
            "kernels[1].literals[0].slots[0].buffer names the buffer 'inputt', which is not "
            "declared; nearest: 'input'");
  EXPECT_EQ(literal(R"({"raw": "hex:00", "slots": [{"offset": 0, "buffer": "input"}]})"),
            "kernels[1].literals[0].slots[0] needs 8 bytes; the literal has 1");
}

TEST(RequestErrors, ArgumentsNameBuffersAndTypes) {
  EXPECT_EQ(refusal(kernel_with(R"("arguments": [["inptu", "i"]])")),
            "kernels[1].arguments[0][0] names the buffer 'inptu', which is not declared; nearest: "
            "'input'");
  EXPECT_EQ(refusal(kernel_with(R"("arguments": [["zzzzzzzzz", "i"]])")),
            "kernels[1].arguments[0][0] names the buffer 'zzzzzzzzz', which is not declared");
  EXPECT_EQ(refusal(kernel_with(R"("arguments": [["input", "in"]])")),
            "kernels[1].arguments[0][1] is 'in', allowed 'i', 'o', 'io' or 't'");
  EXPECT_EQ(refusal(kernel_with(R"("arguments": [["input", 1]])")),
            "kernels[1].arguments[0][1] is 1, allowed 'i', 'o', 'io' or 't'");
  EXPECT_EQ(refusal(kernel_with(R"("arguments": ["input"])")),
            "kernels[1].arguments[0] is 'input', allowed [buffer, type]");
  EXPECT_EQ(refusal(kernel_with(R"("order": [0])")),
            "kernels[1].order is a list of 1, allowed a list of 0 to 0");
  EXPECT_EQ(refusal(kernel_with(R"("literals": [{"i32": 1}], "order": [1])")),
            "kernels[1].order[0] is 1, allowed a whole number from 0 to 0");
}

TEST(RequestErrors, BuffersAreChecked) {
  EXPECT_EQ(refusal(buffer_with(R"("name": "a", "size": 8)")),
            "buffers[1].name declares 'a' a second time");
  EXPECT_EQ(refusal(buffer_with(R"("name": "", "size": 8)")),
            "buffers[1].name has 0 bytes, allowed a text of 1 to 256 bytes");
  EXPECT_EQ(refusal(buffer_with(R"("name": 1, "size": 8)")),
            "buffers[1].name is 1, allowed a text of 1 to 256 bytes");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 0)")),
            "buffers[1].size is 0, allowed a whole number from 1 to 1099511627776");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 65537, "where": "inline")")),
            "buffers[1].size is 65537, allowed a whole number from 1 to 65536");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 4, "offset": -1)")),
            "buffers[1].offset is -1, allowed a whole number from 0 to 18446744073709551615");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 4, "where": "gpu")")),
            "buffers[1].where is 'gpu', allowed 'store' or 'inline'");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 4, "where": "arena")")),
            "buffers[1].where is 'arena', which a file can't name; say 'store' and bind the buffer "
            "to shared memory in each call");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "where": "store", "data": "hex:00")")),
            "buffers[1] is in the store and gives 'data'; only 'inline' may");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "data": "hex:00", "key": "k")")),
            "buffers[1].key belongs to a buffer in the store; this one is inline");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "data": "hex:00", "offset": 1)")),
            "buffers[1].offset belongs to a buffer in the store; this one is inline");
  EXPECT_EQ(refusal(buffer_with(R"("name": "b", "size": 4, "const": "yes")")),
            "buffers[1].const is 'yes', allowed true or false");
  EXPECT_EQ(refusal(R"({"buffers": {}, "kernels": [{"grid": 1}]})"),
            "buffers is an object, allowed a list of 0 to 8192");
}

TEST(RequestErrors, IterationsUntilAndParametersAreChecked) {
  const auto request = [](const std::string& field) {
    return refusal("{" + field +
                   R"(, "buffers": [{"name": "stop", "size": 4}], "kernels": [
                        {"library": "l", "kernel": "k", "grid": 1, "block": 1}]})");
  };
  EXPECT_EQ(request(R"("n_iter": 0)"), "n_iter is 0, allowed a whole number from 1 to 4294967296");
  EXPECT_EQ(request(R"("until": "stopp")"),
            "until names the buffer 'stopp', which is not declared; nearest: 'stop'");
  EXPECT_EQ(request(R"("until": 1)"), "until is 1, allowed a text of 1 to 256 bytes");
  EXPECT_EQ(request(R"("parameters": ["w", "w"])"),
            "parameters[1] names the parameter 'w' a second time");
  EXPECT_EQ(request(R"("parameters": "w")"), "parameters is 'w', allowed a list of 0 to 64");
  EXPECT_EQ(request(R"("function": 1)"), "function is 1, allowed a text of 1 to 256 bytes");
}

TEST(RequestErrors, OriginalArgumentsHaveExactlyOneType) {
  const auto kernel = [](const std::string& fields) {
    return refusal(R"({"buffers": [{"name": "x", "size": 4}], "kernels": [
      {"library": "l", "kernel": "k", "gridDim": 1, "blockDim": 1, )" +
                   fields + "}]}");
  };
  EXPECT_EQ(kernel(R"("arguments": ["x"])"),
            "kernels[0].arguments[0] has no type; give it here ([buffer, type]) or in 'type_list'");
  EXPECT_EQ(kernel(R"("arguments": [["x", "i"]], "type_list": ["i"])"),
            "kernels[0].arguments[0] gives its type, and so does 'type_list'; one is enough");
  EXPECT_EQ(kernel(R"("arguments": ["x"], "type_list": ["i", "o"])"),
            "kernels[0].type_list has 2 types for 1 arguments");
  EXPECT_EQ(kernel(R"("arguments": ["x"], "type_list": ["i"], "ioTypes": ["i"])"),
            "kernels[0] has both 'type_list' and 'ioTypes'; one is enough");
  EXPECT_EQ(kernel(R"("arguments": ["x"], "ioTypes": ["x"])"),
            "kernels[0].ioTypes[0] is 'x', allowed 'i', 'o', 'io' or 't'");
  EXPECT_EQ(kernel(R"("arguments": [7], "ioTypes": ["i"])"),
            "kernels[0].arguments[0] is 7, allowed a buffer (its name or an object), [buffer, "
            "type] or {\"buffer\": ..., \"io\": type}");
  EXPECT_EQ(kernel(R"("arguments": [["x", "i", "o"]])"),
            "kernels[0].arguments[0] is a list of 3, allowed a buffer (its name or an object), "
            "[buffer, type] or {\"buffer\": ..., \"io\": type}");
  EXPECT_EQ(kernel(R"("arguments": [[7, "i"]])"),
            "kernels[0].arguments[0][0] is 7, allowed a buffer: its name or an object");
  EXPECT_EQ(kernel(R"("arguments": [{"buffer": "x"}])"),
            "kernels[0].arguments[0] lacks the field 'io'");
  EXPECT_EQ(kernel(R"("arguments": [["y", "i"]])"),
            "kernels[0].arguments[0][0] names the buffer 'y', which is not declared; nearest: 'x'");
}

TEST(RequestErrors, OriginalBuffersOfOneNameAgree) {
  const auto second = [](const std::string& fields) {
    return refusal(R"({"buffers": [{"name": "x", "size": 4}], "kernels": [
      {"library": "l", "kernel": "k", "nGrid": 1, "nBlock": 1, "arguments": [[{"name": "x", )" +
                   fields + "}, \"i\"]]}]}");
  };
  EXPECT_EQ(second(R"("size": 8)"),
            "kernels[0].arguments[0][0] declares 'x' with size 8, but buffers[0] with size 4; one "
            "name is one buffer");
  EXPECT_EQ(second(R"("size": 4, "key": "y")"),
            "kernels[0].arguments[0][0] declares 'x' with another key, offset, ephemeral or const "
            "than buffers[0]; one name is one buffer");
  EXPECT_EQ(second(R"("size": 4, "ephemeral": 0)"),
            "kernels[0].arguments[0][0].ephemeral is 0, allowed true or false");
  EXPECT_EQ(second(R"("size": "4")"),
            "kernels[0].arguments[0][0].size is '4', allowed a whole number from 1 to "
            "1099511627776");
}

TEST(RequestErrors, OriginalLiteralsAreChecked) {
  const auto literal = [](const std::string& text) {
    return refusal(R"({"kernels": [{"library": "l", "kernel": "k", "gridDim": 1, "blockDim": 1,
                       "literals": [)" +
                   text + "]}]}");
  };
  EXPECT_EQ(literal(R"({"type": "i32", "val": 1})"),
            "kernels[0].literals[0].type is 'i32', allowed 'i', 'f', 'd' or 'Q'");
  EXPECT_EQ(literal(R"({"type": "i", "val": 1.5})"),
            "kernels[0].literals[0].val is 1.5, allowed a whole number from -2147483648 to "
            "2147483647");
  EXPECT_EQ(literal(R"({"type": "Q", "val": -1})"),
            "kernels[0].literals[0].val is -1, allowed a whole number from 0 to "
            "18446744073709551615");
  EXPECT_EQ(literal(R"({"type": "i", "val": 1, "value": 1})"),
            "kernels[0].literals[0] has both 'value' and 'val'; one is enough");
  EXPECT_EQ(literal(R"({"type": "i"})"), "kernels[0].literals[0] lacks the field 'value'");
  EXPECT_EQ(literal(R"({"val": 1})"), "kernels[0].literals[0] lacks the field 'type'");
  EXPECT_EQ(literal(R"(["i"])"), "kernels[0].literals[0] is a list of 1, allowed a list of 2 to 2");
}

TEST(RequestErrors, TooManyOfAThingAreRefused) {
  std::string literals;
  for (int n = 0; n < 65; ++n) literals += std::string(n == 0 ? "" : ",") + R"({"i":1})";
  EXPECT_EQ(refusal(kernel_with("\"literals\": [" + literals + "]")),
            "kernels[1].literals is a list of 65, allowed a list of 0 to 64");
  std::string inputs;
  for (int n = 0; n < 65; ++n) {
    inputs +=
        std::string(n == 0 ? "" : ",") + R"({"name": "b)" + std::to_string(n) + R"(", "size": 1})";
  }
  EXPECT_EQ(refusal(R"({"kernels": [{"library": "l", "kernel": "k", "nGrid": 1, "nBlock": 1,
                       "inputs": [{"name": "c", "size": 1}], "outputs": [)" +
                    inputs.substr(0, inputs.rfind(",{")) + "]}]}"),
            "kernels[0] has 65 arguments, limit 64");
  const std::string name(kRequestTextBytesMax / 1024, 'n');
  EXPECT_EQ(refusal(buffer_with(R"("size": 1, "name": ")" + name + "\"")),
            "buffers[1].name has 16384 bytes, allowed a text of 1 to 256 bytes");
}

}  // namespace
}  // namespace kaas
