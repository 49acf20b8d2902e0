#include "daemon/executor/run/lanes.h"

#include <algorithm>
#include <utility>

#include "schema/ipc/doorbell.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

// Invocations of one lane in one step, so that no client starves the others, or kaasd.
constexpr std::size_t kBatchMax = 16;

struct Access {
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool writes = false;
};

std::vector<Access> accesses_of(const RunTerms& terms, const ExecutorPlan& plan) {
  std::vector<Access> accesses;
  for (std::size_t i = 0; i < terms.loads.size(); ++i) {
    const wire::Location& load = terms.loads[i];
    if (load.version() != 0) continue;  // Never changes.
    accesses.push_back({load.segment(), load.offset(), plan.loads[i].bytes(), false});
  }
  for (std::size_t i = 0; i < terms.stores.size(); ++i) {
    const wire::Location& store = terms.stores[i];
    accesses.push_back({store.segment(), store.offset(), plan.stores[i].bytes(), true});
  }
  return accesses;
}

bool conflict(const std::vector<Access>& a, const std::vector<Access>& b) {
  return std::any_of(a.begin(), a.end(), [&](const Access& one) {
    return std::any_of(b.begin(), b.end(), [&](const Access& other) {
      return one.segment == other.segment && (one.writes || other.writes) &&
             ranges_overlap(one.offset, one.bytes, other.offset, other.bytes);
    });
  });
}

std::string numbered(const char* what, std::uint64_t number) {
  return std::string(what) + " " + std::to_string(number);
}

// Bytes that no run of another kind must have made: what a lane reads and writes is in segments.
Result<void> check_places(const RunTerms& terms) {
  for (std::size_t i = 0; i < terms.loads.size(); ++i) {
    if (terms.loads[i].segment() != 0) continue;
    return Status{StatusCode::InvalidArgument,
                  numbered("load", i) + " names no segment; a lane's inputs lie in segments"};
  }
  for (std::size_t i = 0; i < terms.stores.size(); ++i) {
    if (terms.stores[i].version() == 0 && terms.stores[i].segment() != 0) continue;
    return Status{StatusCode::InvalidArgument,
                  numbered("store", i) + " is a version's; a lane's outputs lie in segments"};
  }
  return {};
}

Result<void> check_segment(const ExecutorSegment& segment, bool written) {
  const SegmentTerms& terms = segment.terms();
  const std::string name = numbered("a lane's segment", terms.segment);
  if (segment.mapped() == nullptr || terms.guarded) {
    return Status{StatusCode::InvalidArgument, name + " is not mapped"};
  }
  if (written && !terms.writable) {
    return Status{StatusCode::InvalidArgument, name + " is not writable"};
  }
  if (terms.bytes < kLaneGeometry.segment_bytes()) {
    return Status{StatusCode::InvalidArgument, name + " has " + std::to_string(terms.bytes) +
                                                   " bytes, wanted " +
                                                   std::to_string(kLaneGeometry.segment_bytes())};
  }
  return {};
}

Result<void> check_geometry(const wire::StartLane& message) {
  const auto check = [](const char* field, std::uint32_t found, std::uint32_t wanted) {
    if (found == wanted) return Result<void>();
    return Result<void>(Status{StatusCode::InvalidArgument,
                               std::string(field) + " of a lane is " + std::to_string(found) +
                                   ", wanted " + std::to_string(wanted)});
  };
  KAAS_RETURN_IF_ERROR(check("slot_count", message.slot_count(), kLaneGeometry.slot_count));
  return check("heap_bytes", message.heap_bytes(), kLaneGeometry.heap_bytes);
}

}  // namespace

// --- ExecutorLane --------------------------------------------------------------------------------

ExecutorLane::ExecutorLane(std::uint32_t lane, std::shared_ptr<ExecutorSegment> in,
                           std::shared_ptr<ExecutorSegment> out, LaneBell bell,
                           ExecutorRunner& runner)
    : lane_(lane),
      runner_(runner),
      in_(std::move(in)),
      out_(std::move(out)),
      bell_(std::move(bell)),
      out_view_(RingView::at(out_->mapped(), kLaneGeometry)) {
  in_flight_.reserve(kLaneGeometry.slot_count);
  const RingView in_view = RingView::at(in_->mapped(), kLaneGeometry);
  reader_ = RingReader(in_view, out_view_.header);
  writer_ = RingWriter(out_view_, in_view.header);
}

ExecutorLane::~ExecutorLane() {
  for (auto& [number, call] : calls_) runner_.forget(call->run);
}

