#include "daemon/supervise/executor_link.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "schema/ipc/lane.h"
#include "schema/ipc/socket.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

// Control items that wait for room. Past it the executor is overrun.
constexpr std::size_t kHeldMax = 65'536;
// Dropped versions in one item, so that it always fits half a heap, and items a flush.
constexpr std::size_t kDroppedPerItem = 4096;
constexpr int kDroppedItemsPerFlush = 4;
// More than any ExportedMemory has.
constexpr std::size_t kExportedMessageBytesMax = 256;

wire::Dim3 dim3(const std::array<std::uint32_t, 3>& value) {
  return {value[0], value[1], value[2]};
}

// The number that an executor knows each buffer by. It knows those alone that have memory: a buffer
// that no kernel uses has none.
using BufferNumbers = std::vector<std::uint16_t>;

BufferNumbers number_buffers(const PlanTemplate& plan) {
  BufferNumbers numbers;
  std::uint16_t next = 0;
  for (const TemplateBuffer& buffer : plan.buffers) {
    numbers.push_back(next);
    if (buffer.used) ++next;
  }
  return numbers;
}

Offset<wire::Literal> encode_literal(FlatBufferBuilder& builder, const LiteralSpec& literal,
                                     const BufferNumbers& numbers) {
  if (literal.type != wire::LiteralType::Raw) {
    return wire::CreateLiteral(builder, literal.type, literal.bits);
  }
  const auto raw = builder.CreateVector(reinterpret_cast<const std::uint8_t*>(literal.raw.data()),
                                        literal.raw.size());
  std::vector<wire::AddressSlot> slots;
  for (const RawSlot& slot : literal.slots) {
    slots.emplace_back(slot.offset, numbers[slot.buffer]);
  }
  const auto slot_vector = builder.CreateVectorOfStructs(slots);
  return wire::CreateLiteral(builder, literal.type, 0, 0, raw, slot_vector);
}

Offset<wire::PlanKernel> encode_kernel(FlatBufferBuilder& builder, const PlanInstance& plan,
                                       std::size_t index, const BufferNumbers& numbers) {
  const TemplateKernel& kernel = plan.plan->kernels[index];
  std::vector<Offset<wire::Literal>> literals;
  for (const LiteralSpec& literal : kernel.literals) {
    literals.push_back(encode_literal(builder, literal, numbers));
  }
  std::vector<wire::PlanArgument> arguments;
  for (const TemplateArgument& argument : kernel.arguments) {
    const TemplateBuffer& buffer = plan.plan->buffers[argument.buffer];
    arguments.emplace_back(buffer.allocation_offset, buffer.bytes, buffer.allocation,
                           argument.access);
  }
  const auto name = builder.CreateSharedString(kernel.kernel);
  const auto literal_vector = builder.CreateVector(literals);
  const auto argument_vector = builder.CreateVectorOfStructs(arguments);
  const auto order = builder.CreateVector(kernel.order);
  const auto after = builder.CreateVector(kernel.after);
  const wire::Dim3 grid = dim3(kernel.grid);
  const wire::Dim3 block = dim3(kernel.block);
  const wire::Dim3 cluster = dim3(kernel.cluster.value_or(std::array<std::uint32_t, 3>{}));
  wire::PlanKernelBuilder item(builder);
  item.add_library(plan.libraries[plan.kernel_library[index]]->id);
  item.add_kernel(name);
  item.add_grid(&grid);
  item.add_block(&block);
  item.add_shared_bytes(kernel.shared_bytes);
  if (kernel.cluster) item.add_cluster(&cluster);
  item.add_cooperative(kernel.cooperative);
  item.add_programmatic(kernel.programmatic);
  item.add_literals(literal_vector);
  item.add_arguments(argument_vector);
  item.add_order(order);
  item.add_after(after);
  return item.Finish();
}

Offset<flatbuffers::Vector<std::uint8_t>> encode_bytes(FlatBufferBuilder& builder,
                                                       const std::vector<std::byte>& from) {
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(from.data()), from.size());
}

Offset<wire::DeviceMemory> encode_device_memory(FlatBufferBuilder& builder,
                                                const Segment& segment) {
  if (!segment.device) return 0;
  const DeviceMemoryTerms& terms = *segment.device;
  const auto handle = encode_bytes(builder, terms.handle);
  const auto gpu = terms.gpu.empty() ? 0 : encode_bytes(builder, terms.gpu);
  return wire::CreateDeviceMemory(builder, terms.kind, handle, terms.bytes, gpu);
}

