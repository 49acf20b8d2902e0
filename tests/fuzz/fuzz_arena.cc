// A program of small steps by a client that changes, and shortens, its own memory under everybody's
// eyes: the bytes of an arena between a request and its run, a region that it may truncate.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "daemon/control/session_memory.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/fuzz_scene.h"

namespace kaas {
namespace {

constexpr std::uint64_t kRegionBytes = 16u << 10;
constexpr std::size_t kStepsMax = 64;

// Reads the input; zeros once it is used up.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  std::uint32_t next(std::uint32_t limit) {
    std::uint32_t value = 0;
    for (int i = 0; i < 2 && at_ < size_; ++i) value = value << 8 | data_[at_++];
    return value % limit;
  }
  [[nodiscard]] bool left() const { return at_ < size_; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

class ArenaScene {
 public:
  ArenaScene() {
    world_.step();
    memory_ = make_region();
    auto copy = duplicate(memory_.get());
    KAAS_CHECK(copy.has_value());
    auto region = import_region(*std::move(copy), kRegionBytes, true, client_.uid(), 1);
    KAAS_CHECK(region.has_value() && region->guarded);
    const SegmentRef added = world_.segments().add(*std::move(region));
    world_.dispatcher().find_session(client_.session())->segments[added->id] = added;
    region_id_ = added->id;
  }

  void run(Choices& choices) {
    for (std::size_t n = 0; n < kStepsMax && choices.left(); ++n) step(choices);
    // Answers wait for room in the ring: those that are read make it.
    for (std::size_t before = sent_ + 1; before != answered_.size();) {
      before = answered_.size();
      world_.settle();
      take_answers();
    }
    KAAS_CHECK(answered_.size() == sent_);
    for (const auto& [id, times] : answered_) KAAS_CHECK(times == 1);
    world_.hang_up(client_);
    world_.settle();
    KAAS_CHECK(world_.dispatcher().runs().size() == 0);
  }

 private:
  // Unsealed, as a shm_open object of the client's own.
  static Descriptor make_region() {
    Descriptor memory(::memfd_create("fuzz-region", MFD_CLOEXEC));
    KAAS_CHECK(static_cast<bool>(memory));
    KAAS_CHECK(::ftruncate(memory.get(), static_cast<off_t>(kRegionBytes)) == 0);
    return memory;
  }

  BufferSpec buffer(Choices& choices) {
    const std::uint64_t bytes = 4 * (1 + choices.next(64));
    switch (choices.next(3)) {
      case 0:
        return segment_buffer("s", bytes, client_.arena(), choices.next(66'000));
      case 1:
        return segment_buffer("r", bytes, region_id_, choices.next(17'000));
      default:
        return store_buffer("k", bytes, "key" + std::to_string(choices.next(3)));
    }
  }

  void send(const Bytes& message) {
    if (client_.send(0, message)) ++sent_;
  }
  void step(Choices& choices) {
    const std::uint64_t id = next_id_++;
    switch (choices.next(9)) {
      case 0:
        return send(put_segment_message(id, "key" + std::to_string(choices.next(3)),
                                        choices.next(2) == 0 ? client_.arena() : region_id_,
                                        choices.next(66'000), choices.next(66'000)));
      case 1: {
        BufferSpec in = buffer(choices);
        BufferSpec out = buffer(choices);
        out.bytes = in.bytes;
        out.name = "out";
        return send(submit_message(id, encode_request(copy_request(in, out))));
      }
      case 2:
        return send(submit_message(id, encode_request(add_one_request(buffer(choices)))));
      case 3:
        return send(get_message(id, "key" + std::to_string(choices.next(3))));
      case 4:
        client_.arena_bytes()[choices.next(65'536)] = static_cast<std::byte>(choices.next(256));
        return;
      case 5:
        // Shorter, or as long as before: what was read once may be gone at the next look.
        KAAS_CHECK(::ftruncate(memory_.get(), choices.next(kRegionBytes + 1)) == 0);
        return;
      case 6:
        world_.step();
        return take_answers();
      case 7:
        world_.do_chores();
        for (auto& [number, executor] : world_.executors()) executor->step();
        return;
      default:
        if (!world_.executors().empty()) {
          world_.end_executor(world_.executors().begin()->first);
        }
        return;
    }
  }
  void take_answers() {
    for (const SeenAnswer& answer : client_.read(0)) {
      ++answered_[answer.id];
      if (answer.token != 0) KAAS_CHECK(client_.receive(answer.token)->size() == answer.bytes);
    }
  }

  World world_;
  SimClient& client_ = world_.connect();
  Descriptor memory_;
  std::uint32_t region_id_ = 0;
  std::uint64_t next_id_ = 1;
  std::size_t sent_ = 0;
  std::map<std::uint64_t, int> answered_;
};

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  std::vector<FuzzSeed> seeds;
  for (std::uint32_t n = 0; n < 6; ++n) {
    FuzzSeed seed{"steps" + std::to_string(n), {}};
    std::uint32_t state = n * 2654435761u + 1;
    for (int i = 0; i < 300; ++i) {
      state = state * 1664525u + 1013904223u;
      seed.bytes.push_back(static_cast<std::byte>(state >> 24));
    }
    seeds.push_back(std::move(seed));
  }
  return seeds;
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kaas::Choices choices(data, size);
  kaas::ArenaScene().run(choices);
  return 0;
}
