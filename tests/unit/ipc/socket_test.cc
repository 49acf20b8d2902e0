#include "schema/ipc/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "schema/ipc/clock.h"
#include "schema/ipc/segment.h"
#include "schema/limits.h"
#include "tests/unit/ipc/open_descriptors.h"

namespace kaas {
namespace {

class SocketTest : public testing::Test {
 protected:
  SocketTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ours = Descriptor(ends[0]);
    theirs = Descriptor(ends[1]);
    descriptors_before = open_descriptors();
  }
  Received receive(std::size_t descriptors_max = 4) {
    return receive_message(ours.get(), buffer, descriptors_max);
  }
  SendOutcome send(std::size_t bytes, std::size_t descriptors = 0) {
    const std::vector<std::byte> message(bytes, std::byte{7});
    const std::vector<int> attached(descriptors, theirs.get());
    return send_message(theirs.get(), message, attached);
  }
  // More descriptors than send_message() would send.
  void send_flood(std::size_t count) {
    std::vector<char> control(CMSG_SPACE(sizeof(int) * count));
    char byte = 1;
    iovec part{&byte, 1};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    const std::vector<int> descriptors(count, theirs.get());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), sizeof(int) * count);
    ASSERT_EQ(::sendmsg(theirs.get(), &header, 0), 1);
  }

  Descriptor ours;
  Descriptor theirs;
  std::size_t descriptors_before = 0;
  std::vector<std::byte> buffer = std::vector<std::byte>(256);
};

TEST_F(SocketTest, MessageArrivesWhole) {
  ASSERT_EQ(send(100), SendOutcome::Sent);
  ASSERT_EQ(send(3), SendOutcome::Sent);
  EXPECT_EQ(receive().message.size(), 100u);
  EXPECT_EQ(receive().message.size(), 3u);
  EXPECT_EQ(receive().outcome, ReceiveOutcome::WouldBlock);
}

TEST_F(SocketTest, DescriptorsArriveCloseOnExecAndAreOwned) {
  ASSERT_EQ(send(1, 3), SendOutcome::Sent);
  {
    const Received received = receive();
    ASSERT_EQ(received.outcome, ReceiveOutcome::Message);
    ASSERT_EQ(received.descriptors.size(), 3u);
    EXPECT_EQ(open_descriptors(), descriptors_before + 3);
    for (const Descriptor& one : received.descriptors) {
      EXPECT_NE(::fcntl(one.get(), F_GETFD) & FD_CLOEXEC, 0);
    }
  }
  EXPECT_EQ(open_descriptors(), descriptors_before);
}

TEST_F(SocketTest, TooLongAMessageIsAViolationAndItsDescriptorsAreClosed) {
  ASSERT_EQ(send(257, 2), SendOutcome::Sent);
  const Received received = receive();
  EXPECT_EQ(received.outcome, ReceiveOutcome::Violation);
  EXPECT_TRUE(received.descriptors.empty());
  EXPECT_EQ(open_descriptors(), descriptors_before);
}

TEST_F(SocketTest, MoreDescriptorsThanWantedAreAViolationAndClosed) {
  ASSERT_EQ(send(1, 2), SendOutcome::Sent);
  EXPECT_EQ(receive(1).outcome, ReceiveOutcome::Violation);
  EXPECT_EQ(open_descriptors(), descriptors_before);
  ASSERT_EQ(send(1, 1), SendOutcome::Sent);
  EXPECT_EQ(receive(0).outcome, ReceiveOutcome::Violation);
  EXPECT_EQ(open_descriptors(), descriptors_before);
}

TEST_F(SocketTest, FloodOfDescriptorsIsAViolationAndClosed) {
  for (const std::size_t count : {9u, 64u, 253u}) {
    send_flood(count);
    EXPECT_EQ(receive(kDescriptorsPerMessageMax).outcome, ReceiveOutcome::Violation) << count;
    EXPECT_EQ(open_descriptors(), descriptors_before) << count;
  }
}

