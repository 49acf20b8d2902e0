// Buffers, regions and copies on devices: owners of what the session lends.
#include <kaas/client.h>

#include "client/src/device_copy.h"
#include "client/src/session.h"

namespace kaas {
inline namespace v1 {

Buffer::Buffer() noexcept = default;
Buffer::~Buffer() {
  if (session_) session_->free(*this);
}
Buffer::Buffer(Buffer&& other) noexcept
    : session_(std::move(other.session_)),
      bytes_(std::exchange(other.bytes_, {})),
      offset_(std::exchange(other.offset_, 0)),
      segment_(std::exchange(other.segment_, 0)) {}
Buffer& Buffer::operator=(Buffer&& other) noexcept {
  Buffer taken(std::move(other));
  std::swap(session_, taken.session_);
  std::swap(bytes_, taken.bytes_);
  std::swap(offset_, taken.offset_);
  std::swap(segment_, taken.segment_);
  return *this;
}

Region::Region() noexcept = default;
Region::~Region() {
  if (session_) session_->free(*this);
}
Region::Region(Region&& other) noexcept
    : session_(std::move(other.session_)),
      size_(std::exchange(other.size_, 0)),
      segment_(std::exchange(other.segment_, 0)),
      must_be_closed_(std::exchange(other.must_be_closed_, false)) {}
Region& Region::operator=(Region&& other) noexcept {
  Region taken(std::move(other));
  std::swap(session_, taken.session_);
  std::swap(size_, taken.size_);
  std::swap(segment_, taken.segment_);
  std::swap(must_be_closed_, taken.must_be_closed_);
  return *this;
}

DeviceCopy::DeviceCopy(std::unique_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
DeviceCopy::~DeviceCopy() = default;
DeviceCopy::DeviceCopy(DeviceCopy&&) noexcept = default;
DeviceCopy& DeviceCopy::operator=(DeviceCopy&&) noexcept = default;

int DeviceCopy::descriptor() const noexcept {
  return impl_->answer.descriptor.get();
}
std::uint64_t DeviceCopy::bytes() const noexcept {
  return impl_->answer.bytes;
}
std::uint64_t DeviceCopy::allocation_bytes() const noexcept {
  return impl_->answer.allocation_bytes;
}
std::span<const std::byte> DeviceCopy::gpu() const noexcept {
  return impl_->answer.gpu;
}
const std::string& DeviceCopy::device() const noexcept {
  return impl_->answer.device;
}
std::uint64_t DeviceCopy::version() const noexcept {
  return impl_->answer.version;
}
const Region& DeviceCopy::region() const noexcept {
  return impl_->region;
}

}  // namespace v1
}  // namespace kaas
