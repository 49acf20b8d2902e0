// kaasd's data path with everything around it that is not it: a clock that only moves when it is
// told to, executors that are stepped by hand, the budget, the store, a folder of library files.
// Stands for kaasd's other threads: starts and ends executors when the dispatcher asks.
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/dispatch/dispatcher.h"
#include "tools/sim/client.h"
#include "tools/sim/executor.h"

namespace kaas {

struct WorldOptions {
  std::uint64_t store_bytes = 256u << 20;
  std::uint64_t running_limit_ns = 0;
  std::uint32_t runs_per_executor = 512;
  std::uint64_t idle_release_ns = 0;
  std::uint64_t export_bytes = kExportBytesDefault;
  std::uint32_t devices = 1;  // "fake-0", "fake-1", ...
  SimExecutorOptions executor;
  RingGeometry client_rings{64, 256u << 10};
  std::uint64_t arena_bytes = 64u << 10;
  // Executors that the dispatcher wants are started by the next turn; else by start_executor().
  bool start_executors = true;
};

// A domain's executor on a device.
struct WantedExecutor {
  std::uint32_t domain = 0;
  std::uint32_t place = 1;
};

class World final : public DispatcherHost {
 public:
  explicit World(const WorldOptions& options = {});
  ~World() override;

  // A connected client with an arena.
  SimClient& connect(std::uint32_t uid = 1000, std::size_t rings = 1);
  // Null: the budget has no room for its arena.
  SimClient* try_connect(std::uint32_t uid, std::size_t rings);
  // The client's process ends: kaasd sees the hang-up.
  void hang_up(SimClient& client);

  // --- Steps -----------------------------------------------------------------------------------
  // One step of kaasd. What it asked of its host is done by do_chores().
  std::size_t step() { return dispatcher_->step(); }
  // Starts wanted executors, ends condemned ones, passes hang-ups on. Whether anything was done.
  bool do_chores();
  // Steps everything until nothing moves.
  void settle();

  SimExecutor& start_executor(std::uint32_t domain, std::uint32_t place = 1);
  // Its process ends now.
  void end_executor(std::uint32_t executor, const std::string& cause = "signal 9 (Killed)");
  // Ends all executors and kaasd's data path, as at kaasd's end. Store and budget stay.
  void shut_down();
  // The only executor there is.
  SimExecutor& executor();
  // That of a device; null: none. Of any domain.
  SimExecutor* executor_at(std::uint32_t place);
  [[nodiscard]] std::map<std::uint32_t, std::unique_ptr<SimExecutor>>& executors() noexcept {
    return executors_;
  }

  // --- Parts -----------------------------------------------------------------------------------
  [[nodiscard]] Dispatcher& dispatcher() noexcept { return *dispatcher_; }
  [[nodiscard]] Store& store() noexcept { return *store_; }
  [[nodiscard]] ByteBudget& budget() noexcept { return *budget_; }
  [[nodiscard]] SegmentRegistry& segments() noexcept { return *segments_; }
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  [[nodiscard]] std::vector<std::unique_ptr<SimClient>>& clients() noexcept { return clients_; }
  // Makes an arena of the session; the caller maps it. Null: the budget has no room.
  SegmentRef add_arena(Session& session, std::uint64_t bytes);

  std::uint64_t now = 1'000'000'000;
  std::vector<std::pair<std::uint64_t, Status>> closed;  // Sessions that kaasd has ended.
  std::vector<std::uint32_t> killed;                     // Executors that kaasd wanted to end.
  std::vector<std::string> logged;
  std::vector<WantedExecutor> wanted;   // Not started yet.
  std::vector<std::uint32_t> released;  // Executors that kaasd has let go.

  // --- DispatcherHost --------------------------------------------------------------------------
  [[nodiscard]] std::uint64_t now_ns() override { return now; }
  void want_executor(std::uint32_t domain, std::uint32_t place) override {
    wanted.push_back({domain, place});
  }
  void unwant_executor(std::uint32_t domain, std::uint32_t place) override;
  void release_executor(std::unique_ptr<ExecutorLink> link) override;
  void kill_executor(std::uint32_t executor, const std::string& reason) override;
  void executor_ready(std::uint32_t) override {}
  void session_closed(std::uint64_t session, const Status& reason) override {
    closed.emplace_back(session, reason);
  }
  void watch(int descriptor, std::uint64_t session, std::uint32_t executor) override {
    watched_[descriptor] = {session, executor};
  }
  void unwatch(int descriptor) override { watched_.erase(descriptor); }
  void log(StatusCode, const std::string& line) override { logged.push_back(line); }
  // Doorbells that are watched now.
  [[nodiscard]] std::size_t watched() const noexcept { return watched_.size(); }
  // Tells the dispatcher of doorbells that rang. Whether there were any.
  bool answer_doorbells();

 private:
  WorldOptions options_;
  std::string folder_;
  Dispatcher* told_ = nullptr;
  std::unique_ptr<ByteBudget> budget_;
  std::unique_ptr<SegmentRegistry> segments_;
  std::unique_ptr<Store> store_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::map<std::uint32_t, std::unique_ptr<SimExecutor>> executors_;
  std::deque<std::pair<std::uint32_t, std::string>> condemned_;
  std::vector<std::uint32_t> let_go_;
  std::uint32_t next_executor_ = 1;
  std::uint64_t next_session_ = 1;
  std::map<int, std::pair<std::uint64_t, std::uint32_t>> watched_;  // Session, executor.
};

}  // namespace kaas
