// The client library against the loopback peer: what every call sends and makes of the answer.
#include <gtest/gtest.h>
#include <kaas/client.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "tests/support/eventually.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Request small_request() {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.buffer("y", 8);
  builder.kernel("std", "copy").in("x").out("y");
  return *builder.build();
}

class ClientSession : public testing::Test {
 protected:
  Client connect(ClientOptions options = {}) {
    options.socket = peer.path();
    auto client = Client::connect(options);
    KAAS_CHECK(client.has_value());
    return *std::move(client);
  }
  LoopbackPeer peer;
};

TEST_F(ClientSession, ConnectsAndTellsWhoAnswered) {
  const Client client = connect();
  EXPECT_EQ(client.session(), 1u);
  EXPECT_EQ(client.daemon_version(), "loopback");
  EXPECT_EQ(client.socket(), peer.path());
}

TEST_F(ClientSession, SaysItsNameAndTheProgramsNameByDefault) {
  ClientOptions options;
  options.name = "painter";
  const Client named = connect(options);
  const Client unnamed = connect();
  peer.run([](LoopbackPeer& p) {
    EXPECT_EQ(p.sessions()[0]->name, "painter");
    EXPECT_EQ(p.sessions()[1]->name, program_invocation_short_name);
  });
}

TEST_F(ClientSession, WithoutADaemonEveryPathThatWasTriedIsNamed) {
  ::unsetenv("KAAS_SOCKET");
  ::setenv("XDG_RUNTIME_DIR", "/nonexistent/runtime", 1);
  const auto client = Client::connect();
  ASSERT_FALSE(client.has_value());
  EXPECT_EQ(client.error().code, StatusCode::Unavailable);
  EXPECT_NE(client.error().message.find("/nonexistent/runtime/kaas/kaasd.sock"), std::string::npos);
  EXPECT_NE(client.error().message.find("/run/kaas/kaasd.sock"), std::string::npos);
}

TEST_F(ClientSession, TheEnvironmentsSocketIsTheOnlyOneTried) {
  ::setenv("KAAS_SOCKET", peer.path().c_str(), 1);
  EXPECT_TRUE(Client::connect().has_value());
  ::setenv("KAAS_SOCKET", "/nonexistent/socket", 1);
  const auto client = Client::connect();
  ::unsetenv("KAAS_SOCKET");
  ASSERT_FALSE(client.has_value());
  EXPECT_EQ(client.error().message.find("/run"), std::string::npos);
}

TEST_F(ClientSession, PutsGetsAndRemovesASmallObject) {
  Client client = connect();
  const auto put = client.put("k", bytes_of("hello"));
  ASSERT_TRUE(put.has_value());
  EXPECT_EQ(put->bytes, 5u);
  const auto object = client.get("k");
  ASSERT_TRUE(object.has_value());
  EXPECT_EQ(text_of(object->bytes()), "hello");
  EXPECT_EQ(object->version(), 1u);
  EXPECT_EQ(client.stat("k")->bytes, 5u);
  EXPECT_TRUE(client.remove("k").has_value());
  const auto gone = client.get("k");
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(to_string(gone.error()), "NotFound: no object 'k'");
}

TEST_F(ClientSession, AnEmptyObjectIsAnObject) {
  Client client = connect();
  ASSERT_TRUE(client.put("empty", {}).has_value());
  const auto object = client.get("empty");
  ASSERT_TRUE(object.has_value());
  EXPECT_TRUE(object->bytes().empty());
}

TEST_F(ClientSession, ALargePutIsDonatedAndALargeGetIsMapped) {
  Client client = connect();
  std::string large(3 * kInlineBytesMax + 17, 'a');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 7);
  ASSERT_TRUE(client.put("large", bytes_of(large)).has_value());
  peer.run([&](LoopbackPeer& p) {
    EXPECT_EQ(p.store.at("large"), large);
    EXPECT_EQ(p.control_log.back(), "Donate");
  });
  auto object = client.get("large");
  ASSERT_TRUE(object.has_value());
  EXPECT_EQ(text_of(object->bytes()), large);
  // The mapping outlives a new version and the client itself.
  ASSERT_TRUE(client.put("large", bytes_of("new")).has_value());
  const Object kept = *std::move(object);
  client = connect();
  EXPECT_EQ(text_of(kept.bytes()), large);
}

