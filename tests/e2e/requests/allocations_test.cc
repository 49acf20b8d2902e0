// What kaasd and an executor allocate for a request that they know: nothing, but for what stays.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>

#include "schema/ipc/handle.h"
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

// The count of tests/support/counting_malloc.cc.
class Counted {
 public:
  Counted(const std::string& folder, pid_t pid) {
    const std::string path = folder + "/" + std::to_string(pid);
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    void* const mapped = ::mmap(nullptr, sizeof *count_, PROT_READ, MAP_SHARED, file.get(), 0);
    if (mapped != MAP_FAILED) count_ = static_cast<const std::atomic<std::uint64_t>*>(mapped);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() {
    if (count_ != nullptr) {
      ::munmap(const_cast<std::atomic<std::uint64_t>*>(count_), sizeof *count_);
    }
  }
  [[nodiscard]] bool is_there() const { return count_ != nullptr; }
  [[nodiscard]] std::uint64_t now() const { return count_->load(); }

 private:
  const std::atomic<std::uint64_t>* count_ = nullptr;
};

// Allocations a request.
struct Average {
  double kaasd = 0;
  double executor = 0;
};

class Allocations : public E2eTest {
 protected:
  std::vector<std::string> environment() override {
    char folder[] = "/tmp/kaas-count-XXXXXX";
    if (::mkdtemp(folder) != nullptr) folder_ = folder;
    return {"LD_PRELOAD=" + test_environment("KAAS_TEST_BINARY_DIR") +
                "/tests/lib/libkaas_counting_malloc.so",
            "KAAS_COUNT_FOLDER=" + folder_};
  }
  void SetUp() override {
    E2eTest::SetUp();
    ASSERT_EQ(daemon_->executors().size(), 1u);
    kaasd_ = std::make_unique<Counted>(folder_, daemon_->pid());
    executor_ = std::make_unique<Counted>(folder_, daemon_->executors().front());
    ASSERT_TRUE(kaasd_->is_there());
    ASSERT_TRUE(executor_->is_there());
    ASSERT_GT(kaasd_->now(), 0u);
    ASSERT_GT(executor_->now(), 0u);
    client_.emplace(connect());
  }
  void TearDown() override {
    E2eTest::TearDown();
    std::filesystem::remove_all(folder_);
  }

  // Of many runs, after as many that warm up.
  Average average_of(const std::function<void()>& run) {
    constexpr int kRuns = 2000;
    for (int n = 0; n < kRuns; ++n) run();
    const std::uint64_t kaasd = kaasd_->now();
    const std::uint64_t executor = executor_->now();
    for (int n = 0; n < kRuns; ++n) run();
    return {static_cast<double>(kaasd_->now() - kaasd) / kRuns,
            static_cast<double>(executor_->now() - executor) / kRuns};
  }
  // y = x + x, of 256 numbers.
  Plan sum() {
    RequestBuilder builder;
    builder.buffer("x", 1024);
    builder.buffer("y", 1024);
    builder.kernel("std", "add")
        .grid(1)
        .block(256)
        .literal(std::uint64_t{256})
        .in("x")
        .in("x")
        .out("y");
    auto plan = client_->prepare(built(builder));
    EXPECT_OK(plan);
    return *std::move(plan);
  }
  // Both of its buffers in memory of the client.
  Bindings in_memory() {
    auto memory = client_->allocate(2048);
    EXPECT_OK(memory);
    memory_.emplace(*std::move(memory));
    Bindings bindings;
    bindings.in("x", *memory_).in("y", *memory_, 1024);
    return bindings;
  }

  std::string folder_;
  std::unique_ptr<Counted> kaasd_;
  std::unique_ptr<Counted> executor_;
  std::optional<Client> client_;
  std::optional<Buffer> memory_;
};

// What the processes do now and then by themselves hardly shows in an average.
constexpr double kNone = 0.1;

TEST_F(Allocations, NoneForANullRequest) {
  RequestBuilder builder;
  builder.kernel("std", "noop");
  const auto plan = client_->prepare(built(builder));
  ASSERT_OK(plan);
  const Average average = average_of([&] { ASSERT_OK(plan->run()); });
  EXPECT_LT(average.kaasd, kNone);
  EXPECT_LT(average.executor, kNone);
}

// Through kaasd one: the list of a request's bindings, while it is decoded.
TEST_F(Allocations, OneForARunOnMemoryOfTheClient) {
  const Bindings bindings = in_memory();
  const Plan plan = sum();
  const Average average = average_of([&] { ASSERT_OK(plan.run(bindings)); });
  EXPECT_LT(average.kaasd, 1 + kNone);
  EXPECT_LT(average.executor, kNone);
}

TEST_F(Allocations, NoneByALane) {
  const Bindings bindings = in_memory();
  const Plan plan = sum();
  const BoundPlan bound = plan.bind(bindings);
  ASSERT_TRUE(eventually([&] {
    EXPECT_OK(bound.run());
    return bound.has_lane();
  }));
  const Average average = average_of([&] { ASSERT_OK(bound.run()); });
  EXPECT_TRUE(bound.has_lane());
  EXPECT_LT(average.kaasd, kNone);
  EXPECT_LT(average.executor, kNone);
}

// A version that stays needs memory; how often is bounded.
TEST_F(Allocations, FewForANewVersion) {
  ASSERT_OK(client_->put("x", bytes_of(std::vector<float>(256, 1.0f))));
  const Plan plan = sum();
  const Average average = average_of([&] { ASSERT_OK(plan.run()); });
  EXPECT_LT(average.kaasd, 8 + kNone);
  EXPECT_LT(average.executor, 3 + kNone);
}

}  // namespace
}  // namespace kaas
