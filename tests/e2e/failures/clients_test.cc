// Clients that die, lie, flood or are somebody else.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "schema/ipc/messages.h"
#include "schema/ipc/segment.h"
#include "schema/ipc/socket.h"
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

// A child process that does something and then waits to be killed.
class DoomedChild {
 public:
  explicit DoomedChild(const std::function<void()>& act) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      act();
      const char done = 1;
      if (::write(ends[1], &done, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    ::close(ends[1]);
    char done = 0;
    EXPECT_EQ(::read(ends[0], &done, 1), 1) << "the child ended by itself";
    ::close(ends[0]);
  }
  ~DoomedChild() { kill(); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

// Runs `act` in a child as another user; true if it returned true.
bool succeeds_as(uid_t uid, const std::function<bool()>& act) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::setgid(uid) != 0 || ::setuid(uid) != 0) ::_exit(2);
    ::_exit(act() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class Clients : public E2eTest {
 protected:
  nlohmann::json status(Client& client) {
    const auto text = client.status_json();
    EXPECT_OK(text);
    return text.has_value() ? nlohmann::json::parse(*text) : nlohmann::json();
  }
  // Sessions and bytes are back to what they were.
  bool returned_to(Client& client, const nlohmann::json& before) {
    return eventually([&] {
      const auto now = status(client);
      return now["sessions"] == before["sessions"] && now["requests_under_way"] == 0 &&
             now["store"]["versions"] == before["store"]["versions"];
    });
  }
  static Request busy(std::uint64_t ms) {
    RequestBuilder builder;
    builder.buffer("dropped", 4);
    builder.kernel("faulty", "busy").grid(1).block(1).literal(ms).literal(1.0f).out("dropped");
    return built(builder);
  }
  [[nodiscard]] Descriptor raw_connection() const {
    auto socket = connect_socket(daemon_->socket());
    EXPECT_OK(socket);
    return socket.has_value() ? std::move(*socket) : Descriptor();
  }
  // Whether kaasd closes the connection.
  static bool is_closed(const Descriptor& socket) {
    return eventually([&] { return hung_up(socket.get()); });
  }
};

TEST_F(Clients, KilledAtEachStepLeaveNothingBehind) {
  Client witness = connect("witness");
  const auto before = status(witness);
  const std::vector<std::function<void()>> steps = {
      [&] { static_cast<void>(raw_connection().release()); },
      [&] { new Client(connect("connected")); },
      [&] {
        auto* client = new Client(connect("putting"));
        static_cast<void>(client->put("big", bytes_of(std::vector<float>(1 << 20, 1.0f))));
        static_cast<void>(client->remove("big"));
      },
      [&] {
        auto* client = new Client(connect("running"));
        // Longer than the child lives: none of them is finished for it.
        for (int i = 0; i < 100; ++i) new Future<Reply>(client->submit(busy(1'000)));
      },
      [&] {
        auto* client = new Client(connect("preparing"));
        new Result<Plan>(client->prepare(busy(1)));
        new Result<Buffer>(client->allocate(1 << 20));
      },
  };
  for (std::size_t step = 0; step < steps.size(); ++step) {
    DoomedChild child(steps[step]);
    child.kill();
    EXPECT_TRUE(returned_to(witness, before)) << "step " << step << "\n" << daemon_->log();
    ASSERT_OK(witness.put("x", bytes_of(std::vector<float>{1.0f})));
    ASSERT_OK(witness.run(scale("x", 1)));
    ASSERT_OK(witness.remove("x"));
  }
  EXPECT_FALSE(witness.get("dropped").has_value()) << "what ran on was published";
}

TEST_F(Clients, GarbageClosesThatSessionOnly) {
  Client witness = connect("witness");
  const std::vector<std::vector<std::uint8_t>> messages = {
      {}, {0}, std::vector<std::uint8_t>(8, 0xff), std::vector<std::uint8_t>(1000, 0x41)};
  for (const auto& message : messages) {
    if (message.empty()) continue;
    const Descriptor socket = raw_connection();
    EXPECT_EQ(send_message(socket.get(), bytes_of(message)), SendOutcome::Sent);
    EXPECT_TRUE(is_closed(socket));
  }
  ASSERT_OK(witness.put("x", bytes_of(std::vector<float>{1.0f})));
}

TEST_F(Clients, OtherProtocolVersionIsToldBothNumbers) {
  const Descriptor socket = raw_connection();
  flatbuffers::FlatBufferBuilder builder;
  const auto hello = wire::CreateHello(builder, 999);
  builder.Finish(wire::CreateControlRequest(builder, 1, wire::Control::Hello, hello.Union()));
  ASSERT_EQ(send_message(socket.get(), finished(builder)), SendOutcome::Sent);
  ASSERT_TRUE(wait_readable(socket.get(), 5'000'000'000));
  std::vector<std::byte> buffer(kControlMessageBytesMax);
  const auto received = receive_message(socket.get(), buffer, 8);
  ASSERT_EQ(received.outcome, ReceiveOutcome::Message);
  const auto* reply = verified_root<wire::ControlReply>(received.message);
  ASSERT_NE(reply, nullptr);
  EXPECT_EQ(reply->code(), StatusCode::VersionMismatch);
  EXPECT_NE(view(reply->message()).find("999"), std::string_view::npos);
  EXPECT_TRUE(is_closed(socket));
}

TEST_F(Clients, SilentConnectionIsClosedAtItsDeadline) {
  const Descriptor socket = raw_connection();
  EXPECT_TRUE(is_closed(socket));
}

TEST_F(Clients, FloodOfDescriptorsIsRefusedAndClosed) {
  const std::size_t before = daemon_->open_descriptors();
  const Descriptor socket = raw_connection();
  const std::vector<int> many(kDescriptorsPerMessageMax, STDIN_FILENO);
  const std::byte one{1};
  ASSERT_EQ(send_message(socket.get(), {&one, 1}, many), SendOutcome::Sent);
  EXPECT_TRUE(is_closed(socket));
  EXPECT_TRUE(eventually([&] { return daemon_->open_descriptors() <= before; }));
}

TEST_F(Clients, DonationThatSomebodyCanStillWriteIsRefused) {
  Client client = connect();
  const Descriptor memfd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memfd.get(), 1 << 20), 0);
  void* mapped = ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const auto writable = client.donate("x", memfd.get());
  EXPECT_FALSE(writable.has_value());
  EXPECT_FALSE(client.stat("x").has_value());
  ASSERT_EQ(::munmap(mapped, 1 << 20), 0);
  EXPECT_OK(client.donate("x", memfd.get()));
  const auto object = client.get("x");
  ASSERT_OK(object);
  EXPECT_EQ(object->bytes().size(), 1u << 20);
  const Descriptor plain(::memfd_create("test", MFD_CLOEXEC));  // Can't be sealed.
  ASSERT_EQ(::ftruncate(plain.get(), 1 << 20), 0);
  EXPECT_FALSE(client.donate("y", plain.get()).has_value());
}

TEST_F(Clients, UnsealedRegionThatShrinksFailsTheRequestOnly) {
  Client client = connect();
  const Descriptor memfd(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memfd.get(), 4096), 0);
  const std::vector<float> ones(1024, 1.0f);
  ASSERT_EQ(::pwrite(memfd.get(), ones.data(), 4096, 0), 4096);
  auto region = client.register_region(memfd.get(), 4096, true);
  ASSERT_OK(region);
  RequestBuilder builder;
  builder.buffer("x", 4096).in(*region);
  builder.kernel("std", "scale")
      .grid(1)
      .block(64)
      .literal(std::uint64_t{1024})
      .literal(3.0f)
      .inout("x");
  const Request request = built(builder);
  ASSERT_OK(client.run(request));
  float last = 0;
  ASSERT_EQ(::pread(memfd.get(), &last, 4, 4092), 4);
  EXPECT_EQ(last, 3.0f);
  ASSERT_EQ(::ftruncate(memfd.get(), 100), 0);
  const auto outcome = client.run(request);
  ASSERT_FALSE(outcome.has_value());
  ASSERT_OK(client.put("y", bytes_of(ones)));
  ASSERT_OK(client.run(scale("y", 1024)));
}

TEST_F(Clients, RegionOnAFullFileSystemFailsTheRequestOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs needs root";
  const std::string mount_point = daemon_->folder() + "/shm";
  ASSERT_EQ(::mkdir(mount_point.c_str(), 0700), 0);
  if (::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=65536") != 0) {
    GTEST_SKIP() << "this machine does not let root mount a tmpfs";
  }
  {
    Client client = connect();
    const Descriptor file(
        ::open((mount_point + "/region").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(static_cast<bool>(file));
    ASSERT_EQ(::ftruncate(file.get(), 1 << 20), 0);  // A hole: larger than the file system.
    auto region = client.register_region(file.get(), 1 << 20, true);
    ASSERT_OK(region);
    RequestBuilder builder;
    builder.buffer("x", 1 << 20).in(*region);
    builder.kernel("std", "fill_f32")
        .grid(4)
        .block(64)
        .literal(std::uint64_t{1 << 18})
        .literal(3.0f)
        .out("x");
    const auto outcome = client.run(built(builder));
    EXPECT_FALSE(outcome.has_value());
    ASSERT_OK(client.put("y", bytes_of(std::vector<float>{1.0f})));
    ASSERT_OK(client.run(scale("y", 1)));
  }
  EXPECT_EQ(::umount2(mount_point.c_str(), MNT_DETACH), 0);
}

TEST_F(Clients, OversizedEverythingIsRefusedWithTheLimit) {
  Client client = connect();
  const std::string long_key(kKeyBytesMax + 1, 'k');
  const auto put = client.put(long_key, bytes_of(std::vector<float>{1.0f}));
  ASSERT_FALSE(put.has_value());
  EXPECT_NE(put.error().message.find(std::to_string(kKeyBytesMax)), std::string::npos)
      << put.error().message;
  ClientOptions options;
  options.socket = daemon_->socket();
  options.ring_slots = kRingSlotsMax * 2;
  EXPECT_FALSE(Client::connect(options).has_value());
  options.ring_slots = 0;
  options.arena_bytes = std::uint64_t{1} << 50;
  EXPECT_FALSE(Client::connect(options).has_value());
  options.arena_bytes = ~std::uint64_t{0};  // Rounded up to pages, it would be nothing.
  const auto wrapped = Client::connect(options);
  ASSERT_FALSE(wrapped.has_value());
  EXPECT_NE(wrapped.error().message.find("arena_bytes"), std::string::npos)
      << wrapped.error().message;
  EXPECT_FALSE(client.allocate(std::uint64_t{1} << 60).has_value());
  RequestBuilder many;
  for (std::uint32_t i = 0; i <= kKernelsMax; ++i) many.kernel("std", "noop").grid(1).block(1);
  const auto request = many.build();
  ASSERT_FALSE(request.has_value());
  EXPECT_NE(request.error().message.find(std::to_string(kKernelsMax)), std::string::npos)
      << request.error().message;
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{1.0f})));
}

TEST_F(Clients, SessionForAdministrationIsRefusedWhatNeedsMemory) {
  ClientOptions options;
  options.socket = daemon_->socket();
  options.administration_only = true;
  auto client = Client::connect(options);
  ASSERT_OK(client);
  const Descriptor memfd(::memfd_create("kaas-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(memfd.get(), 1 << 20), 0);
  const std::vector<std::byte> handle(64);
  const std::vector<Status> refusals = {
      client->allocate(4096).error(), client->register_region(memfd.get(), 4096, true).error(),
      client->register_event(handle).error(), client->put("small", handle).error(),
      client->donate("large", memfd.get()).error()};
  for (const Status& refusal : refusals) {
    EXPECT_EQ(refusal.code, StatusCode::InvalidArgument) << refusal.message;
    EXPECT_NE(refusal.message.find("administration"), std::string::npos) << refusal.message;
  }
  EXPECT_OK(client->alive());
}

TEST_F(Clients, KickedSessionIsToldWhy) {
  Client client = connect();
  Client other = connect();
  ASSERT_OK(other.kick(client.session()));
  const auto outcome = client.put("x", bytes_of(std::vector<float>{1.0f}));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_NE(outcome.error().message.find("kicked"), std::string::npos) << outcome.error().message;
}

TEST_F(Clients, ManyThreadsHaveARingEach) {
  Client client = connect();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&client, t] {
      const std::string key = "t" + std::to_string(t);
      EXPECT_OK(client.put(key, bytes_of(std::vector<float>{1.0f})));
      for (int i = 0; i < 10; ++i) EXPECT_OK(client.run(scale(key, 1)));
    });
  }
  for (auto& thread : threads) thread.join();
  for (int t = 0; t < 4; ++t) EXPECT_EQ(floats(client, "t" + std::to_string(t)).at(0), 1024.0f);
}

class OpenToAll : public Clients {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "another uid needs root";
    Clients::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(::chmod(daemon_->folder().c_str(), 0755), 0);
  }
  std::vector<std::string> arguments() override { return {"--socket-mode", "0666"}; }
  static constexpr uid_t kNobody = 65534;
};

TEST_F(OpenToAll, AnotherUidHasItsOwnNamespaceAndExecutor) {
  Client client = connect();
  ASSERT_OK(client.put("x", bytes_of(std::vector<float>{7.0f})));
  ASSERT_OK(client.put("shared", bytes_of(std::vector<float>{9.0f})));
  ASSERT_OK(client.share("shared", kNobody));
  const std::size_t executors = daemon_->executors().size();  // One a device.
  EXPECT_TRUE(succeeds_as(kNobody, [&] {
    Client nobody = connect("nobody");
    if (nobody.get("x").has_value() || nobody.get("x", 0).has_value()) return false;
    const auto shared = nobody.get("shared", 0);
    if (!shared.has_value() || values_of<float>(shared->bytes()).at(0) != 9.0f) return false;
    if (!nobody.put("x", bytes_of(std::vector<float>{1.0f})).has_value()) return false;
    if (!nobody.run(scale("x", 1, 3.0f)).has_value()) return false;
    RequestBuilder builder;
    builder.buffer("in", 4).at("@0/shared");
    builder.buffer("out", 4).in_message();
    builder.kernel("std", "copy").grid(1).block(1).literal(std::uint64_t{4}).in("in").out("out");
    const auto reply = nobody.run(built(builder));
    if (!reply.has_value() || values_of<float>(reply->data("out")).at(0) != 9.0f) return false;
    return floats(nobody, "x") == std::vector<float>{3.0f} &&
           !nobody.put("@0/shared", bytes_of(std::vector<float>{0.0f})).has_value();
  })) << daemon_->log();
  EXPECT_EQ(floats(client, "x").at(0), 7.0f);
  EXPECT_EQ(daemon_->executors().size(), 2 * executors);
}

TEST_F(OpenToAll, AnotherUidSeesAndTouchesNothingOfOthers) {
  Client client = connect("secret-name");
  EXPECT_TRUE(succeeds_as(kNobody, [&] {
    Client nobody = connect("nobody");
    const auto clients = nobody.clients_json();
    const auto logs = nobody.logs_json();
    return clients.has_value() && clients->find("secret-name") == std::string::npos &&
           logs.has_value() && nlohmann::json::parse(*logs)["lines"].empty() &&
           !nobody.kick(client.session()).has_value() && !nobody.reload().has_value() &&
           nobody.suspend_device("all").error().code == StatusCode::PermissionDenied &&
           nobody.resume_device("all").error().code == StatusCode::PermissionDenied;
  }));
  EXPECT_OK(client.alive());
}

TEST_F(Clients, AnotherUidIsRefusedByTheSocket) {
  if (::geteuid() != 0) GTEST_SKIP() << "another uid needs root";
  ASSERT_EQ(::chmod(daemon_->folder().c_str(), 0755), 0);
  EXPECT_TRUE(succeeds_as(65534, [&] {
    ClientOptions options;
    options.socket = daemon_->socket();
    const auto client = Client::connect(options);
    return !client.has_value() && client.error().code == StatusCode::PermissionDenied;
  }));
}

class SmallStore : public Clients {
 protected:
  std::vector<std::string> arguments() override {
    return {"--store-bytes", "16777216", "--arena-bytes", "1048576"};
  }
};

TEST_F(SmallStore, FullStoreRefusesWithNumbersAndLosesNothing) {
  Client client = connect();
  const std::vector<float> megabyte(256 * 1024, 1.0f);
  int stored = 0;
  std::string refusal;
  for (int i = 0; i < 64 && refusal.empty(); ++i) {
    const auto put = client.put("m" + std::to_string(i), bytes_of(megabyte));
    if (put.has_value()) {
      ++stored;
    } else {
      EXPECT_EQ(put.error().code, StatusCode::ResourceExhausted);
      refusal = put.error().message;
    }
  }
  EXPECT_NE(refusal.find("16777216"), std::string::npos) << refusal;
  ASSERT_GT(stored, 4);
  for (int i = 0; i < stored; ++i) {
    EXPECT_EQ(floats(client, "m" + std::to_string(i)).size(), megabyte.size());
  }
  // An output that does not fit is refused as well, and the request changes nothing.
  RequestBuilder builder;
  builder.buffer("out", 8u << 20);
  builder.kernel("std", "fill_f32")
      .grid(1)
      .block(64)
      .literal(std::uint64_t{2u << 20})
      .literal(1.0f)
      .out("out");
  const auto outcome = client.run(built(builder));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, StatusCode::ResourceExhausted) << outcome.error().message;
  ASSERT_OK(client.remove("m0"));
  ASSERT_TRUE(eventually([&] { return client.put("again", bytes_of(megabyte)).has_value(); }));
}

TEST(DescriptorLimit, IsARefusalAndNotTheEnd) {
  if (wants_gpu() && !has_gpu()) GTEST_SKIP() << "no GPU";
  DaemonProcess::Options options;
  options.descriptor_limit = 128;
  const auto daemon = DaemonProcess::start(std::move(options));
  ASSERT_NE(daemon, nullptr);
  ClientOptions client_options;
  client_options.socket = daemon->socket();
  client_options.connect_timeout = std::chrono::milliseconds(200);
  {
    std::vector<Client> clients;
    bool refused = false;
    for (int i = 0; i < 64 && !refused; ++i) {
      auto client = Client::connect(client_options);
      refused = !client.has_value();
      if (refused) continue;
      clients.push_back(std::move(*client));
      if (i == 0) {
        EXPECT_OK(clients[0].put("x", bytes_of(std::vector<float>{1.0f})));
      }
    }
    EXPECT_TRUE(refused);
    ASSERT_GT(clients.size(), 4u);
    // Who is connected works on, with what it has.
    const auto object = clients[0].get("x");
    ASSERT_OK(object);
    EXPECT_EQ(values_of<float>(object->bytes()).at(0), 1.0f);
    EXPECT_OK(clients[0].alive());
  }
  EXPECT_TRUE(eventually([&] { return Client::connect(client_options).has_value(); }))
      << daemon->log();
  EXPECT_EQ(daemon->stop(), 0);
}

}  // namespace
}  // namespace kaas
