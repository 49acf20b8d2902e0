// The daemon's socket appears when it can be connected to, with its mode, and one daemon has it.
#include "daemon/control/listener.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "schema/limits.h"

namespace kaas {
namespace {

class ListenerTest : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/kaas-test-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    options_.path = folder_ + "/sock";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // The errno of a connection to the socket; 0: connected.
  [[nodiscard]] int connects() const {
    const Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, options_.path.c_str(), options_.path.size() + 1);
    return ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0
               ? 0
               : errno;
  }
  [[nodiscard]] std::ptrdiff_t files() const {
    return std::distance(std::filesystem::directory_iterator(folder_), {});
  }

  std::string folder_;
  ListenerOptions options_;
};

TEST_F(ListenerTest, PathAppearsWhenItCanBeConnectedTo) {
  constexpr int kRounds = 2000;
  std::atomic<bool> done{false};
  std::atomic<int> ended{0};
  std::atomic<int> refused{0};
  std::atomic<int> connected{0};
  std::thread peer([&] {
    while (!done.load()) {
      const int ended_before = ended.load();
      const int error = connects();
      if (error == 0) ++connected;
      // One that is closed between the look at its path and the connection refuses rightly.
      if (error == ECONNREFUSED && ended.load() == ended_before) ++refused;
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    const auto listener = Listener::create(options_);
    ASSERT_TRUE(listener.has_value()) << listener.error().message;
    ++ended;
  }
  done = true;
  peer.join();
  EXPECT_EQ(refused.load(), 0);
  EXPECT_GT(connected.load(), 0);
}

TEST_F(ListenerTest, SocketOfAKilledDaemonIsReplaced) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  for (const char* end : {"", ".new"}) {
    const std::string left = options_.path + end;
    std::memcpy(address.sun_path, left.c_str(), left.size() + 1);
    const Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ASSERT_EQ(connects(), ECONNREFUSED);
  options_.mode = 0640;
  {
    const auto listener = Listener::create(options_);
    ASSERT_TRUE(listener.has_value()) << listener.error().message;
    EXPECT_EQ(connects(), 0);
    struct stat status {};
    ASSERT_EQ(::stat(options_.path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0640u);
    EXPECT_EQ(files(), 2);  // The socket and its lock.
  }
  EXPECT_EQ(files(), 0);
}

TEST_F(ListenerTest, NothingIsLeftOfOneThatCannotBe) {
  options_.group = "no-such-group-of-this-machine";
  const auto listener = Listener::create(options_);
  ASSERT_FALSE(listener.has_value());
  EXPECT_EQ(listener.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(listener.error().message.find("socket_group"), std::string::npos);
  EXPECT_EQ(files(), 0);
}

TEST_F(ListenerTest, WhatIsNoSocketIsLeftAlone) {
  std::ofstream(options_.path) << "kept";
  const auto listener = Listener::create(options_);
  ASSERT_FALSE(listener.has_value());
  EXPECT_NE(listener.error().message.find("is not a socket"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(options_.path), 4u);
  EXPECT_EQ(files(), 1) << "no lock is left beside it";
}

TEST_F(ListenerTest, SocketOfAnotherProgramIsLeftAlone) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, options_.path.c_str(), options_.path.size() + 1);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
    const Descriptor other(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(other.get(), name, sizeof address), 0);
    if (type != SOCK_DGRAM) {
      ASSERT_EQ(::listen(other.get(), 1), 0);
    }
    const auto listener = Listener::create(options_);
    ASSERT_FALSE(listener.has_value());
    EXPECT_EQ(listener.error().code, StatusCode::AlreadyExists);
    EXPECT_NE(listener.error().message.find("another program"), std::string::npos)
        << listener.error().message;
    EXPECT_EQ(files(), 1);
    ASSERT_EQ(::unlink(options_.path.c_str()), 0);
  }
}

TEST_F(ListenerTest, PathThatIsTooLongIsRefusedWithTheLimit) {
  options_.path = folder_ + "/" + std::string(kSocketPathBytesMax - folder_.size() - 1, 'x');
  ASSERT_TRUE(Listener::create(options_).has_value());
  options_.path += "x";
  const auto listener = Listener::create(options_);
  ASSERT_FALSE(listener.has_value());
  EXPECT_NE(listener.error().message.find("104, limit 103"), std::string::npos)
      << listener.error().message;
}

}  // namespace
}  // namespace kaas
