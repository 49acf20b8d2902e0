// Status and Result: how a function says that the caller or the world is at fault.
// Member names are those of std::expected, which g++ 12 does not have. Our own bugs are
// KAAS_CHECK, ordinary outcomes (ring full, key absent) are enums or optionals.
// Threads: values; no shared state.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "schema/kaas_generated.h"

// On in release builds too. No byte that a client or an executor wrote may reach one.
#define KAAS_CHECK(condition)                                                                  \
  do {                                                                                         \
    if (!(condition)) [[unlikely]] {                                                           \
      std::fprintf(stderr, "%s:%d: KAAS_CHECK(%s) failed\n", __FILE__, __LINE__, #condition);  \
      std::abort();                                                                            \
    }                                                                                          \
  } while (false)

// Evaluates a Result or Status expression; returns its error to the caller, else yields nothing.
#define KAAS_RETURN_IF_ERROR(expression)                                        \
  do {                                                                          \
    if (auto kaas_status_ = (expression); !kaas_status_.has_value()) {          \
      return std::move(kaas_status_).error();                                   \
    }                                                                           \
  } while (false)

#define KAAS_CONCAT_INNER(a, b) a##b
#define KAAS_CONCAT(a, b) KAAS_CONCAT_INNER(a, b)
// `KAAS_ASSIGN_OR_RETURN(auto value, call());`
#define KAAS_ASSIGN_OR_RETURN(declaration, expression)                          \
  auto KAAS_CONCAT(kaas_result_, __LINE__) = (expression);                      \
  if (!KAAS_CONCAT(kaas_result_, __LINE__).has_value()) {                       \
    return std::move(KAAS_CONCAT(kaas_result_, __LINE__)).error();              \
  }                                                                             \
  declaration = *std::move(KAAS_CONCAT(kaas_result_, __LINE__))

namespace kaas {

using wire::StatusCode;

// A failure: a code and a sentence for a person. Never holds Ok.
struct [[nodiscard]] Status {
  StatusCode code = StatusCode::Internal;
  std::string message;
};

// "InvalidArgument: payload_bytes is 70000, limit 65536".
inline std::string to_string(const Status& status) {
  return std::string(wire::EnumNameStatusCode(status.code)) + ": " + status.message;
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::in_place_index<0>, std::move(value)) {}          // NOLINT: implicit
  Result(Status status) : value_(std::in_place_index<1>, std::move(status)) {}   // NOLINT: implicit

  [[nodiscard]] bool has_value() const noexcept { return value_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& operator*() & { return checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->checked(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->checked(); }

  const Status& error() const& {
    KAAS_CHECK(!has_value());
    return *std::get_if<1>(&value_);
  }
  Status error() && {
    KAAS_CHECK(!has_value());
    return std::move(*std::get_if<1>(&value_));
  }

 private:
  T& checked() {
    KAAS_CHECK(has_value());
    return *std::get_if<0>(&value_);
  }
  std::variant<T, Status> value_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Status status) : failed_(true), status_(std::move(status)) {}  // NOLINT: implicit

  [[nodiscard]] bool has_value() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return has_value(); }
  const Status& error() const& {
    KAAS_CHECK(failed_);
    return status_;
  }
  Status error() && {
    KAAS_CHECK(failed_);
    return std::move(status_);
  }

 private:
  bool failed_ = false;
  Status status_;
};

// "what is found, limit limit": the form of every range error.
inline Status over_limit(StatusCode code, const std::string& what, unsigned long long found,
                         unsigned long long limit) {
  return Status{code, what + " is " + std::to_string(found) + ", limit " + std::to_string(limit)};
}

}  // namespace kaas
