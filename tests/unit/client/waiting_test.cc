// Waiting, threads, backpressure, event loops, forks, and the end of the daemon.
#include <gtest/gtest.h>
#include <kaas/client.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <optional>
#include <thread>

#include "schema/ipc/clock.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

constexpr std::uint64_t kNoticeNs = 100'000'000;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Request small_request() {
  RequestBuilder builder;
  builder.buffer("x", 8);
  builder.kernel("std", "fill").out("x");
  return *builder.build();
}

bool readable(int descriptor, int timeout_ms) {
  pollfd waiting{descriptor, POLLIN, 0};
  return ::poll(&waiting, 1, timeout_ms) > 0;
}

class Waiting : public testing::Test {
 protected:
  Client connect(std::uint32_t slots = 0, std::chrono::nanoseconds spin = {}) {
    ClientOptions options;
    options.socket = peer.path();
    options.ring_slots = slots;
    options.spin = spin;
    auto client = Client::connect(options);
    KAAS_CHECK(client.has_value());
    return *std::move(client);
  }
  // Requests wait in `held` instead of being answered.
  void hold_answers() {
    peer.run([this](LoopbackPeer& p) {
      p.on_submission = [this](PeerSession&, PeerRing&, const wire::Submission& submission) {
        const std::lock_guard lock(held_mutex);
        held.push_back(submission.id());
        return true;
      };
    });
  }
  // Until the peer has at least `count` of them.
  void wait_until_held(std::size_t count) {
    for (;;) {
      {
        const std::lock_guard lock(held_mutex);
        if (held.size() >= count) return;
      }
      peer.run([](LoopbackPeer&) {});
    }
  }
  // Until a thread waits on a ring, usually the first, and not for the event descriptor.
  void wait_until_asleep_on_futex(std::size_t ring = 0) {
    bool asleep = false;
    while (!asleep) {
      peer.run([&](LoopbackPeer& p) {
        const RingHeader& header = *p.ring(0, ring).submit.header;
        asleep = (header.sleeping.load() & 1) != 0 && header.sleeps_on_doorbell.load() == 0;
      });
    }
  }
  LoopbackPeer peer;
  std::mutex held_mutex;
  std::deque<std::uint64_t> held;
};

TEST_F(Waiting, AnswersMayComeInAnyOrder) {
  hold_answers();
  Client client = connect();
  std::vector<Future<Reply>> futures;
  const Request request = small_request();
  for (std::uint64_t i = 0; i < 20; ++i) {
    RunOptions options;
    options.tag = 100 + i;
    futures.push_back(client.submit(request, options));
  }
  wait_until_held(20);
  EXPECT_FALSE(futures[0].ready());
  EXPECT_FALSE(futures[0].wait(std::chrono::milliseconds(1)));
  peer.run([&](LoopbackPeer& p) {
    while (!held.empty()) {
      p.ring().answer(held.back());
      held.pop_back();
    }
  });
  for (std::uint64_t i = 0; i < 20; ++i) {
    const auto reply = futures[i].get();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->tag, 100 + i);
  }
}

TEST_F(Waiting, ASleeperIsWokenByItsAnswer) {
  hold_answers();
  Client client = connect();
  auto future = client.submit(small_request());
  wait_until_held(1);
  std::thread waiter([&] { EXPECT_TRUE(future.get().has_value()); });
  wait_until_asleep_on_futex();
  peer.run([&](LoopbackPeer& p) { p.ring().answer(held.front()); });
  waiter.join();
}

TEST_F(Waiting, DroppedFuturesLeaveNothingBehind) {
  Client client = connect();
  const Request request = small_request();
  for (int i = 0; i < 5000; ++i) {
    auto dropped = client.submit(request);
    EXPECT_NE(dropped.id(), 0u);
  }
  const std::string large(kInlineBytesMax + 1, 'x');
  ASSERT_TRUE(client.put("large", bytes_of(large)).has_value());
  // Descriptors of answers that nobody takes are closed.
  for (int i = 0; i < 2000; ++i) auto dropped = client.get_async("large");
  EXPECT_TRUE(client.get("large").has_value());
  int open = 0;
  for (int descriptor = 0; descriptor < 512; ++descriptor) {
    open += ::fcntl(descriptor, F_GETFD) >= 0 ? 1 : 0;
  }
  EXPECT_LT(open, 64);
}