TEST_F(ClientSession, AnExportIsADescriptorAndARegionThatAreGivenBack) {
  Client client = connect();
  ASSERT_TRUE(client.put("x", bytes_of("abc")).has_value());
  std::uint32_t segment = 0;
  {
    ExportOptions options;
    options.offset = 1;
    options.bytes = 2;
    options.device = "GPU-9";
    const auto copy = client.export_object("x", options);
    ASSERT_TRUE(copy.has_value()) << copy.error().message;
    segment = copy->region().segment();
    EXPECT_NE(segment, 0u);
    EXPECT_EQ(copy->bytes(), 3u);
    EXPECT_EQ(copy->version(), 1u);
    EXPECT_EQ(copy->allocation_bytes(), kPeerAllocationBytes);
    EXPECT_EQ(copy->region().size(), kPeerAllocationBytes);
    EXPECT_EQ(copy->gpu().size(), 16u);
    EXPECT_EQ(copy->device(), "GPU-9");
    char text[3];
    EXPECT_EQ(::pread(copy->descriptor(), text, 3, 0), 3);
    EXPECT_EQ(std::string(text, 3), "abc");
    peer.run([&](LoopbackPeer& p) {
      ASSERT_EQ(p.export_log.size(), 1u);
      EXPECT_EQ(p.export_log[0].key, "x");
      EXPECT_EQ(p.export_log[0].offset, 1u);
      EXPECT_EQ(p.export_log[0].bytes, 2u);
      EXPECT_EQ(p.export_log[0].device, "GPU-9");
      EXPECT_TRUE(p.dropped.empty());
    });
  }
  peer.run([&](LoopbackPeer& p) { EXPECT_EQ(p.dropped, std::vector<std::uint64_t>{segment}); });
}

TEST_F(ClientSession, AnExportThatIsRefusedLeavesNoDescriptor) {
  Client client = connect();
  const auto copy = client.export_object("unknown");
  ASSERT_FALSE(copy.has_value());
  EXPECT_EQ(copy.error().code, StatusCode::NotFound);
  peer.run([](LoopbackPeer& p) { EXPECT_TRUE(p.dropped.empty()); });
}

TEST_F(ClientSession, APutFromABufferNamesItsSegment) {
  Client client = connect();
  auto buffer = client.allocate(100);
  ASSERT_TRUE(buffer.has_value());
  std::fill_n(buffer->data(), 100, std::byte{'z'});
  ASSERT_TRUE(client.put("k", *buffer, 10, 20).has_value());
  EXPECT_EQ(text_of(client.get("k")->bytes()), std::string(20, 'z'));
  const auto outside = client.put("k", *buffer, 90, 11);
  ASSERT_FALSE(outside.has_value());
  EXPECT_EQ(outside.error().message, "range [90, 90 + 11) is outside the buffer of 100 bytes");
  EXPECT_FALSE(client.put("k", *buffer, ~std::uint64_t{0}, 2).has_value());
}

TEST_F(ClientSession, ADonatedDescriptorMustBeSealable) {
  Client client = connect();
  const Descriptor unsealable(::memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(unsealable.get(), 10), 0);
  auto refused = client.donate("k", unsealable.get());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, StatusCode::InvalidArgument);

  const Descriptor mapped(::memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(mapped.get(), 10), 0);
  void* memory = ::mmap(nullptr, 10, PROT_READ | PROT_WRITE, MAP_SHARED, mapped.get(), 0);
  refused = client.donate("k", mapped.get());
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("maps writable"), std::string::npos);
  ::munmap(memory, 10);
  EXPECT_TRUE(client.donate("k", mapped.get()).has_value());
  EXPECT_FALSE(client.donate("k", 0x7fff'ffff).has_value());
}

TEST_F(ClientSession, AllocationsBeyondTheArenaGetAFurtherOneThatGoesWithThem) {
  Client client = connect();
  auto small = client.allocate(1000);
  auto large = client.allocate(5u << 20);
  ASSERT_TRUE(small && large);
  EXPECT_NE(small->segment(), large->segment());
  EXPECT_EQ(large->size(), 5u << 20);
  large->data()[large->size() - 1] = std::byte{1};
  const std::uint32_t segment = large->segment();
  *large = Buffer();
  // One round trip later the message before it has been read.
  ASSERT_TRUE(client.status_json().has_value());
  peer.run([&](LoopbackPeer& p) {
    ASSERT_EQ(p.dropped.size(), 1u);
    EXPECT_EQ(p.dropped[0], segment);
  });
  EXPECT_FALSE(client.allocate(0).has_value());
  EXPECT_FALSE(client.allocate(~std::uint64_t{0}).has_value());
}

TEST_F(ClientSession, ARegionIsRegisteredAndTakenBack) {
  Client client = connect();
  const Descriptor memory(::memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memory.get(), 4096), 0);
  std::uint32_t segment = 0;
  {
    const auto region = client.register_region(memory.get(), 4096, true);
    ASSERT_TRUE(region.has_value());
    EXPECT_EQ(region->size(), 4096u);
    segment = region->segment();
  }
  ASSERT_TRUE(client.status_json().has_value());
  peer.run([&](LoopbackPeer& p) {
    ASSERT_EQ(p.dropped.size(), 1u);
    EXPECT_EQ(p.dropped[0], segment);
  });
}

