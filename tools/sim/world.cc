#include "tools/sim/world.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace kaas {
namespace {

constexpr const char* kLibraries[] = {"fake.so", "stateful.so", "missing.so"};

// A folder with empty files of the libraries' names: kaasd looks at the files, the executor's
// libraries have no content.
std::string make_library_folder() {
  std::string folder = (std::filesystem::temp_directory_path() / "kaas-sim-XXXXXX").string();
  KAAS_CHECK(::mkdtemp(folder.data()) != nullptr);
  for (const char* name : kLibraries) {
    const Descriptor file(::open((folder + "/" + name).c_str(), O_CREAT | O_WRONLY, 0644));
    KAAS_CHECK(static_cast<bool>(file));
  }
  return folder;
}

}  // namespace

World::World(const WorldOptions& options) : options_(options), folder_(make_library_folder()) {
  ByteBudget::Options bytes;
  bytes.limit_bytes = options.store_bytes;
  budget_ = std::make_unique<ByteBudget>(std::move(bytes));
  segments_ = std::make_unique<SegmentRegistry>([this](std::uint32_t segment) {
    if (told_ != nullptr) told_->segment_released(segment);
  });
  store_ = std::make_unique<Store>(*budget_, *segments_, [this](std::uint64_t version) {
    if (told_ != nullptr) told_->version_dropped(version);
  });
  DispatcherOptions dispatching;
  dispatching.running_limit_ns = options.running_limit_ns;
  dispatching.runs_per_executor = options.runs_per_executor;
  dispatching.idle_release_ns = options.idle_release_ns;
  dispatching.export_bytes = options.export_bytes;
  for (std::uint32_t device = 0; device < options.devices; ++device) {
    const std::string id = "fake-" + std::to_string(device);
    dispatching.devices.push_back({id, "fake", id, 0});
  }
  dispatching.libraries.search_path = {folder_};
  dispatcher_ = std::make_unique<Dispatcher>(std::move(dispatching), *this, *store_, *segments_,
                                             make_fifo_policy());
  told_ = dispatcher_.get();
}

World::~World() {
  shut_down();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void World::shut_down() {
  executors_.clear();
  told_ = nullptr;
  dispatcher_.reset();
}

bool World::answer_doorbells() {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> rang;
  for (const auto& [descriptor, whose] : watched_) {
    pollfd waiting{descriptor, POLLIN | POLLRDHUP, 0};
    if (::poll(&waiting, 1, 0) > 0) rang.push_back(whose);
  }
  for (const auto& [session, executor] : rang) dispatcher_->doorbell(session, executor);
  return !rang.empty();
}

SegmentRef World::add_arena(Session& session, std::uint64_t bytes) {
  auto reserved = budget_->reserve(bytes, "arena");
  auto descriptor = create_segment("sim-arena", bytes);
  if (!reserved.has_value()) return nullptr;
  KAAS_CHECK(descriptor.has_value());
  Segment segment;
  segment.descriptor = *std::move(descriptor);
  segment.bytes = bytes;
  segment.kind = SegmentKind::Arena;
  segment.writable = true;
  segment.owner_uid = session.uid;
  segment.session = session.id;
  segment.charge = std::make_shared<Reservation>(*std::move(reserved));
  SegmentRef arena = segments_->add(std::move(segment));
  session.segments[arena->id] = arena;
  return arena;
}

SimClient& World::connect(std::uint32_t uid, std::size_t rings) {
  SimClient* client = try_connect(uid, rings);
  KAAS_CHECK(client != nullptr);
  return *client;
}

SimClient* World::try_connect(std::uint32_t uid, std::size_t rings) {
  auto client = std::make_unique<SimClient>(next_session_++, uid, rings, options_.client_rings);
  auto session = client->make_session();
  const SegmentRef arena = add_arena(*session, options_.arena_bytes);
  if (arena == nullptr) return nullptr;
  client->map_arena(arena);
  dispatcher_->add_session(std::move(session));
  clients_.push_back(std::move(client));
  return clients_.back().get();
}

void World::hang_up(SimClient& client) {
  client.hang_up();
  dispatcher_->doorbell(client.session(), 0);
}

SimExecutor& World::start_executor(std::uint32_t domain, std::uint32_t place) {
  unwant_executor(domain, place);
  const std::uint32_t number = next_executor_++;
  std::unique_ptr<ExecutorLink> link;
  auto executor = SimExecutor::create(
      options_.executor,
      {number, domain, place, "fake-" + std::to_string(place - 1), static_cast<int>(number)}, link);
  SimExecutor& started = *(executors_[number] = std::move(executor));
  started.loop().report_ready();
  dispatcher_->executor_up(std::move(link));
  return started;
}

void World::end_executor(std::uint32_t executor, const std::string& cause) {
  executors_.erase(executor);
  dispatcher_->executor_down(executor, cause);
}

SimExecutor* World::executor_at(std::uint32_t place) {
  for (auto& [number, executor] : executors_) {
    if (executor->place() == place) return executor.get();
  }
  return nullptr;
}

void World::unwant_executor(std::uint32_t domain, std::uint32_t place) {
  std::erase_if(wanted, [&](const WantedExecutor& one) {
    return one.domain == domain && one.place == place;
  });
}

void World::release_executor(std::unique_ptr<ExecutorLink> link) {
  released.push_back(link->identity().executor);
  let_go_.push_back(link->identity().executor);
}

SimExecutor& World::executor() {
  KAAS_CHECK(executors_.size() == 1);
  return *executors_.begin()->second;
}

void World::kill_executor(std::uint32_t executor, const std::string& reason) {
  killed.push_back(executor);
  condemned_.emplace_back(executor, reason);
}

bool World::do_chores() {
  bool did = false;
  while (!condemned_.empty()) {
    const auto [executor, reason] = condemned_.front();
    condemned_.pop_front();
    end_executor(executor, reason);
    did = true;
  }
  for (const std::uint32_t executor : let_go_) did = executors_.erase(executor) != 0 || did;
  let_go_.clear();
  if (!options_.start_executors) return did;
  std::vector<WantedExecutor> now_started;
  now_started.swap(wanted);
  for (const WantedExecutor& one : now_started) {
    start_executor(one.domain, one.place);
    did = true;
  }
  return did;
}

void World::settle() {
  for (int quiet = 0; quiet < 2;) {
    bool moved = step() != 0;
    moved = do_chores() || moved;
    for (auto& [number, executor] : executors_) {
      moved = executor->step() == StepOutcome::Progress || moved;
    }
    quiet = moved ? 0 : quiet + 1;
  }
}

}  // namespace kaas
