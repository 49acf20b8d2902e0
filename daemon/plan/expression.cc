#include "daemon/plan/expression.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "daemon/flow/text.h"
#include "schema/limits.h"

namespace kaas {
namespace {

constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();

Status failure(std::string_view text, std::size_t column, const std::string& what) {
  return Status{StatusCode::InvalidArgument, "expression " + quoted(text, kExpressionBytesMax) +
                                                 ", column " + std::to_string(column) + ": " +
                                                 what};
}

// Neither is called with b == 0 or kMin / -1.
std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) == (b < 0) ? quotient + 1 : quotient;
}

}  // namespace

// Recursive descent; each rule leaves its steps behind those of its operands.
class ExpressionParser {
 public:
  ExpressionParser(std::string_view text, std::span<const std::string> parameters)
      : text_(text), parameters_(parameters) {}

  Result<std::vector<Expression::Step>> parse() {
    KAAS_RETURN_IF_ERROR(sum());
    skip_spaces();
    if (at_ < text_.size()) return fail(at_, "expected an operator or the end, found " + found());
    return std::move(steps_);
  }

 private:
  using Op = Expression::Op;

  Result<void> sum() {
    // Here and in unary(): the two rules that every recursion passes through.
    if (++depth_ > kExpressionDepthMax) return too_deep();
    KAAS_RETURN_IF_ERROR(product());
    while (true) {
      skip_spaces();
      const std::size_t column = at_;
      if (take('+')) {
        KAAS_RETURN_IF_ERROR(product());
        add(Op::Add, column);
      } else if (take('-')) {
        KAAS_RETURN_IF_ERROR(product());
        add(Op::Subtract, column);
      } else {
        --depth_;
        return {};
      }
    }
  }

  Result<void> product() {
    KAAS_RETURN_IF_ERROR(unary());
    while (true) {
      skip_spaces();
      const std::size_t column = at_;
      const Op op = take('*') ? Op::Multiply : take('/') ? Op::Divide : Op::Modulo;
      if (op == Op::Modulo && !take('%')) return {};
      KAAS_RETURN_IF_ERROR(unary());
      add(op, column);
    }
  }

  Result<void> unary() {
    skip_spaces();
    const std::size_t column = at_;
    if (!take('-')) return primary();
    if (++depth_ > kExpressionDepthMax) return too_deep();
    KAAS_RETURN_IF_ERROR(unary());
    --depth_;
    add(Op::Negate, column);
    return {};
  }

  Result<void> primary() {
    skip_spaces();
    if (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') return number();
    if (at_ < text_.size() && begins_name(text_[at_])) return name();
    if (!take('(')) return fail(at_, "expected a number, a parameter or '(', found " + found());
    KAAS_RETURN_IF_ERROR(sum());
    return expect(')');
  }

  Result<void> number() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    std::int64_t value = 0;
    const auto parsed = std::from_chars(text_.data() + begin, text_.data() + at_, value);
    if (parsed.ec != std::errc()) {
      return fail(begin, "number " + quoted(text_.substr(begin, at_ - begin)) +
                             " is too large, limit 9223372036854775807");
    }
    add(Op::Number, begin, value);
    return {};
  }

