#include "tests/unit/executor/loop_harness.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

Offset<wire::PlanKernel> encode(FlatBufferBuilder& builder, const TestKernel& kernel) {
  std::vector<Offset<wire::Literal>> literals;
  for (const TestLiteral& literal : kernel.literals) {
    const auto raw = builder.CreateVector(literal.raw);
    const auto slots = builder.CreateVectorOfStructs(literal.slots);
    literals.push_back(wire::CreateLiteral(builder, literal.type, literal.bits, 0, raw, slots));
  }
  const auto name = builder.CreateString(kernel.kernel);
  const auto literal_vector = builder.CreateVector(literals);
  const auto arguments = builder.CreateVectorOfStructs(kernel.arguments);
  const auto order = builder.CreateVector(kernel.order);
  const auto after = builder.CreateVector(kernel.after);
  return wire::CreatePlanKernel(builder, kernel.library, name, &kernel.grid, &kernel.block,
                                kernel.shared_bytes, nullptr, kernel.cooperative, literal_vector,
                                arguments, order, after);
}

SeenReport seen(const wire::ReportItem& item) {
  SeenReport report;
  report.type = item.report_type();
  if (const auto* done = item.report_as_RunDone()) {
    report.id = done->run();
    report.code = done->code();
    report.message = view(done->message());
    if (done->counters() != nullptr) report.counters = *done->counters();
    report.way = done->way();
    report.why_stream = done->why_stream();
  } else if (const auto* plan = item.report_as_PlanLoaded()) {
    report.id = plan->plan();
    report.code = plan->code();
    report.message = view(plan->message());
    report.stateful = plan->stateful();
    report.working_set_bytes = plan->working_set_bytes();
  } else if (const auto* library = item.report_as_LibraryLoaded()) {
    report.id = library->library();
    report.code = library->code();
    report.message = view(library->message());
    report.stateful = library->stateful();
    for (std::size_t i = 0; i < count(library->kernels()); ++i) {
      report.kernels.emplace_back(
          view(library->kernels()->Get(static_cast<flatbuffers::uoffset_t>(i))));
    }
  } else if (const auto* counters = item.report_as_CountersReport()) {
    if (counters->counters() != nullptr) report.counters = *counters->counters();
    report.used_bytes = counters->device_used_bytes();
  } else if (const auto* cancel = item.report_as_CancelDone()) {
    report.id = cancel->run();
    report.cancelled = cancel->cancelled();
  } else if (const auto* fetched = item.report_as_Fetched()) {
    report.id = fetched->version();
    report.code = fetched->code();
    report.message = view(fetched->message());
    report.words.resize(count(fetched->data()) / sizeof(std::uint32_t));
    for (std::size_t i = 0; i < report.words.size(); ++i) {
      std::memcpy(&report.words[i], fetched->data()->data() + i * sizeof(std::uint32_t),
                  sizeof(std::uint32_t));
    }
  } else if (const auto* memory = item.report_as_MemoryShort()) {
    for (std::size_t i = 0; i < count(memory->versions()); ++i) {
      report.versions.push_back(value_at(memory->versions(), i));
    }
  } else if (const auto* exported = item.report_as_ExportDone()) {
    report.id = exported->export_();
    report.code = exported->code();
    report.message = view(exported->message());
    report.allocation_bytes = exported->allocation_bytes();
    report.gpu_bytes = count(exported->gpu());
  } else if (const auto* added = item.report_as_LaneCallAdded()) {
    report.lane = added->lane();
    report.id = added->call();
    report.code = added->code();
    report.message = view(added->message());
  } else if (const auto* ended = item.report_as_LaneEnded()) {
    report.lane = ended->lane();
    report.code = ended->code();
    report.message = view(ended->message());
  }
  return report;
}

}  // namespace

LoopHarness::LoopHarness(const HarnessOptions& options)
    : fake(std::make_unique<FakeDevice>(
          FakeDevice::Options{.memory_bytes = options.memory_bytes,
                              .asynchronous = options.asynchronous,
                              .reaches_host = options.reaches_host,
                              .prepares = options.prepares,
                              .confines_background = options.confines_background})),
      fake_libraries(std::make_unique<FakeLibraries>(*fake)),
      work(options.geometry),
      report(options.geometry) {
  make_loop(options, *fake, *fake_libraries);
}

LoopHarness::LoopHarness(const HarnessOptions& options, Device& device, LibraryOpener& libraries)
    : work(options.geometry), report(options.geometry) {
  make_loop(options, device, libraries);
}

void LoopHarness::make_loop(const HarnessOptions& options, Device& device,
                            LibraryOpener& libraries) {
  ExecutorParts parts{.work = work.view(),
                      .report = report.view(),
                      .device = device,
                      .libraries = libraries,
                      .segments = source,
                      .exports = exports,
                      .bells = bells,
                      .workers = options.workers,
                      .loader = options.loader,
                      .memory_limit_bytes = options.memory_bytes,
                      .wake_kaasd = [this] { ++wakes; },
                      .wake = options.wake,
                      .tag_end = nullptr};
  loop = std::make_unique<ExecutorLoop>(parts);
  writer = RingWriter(work.view(), report.view().header);
  reader = RingReader(report.view(), work.view().header);
}

