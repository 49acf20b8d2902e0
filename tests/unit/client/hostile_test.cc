// A daemon whose bytes are wrong: the client says so and lives on.
#include <gtest/gtest.h>
#include <kaas/client.h>
#include <unistd.h>

#include <atomic>
#include <random>

#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

Request small_request() {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.kernel("std", "fill").out("x");
  return *builder.build();
}

Result<Client> connect(LoopbackPeer& peer, std::chrono::milliseconds timeout) {
  ClientOptions options;
  options.socket = peer.path();
  options.connect_timeout = timeout;
  return Client::connect(options);
}
Client connect(LoopbackPeer& peer) {
  return *connect(peer, std::chrono::seconds(5));
}

// Lets the peer do `lie` in place of answering the first request; returns how that ends.
StatusCode outcome_of(const std::function<void(LoopbackPeer&, PeerRing&, std::uint64_t)>& lie) {
  LoopbackPeer peer;
  peer.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    lie(peer, ring, submission.id());
    return true;
  };
  Client client = connect(peer);
  auto future = client.submit(small_request());
  const auto reply = future.get();
  EXPECT_FALSE(reply.has_value());
  if (reply.has_value()) return StatusCode::Ok;
  // The session has ended, and says why.
  const auto alive = client.alive();
  EXPECT_FALSE(alive.has_value());
  EXPECT_FALSE(client.run(small_request()).has_value());
  return alive.has_value() ? StatusCode::Ok : alive.error().code;
}

TEST(HostileDaemon, AnAnswerToNothingEndsTheSession) {
  EXPECT_EQ(
      outcome_of([](LoopbackPeer&, PeerRing& ring, std::uint64_t id) { ring.answer(id + 1); }),
      StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, TwoAnswersToOneOperationEndTheSession) {
  LoopbackPeer peer;
  peer.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    ring.answer(submission.id());
    ring.answer(submission.id());
    return true;
  };
  Client client = connect(peer);
  auto future = client.submit(small_request());
  EXPECT_TRUE(future.get().has_value());
  while (client.alive().has_value()) client.poll();
  EXPECT_EQ(client.alive().error().code, StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, RandomBytesAsAnAnswerEndTheSession) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 200; ++i) {
    std::vector<std::byte> bytes(random() % 300);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    EXPECT_EQ(outcome_of([&](LoopbackPeer&, PeerRing& ring, std::uint64_t) { ring.write(bytes); }),
              StatusCode::ProtocolViolation);
  }
}

TEST(HostileDaemon, DamagedAnswersNeverCrashTheClient) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  LoopbackPeer peer;
  for (int round = 0; round < 60; ++round) {
    peer.run([&](LoopbackPeer& p) {
      p.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
        flatbuffers::FlatBufferBuilder builder;
        const auto text = builder.CreateString("message");
        const auto name = builder.CreateString("out");
        const auto data = builder.CreateVector(std::vector<std::uint8_t>(40, 7));
        const auto output = wire::CreateOutput(builder, 0, name, 40, 1, data);
        const auto outputs = builder.CreateVector(&output, 1);
        const wire::Stages stages(1, 2, 3, 4, 5, 6, 7, 8);
        const auto profile = wire::CreateProfile(builder, &stages);
        builder.Finish(wire::CreateAnswer(builder, submission.id(), StatusCode::Ok, text, 1, 2, 3,
                                          data, 0, outputs, profile));
        std::vector<std::byte> bytes(finished(builder).begin(), finished(builder).end());
        for (int flips = 0; flips < 3; ++flips) {
          bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        }
        ring.write(bytes);
        --ring.unanswered;
        return true;
      };
    });
    Client client = connect(peer);
    for (int i = 0; i < 50; ++i) {
      auto future = client.submit(small_request());
      // A flipped id may leave it unanswered: that is what the peer said, and no fault.
      if (!future.wait(std::chrono::milliseconds(20))) break;
      if (!future.get().has_value() && !client.alive().has_value()) break;
    }
  }
}

