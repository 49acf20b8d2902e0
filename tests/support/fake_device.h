// A Device for tests and the simulation: memory of this process, kernels one block after another on
// the calling thread, time that only marks advance. Does what the contract says and nothing twice
// differently; fails where it is told to.
// Threads: as device.h says. Enqueued work of an asynchronous one is done by poll() and wait().
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "daemon/executor/device/exportable_memory.h"
#include "daemon/executor/device/imported_memory.h"
#include "daemon/executor/library/opened_library.h"

namespace kaas {

class FakeDevice final : public Device {
 public:
  struct Options {
    std::uint64_t memory_bytes = 1u << 20;
    // poll() does one enqueued piece of work at a time; else calls do it at once.
    bool asynchronous = false;
    bool reaches_host = false;
    bool keeps_outputs = false;
    std::uint64_t mark_ns = 1'000;  // Between two marks of a stream.
    // Programs are launched by stream until finish_preparing() was called behind their prepare().
    bool prepares = false;
    bool confines_background = false;
  };

  explicit FakeDevice(const Options& options);
  ~FakeDevice() override;

  // The n-th allocation, or launch of a kernel, from now fails; 1 is the next. Once.
  void fail_allocation(std::uint64_t n) { allocations_until_failure_ = n; }
  void fail_launch(std::uint64_t n) { launches_until_failure_ = n; }
  // What is being prepared is ready.
  void finish_preparing() noexcept { ++preparations_finished_; }
  // Prepared programs that there are.
  [[nodiscard]] std::uint64_t prepared() const noexcept { return prepared_; }
  // The device is lost at that launch, for ever.
  void lose_at_launch(std::uint64_t n) { launches_until_loss_ = n; }

  // Memory of another process, as it were: can be imported by a Legacy handle of 64 such bytes,
  // until it is withdrawn. Copies may use it; kernels too if it is direct.
  void offer(std::byte handle, std::span<std::byte> memory, bool direct = true);
  // Exports are memfds, cut in pieces of this; a CuMem descriptor of one can be imported. The n-th
  // of them from now, or the descriptor of the n-th, fails.
  static constexpr std::uint64_t kExportPieceBytes = 4096;
  void fail_export(std::uint64_t n) { exports_until_failure_ = n; }
  void fail_export_descriptor(std::uint64_t n) { descriptors_until_failure_ = n; }
  // The n-th copy or zeroing of a stream from now fails.
  void fail_copy(std::uint64_t n) { copies_until_failure_ = n; }
  // The n-th call of a stream that enqueues from now is refused.
  void fail_enqueue(std::uint64_t n) { enqueues_until_failure_ = n; }
  // Runs that were begun on a stream which still had work of the run before.
  [[nodiscard]] std::uint64_t left_behind() const noexcept { return left_behind_; }
  // Ranges that programs have moved between staging and device memory.
  [[nodiscard]] std::uint64_t moves() const noexcept { return moves_; }
  // Runs that were begun as background.
  [[nodiscard]] std::uint64_t background_runs() const noexcept { return background_runs_; }
  [[nodiscard]] std::size_t exports() const noexcept { return exported_.size(); }
  [[nodiscard]] std::uint64_t exported_bytes() const noexcept { return exported_bytes_; }
  [[nodiscard]] std::uint64_t exports_made() const noexcept { return exports_made_; }  // Ever.

  // It can't be imported any more; what has it mapped keeps it.
  void withdraw(std::byte handle) { offered_.erase(handle); }
  static ImportRequest request_for(std::byte handle, std::uint64_t bytes = 0);
  // An event of another process: can be imported until it is withdrawn.
  void offer_event(std::byte handle) { offered_events_.insert(handle); }
  // What streams did with events, in order: "wait 1 after 2 launches", "record 1 after 3 launches".
  [[nodiscard]] const std::vector<std::string>& event_log() const noexcept { return event_log_; }
  // How often a stream was told to follow another one.
  [[nodiscard]] std::uint64_t follows() const noexcept { return follows_; }
  [[nodiscard]] std::size_t open_events() const noexcept { return open_events_; }
  [[nodiscard]] std::uint64_t imports() const noexcept { return imports_; }  // Ever made.
  [[nodiscard]] std::size_t mapped() const noexcept { return mapped_.size(); }

  [[nodiscard]] std::size_t allocations() const noexcept { return memory_.size(); }
  [[nodiscard]] std::uint64_t launches() const noexcept { return launches_; }

