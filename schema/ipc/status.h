// Status and Result: how a function says that the caller or the world is at fault. Installed as
// <kaas/status.h>, so it stands alone. Member names are those of std::expected, which g++ 12 does
// not have.
// Threads: values; no shared state.
#ifndef KAAS_STATUS_H_
#define KAAS_STATUS_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

// Where the message schema is in use (KAAS_WITH_SCHEMA), its enum is the one; elsewhere the same
// enum is written out. Both have one name and one set of values, so either side may call the other.
#ifdef KAAS_WITH_SCHEMA
#include "schema/kaas_generated.h"
#else
namespace kaas::wire {

enum class StatusCode : std::uint8_t {
  Ok = 0,
  InvalidArgument = 1,  // The request is malformed; the message names field, found and allowed.
  NotFound = 2,         // No such key, function, plan, library or kernel.
  AlreadyExists = 3,
  PermissionDenied = 4,
  ResourceExhausted = 5,  // A byte budget, a quota or a limit is reached.
  OutOfMemory = 6,        // The working set does not fit the device.
  Unavailable = 7,        // No daemon, no executor for the device, or shutting down. Safe to retry.
  DeadlineExceeded = 8,
  Cancelled = 9,
  DependencyFailed = 10,   // An earlier request of this ring that this one reads from failed.
  KernelFault = 11,        // The kernel or its library ended the executor.
  UnknownOutcome = 12,     // It may have run; the answer was lost. Not safe to retry blindly.
  DataLost = 13,           // A device-resident object died with its executor.
  VersionMismatch = 14,    // Protocol or kernel ABI version.
  ProtocolViolation = 15,  // Bytes of a peer break the protocol; its session ends.
  Internal = 16,
};

}  // namespace kaas::wire
#endif

namespace kaas {

using wire::StatusCode;

[[nodiscard]] inline const char* name_of(StatusCode code) noexcept {
  static constexpr const char* kNames[] = {"Ok",
                                           "InvalidArgument",
                                           "NotFound",
                                           "AlreadyExists",
                                           "PermissionDenied",
                                           "ResourceExhausted",
                                           "OutOfMemory",
                                           "Unavailable",
                                           "DeadlineExceeded",
                                           "Cancelled",
                                           "DependencyFailed",
                                           "KernelFault",
                                           "UnknownOutcome",
                                           "DataLost",
                                           "VersionMismatch",
                                           "ProtocolViolation",
                                           "Internal"};
  const auto index = static_cast<std::size_t>(code);
  return index < sizeof kNames / sizeof kNames[0] ? kNames[index] : "unknown status";
}

// A failure: a code and a sentence for a person. Never holds Ok.
struct [[nodiscard]] Status {
  StatusCode code = StatusCode::Internal;
  std::string message;
};

// "InvalidArgument: payload_bytes is 70000, limit 65536".
inline std::string to_string(const Status& status) {
  return std::string(name_of(status.code)) + ": " + status.message;
}

// A Result was used as what it is not: a bug of the program.
[[noreturn]] inline void fail_result_access(const char* used_as) noexcept {
  std::fprintf(stderr, "kaas: a Result without %s was asked for it\n", used_as);
  std::abort();
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::in_place_index<0>, std::move(value)) {}         // NOLINT: implicit
  Result(Status status) : value_(std::in_place_index<1>, std::move(status)) {}  // NOLINT: implicit

  [[nodiscard]] bool has_value() const noexcept { return value_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& operator*() & { return checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->checked(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->checked(); }

  const Status& error() const& {
    if (has_value()) fail_result_access("an error");
    return *std::get_if<1>(&value_);
  }
  Status error() && {
    if (has_value()) fail_result_access("an error");
    return std::move(*std::get_if<1>(&value_));
  }

 private:
  T& checked() {
    if (!has_value()) fail_result_access("a value");
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
    if (!failed_) fail_result_access("an error");
    return status_;
  }
  Status error() && {
    if (!failed_) fail_result_access("an error");
    return std::move(status_);
  }

 private:
  bool failed_ = false;
  Status status_;
};

}  // namespace kaas

#endif  // KAAS_STATUS_H_
