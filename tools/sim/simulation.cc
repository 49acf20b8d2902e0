#include "tools/sim/simulation.h"

#include <poll.h>

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "tools/sim/checks.h"
#include "tools/sim/liar.h"
#include "tools/sim/workload.h"

namespace kaas {
namespace {

constexpr std::uint32_t kHonestUids[] = {1000, 1001};
constexpr std::uint32_t kLiarUid = 1002;  // Its executor lies, too.
constexpr std::size_t kHonestMax = 4;
constexpr std::size_t kLiarsMax = 2;
// Turns without anybody having anything to do, after the last fault, until it counts as stuck.
constexpr std::uint64_t kFinishTurnsMax = 200'000;

WorldOptions draw_world(Random& random, Faults& faults) {
  WorldOptions options;
  options.start_executors = false;
  options.runs_per_executor =
      static_cast<std::uint32_t>(random.one_in(3) ? 1 + random.below(4) : 512);
  options.executor.device.memory_bytes = 16u << 20;
  options.executor.device.asynchronous = random.one_in(2);
  options.executor.device.reaches_host = options.executor.device.asynchronous && random.one_in(2);
  options.executor.device.keeps_outputs = !random.one_in(4);
  if (random.one_in(4)) {
    options.executor.device.memory_bytes = 400u << 10;
    faults.device_is_small = true;
  }
  if (random.one_in(5)) {
    options.store_bytes = 2u << 20;
    faults.store_is_small = true;
  }
  if (random.one_in(4)) options.executor.outbox_bytes = 256u << 10;
  if (random.one_in(2)) options.devices = static_cast<std::uint32_t>(random.between(2, 3));
  if (random.one_in(4)) options.idle_release_ns = 20'000 + random.below(500'000);
  return options;
}

class Simulation {
 public:
  explicit Simulation(const SimulationOptions& options)
      : options_(options),
        random_(options.seed),
        trace_(options.verbose),
        world_(draw_world(random_, faults_)) {}

  SimulationResult run() {
    for (const std::uint32_t uid : kHonestUids) {
      const Bytes first = to_bytes(Words(kCellWords, Ticks().sent));
      KAAS_CHECK(world_.store().put_bytes(uid, kTickKey, first).has_value());
    }
    for (std::size_t i = 0; i < 2; ++i) connect_honest();
    connect_liar();
    for (std::uint64_t step = 0; step < options_.steps && failure_.empty() && !stopped(); ++step) {
      turn();
    }
    if (failure_.empty()) finish();
    if (failure_.empty()) close_all();
    result_.failure = failure_;
    result_.trace_hash = trace_.hash();
    result_.executor_deaths = faults_.executor_deaths;
    result_.releases = world_.released.size();
    for (const auto& client : honest_) count(*client);
    return result_;
  }

 private:
  [[nodiscard]] bool stopped() const { return options_.stop != nullptr && options_.stop->load(); }

  void fail(const std::string& fault) {
    if (failure_.empty() && !fault.empty()) failure_ = fault;
  }

  // --- Who comes and goes ------------------------------------------------------------------------
  void connect_honest() {
    const std::uint32_t uid = kHonestUids[random_.below(std::size(kHonestUids))];
    SimClient* client = world_.try_connect(uid, random_.between(1, 2));
    if (client == nullptr) return;
    honest_.push_back(std::make_unique<HonestClient>(
        *client, random_, trace_, shared_[uid - kHonestUids[0]], ticks_[uid - kHonestUids[0]]));
    ++result_.sessions;
    wake_kaasd();
  }
  void connect_liar() {
    const std::uint32_t foreign = honest_.empty() ? 16 : honest_.front()->client().arena();
    SimClient* client = world_.try_connect(kLiarUid, 2);
    if (client == nullptr) return;
    liars_.push_back(std::make_unique<LyingClient>(*client, random_, foreign));
    ++result_.sessions;
    wake_kaasd();
  }
  void end_honest(std::size_t index) {
    trace_.add("client " + std::to_string(honest_[index]->client().session()) + " ends");
    honest_[index]->client().hang_up();
    count(*honest_[index]);
    honest_.erase(honest_.begin() + static_cast<std::ptrdiff_t>(index));
  }
  void count(const HonestClient& client) {
    result_.sent += client.counts().sent;
    result_.ok += client.counts().ok;
    result_.failed += client.counts().failed;
    result_.lost += client.counts().lost;
    result_.resident += client.counts().resident;
    result_.lanes += client.counts().lanes;
    result_.by_lane += client.counts().by_lane;
  }

