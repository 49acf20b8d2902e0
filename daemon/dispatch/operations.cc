// Intake: messages of client rings to operations, and those that kaasd answers itself.
#include <fcntl.h>

#include <algorithm>

#include "daemon/dispatch/dispatcher.h"
#include "daemon/intake/decode.h"
#include "schema/ipc/socket.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

// Messages of one ring in one step, so that no client starves the others.
constexpr std::size_t kMessagesPerRingStep = 64;

}  // namespace

Result<ScopedKey> Dispatcher::scoped(const std::string& key, std::optional<std::uint32_t> owner,
                                     std::uint32_t own_uid) {
  if (owner) return ScopedKey{*owner, key};
  return parse_key(key, own_uid);
}

// Each ring's messages, until there was enough work: then the ring behind it is the next turn's
// first.
std::size_t Dispatcher::take_turn(Session& session) {
  const std::uint64_t id = session.id;
  const std::size_t rings = session.rings.size();
  std::size_t taken = 0;
  session.work = 0;
  for (std::size_t n = 0; n < rings; ++n) {
    const std::size_t ring = (session.first_ring + n) % rings;
    taken += take_messages(session, *session.rings[ring]);
    if (find_session(id) == nullptr) return taken;
    if (session.work < kWorkPerTurn) continue;
    session.first_ring = (ring + 1) % rings;
    break;
  }
  return taken;
}

std::size_t Dispatcher::take_messages(Session& session, RingState& ring) {
  std::size_t taken = 0;
  const std::uint64_t session_id = session.id;
  while (taken < kMessagesPerRingStep && session.work < kWorkPerTurn && !ring.stalled()) {
    std::span<const std::byte> message;
    const ReadOutcome outcome = ring.ring.take(buffer_, message);
    if (outcome == ReadOutcome::Empty) break;
    if (outcome == ReadOutcome::Violation) {
      close_session(session_id, Status{StatusCode::ProtocolViolation,
                                       "ring " + std::to_string(ring.ring.index()) +
                                           ": a slot's words break the protocol"});
      return taken;
    }
    ++taken;
    if (!handle_message(session, ring, message)) return taken;
  }
  return taken;
}

// False: the session is closed.
bool Dispatcher::handle_message(Session& session, RingState& ring,
                                std::span<const std::byte> message) {
  taken_ns_ = host_.now_ns();
  work_ = work_of_reading(message.size());
  auto submission = decode_submission(message);
  if (!submission.has_value()) {
    close_session(session.id, submission.error());
    return false;
  }
  const std::uint64_t id = submission->id;
  if (!submission->operation.has_value()) {
    fail(session, ring, id, submission->operation.error());
  } else if (draining()) {
    fail(session, ring, id, Status{StatusCode::Unavailable, "the daemon is shutting down"});
  } else {
    std::visit([&](auto& operation) { handle(session, ring, id, operation); },
               *submission->operation);
  }
  if (ring.stalled() && ring.stalled_message.empty()) {
    ring.stalled_message.assign(message.begin(), message.end());
  }
  session.work += counted_work(work_);
  return true;
}

// The messages that rings have waited with. They are a turn of their own, so that neither they nor
// the messages behind others' are left for ever.
std::size_t Dispatcher::resume_rings() {
  std::size_t resumed = 0;
  for (const auto& [id, ring] : resumable_) {
    if (Session* session = find_session(id)) session->work = 0;
  }
  std::vector<std::pair<std::uint64_t, std::uint32_t>> later;
  for (std::size_t n = 0; n < resumable_.size(); ++n) {  // It may become longer.
    const auto [id, ring] = resumable_[n];
    Session* const session = find_session(id);
    if (session == nullptr) continue;
    if (session->work >= kWorkPerTurn) {
      later.emplace_back(id, ring);
      continue;
    }
    resume_stalled(*session, *session->rings[ring]);
    ++resumed;
  }
  resumable_.swap(later);
  return resumed;
}

void Dispatcher::resume_stalled(Session& session, RingState& ring) {
  if (!ring.stalled()) return;  // Resumed for another reason meanwhile.
  std::vector<std::byte> message;
  message.swap(ring.stalled_message);
  ring.stalled_on = 0;
  if (ring.stalled_token != 0) --stalled_tokens_;
  ring.stalled_token = 0;
  // The message may be read in place: it is private, and its memory is aligned as malloc aligns.
  handle_message(session, ring, message);
}

