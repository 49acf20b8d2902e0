#include "tools/sim/model.h"

#include <algorithm>

namespace kaas {
namespace {

using Kind = SimOperation::Kind;
using Where = ProgramBuffer::Where;

std::string wrong(const SimOperation& operation, const std::string& what) {
  const SeenAnswer& answer = *operation.answer;
  return describe(operation) + ": " + what + "; the answer is " +
         to_string(Status{answer.code, answer.message});
}

bool contains(const std::vector<StatusCode>& codes, StatusCode code) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

}  // namespace

std::string describe(const SimOperation& operation) {
  static constexpr const char* kNames[] = {"put",
                                           "put of an arena range",
                                           "get",
                                           "stat",
                                           "remove",
                                           "run",
                                           "prepare",
                                           "release",
                                           "cancel",
                                           "question for a lane",
                                           "drop of a lane's call"};
  std::string text =
      std::string(kNames[static_cast<int>(operation.kind)]) + " " + std::to_string(operation.id);
  if (!operation.key.empty()) text += " of '" + operation.key + "'";
  if (operation.count != 0) text += " from arena+" + std::to_string(operation.offset);
  if (operation.has_deadline) text += " with a deadline";
  if (operation.target != 0) text += " of " + std::to_string(operation.target);
  const std::string program = operation.program.describe();
  return program.empty() ? text : text + ": " + program;
}

SimOperation* RingModel::find(std::uint64_t id) {
  const auto found =
      std::find_if(log_.begin(), log_.end(), [&](const SimOperation& one) { return one.id == id; });
  return found == log_.end() ? nullptr : &*found;
}

std::size_t RingModel::unanswered() const {
  return static_cast<std::size_t>(std::count_if(
      log_.begin(), log_.end(), [](const SimOperation& one) { return !one.answer.has_value(); }));
}

std::string RingModel::answered(SeenAnswer answer, std::optional<Bytes> object,
                                const Faults& faults) {
  SimOperation* operation = find(answer.id);
  if (operation == nullptr) {
    return "an answer to " + std::to_string(answer.id) + ", which is not under way";
  }
  if (operation->answer.has_value()) return describe(*operation) + " was answered twice";
  operation->answer = std::move(answer);
  operation->object = std::move(object);
  while (!log_.empty() && log_.front().answer.has_value()) {
    const SimOperation& first = log_.front();
    outcomes_[first.id] = first.answer->code;
    const std::string fault = look_at(first, faults);
    if (!fault.empty()) return fault;
    log_.pop_front();
  }
  return {};
}

std::string RingModel::look_at(const SimOperation& operation, const Faults& faults) {
  const StatusCode code = operation.answer->code;
  switch (operation.kind) {
    case Kind::Put:
    case Kind::PutArena: {
      if (code != StatusCode::Ok) return excuse(operation, faults, {});
      Value value{operation.words, true};
      if (operation.kind == Kind::PutArena) {
        const std::uint64_t first = operation.offset / kCellWords - first_cell_;
        for (std::uint64_t cell = first; cell < first + operation.count / kCellWords; ++cell) {
          value.words.insert(value.words.end(), cells_[cell].words.begin(),
                             cells_[cell].words.end());
          value.known = value.known && cells_[cell].known;
        }
      }
      keys_[operation.key] = std::move(value);
      tainted_.erase(operation.key);
      return {};
    }
    case Kind::Get:
    case Kind::Stat:
      return look_at_get(operation, faults);
    case Kind::Remove:
      if (code == StatusCode::NotFound && keys_.count(operation.key) == 0) return {};
      if (code != StatusCode::Ok || keys_.erase(operation.key) == 0) {
        return wrong(operation, "does not fit what was stored");
      }
      tainted_.erase(operation.key);
      return {};
    case Kind::Run:
      return look_at_run(operation, faults);
    case Kind::Prepare:
      return code == StatusCode::Ok ? "" : excuse(operation, faults, {});
    case Kind::Release:
      return code == StatusCode::Ok ? "" : wrong(operation, "the plan was prepared");
    case Kind::DropLaneCall:
      return code == StatusCode::Ok ? "" : wrong(operation, "nothing is asked of anybody");
    case Kind::OpenLane:
      // Refused for many reasons, none of which may be the session's or kaasd's fault.
      return code == StatusCode::ProtocolViolation || code == StatusCode::Internal
                 ? wrong(operation, "no reason to fail")
                 : "";
    case Kind::Cancel:
      return look_at_cancel(operation);
  }
  return {};
}

bool RingModel::may_be_lost(const std::string& key, const Faults& faults) const {
  const auto found = keys_.find(key);
  return found != keys_.end() && found->second.resident_since &&
         *found->second.resident_since < faults.executor_deaths;
}

// Whether it reads, or writes slices over, what may be lost.
bool RingModel::needs_lost(const SimOperation& operation, const Faults& faults) const {
  const Program& program = operation.program;
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    const ProgramBuffer& buffer = program.buffers[i];
    const bool needed = program.reads(i) || (program.writes(i) && buffer.offset != 0);
    if (buffer.where == Where::Key && needed && may_be_lost(buffer.key, faults)) return true;
  }
  return false;
}