TEST_F(Waiting, AFutureOutlivesItsClient) {
  Client client = connect();
  auto finished = client.submit(small_request());
  finished.wait();
  hold_answers();
  auto cut_off = client.submit(small_request());
  client = connect();
  EXPECT_TRUE(finished.get().has_value());
  const auto reply = cut_off.get();
  ASSERT_FALSE(reply.has_value());
  EXPECT_EQ(reply.error().code, StatusCode::UnknownOutcome);
  EXPECT_NE(reply.error().message.find("the client was closed"), std::string::npos);
}

TEST_F(Waiting, AClientMayEndWhileAnotherThreadWaitsForRoom) {
  std::optional<Client> client = connect(kRingSlotsMin);
  const Plan plan = *client->prepare(small_request());
  hold_answers();
  std::thread waiter([&] {
    // On a ring of its own, and without a future that is under way.
    for (;;) {
      auto reply = plan.submit();
      if (reply.id() != 0) continue;
      const auto outcome = reply.get();
      EXPECT_EQ(outcome.error().code, StatusCode::Unavailable);
      EXPECT_EQ(outcome.error().message, "the client was closed");
      return;
    }
  });
  wait_until_held(kRingSlotsMin);
  wait_until_asleep_on_futex(1);
  client.reset();
  waiter.join();
}

TEST_F(Waiting, AClientMayEndAtAnyMomentOfOtherThreads) {
  for (int round = 0; round < 20; ++round) {
    std::optional<Client> client = connect();
    const Plan plan = *client->prepare(small_request());
    std::atomic<int> runs{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        while (plan.run().has_value()) runs.fetch_add(1);
      });
    }
    while (runs.load() < 10 * round) std::this_thread::yield();
    client.reset();
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(plan.run().has_value());
  }
}

TEST_F(Waiting, AFullRingMakesTrySubmitFailAndSubmitWait) {
  hold_answers();
  Client client = connect(kRingSlotsMin);
  const Request request = small_request();
  std::vector<Future<Reply>> futures;
  for (;;) {
    auto future = client.try_submit(request);
    if (future.ready()) {
      const auto reply = future.get();
      ASSERT_FALSE(reply.has_value());
      EXPECT_EQ(reply.error().code, StatusCode::ResourceExhausted);
      break;
    }
    futures.push_back(std::move(future));
    ASSERT_LE(futures.size(), 2u * kRingSlotsMin);
  }
  EXPECT_GE(futures.size(), kRingSlotsMin);
  std::atomic<bool> submitted{false};
  std::thread waiter([&] {
    // This thread has a ring of its own: fill that, and wait on it.
    for (std::uint32_t i = 0; i < 3 * kRingSlotsMin; ++i) futures.push_back(client.submit(request));
    submitted.store(true);
    for (auto& future : futures) EXPECT_TRUE(future.get().has_value());
  });
  wait_until_held(2 * kRingSlotsMin);
  EXPECT_FALSE(submitted.load());
  // From now on everything is answered, what is held included.
  peer.run([&](LoopbackPeer& p) {
    p.on_submission = nullptr;
    const auto& rings = p.sessions()[0]->rings;
    for (std::size_t i = 0; i < held.size(); ++i) {
      rings[i < kRingSlotsMin ? 0 : 1]->answer(held[i]);
    }
  });
  waiter.join();
}

TEST_F(Waiting, PipelinesDeeperThanTheRingWithoutDeadlock) {
  Client client = connect(kRingSlotsMin);
  const Request request = small_request();
  std::vector<Future<Reply>> futures;
  for (int i = 0; i < 1000; ++i) futures.push_back(client.submit(request));
  for (auto& future : futures) ASSERT_TRUE(future.get().has_value());
}

