#include "tests/support/fake_device.h"

#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <new>
#include <utility>
#include <vector>

#include "daemon/executor/device/host_launch.h"
#include "schema/ipc/segment.h"
#include "schema/limits.h"

namespace kaas {
namespace {

std::byte* pointer(DeviceAddress address) noexcept {
  return reinterpret_cast<std::byte*>(address);  // NOLINT(performance-no-int-to-ptr)
}

// What a fresh allocation holds: something else than zeros, as a real device's may.
constexpr std::byte kUndefined{0xa5};

// The n-th of something: whether this is the one that was told to fail.
bool is_due(std::atomic<std::uint64_t>& until) {
  return until != 0 && --until == 0;
}

}  // namespace

class FakeEvent final : public ImportedEvent {
 public:
  FakeEvent(FakeDevice& device, std::byte handle) : device_(device), handle_(handle) {
    ++device_.open_events_;
  }
  ~FakeEvent() override { --device_.open_events_; }

  void log(const char* what) {
    device_.event_log_.push_back(std::string(what) + " " +
                                 std::to_string(static_cast<int>(handle_)) + " after " +
                                 std::to_string(device_.launches_) + " launches");
  }

 private:
  FakeDevice& device_;
  std::byte handle_;
};

// Changes nothing but what a stream says of its way. For programs that move as this one does.
class FakePrepared final : public PreparedProgram {
 public:
  FakePrepared(FakeDevice& device, const KernelProgram& program) noexcept
      : device_(device),
        begun_(device.preparations_finished_),
        moves_before_(!program.before.empty()),
        moves_behind_(!program.behind.empty()) {
    ++device.prepared_;
  }
  ~FakePrepared() override { --device_.prepared_; }
  [[nodiscard]] bool ready() const noexcept override {
    return device_.preparations_finished_ != begun_;
  }
  [[nodiscard]] bool pending() const noexcept override { return !ready(); }
  [[nodiscard]] bool will_do(const KernelProgram& program) const noexcept override {
    return ready() && moves_before_ == !program.before.empty() &&
           moves_behind_ == !program.behind.empty();
  }

 private:
  FakeDevice& device_;
  const std::uint64_t begun_;
  const bool moves_before_;
  const bool moves_behind_;
};

// --- FakeStream ----------------------------------------------------------------------------------

class FakeStream final : public DeviceStream {
 public:
  explicit FakeStream(FakeDevice& device) : device_(device) {}

  Result<void> copy_to_device(DeviceAddress to, std::span<const std::byte> from) override {
    return add([this, to, from]() -> Result<void> {
      KAAS_RETURN_IF_ERROR(check(to, from.size()));
      std::memcpy(pointer(to), from.data(), from.size());
      return {};
    });
  }
  Result<void> copy_to_host(std::span<std::byte> to, DeviceAddress from) override {
    return add([this, to, from]() -> Result<void> {
      KAAS_RETURN_IF_ERROR(check(from, to.size()));
      std::memcpy(to.data(), pointer(from), to.size());
      return {};
    });
  }
  Result<void> copy(DeviceAddress to, DeviceAddress from, std::uint64_t bytes) override {
    return add([this, to, from, bytes]() -> Result<void> {
      KAAS_RETURN_IF_ERROR(check(to, bytes));
      KAAS_RETURN_IF_ERROR(check(from, bytes));
      std::memcpy(pointer(to), pointer(from), bytes);
      return {};
    });
  }
  Result<void> zero(DeviceAddress to, std::uint64_t bytes) override {
    return add([this, to, bytes]() -> Result<void> {
      KAAS_RETURN_IF_ERROR(check(to, bytes));
      std::memset(pointer(to), 0, bytes);
      return {};
    });
  }
  Result<void> launch(const KernelProgram& program) override {
    KAAS_RETURN_IF_ERROR(add([this, program] { return run(program); }));
    has_last_ = program.last;
    return {};
  }

