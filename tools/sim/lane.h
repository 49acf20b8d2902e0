// A client's end of a lane inside the simulation: raw rings over the two segments, and the bell.
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "schema/ipc/doorbell.h"
#include "schema/ipc/lane.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/segment.h"

namespace kaas {

struct SeenLaneAnswer {
  std::uint64_t id = 0;
  StatusCode code = StatusCode::Ok;
  std::string text;
};

class SimLane {
 public:
  // Maps both; the descriptors stay open for who wants to look at them.
  SimLane(std::uint32_t number, Descriptor in_descriptor, Descriptor out_descriptor,
          Doorbell its_bell)
      : bell(std::move(its_bell)),
        number_(number),
        in_descriptor_(std::move(in_descriptor)),
        out_descriptor_(std::move(out_descriptor)),
        in_mapping_(map(in_descriptor_, Mapping::Mode::ReadWrite)),
        out_mapping_(map(out_descriptor_, Mapping::Mode::ReadOnly)),
        writer(in(), out().header),
        reader(out(), in().header) {}

  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] RingView in() const { return RingView::at(in_mapping_.data(), kLaneGeometry); }
  [[nodiscard]] RingView out() const { return RingView::at(out_mapping_.data(), kLaneGeometry); }
  [[nodiscard]] int in_descriptor() const noexcept { return in_descriptor_.get(); }
  [[nodiscard]] int out_descriptor() const noexcept { return out_descriptor_.get(); }
  // Of what was written, how much the executor has taken.
  [[nodiscard]] std::uint64_t taken() const { return out().header->consumed.load(); }

  // The executor's, which the writer of a slot wakes if it sleeps.
  Doorbell bell;

  // False: no room.
  bool invoke(std::uint64_t id, std::uint32_t call) {
    const LaneInvoke message{id, call, 0};
    return writer.try_write(lane_message(message));
  }
  // Takes the answers that are there.
  std::vector<SeenLaneAnswer> read() {
    std::vector<SeenLaneAnswer> answers;
    std::span<const std::byte> message;
    while (reader.read(buffer_, message) == ReadOutcome::Message) {
      LaneAnswer answer{};
      KAAS_CHECK(read_lane_message(message, answer));
      KAAS_CHECK(message.size() == sizeof answer + answer.text_bytes);
      const auto* text = reinterpret_cast<const char*>(message.data()) + sizeof answer;
      answers.push_back(
          {answer.id, static_cast<StatusCode>(answer.code), std::string(text, answer.text_bytes)});
      reader.advance();
    }
    reader.publish();
    return answers;
  }

 private:
  static Mapping map(const Descriptor& descriptor, Mapping::Mode mode) {
    auto mapping = Mapping::create(descriptor.get(), kLaneGeometry.segment_bytes(), mode, "a lane");
    KAAS_CHECK(mapping.has_value());
    return *std::move(mapping);
  }

  std::uint32_t number_;
  Descriptor in_descriptor_;
  Descriptor out_descriptor_;
  Mapping in_mapping_;
  Mapping out_mapping_;
  MessageBuffer buffer_{kLaneGeometry.message_bytes_max()};

 public:
  RingWriter writer;
  RingReader reader;
};

}  // namespace kaas
