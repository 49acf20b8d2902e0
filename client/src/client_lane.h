// The client's end of a lane (schema/ipc/lane.h): two rings over segments that kaasd made, and the
// bell by which its executor is woken.
// Trust:   the executor writes `out`; what it says is checked by Channel.
// Threads: under its channel's lock.
#pragma once

#include <cstdint>

#include "schema/ipc/doorbell.h"
#include "schema/ipc/lane.h"
#include "schema/ipc/segment.h"

namespace kaas {
inline namespace v1 {

class ClientLane {
 public:
  // `in` is mapped for writing, `out` for reading; both of kLaneGeometry.
  ClientLane(std::uint32_t number, Mapping in, Mapping out, Doorbell bell)
      : number_(number),
        in_(std::move(in)),
        out_(std::move(out)),
        bell_(std::move(bell)),
        in_view_(RingView::at(in_.data(), kLaneGeometry)),
        out_view_(RingView::at(out_.data(), kLaneGeometry)),
        writer_(in_view_, out_view_.header),
        reader_(out_view_, in_view_.header) {}

  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] RingWriter& writer() noexcept { return writer_; }
  [[nodiscard]] RingReader& reader() noexcept { return reader_; }
  [[nodiscard]] RingHeader& own() noexcept { return *in_view_.header; }
  [[nodiscard]] const RingHeader& peer() const noexcept { return *out_view_.header; }
  // After a slot was published: wakes the executor if it sleeps.
  void wake_executor() noexcept {
    if (writer_.wake_due()) bell_.ring();
  }
  // Of what was written, how much the executor has taken. Final once the lane has ended.
  [[nodiscard]] std::uint64_t taken() const noexcept {
    return peer().consumed.load(std::memory_order_acquire);
  }

 private:
  std::uint32_t number_;
  Mapping in_;
  Mapping out_;
  Doorbell bell_;
  RingView in_view_;
  RingView out_view_;
  RingWriter writer_;
  RingReader reader_;
};

}  // namespace v1
}  // namespace kaas