TEST_F(ClientSession, WhatIsFreedLeavesRoomInTheSocketForOtherAnswers) {
  Client client = connect();
  const std::string large(3 * kInlineBytesMax, 'a');
  ASSERT_TRUE(client.put("large", bytes_of(large)).has_value());
  const int memory = ::memfd_create("region", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(memory, 4096), 0);
  for (int round = 0; round < 3; ++round) {
    {
      std::vector<Region> regions;
      for (int i = 0; i < 600; ++i) {
        auto region = client.register_region(memory, 4096, true);
        ASSERT_TRUE(region.has_value()) << region.error().message;
        regions.push_back(*std::move(region));
      }
    }
    const std::size_t dropped = 600 * (static_cast<std::size_t>(round) + 1);
    ASSERT_TRUE(eventually([&] {
      bool all = false;
      peer.run([&](LoopbackPeer& p) { all = p.dropped.size() == dropped; });
      return all;
    }));
    peer.run([&](LoopbackPeer& p) {
      int unread_bytes = 0;
      ASSERT_EQ(::ioctl(p.sessions()[0]->socket.get(), SIOCOUTQ, &unread_bytes), 0);
      EXPECT_LT(unread_bytes, 100'000) << "of some 200'000 that a socket holds";
    });
    // Its memory comes by the socket.
    ASSERT_TRUE(client.get("large").has_value()) << client.alive().error().message;
  }
  ::close(memory);
}

TEST_F(ClientSession, DeviceMemoryIsRegisteredAsItIsDescribed) {
  Client client = connect();
  const Descriptor descriptor(::memfd_create("t", MFD_CLOEXEC));
  const std::vector<std::byte> bytes(64);
  DeviceAllocation legacy;
  legacy.handle = bytes;
  legacy.bytes = 4096;
  DeviceAllocation pool = legacy;
  pool.kind = DeviceAllocation::Kind::Pool;
  pool.gpu = std::span(bytes).first(16);
  pool.descriptor = descriptor.get();
  std::uint32_t segment = 0;
  {
    const auto first = client.register_device_memory(legacy);
    ASSERT_TRUE(first.has_value());
    EXPECT_EQ(first->size(), 4096u);
    segment = first->segment();
  }
  ASSERT_TRUE(client.register_device_memory(pool).has_value());
  ASSERT_TRUE(client.status_json().has_value());
  peer.run([&](LoopbackPeer& p) {
    ASSERT_EQ(p.device_memory.size(), 2u);
    EXPECT_EQ(p.device_memory[0].kind, wire::DeviceMemoryKind::Legacy);
    EXPECT_EQ(p.device_memory[0].handle_bytes, 64u);
    EXPECT_EQ(p.device_memory[0].gpu_bytes, 0u);
    EXPECT_EQ(p.device_memory[0].bytes, 4096u);
    EXPECT_EQ(p.device_memory[0].descriptors, 0u);
    EXPECT_EQ(p.device_memory[1].kind, wire::DeviceMemoryKind::Pool);
    EXPECT_EQ(p.device_memory[1].gpu_bytes, 16u);
    EXPECT_EQ(p.device_memory[1].descriptors, 1u);
    ASSERT_EQ(p.dropped.size(), 2u);
    EXPECT_EQ(p.dropped[0], segment);
  });
}

TEST_F(ClientSession, ASubmittedRequestCarriesItsBytesAndOptions) {
  const Request request = small_request();
  peer.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    const auto* submit = submission.operation_as_Submit();
    EXPECT_NE(submit, nullptr);
    const auto* sent = submit->request();
    EXPECT_TRUE(std::equal(request.bytes().begin(), request.bytes().end(),
                           reinterpret_cast<const std::byte*>(sent->data()),
                           reinterpret_cast<const std::byte*>(sent->data()) + sent->size()));
    // Aligned like a root of its own, from wherever the message lies.
    EXPECT_EQ((reinterpret_cast<std::uintptr_t>(sent->data())) % 8, 0u);
    EXPECT_EQ(submit->options()->priority(), -5);
    EXPECT_EQ(submit->options()->deadline_ns(), 12'345u);
    EXPECT_EQ(submit->options()->tag(), 77u);
    EXPECT_TRUE(submit->options()->profile());
    EXPECT_EQ(view(submit->options()->tenant()), "blue");
    PeerRing::Fields fields;
    fields.outputs = {{"y", "result"}, {"z", ""}};
    fields.profile = true;
    ring.answer(submission.id(), fields);
    return true;
  };
  Client client = connect();
  RunOptions options;
  options.priority = -5;
  options.deadline = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(12'345));
  options.tag = 77;
  options.profile = true;
  options.tenant = "blue";
  const auto reply = client.run(request, options);
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->tag, 77u);
  ASSERT_EQ(reply->outputs.size(), 2u);
  EXPECT_EQ(text_of(reply->data("y")), "result");
  EXPECT_TRUE(reply->data("z").empty() && reply->data("none").empty());
  ASSERT_TRUE(reply->profile.has_value());
  EXPECT_EQ(reply->profile->stages.settle_ns, 8u);
  EXPECT_EQ(reply->profile->counters.iterations, 10u);
  EXPECT_EQ(reply->profile->device, "host");
  EXPECT_EQ(reply->profile->way, RunWay::Stream);
  EXPECT_EQ(reply->profile->why_stream, "first use");
}

TEST_F(ClientSession, APlanSendsIndicesForNamesAndIsReleasedWithItsLastCopy) {
  std::vector<std::string> seen;
  peer.on_submission = [&](PeerSession& s, PeerRing& ring, const wire::Submission& submission) {
    seen.emplace_back(wire::EnumNameOperation(submission.operation_type()));
    const auto* invoke = submission.operation_as_Invoke();
    if (invoke != nullptr && invoke->bindings() != nullptr) {
      EXPECT_EQ(invoke->plan(), 41u);
      EXPECT_EQ(invoke->bindings()->Get(0)->name(), nullptr);
      EXPECT_EQ(invoke->bindings()->Get(0)->buffer(), 1u);
      EXPECT_EQ(view(invoke->bindings()->Get(0)->key()), "elsewhere");
      EXPECT_FALSE(invoke->bindings()->Get(0)->offset().has_value());
      EXPECT_EQ(view(invoke->bindings()->Get(1)->name()), "unknown");
      EXPECT_EQ(*invoke->bindings()->Get(1)->offset(), 0u);
      EXPECT_EQ(invoke->literals()->Get(0)->bits(), 0xffff'fffeu);
    }
    peer.handle(s, ring, submission);
    return true;
  };
  Client client = connect();
  {
    auto plan = client.prepare(small_request());
    ASSERT_TRUE(plan.has_value());
    const Plan copy = *plan;
    EXPECT_EQ(copy.id(), 41u);
    EXPECT_TRUE(copy.run().has_value());
    Bindings bindings;
    bindings.at("y", "elsewhere").at("unknown", "k", 0).literal(0, 2, std::int32_t{-2});
    EXPECT_TRUE(plan->run(bindings).has_value());
  }
  EXPECT_TRUE(client.stat("none").error().code == StatusCode::NotFound);
  peer.run([&](LoopbackPeer&) {
    EXPECT_EQ(seen,
              (std::vector<std::string>{"Prepare", "Invoke", "Invoke", "ReleasePlan", "Stat"}));
  });
}

TEST_F(ClientSession, FunctionsAreDeployedAndCalledByName) {
  peer.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    const auto* call = submission.operation_as_Call();
    if (call == nullptr) return false;
    EXPECT_EQ(view(call->function()), "edges");
    EXPECT_EQ(call->version(), 3u);
    EXPECT_EQ(view(call->parameters()->Get(0)->name()), "width");
    EXPECT_EQ(call->parameters()->Get(0)->value(), -512);
    EXPECT_EQ(view(call->bindings()->Get(0)->name()), "in");
    ring.answer(submission.id());
    return true;
  };
  Client client = connect();
  EXPECT_EQ(*client.deploy("edges", small_request()), 3u);
  const Parameter parameters[] = {{"width", -512}};
  Bindings bindings;
  bindings.at("in", "frame");
  EXPECT_TRUE(client.call("edges", parameters, bindings, {}, 3).has_value());
  EXPECT_TRUE(client.undeploy("edges").has_value());
  EXPECT_TRUE(client.make_current("edges", 1).has_value());
}

TEST_F(ClientSession, AdministrationAnswersWithJson) {
  ClientOptions options;
  options.administration_only = true;
  Client client = connect(options);
  EXPECT_EQ(*client.status_json(), "{\"asked\":\"GetStatus\"}");
  EXPECT_EQ(*client.clients_json(), "{\"asked\":\"GetClients\"}");
  EXPECT_EQ(*client.functions_json(), "{\"asked\":\"GetFunctions\"}");
  EXPECT_EQ(*client.libraries_json(), "{\"asked\":\"GetLibraries\"}");
  EXPECT_EQ(*client.logs_json(3, 4), "{\"asked\":\"GetLogs\"}");
  EXPECT_EQ(*client.list_json("p"), "{\"asked\":\"ListObjects\"}");
  EXPECT_EQ(*client.suspend_device("d"), "{\"asked\":\"SuspendDevice\"}");
  EXPECT_EQ(*client.resume_device("d"), "{\"asked\":\"ResumeDevice\"}");
  for (const int hours : {-1, 2}) {
    const auto refused = client.suspend_device("d", std::chrono::hours(hours));
    EXPECT_EQ(refused.error().code, StatusCode::InvalidArgument);
    EXPECT_NE(refused.error().message.find("3600000"), std::string::npos);
  }
  EXPECT_TRUE(client.share("k", 7).has_value());
  EXPECT_TRUE(client.unshare("k", {}).has_value());
  EXPECT_TRUE(client.cancel_request(1, 0, 9).has_value());
  EXPECT_TRUE(client.reload().has_value());
  const auto kicked = client.kick(99);
  ASSERT_FALSE(kicked.has_value());
  EXPECT_EQ(to_string(kicked.error()), "NotFound: the peer said no");
  peer.run([](LoopbackPeer& p) { EXPECT_TRUE(p.sessions()[0]->rings.empty()); });
}

TEST_F(ClientSession, ASecondGetOfAFutureSaysSo) {
  Client client = connect();
  auto future = client.put_async("k", bytes_of("v"));
  EXPECT_TRUE(future.get().has_value());
  const auto again = future.get();
  ASSERT_FALSE(again.has_value());
  EXPECT_EQ(again.error().code, StatusCode::InvalidArgument);
}

TEST_F(ClientSession, AMessageBeyondTheRingIsRefusedWithBothNumbers) {
  RequestBuilder builder;
  const std::vector<std::byte> raw(4096);
  for (int i = 0; i < 300; ++i) builder.kernel("std", "k").raw(raw);
  Client client = connect();
  const auto reply = client.run(*builder.build());
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(reply.error().message.find("limit 1048576"), std::string::npos);
}

TEST_F(ClientSession, HeapSizedMessagesTravelBothWaysForManyLaps) {
  peer.on_submission = [](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    const auto* data = submission.operation_as_Put()->data();
    PeerRing::Fields fields;
    fields.bytes = data->size();
    fields.outputs = {{"echo", std::string(data->begin(), data->end())}};
    ring.answer(submission.id(), fields);
    return true;
  };
  Client client = connect();
  for (std::size_t i = 0; i < 200; ++i) {
    const std::string data(1 + i * 313 % kInlineBytesMax, static_cast<char>('a' + i % 26));
    const auto put = client.put("k", bytes_of(data));
    ASSERT_TRUE(put.has_value());
    ASSERT_EQ(put->bytes, data.size());
  }
}

}  // namespace
}  // namespace kaas
