// Stored objects in device memory of this program.
#include <kaas/cuda.h>

#include <utility>

#include "client/cuda/src/mapping.h"
#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {

struct CudaObject::Impl {
  DeviceCopy copy;  // Given back after it is unmapped.
  CopyMapping mapping;
};

CudaObject::CudaObject(std::unique_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
CudaObject::~CudaObject() = default;
CudaObject::CudaObject(CudaObject&&) noexcept = default;
CudaObject& CudaObject::operator=(CudaObject&&) noexcept = default;

Result<CudaObject> CudaObject::open(Client& client, std::string_view key,
                                    const ExportOptions& options) {
  // Before anything is made for a program that can't use it.
  KAAS_ASSIGN_OR_RETURN(const Driver* loaded, driver());
  static_cast<void>(loaded);
  KAAS_ASSIGN_OR_RETURN(DeviceCopy copy, client.export_object(key, options));
  return map(std::move(copy));
}

Result<CudaObject> CudaObject::map(DeviceCopy copy) {
  KAAS_ASSIGN_OR_RETURN(
      CopyMapping mapping,
      CopyMapping::create(copy.descriptor(), copy.allocation_bytes(), copy.gpu(), copy.device()));
  return CudaObject(std::make_unique<const Impl>(Impl{std::move(copy), std::move(mapping)}));
}

void* CudaObject::data() const noexcept {
  return impl_->mapping.data();
}
const DeviceCopy& CudaObject::copy() const noexcept {
  return impl_->copy;
}

}  // namespace v1
}  // namespace kaas
