// What a run binds: collecting only.
#include <kaas/client.h>

#include "client/src/request_data.h"

namespace kaas {
inline namespace v1 {

Bindings::Bindings() = default;
Bindings::~Bindings() = default;
Bindings::Bindings(const Bindings& other)
    : impl_(other.impl_ ? std::make_unique<Impl>(*other.impl_) : nullptr) {}
Bindings::Bindings(Bindings&& other) noexcept = default;
Bindings& Bindings::operator=(Bindings other) noexcept {
  impl_ = std::move(other.impl_);
  return *this;
}

bool Bindings::empty() const noexcept {
  return impl_ == nullptr;
}
void Bindings::clear() noexcept {
  impl_.reset();
}

BindingData& Bindings::bind(std::string_view buffer) {
  if (!impl_) impl_ = std::make_unique<Impl>();
  BindingData& added = impl_->bindings.emplace_back();
  added.buffer = buffer;
  return added;
}

LiteralOverrideData& Bindings::replace(std::uint16_t kernel, std::uint16_t literal) {
  if (!impl_) impl_ = std::make_unique<Impl>();
  LiteralOverrideData& added = impl_->literals.emplace_back();
  added.kernel = kernel;
  added.literal = literal;
  return added;
}

Bindings& Bindings::at(std::string_view buffer, std::string_view key) {
  bind(buffer).key = key;
  return *this;
}
Bindings& Bindings::at(std::string_view buffer, std::string_view key, std::uint64_t offset) {
  BindingData& added = bind(buffer);
  added.key = key;
  added.offset = offset;
  return *this;
}
Bindings& Bindings::in(std::string_view buffer, const Buffer& memory, std::uint64_t offset) {
  const std::uint64_t position = position_in_segment(memory, offset);
  return in_memory(buffer, memory.segment(), position, part_of(memory));
}
Bindings& Bindings::in(std::string_view buffer, const Region& region, std::uint64_t offset) {
  return in_memory(buffer, region.segment(), offset, part_of(region));
}
Bindings& Bindings::in_segment(std::string_view buffer, std::uint32_t segment,
                               std::uint64_t offset) {
  return in_memory(buffer, segment, offset, std::nullopt);
}
// How many bytes there must be, the template says.
Bindings& Bindings::in_memory(std::string_view buffer, std::uint32_t segment, std::uint64_t offset,
                              const std::optional<MemoryPart>& memory) {
  BindingData& added = bind(buffer);
  if (memory && !impl_->failure) {
    const auto inside = check_inside(*memory, buffer, offset, 0);
    if (!inside.has_value()) impl_->failure = inside.error();
  }
  added.memory = memory;
  added.where = wire::Where::Segment;
  added.segment = segment;
  added.offset = offset;
  return *this;
}
Bindings& Bindings::inline_bytes(std::string_view buffer, std::span<const std::byte> bytes) {
  BindingData& added = bind(buffer);
  added.where = wire::Where::Inline;
  added.bytes.assign(bytes.begin(), bytes.end());
  return *this;
}
Bindings& Bindings::in_message(std::string_view buffer) {
  bind(buffer).where = wire::Where::Inline;
  return *this;
}
Bindings& Bindings::device_memory(std::string_view buffer, const IpcHandle& handle) {
  BindingData& added = bind(buffer);
  added.where = wire::Where::Ipc;
  added.ipc = handle;
  return *this;
}

Bindings& Bindings::literal(std::uint16_t kernel, std::uint16_t literal, std::int32_t value) {
  return literal_bits(kernel, literal, LiteralType::I32, bits_of(value));
}
Bindings& Bindings::literal(std::uint16_t kernel, std::uint16_t literal, std::uint32_t value) {
  return literal_bits(kernel, literal, LiteralType::U32, bits_of(value));
}
Bindings& Bindings::literal(std::uint16_t kernel, std::uint16_t literal, std::int64_t value) {
  return literal_bits(kernel, literal, LiteralType::I64, bits_of(value));
}
Bindings& Bindings::literal(std::uint16_t kernel, std::uint16_t literal, std::uint64_t value) {
  return literal_bits(kernel, literal, LiteralType::U64, bits_of(value));
}
Bindings& Bindings::literal(std::uint16_t kernel, std::uint16_t literal, float value) {
  return literal_bits(kernel, literal, LiteralType::F32, bits_of(value));
}
Bindings& Bindings::literal(std::uint16_t kernel, std::uint16_t literal, double value) {
  return literal_bits(kernel, literal, LiteralType::F64, bits_of(value));
}
Bindings& Bindings::literal_bits(std::uint16_t kernel, std::uint16_t literal, std::uint64_t bits) {
  replace(kernel, literal).bits = bits;
  return *this;
}
Bindings& Bindings::literal_bits(std::uint16_t kernel, std::uint16_t literal, LiteralType type,
                                 std::uint64_t bits) {
  LiteralOverrideData& added = replace(kernel, literal);
  added.type = static_cast<wire::LiteralType>(type);
  added.bits = bits;
  return *this;
}
Bindings& Bindings::raw(std::uint16_t kernel, std::uint16_t literal,
                        std::span<const std::byte> bytes) {
  LiteralOverrideData& added = replace(kernel, literal);
  added.type = wire::LiteralType::Raw;
  added.raw.assign(bytes.begin(), bytes.end());
  return *this;
}

}  // namespace v1
}  // namespace kaas