  // Its own work waits until the other one has done what it has now.
  Result<void> follow(DeviceStream& earlier) override {
    auto& other = static_cast<FakeStream&>(earlier);
    ++device_.follows_;
    if (other.queue_.empty()) return {};
    waits_for_.push_back({&other, other.added_});
    return {};
  }
  Result<void> end() override {
    has_last_ = false;
    return {};
  }
  Result<void> wait_event(ImportedEvent& event) override { return log(event, "wait"); }
  Result<void> record_event(ImportedEvent& event) override { return log(event, "record"); }
  Result<void> begin(bool, bool background) override {
    if (background) ++device_.background_runs_;
    if (!queue_.empty()) ++device_.left_behind_;
    has_last_ = false;
    return {};
  }
  void mark(StreamMark mark) override {
    now_ns_ += device_.options_.mark_ns;
    marks_[static_cast<std::size_t>(mark)] = now_ns_;
  }
  [[nodiscard]] std::uint64_t between_ns(StreamMark begin, StreamMark end) const override {
    return marks_[static_cast<std::size_t>(end)] - marks_[static_cast<std::size_t>(begin)];
  }
  [[nodiscard]] ProgramCounts counts() const override { return counts_; }

  Result<bool> poll() override {
    if (queue_.empty()) return true;
    KAAS_RETURN_IF_ERROR(next());
    return queue_.empty();
  }
  Result<void> wait() override {
    while (!queue_.empty()) KAAS_RETURN_IF_ERROR(next());
    return {};
  }

 private:
  using Work = std::function<Result<void>()>;

  Result<void> add(Work work) {
    if (has_last_) return Status{StatusCode::Internal, "this comes behind the last of a run"};
    if (is_due(device_.enqueues_until_failure_)) {
      return Status{StatusCode::Internal, "the fake device was told to refuse this work"};
    }
    if (!device_.options_.asynchronous) return work();
    queue_.push_back(std::move(work));
    ++added_;
    return {};
  }
  Result<void> log(ImportedEvent& event, const char* what) {
    return add([&event, what]() -> Result<void> {
      static_cast<FakeEvent&>(event).log(what);
      return {};
    });
  }
  // Never sees an earlier stream that is gone: that one was idle before, and so followed no more.
  Result<void> next() {
    for (const Earlier& earlier : waits_for_) {
      while (!earlier.stream->queue_.empty() &&
             earlier.stream->added_ - earlier.stream->queue_.size() < earlier.added) {
        if (!earlier.stream->next()) break;
      }
    }
    waits_for_.clear();
    Result<void> outcome = queue_.front()();
    queue_.pop_front();
    if (!outcome) queue_.clear();
    return outcome;
  }
  Result<void> check(DeviceAddress address, std::uint64_t bytes) const {
    if (is_due(device_.copies_until_failure_)) {
      return Status{StatusCode::Internal, "the fake device was told to fail this copy"};
    }
    if (bytes == 0 || device_.holds(address, bytes)) return {};
    return Status{StatusCode::Internal, "an access outside every allocation of the fake device"};
  }
  Result<void> run(const KernelProgram& program) {
    counts_ = way_of(program);
    const RunTagScope tag(program.tag, program.tag_end);
    KAAS_RETURN_IF_ERROR(move(program.before));
    for (std::uint64_t i = 0; i < program.n_iter; ++i) {
      for (const KernelLaunch& launch : program.launches) {
        ++counts_.launches;
        KAAS_RETURN_IF_ERROR(device_.run(launch));
      }
      ++counts_.iterations;
      std::uint32_t stop = 0;
      if (program.until != 0) std::memcpy(&stop, pointer(program.until), sizeof stop);
      if (stop != 0) break;
    }
    return move(program.behind);
  }
  [[nodiscard]] ProgramCounts way_of(const KernelProgram& program) const {
    if (!device_.options_.prepares) return {.way = wire::RunWay::Host};
    if (program.prepared == nullptr) {
      return {.way = wire::RunWay::Stream, .why = wire::WhyStream::FirstUse};
    }
    if (program.prepared->will_do(program)) return {.way = wire::RunWay::Graph};
    const bool pending = program.prepared->pending();
    return {.way = wire::RunWay::Stream,
            .why = pending ? wire::WhyStream::Building : wire::WhyStream::Moves};
  }
  Result<void> move(std::span<const Move> moves) {
    device_.moves_ += moves.size();
    for (const Move& move : moves) {
      const std::uint64_t bytes = (move.bytes + 15) / 16 * 16;
      KAAS_RETURN_IF_ERROR(check(move.to, bytes));
      KAAS_RETURN_IF_ERROR(check(move.from, bytes));
      std::memcpy(pointer(move.to), pointer(move.from), bytes);
    }
    return {};
  }