  Result<void> name() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && continues_name(text_[at_])) ++at_;
    const std::string_view name = text_.substr(begin, at_ - begin);
    if (name == "ceil_div") return call(Op::CeilDiv, begin);
    if (name == "min") return call(Op::Min, begin);
    if (name == "max") return call(Op::Max, begin);
    const auto parameter = std::find(parameters_.begin(), parameters_.end(), name);
    if (parameter == parameters_.end()) {
      return fail(begin, "no parameter " + quoted(name) + nearest_names(name, parameters_));
    }
    add(Op::Parameter, begin, parameter - parameters_.begin());
    return {};
  }

  Result<void> call(Op op, std::size_t begin) {
    KAAS_RETURN_IF_ERROR(expect('('));
    KAAS_RETURN_IF_ERROR(sum());
    KAAS_RETURN_IF_ERROR(expect(','));
    KAAS_RETURN_IF_ERROR(sum());
    KAAS_RETURN_IF_ERROR(expect(')'));
    add(op, begin);
    return {};
  }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }
  bool take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Result<void> expect(char c) {
    skip_spaces();
    if (take(c)) return {};
    return fail(at_, std::string("expected '") + c + "', found " + found());
  }
  [[nodiscard]] std::string found() const {
    return at_ == text_.size() ? "the end" : quoted(text_.substr(at_, 1));
  }
  [[nodiscard]] Status fail(std::size_t at, const std::string& what) const {
    return failure(text_, at + 1, what);
  }
  [[nodiscard]] Status too_deep() const {
    return fail(at_, "nested deeper than " + std::to_string(kExpressionDepthMax) + " levels");
  }
  void add(Op op, std::size_t at, std::int64_t operand = 0) {
    steps_.push_back({op, static_cast<std::uint32_t>(at + 1), operand});
  }

  std::string_view text_;
  std::span<const std::string> parameters_;
  std::size_t at_ = 0;
  std::uint32_t depth_ = 0;
  std::vector<Expression::Step> steps_;
};

Result<Expression> Expression::parse(std::string_view text,
                                     std::span<const std::string> parameters) {
  if (text.size() > kExpressionBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "expression " + quoted(text) + " length",
                      text.size(), kExpressionBytesMax);
  }
  KAAS_ASSIGN_OR_RETURN(auto steps, ExpressionParser(text, parameters).parse());
  Expression expression;
  expression.text_ = text;
  expression.steps_ = std::move(steps);
  return expression;
}

Result<std::int64_t> Expression::apply(const Step& step, std::int64_t a, std::int64_t b) const {
  std::int64_t result = 0;
  bool overflows = false;
  switch (step.op) {
    case Op::Add:
      overflows = __builtin_add_overflow(a, b, &result);
      break;
    case Op::Subtract:
      overflows = __builtin_sub_overflow(a, b, &result);
      break;
    case Op::Multiply:
      overflows = __builtin_mul_overflow(a, b, &result);
      break;
    case Op::Min:
      return std::min(a, b);
    case Op::Max:
      return std::max(a, b);
    case Op::Divide:
    case Op::Modulo:
    case Op::CeilDiv:
      if (b == 0) {
        return failure(text_, step.column, std::to_string(a) + " is divided by zero");
      }
      if (b == -1 && step.op == Op::Modulo) return 0;
      overflows = a == kMin && b == -1;
      if (overflows) break;
      return step.op == Op::Divide ? a / b : step.op == Op::Modulo ? a % b : ceil_div(a, b);
    case Op::Number:
    case Op::Parameter:
    case Op::Negate:
      break;  // Not binary; evaluate() has them.
  }
  if (overflows) {
    return failure(
        text_, step.column,
        "the result for " + std::to_string(a) + " and " + std::to_string(b) + " exceeds 64 bits");
  }
  return result;
}

Result<std::int64_t> Expression::evaluate(std::span<const std::int64_t> values) const {
  // Every operand took a byte of the text or more.
  std::int64_t stack[kExpressionBytesMax];
  std::size_t size = 0;
  for (const Step& step : steps_) {
    if (step.op == Op::Number || step.op == Op::Parameter) {
      KAAS_CHECK(size < std::size(stack));
      stack[size++] = step.op == Op::Number ? step.operand : values[step.operand];
    } else if (step.op == Op::Negate) {
      std::int64_t& top = stack[size - 1];
      if (top == kMin) return failure(text_, step.column, "the negated value exceeds 64 bits");
      top = -top;
    } else {
      KAAS_ASSIGN_OR_RETURN(stack[size - 2], apply(step, stack[size - 2], stack[size - 1]));
      --size;
    }
  }
  return stack[0];
}

}  // namespace kaas