std::vector<wire::PlanRange> ranges(const PlanTemplate& plan,
                                    const std::vector<std::uint16_t>& buffers) {
  std::vector<wire::PlanRange> result;
  for (const std::uint16_t index : buffers) {
    const TemplateBuffer& buffer = plan.buffers[index];
    result.emplace_back(buffer.allocation_offset, buffer.bytes, buffer.allocation,
                        buffer.zero_fill);
  }
  return result;
}

}  // namespace

Offset<wire::LoadPlan> encode_plan(FlatBufferBuilder& builder, const PlanInstance& instance) {
  const PlanTemplate& plan = *instance.plan;
  const BufferNumbers numbers = number_buffers(plan);
  std::vector<Offset<wire::PlanKernel>> kernels;
  for (std::size_t i = 0; i < plan.kernels.size(); ++i) {
    kernels.push_back(encode_kernel(builder, instance, i, numbers));
  }
  std::vector<wire::PlanBufferAddress> addresses;
  for (const TemplateBuffer& buffer : plan.buffers) {
    if (buffer.used) addresses.emplace_back(buffer.allocation_offset, buffer.allocation);
  }
  const auto kernel_vector = builder.CreateVector(kernels);
  const auto allocations = builder.CreateVector(plan.allocations);
  const auto loads = builder.CreateVectorOfStructs(ranges(plan, plan.loads));
  const auto stores = builder.CreateVectorOfStructs(ranges(plan, plan.stores));
  const auto buffers = builder.CreateVectorOfStructs(addresses);
  return wire::CreateLoadPlan(builder, instance.id, kernel_vector, allocations, loads, stores,
                              buffers, plan.n_iter, plan.until ? int{numbers[*plan.until]} : -1);
}

ExecutorLink::ExecutorLink(ExecutorIdentity identity, ExecutorEndpoints endpoints)
    : identity_(std::move(identity)),
      endpoints_(std::move(endpoints)),
      own_(RingView::at(endpoints_.work.data(), endpoints_.geometry)),
      peer_(RingView::at(endpoints_.report.data(), endpoints_.geometry)),
      writer_(own_, peer_.header),
      reader_(peer_, own_.header),
      outbox_(endpoints_.outbox.bytes()) {}

PushOutcome ExecutorLink::send(FlatBufferBuilder& builder, const char* what) {
  const auto bytes = finished(builder);
  const std::size_t limit = own_.geometry.message_bytes_max();
  if (bytes.size() > limit) {
    too_large_ = over_limit(StatusCode::ResourceExhausted, what, bytes.size(), limit);
    return PushOutcome::TooLarge;
  }
  return writer_.try_write(bytes) ? PushOutcome::Sent : PushOutcome::Full;
}

// All that the executor must have before the run.
PushOutcome ExecutorLink::precede(const RunMessage& message) {
  // Held items come first: a run that names a segment anew must not overtake its detachment.
  if (!held_.empty() && !drain_held()) return PushOutcome::Full;
  PushOutcome outcome = push_plan(*message.plan);
  if (outcome != PushOutcome::Sent) return outcome;
  outcome = attach(message.segments, false);
  if (outcome != PushOutcome::Sent) return outcome;
  if (!writer_.can_write(kSlotPayloadBytes + 4096)) return PushOutcome::Full;
  return attach(message.once_segments, true);
}

PushOutcome ExecutorLink::push(const RunMessage& message) {
  const PushOutcome outcome = precede(message);
  return outcome == PushOutcome::Sent ? send_run(message) : outcome;
}

PushOutcome ExecutorLink::push_lane_call(const RunMessage& message, const LaneTerms& terms) {
  const PushOutcome outcome = precede(message);
  if (outcome != PushOutcome::Sent) return outcome;
  encode_lane_call(message, terms);
  if (finished(builder_).size() > own_.geometry.message_bytes_max()) {
    return send(builder_, "bytes of the call's places and literals");
  }
  if (terms.starts) {
    builder_.Clear();
    const auto item = wire::CreateStartLane(builder_, terms.lane, kLaneGeometry.slot_count,
                                            kLaneGeometry.heap_bytes, terms.in_segment,
                                            terms.out_segment, terms.bell_segment);
    builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::StartLane, item.Union()));
    send_or_hold(builder_);
    encode_lane_call(message, terms);
  }
  send_or_hold(builder_);
  return PushOutcome::Sent;
}

