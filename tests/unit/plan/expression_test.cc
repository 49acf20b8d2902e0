#include "daemon/plan/expression.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>

#include "schema/limits.h"

namespace kaas {
namespace {

constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

const std::vector<std::string> kNames{"width", "height", "n"};

Result<std::int64_t> evaluate(std::string_view text,
                              std::vector<std::int64_t> values = {7, -3, 0}) {
  auto expression = Expression::parse(text, kNames);
  if (!expression.has_value()) return expression.error();
  return expression->evaluate(values);
}

std::int64_t value_of(std::string_view text, std::vector<std::int64_t> values = {7, -3, 0}) {
  auto value = evaluate(text, std::move(values));
  EXPECT_TRUE(value.has_value()) << text << ": " << value.error().message;
  return value.has_value() ? *value : 0xBAD;
}

std::string fault_of(std::string_view text, std::vector<std::int64_t> values = {7, -3, 0}) {
  auto value = evaluate(text, std::move(values));
  if (value.has_value()) return "gave " + std::to_string(*value);
  EXPECT_EQ(value.error().code, StatusCode::InvalidArgument);
  return value.error().message;
}

TEST(Expression, FollowsPrecedenceAndAssociativity) {
  EXPECT_EQ(value_of("1 + 2 * 3"), 7);
  EXPECT_EQ(value_of("(1 + 2) * 3"), 9);
  EXPECT_EQ(value_of("10 - 3 - 2"), 5);
  EXPECT_EQ(value_of("100 / 10 / 5"), 2);
  EXPECT_EQ(value_of("100 / 10 * 5"), 50);
  EXPECT_EQ(value_of("17 % 5 * 2"), 4);
  EXPECT_EQ(value_of("-2 * -3"), 6);
  EXPECT_EQ(value_of("2 - -3"), 5);
  EXPECT_EQ(value_of("--4"), 4);
  EXPECT_EQ(value_of("-(1 + 2)"), -3);
}

TEST(Expression, KnowsParametersAndFunctions) {
  EXPECT_EQ(value_of("width * height"), -21);
  EXPECT_EQ(value_of("ceil_div(width, 2)"), 4);
  EXPECT_EQ(value_of("min(width, height) + max(width, height)"), 4);
  EXPECT_EQ(value_of("ceil_div(width * 3, max(1, n))"), 21);
  EXPECT_EQ(value_of("\tmin( 1 ,2 ) "), 1);
}

TEST(Expression, DivisionTruncatesAndCeilDivRoundsUp) {
  EXPECT_EQ(value_of("-7 / 2"), -3);
  EXPECT_EQ(value_of("-7 % 2"), -1);
  EXPECT_EQ(value_of("7 % -2"), 1);
  EXPECT_EQ(value_of("ceil_div(7, 2)"), 4);
  EXPECT_EQ(value_of("ceil_div(-7, 2)"), -3);
  EXPECT_EQ(value_of("ceil_div(7, -2)"), -3);
  EXPECT_EQ(value_of("ceil_div(-7, -2)"), 4);
  EXPECT_EQ(value_of("ceil_div(8, 2)"), 4);
  EXPECT_EQ(value_of("ceil_div(0, 5)"), 0);
}

TEST(Expression, ReachesTheEndsOfItsRange) {
  EXPECT_EQ(value_of("9223372036854775807"), kMax);
  EXPECT_EQ(value_of("-9223372036854775807 - 1"), kMin);
  EXPECT_EQ(value_of("width", {kMin, 0, 0}), kMin);
  EXPECT_EQ(value_of("width % -1", {kMin, 0, 0}), 0);
  EXPECT_EQ(value_of("ceil_div(width, 2)", {kMax, 0, 0}), kMax / 2 + 1);
  EXPECT_EQ(value_of("ceil_div(width, 2)", {kMin, 0, 0}), kMin / 2);
}

TEST(Expression, OverflowIsAnErrorWithItsColumn) {
  EXPECT_EQ(fault_of("width + 1", {kMax, 0, 0}),
            "expression 'width + 1', column 7: the result for 9223372036854775807 and 1 exceeds 64 "
            "bits");
  EXPECT_EQ(fault_of("1 - width", {kMin, 0, 0}),
            "expression '1 - width', column 3: the result for 1 and -9223372036854775808 exceeds "
            "64 bits");
  EXPECT_EQ(fault_of("width*width", {kMax, 0, 0}),
            "expression 'width*width', column 6: the result for 9223372036854775807 and "
            "9223372036854775807 exceeds 64 bits");
  EXPECT_EQ(fault_of("-width", {kMin, 0, 0}),
            "expression '-width', column 1: the negated value exceeds 64 bits");
  EXPECT_EQ(fault_of("width / -1", {kMin, 0, 0}),
            "expression 'width / -1', column 7: the result for -9223372036854775808 and -1 exceeds "
            "64 bits");
  EXPECT_EQ(fault_of("ceil_div(width, -1)", {kMin, 0, 0}),
            "expression 'ceil_div(width, -1)', column 1: the result for -9223372036854775808 and "
            "-1 exceeds 64 bits");
  EXPECT_EQ(fault_of("9223372036854775808"),
            "expression '9223372036854775808', column 1: number '9223372036854775808' is too "
            "large, limit 9223372036854775807");
}

TEST(Expression, DivisionByZeroIsAnErrorWithItsColumn) {
  EXPECT_EQ(fault_of("width / n"), "expression 'width / n', column 7: 7 is divided by zero");
  EXPECT_EQ(fault_of("width % 0"), "expression 'width % 0', column 7: 7 is divided by zero");
  EXPECT_EQ(fault_of("2 * ceil_div(width, n)"),
            "expression '2 * ceil_div(width, n)', column 5: 7 is divided by zero");
}

TEST(Expression, UnknownParameterNamesTheNearest) {
  EXPECT_EQ(fault_of("2 * widht"),
            "expression '2 * widht', column 5: no parameter 'widht'; nearest: 'width', "
            "'height'");
  EXPECT_EQ(fault_of("something"),
            "expression 'something', column 1: no parameter 'something'; there are: 'width', "
            "'height', 'n'");
  auto without = Expression::parse("x", {});
  EXPECT_EQ(without.error().message, "expression 'x', column 1: no parameter 'x'");
}

TEST(Expression, SyntaxErrorsShowTheColumn) {
  const std::string operand = "expected a number, a parameter or '(', found ";
  EXPECT_EQ(fault_of(""), "expression '', column 1: " + operand + "the end");
  EXPECT_EQ(fault_of("1 +"), "expression '1 +', column 4: " + operand + "the end");
  EXPECT_EQ(fault_of("* 1"), "expression '* 1', column 1: " + operand + "'*'");
  EXPECT_EQ(fault_of("1 + )"), "expression '1 + )', column 5: " + operand + "')'");
  EXPECT_EQ(fault_of("(1"), "expression '(1', column 3: expected ')', found the end");
  EXPECT_EQ(fault_of("1 2"),
            "expression '1 2', column 3: expected an operator or the end, found '2'");
  EXPECT_EQ(fault_of("1)"),
            "expression '1)', column 2: expected an operator or the end, found ')'");
  EXPECT_EQ(fault_of("1.5"),
            "expression '1.5', column 2: expected an operator or the end, found '.'");
  EXPECT_EQ(fault_of("12abc"),
            "expression '12abc', column 3: expected an operator or the end, found 'a'");
  EXPECT_EQ(fault_of("min(1)"), "expression 'min(1)', column 6: expected ',', found ')'");
  EXPECT_EQ(fault_of("min(1, 2, 3)"),
            "expression 'min(1, 2, 3)', column 9: expected ')', found ','");
  EXPECT_EQ(fault_of("min"), "expression 'min', column 4: expected '(', found the end");
  EXPECT_EQ(fault_of("+1"), "expression '+1', column 1: " + operand + "'+'");
  EXPECT_EQ(fault_of(std::string_view("1\0+1", 4)),
            "expression '1?+1', column 2: expected an operator or the end, found '?'");
}

std::string nested(std::size_t levels, const char* open, const char* close) {
  std::string text;
  for (std::size_t n = 0; n < levels; ++n) text += open;
  text += '1';
  for (std::size_t n = 0; n < levels; ++n) text += close;
  return text;
}

TEST(Expression, DepthIsLimitedFromBothSides) {
  // The whole expression is a level.
  EXPECT_EQ(value_of(nested(kExpressionDepthMax - 1, "(", ")")), 1);
  EXPECT_NE(fault_of(nested(kExpressionDepthMax, "(", ")")).find("nested deeper than 32 levels"),
            std::string::npos);
  EXPECT_EQ(value_of(nested(kExpressionDepthMax - 1, "-", "")), -1);
  EXPECT_NE(fault_of(nested(kExpressionDepthMax, "-", "")).find("nested deeper than 32 levels"),
            std::string::npos);
  EXPECT_EQ(value_of(nested(31, "1+1*(", ")")), 32);
  EXPECT_EQ(value_of(nested(27, "1+max(2,", ")")), 28 + 1);
}

TEST(Expression, LengthIsLimitedFromBothSides) {
  std::string text(kExpressionBytesMax - 1, ' ');
  EXPECT_EQ(value_of(text + "5"), 5);
  EXPECT_EQ(fault_of(text + "55").find("length is 257, limit 256") != std::string::npos, true);
}

// The longest chains of operators need the most operands at once.
TEST(Expression, LongestChainsEvaluate) {
  std::string sum = "1";
  while (sum.size() + 2 <= kExpressionBytesMax) sum += "+1";
  EXPECT_EQ(value_of(sum), static_cast<std::int64_t>((sum.size() + 1) / 2));
}

// A random expression, and what it is worth by 128-bit arithmetic; nothing when it overflows.
struct Sample {
  std::string text;
  std::optional<__int128> value;
};

class Sampler {
 public:
  explicit Sampler(std::uint64_t seed) : random_(seed) {}

