// The public builders: they only collect.
#include <kaas/client.h>

#include "client/src/encode.h"
#include "client/src/request_data.h"

namespace kaas {
inline namespace v1 {

// --- Request -------------------------------------------------------------------------------------

Request::Request(std::shared_ptr<const std::vector<std::byte>> bytes) noexcept
    : bytes_(std::move(bytes)) {}

Request Request::from_bytes(std::span<const std::byte> flatbuffer) {
  return Request(
      std::make_shared<const std::vector<std::byte>>(flatbuffer.begin(), flatbuffer.end()));
}

std::span<const std::byte> Request::bytes() const noexcept {
  return *bytes_;
}

// --- BufferBuilder -------------------------------------------------------------------------------

namespace {

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace

BufferData& BufferBuilder::data() const {
  return owner_->impl_->buffers[index_];
}

BufferBuilder& BufferBuilder::at(std::string_view key, std::uint64_t offset) {
  data().where = wire::Where::Store;
  data().key = key;
  data().offset = offset;
  return *this;
}
BufferBuilder& BufferBuilder::offset(std::uint64_t bytes) {
  data().offset = bytes;
  return *this;
}
BufferBuilder& BufferBuilder::offset(std::string_view expression) {
  data().offset_expression = expression;
  return *this;
}
BufferBuilder& BufferBuilder::in(const Buffer& buffer, std::uint64_t offset) {
  in_segment(buffer.segment(), position_in_segment(buffer, offset));
  data().memory = part_of(buffer);
  return *this;
}
BufferBuilder& BufferBuilder::in(const Region& region, std::uint64_t offset) {
  in_segment(region.segment(), offset);
  data().memory = part_of(region);
  return *this;
}
BufferBuilder& BufferBuilder::in_segment(std::uint32_t segment, std::uint64_t offset) {
  data().where = wire::Where::Segment;
  data().memory.reset();
  data().segment = segment;
  data().offset = offset;
  return *this;
}
BufferBuilder& BufferBuilder::inline_bytes(std::span<const std::byte> bytes) {
  data().where = wire::Where::Inline;
  data().bytes = copy_of(bytes);
  return *this;
}
BufferBuilder& BufferBuilder::in_message() {
  data().where = wire::Where::Inline;
  return *this;
}
BufferBuilder& BufferBuilder::device_memory(const IpcHandle& handle) {
  data().where = wire::Where::Ipc;
  data().ipc = handle;
  return *this;
}
BufferBuilder& BufferBuilder::ephemeral(bool on) {
  data().ephemeral = on;
  return *this;
}
BufferBuilder& BufferBuilder::constant(bool on) {
  data().constant = on;
  return *this;
}
BufferBuilder& BufferBuilder::zero_fill(bool on) {
  data().zero_fill = on;
  return *this;
}
BufferBuilder& BufferBuilder::resident(bool on) {
  data().resident = on;
  return *this;
}

// --- KernelBuilder -------------------------------------------------------------------------------

KernelData& KernelBuilder::data() const {
  return owner_->impl_->kernels[index_];
}

KernelBuilder& KernelBuilder::grid(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
  data().grid = {x, y, z};
  return *this;
}
KernelBuilder& KernelBuilder::grid(const DimExpression& expression) {
  data().grid_expression = expression;
  return *this;
}
KernelBuilder& KernelBuilder::block(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
  data().block = {x, y, z};
  return *this;
}
KernelBuilder& KernelBuilder::block(const DimExpression& expression) {
  data().block_expression = expression;
  return *this;
}
KernelBuilder& KernelBuilder::shared_bytes(std::uint32_t bytes) {
  data().shared_bytes = bytes;
  return *this;
}
KernelBuilder& KernelBuilder::cluster(std::uint32_t x, std::uint32_t y, std::uint32_t z) {
  data().cluster = Dim3{x, y, z};
  return *this;
}
KernelBuilder& KernelBuilder::programmatic(bool on) {
  data().programmatic = on;
  return *this;
}
KernelBuilder& KernelBuilder::cooperative(bool on) {
  data().cooperative = on;
  return *this;
}

KernelBuilder& KernelBuilder::literal(std::int32_t value) {
  return literal_bits(LiteralType::I32, bits_of(value));
}
KernelBuilder& KernelBuilder::literal(std::uint32_t value) {
  return literal_bits(LiteralType::U32, bits_of(value));
}
KernelBuilder& KernelBuilder::literal(std::int64_t value) {
  return literal_bits(LiteralType::I64, bits_of(value));
}
KernelBuilder& KernelBuilder::literal(std::uint64_t value) {
  return literal_bits(LiteralType::U64, bits_of(value));
}
KernelBuilder& KernelBuilder::literal(float value) {
  return literal_bits(LiteralType::F32, bits_of(value));
}
KernelBuilder& KernelBuilder::literal(double value) {
  return literal_bits(LiteralType::F64, bits_of(value));
}
KernelBuilder& KernelBuilder::literal(LiteralType type, std::string_view expression) {
  LiteralData& added = data().literals.emplace_back();
  added.type = static_cast<wire::LiteralType>(type);
  added.expression = expression;
  return *this;
}
KernelBuilder& KernelBuilder::literal_bits(LiteralType type, std::uint64_t bits) {
  LiteralData& added = data().literals.emplace_back();
  added.type = static_cast<wire::LiteralType>(type);
  added.bits = bits;
  return *this;
}
KernelBuilder& KernelBuilder::raw(std::span<const std::byte> bytes,
                                  std::vector<AddressSlot> slots) {
  LiteralData& added = data().literals.emplace_back();
  added.type = wire::LiteralType::Raw;
  added.raw = copy_of(bytes);
  added.slots = std::move(slots);
  return *this;
}

KernelBuilder& KernelBuilder::in(std::string_view buffer) {
  data().arguments.emplace_back(buffer, wire::Access::In);
  return *this;
}
KernelBuilder& KernelBuilder::out(std::string_view buffer) {
  data().arguments.emplace_back(buffer, wire::Access::Out);
  return *this;
}
KernelBuilder& KernelBuilder::inout(std::string_view buffer) {
  data().arguments.emplace_back(buffer, wire::Access::InOut);
  return *this;
}
KernelBuilder& KernelBuilder::temporary(std::string_view buffer) {
  data().arguments.emplace_back(buffer, wire::Access::Temporary);
  return *this;
}
KernelBuilder& KernelBuilder::order(std::vector<std::uint16_t> parameters) {
  data().order = std::move(parameters);
  return *this;
}

// --- RequestBuilder ------------------------------------------------------------------------------

RequestBuilder::RequestBuilder() : impl_(std::make_unique<Impl>()) {}
RequestBuilder::~RequestBuilder() = default;
RequestBuilder::RequestBuilder(RequestBuilder&& other) noexcept = default;
RequestBuilder& RequestBuilder::operator=(RequestBuilder&& other) noexcept = default;

BufferBuilder RequestBuilder::buffer(std::string_view name, std::uint64_t size) {
  BufferData& added = impl_->buffers.emplace_back();
  added.name = name;
  added.size = size;
  return BufferBuilder(this, impl_->buffers.size() - 1);
}
BufferBuilder RequestBuilder::buffer(std::string_view name, std::string_view size_expression) {
  BufferData& added = impl_->buffers.emplace_back();
  added.name = name;
  added.size_expression = size_expression;
  return BufferBuilder(this, impl_->buffers.size() - 1);
}
KernelBuilder RequestBuilder::kernel(std::string_view library, std::string_view name) {
  KernelData& added = impl_->kernels.emplace_back();
  added.library = library;
  added.kernel = name;
  return KernelBuilder(this, impl_->kernels.size() - 1);
}
RequestBuilder& RequestBuilder::n_iter(std::uint64_t times) {
  impl_->n_iter = times;
  return *this;
}
RequestBuilder& RequestBuilder::n_iter(std::string_view expression) {
  impl_->n_iter_expression = expression;
  return *this;
}
RequestBuilder& RequestBuilder::until(std::string_view buffer) {
  impl_->until = buffer;
  return *this;
}
RequestBuilder& RequestBuilder::parameter(std::string_view name) {
  impl_->parameters.emplace_back(name);
  return *this;
}

Result<Request> RequestBuilder::build() const {
  KAAS_ASSIGN_OR_RETURN(std::vector<std::byte> bytes, encode_request(*impl_));
  return Request(std::make_shared<const std::vector<std::byte>>(std::move(bytes)));
}

}  // namespace v1
}  // namespace kaas
