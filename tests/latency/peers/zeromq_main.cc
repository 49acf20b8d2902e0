// kaas-latency-zeromq: a server over ZeroMQ, REQ to REP, as its guide writes it. See served_work.h.
#include <zmq.hpp>

#include "schema/ipc/spin_budget.h"
#include "tests/latency/peers/served_work.h"

namespace kaas {
namespace {

// False: no message came in a while.
bool receive(zmq::socket_t& socket, zmq::message_t& message, bool spin) {
  return socket.recv(message, spin ? zmq::recv_flags::dontwait : zmq::recv_flags::none).has_value();
}

std::string serve(const std::string& address, bool spin, WorkServer& server,
                  const std::function<void()>& ready, const std::function<bool()>& stopping) {
  try {
    zmq::context_t context;
    zmq::socket_t socket(context, zmq::socket_type::rep);
    socket.set(zmq::sockopt::rcvtimeo, kStopLookMs);
    socket.set(zmq::sockopt::linger, 0);
    socket.bind("ipc://" + address);
    ready();
    zmq::message_t request;
    std::string reply;
    SpinPause pause;
    while (!stopping()) {
      if (!receive(socket, request, spin)) {
        pause();
        continue;
      }
      server.handle(request.to_string_view(), reply);
      socket.send(zmq::buffer(reply), zmq::send_flags::none);
    }
    return {};
  } catch (const zmq::error_t& failure) {
    return std::string("ZeroMQ: ") + failure.what();
  }
}

struct Connection {
  zmq::context_t context;
  zmq::socket_t socket{context, zmq::socket_type::req};
  zmq::message_t reply;
};

Exchange connect(const std::string& address, bool spin, std::string& error) {
  try {
    auto connection = std::make_shared<Connection>();
    connection->socket.set(zmq::sockopt::linger, 0);
    connection->socket.connect("ipc://" + address);
    return [connection, spin](std::string_view request, std::string& reply) -> std::string {
      try {
        SpinPause pause;
        connection->socket.send(zmq::buffer(request), zmq::send_flags::none);
        while (!receive(connection->socket, connection->reply, spin)) pause();
        reply.assign(connection->reply.to_string_view());
        return {};
      } catch (const zmq::error_t& failure) {
        return std::string("ZeroMQ: ") + failure.what();
      }
    };
  } catch (const zmq::error_t& failure) {
    error = std::string("ZeroMQ: ") + failure.what();
    return {};
  }
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::run_served_program(argc, argv,
                                  {"ZeroMQ", kaas::kServedBytesMax, kaas::serve, kaas::connect});
}
