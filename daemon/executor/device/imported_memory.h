// Device memory and events of another process, as this device has them open, and the cache that
// opens each once.
//
//   ImportCache ── open ────────> Device::import_memory ──> ImportedMemory   closed with its last
//               ── open_event ──> Device::import_event ───> ImportedEvent    user
//
// Trust:   a request is a client's word. What it names may be garbage, freed, of another GPU, of a
//          process that has ended: all that is an error of the one who uses it.
// Threads: the executor's main thread, but for the memory itself, which kernels and copies use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/executor/device/device.h"
#include "schema/ipc/result.h"
#include "schema/kaas_generated.h"
#include "schema/limits.h"

namespace kaas {

using GpuUuid = std::array<std::byte, kGpuUuidBytes>;

// An allocation of another process, as its owner named it (DeviceMemory in the schema). Lengths are
// checked: 64 bytes of handle for Legacy and Pool.
struct ImportRequest {
  wire::DeviceMemoryKind kind = wire::DeviceMemoryKind::Legacy;
  std::vector<std::byte> handle;
  std::uint64_t bytes = 0;     // 0: not told; allowed for Legacy only.
  std::optional<GpuUuid> gpu;  // Where it is, if its owner told.
  int descriptor = -1;         // CuMem and Pool. Borrowed.
};

// One mapping of an allocation. The destructor closes it; nothing may use it any more then.
class ImportedMemory {
 public:
  virtual ~ImportedMemory() = default;
  ImportedMemory(const ImportedMemory&) = delete;
  ImportedMemory& operator=(const ImportedMemory&) = delete;

  [[nodiscard]] DeviceAddress address() const noexcept { return address_; }
  // Of the whole allocation, as the device knows it.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  // Whether kernels of this device may use the address. Copies of a stream always may.
  [[nodiscard]] bool direct() const noexcept { return direct_; }

 protected:
  ImportedMemory(DeviceAddress address, std::uint64_t bytes, bool direct) noexcept
      : address_(address), bytes_(bytes), direct_(direct) {}

 private:
  DeviceAddress address_;
  std::uint64_t bytes_;
  bool direct_;
};

// An interprocess event that streams of this device can wait for and record. The destructor closes
// it.
class ImportedEvent {
 public:
  ImportedEvent() = default;
  virtual ~ImportedEvent() = default;
  ImportedEvent(const ImportedEvent&) = delete;
  ImportedEvent& operator=(const ImportedEvent&) = delete;
};

// Opens what is not open yet. Two segments of one handle, of one client or of two, share a mapping:
// a driver closes a handle for all that have opened it.
class ImportCache {
 public:
  // `device` must outlive this and all that it gave out.
  explicit ImportCache(Device& device) : device_(device) {}
  ImportCache(const ImportCache&) = delete;
  ImportCache& operator=(const ImportCache&) = delete;

  // InvalidArgument: the allocation is smaller than its owner said; names both sizes. Else what
  // Device::import_memory met.
  Result<std::shared_ptr<const ImportedMemory>> open(const ImportRequest& request);
  // `handle` has 64 bytes. Fails with what Device::import_event met.
  Result<std::shared_ptr<ImportedEvent>> open_event(const std::vector<std::byte>& handle);

  // Handles that are open now.
  [[nodiscard]] std::size_t open_handles();

 private:
  using Handle = std::vector<std::byte>;
  void forget_closed();

  Device& device_;
  // Legacy only: the other kinds' descriptors have no names that can be trusted to be one's own.
  std::map<Handle, std::weak_ptr<const ImportedMemory>> by_handle_;
  std::map<Handle, std::weak_ptr<ImportedEvent>> events_;
};

}  // namespace kaas
