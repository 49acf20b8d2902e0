// kaas-latency-grpc: a server over gRPC on a UNIX socket, a synchronous service and a blocking stub
// that is kept, as its tutorial writes them. gRPC waits as it likes: spin and sleep are the same.
// See served_work.h.
#include <grpcpp/grpcpp.h>
#include <work.grpc.pb.h>

#include <chrono>
#include <thread>

#include "tests/latency/peers/served_work.h"

namespace kaas {
namespace {

class Service final : public latency::Work::Service {
 public:
  explicit Service(WorkServer& server) : server_(server) {}
  grpc::Status Run(grpc::ServerContext*, const latency::Message* request,
                   latency::Message* reply) override {
    server_.handle(request->bytes(), *reply->mutable_bytes());
    return grpc::Status::OK;
  }

 private:
  WorkServer& server_;
};

std::string serve(const std::string& address, bool, WorkServer& server,
                  const std::function<void()>& ready, const std::function<bool()>& stopping) {
  Service service(server);
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  builder.SetMaxReceiveMessageSize(static_cast<int>(2 * kServedMessageBytesMax));
  const std::unique_ptr<grpc::Server> running = builder.BuildAndStart();
  if (running == nullptr) return "gRPC can't listen at " + address;
  ready();
  // tidy: allow(banned-call) nothing tells of the end of another thread's input but a look
  while (!stopping()) std::this_thread::sleep_for(std::chrono::milliseconds(kStopLookMs));
  running->Shutdown();
  return {};
}

Exchange connect(const std::string& address, bool, std::string&) {
  auto channel = grpc::CreateChannel("unix:" + address, grpc::InsecureChannelCredentials());
  std::shared_ptr<latency::Work::Stub> stub = latency::Work::NewStub(channel);
  auto message = std::make_shared<latency::Message>();
  auto answer = std::make_shared<latency::Message>();
  return [stub, message, answer](std::string_view request, std::string& reply) -> std::string {
    grpc::ClientContext context;
    message->mutable_bytes()->assign(request);
    const grpc::Status status = stub->Run(&context, *message, answer.get());
    if (!status.ok()) return "gRPC: " + status.error_message();
    reply.swap(*answer->mutable_bytes());
    return {};
  };
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::run_served_program(argc, argv,
                                  {"gRPC", kaas::kServedBytesMax, kaas::serve, kaas::connect});
}