TEST_F(SocketTest, FullSocketDoesNotBlockTheSender) {
  int sent = 0;
  while (send(200) == SendOutcome::Sent) ++sent;
  EXPECT_GT(sent, 0);
  EXPECT_EQ(send(200), SendOutcome::WouldBlock);
  EXPECT_EQ(receive().outcome, ReceiveOutcome::Message);
}

TEST_F(SocketTest, HangUpIsSeenAfterTheLastMessage) {
  ASSERT_EQ(send(5), SendOutcome::Sent);
  EXPECT_FALSE(hung_up(ours.get()));
  theirs = Descriptor();
  EXPECT_TRUE(hung_up(ours.get()));
  EXPECT_EQ(receive().message.size(), 5u);
  EXPECT_EQ(receive().outcome, ReceiveOutcome::HungUp);
  EXPECT_EQ(send_message(ours.get(), buffer), SendOutcome::HungUp);  // No SIGPIPE.
}

TEST_F(SocketTest, DescriptorThatIsNoneIsNotTakenForAHangUp) {
  const int closed = ::dup(theirs.get());
  ASSERT_EQ(::close(closed), 0);
  for (const int none : {-1, closed}) {
    EXPECT_EQ(send_message(theirs.get(), buffer, {&none, 1}), SendOutcome::BadDescriptor);
    EXPECT_EQ(errno, EBADF);
  }
  EXPECT_EQ(send(5), SendOutcome::Sent);
  EXPECT_EQ(receive().message.size(), 5u) << "nothing was sent with it";
  ours = Descriptor();
  EXPECT_EQ(send(1, 1), SendOutcome::HungUp);
}

TEST_F(SocketTest, WaitingEndsWithAMessageOrItsTime) {
  EXPECT_FALSE(wait_readable(ours.get(), 1'000'000));
  EXPECT_TRUE(wait_writable(ours.get(), 1'000'000));
  ASSERT_EQ(send(1), SendOutcome::Sent);
  EXPECT_TRUE(wait_readable(ours.get(), 10'000'000'000));
}

TEST_F(SocketTest, CredentialsAreThoseOfThisProcess) {
  const auto peer = peer_credentials(ours.get());
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::getuid());
}

TEST(ConnectSocket, SaysThatNobodyListensOrThatThePathIsTooLong) {
  const auto nobody = connect_socket("/nonexistent/kaasd.sock");
  ASSERT_FALSE(nobody.has_value());
  EXPECT_EQ(nobody.error().code, StatusCode::Unavailable);
  EXPECT_NE(nobody.error().message.find("/nonexistent/kaasd.sock"), std::string::npos);
  const auto longest = connect_socket("/" + std::string(kSocketPathBytesMax - 1, 'x'));
  ASSERT_FALSE(longest.has_value());
  EXPECT_EQ(longest.error().code, StatusCode::Unavailable);
  const auto too_long = connect_socket("/" + std::string(kSocketPathBytesMax, 'x'));
  ASSERT_FALSE(too_long.has_value());
  EXPECT_EQ(too_long.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(too_long.error().message.find("104, limit 103"), std::string::npos)
      << too_long.error().message;
}

TEST(DefaultSocketPaths, VariableAloneElseTheRuntimeFolderFirst) {
  ::setenv("KAAS_SOCKET", "/tmp/a.sock", 1);
  EXPECT_EQ(default_socket_paths(), std::vector<std::string>{"/tmp/a.sock"});
  ::unsetenv("KAAS_SOCKET");
  ::setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  EXPECT_EQ(default_socket_paths(),
            (std::vector<std::string>{"/run/user/7/kaas/kaasd.sock", "/run/kaas/kaasd.sock"}));
  ::unsetenv("XDG_RUNTIME_DIR");
  EXPECT_EQ(default_socket_paths(), std::vector<std::string>{"/run/kaas/kaasd.sock"});
}

}  // namespace
}  // namespace kaas