void ExecutorLink::encode_lane_call(const RunMessage& message, const LaneTerms& terms) {
  builder_.Clear();
  const auto run = encode_run(message);
  const auto item = wire::CreateAddLaneCall(builder_, terms.lane, terms.call, run);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::AddLaneCall, item.Union()));
}

PushOutcome ExecutorLink::push_plan(const PlanInstance& plan) {
  if (!held_.empty() && !drain_held()) return PushOutcome::Full;
  const PushOutcome outcome = load_libraries(plan);
  return outcome == PushOutcome::Sent ? load_plan(plan) : outcome;
}

PushOutcome ExecutorLink::push_fetch(std::uint64_t version, std::uint64_t bytes,
                                     const SegmentRef& output) {
  if (!held_.empty() && !drain_held()) return PushOutcome::Full;
  if (!writer_.can_write(kSlotPayloadBytes)) return PushOutcome::Full;
  if (output != nullptr) {
    const PushOutcome outcome = attach({&output, 1}, true);
    if (outcome != PushOutcome::Sent) return outcome;
  }
  builder_.Clear();
  const auto item = wire::CreateFetch(builder_, version, bytes, output == nullptr ? 0 : output->id);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::Fetch, item.Union()));
  const PushOutcome outcome = send(builder_, "bytes of a fetch");
  // The executor forgets it when it has written it; named again, it is sent again.
  if (outcome == PushOutcome::Sent && output != nullptr) segments_.erase(output->id);
  return outcome;
}

PushOutcome ExecutorLink::attach(std::span<const std::shared_ptr<const Segment>> segments,
                                 bool once) {
  for (const auto& segment : segments) {
    if (segments_.count(segment->id) != 0) continue;
    builder_.Clear();
    const auto device_memory = encode_device_memory(builder_, *segment);
    const auto event =
        segment->kind == SegmentKind::Event ? encode_bytes(builder_, segment->event) : 0;
    builder_.Finish(wire::CreateAttachSegment(
        builder_, segment->id, segment->bytes, segment->writable || once, segment->guarded, once,
        device_memory, event, segment->kind == SegmentKind::Bell));
    const int descriptor = segment->descriptor.get();
    const std::size_t descriptors = segment->descriptor ? 1 : 0;
    switch (send_message(endpoints_.socket.get(), finished(builder_), {&descriptor, descriptors})) {
      case SendOutcome::Sent:
        break;
      case SendOutcome::WouldBlock:
        return PushOutcome::Full;
      case SendOutcome::HungUp:
      case SendOutcome::BadDescriptor:
        return PushOutcome::Down;
    }
    segments_.insert(segment->id);
  }
  return PushOutcome::Sent;
}

PushOutcome ExecutorLink::load_libraries(const PlanInstance& plan) {
  for (const auto& library : plan.libraries) {
    if (libraries_.count(library->id) != 0) continue;
    builder_.Clear();
    const auto path = builder_.CreateString(library->path);
    const auto item = wire::CreateLoadLibrary(builder_, library->id, path, library->file_bytes,
                                              library->mtime_ns, library->inode);
    builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::LoadLibrary, item.Union()));
    const PushOutcome outcome = send(builder_, "bytes of a library's name and its path");
    if (outcome != PushOutcome::Sent) return outcome;
    libraries_.insert(library->id);
  }
  return PushOutcome::Sent;
}

PushOutcome ExecutorLink::load_plan(const PlanInstance& plan) {
  if (plans_.count(plan.id) != 0) return PushOutcome::Sent;
  builder_.Clear();
  const auto item = encode_plan(builder_, plan);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::LoadPlan, item.Union()));
  const PushOutcome outcome = send(builder_, "bytes of the request's plan");
  if (outcome == PushOutcome::Sent) plans_.insert(plan.id);
  return outcome;
}