std::string RingModel::look_at_get(const SimOperation& operation, const Faults& faults) {
  const SeenAnswer& answer = *operation.answer;
  if (answer.code == StatusCode::DependencyFailed && tainted_.count(operation.key) != 0) return {};
  const Words got = to_words(operation.object ? *operation.object : answer.data);
  if (is_shared(operation.key)) {
    if (answer.code == StatusCode::NotFound || operation.kind == Kind::Stat) return {};
    if (answer.code == StatusCode::DataLost && faults.executor_deaths > 0) return {};
    if (answer.code != StatusCode::Ok) return wrong(operation, "no reason to fail");
    const bool uniform = std::all_of(got.begin(), got.end(),
                                     [&](std::uint32_t word) { return word == got.front(); });
    if (!uniform) return wrong(operation, "bytes of two versions are mixed");
    return shared_.count(got.front()) != 0 ? "" : wrong(operation, "nobody wrote these bytes");
  }
  const auto found = keys_.find(operation.key);
  if (found == keys_.end()) {
    return answer.code == StatusCode::NotFound ? "" : wrong(operation, "there is no such object");
  }
  // Descriptors of earlier gets may fill the socket.
  if (answer.code == StatusCode::ResourceExhausted && found->second.words.size() > 16'384)
    return {};
  if (answer.code == StatusCode::DataLost && may_be_lost(operation.key, faults)) return {};
  if (answer.code != StatusCode::Ok) return wrong(operation, "the object is there");
  if (operation.kind == Kind::Get) found->second.resident_since.reset();
  if (answer.bytes != found->second.words.size() * 4) return wrong(operation, "wrong size");
  if (operation.kind == Kind::Stat || !found->second.known) return {};
  return got == found->second.words ? "" : wrong(operation, "wrong bytes");
}

// False: it can't be loaded, and `expected` says why.
bool RingModel::load(const ProgramBuffer& buffer, Words& words,
                     std::vector<StatusCode>& expected) const {
  bool known = true;
  const auto take = [&](const Words& from, std::uint64_t at) {
    if (at + buffer.words > from.size() && !(buffer.zero_fill && at <= from.size())) {
      expected.push_back(StatusCode::InvalidArgument);
      return;
    }
    for (std::uint64_t n = 0; n < buffer.words && at + n < from.size(); ++n)
      words[n] = from[at + n];
  };
  switch (buffer.where) {
    case Where::Key: {
      if (buffer.key == "tick") return false;  // The client looks at it.
      const auto found = keys_.find(buffer.key);
      if (found == keys_.end()) {
        expected.push_back(StatusCode::NotFound);
        break;
      }
      known = found->second.known;
      take(found->second.words, buffer.offset);
      break;
    }
    case Where::Arena:
      for (std::uint64_t n = 0; n < buffer.words; ++n) {
        const Cell& cell = cells_[(buffer.offset + n) / kCellWords - first_cell_];
        words[n] = cell.words[(buffer.offset + n) % kCellWords];
        known = known && cell.known;
      }
      break;
    case Where::Inline:
      words = buffer.data;
      break;
    case Where::Temporary:
      break;
  }
  return known;
}

std::string RingModel::look_at_run(const SimOperation& operation, const Faults& faults) {
  const Program& program = operation.program;
  std::vector<StatusCode> expected;
  std::vector<Words> memory;
  std::vector<bool> known(program.buffers.size(), true);
  bool all_known = true;
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    memory.emplace_back(program.buffers[i].words, 0u);
    if (!program.reads(i)) continue;
    known[i] = load(program.buffers[i], memory[i], expected);
    all_known = all_known && known[i];
  }
  if (program.fails()) expected.push_back(StatusCode::KernelFault);
  if (operation.answer->code != StatusCode::Ok) {
    const std::string fault = excuse(operation, faults, expected);
    spoil(operation, faults);
    return fault;
  }
  if (!expected.empty()) {
    return wrong(operation, std::string("it must have failed with ") + name_of(expected.front()));
  }
  if (operation.profile && !operation.answer->profiled) return wrong(operation, "no profile");
  program.compute(memory);
  // What was made of unknown bytes is unknown: all of it, to be simple.
  std::fill(known.begin(), known.end(), all_known);
  return apply_outputs(operation, memory, known);
}

