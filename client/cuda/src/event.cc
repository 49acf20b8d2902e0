// Events that this process and the executors share.
#include "client/cuda/src/event.h"

#include <kaas/cuda.h>

#include <span>
#include <utility>

#include "schema/ipc/result.h"

namespace kaas {
inline namespace v1 {
namespace {

Result<void> checked(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return {};
  return driver_status(**driver(), result, what);
}

}  // namespace

Result<InterprocessEvent> InterprocessEvent::create() {
  KAAS_ASSIGN_OR_RETURN(const Driver* loaded, driver());
  InterprocessEvent made;
  KAAS_RETURN_IF_ERROR(
      checked(loaded->EventCreate(&made.event_, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING),
              "creating an interprocess event on the current device"));
  KAAS_RETURN_IF_ERROR(checked(loaded->IpcGetEventHandle(&made.handle_, made.event_),
                               "getting an event's IPC handle"));
  return made;
}

InterprocessEvent::~InterprocessEvent() {
  if (event_ != nullptr) destroy_event(event_);
}
InterprocessEvent::InterprocessEvent(InterprocessEvent&& other) noexcept
    : event_(other.release()), handle_(other.handle_) {}
CUevent InterprocessEvent::release() noexcept {
  return std::exchange(event_, nullptr);
}

void destroy_event(CUevent event) noexcept {
  (*driver())->EventDestroy(event);
}
Result<void> record_event(CUevent event, void* stream) {
  return checked((*driver())->EventRecord(event, static_cast<CUstream>(stream)),
                 "recording an event");
}
Result<void> wait_event(CUevent event, void* stream) {
  return checked((*driver())->StreamWaitEvent(static_cast<CUstream>(stream), event, 0),
                 "making a stream wait for an event");
}

// --- CudaEvent -----------------------------------------------------------------------------------

Result<CudaEvent> CudaEvent::create(Client& client) {
  KAAS_ASSIGN_OR_RETURN(InterprocessEvent event, InterprocessEvent::create());
  KAAS_ASSIGN_OR_RETURN(Region region,
                        client.register_event(std::as_bytes(std::span(&event.handle(), 1))));
  return CudaEvent(std::move(region), event.release());
}

CudaEvent::~CudaEvent() {
  if (event_ == nullptr) return;
  region_ = Region();  // Before the event is gone.
  destroy_event(static_cast<CUevent>(event_));
}
CudaEvent::CudaEvent(CudaEvent&& other) noexcept
    : region_(std::move(other.region_)), event_(std::exchange(other.event_, nullptr)) {}
CudaEvent& CudaEvent::operator=(CudaEvent&& other) noexcept {
  CudaEvent taken(std::move(other));
  std::swap(region_, taken.region_);
  std::swap(event_, taken.event_);
  return *this;
}

Result<void> CudaEvent::record(void* stream) {
  return record_event(static_cast<CUevent>(event_), stream);
}
Result<void> CudaEvent::wait(void* stream) {
  return wait_event(static_cast<CUevent>(event_), stream);
}

}  // namespace v1
}  // namespace kaas
