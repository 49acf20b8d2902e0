#include "tools/sim/checks.h"

#include <algorithm>

namespace kaas {
namespace {

bool has(const std::vector<Run*>& runs, const Run* run) {
  return std::find(runs.begin(), runs.end(), run) != runs.end();
}

bool ascend(const std::vector<Run*>& runs) {
  return std::is_sorted(runs.begin(), runs.end(),
                        [](const Run* a, const Run* b) { return a->number < b->number; });
}

std::string name(const Run& run) {
  return "run " + std::to_string(run.number & (RunTable::kRunsMax - 1)) + " (session " +
         std::to_string(run.session_id) + " id " + std::to_string(run.id) + ")";
}

std::string check_run(const Run& run, const Dispatcher& dispatcher) {
  for (const Run* earlier : run.depends_on) {
    if (dispatcher.runs().find(earlier->number) != earlier) {
      return name(run) + " waits for a run that is gone";
    }
    if (!has(earlier->dependents, &run)) return name(run) + " is not known to " + name(*earlier);
  }
  for (const Run* later : run.dependents) {
    if (dispatcher.runs().find(later->number) != later) {
      return name(run) + " is waited for by a run that is gone";
    }
    if (!has(later->depends_on, &run)) return name(*later) + " does not wait for " + name(run);
  }
  if (!ascend(run.depends_on) || !ascend(run.dependents)) return name(run) + " has unsorted runs";
  if (run.state == Run::State::InFlight) {
    const auto executor = dispatcher.executors().find(run.executor);
    if (executor == dispatcher.executors().end() || !has(executor->second->in_flight, &run)) {
      return name(run) + " is in flight nowhere";
    }
    for (const Run* earlier : run.depends_on) {
      if (earlier->executor != run.executor) {
        return name(run) + " waits for " + name(*earlier) + ", which is not on its executor";
      }
    }
  } else if (!run.outbox_offsets.empty()) {
    return name(run) + " holds a part of an outbox and is not in flight";
  }
  return {};
}

std::string check_executor(const Dispatcher::ExecutorState& state) {
  std::uint64_t leased = 0;
  for (const Run* run : state.in_flight) {
    if (run->state != Run::State::InFlight || run->executor != state.link->identity().executor) {
      return name(*run) + " is listed in flight and is not";
    }
    if (run->strikes > 0 && state.in_flight.size() > 1) {
      return name(*run) + " killed an executor once and is not alone";
    }
    for (std::size_t i = 0; i < run->outbox_offsets.size(); ++i) {
      if (run->outbox_offsets[i] == kNoOutbox) continue;
      leased += Outbox::padded(std::max<std::uint64_t>(run->bound.stores[i].bytes, 1));
    }
  }
  const std::uint32_t number = state.link->identity().executor;
  const auto is_here = [&](const VersionRef& version) {
    return version->state() == ObjectVersion::State::Resident && version->executor() == number;
  };
  for (const auto& [id, resident] : state.residents) {
    const VersionRef version = resident.lock();
    if (version != nullptr && !is_here(version)) {
      return "version " + std::to_string(id) + " is listed on a device and is not there";
    }
  }
  for (const auto& [id, fetching] : state.fetches) {
    if (!is_here(fetching.version) || state.residents.count(id) == 0) {
      return "version " + std::to_string(id) + " is fetched from where it is not";
    }
  }
  if (leased != state.link->outbox().leased_bytes()) {
    return "an outbox has " + std::to_string(state.link->outbox().leased_bytes()) +
           " bytes leased, the runs in flight hold " + std::to_string(leased);
  }
  return {};
}

std::string check_devices(const Dispatcher& dispatcher) {
  const auto& devices = dispatcher.devices();
  for (const auto& [domain, places] : dispatcher.domains()) {
    for (std::size_t i = 0; i < places.size(); ++i) {
      const bool is_there = places[i].executor != 0;
      if (is_there && dispatcher.executors().count(places[i].executor) == 0) {
        return "the executor of a place is gone";
      }
      if (devices[i].state == DeviceState::State::Suspended && (is_there || places[i].wanted)) {
        return "device " + devices[i].spec.id + " is suspended and has an executor";
      }
    }
  }
  for (const auto& [number, state] : dispatcher.executors()) {
    const ExecutorIdentity& identity = state->link->identity();
    if (dispatcher.domains().at(identity.domain)[identity.place - 1].executor != number) {
      return "executor " + std::to_string(number) + " is not where its place says";
    }
  }
  return {};
}

std::string check_ring(const RingState& ring, const Dispatcher& dispatcher) {
  if (ring.stalled_on != 0 && ring.stalled_message.empty()) return "a ring stalls on nothing";
  if (ring.runs.empty() && !ring.accesses.empty()) return "a ring without runs knows accesses";
  for (const auto& [key, writes] : ring.pending) {
    const Run* run = dispatcher.runs().find(writes.latest.run);
    if (run == nullptr || !has(ring.runs, run)) return "key '" + key + "' is pending on no run";
  }
  for (const Run* run : ring.runs) {
    if (dispatcher.runs().find(run->number) != run) return "a ring lists a run that is gone";
  }
  return {};
}

std::string check_lane(const Lane& lane, const Dispatcher& dispatcher) {
  const std::string name = "lane " + std::to_string(lane.id);
  if (dispatcher.executors().count(lane.executor) == 0) return name + " has no executor";
  if (lane.reason && !lane.announced) return name + " ends, and nobody will say that it has";
  std::size_t adding = 0;
  dispatcher.runs().for_each([&](const Run& run) {
    const bool is_sent = run.kind == Run::Kind::LaneCall && run.state == Run::State::InFlight;
    if (is_sent && run.lane == lane.id) ++adding;
  });
  if (adding != lane.adding) {
    return name + " waits for " + std::to_string(lane.adding) + " calls, under way are " +
           std::to_string(adding);
  }
  const auto session = dispatcher.sessions().find(lane.session);
  if (session == dispatcher.sessions().end()) return lane.reason ? "" : name + " has no client";
  return session->second->rings[lane.ring]->lane == lane.id ? "" : name + " is not its ring's";
}

}  // namespace

std::string check_state(World& world) {
  const Dispatcher& dispatcher = world.dispatcher();
  std::string fault;
  std::size_t queued = 0;
  std::size_t held = 0;
  dispatcher.runs().for_each([&](const Run& run) {
    if (fault.empty()) fault = check_run(run, dispatcher);
    if (run.state != Run::State::Queued) return;
    ++queued;
    if (run.place != kAnyPlace &&
        dispatcher.devices()[run.place - 1].state != DeviceState::State::Active) {
      fault = name(run) + " is queued for a device that takes nothing";
    }
  });
  if (fault.empty()) fault = check_devices(dispatcher);
  for (const auto& [number, state] : dispatcher.executors()) {
    if (fault.empty()) fault = check_executor(*state);
    if (state->held_back != nullptr) ++held;
  }
  if (fault.empty() && queued != dispatcher.policy().waiting() + held) {
    fault = std::to_string(queued) + " runs are queued, the policy has " +
            std::to_string(dispatcher.policy().waiting()) + ", held back are " +
            std::to_string(held);
  }
  for (const auto& [number, lane] : dispatcher.lanes()) {
    if (fault.empty()) fault = check_lane(*lane, dispatcher);
  }
  for (const auto& [number, session] : dispatcher.sessions()) {
    for (const auto& ring : session->rings) {
      if (fault.empty()) fault = check_ring(*ring, dispatcher);
      if (fault.empty() && ring->lane != 0 && dispatcher.lanes().count(ring->lane) == 0) {
        fault = "a ring has a lane that is gone";
      }
    }
  }
  return fault;
}

std::string check_nothing_left(World& world) {
  const auto left = [](const char* what, std::uint64_t count) {
    return count == 0 ? std::string() : std::to_string(count) + " " + what + " are left";
  };
  std::string fault = left("runs", world.dispatcher().runs().size());
  for (const auto& [number, state] : world.dispatcher().executors()) {
    if (fault.empty()) fault = left("listed residents", state->residents.size());
    if (fault.empty()) fault = left("fetches", state->fetches.size());
  }
  if (fault.empty()) fault = left("lanes", world.dispatcher().lanes().size());
  if (fault.empty()) fault = left("waiting runs", world.dispatcher().policy().waiting());
  if (fault.empty()) fault = left("exports under way", world.dispatcher().exports().size());
  for (auto& [number, executor] : world.executors()) {
    const std::size_t attached = executor->loop().attached_segments();
    const std::size_t alive = world.segments().alive();
    if (fault.empty() && attached > alive + 1) {
      fault = "an executor has " + std::to_string(attached) + " segments, alive are " +
              std::to_string(alive) + " and its outbox";
    }
    if (fault.empty()) fault = left("lanes of an executor", executor->loop().open_lanes());
    if (fault.empty()) fault = left("runs of an executor", executor->loop().unfinished_runs());
    if (fault.empty()) fault = left("exports of a device", executor->device().exports());
    if (fault.empty()) {
      fault = left("resident versions", executor->loop().cache().figures().residents);
    }
  }
  world.shut_down();
  if (fault.empty()) fault = left("versions", world.store().usage().versions);
  if (fault.empty()) fault = left("segments", world.segments().alive());
  if (fault.empty()) fault = left("bytes of the budget", world.budget().used_bytes());
  return fault;
}

}  // namespace kaas
