// kaas-latency-socket: a server on a UNIX stream socket, a length in front of each message, as one
// writes it with nothing but the system. See served_work.h.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"
#include "schema/ipc/spin_budget.h"
#include "tests/latency/peers/served_work.h"

namespace kaas {
namespace {

std::string failed(const char* what) {
  return std::string(what) + ": " + std::strerror(errno);
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Status{StatusCode::InvalidArgument, "ADDRESS is too long for a socket"};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// All of `bytes`. False: the other side is gone. `spin`: look until they are there, else sleep.
bool receive_all(int socket, void* into, std::size_t bytes, bool spin) {
  SpinPause pause;
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t count =
        ::recv(socket, static_cast<char*>(into) + done, bytes - done, spin ? MSG_DONTWAIT : 0);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
      pause();
    } else {
      return false;
    }
  }
  return true;
}

bool send_all(int socket, const void* from, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t count =
        ::send(socket, static_cast<const char*>(from) + done, bytes - done, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

bool send_message(int socket, std::string_view message) {
  // One call for what is short: a second one would cost as much as the first.
  const std::uint64_t length = message.size();
  std::string framed(sizeof length + message.size(), '\0');
  std::memcpy(framed.data(), &length, sizeof length);
  std::memcpy(framed.data() + sizeof length, message.data(), message.size());
  return send_all(socket, framed.data(), framed.size());
}

bool receive_message(int socket, std::string& message, bool spin) {
  std::uint64_t length = 0;
  if (!receive_all(socket, &length, sizeof length, spin) || length > kServedMessageBytesMax) {
    return false;
  }
  message.resize(length);
  return receive_all(socket, message.data(), length, spin);
}

// False: the client is gone.
bool answer(int client, WorkServer& server, std::string& request, std::string& reply) {
  if (!receive_message(client, request, false)) return false;
  server.handle(request, reply);
  return send_message(client, reply);
}

std::string serve(const std::string& path, bool spin, WorkServer& server,
                  const std::function<void()>& ready, const std::function<bool()>& stopping) {
  const auto address = address_of(path);
  if (!address) return address.error().message;
  const Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 ||
      ::listen(listener.get(), 64) != 0) {
    return failed("listening");
  }
  ready();
  std::vector<Descriptor> clients;
  std::vector<pollfd> entries;
  std::string request;
  std::string reply;
  SpinPause pause;
  while (!stopping()) {
    entries.assign(1, {listener.get(), POLLIN, 0});
    for (const Descriptor& client : clients) entries.push_back({client.get(), POLLIN, 0});
    const int count = ::poll(entries.data(), entries.size(), spin ? 0 : kStopLookMs);
    if (count <= 0) {
      pause();
      continue;
    }
    for (std::size_t i = entries.size(); i-- > 1;) {
      if (entries[i].revents != 0 && !answer(entries[i].fd, server, request, reply)) {
        clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(i - 1));
      }
    }
    if (entries[0].revents != 0) {
      Descriptor client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client) clients.push_back(std::move(client));
    }
  }
  ::unlink(path.c_str());
  return {};
}

Exchange connect(const std::string& path, bool spin, std::string& error) {
  const auto address = address_of(path);
  auto socket = std::make_shared<Descriptor>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!address) {
    error = address.error().message;
  } else if (::connect(socket->get(), reinterpret_cast<const sockaddr*>(&*address),
                       sizeof *address) != 0) {
    error = failed("connecting");
  }
  return [socket, spin](std::string_view request, std::string& reply) -> std::string {
    if (send_message(socket->get(), request) && receive_message(socket->get(), reply, spin)) {
      return {};
    }
    return "the server is gone";
  };
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::run_served_program(
      argc, argv, {"a UNIX socket", kaas::kServedBytesMax, kaas::serve, kaas::connect});
}