  [[nodiscard]] const DeviceLimits& limits() const noexcept override { return limits_; }
  Result<DeviceMemory> allocate(std::uint64_t bytes) override;
  [[nodiscard]] std::uint64_t allocated_bytes() const noexcept override { return allocated_; }
  [[nodiscard]] bool lost() const noexcept override { return lost_; }
  [[nodiscard]] std::string lost_reason() const override { return "the test took it"; }
  Result<DeviceMemory> allocate_host(std::uint64_t bytes) override;
  Result<HostRegistration> register_host(std::span<std::byte> memory, bool writable) override;
  Result<DeviceFunction> load(const KernelEntry& entry) override;
  std::unique_ptr<PreparedProgram> prepare(const KernelProgram& program) override;
  Result<std::unique_ptr<DeviceStream>> open_stream() override;
  Result<std::unique_ptr<ImportedMemory>> import_memory(const ImportRequest& request) override;
  Result<std::unique_ptr<ImportedEvent>> import_event(std::span<const std::byte> handle) override;
  Result<std::unique_ptr<ExportableMemory>> allocate_exportable(std::uint64_t bytes) override;

 private:
  friend class FakeStream;
  friend class FakeImport;
  friend class FakePrepared;
  friend class FakeEvent;
  friend class FakeCuMemImport;
  friend class FakeExport;
  struct Offer {
    std::span<std::byte> memory;
    bool direct = true;
  };
  struct Release {
    void operator()(std::byte* memory) const noexcept;
  };

  void release(DeviceAddress address, std::uint64_t bytes) noexcept override;
  void unregister_host(std::byte* memory, std::uint64_t bytes) noexcept override;
  Result<std::unique_ptr<ImportedMemory>> import_descriptor(const ImportRequest& request);
  // Whether [address, address + bytes) lies in one allocation: an honest device would fault.
  [[nodiscard]] bool holds(DeviceAddress address, std::uint64_t bytes) const noexcept;
  Result<void> run(const KernelLaunch& launch);

  Options options_;
  DeviceLimits limits_;
  std::uint64_t allocated_ = 0;
  std::atomic<std::uint64_t> launches_{0};
  std::atomic<std::uint64_t> allocations_until_failure_{0};
  std::atomic<std::uint64_t> launches_until_failure_{0};
  std::uint64_t preparations_finished_ = 0;
  std::uint64_t prepared_ = 0;
  std::atomic<std::uint64_t> launches_until_loss_{0};
  std::atomic<bool> lost_{false};
  std::map<std::byte, Offer> offered_;
  std::uint64_t imports_ = 0;
  std::set<std::byte> offered_events_;
  std::size_t open_events_ = 0;
  std::atomic<std::uint64_t> follows_{0};
  std::atomic<std::uint64_t> background_runs_{0};
  std::atomic<std::uint64_t> moves_{0};
  std::vector<std::string> event_log_;
  std::map<DeviceAddress, std::uint64_t> mapped_;  // Imported: bytes by address.
  std::map<DeviceAddress, std::uint64_t> exported_;
  std::uint64_t exported_bytes_ = 0;
  std::uint64_t exports_made_ = 0;
  std::atomic<std::uint64_t> exports_until_failure_{0};
  std::atomic<std::uint64_t> descriptors_until_failure_{0};
  std::atomic<std::uint64_t> copies_until_failure_{0};
  std::atomic<std::uint64_t> enqueues_until_failure_{0};
  std::atomic<std::uint64_t> left_behind_{0};
  using Memory =
      std::map<DeviceAddress, std::pair<std::unique_ptr<std::byte, Release>, std::uint64_t>>;
  Memory memory_;
  Memory host_memory_;
  mutable std::mutex registered_mutex_;
  std::map<DeviceAddress, std::uint64_t> registered_;  // Under registered_mutex_.
};

// Libraries without files: every path opens the same table of kernels, but those that begin with
// "/missing", which are not found, and with "/stateful", which say that they keep state.
//
//   noop                                does nothing
//   fill(Q count, I value, P out)       u32 out[i] = value
//   copy(Q bytes, p in, P out)
//   add(Q count, p a, p b, P out)       u32 out[i] = a[i] + b[i]
//   add_one(Q count, P data)            u32 ++data[i]
//   count_to(I limit, P counter, P done)   u32 ++counter; done = counter >= limit
//   store_raw(b<16> {u32* to, u32 value, u32 unused})   *to = value
//   scale_f32(Q count, f factor, P data)
//   print(I times)                      prints "line N" so often, to stdout
//   fail()                              an opaque kernel that always fails
class FakeLibraries final : public LibraryOpener {
 public:
  // `device` must outlive this.
  explicit FakeLibraries(const Device& device) : device_(device) {}
  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override;

 private:
  const Device& device_;
};

}  // namespace kaas
