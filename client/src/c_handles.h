// What is behind the opaque handles of <kaas/kaas.h>.
#pragma once

#include <kaas/client.h>
#include <kaas/kaas.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

struct kaas_client {
  kaas::Client client;
};
struct kaas_buffer {
  kaas::Buffer buffer;
};
struct kaas_device_copy {
  kaas::DeviceCopy copy;
};
struct kaas_region {
  kaas::Region region;
};
struct kaas_object {
  kaas::Object object;
};
struct kaas_builder {
  kaas::RequestBuilder builder;
  std::optional<kaas::KernelBuilder> kernel;
  std::optional<kaas::Status> failure;  // Of the first step that failed.
};
struct kaas_request {
  kaas::Request request;
};
struct kaas_bindings {
  kaas::Bindings bindings;
  bool failed = false;  // A step had no memory.
};
struct kaas_plan {
  kaas::Plan plan;
};
struct kaas_bound_plan {
  kaas::BoundPlan plan;
};
struct kaas_reply {
  kaas::Reply reply;
};
struct kaas_future {
  std::variant<kaas::Future<kaas::Reply>, kaas::Future<kaas::Object>,
               kaas::Future<kaas::ObjectInfo>, kaas::Future<void>>
      future;
  kaas::FutureBase& base() {
    return std::visit([](auto& any) -> kaas::FutureBase& { return any; }, future);
  }
  const kaas::FutureBase& base() const { return const_cast<kaas_future*>(this)->base(); }
};

namespace kaas {
inline namespace v1 {

inline std::string_view text_of(const char* text) {
  return text == nullptr ? "" : text;
}

inline std::span<const std::byte> bytes_of(const void* data, std::size_t bytes) {
  return {static_cast<const std::byte*>(data), data == nullptr ? 0 : bytes};
}

inline std::optional<std::uint32_t> uid_of(const std::uint32_t* uid) {
  if (uid == nullptr) return std::nullopt;
  return *uid;
}

inline kaas_code report(kaas_error* error, StatusCode code, std::string_view message) noexcept {
  const auto c_code = static_cast<kaas_code>(code);
  if (error != nullptr) {
    error->code = c_code;
    const std::size_t bytes = std::min(message.size(), sizeof error->message - 1);
    std::memcpy(error->message, message.data(), bytes);
    error->message[bytes] = '\0';
  }
  return c_code;
}

inline kaas_code report(kaas_error* error, const Status& status) noexcept {
  return report(error, status.code, status.message);
}

// Runs `call`, which returns a kaas_code. No exception gets into a C program.
template <class Call>
kaas_code guarded(kaas_error* error, Call call) noexcept {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return report(error, StatusCode::ResourceExhausted, "this process has no memory left");
  } catch (const std::exception& failure) {
    return report(error, StatusCode::Internal, failure.what());
  }
}

// A Result<void> as a code.
template <class Call>
kaas_code done(kaas_error* error, Call call) noexcept {
  return guarded(error, [&] {
    const Result<void> result = call();
    return result.has_value() ? KAAS_OK : report(error, result.error());
  });
}

// A Result<T> whose value becomes a new handle. `handle` may be null: the value is dropped.
template <class Handle, class Call>
kaas_code handed_out(Handle** handle, kaas_error* error, Call call) noexcept {
  return guarded(error, [&] {
    auto result = call();
    if (!result.has_value()) return report(error, result.error());
    if (handle != nullptr) *handle = new Handle{*std::move(result)};
    return KAAS_OK;
  });
}

// A text that kaas_text_free() frees.
template <class Call>
kaas_code text_out(char** text, kaas_error* error, Call call) noexcept {
  return guarded(error, [&] {
    const Result<std::string> result = call();
    if (!result.has_value()) return report(error, result.error());
    char* copy = static_cast<char*>(std::malloc(result->size() + 1));
    if (copy == nullptr) throw std::bad_alloc();
    std::memcpy(copy, result->c_str(), result->size() + 1);
    *text = copy;
    return KAAS_OK;
  });
}

template <class Call>
kaas_code info_out(kaas_object_info* info, kaas_error* error, Call call) noexcept {
  return guarded(error, [&] {
    const Result<ObjectInfo> result = call();
    if (!result.has_value()) return report(error, result.error());
    if (info != nullptr) {
      *info = {result->version, result->bytes, static_cast<kaas_place>(result->place)};
    }
    return KAAS_OK;
  });
}

template <class Call>
kaas_future* future_out(Call call) noexcept {
  try {
    return new kaas_future{call()};
  } catch (const std::exception&) {
    return nullptr;
  }
}

// The caller's struct as this library knows it: members that an older caller does not have keep
// their defaults.
template <class Struct>
Struct taken(const Struct* given, void (*init)(Struct*)) noexcept {
  Struct all;
  init(&all);
  if (given != nullptr) std::memcpy(&all, given, std::min(sizeof all, given->struct_bytes));
  return all;
}

// Of numbers that are counted and not there one is left, 0, which kaasd refuses.
inline std::vector<std::uint32_t> numbers_of(const std::uint32_t* numbers, std::size_t count) {
  if (numbers == nullptr) return std::vector<std::uint32_t>(std::min<std::size_t>(count, 1));
  return {numbers, numbers + count};
}

inline RunOptions options_of(const kaas_run_options* given) {
  const kaas_run_options from = taken(given, kaas_run_options_init);
  RunOptions options;
  options.priority = from.priority;
  if (from.deadline_ns != 0) {
    constexpr std::uint64_t kLast = std::numeric_limits<std::int64_t>::max();
    options.deadline = std::chrono::steady_clock::time_point(
        std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(from.deadline_ns, kLast))));
  }
  options.tag = from.tag;
  options.profile = from.profile != 0;
  options.tenant = text_of(from.tenant);
  options.wait_events = numbers_of(from.wait_events, from.wait_event_count);
  options.record_events = numbers_of(from.record_events, from.record_event_count);
  return options;
}

inline IpcHandle ipc_of(const kaas_ipc_handle& from) {
  IpcHandle ipc;
  std::memcpy(ipc.handle, from.handle, sizeof ipc.handle);
  ipc.base_offset = from.base_offset;
  ipc.base_bytes = from.base_bytes;
  return ipc;
}

}  // namespace v1
}  // namespace kaas