TEST_F(Waiting, EachThreadHasARingAndLaterThreadsUseItAgain) {
  Client client = connect();
  const Request request = small_request();
  ASSERT_TRUE(client.run(request).has_value());
  for (int round = 0; round < 3; ++round) {
    std::vector<std::thread> threads;
    std::atomic<int> ready{0};
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        ASSERT_TRUE(client.run(request).has_value());
        ready.fetch_add(1);
        while (ready.load() < 4) std::this_thread::yield();
        for (int n = 0; n < 500; ++n) ASSERT_TRUE(client.run(request).has_value());
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  peer.run([](LoopbackPeer& p) { EXPECT_EQ(p.sessions()[0]->rings.size(), 5u); });
}

TEST_F(Waiting, ThreadsShareRingsWhereThereCanBeNoMore) {
  peer.options.rings_max = 2;
  Client client = connect();
  const Request request = small_request();
  std::vector<std::thread> threads;
  std::atomic<int> ready{0};
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      auto first = client.submit(request);
      ready.fetch_add(1);
      while (ready.load() < 6) std::this_thread::yield();
      ASSERT_TRUE(first.get().has_value());
      for (int n = 0; n < 300; ++n) ASSERT_TRUE(client.run(request).has_value());
    });
  }
  for (std::thread& thread : threads) thread.join();
  peer.run([](LoopbackPeer& p) { EXPECT_EQ(p.sessions()[0]->rings.size(), 2u); });
}

