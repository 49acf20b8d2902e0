// A client process inside the simulation: the client's ends of its rings in plain memory, its
// socket, its arena. It may do anything a client can.
// Threads: one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "daemon/session/session.h"
#include "schema/ipc/ring.h"
#include "schema/ipc/segment.h"
#include "tools/sim/lane.h"
#include "tools/sim/messages.h"

namespace kaas {

// Memory of one ring segment, zeroed as a memfd is.
class PlainRing {
 public:
  explicit PlainRing(RingGeometry geometry)
      : memory_(static_cast<std::byte*>(
            ::operator new (geometry.segment_bytes(), std::align_val_t{kPairBytes}))),
        view_(RingView::at(memory_.get(), geometry)) {
    std::memset(memory_.get(), 0, geometry.segment_bytes());
    view_.initialise(1);
  }
  [[nodiscard]] const RingView& view() const noexcept { return view_; }

 private:
  struct Release {
    void operator()(std::byte* memory) const noexcept {
      ::operator delete (memory, std::align_val_t{kPairBytes});
    }
  };
  std::unique_ptr<std::byte, Release> memory_;
  RingView view_;
};

class SimClient {
 public:
  struct Ring {
    explicit Ring(RingGeometry geometry) : submit(geometry), completion(geometry) {}
    PlainRing submit;
    PlainRing completion;
    RingWriter writer;
    RingReader reader;
    Doorbell doorbell;
  };

  SimClient(std::uint64_t session, std::uint32_t uid, std::size_t rings, RingGeometry geometry);
  SimClient(const SimClient&) = delete;
  SimClient& operator=(const SimClient&) = delete;

  // kaasd's side of this client, to be given to the dispatcher once.
  std::unique_ptr<Session> make_session();
  // The arena's segment, as the client has it mapped.
  void map_arena(const SegmentRef& arena);

  [[nodiscard]] std::uint64_t session() const noexcept { return session_; }
  [[nodiscard]] std::uint32_t uid() const noexcept { return uid_; }
  [[nodiscard]] std::size_t rings() const noexcept { return rings_.size(); }
  [[nodiscard]] Ring& ring(std::size_t index) noexcept { return *rings_[index]; }
  [[nodiscard]] std::uint32_t arena() const noexcept { return arena_id_; }
  [[nodiscard]] std::span<std::byte> arena_bytes() const noexcept {
    return {arena_.data(), arena_.bytes()};
  }

  // False: no room.
  bool send(std::size_t ring, const Bytes& message) {
    return rings_[ring]->writer.try_write(message);
  }
  // Takes all answers that are there, at most `limit`.
  std::vector<SeenAnswer> read(std::size_t ring, std::size_t limit = SIZE_MAX);
  // The bytes of a large object that an answer named by its token; nullopt: no such descriptor
  // came.
  std::optional<Bytes> receive(std::uint64_t token);
  // The descriptor itself.
  std::optional<Descriptor> take_descriptor(std::uint64_t token);
  // Why kaasd has ended that lane; nullopt: it has not said so.
  std::optional<Status> lane_end(std::uint32_t lane);
  // The lane that a grant names. Null: it brought no descriptors.
  std::unique_ptr<SimLane> map_lane(const SeenGrant& grant);
  // A StatusCode when kaasd has closed the ring, else 0.
  [[nodiscard]] std::uint32_t closed(std::size_t ring) const noexcept {
    return rings_[ring]->completion.view().header->closed.load();
  }
  // Closes its ends of the doorbells and the socket, as the end of a process does.
  void hang_up();

 private:
  struct Arrived {
    std::uint64_t token;
    std::uint64_t bytes;
    Descriptor descriptor;
  };
  void collect_packets();
  std::optional<Arrived> take_arrived(std::uint64_t token);

  std::uint64_t session_;
  std::uint32_t uid_;
  std::vector<std::unique_ptr<Ring>> rings_;
  std::vector<Doorbell> kaasd_doorbells_;
  Descriptor socket_;
  Descriptor kaasd_socket_;
  Mapping arena_;
  std::uint32_t arena_id_ = 0;
  MessageBuffer buffer_{kRingHeapBytes};
  std::vector<Arrived> arrived_;
  std::map<std::uint32_t, Status> ended_lanes_;
};

}  // namespace kaas
