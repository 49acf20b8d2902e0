// Exports: an object's bytes as device memory of a client, which is its own from then on. The copy
// is never cache and never another object's: what a client can write, nobody else reads.
#include "daemon/dispatch/exports.h"

#include <algorithm>

#include "daemon/dispatch/dispatcher.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

constexpr const char* kInsteadOfExport = "; a get brings the bytes to host memory";

std::uint64_t whole_granules(std::uint64_t bytes) {
  return (bytes + kExportGranuleBytes - 1) / kExportGranuleBytes * kExportGranuleBytes;
}

}  // namespace

ExportUsage export_usage(const Session& session, std::uint32_t place) {
  ExportUsage usage;
  for (const auto& [number, segment] : session.segments) {
    if (!segment->exported) continue;
    if (place != kAnyPlace && segment->exported->place != place) continue;
    ++usage.count;
    usage.bytes += segment->exported->allocation_bytes;
  }
  return usage;
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        ExportOperation& operation) {
  const auto key = scoped(operation.key, operation.owner_uid, session.uid);
  if (!key.has_value()) return fail(session, ring, id, key.error());
  DeferredRead wanted{id, std::string(key->key), key->namespace_uid, false, operation.wanted};
  read_when_published(session, ring, std::move(wanted));
}

// The object is there, or never will be.
void Dispatcher::begin_export(Session& session, RingState& ring, const DeferredRead& wanted) {
  auto checked = check_export(session, wanted);
  if (!checked.has_value()) return fail(session, ring, wanted.id, checked.error());
  Export& one = exports_.emplace(next_export_, *std::move(checked)).first->second;
  one.number = next_export_++;
  one.ring = ring.ring.index();
  want_exporter(one);
  pump_due_ = true;
}

Result<Export> Dispatcher::check_export(Session& session, const DeferredRead& wanted) {
  const ExportSpec& spec = *wanted.exported;
  Export one;
  one.session = session.id;
  one.id = wanted.id;
  one.domain = session.domain;
  one.uid = session.uid;
  KAAS_ASSIGN_OR_RETURN(one.version, store_.lookup(session.uid, wanted.namespace_uid, wanted.key));
  const std::uint64_t object_bytes = one.version->bytes();
  if (spec.offset >= object_bytes) {
    return Status{StatusCode::InvalidArgument, "export offset is " + std::to_string(spec.offset) +
                                                   ", object '" + wanted.key + "' has " +
                                                   std::to_string(object_bytes) + " bytes"};
  }
  one.offset = spec.offset;
  one.bytes = spec.bytes == 0 ? object_bytes - spec.offset : spec.bytes;
  KAAS_RETURN_IF_ERROR(
      check_range("export of '" + wanted.key + "'", one.offset, one.bytes, object_bytes));
  KAAS_ASSIGN_OR_RETURN(one.place, export_place(spec.device));
  KAAS_RETURN_IF_ERROR(charge_export(session, one.bytes));
  one.segment = segments_.reserve();
  return one;
}

Result<std::uint32_t> Dispatcher::export_place(const std::string& device) const {
  if (device.empty()) {
    const bool any = std::any_of(devices_.begin(), devices_.end(), [](const DeviceState& one) {
      return one.state == DeviceState::State::Active;
    });
    if (any) return kAnyPlace;
    return Status{StatusCode::Unavailable,
                  std::string("every device is suspended") + kInsteadOfExport};
  }
  KAAS_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> found, find_places(device));
  if (found.size() != 1) {
    return Status{StatusCode::InvalidArgument,
                  "device is '" + device + "', which names " + std::to_string(found.size()) +
                      " devices; allowed: one, or none for kaasd to choose"};
  }
  if (is_active(found.front())) return found.front();
  return Status{StatusCode::Unavailable, "device " + devices_[found.front() - 1].spec.id +
                                             " is suspended" + kInsteadOfExport};
}

// What is under way is charged with what it will take as far as is known; what is there, with what
// it took.
Result<void> Dispatcher::charge_export(const Session& session, std::uint64_t bytes) const {
  std::uint64_t total = export_usage(session).bytes + whole_granules(bytes);
  std::size_t segments = session.segments.size() + 1;
  for (const auto& [number, other] : exports_) {
    if (other.session != session.id) continue;
    total += whole_granules(other.bytes);
    ++segments;
  }
  if (segments > kSegmentsPerSessionMax) {
    return over_limit(StatusCode::ResourceExhausted, "segments of this session", segments,
                      kSegmentsPerSessionMax);
  }
  if (total <= options_.export_bytes) return {};
  return over_limit(StatusCode::ResourceExhausted,
                    "device memory exported to this session (export.bytes of kaasd)", total,
                    options_.export_bytes);
}