Offset<wire::Run> ExecutorLink::encode_run(const RunMessage& message) {
  std::vector<Offset<wire::LiteralOverride>> overrides;
  for (const LiteralOverrideSpec& literal : message.literals) {
    const auto raw =
        literal.raw.empty()
            ? Offset<flatbuffers::Vector<std::uint8_t>>()
            : builder_.CreateVector(reinterpret_cast<const std::uint8_t*>(literal.raw.data()),
                                    literal.raw.size());
    flatbuffers::Optional<wire::LiteralType> type = flatbuffers::nullopt;
    if (literal.type.has_value()) type = *literal.type;
    overrides.push_back(wire::CreateLiteralOverride(builder_, literal.kernel, literal.literal,
                                                    literal.bits, raw, type));
  }
  const auto literals = overrides.empty() ? 0 : builder_.CreateVector(overrides);
  const auto after =
      message.after.empty() ? 0 : builder_.CreateVector(message.after.data(), message.after.size());
  const auto loads = message.loads.empty() ? 0
                                           : builder_.CreateVectorOfStructs(message.loads.data(),
                                                                            message.loads.size());
  const auto stores = message.stores.empty() ? 0
                                             : builder_.CreateVectorOfStructs(
                                                   message.stores.data(), message.stores.size());
  const auto events = [&](std::span<const std::uint32_t> numbers) {
    return numbers.empty() ? 0 : builder_.CreateVector(numbers.data(), numbers.size());
  };
  const Offset<flatbuffers::Vector<std::uint32_t>> wait_events = events(message.wait_events);
  const Offset<flatbuffers::Vector<std::uint32_t>> record_events = events(message.record_events);
  wire::RunBuilder run(builder_);
  run.add_run(message.run);
  run.add_plan(message.plan->id);
  run.add_tenant(message.tenant);
  if (!message.loads.empty()) run.add_loads(loads);
  if (!message.stores.empty()) run.add_stores(stores);
  if (!overrides.empty()) run.add_literals(literals);
  if (!message.after.empty()) run.add_after(after);
  run.add_profile(message.profile);
  run.add_request(message.request);
  run.add_session(message.session);
  run.add_device_memory(message.device_memory);
  run.add_background(message.background);
  if (!message.wait_events.empty()) run.add_wait_events(wait_events);
  if (!message.record_events.empty()) run.add_record_events(record_events);
  return run.Finish();
}

PushOutcome ExecutorLink::send_run(const RunMessage& message) {
  builder_.Clear();
  const auto item = encode_run(message);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::Run, item.Union()));
  const PushOutcome outcome = send(builder_, "bytes of the request's places and literals");
  if (outcome != PushOutcome::Sent) return outcome;
  // The executor unmaps and forgets them when the run ends; named again, they are sent again.
  for (const auto& segment : message.once_segments) segments_.erase(segment->id);
  return PushOutcome::Sent;
}

PushOutcome ExecutorLink::push_export(const ExportMessage& message) {
  if (!held_.empty() && !drain_held()) return PushOutcome::Full;
  const PushOutcome attached = attach(message.sources, false);
  if (attached != PushOutcome::Sent) return attached;
  builder_.Clear();
  const auto item = wire::CreateExportObject(builder_, message.number, message.segment,
                                             &message.location, message.bytes);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::ExportObject, item.Union()));
  return send(builder_, "bytes of an export");
}

Result<Descriptor> ExecutorLink::take_exported(std::uint64_t number, std::uint32_t segment) {
  alignas(8) std::array<std::byte, kExportedMessageBytesMax> buffer;
  Received received = receive_message(endpoints_.socket.get(), buffer, 1);
  segments_.insert(segment);
  if (received.outcome == ReceiveOutcome::Violation &&
      !Descriptor(::fcntl(endpoints_.socket.get(), F_DUPFD_CLOEXEC, 0))) {
    return Status{StatusCode::ResourceExhausted, "kaasd has no file descriptors left"};
  }
  const wire::ExportedMemory* message = nullptr;
  if (received.outcome == ReceiveOutcome::Message) {
    message = verified_root<wire::ExportedMemory>(received.message);
  }
  if (message == nullptr || message->export_() != number || received.descriptors.size() != 1) {
    return Status{StatusCode::ProtocolViolation, "the executor has not sent what it exported"};
  }
  return std::move(received.descriptors.front());
}

const wire::ReportItem* ExecutorLink::next_report(bool& violation) {
  violation = false;
  std::span<const std::byte> message;
  switch (reader_.read(buffer_, message)) {
    case ReadOutcome::Empty:
      return nullptr;
    case ReadOutcome::Violation:
      violation = true;
      return nullptr;
    case ReadOutcome::Message:
      break;
  }
  reader_.advance();
  const auto* report = verified_root<wire::ReportItem>(message);
  violation = report == nullptr || !writer_.peer_is_sane();
  return violation ? nullptr : report;
}

