#include "tests/latency/peers/served_work.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>

#include "tests/latency/peers/host_worker.h"
#include "tools/bench/peer.h"
#ifdef KAAS_PEERS_HAVE_CUDA
#include "tools/bench/direct/direct_worker.h"
#endif

namespace kaas {
namespace {

constexpr std::size_t kPattern = 1024;

void put(std::string& message, const void* header, std::size_t header_bytes, const void* payload,
         std::size_t payload_bytes) {
  message.resize(header_bytes + payload_bytes);
  std::memcpy(message.data(), header, header_bytes);
  if (payload_bytes != 0) std::memcpy(message.data() + header_bytes, payload, payload_bytes);
}

void set_workload(WorkHeader& header, const Workload& workload) {
  header.kind = static_cast<std::uint32_t>(workload.kind);
  header.amount = workload.amount;
  header.blocks = workload.blocks;
}

bool read_workload(const WorkHeader& header, Workload& workload) {
  if (header.kind > static_cast<std::uint32_t>(Workload::Kind::Null)) return false;
  Workload asked;
  asked.kind = static_cast<Workload::Kind>(header.kind);
  asked.amount = header.amount;
  asked.blocks = header.blocks;
  return parse_workload(to_word(asked), workload);  // Within the limits of all workloads.
}

std::unique_ptr<LocalWorker> make_worker(const std::string& device, std::string& description,
                                         std::string& error) {
  description = "the processor";
  if (device == "host") return std::make_unique<HostWorker>();
#ifdef KAAS_PEERS_HAVE_CUDA
  DirectOptions options;
  options.graph = true;
  return make_direct_worker(options, description, error);
#else
  error = "device is '" + device + "', allowed: host; it was built without CUDA";
  return nullptr;
#endif
}

// Set when standard input has ended.
class InputEnd {
 public:
  InputEnd() : thread_([this] { watch(); }) {}
  ~InputEnd() {
    over_.store(true);
    thread_.join();
  }
  InputEnd(const InputEnd&) = delete;
  InputEnd& operator=(const InputEnd&) = delete;
  [[nodiscard]] bool over() const { return over_.load(std::memory_order_relaxed); }

 private:
  void watch() {
    char bytes[256];
    while (!over_.load()) {
      pollfd entry{STDIN_FILENO, POLLIN, 0};
      if (::poll(&entry, 1, kStopLookMs) > 0 && ::read(STDIN_FILENO, bytes, sizeof bytes) <= 0) {
        over_.store(true);
      }
    }
  }
  std::atomic<bool> over_{false};
  std::thread thread_;  // Last: it uses the others.
};

int serve(const Transport& transport, const std::string& address, const std::string& device,
          bool spin) {
  std::string description;
  std::string error;
  auto worker = make_worker(device, description, error);
  if (worker == nullptr) return refuse_peer(error);
  WorkServer server(std::move(worker));
  const InputEnd input;
  error = transport.serve(
      address, spin, server,
      [&] {
        std::printf("{\"ready\": \"%s, %s\"}\n", transport.name, description.c_str());
        std::fflush(stdout);
      },
      [&] { return input.over(); });
  return error.empty() ? 0 : refuse_peer(error);
}

int run_client(const Transport& transport, const std::string& address, bool spin) {
  std::string error;
  Exchange exchange = transport.connect(address, spin, error);
  if (!error.empty()) return refuse_peer(error);
  RemoteWorker worker(std::move(exchange), transport.payload_bytes_max);
  return serve_peer(worker, std::string("a client over ") + transport.name);
}

}  // namespace

std::string WorkServer::work(std::string_view request, HostBytes& output) {
  WorkHeader header;
  if (request.size() < sizeof header) return "the request is shorter than its header";
  std::memcpy(&header, request.data(), sizeof header);
  if (request.size() - sizeof header != header.payload_bytes) {
    return "payload_bytes is " + std::to_string(header.payload_bytes) + ", but " +
           std::to_string(request.size() - sizeof header) + " came";
  }
  Workload workload;
  if (!read_workload(header, workload)) return "the request names no workload";
  if (header.check != 0) return worker_->check();
  if (const std::string word = to_word(workload); word != opened_) {
    opened_.clear();
    if (std::string error = worker_->open(workload, 1); !error.empty()) return error;
    opened_ = word;
  }
  const HostBytes input = worker_->input();
  if (input.bytes != header.payload_bytes) {
    return "payload_bytes is " + std::to_string(header.payload_bytes) + ", the workload's are " +
           std::to_string(input.bytes);
  }
  if (input.bytes != 0) std::memcpy(input.data, request.data() + sizeof header, input.bytes);
  if (std::string error = worker_->run(); !error.empty()) return error;
  output = worker_->output();
  return {};
}

void WorkServer::handle(std::string_view request, std::string& reply) {
  const std::lock_guard lock(mutex_);
  HostBytes output{nullptr, 0};
  const std::string error = work(request, output);
  ReplyHeader header;
  header.failed = error.empty() ? 0 : 1;
  header.payload_bytes = error.empty() ? output.bytes : error.size();
  put(reply, &header, sizeof header, error.empty() ? output.data : error.data(),
      header.payload_bytes);
}

std::string RemoteWorker::open(const Workload& workload, float seed) {
  const bool is_payload = workload.kind == Workload::Kind::Payload;
  if (is_payload && workload.amount > payload_bytes_max_) {
    return "payload is " + std::to_string(workload.amount) + ", the transport carries " +
           std::to_string(payload_bytes_max_);
  }
  workload_ = workload;
  WorkHeader header;
  set_workload(header, workload);
  std::vector<float> payload(is_payload ? workload.amount / sizeof(float) : 0);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    payload[i] = seed + static_cast<float>(i % kPattern);
  }
  header.payload_bytes = payload.size() * sizeof(float);
  put(request_, &header, sizeof header, payload.data(), header.payload_bytes);
  return exchange(request_);  // The server makes ready.
}

