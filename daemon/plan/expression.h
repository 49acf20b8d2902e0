// Integer expressions over a function's named parameters: "ceil_div(width, 16) * 2".
//
//   sum     = product { ("+" | "-") product }
//   product = unary { ("*" | "/" | "%") unary }
//   unary   = "-" unary | primary
//   primary = decimal number | parameter | "(" sum ")" | function "(" sum "," sum ")"
//   function: ceil_div, min, max
//
// Signed 64-bit, every step checked. "/" and "%" truncate towards zero, ceil_div rounds up.
// Values; immutable after parse. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

class Expression {
 public:
  // Compiles to postfix, with parameters as indices into `parameters`.
  // Fails: InvalidArgument for syntax, an unknown parameter (with the nearest names), a number over
  //        2^63 - 1, more than kExpressionBytesMax bytes or kExpressionDepthMax levels. The message
  //        shows the expression and the column, from 1.
  static Result<Expression> parse(std::string_view text, std::span<const std::string> parameters);

  // `values` in the order of parse's `parameters`, as many as there.
  // Fails: InvalidArgument on overflow or division by zero, with the column of the operator.
  [[nodiscard]] Result<std::int64_t> evaluate(std::span<const std::int64_t> values) const;

 private:
  friend class ExpressionParser;
  enum class Op : std::uint8_t {
    Number,
    Parameter,
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    CeilDiv,
    Min,
    Max
  };
  struct Step {
    Op op;
    std::uint32_t column;  // From 1.
    std::int64_t operand;  // Number: its value. Parameter: its index.
  };

  [[nodiscard]] Result<std::int64_t> apply(const Step& step, std::int64_t a, std::int64_t b) const;

  std::string text_;
  std::vector<Step> steps_;
};

}  // namespace kaas
