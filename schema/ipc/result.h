// Status and Result (status.h) inside the project, with the macros that pass errors on.
// Our own bugs are KAAS_CHECK, ordinary outcomes (ring full, key absent) are enums or optionals.
// Threads: values; no shared state.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "schema/ipc/status.h"
#include "schema/kaas_generated.h"

// On in release builds too. No byte that a client or an executor wrote may reach one.
#define KAAS_CHECK(condition)                                                                 \
  do {                                                                                        \
    if (!(condition)) [[unlikely]] {                                                          \
      std::fprintf(stderr, "%s:%d: KAAS_CHECK(%s) failed\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                           \
    }                                                                                         \
  } while (false)

// Evaluates a Result or Status expression; returns its error to the caller, else yields nothing.
#define KAAS_RETURN_IF_ERROR(expression)                               \
  do {                                                                 \
    if (auto kaas_status_ = (expression); !kaas_status_.has_value()) { \
      return std::move(kaas_status_).error();                          \
    }                                                                  \
  } while (false)

#define KAAS_CONCAT_INNER(a, b) a##b
#define KAAS_CONCAT(a, b) KAAS_CONCAT_INNER(a, b)
// `KAAS_ASSIGN_OR_RETURN(auto value, call());`
#define KAAS_ASSIGN_OR_RETURN(declaration, expression)             \
  auto KAAS_CONCAT(kaas_result_, __LINE__) = (expression);         \
  if (!KAAS_CONCAT(kaas_result_, __LINE__).has_value()) {          \
    return std::move(KAAS_CONCAT(kaas_result_, __LINE__)).error(); \
  }                                                                \
  declaration = *std::move(KAAS_CONCAT(kaas_result_, __LINE__))

namespace kaas {

// "what is found, limit limit": the form of every range error.
inline Status over_limit(StatusCode code, const std::string& what, unsigned long long found,
                         unsigned long long limit) {
  return Status{code, what + " is " + std::to_string(found) + ", limit " + std::to_string(limit)};
}

}  // namespace kaas
