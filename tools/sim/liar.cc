#include "tools/sim/liar.h"

#include "tools/sim/requests.h"

namespace kaas {
namespace {

Bytes garbage(Random& random, std::size_t bytes_max) {
  Bytes bytes(random.below(bytes_max + 1));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits());
  return bytes;
}

void flip(Bytes& bytes, Random& random) {
  if (bytes.empty()) return;
  for (std::uint64_t n = random.between(1, 4); n > 0; --n) {
    bytes[random.below(bytes.size())] ^= static_cast<std::byte>(1u << random.below(8));
  }
}

template <class Create>
Bytes report(wire::Report type, Create create) {
  flatbuffers::FlatBufferBuilder builder;
  const auto item = create(builder);
  builder.Finish(wire::CreateReportItem(builder, type, item.Union()));
  const auto bytes = finished(builder);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

// Mostly what is wrong in meaning only.
RequestSpec LyingClient::request() {
  BufferSpec buffer = store_buffer("x", 64, "liar" + std::to_string(random_.below(4)));
  buffer.resident = random_.one_in(3);
  switch (random_.below(7)) {
    case 0:
      buffer = segment_buffer("x", 64, foreign_arena_);
      break;
    case 1:
      buffer = segment_buffer("x", 64, client_.arena(), random_.bits());
      break;
    case 2:
      buffer = segment_buffer("x", 64, static_cast<std::uint32_t>(random_.below(40)));
      buffer.place.part_offset = buffer.place.segment % 3;
      buffer.place.part_end = std::uint64_t{4} * buffer.place.segment;
      break;
    case 3:
      buffer = store_buffer("x", random_.bits() >> random_.below(60));
      break;
    case 4:
      buffer.offset.value = random_.bits() >> random_.below(60);
      break;
    default:
      break;
  }
  switch (random_.below(3)) {
    case 0:
      return add_one_request(buffer);
    case 1:
      return copy_request(store_buffer("y", 64, "liar" + std::to_string(random_.below(4))), buffer);
    default:
      return fill_request(buffer, 1, random_.one_in(5) ? "missing" : "fake");
  }
}

Bytes LyingClient::message() {
  const std::uint64_t id = random_.one_in(4) ? random_.below(8) : next_id_++;
  const std::string key = "liar" + std::to_string(random_.below(4));
  switch (random_.below(12)) {
    case 8:
      return open_lane_message(id, static_cast<std::uint32_t>(random_.below(4)));
    case 9:
      return drop_lane_call_message(id, static_cast<std::uint32_t>(random_.below(20)),
                                    static_cast<std::uint32_t>(random_.below(4)));
    case 0:
      return put_message(id, key, Bytes(random_.below(200)));
    case 1:
      return put_segment_message(id, key, random_.one_in(2) ? client_.arena() : foreign_arena_,
                                 random_.below(80'000), random_.below(80'000));
    case 2:
      return get_message(id, random_.one_in(2) ? key : "@1000/s1r0k0");
    case 3:
      return remove_message(id, random_.one_in(2) ? key : "@1000/s1r0k0");
    case 4:
      return cancel_message(id, random_.below(10));
    case 5:
      return prepare_message(id, encode_request(request()));
    case 6:
      return invoke_message(id, static_cast<std::uint32_t>(random_.below(4)));
    case 7:
      return export_message(id, random_.one_in(4) ? "@1000/s1r0k0" : key,
                            {random_.one_in(4) ? random_.below(200) : 0,
                             random_.one_in(4) ? random_.below(200) : 0, ""});
    default: {
      RunOptions options;
      options.deadline_ns = random_.one_in(4) ? random_.bits() >> random_.below(60) : 0;
      return submit_message(id, encode_request(request()), options);
    }
  }
}

std::string LyingClient::act() {
  SimClient::Ring& ring = client_.ring(random_.below(client_.rings()));
  const RingView& own = ring.submit.view();
  const auto ring_bell = [&] {
    if (!random_.one_in(4)) ring.doorbell.ring();
  };
  switch (random_.below(24)) {
    case 0: {
      Bytes bytes = garbage(random_, 400);
      static_cast<void>(ring.writer.try_write(bytes));
      ring_bell();
      return "garbage";
    }
    case 1: {
      Bytes bytes = message();
      flip(bytes, random_);
      static_cast<void>(ring.writer.try_write(bytes));
      ring_bell();
      return "a mutated message";
    }
    case 2:
      own.header->consumed.store(random_.bits() >> random_.below(64));
      return "a wrong counter";
    case 3: {
      Slot& slot = own.slots[random_.below(own.geometry.slot_count)];
      slot.sequence.store(random_.bits() >> random_.below(64));
      ring_bell();
      return "a wrong sequence";
    }
    case 4: {
      // Claimed, filled, never committed.
      Slot& slot = own.slots[ring.writer.written() & (own.geometry.slot_count - 1)];
      slot.bytes = static_cast<std::uint32_t>(random_.bits());
      slot.heap_offset = static_cast<std::uint32_t>(random_.bits());
      client_.hang_up();
      return "death between claim and commit";
    }
    case 5: {
      static_cast<void>(ring.writer.try_write(message()));
      Slot& slot = own.slots[(ring.writer.written() - 1) & (own.geometry.slot_count - 1)];
      (random_.one_in(2) ? slot.bytes : slot.heap_offset) =
          static_cast<std::uint32_t>(random_.bits() >> random_.below(32));
      ring_bell();
      return "a lying slot";
    }
    case 6:
      own.header->sleeping.store(static_cast<std::uint32_t>(random_.bits()));
      own.header->sleeps_on_doorbell.store(static_cast<std::uint32_t>(random_.below(2)));
      return "a wrong sleep flag";
    case 7:
      for (int i = 0; i < 2000; ++i) ring.doorbell.ring();
      return "a flood of rings";
    case 8:
      client_.hang_up();
      return "its end";
    case 9:
      static_cast<void>(client_.read(random_.below(client_.rings()), random_.below(5)));
      return "reading a little";
    default:
      static_cast<void>(ring.writer.try_write(message()));
      ring_bell();
      return "a message";
  }
}

namespace {

// One that is on its device, or any number.
std::uint64_t any_version(const Dispatcher& dispatcher, std::uint32_t executor, Random& random) {
  const auto& residents = dispatcher.executors().at(executor)->residents;
  return residents.empty() || random.one_in(4) ? random.below(200) : residents.begin()->first;
}

std::string lie_of_residents(SimExecutor& executor, const Dispatcher& dispatcher, StatusCode code,
                             Random& random) {
  const std::uint64_t version = any_version(dispatcher, executor.number(), random);
  if (random.one_in(2)) {
    executor.forge_report(report(wire::Report::Fetched,
                                 [&](auto& b) { return wire::CreateFetched(b, version, code); }));
    return "a fetched version";
  }
  const std::vector<std::uint64_t> versions(random.below(12), version);
  executor.forge_report(report(wire::Report::MemoryShort, [&](auto& b) {
    return wire::CreateMemoryShort(b, b.CreateVector(versions));
  }));
  return "a lack of memory";
}

}  // namespace

namespace {

std::string lie_of_lanes(SimExecutor& executor, const Dispatcher& dispatcher, StatusCode code,
                         Random& random) {
  auto lane = static_cast<std::uint32_t>(random.below(12));
  if (random.one_in(3)) {
    for (const auto& [number, one] : dispatcher.lanes()) {
      if (one->executor == executor.number() || random.one_in(8)) lane = number;
    }
    executor.forge_report(report(wire::Report::LaneEnded,
                                 [&](auto& b) { return wire::CreateLaneEnded(b, lane, code); }));
    return "a lane's end";
  }
  auto call = static_cast<std::uint32_t>(random.below(3));
  for (const Run* one : dispatcher.executors().at(executor.number())->in_flight) {
    if (one->kind != Run::Kind::LaneCall || random.one_in(4)) continue;
    lane = one->lane;
    call = one->lane_call;
  }
  executor.forge_report(report(wire::Report::LaneCallAdded, [&](auto& b) {
    return wire::CreateLaneCallAdded(b, lane, call, random.one_in(2) ? StatusCode::Ok : code);
  }));
  return "a lane's call";
}

}  // namespace

std::string lie(SimExecutor& executor, const Dispatcher& dispatcher, Random& random) {
  std::uint64_t run = random.below(1000);
  const auto& in_flight = dispatcher.executors().at(executor.number())->in_flight;
  if (random.one_in(6)) {
    // Anybody's, in any state.
    std::vector<std::uint64_t> all;
    dispatcher.runs().for_each([&](const Run& one) { all.push_back(one.number); });
    if (!all.empty()) run = all[random.below(all.size())];
  } else if (!in_flight.empty() && !random.one_in(8)) {
    run = in_flight[random.below(in_flight.size())]->number;
  }
  const auto code = static_cast<StatusCode>(random.below(random.one_in(10) ? 256 : 17));
  const auto small = static_cast<std::uint32_t>(random.below(12));
  switch (random.below(20)) {
    case 8:
    case 9:
      return lie_of_residents(executor, dispatcher, code, random);
    case 10:
    case 11:
      return lie_of_lanes(executor, dispatcher, code, random);
    case 0:
      executor.forge_report(garbage(random, 200));
      return "garbage";
    case 1:
      executor.forge_report(report(wire::Report::PlanLoaded, [&](auto& b) {
        return wire::CreatePlanLoaded(b, small, code, 0, random.bits(), random.one_in(2));
      }));
      return "a plan";
    case 2:
      executor.forge_report(report(wire::Report::LibraryLoaded, [&](auto& b) {
        return wire::CreateLibraryLoaded(b, small, code);
      }));
      return "a library";
    case 3:
      executor.forge_report(report(wire::Report::CountersReport, [&](auto& b) {
        return wire::CreateCountersReport(b, nullptr, random.bits(), random.bits());
      }));
      return "counters";
    case 4: {
      Bytes bytes = report(wire::Report::RunDone, [&](auto& b) {
        return wire::CreateRunDone(b, run, code, b.CreateString("a lie"));
      });
      flip(bytes, random);
      executor.forge_report(bytes);
      return "a mutated report";
    }
    case 5: {
      const RingView view = executor.report();
      Slot& slot = view.slots[random.below(view.geometry.slot_count)];
      slot.heap_offset = static_cast<std::uint32_t>(random.bits());
      slot.sequence.store(random.below(200));
      return "a wrong slot";
    }
    case 6:
      executor.report().header->consumed.store(random.bits() >> random.below(64));
      return "a wrong counter";
    case 7: {
      flatbuffers::FlatBufferBuilder builder;
      wire::ReportItemBuilder item(builder);
      item.add_report_type(static_cast<wire::Report>(random.below(13)));
      builder.Finish(item.Finish());
      executor.forge_report(finished(builder));
      return "a type without its report";
    }
    default:
      executor.forge_report(report(wire::Report::RunDone,
                                   [&](auto& b) { return wire::CreateRunDone(b, run, code); }));
      return "a run";
  }
}

}  // namespace kaas