std::string RingModel::apply_outputs(const SimOperation& operation,
                                     const std::vector<Words>& memory,
                                     const std::vector<bool>& known) {
  const Program& program = operation.program;
  std::set<std::string> done;
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    if (!program.writes(i)) continue;
    const ProgramBuffer& buffer = program.buffers[i];
    switch (buffer.where) {
      case Where::Key:
        if (done.insert(buffer.key).second) store_slices(operation, buffer.key, memory, known[i]);
        tainted_.erase(buffer.key);
        break;
      case Where::Arena:
        for (std::uint64_t n = 0; n < buffer.words; ++n) {
          Cell& cell = cells_[(buffer.offset + n) / kCellWords - first_cell_];
          cell.words[(buffer.offset + n) % kCellWords] = memory[i][n];
          cell.known = known[i];
        }
        break;
      case Where::Inline: {
        const std::string name = "b" + std::to_string(i);
        const auto& outputs = operation.answer->outputs;
        const auto output = std::find_if(outputs.begin(), outputs.end(),
                                         [&](const SeenOutput& one) { return one.name == name; });
        if (output == outputs.end()) return wrong(operation, "output " + name + " is missing");
        if (known[i] && to_words(output->data) != memory[i]) {
          return wrong(operation, "output " + name + " is wrong");
        }
        break;
      }
      case Where::Temporary:
        break;
    }
  }
  return {};
}

// A write at the object's begin makes it anew; others are laid over what is there.
void RingModel::store_slices(const SimOperation& operation, const std::string& key,
                             const std::vector<Words>& memory, bool known) {
  const Program& program = operation.program;
  Value value{{}, known};
  bool replaces = false;
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    const ProgramBuffer& buffer = program.buffers[i];
    if (buffer.where == Where::Key && buffer.key == key && program.writes(i)) {
      replaces = replaces || buffer.offset == 0;
    }
  }
  if (!replaces && keys_.count(key) != 0) {
    value.words = keys_[key].words;
    value.known = known && keys_[key].known;
  }
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    const ProgramBuffer& buffer = program.buffers[i];
    if (buffer.where != Where::Key || buffer.key != key || !program.writes(i)) continue;
    if (buffer.resident && replaces) value.resident_since = operation.deaths_before;
    value.words.resize(std::max(value.words.size(), std::size_t(buffer.offset + buffer.words)));
    std::copy(memory[i].begin(), memory[i].end(),
              value.words.begin() + static_cast<std::ptrdiff_t>(buffer.offset));
  }
  keys_[key] = std::move(value);
}

bool RingModel::reads_tainted(const SimOperation& operation) const {
  for (std::size_t i = 0; i < operation.program.buffers.size(); ++i) {
    const ProgramBuffer& buffer = operation.program.buffers[i];
    if (buffer.where == Where::Key && operation.program.reads(i) &&
        tainted_.count(buffer.key) != 0) {
      return true;
    }
  }
  return false;
}

