// What an honest client does with lanes: asks for them, uses them while its ring is empty, and
// sends by the ring what a lane that ended has not taken, or may be run again.
#include "tools/sim/workload.h"

namespace kaas {
namespace {

using Kind = SimOperation::Kind;
using Where = ProgramBuffer::Where;

constexpr std::size_t kLanePlansMax = 4;

bool reads_tick(const Program& program) {
  return program.buffers.size() == 2 && program.buffers[1].key == kTickKey;
}

}  // namespace

// Outputs in the arena; inputs there, or keys.
Program HonestClient::make_lane_program(std::size_t ring) {
  Program program;
  std::set<std::string> keys;
  std::set<std::uint64_t> cells;
  ProgramKernel kernel;
  if (random_.one_in(3)) {
    // The tick, at a place that nothing else writes.
    ProgramBuffer out;
    out.where = Where::Arena;
    out.words = kCellWords;
    out.offset = (ring * kCellsPerRing + kTickCell) * kCellWords;
    ProgramBuffer tick;
    tick.key = kTickKey;
    tick.words = kCellWords;
    program.buffers = {out, tick};
    kernel.kind = ProgramKernel::Kind::Copy;
    kernel.a = 1;
    program.kernels = {kernel};
    return program;
  }
  program.buffers.push_back(arena_buffer(ring, kCellWords, cells));
  kernel.kind = ProgramKernel::Kind::AddOne;
  if (random_.one_in(2)) {
    kernel.kind = ProgramKernel::Kind::Add;
    kernel.a = 1;
    kernel.b = 2;
    ProgramBuffer key;
    key.key = key_name(ring, 2 + 6 * random_.below(2));
    key.words = kCellWords;
    program.buffers.push_back(std::move(key));
    program.buffers.push_back(arena_buffer(ring, kCellWords, cells));
  }
  program.kernels = {kernel};
  program.stateful = random_.one_in(10);
  return program;
}

SimOperation HonestClient::make_lane_operation(std::size_t ring, Bytes& message) {
  RingState& state = *rings_[ring];
  SimOperation operation;
  operation.id = next_id_++;
  if (state.lane_plans.empty() || (state.lane_plans.size() < kLanePlansMax && random_.one_in(4))) {
    operation.kind = Kind::Prepare;
    operation.for_lane = true;
    operation.program = make_lane_program(ring);
    message = prepare_message(operation.id,
                              encode_request(operation.program.to_request(client_.arena())));
    return operation;
  }
  if (!state.lane_calls.empty() && random_.one_in(8)) {
    operation.kind = Kind::DropLaneCall;
    message =
        drop_lane_call_message(operation.id, state.lane->number(), state.lane_calls.back().call);
    state.lane_calls.pop_back();
    return operation;
  }
  const Plan& plan = state.lane_plans[random_.below(state.lane_plans.size())];
  operation.kind = Kind::OpenLane;
  operation.program = plan.program;
  operation.plan = plan.plan;
  message = open_lane_message(operation.id, plan.plan);
  return operation;
}

// Nobody else writes it while one of these is under way: its values only grow.
SimOperation HonestClient::make_tick(Bytes& message) {
  SimOperation operation;
  operation.kind = Kind::Put;
  operation.id = next_id_++;
  operation.key = kTickKey;
  ticks_.under_way = true;
  operation.words.assign(kCellWords, ++ticks_.sent);
  message = put_message(operation.id, operation.key, to_bytes(operation.words));
  return operation;
}

// True: the ring is not to be used now.
bool HonestClient::act_on_lane(std::size_t ring, const Faults& faults) {
  RingState& state = *rings_[ring];
  if (!state.again.empty()) {
    send_again(ring);
    return true;
  }
  if (state.on_lane.empty()) {
    if (state.lane == nullptr || state.lane_calls.empty()) return false;
    if (random_.one_in(12)) state.prefers_lane = !state.prefers_lane;
    if (!state.prefers_lane) return false;
    if (state.model.unanswered() != 0) return true;  // Soon.
  }
  for (std::uint64_t n = random_.between(1, 8); n > 0 && invoke(ring, faults); --n) {
  }
  return true;
}

// False: not now.
bool HonestClient::invoke(std::size_t ring, const Faults& faults) {
  RingState& state = *rings_[ring];
  SimClient::Ring& own = client_.ring(ring);
  if (state.lane_calls.empty() || state.on_lane.size() >= kLaneSlots ||
      own.completion.view().header->lanes_ended.load() >= state.lane->number()) {
    return false;
  }
  const LaneCall& call = state.lane_calls[random_.below(state.lane_calls.size())];
  SimOperation operation;
  operation.kind = Kind::Run;
  operation.id = next_id_++;
  operation.program = call.program;
  operation.tick_min = ticks_.answered;
  operation.deaths_before = faults.executor_deaths;
  const std::uint64_t position = state.lane->writer.written();
  if (!state.lane->invoke(operation.id, call.call)) return false;
  state.on_lane[operation.id] = {position, call.replayable,
                                 invoke_message(operation.id, call.plan)};
  trace_.add("client " + std::to_string(client_.session()) + "." + std::to_string(ring) +
             " sends by lane " + describe(operation));
  ++counts_.sent;
  ++counts_.by_lane;
  state.model.sent(std::move(operation));
  if (state.lane->writer.wake_due()) state.lane->bell.ring();
  return true;
}

void HonestClient::send_again(std::size_t ring) {
  RingState& state = *rings_[ring];
  SimClient::Ring& own = client_.ring(ring);
  while (!state.again.empty() && client_.send(ring, state.again.front())) state.again.pop_front();
  if (own.writer.wake_due()) own.doorbell.ring();
}

std::string HonestClient::take_grant(std::size_t ring, const SimOperation& asked,
                                     const SeenAnswer& answer) {
  RingState& state = *rings_[ring];
  if (answer.code != StatusCode::Ok) return {};
  if (!answer.lane) return describe(asked) + " is granted nothing";
  const std::uint64_t ended = client_.ring(ring).completion.view().header->lanes_ended.load();
  if (answer.lane->in_token != 0) {
    const bool has_one = state.lane != nullptr && state.lane->number() > ended;
    if (has_one || !state.on_lane.empty()) return "a second lane for a ring that has one";
    state.lane = client_.map_lane(*answer.lane);
    state.lane_calls.clear();
    state.prefers_lane = true;
    ++counts_.lanes;
  }
  if (answer.lane->lane <= ended) return {};  // It is over already.
  if (state.lane == nullptr || state.lane->number() != answer.lane->lane) {
    return "a call of a lane that the client does not have";
  }
  state.lane_calls.push_back(
      {answer.lane->call, asked.plan, asked.program, answer.lane->replayable});
  return {};
}

std::string HonestClient::read_lane(std::size_t ring, const Faults& faults) {
  RingState& state = *rings_[ring];
  if (state.lane == nullptr) return {};
  const std::uint64_t ended = client_.ring(ring).completion.view().header->lanes_ended.load();
  for (const SeenLaneAnswer& seen : state.lane->read()) {
    if (state.on_lane.erase(seen.id) == 0) return "a lane answers what was not sent, or twice";
    SeenAnswer answer;
    answer.id = seen.id;
    answer.code = seen.code;
    answer.message = seen.text;
    std::string fault = take(ring, std::move(answer), faults);
    if (!fault.empty()) return fault;
  }
  if (ended < state.lane->number()) return {};
  return finish_lane(ring, faults);
}

// What it did not take, and what may run again, goes by the ring in the order in which it was sent.
std::string HonestClient::finish_lane(std::size_t ring, const Faults& faults) {
  RingState& state = *rings_[ring];
  const auto reason = client_.lane_end(state.lane->number());
  if (!reason) return "a lane has ended, and nobody says why";
  trace_.add("client " + std::to_string(client_.session()) + "." + std::to_string(ring) +
             " has lost its lane: " + reason->message);
  const std::uint64_t taken = state.lane->taken();
  const bool executor_lives = reason->code == StatusCode::Unavailable;
  std::map<std::uint64_t, OnLane> left = std::move(state.on_lane);
  state.on_lane.clear();
  state.lane.reset();
  state.lane_calls.clear();
  for (auto& [id, one] : left) {
    const bool may_have_run = one.position < taken;
    if (may_have_run && executor_lives) return "a lane ended with what it took unanswered";
    if (!may_have_run || one.replayable) {
      state.again.push_back(std::move(one.invoke));
      continue;
    }
    SeenAnswer answer;
    answer.id = id;
    answer.code = StatusCode::UnknownOutcome;
    answer.message = reason->message;
    std::string fault = take(ring, std::move(answer), faults);
    if (!fault.empty()) return fault;
  }
  send_again(ring);
  return {};
}

// What was put before the run was sent, or later.
std::string HonestClient::check_tick(const SimOperation& operation) const {
  if (operation.kind != Kind::Run || !reads_tick(operation.program)) return {};
  const Words seen = to_words(
      client_.arena_bytes().subspan(operation.program.buffers[0].offset * 4, kCellWords * 4));
  for (const std::uint32_t word : seen) {
    if (word == seen.front() && word >= operation.tick_min && word <= ticks_.sent) continue;
    return describe(operation) + " read version " + std::to_string(word) + "; it was sent after " +
           std::to_string(operation.tick_min) + " was there, the latest is " +
           std::to_string(ticks_.sent);
  }
  return {};
}

}  // namespace kaas