void Dispatcher::want_exporter(const Export& one) {
  if (one.place == kAnyPlace) return want_executors(one.domain);
  want(one.domain, one.place);
}

// --- To the executor and back --------------------------------------------------------------------

void Dispatcher::pump_exports() {
  std::vector<std::uint64_t> waiting;
  for (const auto& [number, one] : exports_) {
    if (one.executor == 0) waiting.push_back(number);
  }
  for (const std::uint64_t number : waiting) {
    const auto found = exports_.find(number);
    if (found == exports_.end()) continue;
    ExecutorState* executor = choose_exporter(found->second);
    if (executor != nullptr) send_export(*executor, found->second);
  }
}

// Where the client said; else where the object was used, else where the least is under way. Null:
// nobody has room now, and a report will say when somebody has.
Dispatcher::ExecutorState* Dispatcher::choose_exporter(const Export& one) {
  ExecutorState* chosen = nullptr;
  bool has_copy = false;
  const auto& places = places_of(one.domain);
  for (std::uint32_t place = 1; place <= places.size(); ++place) {
    if (one.place != kAnyPlace && one.place != place) continue;
    const auto found = executors_.find(places[place - 1].executor);
    if (found == executors_.end() || !is_active(place)) continue;
    ExecutorState& executor = *found->second;
    // One that shows whether a certain run ends it must not have anything else to do.
    if (!executor.link->ready() || executor.condemned || executor.alone ||
        exports_in_flight(executor.link->identity().executor) >= kExportsPerExecutor) {
      continue;
    }
    const bool has = executor.used_versions.contains(one.version->id());
    const bool is_better =
        chosen == nullptr || (has && !has_copy) ||
        (has == has_copy && executor.in_flight.size() < chosen->in_flight.size());
    if (!is_better) continue;
    chosen = &executor;
    has_copy = has;
  }
  return chosen;
}

// Bytes that were on a device only have come to the host, or can't.
void Dispatcher::resume_exports(const ObjectVersion& version, const Result<void>& outcome) {
  std::vector<std::uint64_t> waiting;
  for (const auto& [number, one] : exports_) {
    if (one.executor == 0 && one.version->id() == version.id()) waiting.push_back(number);
  }
  if (!waiting.empty()) pump_due_ = true;
  if (outcome.has_value()) return;
  for (const std::uint64_t number : waiting) fail_export(number, outcome.error());
}

void Dispatcher::send_export(ExecutorState& executor, Export& one) {
  if (one.version->state() == ObjectVersion::State::Resident) {
    fetch(one.version);  // Its end sends the export.
    return;
  }
  const auto place = store_.readable_place(one.version, one.domain);
  if (!place.has_value()) return fail_export(one.number, Status(place.error()));
  ExportMessage message;
  message.number = one.number;
  message.segment = one.segment.id();
  message.location = wire::Location(one.version->id(), place->offset + one.offset, one.offset,
                                    one.bytes, place->segment->id);
  message.bytes = one.bytes;
  message.sources = {&place->segment, 1};
  switch (executor.link->push_export(message)) {
    case PushOutcome::Sent:
      one.executor = executor.link->identity().executor;
      return;
    case PushOutcome::Full:
      pump_due_ = true;
      return;
    case PushOutcome::Down:  // Its end comes as executor_down; the export waits for the next one.
      return;
    case PushOutcome::TooLarge:
      return fail_export(one.number, Status(executor.link->too_large()));
  }
}

// False: the report breaks the protocol.
bool Dispatcher::export_done(ExecutorState& executor, const wire::ExportDone& report,
                             const Status& failure) {
  const auto found = exports_.find(report.export_());
  if (found == exports_.end() || found->second.executor != executor.link->identity().executor) {
    return false;
  }
  Export& one = found->second;
  executor.idle_since_ns = step_ns_;
  pump_due_ = true;  // There is room for another one.
  if (report.code() != wire::StatusCode::Ok) {
    fail_export(one.number, failure);
    return true;
  }
  const auto segment = adopt_export(executor, one, report);
  if (segment.has_value()) {
    answer_export(one, *segment);
    exports_.erase(one.number);
    return true;
  }
  const bool is_violation = segment.error().code == StatusCode::ProtocolViolation;
  if (!is_violation) fail_export(one.number, Status(segment.error()));
  return !is_violation;
}

