// What the public builders collect, before it becomes a message.
#pragma once

#include <kaas/request.h>

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/src/memory_part.h"
#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {

struct BufferData {
  std::string name;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
  std::string size_expression;
  std::string offset_expression;
  std::string key;
  bool ephemeral = false;
  bool constant = false;
  bool zero_fill = false;
  bool resident = false;
  wire::Where where = wire::Where::Store;
  std::uint32_t segment = 0;
  std::optional<MemoryPart> memory;  // In a segment, where its size is known.
  std::vector<std::byte> bytes;
  std::optional<IpcHandle> ipc;

  [[nodiscard]] bool has_expressions() const noexcept {
    return !size_expression.empty() || !offset_expression.empty();
  }
};

struct LiteralData {
  wire::LiteralType type = wire::LiteralType::I32;
  std::uint64_t bits = 0;
  std::string expression;
  std::vector<std::byte> raw;
  std::vector<AddressSlot> slots;
};

struct KernelData {
  std::string library;
  std::string kernel;
  Dim3 grid;
  Dim3 block;
  std::optional<DimExpression> grid_expression;
  std::optional<DimExpression> block_expression;
  std::uint32_t shared_bytes = 0;
  std::optional<Dim3> cluster;
  bool cooperative = false;
  bool programmatic = false;
  std::vector<LiteralData> literals;
  std::vector<std::pair<std::string, wire::Access>> arguments;
  std::vector<std::uint16_t> order;
};

struct RequestData {
  std::vector<KernelData> kernels;
  std::vector<BufferData> buffers;
  std::uint64_t n_iter = 1;
  std::string n_iter_expression;
  std::string until;
  std::vector<std::string> parameters;
};

struct RequestBuilder::Impl : RequestData {};

struct BindingData {
  std::string buffer;
  wire::Where where = wire::Where::Store;
  std::uint32_t segment = 0;
  std::optional<MemoryPart> memory;  // In a segment, where its size is known.
  std::optional<std::uint64_t> offset;
  std::string key;
  std::vector<std::byte> bytes;
  std::optional<IpcHandle> ipc;
};

struct LiteralOverrideData {
  std::uint16_t kernel = 0;
  std::uint16_t literal = 0;
  std::uint64_t bits = 0;
  std::vector<std::byte> raw;
  std::optional<wire::LiteralType> type;  // Nothing: the caller did not tell it.
};

struct BindingsData {
  std::vector<BindingData> bindings;
  std::vector<LiteralOverrideData> literals;
  std::optional<Status> failure;  // Of the first step that failed: no run has such bindings.
};

struct Bindings::Impl : BindingsData {};

struct BindingsAccess {
  // Null: nothing is bound.
  static const BindingsData* data(const Bindings& bindings) noexcept {
    return bindings.impl_.get();
  }
};

// The bit pattern of a value, in the low bytes.
template <class T>
[[nodiscard]] std::uint64_t bits_of(T value) noexcept {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<std::uint32_t>(value);
  } else {
    return std::bit_cast<std::uint64_t>(value);
  }
}

}  // namespace v1
}  // namespace kaas
