#include "daemon/executor/device/imported_memory.h"

#include <string>
#include <utility>

#include "daemon/executor/device/exportable_memory.h"

namespace kaas {

Result<std::unique_ptr<ImportedMemory>> Device::import_memory(const ImportRequest&) {
  return Status{StatusCode::InvalidArgument,
                "the " + limits().name +
                    " device has no memory that other processes could share with it; use a buffer "
                    "in the store, in an arena or in a registered region"};
}

Result<std::unique_ptr<ImportedEvent>> Device::import_event(std::span<const std::byte>) {
  return Status{StatusCode::InvalidArgument,
                "the " + limits().name +
                    " device has no events that other processes could share with it; send the "
                    "request when what it depends on has ended"};
}

Result<std::unique_ptr<ExportableMemory>> Device::allocate_exportable(std::uint64_t) {
  return Status{StatusCode::InvalidArgument,
                "the " + limits().name +
                    " device has no memory that other processes could map; a get brings the bytes "
                    "to host memory"};
}

// Nobody has an event of a device that imports none.
Result<void> DeviceStream::wait_event(ImportedEvent&) {
  return Status{StatusCode::Internal, "a stream of this device can't wait for events"};
}
Result<void> DeviceStream::record_event(ImportedEvent&) {
  return Status{StatusCode::Internal, "a stream of this device can't record events"};
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

Result<std::shared_ptr<ImportedEvent>> ImportCache::open_event(const Handle& handle) {
  if (const auto found = events_.find(handle); found != events_.end()) {
    if (auto event = found->second.lock()) return event;
  }
  KAAS_ASSIGN_OR_RETURN(std::shared_ptr<ImportedEvent> event, device_.import_event(handle));
  forget_closed();
  events_[handle] = event;
  return event;
}

std::size_t ImportCache::open_handles() {
  forget_closed();
  return by_handle_.size() + events_.size();
}

void ImportCache::forget_closed() {
  const auto expired = [](const auto& entry) { return entry.second.expired(); };
  std::erase_if(by_handle_, expired);
  std::erase_if(events_, expired);
}

}  // namespace kaas
