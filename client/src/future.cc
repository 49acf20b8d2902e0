// Futures: waiting for an answer and turning it into a value.
#include <kaas/client.h>

#include <cstring>

#include "client/src/encode.h"
#include "client/src/object.h"
#include "client/src/plan.h"
#include "client/src/session.h"
#include "schema/ipc/clock.h"
#include "schema/ipc/messages.h"

namespace kaas {

const char* v1::name_of(RunWay way) noexcept {
  switch (way) {
    case RunWay::Host:
      return "host";
    case RunWay::Stream:
      return "stream";
    case RunWay::Graph:
      return "graph";
    case RunWay::Unknown:
      break;
  }
  return "unknown";
}

const char* v1::name_of(ObjectPlace place) noexcept {
  switch (place) {
    case ObjectPlace::Host:
      break;
    case ObjectPlace::Device:
      return "device";
    case ObjectPlace::Lost:
      return "lost";
  }
  return "host";
}

inline namespace v1 {
namespace {

bool in_forked_child(const Pending& pending) noexcept {
  return pending.channel->link()->fork_guard().in_child();
}

// The answer's message where it was kept, else nullptr.
const wire::Answer* kept_answer(const Pending& pending) {
  return pending.words.empty() ? nullptr : flatbuffers::GetRoot<wire::Answer>(pending.words.data());
}

Status failure_of(const Pending& pending) {
  const wire::Answer* answer = kept_answer(pending);
  std::string text = pending.failure;
  if (text.empty() && answer != nullptr) text = view(answer->message());
  // Only an answer that could not be kept has no text to it.
  if (text.empty() && pending.code == StatusCode::ResourceExhausted) {
    text = "this process has no memory for the answer";
  }
  return Status{pending.code, std::move(text)};
}

std::vector<std::byte> copy_of(const flatbuffers::Vector<std::uint8_t>* bytes) {
  if (bytes == nullptr) return {};
  const auto* begin = reinterpret_cast<const std::byte*>(bytes->data());
  return {begin, begin + bytes->size()};
}

Stages stages_of(const wire::Stages& from) {
  return {from.intake_ns(), from.plan_ns(),  from.queue_ns(),   from.load_ns(),
          from.run_ns(),    from.store_ns(), from.execute_ns(), from.settle_ns()};
}

Moments moments_of(const wire::Moments& from) {
  return {from.taken_ns(),
          from.decoded_ns(),
          from.planned_ns(),
          from.sent_ns(),
          from.executor_taken_ns(),
          from.executor_started_ns(),
          from.executor_launched_ns(),
          from.executor_ended_ns(),
          from.reported_ns(),
          from.settled_ns()};
}

Counters counters_of(const wire::Counters& from) {
  return {from.device_hits(),
          from.device_misses(),
          from.host_to_device_bytes(),
          from.device_to_host_bytes(),
          from.evictions(),
          from.evicted_bytes(),
          from.kernel_hits(),
          from.kernel_misses(),
          from.launches(),
          from.iterations()};
}

RunWay way_of(wire::RunWay way) {
  switch (way) {
    case wire::RunWay::Host:
      return RunWay::Host;
    case wire::RunWay::Stream:
      return RunWay::Stream;
    case wire::RunWay::Graph:
      return RunWay::Graph;
    case wire::RunWay::Unknown:
      break;
  }
  return RunWay::Unknown;
}

const char* name_of_why(wire::WhyStream why) {
  switch (why) {
    case wire::WhyStream::None:
      break;
    case wire::WhyStream::FirstUse:
      return "first use";
    case wire::WhyStream::Building:
      return "building";
    case wire::WhyStream::Opaque:
      return "opaque";
    case wire::WhyStream::Stateful:
      return "stateful";
    case wire::WhyStream::Original:
      return "original";
    case wire::WhyStream::Variable:
      return "variable";
    case wire::WhyStream::Moves:
      return "moves";
    case wire::WhyStream::Addresses:
      return "addresses";
    case wire::WhyStream::Failed:
      return "failed";
    case wire::WhyStream::Background:
      return "background";
  }
  return "";
}

Result<Reply> value_of(Pending& pending, const Reply*) {
  Reply reply;
  reply.tag = pending.tag;
  const wire::Answer* answer = kept_answer(pending);
  if (answer == nullptr) {
    if (pending.bound != nullptr) reply.outputs = pending.bound->outputs();
    return reply;
  }
  if (answer->outputs() != nullptr) {
    reply.outputs.reserve(answer->outputs()->size());
    for (const wire::Output* output : *answer->outputs()) {
      reply.outputs.push_back({output->buffer(), std::string(view(output->name())), output->bytes(),
                               output->version(), copy_of(output->data())});
    }
  }
  if (const wire::Profile* profile = answer->profile()) {
    Profile& filled = reply.profile.emplace();
    if (profile->stages() != nullptr) filled.stages = stages_of(*profile->stages());
    if (profile->counters() != nullptr) filled.counters = counters_of(*profile->counters());
    filled.device = view(profile->device());
    filled.way = way_of(profile->way());
    filled.why_stream = name_of_why(profile->why_stream());
    if (profile->moments() != nullptr) filled.moments = moments_of(*profile->moments());
  }
  return reply;
}

Result<ObjectInfo> value_of(Pending& pending, const ObjectInfo*) {
  ObjectInfo info{pending.version, pending.bytes, ObjectPlace::Host, {}};
  const wire::Answer* answer = kept_answer(pending);
  if (answer == nullptr || answer->place() == wire::ObjectPlace::Host) return info;
  info.place =
      answer->place() == wire::ObjectPlace::Device ? ObjectPlace::Device : ObjectPlace::Lost;
  info.device = view(answer->device());
  return info;
}

Result<Object> value_of(Pending& pending, const Object*) {
  if (pending.descriptor) {
    return ObjectAccess::mapped(pending.descriptor.get(), pending.bytes, pending.version);
  }
  const wire::Answer* answer = kept_answer(pending);
  return ObjectAccess::copied(copy_of(answer == nullptr ? nullptr : answer->data()),
                              pending.version);
}

Result<std::uint64_t> value_of(Pending& pending, const std::uint64_t*) {
  return pending.version;
}

Result<PlanNumber> value_of(Pending& pending, const PlanNumber*) {
  return PlanNumber{pending.plan};
}

Result<ExportAnswer> value_of(Pending& pending, const ExportAnswer*) {
  const wire::Answer* answer = kept_answer(pending);
  const wire::Exported* exported = answer == nullptr ? nullptr : answer->exported();
  if (exported == nullptr || count(exported->gpu()) != kGpuUuidBytes || !pending.descriptor ||
      exported->allocation_bytes() < pending.bytes) {
    return Status{StatusCode::ProtocolViolation, "kaasd sent an export without its memory"};
  }
  ExportAnswer value;
  value.segment = exported->segment();
  value.bytes = pending.bytes;
  value.allocation_bytes = exported->allocation_bytes();
  value.version = pending.version;
  std::memcpy(value.gpu.data(), exported->gpu()->data(), value.gpu.size());
  value.device = view(exported->device());
  value.descriptor = std::move(pending.descriptor);
  return value;
}

}  // namespace

template <>
Result<void> Future<void>::get() {
  KAAS_RETURN_IF_ERROR(answered());
  drop();
  return {};
}

FutureBase::FutureBase(Status failure) : failure_(std::make_unique<Status>(std::move(failure))) {}

FutureBase::FutureBase(FutureBase&& other) noexcept
    : pending_(std::exchange(other.pending_, nullptr)), failure_(std::move(other.failure_)) {}

FutureBase& FutureBase::operator=(FutureBase&& other) noexcept {
  if (this == &other) return *this;
  drop();
  pending_ = std::exchange(other.pending_, nullptr);
  failure_ = std::move(other.failure_);
  return *this;
}

FutureBase::~FutureBase() {
  drop();
}

void FutureBase::drop() noexcept {
  Pending* pending = std::exchange(pending_, nullptr);
  if (pending != nullptr && !in_forked_child(*pending)) pending->channel->release(pending);
}

bool FutureBase::ready() noexcept {
  if (pending_ == nullptr || in_forked_child(*pending_)) return true;
  return pending_->channel->ready(*pending_);
}

bool FutureBase::wait(std::chrono::nanoseconds timeout) noexcept {
  if (pending_ == nullptr || in_forked_child(*pending_)) return true;
  const std::uint64_t wait_ns =
      timeout.count() > 0 ? static_cast<std::uint64_t>(timeout.count()) : 0;
  const std::uint64_t now = now_ns();
  const std::uint64_t deadline_ns = wait_ns > kNoDeadline - now ? kNoDeadline : now + wait_ns;
  return pending_->channel->wait(*pending_, deadline_ns);
}

void FutureBase::wait() noexcept {
  if (pending_ == nullptr || in_forked_child(*pending_)) return;
  pending_->channel->wait(*pending_, kNoDeadline);
}

std::uint64_t FutureBase::id() const noexcept {
  return pending_ == nullptr ? 0 : pending_->id;
}

Result<void> FutureBase::cancel() noexcept {
  if (pending_ == nullptr) {
    return Status{StatusCode::NotFound, "the operation is not under way"};
  }
  if (in_forked_child(*pending_)) return pending_->channel->link()->forked_status();
  return Session::future<void>(pending_->channel->submit(encode_cancel(pending_->id),
                                                         Effect::Changes, 0, WhenFull::Wait))
      .get();
}

// The record with its answer, or why there is none.
Result<Pending*> FutureBase::answered() {
  if (failure_) return *failure_;
  if (pending_ == nullptr) {
    return Status{StatusCode::InvalidArgument, "the result of this future was taken before"};
  }
  if (in_forked_child(*pending_)) return pending_->channel->link()->forked_status();
  wait();
  if (pending_->code != StatusCode::Ok) {
    Status failure = failure_of(*pending_);
    drop();
    return failure;
  }
  return pending_;
}

template <class T>
Result<T> Future<T>::get() {
  KAAS_ASSIGN_OR_RETURN(Pending * pending, answered());
  Result<T> value = value_of(*pending, static_cast<const T*>(nullptr));
  drop();
  return value;
}

template class Future<Reply>;
template class Future<Object>;
template class Future<ObjectInfo>;
template class Future<std::uint64_t>;
template class Future<PlanNumber>;
template class Future<ExportAnswer>;
template class Future<void>;

}  // namespace v1
}  // namespace kaas