  struct Earlier {
    FakeStream* stream;
    std::uint64_t added;  // What it had been given.
  };

  FakeDevice& device_;
  std::deque<Work> queue_;
  std::uint64_t added_ = 0;
  bool has_last_ = false;  // The run's last program is there.
  std::vector<Earlier> waits_for_;
  std::uint64_t now_ns_ = 0;
  std::array<std::uint64_t, kStreamMarks> marks_{};
  ProgramCounts counts_;
};

// --- FakeDevice ----------------------------------------------------------------------------------

void FakeDevice::Release::operator()(std::byte* memory) const noexcept {
  ::operator delete (memory, std::align_val_t{kDeviceAlignmentBytes});
}

FakeDevice::FakeDevice(const Options& options) : options_(options) {
  limits_.name = "fake";
  limits_.memory_bytes = options.memory_bytes;
  limits_.grid = {kGridXMax, kGridYzMax, kGridYzMax};
  limits_.block = {kBlockXyMax, kBlockXyMax, kBlockZMax};
  limits_.block_threads = kBlockThreadsMax;
  limits_.shared_bytes = kSharedBytesMax;
  limits_.synchronous = !options.asynchronous;
  limits_.reaches_host = options.reaches_host;
  limits_.keeps_outputs = options.keeps_outputs;
  limits_.confines_background = options.confines_background;
}

FakeDevice::~FakeDevice() {
  KAAS_CHECK(memory_.empty() && host_memory_.empty() && registered_.empty());
  KAAS_CHECK(mapped_.empty() && exported_.empty() && open_events_ == 0);
}

// A mapping of one allocation that was offered. A second one at the same time would be at the same
// address, which a driver need not allow.
class FakeImport final : public ImportedMemory {
 public:
  FakeImport(FakeDevice& device, std::span<std::byte> memory, bool direct)
      : ImportedMemory(reinterpret_cast<DeviceAddress>(memory.data()), memory.size(), direct),
        device_(device) {
    KAAS_CHECK(device_.mapped_.emplace(address(), bytes()).second);
  }
  ~FakeImport() override { KAAS_CHECK(device_.mapped_.erase(address()) == 1); }

 private:
  FakeDevice& device_;
};

// Shared memory that stands for device memory of its own.
class FakeExport final : public ExportableMemory {
 public:
  FakeExport(FakeDevice& device, Descriptor memory, Mapping mapping)
      : ExportableMemory(reinterpret_cast<DeviceAddress>(mapping.data()), mapping.bytes()),
        device_(device),
        memory_(std::move(memory)),
        mapping_(std::move(mapping)) {
    device_.exported_.emplace(address(), bytes());
    device_.exported_bytes_ += bytes();
  }
  ~FakeExport() override {
    device_.exported_.erase(address());
    device_.exported_bytes_ -= bytes();
  }
  [[nodiscard]] Result<Descriptor> descriptor() const override {
    if (is_due(device_.descriptors_until_failure_)) {
      return Status{StatusCode::ResourceExhausted, "the fake device was told to fail this"};
    }
    return duplicate(memory_.get());
  }
  [[nodiscard]] GpuUuid gpu() const override { return {std::byte{0xfa}, std::byte{0xce}}; }

 private:
  FakeDevice& device_;
  Descriptor memory_;
  Mapping mapping_;
};

// What FakeExport made, mapped a second time.
class FakeCuMemImport final : public ImportedMemory {
 public:
  FakeCuMemImport(FakeDevice& device, Mapping mapping)
      : ImportedMemory(reinterpret_cast<DeviceAddress>(mapping.data()), mapping.bytes(), true),
        device_(device),
        mapping_(std::move(mapping)) {
    device_.mapped_.emplace(address(), bytes());
  }
  ~FakeCuMemImport() override { device_.mapped_.erase(address()); }

