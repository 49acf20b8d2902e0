// Messages with descriptors over SOCK_SEQPACKET UNIX sockets. Never blocks unless asked to.
// Threads: any; a message is sent or received whole.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

// BadDescriptor: one of the descriptors is none, or can't be sent; errno says why.
enum class SendOutcome { Sent, WouldBlock, HungUp, BadDescriptor };
enum class ReceiveOutcome { Message, WouldBlock, HungUp, Violation };

// Sends `message` with copies of `descriptors` (at most kDescriptorsPerMessageMax), which stay the
// caller's. Never blocks, never raises SIGPIPE.
SendOutcome send_message(int socket, std::span<const std::byte> message,
                         std::span<const int> descriptors = {}) noexcept;

struct Received {
  ReceiveOutcome outcome = ReceiveOutcome::WouldBlock;
  std::span<const std::byte> message;   // In the caller's buffer.
  std::vector<Descriptor> descriptors;  // Owned; what nobody takes is closed.
};

// Receives one message into `buffer` without blocking. A message that is longer than the buffer or
// carries more than `descriptors_max` descriptors is a Violation; all its descriptors are closed.
Received receive_message(int socket, std::span<std::byte> buffer, std::size_t descriptors_max);

// Waits until `socket` is readable or hung up, at most `timeout_ns`. False: timed out.
bool wait_readable(int socket, std::uint64_t timeout_ns) noexcept;
bool wait_writable(int socket, std::uint64_t timeout_ns) noexcept;

// Whether the peer has closed its end. Does not consume anything.
bool hung_up(int socket) noexcept;

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
// SO_PEERCRED: who connected, as the kernel saw it then.
Result<PeerCredentials> peer_credentials(int socket);

// Connects to the listening socket at `path`.
// Fails: Unavailable: nobody listens there. PermissionDenied: not for this user. InvalidArgument:
//        the path has more than kSocketPathBytesMax bytes. ResourceExhausted: no descriptors left.
Result<Descriptor> connect_socket(const std::string& path);

// Where a client looks for the daemon, in order, when no path is given: $KAAS_SOCKET alone if set,
// else $XDG_RUNTIME_DIR/kaas/kaasd.sock, then /run/kaas/kaasd.sock.
std::vector<std::string> default_socket_paths();

}  // namespace kaas