// Whether a run behind it writes what it reads in place: that one may be done before a repetition.
bool RingModel::may_be_overwritten(const SimOperation& operation) const {
  const auto overlaps = [&](const ProgramBuffer& written) {
    for (std::size_t i = 0; i < operation.program.buffers.size(); ++i) {
      const ProgramBuffer& read = operation.program.buffers[i];
      if (read.where == Where::Arena && operation.program.reads(i) &&
          read.offset < written.offset + written.words &&
          written.offset < read.offset + read.words) {
        return true;
      }
    }
    return false;
  };
  return std::any_of(log_.begin(), log_.end(), [&](const SimOperation& other) {
    if (other.kind != Kind::Run || other.id <= operation.id) return false;
    for (std::size_t i = 0; i < other.program.buffers.size(); ++i) {
      const ProgramBuffer& buffer = other.program.buffers[i];
      if (buffer.where == Where::Arena && other.program.writes(i) && overlaps(buffer)) return true;
    }
    return false;
  });
}

// Empty: the failure has a reason.
std::string RingModel::excuse(const SimOperation& operation, const Faults& faults,
                              const std::vector<StatusCode>& expected) const {
  const StatusCode code = operation.answer->code;
  if (contains(expected, code)) return {};
  const bool runs = operation.kind == Kind::Run;
  bool excused = false;
  switch (code) {
    case StatusCode::ResourceExhausted:
      excused = faults.store_is_small;
      break;
    case StatusCode::OutOfMemory:
      excused = runs && faults.device_is_small;
      break;
    case StatusCode::KernelFault:
      excused = faults.launches_fail || faults.executor_deaths >= 2;
      break;
    case StatusCode::UnknownOutcome:
      excused = runs && faults.executor_deaths >= 1 &&
                (!operation.program.replayable() || may_be_overwritten(operation));
      break;
    case StatusCode::DeadlineExceeded:
      excused = operation.has_deadline;
      break;
    case StatusCode::Cancelled:
      excused = operation.cancel_sent;
      break;
    case StatusCode::DependencyFailed:
      excused = runs && reads_tainted(operation);
      break;
    case StatusCode::DataLost:
      excused = runs && needs_lost(operation, faults);
      break;
    case StatusCode::Unavailable:
      excused = faults.executors_refused > 0;
      break;
    default:
      break;
  }
  return excused ? "" : wrong(operation, "no reason to fail");
}

// A failed run stores nothing, but may have begun to write the arena; also one that was cancelled
// while it was queued again after its executor's end.
void RingModel::spoil(const SimOperation& operation, const Faults& faults) {
  const StatusCode code = operation.answer->code;
  const bool tried_once = faults.executor_deaths != operation.deaths_before;
  const bool never_began = code == StatusCode::NotFound || code == StatusCode::InvalidArgument ||
                           (code == StatusCode::Cancelled && !tried_once);
  const Program& program = operation.program;
  for (std::size_t i = 0; i < program.buffers.size(); ++i) {
    if (!program.writes(i)) continue;
    const ProgramBuffer& buffer = program.buffers[i];
    if (buffer.where == Where::Key) tainted_.insert(buffer.key);
    if (buffer.where != Where::Arena || never_began) continue;
    for (std::uint64_t n = 0; n < buffer.words; ++n) {
      cells_[(buffer.offset + n) / kCellWords - first_cell_].known = false;
    }
  }
}

std::string RingModel::look_at_cancel(const SimOperation& operation) {
  const StatusCode code = operation.answer->code;
  if (code == StatusCode::NotFound || code == StatusCode::InvalidArgument) return {};
  if (code != StatusCode::Ok) return wrong(operation, "no reason to fail");
  const auto target = outcomes_.find(operation.target);
  if (target == outcomes_.end()) return wrong(operation, "its target was never sent");
  if (target->second != StatusCode::Cancelled) {
    return wrong(operation, "its target was answered " + std::string(name_of(target->second)));
  }
  return {};
}

std::string RingModel::check_arena(std::span<const std::byte> arena) const {
  for (std::uint64_t i = 0; i < kCellsPerRing; ++i) {
    if (!cells_[i].known) continue;
    const std::uint64_t cell_bytes = kCellWords * 4;
    if (to_words(arena.subspan((first_cell_ + i) * cell_bytes, cell_bytes)) != cells_[i].words) {
      return "arena cell " + std::to_string(first_cell_ + i) + " is wrong";
    }
  }
  return {};
}

}  // namespace kaas