 private:
  FakeDevice& device_;
  Mapping mapping_;
};

void FakeDevice::offer(std::byte handle, std::span<std::byte> memory, bool direct) {
  offered_[handle] = {memory, direct};
}

ImportRequest FakeDevice::request_for(std::byte handle, std::uint64_t bytes) {
  ImportRequest request;
  request.handle.assign(kIpcHandleBytes, handle);
  request.bytes = bytes;
  return request;
}

Result<std::unique_ptr<ImportedMemory>> FakeDevice::import_memory(const ImportRequest& request) {
  ++imports_;
  if (request.kind == wire::DeviceMemoryKind::CuMem) return import_descriptor(request);
  const auto found = request.handle.empty() ? offered_.end() : offered_.find(request.handle[0]);
  if (found == offered_.end() || request.kind != wire::DeviceMemoryKind::Legacy) {
    return Status{StatusCode::InvalidArgument, "the handle names no memory of the fake device"};
  }
  return std::unique_ptr<ImportedMemory>(
      std::make_unique<FakeImport>(*this, found->second.memory, found->second.direct));
}

Result<std::unique_ptr<ImportedMemory>> FakeDevice::import_descriptor(
    const ImportRequest& request) {
  const auto found = segment_bytes_of(request.descriptor, "the fake device's memory");
  if (!found || *found != request.bytes) {
    return Status{StatusCode::InvalidArgument, "the descriptor is no memory of the fake device"};
  }
  KAAS_ASSIGN_OR_RETURN(Mapping mapping,
                        Mapping::create(request.descriptor, request.bytes, Mapping::Mode::ReadWrite,
                                        "the fake device's memory"));
  return std::unique_ptr<ImportedMemory>(
      std::make_unique<FakeCuMemImport>(*this, std::move(mapping)));
}

Result<std::unique_ptr<ExportableMemory>> FakeDevice::allocate_exportable(std::uint64_t bytes) {
  ++exports_made_;
  const std::uint64_t wanted =
      (bytes + kExportPieceBytes - 1) / kExportPieceBytes * kExportPieceBytes;
  if (is_due(exports_until_failure_) ||
      wanted > limits_.memory_bytes - allocated_ - exported_bytes_) {
    return Status{StatusCode::OutOfMemory, "the fake device has no room for an export"};
  }
  KAAS_ASSIGN_OR_RETURN(Descriptor memory, create_segment("fake-export", wanted));
  KAAS_ASSIGN_OR_RETURN(Mapping mapping, Mapping::create(memory.get(), wanted,
                                                         Mapping::Mode::ReadWrite, "an export"));
  std::memset(mapping.data(), static_cast<int>(kUndefined), wanted);
  return std::unique_ptr<ExportableMemory>(
      std::make_unique<FakeExport>(*this, std::move(memory), std::move(mapping)));
}

Result<DeviceMemory> FakeDevice::allocate(std::uint64_t bytes) {
  if (allocations_until_failure_ != 0 && --allocations_until_failure_ == 0) {
    return Status{StatusCode::OutOfMemory, "the fake device was told to fail this allocation"};
  }
  const std::uint64_t left = limits_.memory_bytes - allocated_ - exported_bytes_;
  if (bytes > left) {
    return Status{StatusCode::OutOfMemory, "allocation of " + std::to_string(bytes) +
                                               " bytes, fake device has " + std::to_string(left) +
                                               " of " + std::to_string(limits_.memory_bytes) +
                                               " left"};
  }
  std::unique_ptr<std::byte, Release> memory(
      static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kDeviceAlignmentBytes})));
  std::memset(memory.get(), static_cast<int>(kUndefined), bytes);
  const auto address = reinterpret_cast<DeviceAddress>(memory.get());
  memory_.emplace(address, std::pair{std::move(memory), bytes});
  allocated_ += bytes;
  return DeviceMemory(*this, address, bytes);
}

void FakeDevice::release(DeviceAddress address, std::uint64_t bytes) noexcept {
  if (host_memory_.erase(address) == 1) return;
  KAAS_CHECK(memory_.erase(address) == 1);
  allocated_ -= bytes;
}

