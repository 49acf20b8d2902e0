// What the dispatcher knows of devices, of a domain's executor on each, and of libraries' state.
// Places are as in flow/device.h.
// Threads: dispatcher only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "daemon/flow/device.h"
#include "daemon/flow/plan_instance.h"
#include "schema/ipc/result.h"

namespace kaas {

// States, with who moves them:
//   Active --suspend_devices--> Suspending --nothing runs there any more--> Suspended
//   Suspending --its time is up, or resume_devices--> Active
//   Suspended --resume_devices--> Active
struct DeviceState {
  enum class State : std::uint8_t { Active, Suspending, Suspended };
  DeviceSpec spec;
  State state = State::Active;
};

// A domain's executor on one device.
struct PlaceState {
  std::uint32_t executor = 0;  // 0: none.
  bool wanted = false;         // One is being started.
  bool failed = false;         // None can be started now.
  bool idle = false;           // It was ended because it had no work; started when it is needed.
  bool given_back = false;     // It was ended because the device was suspended.
};

// Of a library in a domain. Its state lives in one executor, so all that may use it must go there.
struct LibraryState {
  std::weak_ptr<const LibraryVersion> version;
  std::uint32_t place = kAnyPlace;  // Where its state is, if it keeps any; kAnyPlace: nowhere yet.
  bool keeps_state = false;         // An executor has said that it does.
  std::unordered_set<std::string> stateless;  // Kernels of which an executor said that they don't.
};

// Devices that are being suspended together.
struct Suspension {
  std::vector<std::uint32_t> places;
  std::uint64_t within_ns = 0;
  std::uint64_t deadline_ns = 0;
  std::function<void(const Result<void>&)> done;
};

}  // namespace kaas