Result<CompiledRequest> Dispatcher::compile_cached(std::span<const std::byte> request) {
  if (const CompiledRequest* known = templates_.find(request)) return *known;
  work_ += work_of_compiling(request.size());
  KAAS_ASSIGN_OR_RETURN(RequestSpec spec, decode_request(request));
  if (!spec.parameters.empty()) {
    return Status{StatusCode::InvalidArgument, "the request has parameters ('" +
                                                   spec.parameters.front() +
                                                   "', ...); only a deployed function may"};
  }
  KAAS_ASSIGN_OR_RETURN(PlanTemplate plan, compile(spec));
  CompiledRequest compiled{std::make_shared<const RequestSpec>(std::move(spec)),
                           std::make_shared<const PlanTemplate>(std::move(plan))};
  templates_.insert(request, compiled);
  return compiled;
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        SubmitOperation& operation) {
  auto compiled = compile_cached(operation.request);
  if (!compiled.has_value()) return fail(session, ring, id, compiled.error());
  std::vector<BindingSpec> bindings;
  std::vector<LiteralOverrideSpec> literals;
  const auto started = start({session,
                              ring,
                              id,
                              *std::move(compiled),
                              nullptr,
                              &bindings,
                              &literals,
                              {},
                              &operation.options});
  if (!started.has_value()) fail(session, ring, id, started.error());
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        PrepareOperation& operation) {
  if (session.plans.size() >= kPlansPerSessionMax) {
    return fail(session, ring, id,
                over_limit(StatusCode::ResourceExhausted, "prepared plans of this session",
                           session.plans.size() + 1, kPlansPerSessionMax));
  }
  auto compiled = compile_cached(operation.request);
  if (!compiled.has_value()) return fail(session, ring, id, compiled.error());
  auto instance = instances_.current(*compiled, session.uid);
  if (!instance.has_value()) return fail(session, ring, id, instance.error());
  const auto made = new_run(session, ring);
  if (!made.has_value()) return fail(session, ring, id, made.error());
  Run* const run = *made;
  if (run == nullptr) return;
  run->kind = Run::Kind::Prepare;
  run->session = &session;
  run->session_id = session.id;
  run->ring = ring.ring.index();
  run->id = id;
  run->accepted_ns = taken_ns_;
  run->domain = session.domain;
  run->uid = session.uid;
  run->plan = *instance;
  // The number is taken now, so that plans are numbered in the order of asking.
  session.plans[session.next_plan] = {*std::move(compiled), *std::move(instance)};
  run->prepared_plan = session.next_plan++;
  ring.runs.push_back(run);
  enqueue_if_ready(*run);
}

Result<PreparedPlan*> Dispatcher::prepared_plan(Session& session, std::uint32_t plan) {
  const auto found = session.plans.find(plan);
  if (found != session.plans.end()) return &found->second;
  return Status{StatusCode::NotFound,
                "plan " + std::to_string(plan) + " is not prepared in this session"};
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        InvokeOperation& operation) {
  const auto plan = prepared_plan(session, operation.plan);
  if (!plan.has_value()) return fail(session, ring, id, plan.error());
  const auto started = start({session,
                              ring,
                              id,
                              (*plan)->compiled,
                              (*plan)->instance,
                              &operation.bindings,
                              &operation.literals,
                              {},
                              &operation.options});
  if (!started.has_value()) fail(session, ring, id, started.error());
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        CallOperation& operation) {
  const std::uint64_t compiled_before = functions_.compiled_parts();
  auto compiled =
      functions_.compiled(session.uid, operation.function, operation.version, operation.parameters);
  work_ += kPartWork * (functions_.compiled_parts() - compiled_before);
  if (!compiled.has_value()) return fail(session, ring, id, compiled.error());
  const auto started = start({session, ring, id, *std::move(compiled), nullptr, &operation.bindings,
                              &operation.literals, operation.parameters, &operation.options});
  if (!started.has_value()) fail(session, ring, id, started.error());
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        DeployOperation& operation) {
  work_ += work_of_compiling(operation.request.size());
  auto request = decode_request(operation.request);
  if (!request.has_value()) return fail(session, ring, id, request.error());
  const auto version = functions_.deploy(session.uid, operation.function, *std::move(request));
  if (!version.has_value()) return fail(session, ring, id, version.error());
  answer(session, ring, {.id = id, .version = *version});
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        ReleasePlanOperation& operation) {
  const auto plan = prepared_plan(session, operation.plan);
  if (!plan.has_value()) return fail(session, ring, id, plan.error());
  session.plans.erase(operation.plan);
  answer(session, ring, {.id = id});
}

bool Dispatcher::stalls_on_pending(RingState& ring, const ScopedKey& key) {
  if (ring.pending.empty()) return false;
  const auto pending = ring.pending.find(pending_name(key.namespace_uid, key.key));
  if (pending == ring.pending.end()) return false;
  ring.stalled_on = pending->second.latest.run;
  return true;
}

