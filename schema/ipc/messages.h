// FlatBuffers at the two ends of a ring or socket: bounded verification, reusable builders.
// Threads: a MessageBuilder has one owner thread.
#pragma once

#include <flatbuffers/flatbuffers.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

#include "schema/ipc/result.h"
#include "schema/limits.h"

namespace kaas {

// The root of type T in private bytes, or nullptr if they are not a valid T within our limits.
// `bytes` must be private memory: what is verified must not change afterwards.
template <class T>
[[nodiscard]] const T* verified_root(std::span<const std::byte> bytes) {
  // The Verifier's constructor asserts on size: bound it first.
  if (bytes.size() < sizeof(flatbuffers::uoffset_t) ||
      bytes.size() >= FLATBUFFERS_MAX_BUFFER_SIZE) {
    return nullptr;
  }
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  flatbuffers::Verifier verifier(data, bytes.size(), kVerifierDepthMax, kVerifierTablesMax);
  return verifier.VerifyBuffer<T>(nullptr) ? flatbuffers::GetRoot<T>(data) : nullptr;
}

// The finished bytes of a builder. Valid until its next Clear.
[[nodiscard]] inline std::span<const std::byte> finished(const flatbuffers::FlatBufferBuilder& b) {
  return {reinterpret_cast<const std::byte*>(b.GetBufferPointer()), b.GetSize()};
}

// Texts of the schema are never null once read through this.
[[nodiscard]] inline std::string_view view(const flatbuffers::String* text) {
  return text == nullptr ? std::string_view() : std::string_view(text->c_str(), text->size());
}
// Element `i` of a vector of structs or numbers, by value. The verifier does not check where such a
// vector's elements begin, so a peer can misalign them: they are copied, never pointed at.
template <class T>
[[nodiscard]] T value_at(const flatbuffers::Vector<const T*>* vector, std::size_t i) {
  T value;
  std::memcpy(static_cast<void*>(&value), vector->Data() + i * sizeof(T), sizeof(T));
  return value;
}
template <class T>
requires std::is_arithmetic_v<T>
[[nodiscard]] T value_at(const flatbuffers::Vector<T>* vector, std::size_t i) {
  T value;
  std::memcpy(&value, vector->Data() + i * sizeof(T), sizeof(T));
  return value;
}

template <class T>
[[nodiscard]] std::size_t count(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr ? 0 : vector->size();
}

}  // namespace kaas
