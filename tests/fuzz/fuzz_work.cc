// Arbitrary bytes as the work segment of an executor: its loop refuses what is wrong, run by run,
// or closes with a reason. Kernels do nothing here: what native code does with wrong literals is
// not the loop's to know.
#include "tests/fuzz/driver.h"
#include "tests/fuzz/fuzz_scene.h"
#include "tests/fuzz/ring_image.h"
#include "tests/support/heard_bells.h"

namespace kaas {
namespace {

// So many iterations are only time.
constexpr std::uint64_t kIterationsLooked = 64;

void nothing(const kaas_launch*, std::uint64_t, std::uint64_t, void* const*, void*) {}

class NothingLibraries final : public LibraryOpener {
 public:
  explicit NothingLibraries(const Device& device) : device_(device) {}
  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override {
    static const std::vector<kaas_kernel_descriptor> kKernels = kernels();
    kaas_library table{};
    table.magic = KAAS_LIBRARY_MAGIC;
    table.abi_version = KAAS_LIBRARY_ABI_VERSION;
    table.struct_size = sizeof table;
    table.name = "nothing";
    table.kernel_count = static_cast<std::uint32_t>(kKernels.size());
    table.kernels = kKernels.data();
    return OpenedLibrary::from_table(&table, LoadedModule(), device_.limits(), file.path);
  }

 private:
  static std::vector<kaas_kernel_descriptor> kernels() {
    std::vector<kaas_kernel_descriptor> made;
    for (const auto& [name, signature] :
         {std::pair{"fill", "QIP"}, std::pair{"copy", "QpP"}, std::pair{"add_one", "QP"}}) {
      kaas_kernel_descriptor one{};
      one.struct_size = sizeof one;
      one.name = name;
      one.signature = signature;
      one.host_blocks = &nothing;
      made.push_back(one);
    }
    return made;
  }
  const Device& device_;
};

class NoSegments final : public SegmentSource {
 public:
  std::optional<AttachedSegment> next() override { return std::nullopt; }
};

class NowhereExports final : public ExportSink {
 public:
  bool send(std::uint64_t number, int) override { return number % 2 == 0; }
};

// Whether a plan in the segment iterates longer than anybody wants to look.
bool takes_long(const RingView& work) {
  static MessageBuffer buffer(kSceneRings.heap_bytes);
  PlainRing own(kSceneRings);
  RingReader reader(work, own.view().header);
  std::span<const std::byte> message;
  for (std::uint32_t n = 0; n < kSceneRings.slot_count; ++n) {
    if (reader.read(buffer, message) != ReadOutcome::Message) break;
    reader.advance();
    const auto* item = verified_root<wire::WorkItem>(message);
    if (item == nullptr || item->work() == nullptr) break;
    const auto* plan = item->work_as_LoadPlan();
    if (plan != nullptr && plan->n_iter() > kIterationsLooked) return true;
  }
  return false;
}

void work(const std::uint8_t* data, std::size_t size) {
  PlainRing incoming(kSceneRings);
  PlainRing reports(kSceneRings);
  overwrite(incoming.view(), data, size);
  if (takes_long(incoming.view())) return;
  FakeDevice::Options options;
  options.asynchronous = size % 2 == 1;
  FakeDevice device(options);
  NothingLibraries libraries(device);
  NoSegments segments;
  NowhereExports exports;
  HeardBells bells;
  std::vector<std::byte> outbox(64u << 10);
  std::vector<std::byte> arena(64u << 10);
  ExecutorParts parts{.work = incoming.view(),
                      .report = reports.view(),
                      .device = device,
                      .libraries = libraries,
                      .segments = segments,
                      .exports = exports,
                      .bells = bells,
                      .memory_limit_bytes = options.memory_bytes,
                      .wake_kaasd = nullptr,
                      .wake = {}};
  ExecutorLoop loop(parts);
  SegmentTerms terms;
  terms.writable = true;
  terms.segment = kOutboxSegment;
  terms.bytes = outbox.size();
  loop.add_segment(kOutboxSegment, ExecutorSegment::around(terms, outbox));
  terms.segment = kFirstSegment;
  terms.bytes = arena.size();
  loop.add_segment(kFirstSegment, ExecutorSegment::around(terms, arena));
  for (int step = 0; step < 200; ++step) {
    const StepOutcome outcome = loop.step();
    if (outcome == StepOutcome::Closed) {
      KAAS_CHECK(!loop.closed_reason().empty());
      break;
    }
    if (outcome == StepOutcome::Idle) break;
  }
}

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  Scene scene;
  std::vector<FuzzSeed> seeds{{"requests", image_of(scene.executor.work())}};
  while (scene.executor.step() == StepOutcome::Progress) {
  }
  scene.world.hang_up(scene.client);
  scene.world.settle();
  seeds.push_back({"dropped", image_of(scene.executor.work())});
  Scene lanes;
  lanes.open_lane();
  seeds.push_back({"lane", image_of(lanes.executor.work())});
  while (lanes.executor.step() == StepOutcome::Progress) {
  }
  lanes.world.step();
  lanes.send(drop_lane_call_message(80, 1, 1));
  lanes.world.step();
  lanes.world.dispatcher().end_lanes_using(lanes.client.arena());
  lanes.world.hang_up(lanes.client);
  lanes.world.step();
  seeds.push_back({"lane-dropped", image_of(lanes.executor.work())});
  return seeds;
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kaas::work(data, size);
  return 0;
}