bool Dispatcher::stalls_on_writer(RingState& ring, const PutOperation& operation) {
  if (operation.segment == 0) return false;
  const SegmentAccess read{operation.segment, operation.offset, operation.bytes, false};
  std::vector<std::uint64_t> writers;
  const std::size_t steps = ring.accesses.find_conflicts({&read, 1}, writers);
  work_ += work_of_searching(steps);
  if (steps >= AccessIndex::kStepsMax) {
    ring.stalled_on = ring.runs.back()->number;  // Too many to look through: after each one again.
    return true;
  }
  if (writers.empty()) return false;
  ring.stalled_on = *std::max_element(writers.begin(), writers.end());
  return true;
}

// A donation and its put take two ways, so the put may be here first. It waits, but not for ever.
bool Dispatcher::stalls_on_token(Session& session, RingState& ring, std::uint64_t token) {
  if (token == 0 || session.donations.count(token) != 0) {
    ring.stalled_until_ns = 0;
    return false;
  }
  if (ring.stalled_until_ns == 0) ring.stalled_until_ns = taken_ns_ + kDonationWaitNs;
  if (taken_ns_ >= ring.stalled_until_ns) {
    ring.stalled_until_ns = 0;
    return false;
  }
  ring.stalled_token = token;
  ++stalled_tokens_;
  return true;
}

Result<void> Dispatcher::add_donation(Session& session, std::uint64_t token, Donation donation) {
  if (session.donations.size() >= kDonationsPendingMax) {
    return over_limit(StatusCode::ResourceExhausted, "donations without their put",
                      session.donations.size() + 1, kDonationsPendingMax);
  }
  if (!session.donations.try_emplace(token, std::move(donation)).second) {
    return Status{StatusCode::AlreadyExists, "token " + std::to_string(token) + " is in use"};
  }
  for (const auto& ring : session.rings) {
    if (ring->stalled_token == token) resumable_.emplace_back(session.id, ring->ring.index());
  }
  return {};
}

// Puts that have waited too long for their descriptor find out that it is not there.
void Dispatcher::expire_donations() {
  for (const auto& [id, session] : sessions_) {
    for (const auto& ring : session->rings) {
      if (ring->stalled_token != 0 && step_ns_ >= ring->stalled_until_ns) {
        resumable_.emplace_back(id, ring->ring.index());
      }
    }
  }
}

Result<VersionRef> Dispatcher::put(Session& session, PutOperation& operation,
                                   const ScopedKey& key) {
  KAAS_RETURN_IF_ERROR(store_.check_write(session.uid, key.namespace_uid, key.key));
  if (operation.token != 0) {
    const auto donation = session.donations.find(operation.token);
    if (donation == session.donations.end()) {
      return Status{StatusCode::NotFound, "token " + std::to_string(operation.token) +
                                              " names no donated descriptor of this session"};
    }
    Donation taken = std::move(donation->second);
    session.donations.erase(donation);
    return store_.put_donated(key.namespace_uid, key.key, std::move(taken.descriptor), taken.bytes);
  }
  if (operation.segment == 0) return store_.put_bytes(key.namespace_uid, key.key, operation.data);
  const auto segment = session.segments.find(operation.segment);
  if (segment == session.segments.end()) {
    return Status{StatusCode::NotFound,
                  "segment " + std::to_string(operation.segment) + " is not one of this session"};
  }
  const SegmentKind kind = segment->second->kind;
  if (kind == SegmentKind::Device || kind == SegmentKind::Event) {
    return Status{StatusCode::InvalidArgument,
                  "segment " + std::to_string(operation.segment) + " is " +
                      (kind == SegmentKind::Device ? "device memory" : "an event") +
                      ", which a put can't read; a request with device memory as input and an "
                      "output in the store can"};
  }
  KAAS_RETURN_IF_ERROR(check_range("put '" + operation.key + "'", operation.offset, operation.bytes,
                                   segment->second->bytes));
  return store_.put_bytes(
      key.namespace_uid, key.key,
      FileRange{segment->second->descriptor.get(), operation.offset, operation.bytes});
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        PutOperation& operation) {
  const auto key = parse_key(operation.key, session.uid);
  if (!key.has_value()) return fail(session, ring, id, key.error());
  if (stalls_on_pending(ring, *key) || stalls_on_writer(ring, operation)) return;
  if (stalls_on_token(session, ring, operation.token)) return;
  end_lanes_reading(key->namespace_uid, key->key);
  const auto version = put(session, operation, *key);
  if (!version.has_value()) return fail(session, ring, id, version.error());
  ++session.counters.puts;
  work_ += work_of_object((*version)->bytes());
  if (operation.token == 0) work_ += work_of_copying((*version)->bytes());
  answer(session, ring, {.id = id, .version = (*version)->id(), .bytes = (*version)->bytes()});
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        GetOperation& operation) {
  const auto key = scoped(operation.key, operation.owner_uid, session.uid);
  if (!key.has_value()) return fail(session, ring, id, key.error());
  ++session.counters.gets;
  read_when_published(session, ring, {id, std::string(key->key), key->namespace_uid, false});
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        StatOperation& operation) {
  const auto key = scoped(operation.key, operation.owner_uid, session.uid);
  if (!key.has_value()) return fail(session, ring, id, key.error());
  read_when_published(session, ring, {id, std::string(key->key), key->namespace_uid, true});
}

