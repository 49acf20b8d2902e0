// kaas-latency-iceoryx: a server over iceoryx request and response, untyped because payloads differ
// in length; both sides look all the time. Its daemon RouDi is a part of the server's process. See
// served_work.h.
#include <cstring>
#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/internal/roudi/roudi.hpp>
#include <iceoryx_posh/popo/untyped_client.hpp>
#include <iceoryx_posh/popo/untyped_server.hpp>
#include <iceoryx_posh/roudi/iceoryx_roudi_components.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#include <iceoryx_posh/runtime/posh_runtime_single_process.hpp>

#include "schema/ipc/clock.h"
#include "schema/ipc/spin_budget.h"
#include "tests/latency/peers/served_work.h"

namespace kaas {
namespace {

using iox::popo::RequestHeader;
using iox::popo::ResponseHeader;

constexpr std::uint32_t kAlignment = 8;
constexpr std::uint64_t kConnectNs = 5'000'000'000;
constexpr std::uint64_t kPayloadBytesMax = 256 * 1024;

iox::capro::ServiceDescription service_of(const std::string& address) {
  return {"kaas", "latency", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, address)};
}

iox::RouDiConfig_t small_memory() {
  iox::mepoo::MePooConfig pools;
  pools.addMemPool({512, 128});
  pools.addMemPool({8 * 1024, 64});
  pools.addMemPool({kPayloadBytesMax + 1024, 16});
  const auto group = iox::posix::PosixGroup::getGroupOfCurrentProcess().getName();
  iox::RouDiConfig_t config;
  config.m_sharedMemorySegments.push_back({group, group, pools});
  return config;
}

std::uint64_t payload_bytes_of(const void* payload) {
  return iox::mepoo::ChunkHeader::fromUserPayload(payload)->userPayloadSize();
}

std::string serve(const std::string& address, bool spin, WorkServer& work,
                  const std::function<void()>& ready, const std::function<bool()>& stopping) {
  if (!spin) return "after ADDRESS and device, allowed: spin";
  iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kError);
  iox::roudi::IceOryxRouDiComponents components(small_memory());
  iox::roudi::RouDi roudi(
      components.rouDiMemoryManager, components.portManager,
      iox::roudi::RouDi::RoudiStartupParameters{iox::roudi::MonitoringMode::OFF, false});
  iox::runtime::PoshRuntimeSingleProcess runtime("kaas-latency-server");
  iox::popo::UntypedServer server(service_of(address));
  ready();
  std::string reply;
  std::string error;
  SpinPause pause;
  while (!stopping() && error.empty()) {
    bool taken = false;
    server.take().and_then([&](const void* request) {
      taken = true;
      work.handle({static_cast<const char*>(request), payload_bytes_of(request)}, reply);
      server.loan(RequestHeader::fromPayload(request), reply.size(), kAlignment)
          .and_then([&](void* response) {
            std::memcpy(response, reply.data(), reply.size());
            server.send(response).or_else([&](auto&) { error = "iceoryx: sending failed"; });
          })
          .or_else([&](auto&) { error = "iceoryx: no memory for a response"; });
      server.releaseRequest(request);
    });
    if (!taken) pause();
  }
  return error;
}

Exchange connect(const std::string& address, bool spin, std::string& error) {
  if (!spin) {
    error = "after ADDRESS, allowed: spin";
    return {};
  }
  iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kError);
  iox::runtime::PoshRuntime::initRuntime("kaas-latency-client");
  auto client = std::make_shared<iox::popo::UntypedClient>(service_of(address));
  const std::uint64_t give_up_ns = now_ns() + kConnectNs;
  SpinPause pause;
  while (client->getConnectionState() != iox::ConnectionState::CONNECTED) {
    if (now_ns() > give_up_ns) {
      error = "iceoryx: no server in time";
      return {};
    }
    pause();
  }
  auto sequence = std::make_shared<std::int64_t>(0);
  return [client, sequence](std::string_view request, std::string& reply) -> std::string {
    std::string failure;
    client->loan(request.size(), kAlignment)
        .and_then([&](void* payload) {
          RequestHeader::fromPayload(payload)->setSequenceId(++*sequence);
          std::memcpy(payload, request.data(), request.size());
          client->send(payload).or_else([&](auto&) { failure = "iceoryx: sending failed"; });
        })
        .or_else([&](auto&) { failure = "iceoryx: no memory for a request"; });
    SpinPause pause;
    for (bool taken = false; !taken && failure.empty();) {
      client->take().and_then([&](const void* response) {
        taken = ResponseHeader::fromPayload(response)->getSequenceId() == *sequence;
        if (taken) reply.assign(static_cast<const char*>(response), payload_bytes_of(response));
        client->releaseResponse(response);
      });
      if (!taken) pause();
    }
    return failure;
  };
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::run_served_program(argc, argv,
                                  {"iceoryx", kaas::kPayloadBytesMax, kaas::serve, kaas::connect});
}
