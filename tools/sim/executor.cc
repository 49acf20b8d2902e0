#include "tools/sim/executor.h"

#include <sys/socket.h>

#include "schema/ipc/segment.h"

namespace kaas {
namespace {

// Seen by the executors' loops: it moves by `batch_step_ns` at each look.
std::uint64_t batch_now_ns = 1;
std::uint64_t batch_step_ns = 0;

std::uint64_t batch_clock() noexcept {
  return batch_now_ns += batch_step_ns;
}

}  // namespace

void set_short_batches(bool short_batches) {
  batch_step_ns = short_batches ? 1'000'000 : 0;
}

Result<std::shared_ptr<OpenedLibrary>> SimLibraries::open(const SeenFile& file) {
  SeenFile renamed = file;
  renamed.path = "/" + file.path.substr(file.path.rfind('/') + 1);
  return libraries_.open(renamed);
}

bool SimExecutor::make_ends(const SimExecutorOptions& options, ExecutorEndpoints& kaasd) {
  geometry_ = kaasd.geometry = options.geometry;
  auto work = create_segment("sim-work", geometry_.segment_bytes());
  auto report = create_segment("sim-report", geometry_.segment_bytes());
  auto outbox = create_segment("sim-outbox", options.outbox_bytes);
  int sockets[2];
  auto doorbell = Doorbell::create_pair();
  if (!work || !report || !outbox || !doorbell ||
      ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
    return false;
  }
  kaasd.socket = Descriptor(sockets[0]);
  socket_ = Descriptor(sockets[1]);
  kaasd.doorbell = std::move(doorbell->first);
  doorbell_ = std::move(doorbell->second);
  const auto map = [&](const Descriptor& segment, Mapping::Mode mode, Mapping& mapping) {
    auto mapped = Mapping::create(segment.get(), geometry_.segment_bytes(), mode, "ring");
    if (mapped.has_value()) mapping = *std::move(mapped);
    return mapping.data() != nullptr;
  };
  const bool mapped = map(*work, Mapping::Mode::ReadWrite, kaasd.work) &&
                      map(*report, Mapping::Mode::ReadOnly, kaasd.report) &&
                      map(*work, Mapping::Mode::ReadOnly, work_) &&
                      map(*report, Mapping::Mode::ReadWrite, report_);
  auto seen = Mapping::create(outbox->get(), options.outbox_bytes, Mapping::Mode::ReadOnly, "box");
  if (!mapped || !seen) return false;
  kaasd.outbox = *std::move(seen);
  RingView::at(kaasd.work.data(), geometry_).initialise(1);
  RingView::at(report_.data(), geometry_).initialise(1);
  SegmentTerms terms;
  terms.segment = kOutboxSegment;
  terms.bytes = options.outbox_bytes;
  terms.writable = true;
  auto writable = ExecutorSegment::create(terms, *std::move(outbox));
  if (!writable) return false;
  outbox_ = *std::move(writable);
  return true;
}

std::unique_ptr<SimExecutor> SimExecutor::create(const SimExecutorOptions& options,
                                                 ExecutorIdentity identity,
                                                 std::unique_ptr<ExecutorLink>& link) {
  std::unique_ptr<SimExecutor> executor(new SimExecutor);
  ExecutorEndpoints kaasd;
  KAAS_CHECK(executor->make_ends(options, kaasd));
  executor->identity_ = identity;
  executor->device_ = std::make_unique<FakeDevice>(options.device);
  executor->libraries_ = std::make_unique<SimLibraries>(*executor->device_);
  executor->source_ = std::make_unique<SocketSegmentSource>(executor->socket_.get());
  executor->exports_ = std::make_unique<SocketExportSink>(executor->socket_.get());
  ExecutorParts parts{.work = executor->work(),
                      .report = executor->report(),
                      .device = *executor->device_,
                      .libraries = *executor->libraries_,
                      .segments = *executor->source_,
                      .exports = *executor->exports_,
                      .bells = executor->bells_,
                      .workers = nullptr,
                      .memory_limit_bytes = options.device.memory_bytes,
                      .wake_kaasd = [raw = executor.get()] { raw->doorbell_.ring(); },
                      .wake = {},
                      .tag_end = nullptr,
                      .now = &batch_clock};
  executor->loop_ = std::make_unique<ExecutorLoop>(parts);
  executor->loop_->add_segment(kOutboxSegment, executor->outbox_);
  link = std::make_unique<ExecutorLink>(std::move(identity), std::move(kaasd));
  return executor;
}

void SimExecutor::forge_report(std::span<const std::byte> bytes) {
  const RingView view = report();
  const auto slot_of = [&](std::uint64_t position) -> Slot& {
    return view.slots[position & (geometry_.slot_count - 1)];
  };
  std::uint64_t position = work().header->consumed.load();
  while (slot_of(position).sequence.load() == position + 1) ++position;
  Slot& slot = slot_of(position);
  const bool is_short = bytes.size() <= kSlotPayloadBytes;
  KAAS_CHECK(bytes.size() <= geometry_.message_bytes_max());
  slot.bytes = static_cast<std::uint32_t>(bytes.size());
  slot.heap_offset = is_short ? kInSlot : 0;
  if (!bytes.empty()) {
    std::memcpy(is_short ? slot.payload : view.heap, bytes.data(), bytes.size());
  }
  slot.sequence.store(position + 1);
}

}  // namespace kaas