  // --- kaasd -------------------------------------------------------------------------------------
  void wake_kaasd() {
    if (kaasd_asleep_) world_.dispatcher().finish_sleep();
    kaasd_asleep_ = false;
  }
  // Whether it did anything, or could have.
  bool step_kaasd(bool may_sleep) {
    if (kaasd_asleep_) {
      const bool rung = world_.answer_doorbells();
      if (!rung && (wake_at_ns_ == 0 || world_.now < wake_at_ns_)) return false;
      wake_kaasd();
    }
    const std::size_t moved = world_.step();
    fail(check_state(world_));
    check_sessions();
    if (moved != 0 || !may_sleep) return true;
    if (!world_.dispatcher().prepare_to_sleep(wake_at_ns_)) {
      world_.dispatcher().finish_sleep();
      return true;
    }
    kaasd_asleep_ = true;
    return false;
  }
  // kaasd ends no session of those that keep to the rules.
  void check_sessions() {
    for (; closed_seen_ < world_.closed.size(); ++closed_seen_) {
      const auto& [session, reason] = world_.closed[closed_seen_];
      trace_.add("session " + std::to_string(session) + " is closed: " + name_of(reason.code));
      for (const auto& client : honest_) {
        if (client->client().session() == session) {
          fail("session " + std::to_string(session) + " was closed: " + to_string(reason));
        }
      }
      // clang does not capture structured bindings.
      const auto gone = std::remove_if(
          liars_.begin(), liars_.end(),
          [number = session](const auto& liar) { return liar->client().session() == number; });
      liars_.erase(gone, liars_.end());
    }
  }

