// Encoding of answers. Threads: the builder's owner.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "schema/ipc/messages.h"

namespace kaas {

struct AnswerOutput {
  std::uint16_t buffer = 0;
  std::string_view name;
  std::uint64_t bytes = 0;
  std::uint64_t version = 0;        // 0: not in the store.
  std::span<const std::byte> data;  // Inline outputs.
};

// As wire::LaneGrant.
struct LaneGrantSpec {
  std::uint32_t lane = 0;
  std::uint32_t call = 0;
  std::uint64_t in_token = 0;
  std::uint64_t out_token = 0;
  std::uint64_t bell_token = 0;
  bool replayable = false;
};

// Where the bytes of an Export are.
struct AnswerExport {
  std::uint32_t segment = 0;
  std::uint64_t allocation_bytes = 0;
  std::span<const std::byte> gpu;
  std::string_view device;
};

// What a client is told of one operation. Borrows; zero and empty parts are not sent.
struct AnswerSpec {
  std::uint64_t id = 0;
  StatusCode code = StatusCode::Ok;
  std::string_view message = {};  // Cut to kStatusMessageBytesMax.
  std::uint32_t plan = 0;
  std::uint64_t version = 0;
  std::uint64_t bytes = 0;
  std::span<const std::byte> data = {};
  std::uint64_t token = 0;
  std::span<const AnswerOutput> outputs = {};
  const wire::Stages* stages = nullptr;
  const wire::Counters* counters = nullptr;
  const wire::Moments* moments = nullptr;
  std::string_view device = {};
  const LaneGrantSpec* lane = nullptr;
  wire::RunWay way = wire::RunWay::Unknown;
  wire::WhyStream why_stream = wire::WhyStream::None;
  wire::ObjectPlace place = wire::ObjectPlace::Host;
  std::string_view object_device = {};  // Where `place` is not the host.
  const AnswerExport* exported = nullptr;
};

// Finishes the answer in `builder`, which it clears first. The bytes live until the next Clear.
std::span<const std::byte> encode_answer(flatbuffers::FlatBufferBuilder& builder,
                                         const AnswerSpec& answer);

}  // namespace kaas
