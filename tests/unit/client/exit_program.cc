// A program that ends while it has everything that the library hands out.
// usage: exit_program SOCKET static|thread
#include <kaas/client.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <thread>

namespace {

template <class T>
T value_of(kaas::Result<T> result) {
  if (!result.has_value()) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::_Exit(1);
  }
  return std::move(*result);
}

kaas::Request small_request() {
  kaas::RequestBuilder builder;
  builder.buffer("x", 8);
  builder.kernel("std", "fill").out("x");
  return value_of(builder.build());
}

// Destroyed in the order from last to first.
struct Everything {
  std::optional<kaas::Client> client;
  // Runs requests, too, when it is destroyed.
  struct Farewell {
    kaas::Client* client = nullptr;
    ~Farewell() {
      if (client == nullptr) return;
      for (const char* key : {"first farewell", "second farewell"}) {
        value_of(client->put(key, std::as_bytes(std::span("bye", 3))));
      }
      value_of(client->run(small_request()));
    }
  } farewell;
  kaas::Buffer buffer;
  kaas::Region region;
  std::optional<kaas::Plan> plan;
  std::optional<kaas::BoundPlan> bound;
  std::optional<kaas::Future<kaas::Reply>> under_way;

  void fill(const char* socket) {
    kaas::ClientOptions options;
    options.socket = socket;
    client.emplace(value_of(kaas::Client::connect(options)));
    farewell.client = &*client;
    buffer = value_of(client->allocate(64));
    const int memory = ::memfd_create("region", MFD_CLOEXEC);
    if (::ftruncate(memory, 4096) != 0) std::_Exit(1);
    region = value_of(client->register_region(memory, 4096, true));
    ::close(memory);
    plan.emplace(value_of(client->prepare(small_request())));
    bound.emplace(plan->bind());
    value_of(bound->run());
    under_way.emplace(plan->submit());
  }
};

// Made before whatever the library has of the thread, and so destroyed after it.
Everything of_program;
thread_local Everything of_thread;

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (std::string_view(argv[2]) == "static") {
    of_program.fill(argv[1]);
  } else {
    std::thread([&] { of_thread.fill(argv[1]); }).join();
  }
  return 0;
}
