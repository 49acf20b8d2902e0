// Devices: which executors a domain has, where the state of its libraries is, and devices whose
// memory is given back for a time.
#include <algorithm>

#include "daemon/dispatch/dispatcher.h"

namespace kaas {
namespace {

// Smaller inputs are copied faster than it pays to look for them.
constexpr std::uint64_t kLargeInputBytes = kSlabObjectBytesMax;
// Names kept of one library, as many as an executor may report.
constexpr std::size_t kStatelessKernelsMax = 4096;
constexpr std::size_t kRunsNamed = 3;
constexpr const char* kAllDevices = "all";

std::string listed(const std::vector<DeviceState>& devices) {
  std::string names;
  for (const DeviceState& device : devices) {
    names += (names.empty() ? "" : ", ") + device.spec.id;
  }
  return names;
}

// Of the run's loads and stores, what is in clients' memory on the executor's own GPU.
std::uint64_t device_memory_bytes(const Dispatcher::ExecutorState& executor, const Run& run) {
  std::uint64_t bytes = 0;
  const auto add = [&](const SegmentRef& segment, std::uint64_t used) {
    if (segment == nullptr || !segment->device) return;
    if (segment->device->device == executor.link->identity().device) bytes += used;
  };
  for (const BoundLoad& load : run.bound.loads) add(load.segment, load.available);
  for (const BoundStore& store : run.bound.stores) add(store.segment, store.bytes);
  return bytes;
}

}  // namespace

// --- Executors of a domain -----------------------------------------------------------------------

std::vector<PlaceState>& Dispatcher::places_of(std::uint32_t domain) {
  std::vector<PlaceState>& places = domains_[domain];
  if (places.empty()) places.resize(devices_.size());
  return places;
}

bool Dispatcher::is_active(std::uint32_t place) const {
  return devices_[place - 1].state == DeviceState::State::Active;
}

void Dispatcher::want(std::uint32_t domain, std::uint32_t place_number) {
  PlaceState& place = places_of(domain)[place_number - 1];
  if (place.executor != 0 || place.wanted) return;
  place = PlaceState{};
  place.wanted = true;
  host_.want_executor(domain, place_number);
}

// The domain has work, or soon will: each device gets an executor, but for those that were ended
// because the others do, and those that have failed while others have not.
void Dispatcher::want_executors(std::uint32_t domain) {
  auto& places = places_of(domain);
  bool any = false;
  for (std::uint32_t number = 1; number <= places.size(); ++number) {
    const PlaceState& place = places[number - 1];
    if (!is_active(number)) continue;
    if (!place.failed && !place.idle) want(domain, number);
    any = any || place.executor != 0 || place.wanted;
  }
  if (any) return;
  want_idle(domain);
  for (std::uint32_t number = 1; number <= places.size(); ++number) {
    if (is_active(number) && places[number - 1].failed) want(domain, number);
  }
}

// Starts one executor of those that were ended for want of work.
void Dispatcher::want_idle(std::uint32_t domain) {
  const auto& places = places_of(domain);
  for (std::uint32_t number = 1; number <= places.size(); ++number) {
    if (is_active(number) && places[number - 1].idle) return want(domain, number);
  }
}

// --- The state of libraries ----------------------------------------------------------------------

// Where the run must go because its libraries keep state there, or may: as long as that is not
// known, all who use them go to one device. kAnyPlace: they keep none. What has no home yet gets
// `preferred`, or a good one if that is kAnyPlace.
std::uint32_t Dispatcher::home_of(Run& run, std::uint32_t preferred) {
  PlanInstance& plan = *run.plan;
  if (!has_several_devices() || plan.stateless) return kAnyPlace;
  std::uint32_t home = kAnyPlace;
  std::vector<LibraryState*> homeless;
  bool all_stateless = !plan.stateful;
  for (std::size_t i = 0; i < plan.kernel_library.size(); ++i) {
    const auto& version = plan.libraries[plan.kernel_library[i]];
    LibraryState& library = library_states_[{run.domain, version->id}];
    library.version = version;
    if (library.stateless.count(plan.plan->kernels[i].kernel) != 0) continue;
    all_stateless = false;
    if (library.place == kAnyPlace) homeless.push_back(&library);
    if (home == kAnyPlace) home = library.place;
  }
  plan.stateless = all_stateless;
  if (all_stateless || homeless.empty()) return home;
  if (home == kAnyPlace) home = choose_home(run, preferred);
  for (LibraryState* library : homeless) library->place = home;
  return home;
}

std::uint32_t Dispatcher::choose_home(const Run& run, std::uint32_t preferred) {
  if (preferred != kAnyPlace) return preferred;
  const auto& places = places_of(run.domain);
  std::vector<std::uint32_t> numbers;
  views_.clear();
  // Where an executor is ready; if there is none yet, where one may be some time.
  for (const bool ready : {true, false}) {
    for (std::uint32_t number = 1; number <= places.size() && (ready || views_.empty()); ++number) {
      const PlaceState& place = places[number - 1];
      if (!is_active(number) || place.failed || place.idle) continue;
      const auto found = executors_.find(place.executor);
      const ExecutorState* executor = found == executors_.end() ? nullptr : found->second.get();
      if (ready && (executor == nullptr || !executor->link->ready())) continue;
      numbers.push_back(number);
      if (executor == nullptr) {
        views_.emplace_back();
        continue;
      }
      views_.push_back({static_cast<std::uint32_t>(executor->in_flight.size()),
                        executor->link->knows_plan(run.plan->id),
                        used_input_bytes(*executor, run)});
    }
  }
  return views_.empty() ? kAnyPlace : numbers[choose_place(views_)];
}

// An executor has said whether the kernels of a plan keep state.
void Dispatcher::learn_state(const ExecutorState& executor, PlanInstance& plan, bool stateful) {
  const ExecutorIdentity& identity = executor.link->identity();
  if (stateful) plan.stateful = true;
  if (!has_several_devices() || plan.stateless) return;
  for (std::size_t i = 0; i < plan.kernel_library.size(); ++i) {
    const auto found =
        library_states_.find({identity.domain, plan.libraries[plan.kernel_library[i]]->id});
    if (found == library_states_.end()) continue;
    LibraryState& library = found->second;
    const std::string& kernel = plan.plan->kernels[i].kernel;
    if (!stateful) {
      if (library.stateless.size() < kStatelessKernelsMax) library.stateless.insert(kernel);
    } else if (library.stateless.count(kernel) == 0) {
      library.keeps_state = true;
    }
  }
  if (stateful) return;
  plan.stateless = true;
  requeue_plan(plan.id);
}

// Its queued runs went to one device as long as it was not known whether they keep state.
void Dispatcher::requeue_plan(std::uint32_t plan) {
  if (policy_->waiting() == 0) return;
  std::vector<Run*> queued;
  runs_.for_each([&](Run& run) {
    if (run.plan->id != plan || run.state != Run::State::Queued) return;
    if (policy_->remove(run.number)) queued.push_back(&run);
  });
  std::sort(queued.begin(), queued.end(),
            [](const Run* a, const Run* b) { return a->number < b->number; });
  for (Run* run : queued) {
    run->state = Run::State::Waiting;
    enqueue_if_ready(*run);
  }
}

// What was kept in an executor is gone with it.
void Dispatcher::forget_state(std::uint32_t domain, std::uint32_t place) {
  for (auto& [key, library] : library_states_) {
    if (key.first != domain || library.place != place) continue;
    library.place = kAnyPlace;
    library.keeps_state = false;
  }
}

void Dispatcher::forget_unused_libraries() {
  std::erase_if(library_states_, [](const auto& entry) { return entry.second.version.expired(); });
}

std::size_t Dispatcher::libraries_with_state(std::uint32_t place) const {
  return static_cast<std::size_t>(std::count_if(
      library_states_.begin(), library_states_.end(),
      [&](const auto& entry) { return entry.second.place == place && entry.second.keeps_state; }));
}

// --- Inputs --------------------------------------------------------------------------------------

// The executor's device has, or will have, a copy of these.
void Dispatcher::remember_use(ExecutorState& executor, const Run& run) {
  for (const BoundLoad& load : run.bound.loads) {
    if (load.version != nullptr && load.available > kLargeInputBytes) {
      executor.used_versions.insert(load.version->id());
    }
  }
  for (const BoundStore& store : run.bound.stores) {
    if (store.kind == BoundStore::Kind::Version && store.bytes > kLargeInputBytes) {
      executor.used_versions.insert(store.version->id());
    }
  }
}

std::uint64_t Dispatcher::used_input_bytes(const ExecutorState& executor, const Run& run) {
  std::uint64_t bytes = run.bound.device_memory ? device_memory_bytes(executor, run) : 0;
  if (executor.used_versions.empty()) return bytes;
  for (const BoundLoad& load : run.bound.loads) {
    if (load.version != nullptr && executor.used_versions.count(load.version->id()) != 0) {
      bytes += load.available;
    }
  }
  return bytes;
}

// --- Devices that are given back -----------------------------------------------------------------

// An id, the beginning of one, or "all".
Result<std::vector<std::uint32_t>> Dispatcher::find_places(std::string_view name) const {
  std::vector<std::uint32_t> places;
  for (std::uint32_t number = 1; number <= devices_.size(); ++number) {
    const std::string& id = devices_[number - 1].spec.id;
    if (id == name) return std::vector{number};
    if (name == kAllDevices || (!name.empty() && id.starts_with(name))) places.push_back(number);
  }
  if (!places.empty() && (places.size() == 1 || name == kAllDevices)) return places;
  return Status{StatusCode::NotFound,
                "device is '" + std::string(name.substr(0, kNameBytesMax)) + "', which names " +
                    (places.empty() ? "none" : std::to_string(places.size())) +
                    " of the daemon's devices; there are " + listed(devices_) +
                    "; allowed an id, what only one id begins with, or all"};
}

void Dispatcher::suspend_devices(std::string_view name, std::uint64_t within_ns, bool force,
                                 Suspended done) {
  auto found = find_places(name);
  if (!found.has_value()) return done(found.error());
  std::size_t states = 0;
  for (const std::uint32_t place : *found) {
    states += libraries_with_state(place);
    if (devices_[place - 1].state != DeviceState::State::Suspending) continue;
    return done(Status{StatusCode::AlreadyExists,
                       "device " + devices_[place - 1].spec.id + " is being suspended already"});
  }
  if (states != 0 && !force) {
    return done(Status{StatusCode::InvalidArgument,
                       "force is false, and the state of " + std::to_string(states) +
                           " libraries, which is only on the device, would be lost"});
  }
  const std::string exports = exports_on(*found);
  if (!exports.empty() && !force) {
    return done(Status{StatusCode::InvalidArgument,
                       "force is false, and the device's memory has " + exports});
  }
  std::vector<std::uint32_t> active = *found;
  std::erase_if(active, [&](std::uint32_t place) { return !is_active(place); });
  begin_suspension(active);
  const auto answer = [all = *std::move(found), done = std::move(done)](const Result<void>& end) {
    done(end.has_value() ? Result<std::vector<std::uint32_t>>(all) : end.error());
  };
  suspensions_.push_back({std::move(active), within_ns, step_ns_ + within_ns, answer});
  check_suspensions();
}

// Nothing new goes there.
void Dispatcher::begin_suspension(const std::vector<std::uint32_t>& places) {
  for (const std::uint32_t number : places) {
    devices_[number - 1].state = DeviceState::State::Suspending;
    for (auto& [domain, states] : domains_) {
      PlaceState& place = states[number - 1];
      if (place.wanted) host_.unwant_executor(domain, number);
      place.given_back = place.given_back || place.wanted;
      place.wanted = false;
    }
    for (auto& [id, executor] : executors_) {
      if (executor->link->identity().place != number) continue;
      take_back_held(*executor);
      end_lanes_of_executor(id, {StatusCode::Unavailable, "the device is being suspended"});
    }
  }
  requeue_all();
  fail_exports(
      Status{StatusCode::Unavailable, "the device is being suspended"}, [&](const Export& one) {
        const auto place =
            export_place(one.place == kAnyPlace ? std::string() : devices_[one.place - 1].spec.id);
        return !place.has_value();
      });
}

void Dispatcher::take_back_held(ExecutorState& executor) {
  if (executor.held_back == nullptr) return;
  executor.held_back->state = Run::State::Waiting;
  executor.held_back = nullptr;
}

void Dispatcher::requeue_all() {
  for (const auto& [domain, places] : domains_) requeue_domain(domain);
}

// Ends suspensions of which nothing runs any more, or whose time is up.
void Dispatcher::check_suspensions() {
  for (std::size_t i = 0; i < suspensions_.size();) {
    const bool finished = finish_suspension(suspensions_[i]);
    if (!finished && suspensions_[i].deadline_ns > step_ns_) {
      ++i;
      continue;
    }
    Suspension suspension = std::move(suspensions_[i]);
    suspensions_.erase(suspensions_.begin() + static_cast<std::ptrdiff_t>(i));
    if (finished) {
      requeue_all();
      suspension.done({});
      continue;
    }
    const Status cause{StatusCode::DeadlineExceeded,
                       "the device still runs " + what_runs_on(suspension.places) + " after " +
                           std::to_string(suspension.within_ns / 1'000'000) +
                           " ms; it goes on as before. executor.running_limit_ms ends what hangs, "
                           "and can be set while kaasd runs"};
    refuse_suspension(std::move(suspension), cause);
  }
}

// False: something runs there, or is there only and on its way to the host.
bool Dispatcher::finish_suspension(const Suspension& suspension) {
  const auto concerns = [&](const ExecutorState& executor) {
    const auto& places = suspension.places;
    return std::find(places.begin(), places.end(), executor.link->identity().place) != places.end();
  };
  std::vector<std::uint32_t> executors;
  bool all_are_written_back = true;
  for (const auto& [id, executor] : executors_) {
    if (!concerns(*executor)) continue;
    if (!executor->in_flight.empty() || has_lanes(id) || exports_in_flight(id) != 0) return false;
    if (!write_back(*executor)) all_are_written_back = false;
    executors.push_back(id);
  }
  if (!all_are_written_back) return false;
  for (const std::uint32_t place : suspension.places) {
    devices_[place - 1].state = DeviceState::State::Suspended;
    for (const auto& [domain, places] : domains_) forget_state(domain, place);
  }
  for (const std::uint32_t id : executors) {
    const ExecutorIdentity identity = executors_.at(id)->link->identity();
    release(id);
    places_of(identity.domain)[identity.place - 1].given_back = true;
  }
  return true;
}

void Dispatcher::refuse_suspension(Suspension suspension, const Status& cause) {
  for (const std::uint32_t place : suspension.places) {
    devices_[place - 1].state = DeviceState::State::Active;
  }
  for (auto& [domain, places] : domains_) {
    for (const std::uint32_t number : suspension.places) {
      if (places[number - 1].given_back) want(domain, number);
    }
  }
  requeue_all();
  pump_due_ = true;
  suspension.done(cause);
}

// "2 requests (3.0.17, 4.0.2) and 1 export", as kaasctl names them.
std::string Dispatcher::what_runs_on(const std::vector<std::uint32_t>& places) const {
  std::size_t count = 0;
  std::size_t residents = 0;
  std::size_t copies = 0;
  std::string names;
  for (const auto& [id, executor] : executors_) {
    const std::uint32_t place = executor->link->identity().place;
    if (std::find(places.begin(), places.end(), place) == places.end()) continue;
    residents += executor->residents.size();
    copies += exports_in_flight(id);
    for (const Run* run : executor->in_flight) {
      if (++count > kRunsNamed) continue;
      names += (names.empty() ? "" : ", ") + std::to_string(run->session_id) + "." +
               std::to_string(run->ring) + "." + std::to_string(run->id);
    }
  }
  if (count > kRunsNamed) names += ", ...";
  std::string text;
  if (count != 0 || copies == 0) {
    text = std::to_string(count) + (count == 1 ? " request (" : " requests (") + names + ")";
  }
  if (copies != 0) {
    text += (text.empty() ? "" : " and ") + std::to_string(copies) +
            (copies == 1 ? " export" : " exports");
  }
  if (residents != 0) text += ", and " + std::to_string(residents) + " objects are there only,";
  const auto lanes = std::count_if(lanes_.begin(), lanes_.end(), [&](const auto& entry) {
    const auto executor = executors_.find(entry.second->executor);
    return executor != executors_.end() &&
           std::count(places.begin(), places.end(), executor->second->link->identity().place) != 0;
  });
  if (lanes != 0) {
    text += " and what went by " + std::to_string(lanes) + (lanes == 1 ? " lane" : " lanes");
  }
  return text;
}

Result<std::vector<std::uint32_t>> Dispatcher::resume_devices(std::string_view name) {
  KAAS_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> found, find_places(name));
  // Who waits for the suspension of one of them hears that it does not come.
  for (std::size_t i = 0; i < suspensions_.size();) {
    const auto& places = suspensions_[i].places;
    const bool concerned = std::find_first_of(places.begin(), places.end(), found.begin(),
                                              found.end()) != places.end();
    if (!concerned) {
      ++i;
      continue;
    }
    Suspension suspension = std::move(suspensions_[i]);
    suspensions_.erase(suspensions_.begin() + static_cast<std::ptrdiff_t>(i));
    refuse_suspension(std::move(suspension),
                      Status{StatusCode::Cancelled, "the device was resumed meanwhile"});
  }
  for (const std::uint32_t place : found) {
    devices_[place - 1].state = DeviceState::State::Active;
    for (auto& [domain, places] : domains_) {
      if (places[place - 1].given_back) want(domain, place);
    }
  }
  requeue_all();
  return found;
}

