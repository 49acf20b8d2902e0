// The contract of a device: memory with a limit, streams of copies and kernels. The host is one
// (host_device.h); tests/contract/device holds every implementation to this text.
//
//   Device ── allocate ──────> DeviceMemory      one per allocation, given back by its destructor
//          ── register_host ─> HostRegistration  one per mapping that copies should be fast from
//          ── load_module ───> DeviceModule      one per library that is code of the device's own
//          ── load ──────────> DeviceFunction    one per kernel of a plan
//          ── prepare ───────> PreparedProgram   one per frame of a plan
//          ── open_stream ───> DeviceStream      one per request that is running
//
// Threads: a Device is used by the executor's main thread only; so are the destructors of what it
//          gave out. Exceptions are said where they are declared. A DeviceStream is used by one
//          thread at a time, which may be another one.
#pragma once

#include <kaas/kernel_abi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "daemon/executor/device/kernel_entry.h"
#include "daemon/executor/device/run_tag.h"
#include "schema/ipc/result.h"
#include "schema/kaas_generated.h"

namespace kaas {

// Where something is in device memory. Zero is nowhere.
using DeviceAddress = std::uintptr_t;

// Every allocation begins at a multiple of this.
inline constexpr std::size_t kDeviceAlignmentBytes = 256;

struct DeviceLimits {
  std::string name;   // "host", or a GPU's id; for errors and profiles.
  std::string model;  // What the device is, for people; empty: the name.
  std::uint32_t kind = KAAS_DEVICE_HOST;
  std::int32_t ordinal = 0;
  std::uint32_t host_threads = 1;  // Threads that run kernels, for a library's open hook.
  std::uint64_t memory_bytes = 0;
  std::array<std::uint32_t, 3> grid{};
  std::array<std::uint32_t, 3> block{};
  std::uint32_t block_threads = 0;
  std::uint32_t shared_bytes = 0;  // Of one block.
  // Calls of a stream return when their work is done. The executor then runs requests on threads
  // of its own; otherwise it enqueues them and polls.
  bool synchronous = true;
  // Kernels reach registered host memory, and that of allocate_host(), where this process has it.
  // What is small need not be copied then.
  bool reaches_host = false;
  // It has memory of its own, in which outputs may stay; else they are on the host anyway.
  bool keeps_outputs = false;
  // A kernel may begin before the one that it comes behind has ended, and wait for it itself.
  bool overlaps_launches = false;
  // Background programs leave part of it to others: kernels of others begin at once beside them.
  bool confines_background = false;
};

class Device;
class ExportableMemory;  // exportable_memory.h
class ImportedEvent;     // imported_memory.h
class ImportedMemory;
struct ImportRequest;

// Owns one allocation. Move-only; an empty one has address 0.
class DeviceMemory {
 public:
  DeviceMemory() noexcept = default;
  DeviceMemory(Device& device, DeviceAddress address, std::uint64_t bytes) noexcept
      : device_(&device), address_(address), bytes_(bytes) {}
  DeviceMemory(DeviceMemory&& other) noexcept
      : device_(std::exchange(other.device_, nullptr)),
        address_(std::exchange(other.address_, 0)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    DeviceMemory dropped(std::move(other));
    std::swap(device_, dropped.device_);
    std::swap(address_, dropped.address_);
    std::swap(bytes_, dropped.bytes_);
    return *this;
  }
  ~DeviceMemory();