  Sample sample(int depth) {
    if (depth == 0 || pick(5) == 0) {
      if (pick(2) == 0) return {"width", 7};
      const auto number = static_cast<std::int64_t>(
          pick(3) == 0 ? kMax - static_cast<std::int64_t>(pick(3)) : pick(9));
      return {std::to_string(number), number};
    }
    const Sample a = sample(depth - 1);
    const Sample b = sample(depth - 1);
    switch (pick(7)) {
      case 0:
        return combine("(" + a.text + " + " + b.text + ")", a, b, '+');
      case 1:
        return combine("(" + a.text + " - " + b.text + ")", a, b, '-');
      case 2:
        return combine("(" + a.text + " * " + b.text + ")", a, b, '*');
      case 3:
        return combine("(" + a.text + " / " + b.text + ")", a, b, '/');
      case 4:
        return combine("(" + a.text + " % " + b.text + ")", a, b, '%');
      case 5:
        return combine("ceil_div(" + a.text + ", " + b.text + ")", a, b, 'c');
      default:
        return combine("min(" + a.text + ", " + b.text + ")", a, b, 'm');
    }
  }

 private:
  std::uint64_t pick(std::uint64_t bound) { return random_() % bound; }

  static Sample combine(std::string text, const Sample& a, const Sample& b, char op) {
    Sample result{std::move(text), std::nullopt};
    if (!a.value.has_value() || !b.value.has_value()) return result;
    if ((op == '/' || op == '%' || op == 'c') && *b.value == 0) return result;
    __int128 value = 0;
    if (op == '+') value = *a.value + *b.value;
    if (op == '-') value = *a.value - *b.value;
    if (op == '*') value = *a.value * *b.value;
    if (op == '/') value = *a.value / *b.value;
    if (op == '%') value = *a.value % *b.value;
    if (op == 'm') value = *a.value < *b.value ? *a.value : *b.value;
    if (op == 'c') {
      value = *a.value / *b.value;
      while (value * *b.value != *a.value && (*a.value < 0) == (*b.value < 0) &&
             value == *a.value / *b.value) {
        ++value;
      }
    }
    if (value >= kMin && value <= kMax) result.value = value;
    return result;
  }

  std::mt19937_64 random_;
};

TEST(Expression, AgreesWithWideArithmetic) {
  for (std::uint64_t seed = 1; seed <= 5000; ++seed) {
    const Sample sample = Sampler(seed).sample(static_cast<int>(seed % 4));
    if (sample.text.size() > kExpressionBytesMax) continue;
    auto value = evaluate(sample.text);
    ASSERT_EQ(value.has_value(), sample.value.has_value()) << "seed " << seed << sample.text;
    if (value.has_value()) {
      ASSERT_EQ(*value, static_cast<std::int64_t>(*sample.value)) << "seed " << seed << sample.text;
    }
  }
}

}  // namespace
}  // namespace kaas