// Whether nobody would notice its end, but by the time that it takes to start another one; once
// what only its device has is on the host.
bool Dispatcher::is_idle(const ExecutorState& executor) const {
  const ExecutorIdentity& identity = executor.link->identity();
  const auto keeps_state = [&](const auto& entry) {
    return entry.first.first == identity.domain && entry.second.place == identity.place &&
           entry.second.keeps_state;
  };
  return executor.link->ready() && !executor.condemned && executor.in_flight.empty() &&
         executor.held_back == nullptr && executor.fetches.empty() &&
         exports_in_flight(identity.executor) == 0 &&
         std::none_of(library_states_.begin(), library_states_.end(), keeps_state);
}

// Ends executors that have had no work for the time that the operator gave, when what only their
// device has is on the host.
void Dispatcher::release_idle() {
  std::vector<std::uint32_t> idle;
  std::vector<std::uint32_t> with_lanes;
  for (const auto& [id, executor] : executors_) {
    if (executor->idle_since_ns + options_.idle_release_ns > step_ns_ || !is_idle(*executor) ||
        !write_back(*executor)) {
      continue;
    }
    if (!has_lanes(id)) {
      idle.push_back(id);
    } else {
      with_lanes.push_back(id);
    }
  }
  for (const std::uint32_t id : with_lanes) {
    end_lanes_of_executor(id, {StatusCode::Unavailable, "nobody has used the device"});
  }
  for (const std::uint32_t id : idle) {
    const ExecutorIdentity identity = executors_.at(id)->link->identity();
    release(id);
    places_of(identity.domain)[identity.place - 1].idle = true;
  }
}

// Lets go of an executor that has nothing to do. The link ends with the supervisor, who must know
// before the process does that it is to end.
void Dispatcher::release(std::uint32_t id) {
  const auto found = executors_.find(id);
  const std::unique_ptr<ExecutorState> executor = std::move(found->second);
  executors_.erase(found);
  const ExecutorIdentity identity = executor->link->identity();
  host_.unwatch(executor->link->doorbell_descriptor());
  places_of(identity.domain)[identity.place - 1] = PlaceState{};
  forget_state(identity.domain, identity.place);
  host_.release_executor(std::move(executor->link));
}

}  // namespace kaas
