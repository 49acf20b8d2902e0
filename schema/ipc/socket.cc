#include "schema/ipc/socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "schema/limits.h"

namespace kaas {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(sizeof(int) * kDescriptorsPerMessageMax);

bool wait_for(int socket, short events, std::uint64_t timeout_ns) noexcept {
  pollfd waiting{socket, events, 0};
  const timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000),
                         static_cast<long>(timeout_ns % 1'000'000'000)};
  return ::ppoll(&waiting, 1, &timeout, nullptr) > 0;
}

// Takes ownership of every descriptor that the kernel installed for this message.
std::vector<Descriptor> take_descriptors(msghdr& header) {
  std::vector<Descriptor> taken;
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr;
       control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      taken.emplace_back(descriptor);
    }
  }
  return taken;
}

}  // namespace

SendOutcome send_message(int socket, std::span<const std::byte> message,
                         std::span<const int> descriptors) noexcept {
  alignas(cmsghdr) char control[kControlBytes] = {};
  iovec part{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    KAAS_CHECK(descriptors.size() <= kDescriptorsPerMessageMax);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  for (;;) {
    if (::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return SendOutcome::Sent;
    if (errno == EINTR) continue;
    // ETOOMANYREFS: the receiver has not taken the descriptors that are on their way already.
    const bool full =
        errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS;
    if (full) return SendOutcome::WouldBlock;
    const bool refused = !descriptors.empty() && (errno == EBADF || errno == EINVAL);
    return refused ? SendOutcome::BadDescriptor : SendOutcome::HungUp;
  }
}

Received receive_message(int socket, std::span<std::byte> buffer, std::size_t descriptors_max) {
  alignas(cmsghdr) char control[kControlBytes];
  iovec part{buffer.data(), buffer.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  Received received;
  ssize_t bytes = 0;
  do {
    bytes = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) {
    const bool empty = errno == EAGAIN || errno == EWOULDBLOCK;
    received.outcome = empty ? ReceiveOutcome::WouldBlock : ReceiveOutcome::HungUp;
    return received;
  }
  received.descriptors = take_descriptors(header);
  if (bytes == 0 && received.descriptors.empty()) {
    received.outcome = ReceiveOutcome::HungUp;
    return received;
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
      received.descriptors.size() > descriptors_max) {
    received.descriptors.clear();
    received.outcome = ReceiveOutcome::Violation;
    return received;
  }
  received.outcome = ReceiveOutcome::Message;
  received.message = buffer.first(static_cast<std::size_t>(bytes));
  return received;
}

bool wait_readable(int socket, std::uint64_t timeout_ns) noexcept {
  return wait_for(socket, POLLIN, timeout_ns);
}
bool wait_writable(int socket, std::uint64_t timeout_ns) noexcept {
  return wait_for(socket, POLLOUT, timeout_ns);
}

bool hung_up(int socket) noexcept {
  pollfd waiting{socket, POLLRDHUP, 0};
  return ::poll(&waiting, 1, 0) > 0 && (waiting.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Result<PeerCredentials> peer_credentials(int socket) {
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    return Status{StatusCode::Internal, std::string("SO_PEERCRED: ") + std::strerror(errno)};
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<Descriptor> connect_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  static_assert(kSocketPathBytesMax < sizeof address.sun_path);
  if (path.size() > kSocketPathBytesMax) {
    return over_limit(StatusCode::InvalidArgument, "length of socket path '" + path + "'",
                      path.size(), kSocketPathBytesMax);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Descriptor socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) {
    return Status{StatusCode::ResourceExhausted, std::string("socket: ") + std::strerror(errno)};
  }
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const StatusCode code =
        errno == EACCES ? StatusCode::PermissionDenied : StatusCode::Unavailable;
    return Status{code, path + ": " + std::strerror(errno)};
  }
  return socket;
}

std::vector<std::string> default_socket_paths() {
  const auto set = [](const char* name) -> const char* {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] != '\0' ? value : nullptr;
  };
  if (const char* path = set("KAAS_SOCKET")) return {path};
  std::vector<std::string> paths;
  if (const char* folder = set("XDG_RUNTIME_DIR")) {
    paths.push_back(std::string(folder) + "/kaas/kaasd.sock");
  }
  paths.emplace_back("/run/kaas/kaasd.sock");
  return paths;
}

}  // namespace kaas
