// What an executor says of an outcome, as a Status for clients.
// Trust:   code and text are an executor's: a code must be known, a text is bounded here.
// Threads: pure functions.
#pragma once

#include <string>
#include <utility>

#include "schema/ipc/messages.h"
#include "schema/ipc/result.h"
#include "schema/limits.h"

namespace kaas {

inline bool is_known(wire::StatusCode code) {
  return code >= wire::StatusCode::MIN && code <= wire::StatusCode::MAX;
}

// Never without a cause.
inline Status status_of(wire::StatusCode code, const flatbuffers::String* message) {
  std::string text(view(message).substr(0, kStatusMessageBytesMax));
  if (text.empty()) text = "the executor gave no reason";
  return Status{code, std::move(text)};
}

}  // namespace kaas