Result<std::unique_ptr<ImportedEvent>> FakeDevice::import_event(std::span<const std::byte> handle) {
  if (!offered_events_.contains(handle.front())) {
    return Status{StatusCode::InvalidArgument, "the handle names no event of the fake device"};
  }
  return std::unique_ptr<ImportedEvent>(std::make_unique<FakeEvent>(*this, handle.front()));
}

bool FakeDevice::holds(DeviceAddress address, std::uint64_t bytes) const noexcept {
  const auto in = [&](const auto& memory, auto bytes_of) {
    const auto after = memory.upper_bound(address);
    if (after == memory.begin()) return false;
    const auto& [begin, allocation] = *std::prev(after);
    const std::uint64_t inside = address - begin;
    return inside <= bytes_of(allocation) && bytes <= bytes_of(allocation) - inside;
  };
  const auto second = [](const auto& allocation) { return allocation.second; };
  if (in(memory_, second) || in(host_memory_, second)) return true;
  if (in(mapped_, std::identity()) || in(exported_, std::identity())) return true;
  const std::lock_guard lock(registered_mutex_);
  return in(registered_, std::identity());
}

Result<void> FakeDevice::run(const KernelLaunch& launch) {
  ++launches_;
  if (launches_until_loss_ != 0 && --launches_until_loss_ == 0) lost_ = true;
  if (lost_) return Status{StatusCode::Unavailable, lost_reason()};
  if (launches_until_failure_ != 0 && --launches_until_failure_ == 0) {
    return Status{StatusCode::KernelFault, "the fake device was told to fail this launch"};
  }
  return run_host_launch(launch);
}

Result<DeviceFunction> FakeDevice::load(const KernelEntry& entry) {
  return load_host_function(entry);
}

std::unique_ptr<PreparedProgram> FakeDevice::prepare(const KernelProgram& program) {
  if (!options_.prepares) return nullptr;
  return std::make_unique<FakePrepared>(*this, program);
}

Result<DeviceMemory> FakeDevice::allocate_host(std::uint64_t bytes) {
  if (!options_.reaches_host) {
    return Status{StatusCode::Unavailable, "the fake device does not reach host memory"};
  }
  std::unique_ptr<std::byte, Release> memory(
      static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kDeviceAlignmentBytes})));
  std::memset(memory.get(), static_cast<int>(kUndefined), bytes);
  const auto address = reinterpret_cast<DeviceAddress>(memory.get());
  host_memory_.emplace(address, std::pair{std::move(memory), bytes});
  return DeviceMemory(*this, address, bytes);
}

Result<HostRegistration> FakeDevice::register_host(std::span<std::byte> memory, bool) {
  if (!options_.reaches_host) return HostRegistration();
  const std::lock_guard lock(registered_mutex_);
  registered_.emplace(reinterpret_cast<DeviceAddress>(memory.data()), memory.size());
  return HostRegistration(*this, memory.data(), memory.size());
}

void FakeDevice::unregister_host(std::byte* memory, std::uint64_t) noexcept {
  const std::lock_guard lock(registered_mutex_);
  KAAS_CHECK(registered_.erase(reinterpret_cast<DeviceAddress>(memory)) == 1);
}

Result<std::unique_ptr<DeviceStream>> FakeDevice::open_stream() {
  return std::unique_ptr<DeviceStream>(std::make_unique<FakeStream>(*this));
}

// --- FakeLibraries -------------------------------------------------------------------------------

