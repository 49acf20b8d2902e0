#include "client/src/object.h"

namespace kaas {
inline namespace v1 {

Object::Object() noexcept = default;
Object::~Object() = default;
Object::Object(Object&& other) noexcept
    : impl_(std::move(other.impl_)),
      bytes_(std::exchange(other.bytes_, {})),
      version_(std::exchange(other.version_, 0)) {}
Object& Object::operator=(Object&& other) noexcept {
  impl_ = std::move(other.impl_);
  bytes_ = std::exchange(other.bytes_, {});
  version_ = std::exchange(other.version_, 0);
  return *this;
}

Object ObjectAccess::copied(std::vector<std::byte> bytes, std::uint64_t version) {
  Object object;
  object.version_ = version;
  if (bytes.empty()) return object;
  object.impl_ = std::make_unique<Object::Impl>();
  object.impl_->copy = std::move(bytes);
  object.bytes_ = object.impl_->copy;
  return object;
}

Result<Object> ObjectAccess::mapped(int descriptor, std::uint64_t bytes, std::uint64_t version) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t actual, segment_bytes_of(descriptor, "the object"));
  // A shorter or shrinking file would end this process at the first byte that is not there.
  if (bytes == 0 || actual < bytes || !has_seals(seals_of(descriptor), Seals::Size)) {
    return Status{StatusCode::ProtocolViolation,
                  "kaasd sent an object of " + std::to_string(bytes) + " bytes in a segment of " +
                      std::to_string(actual) + " that is unsealed or too short"};
  }
  KAAS_ASSIGN_OR_RETURN(Mapping mapping,
                        Mapping::create(descriptor, bytes, Mapping::Mode::ReadOnly, "the object"));
  Object object;
  object.version_ = version;
  object.impl_ = std::make_unique<Object::Impl>();
  object.impl_->mapping = std::move(mapping);
  object.bytes_ = {object.impl_->mapping.data(), bytes};
  return object;
}

}  // namespace v1
}  // namespace kaas
