#include "client/src/object.h"

#include "client/src/received.h"

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
  KAAS_ASSIGN_OR_RETURN(Mapping mapping,
                        map_received(descriptor, bytes, Mapping::Mode::ReadOnly, "an object"));
  Object object;
  object.version_ = version;
  object.impl_ = std::make_unique<Object::Impl>();
  object.impl_->mapping = std::move(mapping);
  object.bytes_ = {object.impl_->mapping.data(), bytes};
  return object;
}

}  // namespace v1
}  // namespace kaas