  // --- Executors ---------------------------------------------------------------------------------
  bool step_executor(SimExecutor& executor) {
    if (executor.domain() == kLiarUid) return false;
    if (asleep_.count(executor.number()) != 0) {
      pollfd waiting{executor.doorbell().descriptor(), POLLIN, 0};
      const std::vector<std::uint32_t> rung = executor.bells().ringing();
      if (::poll(&waiting, 1, 0) <= 0 && rung.empty()) return false;
      executor.doorbell().clear();
      executor.loop().retract_sleep();
      for (const std::uint32_t lane : rung) executor.loop().bell_rang(lane);
      asleep_.erase(executor.number());
    }
    set_short_batches(random_.one_in(2));
    const StepOutcome outcome = executor.step();
    if (outcome == StepOutcome::Closed) {
      fail("an executor says: " + executor.loop().closed_reason());
    }
    if (outcome == StepOutcome::Progress) return true;
    if (executor.loop().has_backlog()) return true;
    if (executor.loop().announce_sleep()) {
      asleep_.insert(executor.number());
      return false;
    }
    executor.loop().retract_sleep();
    return true;
  }
  void end_executor(std::uint32_t number, const char* why) {
    trace_.add("executor " + std::to_string(number) + " ends: " + why);
    if (world_.executors().at(number)->domain() != kLiarUid) ++faults_.executor_deaths;
    asleep_.erase(number);
    wake_kaasd();
    world_.end_executor(number, why);
  }
  bool start_wanted(bool may_refuse) {
    if (world_.wanted.empty()) return false;
    const auto [domain, place] = world_.wanted.front();
    world_.wanted.erase(world_.wanted.begin());
    wake_kaasd();
    if (may_refuse && random_.one_in(6)) {
      trace_.add("no executor for " + std::to_string(domain));
      ++faults_.executors_refused;
      world_.dispatcher().executor_failed(domain, place,
                                          {StatusCode::Unavailable, "none can be started"});
      return true;
    }
    SimExecutor& executor = world_.start_executor(domain, place);
    trace_.add("executor " + std::to_string(executor.number()) + " starts");
    return true;
  }
  // Those that kaasd wants to end.
  bool do_chores() {
    for (; killed_seen_ < world_.killed.size(); ++killed_seen_) {
      const auto executor = world_.executors().find(world_.killed[killed_seen_]);
      if (executor == world_.executors().end()) continue;
      if (executor->second->domain() != kLiarUid) fail("kaasd ended an executor that did not lie");
      asleep_.erase(executor->first);
    }
    const bool did = world_.do_chores();
    if (did) wake_kaasd();
    return did;
  }
  SimExecutor* any_executor() {
    auto& executors = world_.executors();
    if (executors.empty()) return nullptr;
    auto chosen = executors.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(executors.size())));
    return chosen->second.get();
  }

  // --- Turns -------------------------------------------------------------------------------------
  void turn() {
    const std::uint64_t choice = random_.below(100);
    if (choice < 30) {
      if (honest_.empty()) return connect_honest();
      HonestClient& client = *honest_[random_.below(honest_.size())];
      for (std::uint64_t n = random_.between(1, 4); n > 0; --n) client.act(world_.now, faults_);
    } else if (choice < 38) {
      if (liars_.empty()) return connect_liar();
      LyingClient& liar = *liars_[random_.below(liars_.size())];
      const std::uint64_t session = liar.client().session();
      trace_.add("liar " + std::to_string(session) + ": " + liar.act());
    } else if (choice < 50) {
      if (honest_.empty()) return;
      HonestClient& client = *honest_[random_.below(honest_.size())];
      fail(client.read(faults_, random_.one_in(2) ? SIZE_MAX : random_.between(1, 3)));
    } else if (choice < 72) {
      step_kaasd(random_.one_in(3));
    } else if (choice < 90) {
      if (SimExecutor* executor = any_executor()) step_executor(*executor);
    } else if (choice < 93) {
      world_.now += random_.below(100'000);
    } else if (choice < 96) {
      do_chores();
      start_wanted(true);
    } else {
      fault();
    }
  }

  void fault() {
    SimExecutor* executor = any_executor();
    switch (random_.below(9)) {
      case 0:
        if (executor != nullptr) end_executor(executor->number(), "signal 9 (Killed)");
        break;
      case 1:
        if (executor == nullptr) break;
        executor->device().fail_launch(random_.between(1, 6));
        faults_.launches_fail = true;
        break;
      case 2:
        if (executor == nullptr) break;
        executor->device().fail_allocation(random_.between(1, 4));
        faults_.device_is_small = true;
        break;
      case 3:
        if (honest_.size() > 1 && random_.one_in(2)) end_honest(random_.below(honest_.size()));
        break;
      case 4:
        if (honest_.size() < kHonestMax) connect_honest();
        break;
      case 5:
        if (liars_.size() < kLiarsMax) connect_liar();
        break;
      case 6:
        suspend();
        break;
      case 7:
        resume(world_.dispatcher().devices()[any_device()].spec.id);
        break;
      default:
        if (executor == nullptr || executor->domain() != kLiarUid) break;
        // One that was let go has no reader any more.
        if (world_.dispatcher().executors().count(executor->number()) == 0) break;
        trace_.add("executor " + std::to_string(executor->number()) + " reports " +
                   lie(*executor, world_.dispatcher(), random_));
        break;
    }
  }

  std::size_t any_device() { return random_.below(world_.dispatcher().devices().size()); }
  // Nobody may notice but by waiting. Liars' requests may never end.
  void suspend() {
    wake_kaasd();
    const std::string id =
        random_.one_in(4) ? "all" : world_.dispatcher().devices()[any_device()].spec.id;
    const bool force = random_.one_in(2);
    trace_.add("suspend " + id);
    world_.dispatcher().suspend_devices(id, random_.below(300'000), force, [this](auto places) {
      trace_.add(places.has_value() ? "suspended" : "not suspended: " + places.error().message);
      if (places.has_value()) ++result_.suspensions;
    });
  }
  void resume(const std::string& id) {
    wake_kaasd();
    trace_.add("resume " + id);
    if (!world_.dispatcher().resume_devices(id).has_value()) fail("no device " + id);
  }

  // No more faults: everybody who is alive and honest gets all answers, woken by nothing but the
  // doorbells and words.
  void finish() {
    trace_.add("finish");
    resume("all");
    for (auto& liar : liars_) liar->client().hang_up();
    std::vector<std::uint32_t> lying;
    for (auto& [number, executor] : world_.executors()) {
      if (executor->domain() == kLiarUid) lying.push_back(number);
    }
    for (const std::uint32_t number : lying) end_executor(number, "it lied");
    run_until_quiet();
    for (const auto& client : honest_) {
      if (failure_.empty() && client->unanswered() != 0) {
        fail("session " + std::to_string(client->client().session()) + ": " +
             std::to_string(client->unanswered()) + " operations are not answered, and all sleep");
      }
      if (failure_.empty()) fail(client->check_arena());
    }
  }

  void run_until_quiet() {
    std::uint64_t turns = 0;
    for (int quiet = 0; quiet < 3 && failure_.empty();) {
      bool busy = do_chores();
      // The liars' work may wait for ever: nobody starts an executor for them any more.
      std::erase_if(world_.wanted, [](const auto& one) { return one.domain == kLiarUid; });
      busy = start_wanted(false) || busy;
      busy = step_kaasd(true) || busy;
      for (auto& [number, executor] : world_.executors()) busy = step_executor(*executor) || busy;
      for (auto& client : honest_) {
        const std::uint64_t before = client->counts().ok + client->counts().failed;
        fail(client->read(faults_, SIZE_MAX));
        busy = client->counts().ok + client->counts().failed != before || busy;
      }
      if (!busy && kaasd_asleep_ && wake_at_ns_ > world_.now) {
        world_.now = wake_at_ns_;
        busy = true;
      }
      quiet = busy ? 0 : quiet + 1;
      if (++turns > kFinishTurnsMax) fail("it does not come to rest");
    }
  }

  void close_all() {
    trace_.add("close");
    while (!honest_.empty()) end_honest(0);
    run_until_quiet();
    if (!failure_.empty()) return;
    if (!world_.dispatcher().sessions().empty()) return fail("sessions outlive their clients");
    for (const std::uint32_t uid : {kHonestUids[0], kHonestUids[1], kLiarUid}) {
      for (;;) {
        const ObjectList list = world_.store().list(uid, uid, "", "", 0);
        for (const ObjectInfo& object : list.objects) world_.store().remove(uid, object.key);
        if (!list.more) break;
      }
    }
    wake_kaasd();
    for (int i = 0; i < 4; ++i) run_until_quiet_awake();
    fail(check_nothing_left(world_));
  }
  // What the removal of objects leaves to be told.
  void run_until_quiet_awake() {
    wake_kaasd();
    world_.step();
    run_until_quiet();
  }

  SimulationOptions options_;
  Random random_;
  Trace trace_;
  Faults faults_;
  World world_;
  std::set<std::uint32_t> shared_[2];  // By uid.
  Ticks ticks_[2];                     // By uid.
  std::vector<std::unique_ptr<HonestClient>> honest_;
  std::vector<std::unique_ptr<LyingClient>> liars_;
  std::set<std::uint32_t> asleep_;  // Executors.
  bool kaasd_asleep_ = false;
  std::uint64_t wake_at_ns_ = 0;
  std::size_t closed_seen_ = 0;
  std::size_t killed_seen_ = 0;
  std::string failure_;
  SimulationResult result_;
};

}  // namespace

SimulationResult simulate(const SimulationOptions& options) {
  return Simulation(options).run();
}

}  // namespace kaas