  [[nodiscard]] DeviceAddress address() const noexcept { return address_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  Device* device_ = nullptr;
  DeviceAddress address_ = 0;
  std::uint64_t bytes_ = 0;
};

// Memory of this process that the device reads and writes directly, as long as this lives. It must
// not be unmapped before. Move-only; may be destroyed on any thread.
class HostRegistration {
 public:
  HostRegistration() noexcept = default;
  HostRegistration(Device& device, std::byte* memory, std::uint64_t bytes) noexcept
      : device_(&device), memory_(memory), bytes_(bytes) {}
  HostRegistration(HostRegistration&& other) noexcept
      : device_(std::exchange(other.device_, nullptr)),
        memory_(std::exchange(other.memory_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  HostRegistration& operator=(HostRegistration&& other) noexcept {
    HostRegistration dropped(std::move(other));
    std::swap(device_, dropped.device_);
    std::swap(memory_, dropped.memory_);
    std::swap(bytes_, dropped.bytes_);
    return *this;
  }
  ~HostRegistration();

  [[nodiscard]] explicit operator bool() const noexcept { return device_ != nullptr; }

 private:
  Device* device_ = nullptr;
  std::byte* memory_ = nullptr;
  std::uint64_t bytes_ = 0;
};

struct ModuleFunction {
  void* native = nullptr;
  std::vector<std::uint32_t> parameter_bytes;  // Of each parameter, in order.
};
struct ModuleVariable {
  DeviceAddress address = 0;
  std::uint64_t bytes = 0;
};

// Code of the device's own that is loaded: kernels and variables by the names that its linker knows
// (mangled, in C++). Must not outlive its device; destroyed when no run uses it. One thread at a
// time.
class DeviceModule {
 public:
  virtual ~DeviceModule() = default;
  [[nodiscard]] virtual const std::vector<std::string>& kernels() const noexcept = 0;
  [[nodiscard]] virtual const std::vector<std::string>& variables() const noexcept = 0;
  // Whether variables() has all of them; what is packed can't be listed.
  [[nodiscard]] virtual bool lists_variables() const noexcept = 0;
  // NotFound: no such name.
  virtual Result<ModuleFunction> find(const std::string& kernel) = 0;
  virtual Result<ModuleVariable> variable(const std::string& name) = 0;
};

enum class ModuleForm : std::uint8_t {
  Image,  // What the device's driver loads: cubin, fatbin, PTX. Checked by inspect_image().
  Source  // What has to be compiled first.
};
struct ModuleCode {
  std::span<const std::byte> bytes;
  ModuleForm form = ModuleForm::Image;
  std::string path;  // For includes beside a source, and for errors.
  std::string what;  // "library '/a/b.cubin' (a cubin for sm_90)", for errors.
};

// A kernel made ready for one device. Borrows the entry, whose library must stay open.
struct DeviceFunction {
  const KernelEntry* entry = nullptr;
  void* native = nullptr;  // The device's own handle, if it has one.
  // What this kernel can be launched with on this device; 0: the device's own limits.
  std::uint32_t block_threads_max = 0;
  std::uint32_t shared_bytes_max = 0;
  std::uint32_t registers = 0;  // Of a thread, for errors.
  bool waits = false;           // For the kernels before it, before it does anything.
};

// One kernel of a program. `shape` carries grid, block, cluster, shared bytes and context.
// params[i] points at the value of parameter i. For a kernel of the original form params[0] points
// at an array of addresses, one a buffer.
struct KernelLaunch {
  DeviceFunction function;
  kaas_launch shape{};
  void* const* params = nullptr;
  std::span<const std::uint16_t> after;  // Earlier launches of the program that must have ended.
  bool cooperative = false;
  // May begin before those in `after` have ended: it waits for them itself. Only for a device that
  // overlaps_launches.
  bool programmatic = false;
  // It waits before it does anything: may begin before whatever comes before it has ended.
  bool waits_first = false;
};

struct KernelProgram;

// What a device keeps of a program between its runs, such as a graph. Made by Device::prepare, used
// by one run at a time, destroyed on the main thread when no run uses it.
class PreparedProgram {
 public:
  virtual ~PreparedProgram() = default;
  // Whether it is made.
  [[nodiscard]] virtual bool ready() const noexcept = 0;
  // Whether it may become so: it is still being made.
  [[nodiscard]] virtual bool pending() const noexcept = 0;
  // Whether a launch of this program would use it now, and call no library.
  [[nodiscard]] virtual bool will_do(const KernelProgram&) const noexcept { return ready(); }
};

// Bytes that are copied before the kernels of a program, or after them. Both ends can be reached by
// kernels and are aligned to 16 bytes; a multiple of 16 bytes is copied, so both have room for it.
struct Move {
  DeviceAddress to = 0;
  DeviceAddress from = 0;
  std::uint64_t bytes = 0;
};
inline constexpr std::size_t kMovesMax = 16;                // Of a program, each way.
inline constexpr std::uint64_t kMovedBytesMax = 32u << 10;  // Together, each way.

// Kernels in list order, repeated. All that it names is borrowed until the stream is idle.
struct KernelProgram {
  std::span<const KernelLaunch> launches;
  std::uint64_t n_iter = 1;
  DeviceAddress until = 0;  // Not 0: a u32 that is read after each iteration; not zero: stop.
  // The caller knows that all of it takes less time than dealing it out to other threads would.
  bool brief = false;
  RunTag tag;
  RunTagEnd tag_end = nullptr;
  PreparedProgram* prepared = nullptr;  // What prepare() made of these launches; may be null.
  bool last = false;                    // Nothing is enqueued after it before end().
  bool background = false;              // As it was said in begin().
  // Only for a device that reaches_host. The ranges of `before` do not overlap, nor those of
  // `behind`.
  std::span<const Move> before;
  std::span<const Move> behind;
  // All values that `params` of the launches point at lie in these.
  std::span<const std::uint64_t> words;
};

// What a program did. Valid when its stream is idle.
struct ProgramCounts {
  std::uint64_t launches = 0;
  std::uint64_t iterations = 0;
  wire::RunWay way = wire::RunWay::Unknown;  // Graph: by what prepare() made, in one piece.
  wire::WhyStream why = wire::WhyStream::None;
};

// Points in a stream between which time is measured.
enum class StreamMark : std::uint8_t { Begin, Loaded, Computed, Stored };
inline constexpr std::size_t kStreamMarks = 4;

// Work in order. A call enqueues, or on a synchronous device does the work. A failure is returned
// by the call or, if it shows later, by poll() and wait(); what follows it in the stream is not
// done. Ranges are the caller's responsibility: they lie in allocations of this device.
class DeviceStream {
 public:
  virtual ~DeviceStream() = default;

  // Both ends are borrowed until the stream is idle.
  virtual Result<void> copy_to_device(DeviceAddress to, std::span<const std::byte> from) = 0;
  virtual Result<void> copy_to_host(std::span<std::byte> to, DeviceAddress from) = 0;
  // The ranges must not overlap.
  virtual Result<void> copy(DeviceAddress to, DeviceAddress from, std::uint64_t bytes) = 0;
  virtual Result<void> zero(DeviceAddress to, std::uint64_t bytes) = 0;
  virtual Result<void> launch(const KernelProgram& program) = 0;
  // What follows in this stream comes after what was before the event when it was last recorded.
  virtual Result<void> wait_event(ImportedEvent& event);
  // The event is over when all that is before in this stream is.
  virtual Result<void> record_event(ImportedEvent& event);

  // First call of a run: what it enqueues is done after all that `earlier` is given before begin(),
  // which need not be done then. For several, one after another.
  virtual Result<void> follow(DeviceStream& earlier) = 0;
  // Last call of a run: nothing more will be enqueued before it is idle.
  virtual Result<void> end() = 0;

  // Begins a run, before anything else of it but follow(). `timed`: whether the times between its
  // marks are wanted, which can cost microseconds; if not, all of it may count as computing.
  // `background`: it is confined, where the device does that; only for kernels that are native and
  // not cooperative.
  virtual Result<void> begin(bool timed, bool background) = 0;
  virtual void mark(StreamMark mark) = 0;
  // Time between two marks that were set, in order, since the stream was last idle.
  [[nodiscard]] virtual std::uint64_t between_ns(StreamMark begin, StreamMark end) const = 0;
  [[nodiscard]] virtual ProgramCounts counts() const = 0;  // Of the last program.

  // True when everything enqueued is done; never blocks.
  virtual Result<bool> poll() = 0;
  // Blocks until everything enqueued is done.
  virtual Result<void> wait() = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  [[nodiscard]] virtual const DeviceLimits& limits() const noexcept = 0;

  // `bytes` > 0; content undefined. OutOfMemory names what was asked for and what is left.
  virtual Result<DeviceMemory> allocate(std::uint64_t bytes) = 0;
  // Bytes that are allocated now, host memory not counted.
  [[nodiscard]] virtual std::uint64_t allocated_bytes() const noexcept = 0;

  // Memory of this process that kernels reach at the same address; only of a device that
  // reaches_host. Fails: OutOfMemory.
  virtual Result<DeviceMemory> allocate_host(std::uint64_t bytes) = 0;
  // Makes copies from and to the mapping fast, and lets kernels reach it if the device
  // reaches_host. Takes about 0.1 ms a MiB. Any thread. Fails: ResourceExhausted (locked memory).
  virtual Result<HostRegistration> register_host(std::span<std::byte> memory, bool writable) = 0;

  // Before code of a library, or load_module() and load(), on another thread than the one that
  // opened the device; again after such code, which may have changed what it finds. Any thread.
  virtual void enter_thread() noexcept {}
  // Loads code of the device's own; compiles it first if it is source, which takes seconds. Any
  // thread. `code` is borrowed for the call. A device without such code refuses all. Fails:
  // InvalidArgument (not for this device; does not compile, with the compiler's words), Unavailable
  // (no compiler).
  virtual Result<std::shared_ptr<DeviceModule>> load_module(const ModuleCode& code) {
    return Status{StatusCode::InvalidArgument,
                  code.what + " is CUDA code; this device is " + limits().name};
  }
  // InvalidArgument when the kernel was not built for this device. Any thread, one at a time for
  // the kernels of one library.
  virtual Result<DeviceFunction> load(const KernelEntry& entry) = 0;
  // For a program that will be run again, with other values in the same words: launches, their
  // params and words are borrowed until what this returns is destroyed. It may become useful later
  // only, while it is made ready elsewhere. Null: the device keeps nothing of this program.
  virtual std::unique_ptr<PreparedProgram> prepare(const KernelProgram& program) = 0;
  virtual Result<std::unique_ptr<DeviceStream>> open_stream() = 0;

  // Maps device memory of another process. A device that no other process shares memory with
  // refuses, which is what this does. Fails: InvalidArgument (the handle names nothing that can be
  // opened, or memory of a GPU that this device does not see), OutOfMemory.
  virtual Result<std::unique_ptr<ImportedMemory>> import_memory(const ImportRequest& request);
  // The same for an interprocess event; its handle has 64 bytes.
  virtual Result<std::unique_ptr<ImportedEvent>> import_event(std::span<const std::byte> handle);
  // Memory of its own that other processes can map: `bytes` > 0, rounded up to what the device cuts
  // such memory in; content undefined. Not counted by allocated_bytes(). A device that no other
  // process shares memory with refuses, which is what this does. Fails: InvalidArgument,
  // OutOfMemory.
  virtual Result<std::unique_ptr<ExportableMemory>> allocate_exportable(std::uint64_t bytes);

  // To be held while code of a library is called that may use the device, but for the launch of a
  // program: not while the device is in a state in which the library may not synchronise with it.
  // May wait for as long as a launch function takes. Any thread.
  [[nodiscard]] virtual std::shared_lock<std::shared_mutex> library_call() { return {}; }

  // Brings what kernels have printed to the process's streams. Not before all of it is idle.
  virtual void flush_output() noexcept {}

  // Nothing of this device works any more in this process, as after a fault of a kernel on a GPU.
  // Any thread.
  [[nodiscard]] virtual bool lost() const noexcept { return false; }
  // What was seen then. It says nothing of which kernel: several may have been running.
  [[nodiscard]] virtual std::string lost_reason() const { return {}; }

 private:
  friend class DeviceMemory;
  friend class HostRegistration;
  virtual void release(DeviceAddress address, std::uint64_t bytes) noexcept = 0;
  virtual void unregister_host(std::byte* memory, std::uint64_t bytes) noexcept = 0;
};

inline DeviceMemory::~DeviceMemory() {
  if (device_ != nullptr) device_->release(address_, bytes_);
}
inline HostRegistration::~HostRegistration() {
  if (device_ != nullptr) device_->unregister_host(memory_, bytes_);
}

}  // namespace kaas
