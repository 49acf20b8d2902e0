#include "daemon/executor/device/imported_memory.h"

#include <string>
#include <utility>

namespace kaas {

Result<std::unique_ptr<ImportedMemory>> Device::import_memory(const ImportRequest&) {
  return Status{StatusCode::InvalidArgument,
                "the " + limits().name +
                    " device has no memory that other processes could share with it; use a buffer "
                    "in the store, in an arena or in a registered region"};
}

Result<std::shared_ptr<const ImportedMemory>> ImportCache::open(const ImportRequest& request) {
  const bool has_name = request.kind == wire::DeviceMemoryKind::Legacy;
  std::shared_ptr<const ImportedMemory> memory;
  if (has_name) {
    const auto found = by_handle_.find(request.handle);
    if (found != by_handle_.end()) memory = found->second.lock();
  }
  if (memory == nullptr) {
    KAAS_ASSIGN_OR_RETURN(memory, device_.import_memory(request));
  }
  if (request.bytes > memory->bytes()) {
    return Status{StatusCode::InvalidArgument,
                  "the allocation has " + std::to_string(memory->bytes()) +
                      " bytes, its owner said " + std::to_string(request.bytes)};
  }
  if (has_name) {
    forget_closed();
    by_handle_[request.handle] = memory;
  }
  return memory;
}

std::size_t ImportCache::open_handles() {
  forget_closed();
  return by_handle_.size();
}

void ImportCache::forget_closed() {
  std::erase_if(by_handle_, [](const auto& entry) { return entry.second.expired(); });
}

}  // namespace kaas