void ExecutorLink::send_or_hold(FlatBufferBuilder& builder) {
  if (held_.empty() && send(builder, "bytes of a control item") == PushOutcome::Sent) return;
  const auto bytes = finished(builder);
  overrun_ = overrun_ || held_.size() >= kHeldMax;
  if (!overrun_) held_.emplace_back(bytes.begin(), bytes.end());
}

void ExecutorLink::drop_plan(std::uint32_t plan) {
  if (plans_.erase(plan) == 0) return;
  builder_.Clear();
  const auto item = wire::CreateDropPlan(builder_, plan);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::DropPlan, item.Union()));
  send_or_hold(builder_);
}

void ExecutorLink::drop_library(std::uint32_t library) {
  if (libraries_.erase(library) == 0) return;
  builder_.Clear();
  const auto item = wire::CreateDropLibrary(builder_, library);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::DropLibrary, item.Union()));
  send_or_hold(builder_);
}

bool ExecutorLink::detach_segment(std::uint32_t segment, bool acknowledge) {
  if (segments_.erase(segment) == 0) return false;
  builder_.Clear();
  const auto item = wire::CreateDetachSegment(builder_, segment, acknowledge);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::DetachSegment, item.Union()));
  send_or_hold(builder_);
  return true;
}

void ExecutorLink::drop_version(std::uint64_t version) {
  dropped_versions_.push_back(version);
}

void ExecutorLink::ask_for_counters() {
  if (asked_for_counters_) return;
  asked_for_counters_ = true;
  builder_.Clear();
  const auto item = wire::CreateReportCounters(builder_);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::ReportCounters, item.Union()));
  send_or_hold(builder_);
}

void ExecutorLink::remove_lane_call(std::uint32_t lane, std::uint32_t call) {
  builder_.Clear();
  const auto item = wire::CreateRemoveLaneCall(builder_, lane, call);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::RemoveLaneCall, item.Union()));
  send_or_hold(builder_);
}

void ExecutorLink::end_lane(std::uint32_t lane) {
  // Partner: ExecutorLanes::step, after it has read a slot.
  own_.header->lanes_ended.store(++lanes_ended_, std::memory_order_release);
  builder_.Clear();
  const auto item = wire::CreateEndLane(builder_, lane);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::EndLane, item.Union()));
  send_or_hold(builder_);
}

void ExecutorLink::cancel_run(std::uint64_t run) {
  builder_.Clear();
  const auto item = wire::CreateCancelRun(builder_, run);
  builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::CancelRun, item.Union()));
  send_or_hold(builder_);
}

bool ExecutorLink::drain_held() {
  while (!held_.empty() && writer_.try_write(held_.front())) held_.pop_front();
  return held_.empty();
}

void ExecutorLink::send_dropped_versions() {
  for (int n = 0; n < kDroppedItemsPerFlush && !dropped_versions_.empty(); ++n) {
    const std::size_t count = std::min(dropped_versions_.size(), kDroppedPerItem);
    builder_.Clear();
    std::uint64_t* copied = nullptr;
    const auto versions = builder_.CreateUninitializedVector(count, &copied);
    std::copy_n(dropped_versions_.begin(), count, copied);
    const auto item = wire::CreateDropVersions(builder_, versions);
    builder_.Finish(wire::CreateWorkItem(builder_, wire::Work::DropVersions, item.Union()));
    if (send(builder_, "bytes of dropped versions") != PushOutcome::Sent) return;
    dropped_versions_.erase(dropped_versions_.begin(),
                            dropped_versions_.begin() + static_cast<std::ptrdiff_t>(count));
  }
}

void ExecutorLink::flush() {
  const bool drained = drain_held();
  if (drained && !dropped_versions_.empty()) send_dropped_versions();
  reader_.publish();
  if (writer_.written() == woken_for_) return;  // Nothing that an executor would wait for.
  woken_for_ = writer_.written();
  if (writer_.wake_due()) endpoints_.doorbell.ring();
}

std::span<const std::byte> ExecutorLink::outbox_bytes(std::uint64_t offset,
                                                      std::uint64_t bytes) const {
  KAAS_CHECK(range_fits(offset, bytes, endpoints_.outbox.bytes()));  // Both are kaasd's own.
  return {endpoints_.outbox.data() + offset, bytes};
}

}  // namespace kaas