TEST_F(Waiting, AFutureMayBeWaitedForByAnotherThread) {
  hold_answers();
  Client client = connect();
  std::vector<Future<Reply>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(client.submit(small_request()));
  std::vector<std::thread> threads;
  for (auto& future : futures) {
    threads.emplace_back([&future] { EXPECT_TRUE(future.get().has_value()); });
  }
  wait_until_held(4);
  for (int i = 3; i >= 0; --i) {
    peer.run([&](LoopbackPeer& p) { p.ring().answer(held[static_cast<std::size_t>(i)]); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(Waiting, TheEventDescriptorIsReadableWhenAnswersAreThere) {
  hold_answers();
  Client client = connect();
  const int event = client.event_fd();
  ASSERT_GE(event, 0);
  EXPECT_EQ(client.event_fd(), event);
  client.poll();
  EXPECT_FALSE(readable(event, 0));
  for (int round = 0; round < 100; ++round) {
    auto future = client.submit(small_request());
    wait_until_held(1);
    EXPECT_FALSE(future.ready());
    peer.run([&](LoopbackPeer& p) {
      p.ring().answer(held.front());
      held.clear();
    });
    ASSERT_TRUE(readable(event, 5000));
    EXPECT_EQ(client.poll(), 1u);
    EXPECT_TRUE(future.ready());
    EXPECT_TRUE(future.get().has_value());
    EXPECT_FALSE(readable(event, 0));
  }
}

TEST_F(Waiting, AnswersThatAnotherWaitTookInShowOnTheEventDescriptor) {
  hold_answers();
  Client client = connect();
  const int event = client.event_fd();
  client.poll();
  auto first = client.submit(small_request());
  auto second = client.submit(small_request());
  wait_until_held(2);
  std::thread waiter([&] { EXPECT_TRUE(second.get().has_value()); });
  wait_until_asleep_on_futex();
  // The answers wake that sleeper, so the doorbell stays silent.
  peer.run([&](LoopbackPeer& p) {
    p.ring().answer(held[0]);
    p.ring().answer(held[1]);
  });
  waiter.join();
  EXPECT_TRUE(readable(event, 5000));
  client.poll();
  EXPECT_TRUE(first.ready());
}

TEST_F(Waiting, ABlockingWaitLeavesTheEventDescriptorArmed) {
  Client client = connect();
  const int event = client.event_fd();
  ASSERT_TRUE(client.run(small_request()).has_value());
  client.poll();
  hold_answers();
  auto future = client.submit(small_request());
  EXPECT_FALSE(future.wait(std::chrono::milliseconds(1)));
  wait_until_held(1);
  peer.run([&](LoopbackPeer& p) { p.ring().answer(held.front()); });
  EXPECT_TRUE(readable(event, 5000));
  client.poll();
  EXPECT_TRUE(future.ready());
}

TEST_F(Waiting, ABlockingWaitIsWokenAlthoughTheEventDescriptorWasRungBefore) {
  Client client = connect();
  const int event = client.event_fd();
  client.poll();
  auto unseen = client.submit(small_request());
  ASSERT_TRUE(readable(event, 5000));
  hold_answers();
  auto future = client.submit(small_request());
  wait_until_held(1);
  std::thread waiter([&] { EXPECT_TRUE(future.get().has_value()); });
  wait_until_asleep_on_futex();
  std::uint32_t before = 0;
  peer.run([&](LoopbackPeer& p) {
    before = p.ring().completion.header->wake_word.load();
    p.ring().answer(held.front());
  });
  peer.run(
      [&](LoopbackPeer& p) { EXPECT_NE(p.ring().completion.header->wake_word.load(), before); });
  waiter.join();
  EXPECT_TRUE(unseen.ready());
}

TEST_F(Waiting, TheEventDescriptorCoversRingsThatAreMadeLater) {
  Client client = connect();
  ASSERT_TRUE(client.run(small_request()).has_value());
  const int event = client.event_fd();
  hold_answers();
  std::vector<Future<Reply>> futures;
  std::thread([&] { futures.push_back(client.submit(small_request())); }).join();
  client.poll();
  wait_until_held(1);
  EXPECT_FALSE(readable(event, 0));
  peer.run([&](LoopbackPeer& p) { p.ring(0, 1).answer(held.front()); });
  EXPECT_TRUE(readable(event, 5000));
  EXPECT_EQ(client.poll(), 1u);
}

// --- The end of the daemon -----------------------------------------------------------------------

TEST_F(Waiting, ADeadDaemonEndsEveryWaitWithin100Milliseconds) {
  hold_answers();
  Client client = connect();
  auto finished = client.submit(small_request());
  wait_until_held(1);
  peer.run([&](LoopbackPeer& p) {
    p.ring().answer(held.front());
    held.clear();
  });
  auto request = client.submit(small_request());
  auto read = client.get_async("k");
  wait_until_held(2);
  std::atomic<bool> waiting{false};
  std::uint64_t noticed_ns = 0;
  std::thread waiter([&] {
    waiting.store(true);
    request.wait();
    noticed_ns = now_ns();
  });
  while (!waiting.load()) std::this_thread::yield();
  const std::uint64_t died_ns = now_ns();
  peer.die();
  waiter.join();
  EXPECT_LT(noticed_ns - died_ns, 2 * kNoticeNs);  // Twice: the machine may be busy.
  EXPECT_TRUE(finished.get().has_value());
  EXPECT_EQ(request.get().error().code, StatusCode::UnknownOutcome);
  EXPECT_EQ(read.get().error().code, StatusCode::Unavailable);
  EXPECT_EQ(client.run(small_request()).error().code, StatusCode::Unavailable);
  EXPECT_EQ(client.status_json().error().code, StatusCode::Unavailable);
  EXPECT_EQ(client.allocate(100u << 20).error().code, StatusCode::Unavailable);
  EXPECT_FALSE(client.alive().has_value());
}

TEST_F(Waiting, AnEventLoopNoticesADeadDaemon) {
  hold_answers();
  Client client = connect();
  const int event = client.event_fd();
  client.poll();
  auto future = client.submit(small_request());
  wait_until_held(1);
  peer.die();
  ASSERT_TRUE(readable(event, 5000));
  client.poll();
  EXPECT_TRUE(future.ready());
  EXPECT_FALSE(client.alive().has_value());
  // The end is shown, but not for ever.
  for (int i = 0; i < 3; ++i) client.poll();
  EXPECT_FALSE(readable(event, 0));
}

TEST_F(Waiting, APollingCallerNoticesADeadDaemon) {
  hold_answers();
  Client client = connect();
  auto future = client.submit(small_request());
  wait_until_held(1);
  peer.die();
  while (!future.ready()) std::this_thread::yield();
  EXPECT_EQ(future.get().error().code, StatusCode::UnknownOutcome);
}

TEST_F(Waiting, AClosedRingEndsWithItsReason) {
  hold_answers();
  Client client = connect();
  auto future = client.get_async("k");
  wait_until_held(1);
  peer.run([](LoopbackPeer& p) {
    PeerRing& ring = p.ring();
    ring.completion.header->closed.store(static_cast<std::uint32_t>(StatusCode::Unavailable));
    ring.completion.header->wake_word.fetch_add(1);
    futex_wake_all(ring.completion.header->wake_word);
  });
  const auto object = future.get();
  ASSERT_FALSE(object.has_value());
  EXPECT_NE(object.error().message.find("closed the ring"), std::string::npos);
}

TEST_F(Waiting, TheDaemonMayEndAtEachPointOfAConversation) {
  // The n-th message of any kind is the last one that the peer reads.
  for (int last = 1; last <= 12; ++last) {
    LoopbackPeer mortal;
    int count = 0;
    const auto end = [&](PeerSession& session) {
      if (++count < last) return false;
      ::shutdown(session.socket.get(), SHUT_RDWR);
      return true;
    };
    mortal.on_control = [&](PeerSession& session, const wire::ControlRequest&) {
      return end(session);
    };
    mortal.on_submission = [&](PeerSession& session, PeerRing&, const wire::Submission&) {
      return end(session);
    };
    ClientOptions options;
    options.socket = mortal.path();
    options.spin = {};
    auto client = Client::connect(options);
    if (!client.has_value()) {
      EXPECT_EQ(client.error().code, StatusCode::Unavailable) << last;
      continue;
    }
    const std::string large(kInlineBytesMax + 1, 'x');
    bool failed = false;
    const auto seen = [&](StatusCode code) {
      failed = true;
      EXPECT_TRUE(code == StatusCode::Unavailable || code == StatusCode::UnknownOutcome)
          << name_of(code);
    };
    for (int i = 0; i < 3; ++i) {
      if (auto r = client->put("large", bytes_of(large)); !r.has_value()) seen(r.error().code);
      if (auto r = client->get("large"); !r.has_value()) seen(r.error().code);
      if (auto r = client->allocate(4u << 20); !r.has_value()) seen(r.error().code);
      if (auto r = client->prepare(small_request()); !r.has_value()) seen(r.error().code);
    }
    EXPECT_TRUE(failed) << last;
  }
}

// --- Forks ---------------------------------------------------------------------------------------

TEST_F(Waiting, AForkedChildCantUseTheParentsSessionButItsOwn) {
  Client client = connect();
  auto buffer = client.allocate(100);
  auto future = client.submit(small_request());
  auto plan = client.prepare(small_request());
  ASSERT_TRUE(buffer.has_value() && plan.has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    const auto refused = client.run(small_request());
    bool right = !refused.has_value() && refused.error().code == StatusCode::Unavailable &&
                 refused.error().message.find("forked child") != std::string::npos;
    right &= !plan->run().has_value() && !client.status_json().has_value();
    right &= !client.allocate(10).has_value() && client.poll() == 0 && client.event_fd() == -1;
    right &= future.ready() && !future.get().has_value() && !client.alive().has_value();
    *buffer = Buffer();
    { const Client dropped = std::move(client); }
    ClientOptions options;
    options.socket = peer.path();
    auto own = Client::connect(options);
    right &= own.has_value() && own->run(small_request()).has_value();
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  // The parent's session is as it was.
  EXPECT_TRUE(future.get().has_value());
  EXPECT_TRUE(plan->run().has_value());
}

TEST_F(Waiting, CancelGoesOverTheRingOfTheRequest) {
  hold_answers();
  Client client = connect();
  auto future = client.submit(small_request());
  wait_until_held(1);
  peer.run([&](LoopbackPeer& p) {
    p.on_submission = [&](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
      EXPECT_EQ(ring.number, 0u);
      const auto* cancel = submission.operation_as_Cancel();
      EXPECT_NE(cancel, nullptr);
      PeerRing::Fields fields;
      fields.code = StatusCode::Cancelled;
      ring.answer(cancel->id(), fields);
      ring.answer(submission.id());
      return true;
    };
  });
  std::thread([&] { EXPECT_TRUE(future.cancel().has_value()); }).join();
  EXPECT_EQ(future.get().error().code, StatusCode::Cancelled);
}

}  // namespace
}  // namespace kaas