Result<void> ExecutorLane::add_call(std::uint32_t number, RunTerms terms, PlanRef plan) {
  if (calls_.count(number) != 0) {
    return Status{StatusCode::InvalidArgument, numbered("call", number) + " of " +
                                                   numbered("lane", lane_) + " is known already"};
  }
  if (calls_.size() >= kLaneCallsMax) {
    return over_limit(StatusCode::InvalidArgument, "calls of a lane", calls_.size() + 1,
                      kLaneCallsMax);
  }
  KAAS_RETURN_IF_ERROR(check_places(terms));
  auto call = std::make_unique<Call>();
  call->run.terms = std::move(terms);
  call->run.plan = std::move(plan);
  const std::vector<Access> own = accesses_of(call->run.terms, *call->run.plan);
  for (auto& [other_number, other] : calls_) {
    if (!conflict(own, accesses_of(other->run.terms, *other->run.plan))) continue;
    call->conflicts.push_back(other.get());
    other->conflicts.push_back(call.get());
  }
  call->conflicts_with_itself = conflict(own, own);
  calls_.emplace(number, std::move(call));
  return {};
}

void ExecutorLane::remove_call(std::uint32_t number) {
  const auto found = calls_.find(number);
  if (found == calls_.end()) return;
  for (auto& [other_number, other] : calls_) std::erase(other->conflicts, found->second.get());
  if (latest_ == found->second.get()) latest_ = nullptr;
  runner_.forget(found->second->run);
  calls_.erase(found);
}

ExecutorLane::Call* ExecutorLane::find(std::uint32_t number) {
  if (latest_ != nullptr && latest_number_ == number) return latest_;
  const auto found = calls_.find(number);
  if (found == calls_.end()) return nullptr;
  latest_ = found->second.get();
  latest_number_ = number;
  return latest_;
}

// An answer to what is taken is sure to have a slot.
bool ExecutorLane::has_credit() {
  const std::uint64_t slots = kLaneGeometry.slot_count;
  const std::uint64_t needed = writer_.written() + in_flight_.size();
  return in_flight_.size() < slots && (needed < slots || needed - writer_.consumed() < slots);
}

template <class MayTake>
std::size_t ExecutorLane::take(MessageBuffer& buffer, std::size_t most, MayTake may_take) {
  std::size_t taken = 0;
  while (taken < most && !reason_) {
    const bool credit = has_credit();
    if (!writer_.peer_is_sane()) {
      end({StatusCode::ProtocolViolation,
           "the count of read answers of " + numbered("lane", lane_) + " is impossible"});
      break;
    }
    if (!credit) break;
    std::span<const std::byte> message;
    const ReadOutcome outcome = reader_.read(buffer, message);
    if (outcome == ReadOutcome::Empty) break;
    if (outcome == ReadOutcome::Violation) {
      end({StatusCode::ProtocolViolation,
           "the words of a slot of " + numbered("lane", lane_) + " are impossible"});
      break;
    }
    // After the slot was read: see lane.h on revocation.
    if (!may_take()) break;
    if (!submit_next(message)) break;
    ++taken;
  }
  if (taken != 0) bell_.rang_for_something();
  return taken;
}

bool ExecutorLane::submit_next(std::span<const std::byte> message) {
  LaneInvoke invoke{};
  Call* call = nullptr;
  if (message.size() == sizeof invoke && read_lane_message(message, invoke)) {
    call = find(invoke.call);
  }
  if (call == nullptr) {
    end({StatusCode::ProtocolViolation,
         "an invocation of " + numbered("lane", lane_) + " names no call of it"});
    return false;
  }
  // Visible before it can have an effect: what is not counted as taken may be sent elsewhere.
  reader_.advance();
  reader_.publish();
  const std::uint64_t number = taken_++;
  in_flight_.push_back({number, invoke.id});
  after_.clear();
  for (const Call* other : call->conflicts) {
    if (other->last_run != 0) after_.push_back(other->last_run);
  }
  // Whether a plan that is still loading keeps state is not known yet.
  const bool keeps_order =
      call->conflicts_with_itself || call->run.plan->stateful || call->run.plan->loading;
  if (keeps_order && call->last_run != 0) after_.push_back(call->last_run);
  call->last_run = runner_.submit(call->run, after_, *this, number);
  return true;
}

void ExecutorLane::run_ended(const RunTask& task) {
  const auto ended =
      std::find_if(in_flight_.begin(), in_flight_.end(),
                   [&](const Invocation& invocation) { return invocation.number == task.ticket; });
  LaneAnswer answer{ended->id, 0, 0};
  in_flight_.erase(ended);
  busy_ns_ += task.load_ns + task.run_ns + task.store_ns;
  std::byte text[kSlotPayloadBytes];
  std::size_t bytes = sizeof answer;
  if (task.failure) {
    const std::size_t length = std::min(task.failure->message.size(), kLaneTextBytesMax);
    answer.code = static_cast<std::uint32_t>(task.failure->code);
    answer.text_bytes = static_cast<std::uint32_t>(length);
    std::memcpy(text + bytes, task.failure->message.data(), length);
    bytes += length;
  }
  std::memcpy(text, &answer, sizeof answer);
  KAAS_CHECK(writer_.try_write({text, bytes}));  // has_credit() saw to it.
  // Single writer: plain additions. Partner: kaasd, which reads them for the accounts.
  out_view_.header->busy_ns.store(busy_ns_, std::memory_order_relaxed);
  out_view_.header->oldest.store(in_flight_.empty() ? taken_ : in_flight_.front().number,
                                 std::memory_order_relaxed);
  out_view_.header->answered.store(writer_.written(), std::memory_order_release);
}

