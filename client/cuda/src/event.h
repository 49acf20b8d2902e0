// An interprocess event and its handle, before anybody registers it.
// Threads: any.
#pragma once

#include "client/cuda/src/driver.h"

namespace kaas {
inline namespace v1 {

class InterprocessEvent {
 public:
  // For the calling thread's current device.
  static Result<InterprocessEvent> create();
  ~InterprocessEvent();
  InterprocessEvent(InterprocessEvent&& other) noexcept;
  InterprocessEvent& operator=(InterprocessEvent&&) = delete;

  [[nodiscard]] const CUipcEventHandle& handle() const noexcept { return handle_; }
  // Gives the event up; it is to be destroyed with destroy_event().
  [[nodiscard]] CUevent release() noexcept;

 private:
  InterprocessEvent() = default;
  CUevent event_ = nullptr;
  CUipcEventHandle handle_{};
};

void destroy_event(CUevent event) noexcept;
Result<void> record_event(CUevent event, void* stream);
Result<void> wait_event(CUevent event, void* stream);

}  // namespace v1
}  // namespace kaas
