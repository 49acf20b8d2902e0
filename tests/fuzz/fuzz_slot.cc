// Arbitrary bytes as a whole submit segment: kaasd's end of the ring takes what it must, decodes
// it, answers into a ring whose reader may claim anything, and never leaves its own memory.
#include "daemon/intake/submission.h"
#include "daemon/session/session_ring.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/ring_image.h"
#include "tools/sim/messages.h"

namespace kaas {
namespace {

constexpr RingGeometry kGeometry{8, 4096};

void take_all(const std::uint8_t* data, std::size_t size) {
  static PlainRing submit(kGeometry);
  static PlainRing completion(kGeometry);
  static MessageBuffer buffer(kGeometry.heap_bytes);
  std::memset(static_cast<void*>(submit.view().header), 0, kGeometry.segment_bytes());
  std::memset(static_cast<void*>(completion.view().header), 0, kGeometry.segment_bytes());
  overwrite(submit.view(), data, size);
  RingEndpoints endpoints;
  endpoints.submit = submit.view();
  endpoints.completion = completion.view();
  SessionRing ring(0, std::move(endpoints));
  const Bytes short_answer(40);
  const Bytes long_answer(600);
  // Every slot is there once; none may be taken twice.
  for (std::uint32_t taken = 0;; ++taken) {
    KAAS_CHECK(taken <= kGeometry.slot_count);
    std::span<const std::byte> message;
    if (ring.take(buffer, message) != ReadOutcome::Message) break;
    KAAS_CHECK(message.size() <= kGeometry.message_bytes_max());
    const auto submission = decode_submission(message);
    if (!submission.has_value()) break;  // The session would end.
    ring.answer(submission->id % 2 == 0 ? short_answer : long_answer);
    ring.flush();
    KAAS_CHECK(ring.unanswered() == 0);
  }
  static_cast<void>(ring.blocked());
  ring.close(1);
}

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  PlainRing submit(kGeometry);
  PlainRing completion(kGeometry);
  RingWriter writer(submit.view(), completion.view().header);
  std::vector<FuzzSeed> seeds{{"empty", image_of(submit.view())}};
  const Bytes data(700, std::byte{5});
  const Bytes messages[] = {get_message(1, "key"), put_message(2, "key", data),
                            cancel_message(3, 1), put_segment_message(4, "key", 17, 64, 128),
                            remove_message(5, "key")};
  for (const Bytes& message : messages) KAAS_CHECK(writer.try_write(message));
  seeds.push_back({"operations", image_of(submit.view())});
  submit.view().header->consumed.store(3);
  announce_sleep(*submit.view().header);
  seeds.push_back({"asleep", image_of(submit.view())});
  return seeds;
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kaas::take_all(data, size);
  return 0;
}
