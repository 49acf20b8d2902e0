// Arbitrary bytes as a message of a session's socket: refused, or a control request whose fields
// are carried as far as they go without a daemon: rings and arenas are made, regions imported,
// objects listed and shared.
#include <cstring>

#include "daemon/control/admin.h"
#include "daemon/control/session_memory.h"
#include "schema/ipc/messages.h"
#include "tests/fuzz/driver.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBudgetBytes = 8u << 20;
constexpr std::uint64_t kRegionBytes = 5000;
constexpr uid_t kUid = 1000;

ByteBudget::Options small_budget() {
  ByteBudget::Options options;
  options.limit_bytes = kBudgetBytes;
  return options;
}

// What the handlers use of the daemon.
struct Parts {
  ByteBudget budget{small_budget()};
  SegmentRegistry segments{{}};
  Store store{budget, segments, {}};
  ArenaPool arenas{budget, 64u << 10, 1};
};

Parts& parts() {
  static Parts all;
  return all;
}

void make_ring_of(std::uint32_t slots) {
  const auto ring = make_ring(parts().budget, slots, 1);
  if (!ring.has_value()) return;
  const std::uint32_t made = ring->endpoints.submit.geometry.slot_count;
  KAAS_CHECK(made == (slots == 0 ? kRingSlotsDefault : slots));
  KAAS_CHECK(made >= kRingSlotsMin && made <= kRingSlotsMax && (made & (made - 1)) == 0);
}

void make_arena_of(std::uint64_t bytes) {
  const auto arena = parts().arenas.take(bytes, kUid, 1);
  if (!arena.has_value()) return;
  KAAS_CHECK(arena->bytes >= bytes && arena->bytes > 0 && arena->bytes <= kBudgetBytes);
  KAAS_CHECK(*segment_bytes_of(arena->descriptor.get(), "arena") == arena->bytes);
}

void import_region_of(std::uint64_t bytes, bool writable) {
  auto memory = create_segment("fuzz-region", kRegionBytes);
  KAAS_CHECK(memory.has_value());
  const auto region = import_region(*std::move(memory), bytes, writable, kUid, 1);
  KAAS_CHECK(!region.has_value() || (region->bytes == bytes && bytes <= kRegionBytes));
}

void import_device_memory_of(const wire::DeviceMemory& wanted) {
  for (const bool with_descriptor : {false, true}) {
    Descriptor descriptor;
    if (with_descriptor) descriptor = *create_segment("fuzz-device", 64);
    const auto memory = import_device_memory(wanted, std::move(descriptor), kUid, 1);
    if (!memory.has_value()) continue;
    KAAS_CHECK(memory->bytes == wanted.bytes() && memory->bytes <= kSegmentBytesMax);
    KAAS_CHECK(with_descriptor == (memory->device->kind != wire::DeviceMemoryKind::Legacy));
    KAAS_CHECK(memory->device->handle.size() <= kIpcHandleBytes);
  }
}

void list(const wire::ListObjects& wanted) {
  const std::string json =
      list_json(parts().store.list(kUid, wanted.owner_uid().value_or(kUid), view(wanted.prefix()),
                                   view(wanted.after()), wanted.limit()));
  KAAS_CHECK(!json.empty());
}

void share(const wire::Share& wanted) {
  const Grant grant{wanted.everyone(), wanted.uid(), wanted.write(), wanted.revoke()};
  static_cast<void>(parts().store.share(kUid, view(wanted.key()), grant).has_value());
}

void handle(const wire::ControlRequest& request) {
  switch (request.control_type()) {
    case wire::Control::Hello: {
      const auto& hello = *request.control_as_Hello();
      if (!hello.rings() || hello.protocol_version() != kProtocolVersion) return;
      make_ring_of(hello.ring_slots());
      return make_arena_of(hello.arena_bytes());
    }
    case wire::Control::AddRing:
      return make_ring_of(request.control_as_AddRing()->ring_slots());
    case wire::Control::AddArena:
      return make_arena_of(request.control_as_AddArena()->bytes());
    case wire::Control::RegisterRegion: {
      const auto& wanted = *request.control_as_RegisterRegion();
      return import_region_of(wanted.bytes(), wanted.writable());
    }
    case wire::Control::RegisterDeviceMemory:
      return import_device_memory_of(*request.control_as_RegisterDeviceMemory()->memory());
    case wire::Control::ListObjects:
      return list(*request.control_as_ListObjects());
    case wire::Control::Share:
      return share(*request.control_as_Share());
    default:
      return;
  }
}

template <class Create>
FuzzSeed seed(std::string name, wire::Control type, Create create) {
  flatbuffers::FlatBufferBuilder builder;
  const auto control = create(builder);
  builder.Finish(wire::CreateControlRequest(builder, 7, type, control.Union()));
  const auto bytes = finished(builder);
  return {std::move(name), {bytes.begin(), bytes.end()}};
}

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  return {
      seed("hello", wire::Control::Hello,
           [](auto& b) {
             return wire::CreateHelloDirect(b, kProtocolVersion, "client", 70'000, 64, true);
           }),
      seed("add_ring", wire::Control::AddRing, [](auto& b) { return wire::CreateAddRing(b, 8); }),
      seed("add_arena", wire::Control::AddArena,
           [](auto& b) { return wire::CreateAddArena(b, 4097); }),
      seed("add_arena_last", wire::Control::AddArena,
           [](auto& b) { return wire::CreateAddArena(b, ~std::uint64_t{0}); }),
      seed("region", wire::Control::RegisterRegion,
           [](auto& b) { return wire::CreateRegisterRegion(b, kRegionBytes, true); }),
      seed("device_memory", wire::Control::RegisterDeviceMemory,
           [](auto& b) {
             const std::vector<std::uint8_t> handle(kIpcHandleBytes, 1);
             const std::vector<std::uint8_t> gpu(kGpuUuidBytes, 2);
             return wire::CreateRegisterDeviceMemory(
                 b, wire::CreateDeviceMemoryDirect(b, wire::DeviceMemoryKind::Legacy, &handle, 4096,
                                                   &gpu));
           }),
      seed("list", wire::Control::ListObjects,
           [](auto& b) { return wire::CreateListObjectsDirect(b, "pre", "prefix", 10, 1001); }),
      seed("share", wire::Control::Share,
           [](auto& b) { return wire::CreateShareDirect(b, "key", 1001, true, false, false); }),
      seed("donate", wire::Control::Donate, [](auto& b) { return wire::CreateDonate(b, 5, 64); }),
  };
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint64_t> aligned(size / sizeof(std::uint64_t) + 1);
  if (size > 0) std::memcpy(aligned.data(), data, size);
  const auto* request = kaas::verified_root<kaas::wire::ControlRequest>(
      {reinterpret_cast<const std::byte*>(aligned.data()), size});
  // As the control thread does: a type without its request is a violation.
  if (request != nullptr && request->control() != nullptr) kaas::handle(*request);
  KAAS_CHECK(kaas::parts().budget.used_bytes() == 0);
  return 0;
}
