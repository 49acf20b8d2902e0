#include "tools/sim/workload.h"

#include <algorithm>
#include <cstdio>

namespace kaas {
namespace {

using Kind = SimOperation::Kind;
using Where = ProgramBuffer::Where;

// Every key has one size: what reads it knows how much there is.
constexpr std::uint64_t kKeyWords[] = {8, 16, 64, 64, 256, 17'000};
constexpr std::uint64_t kKeysPerRing = 12;

std::uint64_t words_of(std::uint64_t key_index) {
  return kKeyWords[key_index % std::size(kKeyWords)];
}

}  // namespace

void Trace::add(const std::string& event) {
  add_bytes(std::as_bytes(std::span(event)));
  if (verbose_) std::printf("%s\n", event.c_str());
}

void Trace::add_bytes(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    hash_ = (hash_ ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3u;
  }
}

HonestClient::HonestClient(SimClient& client, Random& random, Trace& trace,
                           std::set<std::uint32_t>& shared, Ticks& ticks)
    : client_(client),
      random_(random),
      trace_(trace),
      shared_(shared),
      ticks_(ticks),
      next_value_(static_cast<std::uint32_t>(client.session()) << 20) {
  for (std::size_t ring = 0; ring < client.rings(); ++ring) {
    rings_.push_back(std::make_unique<RingState>(ring * kCellsPerRing, shared));
  }
}

std::string HonestClient::key_name(std::size_t ring, std::uint64_t index) const {
  return "s" + std::to_string(client_.session()) + "r" + std::to_string(ring) + "k" +
         std::to_string(index);
}

// --- Programs ------------------------------------------------------------------------------------

// A key of the ring that the program does not use yet.
ProgramBuffer HonestClient::key_buffer(std::size_t ring, std::set<std::string>& used) {
  for (;;) {
    const std::uint64_t index = random_.below(kKeysPerRing);
    ProgramBuffer buffer;
    buffer.key = key_name(ring, index);
    buffer.words = words_of(index);
    if (used.insert(buffer.key).second) return buffer;
  }
}

ProgramBuffer HonestClient::arena_buffer(std::size_t ring, std::uint64_t words,
                                         std::set<std::uint64_t>& used) {
  ProgramBuffer buffer;
  buffer.where = Where::Arena;
  const std::uint64_t cells = (words + kCellWords - 1) / kCellWords;
  buffer.words = cells * kCellWords;
  for (;;) {
    const std::uint64_t first = random_.below(kTickCell - cells + 1);
    bool free = true;
    for (std::uint64_t cell = first; cell < first + cells; ++cell) free &= used.count(cell) == 0;
    if (!free) continue;
    for (std::uint64_t cell = first; cell < first + cells; ++cell) used.insert(cell);
    buffer.offset = (ring * kCellsPerRing + first) * kCellWords;
    return buffer;
  }
}

// One kernel with buffers of its own: what it reads and writes are different bytes.
void HonestClient::add_step(std::size_t ring, Program& program, std::set<std::string>& keys,
                            std::set<std::uint64_t>& cells) {
  const auto add = [&](ProgramBuffer buffer) {
    program.buffers.push_back(std::move(buffer));
    return static_cast<std::uint16_t>(program.buffers.size() - 1);
  };
  // Somewhere that has `words`, or as many as it likes if 0.
  const auto somewhere = [&](std::uint64_t words, bool written) {
    ProgramBuffer buffer = key_buffer(ring, keys);
    if (words == 0) words = buffer.words;
    if (words <= 3 * kCellWords && words % kCellWords == 0 && random_.one_in(2)) {
      return arena_buffer(ring, words, cells);
    }
    if (words <= 256 && random_.one_in(5)) {
      ProgramBuffer in_message;
      in_message.where = Where::Inline;
      in_message.words = words;
      if (!written) in_message.data.assign(words, next_value_++);
      return in_message;
    }
    if (buffer.words != words) {
      // A part of the key, or more than it has.
      if (words < buffer.words) buffer.offset = random_.below(buffer.words - words + 1);
      buffer.zero_fill = words > buffer.words;
      buffer.words = words;
    }
    return buffer;
  };
  ProgramKernel kernel;
  switch (random_.below(6)) {
    case 0:
    case 1:
      kernel.kind = ProgramKernel::Kind::Fill;
      kernel.value = next_value_++;
      kernel.out = add(somewhere(0, true));
      if (ProgramBuffer& out = program.buffers[kernel.out];
          out.where == Where::Key && out.words >= 16 && random_.one_in(3)) {
        out.offset = out.words /= 2;  // The upper half of the key.
      }
      break;
    case 2:
    case 3:
      kernel.kind = ProgramKernel::Kind::Copy;
      kernel.out = add(somewhere(0, true));
      kernel.a = add(somewhere(program.buffers[kernel.out].words, false));
      break;
    case 4:
      kernel.kind = ProgramKernel::Kind::Add;
      kernel.out = add(somewhere(0, true));
      kernel.a = add(somewhere(program.buffers[kernel.out].words, false));
      kernel.b = add(somewhere(program.buffers[kernel.out].words, false));
      break;
    default:
      kernel.kind = ProgramKernel::Kind::AddOne;
      kernel.out =
          add(random_.one_in(2) ? key_buffer(ring, keys) : arena_buffer(ring, kCellWords, cells));
      break;
  }
  program.kernels.push_back(kernel);
}

Program HonestClient::make_program(std::size_t ring) {
  Program program;
  std::set<std::string> keys;
  std::set<std::uint64_t> cells;
  if (random_.one_in(12)) {
    // A value that other rings see.
    ProgramBuffer shared;
    shared.key = "shared" + std::to_string(random_.below(3));
    shared.words = 64;
    shared.resident = random_.one_in(3);
    ProgramKernel fill;
    fill.value = next_value_++;
    shared_.insert(fill.value);
    program.buffers.push_back(shared);
    program.kernels.push_back(fill);
    return program;
  }
  const std::uint64_t steps = random_.one_in(4) ? 2 : 1;
  for (std::uint64_t i = 0; i < steps; ++i) add_step(ring, program, keys, cells);
  const ProgramKernel last = program.kernels.back();
  if (random_.one_in(4)) {
    // Another kernel that goes on with what the last one wrote.
    ProgramKernel next;
    next.kind = ProgramKernel::Kind::AddOne;
    next.out = last.out;
    program.kernels.push_back(next);
  } else if (random_.one_in(4)) {
    // Through a temporary.
    ProgramBuffer temporary;
    temporary.where = Where::Temporary;
    temporary.words = program.buffers[last.out].words;
    program.buffers.push_back(temporary);
    const auto index = static_cast<std::uint16_t>(program.buffers.size() - 1);
    ProgramKernel fill;
    fill.value = next_value_++;
    fill.out = index;
    ProgramKernel add = last;
    add.kind = ProgramKernel::Kind::Add;
    add.a = index;
    add.b = index;
    program.kernels.back() = fill;
    program.kernels.push_back(add);
  }
  if (random_.one_in(25)) {
    ProgramKernel fail;
    fail.kind = ProgramKernel::Kind::Fail;
    program.kernels.push_back(fail);
  }
  if (random_.one_in(10)) program.n_iter = 3;
  program.stateful = random_.one_in(20);
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    ProgramBuffer& buffer = program.buffers[i];
    if (buffer.where == Where::Key) buffer.resident = program.writes(i) && random_.one_in(3);
  }
  return program;
}

// --- Operations ----------------------------------------------------------------------------------

SimOperation HonestClient::make_run(std::size_t ring, std::uint64_t now_ns, Bytes& message) {
  SimOperation operation;
  operation.kind = Kind::Run;
  operation.id = next_id_++;
  RunOptions options;
  options.priority = random_.one_in(4) ? static_cast<int>(random_.between(0, 200)) - 100 : 0;
  options.profile = operation.profile = random_.one_in(8);
  if (random_.one_in(10)) {
    options.deadline_ns = now_ns + random_.below(200'000);
    operation.has_deadline = true;
  }
  auto& plans = rings_[ring]->plans;
  if (!plans.empty() && random_.one_in(3)) {
    const Plan& plan = plans[random_.below(plans.size())];
    operation.program = plan.program;
    // Another key of the same size for a buffer that is a whole key.
    std::vector<std::pair<std::string, std::string>> renames;
    ProgramBuffer& first = operation.program.buffers.front();
    const std::string other = key_name(ring, 2);
    const bool is_free =
        std::none_of(operation.program.buffers.begin(), operation.program.buffers.end(),
                     [&](const ProgramBuffer& buffer) { return buffer.key == other; });
    if (first.where == Where::Key && first.words == 64 && first.offset == 0 && is_free &&
        first.key.rfind("shared", 0) != 0) {
      first.key = other;
      renames.emplace_back("b0", other);
    }
    message = invoke_message(operation.id, plan.plan, renames, options);
    return operation;
  }
  operation.program = make_program(ring);
  message = submit_message(operation.id,
                           encode_request(operation.program.to_request(client_.arena())), options);
  return operation;
}

SimOperation HonestClient::make_cancel(std::size_t ring, Bytes& message) {
  SimOperation operation;
  operation.kind = Kind::Cancel;
  operation.id = next_id_++;
  const std::uint64_t last = operation.id - 1;
  operation.target = last < 1 ? 1 : random_.between(last > 6 ? last - 6 : 1, last);
  if (SimOperation* target = rings_[ring]->model.find(operation.target)) target->cancel_sent = true;
  message = cancel_message(operation.id, operation.target);
  return operation;
}

SimOperation HonestClient::make_operation(std::size_t ring, std::uint64_t now_ns, Bytes& message) {
  const std::uint64_t choice = random_.below(100);
  if (choice < 42) return make_run(ring, now_ns, message);
  if (choice < 52) return make_lane_operation(ring, message);
  if (choice < 55) {
    return ticks_.under_way ? make_run(ring, now_ns, message) : make_tick(message);
  }
  if (choice < 62) return make_cancel(ring, message);
  SimOperation operation;
  operation.id = next_id_++;
  const std::uint64_t index = random_.below(kKeysPerRing);
  operation.key = key_name(ring, index);
  if (choice < 72) {
    operation.kind = Kind::Put;
    operation.words.assign(words_of(index), next_value_++);
    message = put_message(operation.id, operation.key, to_bytes(operation.words));
  } else if (choice < 76) {
    // Of a key that is as large as one cell.
    operation.kind = Kind::PutArena;
    operation.key = key_name(ring, 2 + 6 * random_.below(2));
    operation.count = kCellWords;
    operation.offset = (ring * kCellsPerRing + random_.below(kCellsPerRing)) * kCellWords;
    message = put_segment_message(operation.id, operation.key, client_.arena(),
                                  operation.offset * 4, operation.count * 4);
  } else if (choice < 88) {
    operation.kind = Kind::Get;
    if (random_.one_in(5)) operation.key = "shared" + std::to_string(random_.below(3));
    message = get_message(operation.id, operation.key);
  } else if (choice < 91) {
    operation.kind = Kind::Stat;
    message = stat_message(operation.id, operation.key);
  } else if (choice < 95) {
    operation.kind = Kind::Remove;
    message = remove_message(operation.id, operation.key);
  } else if (choice < 98 || rings_[ring]->plans.empty()) {
    operation.kind = Kind::Prepare;
    operation.key.clear();
    operation.program = make_program(ring);
    message = prepare_message(operation.id,
                              encode_request(operation.program.to_request(client_.arena())));
  } else {
    operation.kind = Kind::Release;
    operation.key.clear();
    message = release_message(operation.id, rings_[ring]->plans.back().plan);
    rings_[ring]->plans.pop_back();
  }
  return operation;
}

void HonestClient::act(std::uint64_t now_ns, const Faults& faults) {
  const std::size_t ring = random_.below(rings_.size());
  SimClient::Ring& own = client_.ring(ring);
  if (act_on_lane(ring, faults)) return;
  // The largest message must fit: an operation that was made is sent.
  if (!own.writer.can_write(80'000)) return;
  Bytes message;
  SimOperation operation = make_operation(ring, now_ns, message);
  operation.deaths_before = faults.executor_deaths;
  operation.tick_min = ticks_.answered;
  KAAS_CHECK(client_.send(ring, message));
  trace_.add("client " + std::to_string(client_.session()) + "." + std::to_string(ring) +
             " sends " + describe(operation));
  ++counts_.sent;
  rings_[ring]->model.sent(std::move(operation));
  if (own.writer.wake_due()) own.doorbell.ring();
}

std::string HonestClient::take(std::size_t ring, SeenAnswer answer, const Faults& faults) {
  trace_.add("client " + std::to_string(client_.session()) + "." + std::to_string(ring) +
             " is answered " + std::to_string(answer.id) + " " + name_of(answer.code));
  trace_.add_bytes(answer.data);
  ++(answer.code == StatusCode::Ok ? counts_.ok : counts_.failed);
  if (answer.code == StatusCode::DataLost) ++counts_.lost;
  if (answer.place == wire::ObjectPlace::Device) ++counts_.resident;
  RingState& state = *rings_[ring];
  const SimOperation* operation = state.model.find(answer.id);
  const bool is_good = answer.code == StatusCode::Ok;
  if (operation != nullptr && operation->kind == Kind::Prepare && is_good) {
    auto& plans = operation->for_lane ? state.lane_plans : state.plans;
    plans.push_back({answer.plan, operation->program});
  }
  if (operation != nullptr && operation->kind == Kind::Put && operation->key == kTickKey) {
    ticks_.under_way = false;
    (is_good ? ticks_.answered : ticks_.sent) = is_good ? ticks_.sent : ticks_.answered;
  }
  if (operation != nullptr && operation->kind == Kind::OpenLane) {
    std::string fault = take_grant(ring, *operation, answer);
    if (!fault.empty()) return fault;
  }
  if (operation != nullptr && is_good) {
    std::string fault = check_tick(*operation);
    if (!fault.empty()) return fault;
  }
  std::optional<Bytes> object;
  if (answer.token != 0) {
    object = client_.receive(answer.token);
    if (!object) return "the descriptor of token " + std::to_string(answer.token) + " is not there";
    trace_.add_bytes(*object);
  }
  const std::string fault = state.model.answered(std::move(answer), std::move(object), faults);
  if (fault.empty()) return {};
  return "session " + std::to_string(client_.session()) + " ring " + std::to_string(ring) + ": " +
         fault;
}

std::string HonestClient::read(const Faults& faults, std::size_t limit) {
  for (std::size_t ring = 0; ring < rings_.size(); ++ring) {
    if (asleep(ring)) continue;
    std::vector<SeenAnswer> answers = client_.read(ring, limit);
    for (SeenAnswer& answer : answers) {
      std::string fault = take(ring, std::move(answer), faults);
      if (!fault.empty()) return fault;
    }
    std::string fault = read_lane(ring, faults);
    if (!fault.empty()) return fault;
    if (!rings_[ring]->again.empty()) send_again(ring);
    // kaasd may wait for the room.
    SimClient::Ring& own = client_.ring(ring);
    if (!answers.empty() && own.writer.wake_due()) own.doorbell.ring();
    if (answers.empty()) fall_asleep(ring);
  }
  return {};
}

std::pair<std::uint32_t, std::uint32_t> HonestClient::wake_words(std::size_t ring) {
  const RingState& state = *rings_[ring];
  return {client_.ring(ring).completion.view().header->wake_word.load(),
          state.lane == nullptr ? 0 : state.lane->out().header->wake_word.load()};
}

// Whether the ring's reader sleeps and has not been woken.
bool HonestClient::asleep(std::size_t ring) {
  RingState& state = *rings_[ring];
  if (!state.asleep) return false;
  if (wake_words(ring) == state.words) return true;
  state.asleep = false;
  retract_sleep(*client_.ring(ring).submit.view().header);
  if (state.lane != nullptr) retract_sleep(*state.lane->in().header);
  return false;
}

void HonestClient::fall_asleep(std::size_t ring) {
  RingState& state = *rings_[ring];
  SimClient::Ring& own = client_.ring(ring);
  announce_sleep(*own.submit.view().header);
  if (state.lane != nullptr) announce_sleep(*state.lane->in().header);
  state.words = wake_words(ring);
  const bool lane_waits =
      state.lane != nullptr &&
      (state.lane->reader.waiting() ||
       own.completion.view().header->lanes_ended.load() >= state.lane->number());
  state.asleep = !own.reader.waiting() && !lane_waits && state.again.empty();
  if (state.asleep) return;
  retract_sleep(*own.submit.view().header);
  if (state.lane != nullptr) retract_sleep(*state.lane->in().header);
}

std::size_t HonestClient::unanswered() const {
  std::size_t sum = 0;
  for (const auto& ring : rings_) sum += ring->model.unanswered();
  return sum;
}

std::string HonestClient::check_arena() const {
  for (const auto& ring : rings_) {
    std::string fault = ring->model.check_arena(client_.arena_bytes());
    if (!fault.empty()) return "session " + std::to_string(client_.session()) + ": " + fault;
  }
  return {};
}

}  // namespace kaas
