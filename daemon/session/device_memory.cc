#include "daemon/session/device_memory.h"

#include <algorithm>
#include <utility>

#include "schema/limits.h"

namespace kaas {
namespace {

std::string key_of(wire::DeviceMemoryKind kind, std::span<const std::byte> handle) {
  std::string key(1, static_cast<char>(kind));
  key.append(reinterpret_cast<const char*>(handle.data()), handle.size());
  return key;
}

std::string gpu_id(std::span<const std::byte> uuid) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string id = "GPU-";
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) id += '-';
    id += kDigits[std::to_integer<unsigned>(uuid[i]) >> 4];
    id += kDigits[std::to_integer<unsigned>(uuid[i]) & 15];
  }
  return id;
}

Result<void> check_size(const Segment& known, std::uint64_t bytes) {
  const std::uint64_t known_bytes = known.device->bytes;
  if (known_bytes == bytes || known_bytes == 0 || bytes == 0) return {};
  return Status{StatusCode::InvalidArgument,
                "bytes of the device memory is " + std::to_string(bytes) +
                    ", the same handle was given with " + std::to_string(known_bytes)};
}

}  // namespace

Segment device_segment(DeviceMemoryTerms terms, Descriptor descriptor, std::uint32_t uid,
                       std::uint64_t session) {
  Segment segment;
  segment.descriptor = std::move(descriptor);
  // What kaasd can't check, the executor does when it has opened the memory.
  segment.bytes = terms.bytes == 0 ? kSegmentBytesMax : terms.bytes;
  segment.kind = SegmentKind::Device;
  segment.writable = true;  // CUDA has no handles that are read-only.
  segment.owner_uid = uid;
  segment.session = session;
  if (!terms.gpu.empty()) terms.device = gpu_id(terms.gpu);
  segment.device = std::move(terms);
  return segment;
}

Result<SegmentRef> DeviceMemoryTable::add_registered(Segment memory, SegmentRegistry& registry) {
  const bool has_name = !memory.device->handle.empty();
  std::string key;
  if (has_name) {
    key = key_of(memory.device->kind, memory.device->handle);
    const auto found = entries_.find(key);
    if (found != entries_.end()) {
      KAAS_RETURN_IF_ERROR(check_size(*found->second.segment, memory.device->bytes));
      ++found->second.registrations;
      return found->second.segment;
    }
  }
  KAAS_RETURN_IF_ERROR(make_room());
  SegmentRef segment = registry.add(std::move(memory));
  if (!has_name) key = "#" + std::to_string(segment->id);
  entries_[std::move(key)] = {segment, 1, ++uses_};
  return segment;
}

bool DeviceMemoryTable::drop(std::uint32_t segment) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [segment](const auto& entry) {
    return entry.second.segment->id == segment;
  });
  if (found == entries_.end()) return true;
  if (found->second.registrations > 0 && --found->second.registrations > 0) return false;
  entries_.erase(found);
  return true;
}

Result<SegmentRef> DeviceMemoryTable::named(std::span<const std::byte> handle, std::uint64_t bytes,
                                            std::uint32_t uid, std::uint64_t session,
                                            SegmentRegistry& registry) {
  std::string key = key_of(wire::DeviceMemoryKind::Legacy, handle);
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    KAAS_RETURN_IF_ERROR(check_size(*found->second.segment, bytes));
    found->second.used = ++uses_;
    return found->second.segment;
  }
  KAAS_RETURN_IF_ERROR(make_room());
  DeviceMemoryTerms terms;
  terms.handle.assign(handle.begin(), handle.end());
  terms.bytes = bytes;
  SegmentRef segment = registry.add(device_segment(std::move(terms), {}, uid, session));
  entries_[std::move(key)] = {segment, 0, ++uses_};
  return segment;
}

// For one more. Closes what requests named by its handle and do not use now: a run that is under
// way keeps its segment's number, by which later runs of its ring are ordered behind it.
Result<void> DeviceMemoryTable::make_room() {
  auto oldest = entries_.end();
  std::size_t kept = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->second.registrations != 0) continue;
    ++kept;
    const bool idle = entry->second.segment.use_count() == 1;
    if (idle && (oldest == entries_.end() || entry->second.used < oldest->second.used)) {
      oldest = entry;
    }
  }
  const bool is_full = entries_.size() >= kSegmentsPerSessionMax;
  if (oldest != entries_.end() && (kept >= kHandlesKeptPerSession || is_full)) {
    entries_.erase(oldest);
    return {};
  }
  if (!is_full) return {};
  return over_limit(StatusCode::ResourceExhausted, "allocations of device memory of this session",
                    entries_.size() + 1, kSegmentsPerSessionMax);
}

}  // namespace kaas