TEST(HostileDaemon, ASlotThatCantBeEndsTheSession) {
  const auto slot_lie = [](const std::function<void(Slot&, std::uint64_t)>& lie) {
    return outcome_of([&](LoopbackPeer&, PeerRing& ring, std::uint64_t) {
      const std::uint64_t position = ring.writer.written();
      Slot& slot = ring.completion.slots[position % ring.completion.geometry.slot_count];
      slot.bytes = 8;
      slot.heap_offset = kInSlot;
      lie(slot, position);
    });
  };
  EXPECT_EQ(slot_lie([](Slot& slot, std::uint64_t position) {
              slot.bytes = kSlotPayloadBytes + 1;
              slot.sequence.store(position + 1);
            }),
            StatusCode::ProtocolViolation);
  EXPECT_EQ(slot_lie([](Slot& slot, std::uint64_t position) {
              slot.bytes = 0xffff'ffff;
              slot.heap_offset = 0;
              slot.sequence.store(position + 1);
            }),
            StatusCode::ProtocolViolation);
  EXPECT_EQ(slot_lie([](Slot& slot, std::uint64_t position) {
              slot.heap_offset = kRingHeapBytes - 64;
              slot.bytes = 65;
              slot.sequence.store(position + 1);
            }),
            StatusCode::ProtocolViolation);
  EXPECT_EQ(slot_lie([](Slot& slot, std::uint64_t position) {
              slot.heap_offset = 1;
              slot.sequence.store(position + 1);
            }),
            StatusCode::ProtocolViolation);
  EXPECT_EQ(slot_lie([](Slot& slot, std::uint64_t) { slot.sequence.store(999); }),
            StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, ACounterAheadOfWhatWasSentEndsTheSession) {
  LoopbackPeer peer;
  peer.on_submission = [](PeerSession&, PeerRing&, const wire::Submission&) { return true; };
  Client client = connect(peer);
  auto future = client.submit(small_request());
  // Again and again: the peer still publishes its true counter when it takes the submission.
  while (!future.wait(std::chrono::milliseconds(5))) {
    peer.run([](LoopbackPeer& p) { p.ring().completion.header->consumed.store(1000); });
  }
  EXPECT_EQ(future.get().error().code, StatusCode::UnknownOutcome);
  EXPECT_EQ(client.alive().error().code, StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, ATokenWithoutItsDescriptorEndsTheSession) {
  EXPECT_EQ(outcome_of([](LoopbackPeer&, PeerRing& ring, std::uint64_t id) {
              PeerRing::Fields fields;
              fields.token = 12;
              fields.bytes = 100;
              ring.answer(id, fields);
            }),
            StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, AnObjectThatCouldShrinkOrIsTooShortIsRefused) {
  LoopbackPeer peer;
  std::atomic<std::uint64_t> claimed{0};
  std::atomic<Seals> seals{Seals::None};
  peer.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    PeerRing::Fields fields;
    const Descriptor memory(::memfd_create("object", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    KAAS_CHECK(::ftruncate(memory.get(), 8192) == 0);
    const Seals wanted = seals;
    KAAS_CHECK(wanted == Seals::None || add_seals(memory.get(), wanted).has_value());
    fields.token = 1000 + submission.id();
    fields.bytes = claimed;
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(
        wire::CreateControlReply(builder, 0, StatusCode::Ok, 0, 0, 0, 0, 0, 0, 0, 0, fields.token));
    const int descriptors[] = {memory.get()};
    KAAS_CHECK(send_message(ring.socket, finished(builder), descriptors) == SendOutcome::Sent);
    ring.answer(submission.id(), fields);
    return true;
  };
  Client client = connect(peer);
  claimed = 8192;
  EXPECT_EQ(client.get("k").error().code, StatusCode::ProtocolViolation);
  seals = Seals::Size;
  EXPECT_TRUE(client.get("k").has_value());
  claimed = 8193;
  EXPECT_EQ(client.get("k").error().code, StatusCode::ProtocolViolation);
  claimed = 0;
  EXPECT_EQ(client.get("k").error().code, StatusCode::ProtocolViolation);
  EXPECT_TRUE(client.alive().has_value());
}

TEST(HostileDaemon, AnExportWithoutItsMemoryIsRefused) {
  LoopbackPeer peer;
  std::atomic<int> lie{0};
  peer.on_submission = [&](PeerSession& session, PeerRing& ring,
                           const wire::Submission& submission) {
    static_cast<void>(session);
    PeerRing::Fields fields;
    fields.bytes = 3;
    if (lie != 0) fields.token = peer.send_object(ring.socket, "abc");
    if (lie != 1) fields.exported_segment = 77;
    if (lie == 2) fields.gpu_bytes = 15;
    if (lie == 3) fields.bytes = kPeerAllocationBytes + 1;
    ring.answer(submission.id(), fields);
    return true;
  };
  Client client = connect(peer);
  for (int i = 0; i < 4; ++i) {
    lie = i;
    const auto copy = client.export_object("k");
    ASSERT_FALSE(copy.has_value()) << i;
    EXPECT_EQ(copy.error().code, StatusCode::ProtocolViolation) << i;
  }
  lie = 4;
  EXPECT_TRUE(client.export_object("k").has_value());
}

TEST(HostileDaemon, MalformedBytesOnTheSocketEndTheSession) {
  LoopbackPeer peer;
  Client client = connect(peer);
  peer.run([](LoopbackPeer& p) {
    const std::byte garbage[16] = {std::byte{0xff}};
    EXPECT_EQ(send_message(p.sessions()[0]->socket.get(), garbage), SendOutcome::Sent);
  });
  const auto json = client.status_json();
  ASSERT_FALSE(json.has_value());
  EXPECT_EQ(json.error().code, StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, AnAnswerToAnotherCallIsNotTakenForOurs) {
  LoopbackPeer peer;
  Client client = connect(peer);
  peer.run([](LoopbackPeer& p) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(wire::CreateControlReply(builder, 12'345, StatusCode::Internal));
    send_message(p.sessions()[0]->socket.get(), finished(builder));
  });
  EXPECT_TRUE(client.status_json().has_value());
}

TEST(HostileDaemon, WhyTheSessionEndsReachesTheCaller) {
  LoopbackPeer peer;
  peer.on_submission = [](PeerSession& session, PeerRing& ring, const wire::Submission&) {
    flatbuffers::FlatBufferBuilder builder;
    const auto text = builder.CreateString("kicked by root");
    builder.Finish(wire::CreateControlReply(builder, 0, StatusCode::Cancelled, text));
    send_message(session.socket.get(), finished(builder));
    ring.completion.header->closed.store(static_cast<std::uint32_t>(StatusCode::Cancelled));
    return true;
  };
  Client client = connect(peer);
  const auto reply = client.run(small_request());
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, StatusCode::UnknownOutcome);
  EXPECT_NE(reply.error().message.find("kicked by root"), std::string::npos);
  EXPECT_EQ(client.alive().error().code, StatusCode::Cancelled);
}

// A text of `claimed` bytes in a memfd of 20,000 with these seals.
Result<std::string> long_text(std::uint64_t claimed, Seals seals) {
  LoopbackPeer peer;
  peer.on_control = [&](PeerSession& session, const wire::ControlRequest& request) {
    if (request.control_type() != wire::Control::GetStatus) return false;
    const Descriptor memory(::memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    const std::string text(20'000, 't');
    KAAS_CHECK(::pwrite(memory.get(), text.data(), text.size(), 0) == 20'000);
    KAAS_CHECK(seals == Seals::None || add_seals(memory.get(), seals).has_value());
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(wire::CreateControlReply(builder, request.id(), StatusCode::Ok, 0, 0, 0, 0, 0, 0,
                                            0, 0, 0, claimed));
    const int descriptors[] = {memory.get()};
    send_message(session.socket.get(), finished(builder), descriptors);
    return true;
  };
  return connect(peer).status_json();
}

TEST(HostileDaemon, ALongTextIsReadOnlyFromMemoryThatCantShrink) {
  EXPECT_EQ(*long_text(20'000, Seals::Size), std::string(20'000, 't'));
  EXPECT_EQ(long_text(20'001, Seals::Size).error().code, StatusCode::ProtocolViolation);
  EXPECT_EQ(long_text(20'000, Seals::None).error().code, StatusCode::ProtocolViolation);
  EXPECT_EQ(long_text(0, Seals::Size).error().code, StatusCode::ProtocolViolation);
}

// --- Handshakes ----------------------------------------------------------------------------------

Status refused(PeerOptions options) {
  LoopbackPeer peer(options);
  auto client = connect(peer, std::chrono::milliseconds(200));
  EXPECT_FALSE(client.has_value());
  return client.has_value() ? Status{StatusCode::Ok, ""} : client.error();
}

TEST(HostileDaemon, AnotherProtocolVersionIsSaidWithBothNumbers) {
  PeerOptions options;
  options.protocol_version = 9;
  EXPECT_EQ(to_string(refused(options)),
            "VersionMismatch: kaasd speaks protocol version 9, this library 1");
}

TEST(HostileDaemon, ASilentDaemonIsGivenUpAfterTheTimeout) {
  PeerOptions options;
  options.answer_hello = false;
  EXPECT_EQ(refused(options).code, StatusCode::DeadlineExceeded);
}

TEST(HostileDaemon, ARingOfAnotherEpochIsRefused) {
  PeerOptions options;
  options.ring_epoch = options.epoch + 1;
  EXPECT_EQ(refused(options).code, StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, AnEpochThatChangesEndsTheSession) {
  EXPECT_EQ(outcome_of([](LoopbackPeer&, PeerRing& ring, std::uint64_t) {
              ring.completion.header->epoch = 8;
            }),
            StatusCode::Unavailable);
}

// Answers Hello with the geometry and segments of the caller's choice.
Status refused_hello(std::uint32_t slots, std::uint32_t heap, std::uint64_t segment_bytes,
                     Seals seals, std::size_t descriptors) {
  LoopbackPeer peer;
  peer.on_control = [&](PeerSession& session, const wire::ControlRequest& request) {
    std::vector<Descriptor> sent;
    std::vector<int> numbers;
    for (std::size_t i = 0; i < descriptors; ++i) {
      sent.emplace_back(::memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
      KAAS_CHECK(::ftruncate(sent.back().get(), static_cast<off_t>(segment_bytes)) == 0);
      KAAS_CHECK(seals == Seals::None || add_seals(sent.back().get(), seals).has_value());
      numbers.push_back(sent.back().get());
    }
    flatbuffers::FlatBufferBuilder builder;
    const auto ring = wire::CreateRingInfo(builder, 0, slots, heap);
    const auto arena = wire::CreateSegmentInfo(builder, 16, 4096);
    builder.Finish(wire::CreateControlReply(builder, request.id(), StatusCode::Ok, 0,
                                            kProtocolVersion, 0, 1, 0, ring, arena));
    send_message(session.socket.get(), finished(builder), numbers);
    return true;
  };
  auto client = connect(peer, std::chrono::milliseconds(200));
  EXPECT_FALSE(client.has_value());
  return client.has_value() ? Status{StatusCode::Ok, ""} : client.error();
}

TEST(HostileDaemon, ARingGeometryThatCantBeIsRefused) {
  const std::uint64_t enough = 64u << 20;
  const auto code = [&](std::uint32_t slots, std::uint32_t heap) {
    return refused_hello(slots, heap, enough, Seals::Size, 4).code;
  };
  EXPECT_EQ(code(0, kRingHeapBytes), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(100, kRingHeapBytes), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(1u << 31, kRingHeapBytes), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(64, 0), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(64, 1000), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(64, 0xffff'ffc0), StatusCode::ProtocolViolation);
}

TEST(HostileDaemon, SegmentsThatAreShortOrUnsealedOrMissingAreRefused) {
  const std::uint64_t bytes = RingGeometry{64, kRingHeapBytes}.segment_bytes();
  const auto code = [&](std::uint64_t segment_bytes, Seals seals, std::size_t descriptors) {
    return refused_hello(64, kRingHeapBytes, segment_bytes, seals, descriptors).code;
  };
  EXPECT_EQ(code(bytes - 1, Seals::Size, 4), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(bytes, Seals::None, 4), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(bytes, Seals::Size, 3), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(bytes, Seals::Size, 5), StatusCode::ProtocolViolation);
  EXPECT_EQ(code(bytes, Seals::Size, 0), StatusCode::ProtocolViolation);
}

}  // namespace
}  // namespace kaas
