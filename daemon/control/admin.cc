#include "daemon/control/admin.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "schema/ipc/clock.h"

namespace kaas {
namespace {

using nlohmann::json;

// Texts may hold what a kernel printed: bytes that are not UTF-8 are replaced.
std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json counters_json(const wire::Counters& counters) {
  return {{"device_hits", counters.device_hits()},
          {"device_misses", counters.device_misses()},
          {"host_to_device_bytes", counters.host_to_device_bytes()},
          {"device_to_host_bytes", counters.device_to_host_bytes()},
          {"evictions", counters.evictions()},
          {"evicted_bytes", counters.evicted_bytes()},
          {"kernel_hits", counters.kernel_hits()},
          {"kernel_misses", counters.kernel_misses()},
          {"launches", counters.launches()},
          {"iterations", counters.iterations()}};
}

const char* state_name(Run::State state) {
  switch (state) {
    case Run::State::Waiting:
      return "waiting";
    case Run::State::Queued:
      return "queued";
    case Run::State::InFlight:
      return "running";
  }
  return "unknown";
}

json executors_json(Dispatcher& dispatcher, const DaemonFacts& facts, const Caller& caller) {
  json executors = json::array();
  dispatcher.count_lanes();
  for (const auto& [id, executor] : dispatcher.executors()) {
    const ExecutorIdentity& identity = executor->link->identity();
    if (!caller.may_see_domain(identity.domain)) continue;
    const auto known = facts.executors.find({identity.domain, identity.place});
    executors.push_back({{"executor", id},
                         {"device", identity.device},
                         {"domain", identity.domain},
                         {"pid", identity.pid},
                         {"state", executor->link->ready() ? "ready" : "starting"},
                         {"confinement", executor->confinement},
                         {"in_flight", executor->in_flight.size()},
                         {"finished", executor->finished},
                         {"resident_objects", executor->residents.size()},
                         {"restarts", known == facts.executors.end() ? 0 : known->second.restarts},
                         {"device_used_bytes", executor->used_bytes},
                         {"device_limit_bytes", executor->limit_bytes},
                         {"counters", counters_json(executor->counters)}});
  }
  return executors;
}

// A device as the caller's domains see it.
struct DeviceView {
  std::string name;
  bool is_ready = false;
  bool is_starting = false;
  std::string failure;
  std::uint64_t used_bytes = 0;
  std::uint64_t limit_bytes = 0;
  std::size_t in_flight = 0;
  std::size_t executors = 0;
  std::uint64_t exported_bytes = 0;  // In use by clients, whether or not there is an executor.
};

DeviceView view_device(Dispatcher& dispatcher, std::uint32_t place, const DaemonFacts& facts,
                       const Caller& caller) {
  DeviceView view;
  view.name = dispatcher.devices()[place - 1].spec.name;
  for (const auto& [id, executor] : dispatcher.executors()) {
    const ExecutorIdentity& identity = executor->link->identity();
    if (identity.place != place || !caller.may_see_domain(identity.domain)) continue;
    ++view.executors;
    if (!executor->device_name.empty()) view.name = executor->device_name;
    (executor->link->ready() ? view.is_ready : view.is_starting) = true;
    view.used_bytes += executor->used_bytes;
    view.limit_bytes = std::max(view.limit_bytes, executor->device_bytes);
    view.in_flight += executor->in_flight.size();
  }
  for (const auto& [id, session] : dispatcher.sessions()) {
    if (caller.may_see(session->uid)) view.exported_bytes += export_usage(*session, place).bytes;
  }
  for (const auto& [domain, places] : dispatcher.domains()) {
    if (caller.may_see_domain(domain) && places[place - 1].wanted) view.is_starting = true;
  }
  for (const auto& [key, executor] : facts.executors) {
    if (key.second == place && caller.may_see_domain(key.first) && !executor.failure.empty()) {
      view.failure = executor.failure;
    }
  }
  return view;
}

const char* device_state(const DeviceState& device, const DeviceView& view) {
  if (device.state == DeviceState::State::Suspended) return "suspended";
  if (device.state == DeviceState::State::Suspending) return "suspending";
  if (view.is_ready) return "ready";
  if (!view.failure.empty()) return "failed";
  return view.is_starting ? "starting" : "idle";
}

json devices_json(Dispatcher& dispatcher, const DaemonFacts& facts, const Caller& caller) {
  json devices = json::array();
  for (std::uint32_t place = 1; place <= dispatcher.devices().size(); ++place) {
    const DeviceState& device = dispatcher.devices()[place - 1];
    const DeviceView view = view_device(dispatcher, place, facts, caller);
    devices.push_back({{"id", device.spec.id},
                       {"name", view.name},
                       {"state", device_state(device, view)},
                       {"cause", view.failure},
                       {"used_bytes", view.used_bytes},
                       {"limit_bytes", view.limit_bytes},
                       {"exported_bytes", view.exported_bytes},
                       {"in_flight", view.in_flight},
                       {"executors", view.executors}});
  }
  return devices;
}

// The truth about all: with every device suspended no kernel runs, whatever executors are well.
void correct_health(const Dispatcher& dispatcher, json& status) {
  const auto& devices = dispatcher.devices();
  const bool all_suspended = std::all_of(
      devices.begin(), devices.end(),
      [](const DeviceState& device) { return device.state == DeviceState::State::Suspended; });
  if (!all_suspended) return;
  status["health"] = "degraded";
  status["health_reason"] = "every device is suspended: requests wait until one is resumed";
}

json under_way_json(const Session& session, std::uint64_t now) {
  json runs = json::array();
  for (const auto& ring : session.rings) {
    for (const Run* run : ring->runs) {
      runs.push_back({{"ring", run->ring},
                      {"id", run->id},
                      {"state", state_name(run->state)},
                      {"tag", run->options.tag},
                      {"executor", run->executor},
                      {"age_ms", (now - run->accepted_ns) / 1'000'000}});
    }
  }
  return runs;
}

}  // namespace

std::string status_json(Dispatcher& dispatcher, ByteBudget& budget, const DaemonFacts& facts,
                        const Caller& caller) {
  const StoreUsage usage =
      caller.is_operator ? dispatcher.store().usage() : dispatcher.store().usage(caller.uid);
  const ByteBudget::Limit limit = budget.limit();
  json status = {
      {"version", facts.version},
      {"epoch", facts.epoch},
      {"pid", ::getpid()},
      {"uid", ::geteuid()},
      {"socket", facts.socket},
      {"uptime_s", static_cast<double>(now_ns() - facts.started_ns) / 1e9},
      {"health", facts.health},
      {"health_reason", facts.health_reason},
      {"sessions", dispatcher.sessions().size()},
      {"requests_under_way", dispatcher.runs().size()},
      {"queued", dispatcher.policy().waiting()},
      {"devices", devices_json(dispatcher, facts, caller)},
      {"executors", executors_json(dispatcher, facts, caller)},
      {"store",
       {{"objects", usage.objects},
        {"object_bytes", usage.object_bytes},
        {"versions", usage.versions},
        {"version_bytes", usage.version_bytes},
        {"slab_bytes", dispatcher.store().slab_usage().charged_bytes}}},
      {"memory",
       {{"used_bytes", budget.used_bytes()}, {"limit_bytes", limit.bytes}, {"bound", limit.bound}}},
      {"functions", dispatcher.functions().list(caller.uid).size()},
      {"libraries", dispatcher.instances().libraries().size()},
      {"arenas_ready", facts.arenas_ready},
  };
  correct_health(dispatcher, status);
  if (!facts.config_json.empty()) status["config"] = json::parse(facts.config_json);
  return dump(status);
}

std::string clients_json(Dispatcher& dispatcher, const Caller& caller, std::uint64_t now) {
  json clients = json::array();
  dispatcher.count_lanes();
  for (const auto& [id, session] : dispatcher.sessions()) {
    if (!caller.may_see(session->uid)) continue;
    std::uint64_t segment_bytes = 0;
    for (const auto& [number, segment] : session->segments) {
      if (segment->kind != SegmentKind::Device) segment_bytes += segment->bytes;
    }
    const ExportUsage exports = export_usage(*session);
    clients.push_back({{"session", id},
                       {"uid", session->uid},
                       {"pid", session->pid},
                       {"name", session->name},
                       {"rings", session->rings.size()},
                       {"lanes", dispatcher.lanes_of(id)},
                       {"connected_s", static_cast<double>(now - session->connected_ns) / 1e9},
                       {"requests", session->counters.requests},
                       {"failed", session->counters.failed},
                       {"puts", session->counters.puts},
                       {"gets", session->counters.gets},
                       {"segments", session->segments.size()},
                       {"segment_bytes", segment_bytes},
                       {"device_memory", session->device_memory.size()},
                       {"exports", exports.count},
                       {"exported_bytes", exports.bytes},
                       {"under_way", under_way_json(*session, now)}});
  }
  return dump({{"clients", std::move(clients)}});
}

std::string functions_json(Dispatcher& dispatcher, const Caller& caller) {
  json functions = json::array();
  for (const FunctionInfo& function : dispatcher.functions().list(caller.uid)) {
    json versions = json::array();
    for (const auto& version : function.versions) {
      versions.push_back({{"version", version.version},
                          {"kernels", version.kernels},
                          {"parameters", version.parameters},
                          {"inputs", version.inputs},
                          {"outputs", version.outputs}});
    }
    functions.push_back({{"name", function.name},
                         {"owner_uid", function.owner_uid},
                         {"current_version", function.current_version},
                         {"versions", std::move(versions)}});
  }
  return dump({{"functions", std::move(functions)}});
}

std::string libraries_json(Dispatcher& dispatcher, const Caller& caller) {
  json libraries = json::array();
  for (const auto& [id, library] : dispatcher.instances().libraries()) {
    if (!caller.may_see(library.uid)) continue;
    libraries.push_back({{"library", id},
                         {"path", library.version->path},
                         {"name", library.name},
                         {"kernels", library.kernels},
                         {"bytes", library.version->file_bytes},
                         {"mtime_ns", library.version->mtime_ns},
                         {"error", library.error}});
  }
  return dump({{"libraries", std::move(libraries)}});
}

std::string logs_json(const LogBook& log, const Caller& caller, std::uint64_t after,
                      std::size_t limit) {
  json lines = json::array();
  std::uint64_t next = after;
  for (const LogLine& line : log.lines(after, limit)) {
    next = line.sequence;
    if (!caller.is_operator && !(line.of_kernel && line.uid == caller.uid)) continue;
    lines.push_back({{"sequence", line.sequence},
                     {"time", static_cast<double>(line.time_ns) / 1e9},
                     {"level", line.level},
                     {"text", line.text},
                     {"session", line.session},
                     {"request", line.request}});
  }
  return dump({{"lines", std::move(lines)}, {"next", next}});
}

static const char* name_of(wire::ObjectPlace place) {
  switch (place) {
    case wire::ObjectPlace::Host:
      break;
    case wire::ObjectPlace::Device:
      return "device";
    case wire::ObjectPlace::Lost:
      return "lost";
  }
  return "host";
}

std::string list_json(const ObjectList& list) {
  json objects = json::array();
  for (const ObjectInfo& object : list.objects) {
    json shown = {{"key", object.key},         {"owner_uid", object.owner_uid},
                  {"version", object.version}, {"bytes", object.bytes},
                  {"shared", object.shared},   {"place", name_of(object.place)}};
    if (!object.device.empty()) shown["device"] = object.device;
    objects.push_back(std::move(shown));
  }
  return dump({{"objects", std::move(objects)}, {"more", list.more}});
}

}  // namespace kaas