std::string RemoteWorker::run() {
  return exchange(request_);
}

std::string RemoteWorker::exchange(std::string_view request) {
  if (std::string error = exchange_(request, reply_); !error.empty()) return error;
  ReplyHeader header;
  if (reply_.size() < sizeof header) return "the reply is shorter than its header";
  std::memcpy(&header, reply_.data(), sizeof header);
  if (header.failed != 0) return "the server: " + reply_.substr(sizeof header);
  return {};
}

std::string RemoteWorker::check() {
  if (workload_.kind == Workload::Kind::Payload) {
    std::vector<float> sent(workload_.amount / sizeof(float));
    std::vector<float> found(sent.size());
    if (reply_.size() != sizeof(ReplyHeader) + workload_.amount) return "the output is too short";
    std::memcpy(sent.data(), request_.data() + sizeof(WorkHeader), workload_.amount);
    std::memcpy(found.data(), reply_.data() + sizeof(ReplyHeader), workload_.amount);
    for (std::size_t i = 0; i < sent.size(); ++i) {
      if (found[i] == sent[i] * kFactor) continue;
      return "element " + std::to_string(i) + " is " + std::to_string(found[i]);
    }
    return {};
  }
  WorkHeader header;
  set_workload(header, workload_);
  header.check = 1;
  std::string request;
  put(request, &header, sizeof header, nullptr, 0);
  return exchange(request);
}

std::string RemoteWorker::memory(std::uint64_t&) {
  return "a client has no device";
}

int run_served_program(int argc, char** argv, const Transport& transport) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const bool spins = !words.empty() && words.back() == "spin";
  const bool known_wait = spins || (!words.empty() && words.back() == "sleep");
  if (known_wait && words.size() == 4 && words[0] == "serve" &&
      (words[2] == "host" || words[2] == "cuda")) {
    return serve(transport, words[1], words[2], spins);
  }
  if (known_wait && words.size() == 3 && words[0] == "client") {
    return run_client(transport, words[1], spins);
  }
  std::printf("usage: %s serve ADDRESS host|cuda spin|sleep\n       %s client ADDRESS spin|sleep\n",
              argv[0], argv[0]);
  return 2;
}

}  // namespace kaas
