// A World with one client, and short forms of what tests of the dispatcher do all the time.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tools/sim/requests.h"
#include "tools/sim/world.h"

namespace kaas {

class DispatcherTest : public testing::Test {
 protected:
  explicit DispatcherTest(const WorldOptions& options = {}) : world(options) {
    client = &world.connect();
  }

  std::uint64_t submit(const RequestSpec& request, const RunOptions& options = {},
                       std::size_t ring = 0) {
    const std::uint64_t id = next_id++;
    EXPECT_TRUE(client->send(ring, submit_message(id, encode_request(request), options)));
    return id;
  }
  template <class Make>
  std::uint64_t send(Make make, std::size_t ring = 0) {
    const std::uint64_t id = next_id++;
    EXPECT_TRUE(client->send(ring, make(id)));
    return id;
  }
  std::uint64_t put(const std::string& key, const Words& words, std::size_t ring = 0) {
    return send([&](std::uint64_t id) { return put_message(id, key, to_bytes(words)); }, ring);
  }
  std::uint64_t get(const std::string& key, std::size_t ring = 0) {
    return send([&](std::uint64_t id) { return get_message(id, key); }, ring);
  }
  std::uint64_t stat(const std::string& key) {
    return send([&](std::uint64_t id) { return stat_message(id, key); });
  }
  std::uint64_t remove(const std::string& key) {
    return send([&](std::uint64_t id) { return remove_message(id, key); });
  }
  std::uint64_t cancel(std::uint64_t target) {
    return send([&](std::uint64_t id) { return cancel_message(id, target); });
  }

  // Takes in the answers that are there; one that comes twice fails the test.
  void read() {
    for (auto& one : world.clients()) {
      for (std::size_t ring = 0; ring < one->rings(); ++ring) {
        for (SeenAnswer& answer : one->read(ring)) {
          EXPECT_EQ(answers.count(answer.id), 0u) << "two answers to " << answer.id;
          answers[answer.id] = std::move(answer);
        }
      }
    }
  }
  // Steps kaasd, without its executors, until nothing moves.
  void step() {
    for (int quiet = 0; quiet < 2;) quiet = world.step() + world.do_chores() == 0 ? quiet + 1 : 0;
    read();
  }
  void settle() {
    world.settle();
    read();
  }
  [[nodiscard]] bool answered(std::uint64_t id) const { return answers.count(id) != 0; }
  const SeenAnswer& answer(std::uint64_t id) {
    EXPECT_TRUE(answered(id)) << "no answer to " << id;
    return answers[id];
  }
  StatusCode code(std::uint64_t id) { return answer(id).code; }
  // What an answered Get brought, as words.
  Words words(std::uint64_t id) {
    const SeenAnswer& got = answer(id);
    EXPECT_EQ(got.code, StatusCode::Ok) << got.message;
    if (got.token == 0) return to_words(got.data);
    const auto bytes = client->receive(got.token);
    EXPECT_TRUE(bytes.has_value());
    return to_words(bytes.value_or(Bytes{}));
  }
  // The value now, through a request of its own.
  Words read_key(const std::string& key) {
    const std::uint64_t id = get(key);
    settle();
    return words(id);
  }

  [[nodiscard]] Dispatcher& dispatcher() { return world.dispatcher(); }
  [[nodiscard]] std::size_t under_way() { return dispatcher().runs().size(); }

  World world;
  SimClient* client = nullptr;
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, SeenAnswer> answers;
};

// Executors are started by the test.
class HeldDispatcherTest : public DispatcherTest {
 protected:
  static WorldOptions options() {
    WorldOptions held;
    held.start_executors = false;
    return held;
  }
  explicit HeldDispatcherTest(const WorldOptions& held = options()) : DispatcherTest(held) {}
  SimExecutor& start() {
    SimExecutor& executor = world.start_executor(client->uid());
    executor.step();
    return executor;
  }
};

}  // namespace kaas
