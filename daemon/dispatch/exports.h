// Exports under way: an object's bytes that are to become device memory of a client.
// Threads: dispatcher only.
#pragma once

#include <cstdint>

#include "daemon/flow/device.h"
#include "daemon/flow/segments.h"
#include "daemon/session/session.h"
#include "daemon/store/object_version.h"

namespace kaas {

// States, with who moves them:
//
//   Waiting --an executor is ready and has room--> InFlight
//   InFlight --ExportDone--> answered, gone
//   InFlight --executor died--> Waiting, or answered with the cause
//   Waiting --its session closed, its device suspended or failed--> gone, or answered
//
// One whose session closes in flight is given back when the executor has reported it.
struct Export {
  std::uint64_t number = 0;   // Never reused.
  std::uint64_t session = 0;  // May be gone.
  std::uint32_t ring = 0;
  std::uint64_t id = 0;  // The client's number of the operation.
  std::uint32_t domain = 0;
  std::uint32_t uid = 0;
  VersionRef version;
  std::uint64_t offset = 0;  // In the object.
  std::uint64_t bytes = 0;
  std::uint32_t place = kAnyPlace;  // That the client asked for.
  std::uint32_t executor = 0;       // InFlight: where. Else 0.
  std::uint32_t strikes = 0;        // Executors that died with it in flight.
  SegmentNumber segment;
};

// Device memory that exports of a session hold now.
struct ExportUsage {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
};
// On the device `place`; kAnyPlace: on all.
[[nodiscard]] ExportUsage export_usage(const Session& session, std::uint32_t place = kAnyPlace);

}  // namespace kaas