std::vector<std::uint32_t>& LoopHarness::segment(std::uint32_t id, std::vector<std::uint32_t> words,
                                                 bool writable, bool once) {
  auto& memory = memory_[id];
  memory = std::make_unique<std::vector<std::uint32_t>>(std::move(words));
  SegmentTerms terms;
  terms.segment = id;
  terms.writable = writable;
  terms.once = once;
  Result<std::shared_ptr<ExecutorSegment>> attached(
      ExecutorSegment::around(terms, std::as_writable_bytes(std::span(*memory))));
  source.queue.push_back({id, std::move(attached)});
  return *memory;
}

void LoopHarness::pin(std::uint32_t id) {
  for (AttachedSegment& attached : source.queue) {
    if (attached.segment != id) continue;
    EXPECT_TRUE((*attached.outcome)->pin(*fake).has_value());
  }
}

void LoopHarness::load_library(std::uint32_t library, const std::string& path) {
  send(wire::Work::LoadLibrary, [&](FlatBufferBuilder& b) {
    return wire::CreateLoadLibrary(b, library, b.CreateString(path));
  });
}

void LoopHarness::load_plan(const TestPlan& plan) {
  send(wire::Work::LoadPlan, [&](FlatBufferBuilder& b) {
    std::vector<Offset<wire::PlanKernel>> kernels;
    for (const TestKernel& kernel : plan.kernels) kernels.push_back(encode(b, kernel));
    const auto kernel_vector = b.CreateVector(kernels);
    const auto allocations = b.CreateVector(plan.allocations);
    const auto loads = b.CreateVectorOfStructs(plan.loads);
    const auto stores = b.CreateVectorOfStructs(plan.stores);
    const auto buffers = b.CreateVectorOfStructs(plan.buffers);
    return wire::CreateLoadPlan(b, plan.plan, kernel_vector, allocations, loads, stores, buffers,
                                plan.n_iter, plan.until);
  });
}

Offset<wire::Run> encode(FlatBufferBuilder& b, const TestRun& run) {
  std::vector<Offset<wire::LiteralOverride>> overrides;
  for (const TestOverride& literal : run.literals) {
    const auto raw = literal.raw.empty() ? 0 : b.CreateVector(literal.raw);
    overrides.push_back(wire::CreateLiteralOverride(b, literal.kernel, literal.literal,
                                                    literal.bits, raw, literal.type));
  }
  const auto loads = b.CreateVectorOfStructs(run.loads);
  const auto stores = b.CreateVectorOfStructs(run.stores);
  const auto literals = b.CreateVector(overrides);
  const auto after = b.CreateVector(run.after);
  const auto waits = b.CreateVector(run.wait_events);
  const auto records = b.CreateVector(run.record_events);
  return wire::CreateRun(b, run.run, run.plan, run.tenant, loads, stores, literals, after,
                         run.profile, run.request, run.session, waits, records, run.device_memory,
                         run.background);
}

void LoopHarness::run(const TestRun& run) {
  send(wire::Work::Run, [&](FlatBufferBuilder& b) { return encode(b, run); });
}

void LoopHarness::drop_versions(const std::vector<std::uint64_t>& versions) {
  send(wire::Work::DropVersions,
       [&](FlatBufferBuilder& b) { return wire::CreateDropVersions(b, b.CreateVector(versions)); });
}

void LoopHarness::fetch(std::uint64_t version, std::uint64_t bytes, std::uint32_t segment) {
  send(wire::Work::Fetch,
       [&](FlatBufferBuilder& b) { return wire::CreateFetch(b, version, bytes, segment); });
}

void LoopHarness::cancel(std::uint64_t run) {
  send(wire::Work::CancelRun,
       [run](FlatBufferBuilder& b) { return wire::CreateCancelRun(b, run); });
}

void LoopHarness::export_object(std::uint64_t number, std::uint32_t segment,
                                const wire::Location& location, std::uint64_t bytes) {
  send(wire::Work::ExportObject, [&](FlatBufferBuilder& b) {
    return wire::CreateExportObject(b, number, segment, &location, bytes);
  });
}

void LoopHarness::send_raw(std::span<const std::byte> bytes) {
  ASSERT_TRUE(writer.try_write(bytes));
}

std::vector<SeenReport> LoopHarness::settle() {
  std::vector<SeenReport> all;
  do {
    while (loop->step() == StepOutcome::Progress) {
    }
    for (SeenReport& one : read_reports()) all.push_back(std::move(one));
  } while (loop->unfinished_runs() != 0);
  return all;
}

std::vector<SeenReport> LoopHarness::read_reports() {
  std::vector<SeenReport> reports;
  std::span<const std::byte> message;
  while (reader.read(buffer, message) == ReadOutcome::Message) {
    const auto* item = verified_root<wire::ReportItem>(message);
    EXPECT_NE(item, nullptr);
    reports.push_back(seen(*item));
    reader.advance();
  }
  reader.publish();
  return reports;
}

SeenReport LoopHarness::only_report() {
  std::vector<SeenReport> reports = settle();
  EXPECT_EQ(reports.size(), 1u);
  return reports.empty() ? SeenReport{} : reports.front();
}

}  // namespace kaas