namespace {

template <class T>
T value(void* const* params, std::size_t index) {
  T copy;
  std::memcpy(&copy, params[index], sizeof copy);
  return copy;
}

// The work of a whole launch is done by its first block.
template <auto Function>
void first_block(const kaas_launch*, std::uint64_t first, std::uint64_t, void* const* params,
                 void*) {
  if (first == 0) Function(params);
}

void noop(void* const*) {}

void fill(void* const* params) {
  const auto count = value<std::uint64_t>(params, 0);
  const auto number = value<std::uint32_t>(params, 1);
  auto* out = value<std::uint32_t*>(params, 2);
  for (std::uint64_t i = 0; i < count; ++i) out[i] = number;
}

void copy(void* const* params) {
  // A request may name ranges of one segment that overlap.
  std::memmove(value<void*>(params, 2), value<const void*>(params, 1),
               value<std::uint64_t>(params, 0));
}

void add(void* const* params) {
  const auto count = value<std::uint64_t>(params, 0);
  const auto* a = value<const std::uint32_t*>(params, 1);
  const auto* b = value<const std::uint32_t*>(params, 2);
  auto* out = value<std::uint32_t*>(params, 3);
  for (std::uint64_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

void add_one(void* const* params) {
  const auto count = value<std::uint64_t>(params, 0);
  auto* data = value<std::uint32_t*>(params, 1);
  for (std::uint64_t i = 0; i < count; ++i) ++data[i];
}

void count_to(void* const* params) {
  auto* counter = value<std::uint32_t*>(params, 1);
  ++*counter;
  *value<std::uint32_t*>(params, 2) = *counter >= value<std::uint32_t>(params, 0) ? 1 : 0;
}

struct RawStore {
  std::uint32_t* to;
  std::uint32_t number;
  std::uint32_t unused;
};

void store_raw(void* const* params) {
  const auto raw = value<RawStore>(params, 0);
  *raw.to = raw.number;
}

void scale_f32(void* const* params) {
  const auto count = value<std::uint64_t>(params, 0);
  const auto factor = value<float>(params, 1);
  auto* data = value<float*>(params, 2);
  for (std::uint64_t i = 0; i < count; ++i) data[i] *= factor;
}

void print(void* const* params) {
  const auto times = value<std::uint32_t>(params, 0);
  for (std::uint32_t i = 0; i < times; ++i) std::printf("line %u\n", i);
}

int fail(const kaas_launch*, void* const*, void*, void*, char* error, std::size_t error_bytes) {
  kaas_write_error(error, error_bytes, "it always does");
  return 7;
}

kaas_kernel_descriptor descriptor(const char* name, const char* signature,
                                  kaas_host_blocks blocks) {
  kaas_kernel_descriptor result{};
  result.struct_size = sizeof result;
  result.name = name;
  result.signature = signature;
  result.host_blocks = blocks;
  return result;
}

std::vector<kaas_kernel_descriptor> fake_kernels() {
  std::vector<kaas_kernel_descriptor> kernels{
      descriptor("noop", "", &first_block<noop>),
      descriptor("fill", "QIP", &first_block<fill>),
      descriptor("copy", "QpP", &first_block<copy>),
      descriptor("add", "QppP", &first_block<add>),
      descriptor("add_one", "QP", &first_block<add_one>),
      descriptor("count_to", "IPP", &first_block<count_to>),
      descriptor("store_raw", "b<16>", &first_block<store_raw>),
      descriptor("scale_f32", "QfP", &first_block<scale_f32>),
      descriptor("print", "I", &first_block<print>),
  };
  kaas_kernel_descriptor failing = descriptor("fail", "", nullptr);
  failing.flags = KAAS_OPAQUE;
  failing.launch = &fail;
  kernels.push_back(failing);
  return kernels;
}

}  // namespace

Result<std::shared_ptr<OpenedLibrary>> FakeLibraries::open(const SeenFile& file) {
  if (file.path.rfind("/missing", 0) == 0) {
    return Status{StatusCode::NotFound, "library '" + file.path + "': no such file"};
  }
  static const std::vector<kaas_kernel_descriptor> kKernels = fake_kernels();
  kaas_library table{};
  table.magic = KAAS_LIBRARY_MAGIC;
  table.abi_version = KAAS_LIBRARY_ABI_VERSION;
  table.struct_size = sizeof table;
  table.name = "fake";
  table.flags = file.path.rfind("/stateful", 0) == 0 ? KAAS_STATEFUL : 0;
  table.kernel_count = static_cast<std::uint32_t>(kKernels.size());
  table.kernels = kKernels.data();
  return OpenedLibrary::from_table(&table, LoadedModule(), device_.limits(), file.path);
}

}  // namespace kaas