Result<SegmentRef> Dispatcher::adopt_export(ExecutorState& executor, Export& one,
                                            const wire::ExportDone& report) {
  const std::uint64_t allocation_bytes = report.allocation_bytes();
  if (allocation_bytes < one.bytes || allocation_bytes - one.bytes > kExportPaddingBytesMax ||
      count(report.gpu()) != kGpuUuidBytes) {
    return Status{StatusCode::ProtocolViolation, "an export of an impossible size or GPU"};
  }
  const std::uint32_t number = one.segment.id();
  auto descriptor = executor.link->take_exported(one.number, number);
  if (!descriptor.has_value()) {
    // It has the memory; nobody will ever name it.
    executor.link->detach_segment(number);
    return std::move(descriptor).error();
  }
  const ExecutorIdentity& identity = executor.link->identity();
  DeviceMemoryTerms terms;
  terms.kind = wire::DeviceMemoryKind::CuMem;
  terms.bytes = allocation_bytes;
  const auto* gpu = reinterpret_cast<const std::byte*>(report.gpu()->data());
  terms.gpu.assign(gpu, gpu + kGpuUuidBytes);
  Segment segment = device_segment(std::move(terms), *std::move(descriptor), one.uid, one.session);
  segment.device->device = identity.device;
  segment.exported = ExportTerms{identity.place, allocation_bytes};
  return segments_.add(std::move(segment), std::move(one.segment));
}

// A session that is gone, or can't be told, leaves the segment without a holder: it is given back.
void Dispatcher::answer_export(const Export& one, const SegmentRef& segment) {
  Session* session = find_session(one.session);
  if (session == nullptr) return;
  RingState& ring = *session->rings[one.ring];
  const auto token = send_descriptor(*session, segment->descriptor.get(), segment->bytes);
  if (!token.has_value()) return fail(*session, ring, one.id, token.error());
  session->segments[segment->id] = segment;
  ++session->counters.gets;
  const AnswerExport exported{segment->id, segment->bytes, segment->device->gpu,
                              segment->device->device};
  answer(*session, ring,
         {.id = one.id,
          .version = one.version->id(),
          .bytes = one.bytes,
          .token = *token,
          .exported = &exported});
}

// --- Ends ----------------------------------------------------------------------------------------

void Dispatcher::fail_export(std::uint64_t number, const Status& cause) {
  const auto found = exports_.find(number);
  const Export& one = found->second;
  if (Session* session = find_session(one.session); session != nullptr) {
    fail(*session, *session->rings[one.ring], one.id, cause);
  }
  exports_.erase(found);
}

// Those that no executor has.
void Dispatcher::fail_exports(const Status& cause,
                              const std::function<bool(const Export&)>& concerned) {
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, one] : exports_) {
    if (one.executor == 0 && concerned(one)) numbers.push_back(number);
  }
  for (const std::uint64_t number : numbers) fail_export(number, cause);
}

// Its executor has ended: nothing is left of the copy. It may be what ended it.
void Dispatcher::requeue_exports(std::uint32_t executor, const std::string& cause) {
  std::vector<std::uint64_t> given_up;
  for (auto& [number, one] : exports_) {
    if (one.executor != executor) continue;
    one.executor = 0;
    if (++one.strikes >= kStrikesMax || find_session(one.session) == nullptr) {
      given_up.push_back(number);
    }
  }
  for (const std::uint64_t number : given_up) {
    fail_export(number, Status{StatusCode::Unavailable,
                               "its executor ended twice while it made the copy: " + cause});
  }
  for (const auto& [number, one] : exports_) {
    if (one.executor == 0) want_exporter(one);
  }
}

std::size_t Dispatcher::exports_in_flight(std::uint32_t executor) const {
  return static_cast<std::size_t>(
      std::count_if(exports_.begin(), exports_.end(),
                    [&](const auto& entry) { return entry.second.executor == executor; }));
}

// Exports that are there, on one device, for who would have its memory.
std::string Dispatcher::exports_on(const std::vector<std::uint32_t>& places) const {
  ExportUsage total;
  std::string holders;
  for (const auto& [id, session] : sessions_) {
    ExportUsage own;
    for (const std::uint32_t place : places) {
      const ExportUsage usage = export_usage(*session, place);
      own.count += usage.count;
      own.bytes += usage.bytes;
    }
    if (own.count == 0) continue;
    total.count += own.count;
    total.bytes += own.bytes;
    holders += (holders.empty() ? "" : ", ") + std::to_string(id);
  }
  if (total.count == 0) return {};
  return std::to_string(total.count) + (total.count == 1 ? " export" : " exports") + " of " +
         std::to_string(total.bytes) + " bytes, which stay with sessions " + holders +
         " until they close them";
}

}  // namespace kaas