void ExecutorLane::bell_rang() {
  if (bell_.rang()) return;
  end({StatusCode::ProtocolViolation,
       "the bell of " + numbered("lane", lane_) + " was rung more than " +
           std::to_string(kLaneRingsInVainMax) + " times in a row without an invocation to take"});
}

void ExecutorLane::end(Status reason) {
  bell_ = LaneBell();
  if (!reason_) reason_ = std::move(reason);
}

void ExecutorLane::flush() {
  if (writer_.written() == woken_for_) return;
  woken_for_ = writer_.written();
  if (!writer_.wake_due()) return;
  out_view_.header->wake_word.fetch_add(1, std::memory_order_release);
  futex_wake_all(out_view_.header->wake_word);
}

bool ExecutorLane::announce_sleep() {
  kaas::announce_sleep(*out_view_.header);
  if (reason_) return true;  // The end of what is under way is told by others.
  const bool credit = has_credit();
  return writer_.peer_is_sane() && !(credit && reader_.waiting());
}

// --- ExecutorLanes -------------------------------------------------------------------------------

void ExecutorLanes::start(const wire::StartLane& message) {
  const auto started = try_start(message);
  if (!started) reports_.lane_ended(message.lane(), started.error());
}

Result<void> ExecutorLanes::try_start(const wire::StartLane& message) {
  KAAS_RETURN_IF_ERROR(check_geometry(message));
  KAAS_ASSIGN_OR_RETURN(auto in, segments_.find(message.in_segment()));
  KAAS_ASSIGN_OR_RETURN(auto out, segments_.find(message.out_segment()));
  KAAS_RETURN_IF_ERROR(check_segment(*in, false));
  KAAS_RETURN_IF_ERROR(check_segment(*out, true));
  KAAS_ASSIGN_OR_RETURN(auto bell_end, segments_.find(message.bell_segment()));
  if (lanes_.count(message.lane()) != 0) {
    return Status{StatusCode::AlreadyExists,
                  numbered("lane", message.lane()) + " is known already"};
  }
  KAAS_ASSIGN_OR_RETURN(auto bell, LaneBell::create(bells_, message.lane(), std::move(bell_end)));
  lanes_.emplace(message.lane(),
                 std::make_unique<ExecutorLane>(message.lane(), std::move(in), std::move(out),
                                                std::move(bell), runner_));
  return {};
}

void ExecutorLanes::add_call(const wire::AddLaneCall& message, const Result<PlanRef>& plan) {
  const auto lane = lanes_.find(message.lane());
  Result<void> added;
  if (lane == lanes_.end()) {
    added = Status{StatusCode::Unavailable, "the lane has ended"};
  } else if (!plan) {
    added = plan.error();
  } else {
    RunTerms terms;
    added = ExecutorRunner::read_terms(*message.run(), **plan, terms);
    if (added) added = lane->second->add_call(message.call(), std::move(terms), *plan);
  }
  reports_.lane_call_added(message.lane(), message.call(), added ? nullptr : &added.error());
}

void ExecutorLanes::remove_call(const wire::RemoveLaneCall& message) {
  const auto lane = lanes_.find(message.lane());
  if (lane != lanes_.end()) lane->second->remove_call(message.call());
}

void ExecutorLanes::end(const wire::EndLane& message) {
  ++ends_seen_;
  const auto lane = lanes_.find(message.lane());
  if (lane != lanes_.end())
    lane->second->end({StatusCode::Unavailable, "kaasd has ended the lane"});
}

bool ExecutorLanes::step() {
  bool progress = false;
  // Partner: kaasd, which counts before it does what a lane must not overlook.
  const auto may_take = [this] {
    return work_.lanes_ended.load(std::memory_order_acquire) == ends_seen_ && !device_.lost();
  };
  for (auto lane = lanes_.begin(); lane != lanes_.end();) {
    progress = lane->second->take(buffer_, kBatchMax, may_take) != 0 || progress;
    lane->second->flush();
    if (!lane->second->has_ended()) {
      ++lane;
      continue;
    }
    reports_.lane_ended(lane->first, lane->second->reason());
    lane = lanes_.erase(lane);
  }
  return progress;
}

bool ExecutorLanes::announce_sleep() {
  bool may_sleep = true;
  for (auto& [number, lane] : lanes_) may_sleep = lane->announce_sleep() && may_sleep;
  return may_sleep;
}

void ExecutorLanes::retract_sleep() noexcept {
  for (auto& [number, lane] : lanes_) lane->retract_sleep();
}

void ExecutorLanes::bell_rang(std::uint32_t number) {
  const auto lane = lanes_.find(number);
  if (lane != lanes_.end()) lane->second->bell_rang();
}

}  // namespace kaas