void Dispatcher::read_when_published(Session& session, RingState& ring, DeferredRead wanted) {
  const auto pending = ring.pending.find(pending_name(wanted.namespace_uid, wanted.key));
  if (pending == ring.pending.end()) return read(session, ring, wanted);
  Run* writer = runs_.find(pending->second.latest.run);
  KAAS_CHECK(writer != nullptr);
  writer->reads.push_back(std::move(wanted));
}

void Dispatcher::read(Session& session, RingState& ring, const DeferredRead& read) {
  if (read.exported) return begin_export(session, ring, read);
  const auto version = store_.lookup(session.uid, read.namespace_uid, read.key);
  if (!version.has_value()) return fail(session, ring, read.id, version.error());
  answer_object(session, ring, read, *version);
}

// The version that the read is of, whatever its key names by then.
void Dispatcher::answer_object(Session& session, RingState& ring, const DeferredRead& read,
                               const VersionRef& version) {
  AnswerSpec spec{.id = read.id, .version = version->id(), .bytes = version->bytes()};
  if (read.stat) {
    spec.place = version->place();
    if (spec.place != wire::ObjectPlace::Host) spec.object_device = version->device();
    return answer(session, ring, spec);
  }
  if (version->state() == ObjectVersion::State::Lost) {
    return fail(session, ring, read.id, version->loss());
  }
  if (version->state() == ObjectVersion::State::Resident) {
    fetch(version).reads.push_back({session.id, ring.ring.index(), read});
    return;
  }
  if (version->is_small() || version->bytes() == 0) {
    spec.data = version->small_bytes();
    return answer(session, ring, spec);
  }
  const auto token =
      send_descriptor(session, version->segment()->descriptor.get(), version->bytes());
  if (!token.has_value()) return fail(session, ring, read.id, token.error());
  spec.token = *token;
  answer(session, ring, spec);
}

// The descriptor goes first, so that it is there when the client reads the answer.
Result<std::uint64_t> Dispatcher::send_descriptor(Session& session, int descriptor,
                                                  std::uint64_t bytes) {
  const std::uint64_t token = session.next_token++;
  builder_.Clear();
  wire::ControlReplyBuilder reply(builder_);
  reply.add_token(token);
  reply.add_bytes(bytes);
  builder_.Finish(reply.Finish());
  switch (send_message(session.socket->get(), finished(builder_), {&descriptor, 1})) {
    case SendOutcome::Sent:
      return token;
    case SendOutcome::WouldBlock:
      return Status{StatusCode::ResourceExhausted,
                    "descriptors of earlier gets are still unread in the session's socket"};
    case SendOutcome::HungUp:
    case SendOutcome::BadDescriptor:
      break;
  }
  return Status{StatusCode::Unavailable, "the session's socket is closed"};
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        RemoveOperation& operation) {
  const auto key = parse_key(operation.key, session.uid);
  if (!key.has_value()) return fail(session, ring, id, key.error());
  if (stalls_on_pending(ring, *key)) return;
  const auto allowed = store_.check_write(session.uid, key->namespace_uid, key->key);
  if (!allowed.has_value()) return fail(session, ring, id, allowed.error());
  end_lanes_reading(key->namespace_uid, key->key);
  if (!store_.remove(key->namespace_uid, key->key)) {
    return fail(session, ring, id,
                Status{StatusCode::NotFound, "no object '" + operation.key + "'"});
  }
  answer(session, ring, {.id = id});
}

void Dispatcher::handle(Session& session, RingState& ring, std::uint64_t id,
                        CancelOperation& operation) {
  const std::uint32_t index = ring.ring.index();
  cancel(session.id, index, operation.id,
         [this, number = session.id, index, id](const Result<void>& cancelled) {
           Session* asker = find_session(number);
           if (asker == nullptr) return;
           RingState& own = *asker->rings[index];
           if (!cancelled.has_value()) return fail(*asker, own, id, cancelled.error());
           answer(*asker, own, {.id = id});
         });
}

}  // namespace kaas
