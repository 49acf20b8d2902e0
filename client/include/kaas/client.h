// The client library: a session with kaasd.
//
//   auto client = kaas::Client::connect();
//   auto stored = client->put("input", bytes);
//   if (!stored.has_value()) std::puts(kaas::to_string(stored.error()).c_str());
//   auto plan = client->prepare(*request);
//   auto reply = plan->run();
//   auto result = client->get("result");
//
// Order: operations of one thread appear to happen in the order in which they were submitted,
// waited for or not. Operations of two threads have no common order until one has been waited for.
// Threads: a Client may be used from several threads at once; each has a ring of its own, made when
// it first submits (beyond 64 threads, rings are shared). The library makes no thread. Futures,
// plans, buffers and objects may be moved to other threads; one thread at a time uses one of them.
// All of it may be static or thread-local, and works in destructors of such objects, too. Only,
// what a thread does there, its ring being gone, has no order with what it did not wait for before.
// Fork: a child can't use what its parent connected: every call there fails with Unavailable
// and touches nothing that is shared. It connects for itself.
// Errors: never exceptions, but for std::bad_alloc where a call is not noexcept.
#pragma once

#include <kaas/export.h>
#include <kaas/request.h>
#include <kaas/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kaas {
inline namespace v1 {

class Session;   // Internal.
struct Pending;  // Internal.

struct ClientOptions {
  // Where kaasd listens. Empty: $KAAS_SOCKET alone if set, else $XDG_RUNTIME_DIR/kaas/kaasd.sock,
  // then /run/kaas/kaasd.sock.
  std::string socket;
  std::string name;               // For lists and logs, 128 bytes; empty: the program's name.
  std::uint64_t arena_bytes = 0;  // Shared memory for allocate(); 0: kaasd's default.
  std::uint32_t ring_slots = 0;   // Messages on their way per thread; 0: kaasd's default.
  std::chrono::nanoseconds connect_timeout = std::chrono::seconds(5);
  // How long a wait polls, yielding the processor, before it sleeps: about what a wake costs.
  std::chrono::nanoseconds spin = std::chrono::microseconds(50);
  // Whether bound plans may be granted lanes.
  bool lanes = true;
  // No ring and no arena: only the calls that say "administration" work, the others fail with
  // InvalidArgument. Cheaper to connect.
  bool administration_only = false;
};

// What the store knows of an object version.
enum class ObjectPlace : std::uint8_t {
  Host,
  Device,  // In the memory of a device only, until somebody reads it elsewhere.
  Lost     // It was there only, and the process that ran kernels there ended: reads say DataLost.
};
// "host", "device", "lost".
KAAS_API const char* name_of(ObjectPlace place) noexcept;

struct KAAS_API ObjectInfo {
  std::uint64_t version = 0;
  std::uint64_t bytes = 0;
  ObjectPlace place = ObjectPlace::Host;  // Told by stat.
  std::string device;                     // The device's id, if it is not on the host.
};

// One output of a request, in declared order: kernel order, then argument order.
struct Output {
  std::uint16_t buffer = 0;  // Index in the request.
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t version = 0;    // Of the object, where it went to the store; else 0.
  std::vector<std::byte> data;  // Where the output was asked for in the message.
};

// Where a request spent its time. Nanoseconds.
struct Stages {
  std::uint64_t intake_ns = 0;
  std::uint64_t plan_ns = 0;
  std::uint64_t queue_ns = 0;    // Planned until handed to the executor.
  std::uint64_t load_ns = 0;     // Executor: inputs to the device.
  std::uint64_t run_ns = 0;      // Executor: kernels.
  std::uint64_t store_ns = 0;    // Executor: outputs to host memory.
  std::uint64_t execute_ns = 0;  // Handed over until its report was read.
  std::uint64_t settle_ns = 0;
};

struct Counters {
  std::uint64_t device_hits = 0;
  std::uint64_t device_misses = 0;
  std::uint64_t host_to_device_bytes = 0;
  std::uint64_t device_to_host_bytes = 0;
  std::uint64_t evictions = 0;
  std::uint64_t evicted_bytes = 0;
  std::uint64_t kernel_hits = 0;
  std::uint64_t kernel_misses = 0;
  std::uint64_t launches = 0;
  std::uint64_t iterations = 0;
};

// How a run's kernels were launched.
enum class RunWay : std::uint8_t {
  Unknown,  // By a daemon that does not say.
  Host,
  Stream,  // One by one, on a GPU.
  Graph    // All at once, on a GPU.
};
// "host", "stream", "graph"; "unknown" also for what this library does not know.
KAAS_API const char* name_of(RunWay way) noexcept;

// When a request passed each point: one clock for all processes, that of CLOCK_MONOTONIC. With the
// caller's own times of sending and receiving, the whole way without a gap. 0: it did not pass it.
struct Moments {
  std::uint64_t taken_ns = 0;              // kaasd has copied the message out of the ring.
  std::uint64_t decoded_ns = 0;            // Verified, checked, found.
  std::uint64_t planned_ns = 0;            // Bound to bytes, ordered.
  std::uint64_t sent_ns = 0;               // About to be handed to the executor.
  std::uint64_t executor_taken_ns = 0;     // Read there.
  std::uint64_t executor_started_ns = 0;   // Memory is found; about to be given to the device.
  std::uint64_t executor_launched_ns = 0;  // Given to the device; on the host, run by it.
  std::uint64_t executor_ended_ns = 0;     // Found done; about to be reported.
  std::uint64_t reported_ns = 0;           // kaasd has read the report.
  std::uint64_t settled_ns = 0;            // Published; about to be answered.
};

struct Profile {
  Stages stages;
  Counters counters;
  std::string device;
  RunWay way = RunWay::Unknown;
  // Why by stream and not as a graph, in a word or two: "first use", "building", "opaque",
  // "stateful", "original", "variable", "moves", "addresses", "failed", "background". Else
  // empty.
  std::string why_stream;
  Moments moments;
};

// A request that has succeeded.
struct KAAS_API Reply {
  std::uint64_t tag = 0;
  std::vector<Output> outputs;
  std::optional<Profile> profile;  // With RunOptions::profile.

  // The bytes of the in-message output `name`; empty if there is none.
  [[nodiscard]] std::span<const std::byte> data(std::string_view name) const noexcept {
    for (const Output& output : outputs) {
      if (output.name == name) return output.data;
    }
    return {};
  }
};

// Bytes of a stored object version, as long as this lives: a read-only mapping of kaasd's own
// memory for a large one (no copy), else a small copy. Later puts do not change it.
class KAAS_API Object {
 public:
  Object() noexcept;
  ~Object();
  Object(Object&& other) noexcept;
  Object& operator=(Object&& other) noexcept;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t version() const noexcept { return version_; }

 private:
  friend struct ObjectAccess;
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::span<const std::byte> bytes_;
  std::uint64_t version_ = 0;
};

// A piece of the session's shared memory, aligned to 256 bytes. Requests read and write it in
// place. It returns to the arena when destroyed, so it must outlive the requests that use it.
class KAAS_API Buffer {
 public:
  Buffer() noexcept;
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  [[nodiscard]] std::byte* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  // Where this is for kaasd.
  [[nodiscard]] std::uint32_t segment() const noexcept { return segment_; }
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }

 private:
  friend class Session;
  std::shared_ptr<Session> session_;
  std::span<std::byte> bytes_;
  std::uint64_t offset_ = 0;
  std::uint32_t segment_ = 0;
};

// Shared or device memory of the program's own that kaasd and its executors may use. Taken back
// when destroyed, so it must outlive the requests that use it. The caller's descriptor and mapping
// stay the caller's.
class KAAS_API Region {
 public:
  Region() noexcept;
  ~Region();
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;

  [[nodiscard]] std::uint32_t segment() const noexcept { return segment_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

 private:
  friend class Session;
  std::shared_ptr<Session> session_;
  std::uint64_t size_ = 0;
  std::uint32_t segment_ = 0;
  bool must_be_closed_ = false;  // Device memory: destroying waits until nobody has it open.
};

// An allocation of this process's device memory, whole, as executors can reach it. libkaas_cuda
// makes one from a pointer (<kaas/cuda.h>); the fields are what the CUDA driver says.
struct DeviceAllocation {
  enum class Kind : std::uint8_t {
    Legacy = 0,  // cudaMalloc. `handle`: of cuIpcGetMemHandle.
    CuMem,       // cuMemCreate. `descriptor`: of cuMemExportToShareableHandle.
    Pool         // cudaMallocFromPoolAsync. `descriptor`: of cuMemPoolExportToShareableHandle;
                 // `handle`: of cuMemPoolExportPointer.
  };
  Kind kind = Kind::Legacy;
  // 64 bytes. CuMem: up to 64 bytes of the program's own that name the allocation, or none. What is
  // registered again with the same kind and handle is known to be the same memory.
  std::span<const std::byte> handle;
  std::uint64_t bytes = 0;
  std::span<const std::byte> gpu;  // The GPU's UUID, 16 bytes; empty: not told.
  int descriptor = -1;             // Stays the caller's to close.
};

// Which bytes of an object Client::export_object copies, and to which GPU.
struct ExportOptions {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // 0: the rest of the object.
  // An id that status_json shows, or what only one id begins with; empty: where the object was
  // used, else where the least is under way.
  std::string device;
  std::optional<std::uint32_t> owner_uid;  // Of a namespace that shares the key with the caller.
};

// A copy of an object's bytes in device memory that is this client's alone, for a program that uses
// CUDA; libkaas_cuda maps it (<kaas/cuda.h>). The object never changes by what is written to it.
// Requests name it as a region, too. The device memory counts against kaasd's limit for this client
// until this is destroyed. Whoever has mapped it unmaps it before.
class KAAS_API DeviceCopy {
 public:
  struct Impl;  // Internal.
  ~DeviceCopy();
  DeviceCopy(DeviceCopy&& other) noexcept;
  DeviceCopy& operator=(DeviceCopy&& other) noexcept;

  // For cuMemImportFromShareableHandle, type CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR. Closed here.
  [[nodiscard]] int descriptor() const noexcept;
  [[nodiscard]] std::uint64_t bytes() const noexcept;  // Of the object that were copied.
  // What there is to map, a multiple of the GPU's granularity (2 MiB); zero behind bytes().
  [[nodiscard]] std::uint64_t allocation_bytes() const noexcept;
  [[nodiscard]] std::span<const std::byte> gpu() const noexcept;  // The GPU's UUID, 16 bytes.
  [[nodiscard]] const std::string& device() const noexcept;       // As status_json names it.
  [[nodiscard]] std::uint64_t version() const noexcept;           // Of the object.
  // The memory as requests name it; bytes count from its beginning.
  [[nodiscard]] const Region& region() const noexcept;

 private:
  friend class Session;
  explicit DeviceCopy(std::unique_ptr<const Impl> impl) noexcept;
  std::unique_ptr<const Impl> impl_;
};

// What all futures share. An operation goes on when its future is destroyed; its answer is dropped.
class KAAS_API FutureBase {
 public:
  FutureBase(FutureBase&& other) noexcept;
  FutureBase& operator=(FutureBase&& other) noexcept;

  // Whether the answer is there; handles answers that have arrived, never blocks.
  [[nodiscard]] bool ready() noexcept;
  // Waits for the answer or the end of the session; false: not within `timeout`. Without a
  // timeout it always ends, because a dead daemon is noticed within 100 ms.
  bool wait(std::chrono::nanoseconds timeout) noexcept;
  void wait() noexcept;
  // The operation's number, as lists and logs show it with session and ring; 0: never sent.
  [[nodiscard]] std::uint64_t id() const noexcept;
  // Asks kaasd to drop the request while it is queued; the future then ends with Cancelled.
  // Fails with NotFound when it is no longer queued. Waits for kaasd's word.
  Result<void> cancel() noexcept;

 protected:
  explicit FutureBase(Pending* pending) noexcept : pending_(pending) {}
  explicit FutureBase(Status failure);
  ~FutureBase();
  void drop() noexcept;
  Result<Pending*> answered();
  Pending* pending_ = nullptr;       // Shared with its ring until answered.
  std::unique_ptr<Status> failure_;  // Of an operation that was never sent.
  friend class Session;
};

// The answer to one operation, now or later.
template <class T>
class KAAS_API Future : public FutureBase {
 public:
  // Waits, and takes the result. To be called once: a second call fails with InvalidArgument.
  [[nodiscard]] Result<T> get();

 private:
  using FutureBase::FutureBase;
  friend class Session;
};

// A plan bound for good: the same buffers, keys and literals at each run. Means what Plan::run with
// these bindings means, and is faster: nothing is encoded, and once it has been run a few times
// kaasd grants it a lane, which leads straight to the executor, past kaasd. That is up to kaasd,
// which takes a lane back at any time, and works where all outputs are in memory of the session
// (`Bindings::in`) and keys that are read are the user's own. No lane is used beside event_fd().
//
// A thread's other operations wait for its runs on a lane, and go the long way if they are not
// waited for: order is kept. So runs of bound plans are fastest among themselves.
class KAAS_API BoundPlan {
 public:
  struct Impl;  // Internal.
  ~BoundPlan();
  BoundPlan(BoundPlan&& other) noexcept;
  BoundPlan& operator=(BoundPlan&& other) noexcept;

  Result<Reply> run() const;
  [[nodiscard]] Future<Reply> submit() const;
  // Fails with ResourceExhausted instead of waiting when the ring is full.
  [[nodiscard]] Future<Reply> try_submit() const;
  // Whether the next run of this thread goes by a lane, as far as is known.
  [[nodiscard]] bool has_lane() const noexcept;

 private:
  friend class Plan;
  explicit BoundPlan(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

// A request that kaasd has checked and kept: running it sends a few bytes. Copies mean the same
// plan; it is released with the last one.
class KAAS_API Plan {
 public:
  struct Impl;  // Internal.

  Result<Reply> run(const Bindings& bindings = {}, const RunOptions& options = {}) const;
  [[nodiscard]] Future<Reply> submit(const Bindings& bindings = {},
                                     const RunOptions& options = {}) const;
  // Like submit, but fails with ResourceExhausted instead of waiting when the ring is full.
  [[nodiscard]] Future<Reply> try_submit(const Bindings& bindings = {},
                                         const RunOptions& options = {}) const;
  // With these bindings from now on; they are checked when it is run.
  [[nodiscard]] BoundPlan bind(const Bindings& bindings = {}) const;
  [[nodiscard]] std::uint32_t id() const noexcept;

 private:
  friend class Session;
  explicit Plan(std::shared_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

// Submitting waits when the ring is full, handling answers meanwhile, so it can't deadlock; the
// try_ forms fail with ResourceExhausted instead.
class KAAS_API Client {
 public:
  // Unavailable, naming every path that was tried, when no kaasd answers.
  static Result<Client> connect(const ClientOptions& options = {});
  ~Client();  // Ends the session. Requests on their way are dropped by kaasd where still queued.
  Client(Client&& other) noexcept;
  Client& operator=(Client&& other) noexcept;

  [[nodiscard]] std::uint64_t session() const noexcept;  // As kaasctl shows it.
  [[nodiscard]] const std::string& daemon_version() const noexcept;
  [[nodiscard]] const std::string& socket() const noexcept;

  // --- Memory ---------------------------------------------------------------------------------
  // A piece of shared memory, uninitialised. Asks kaasd for more when the arena is full.
  [[nodiscard]] Result<Buffer> allocate(std::uint64_t bytes);
  // Offers the first `bytes` of `descriptor`: a memfd or a shm_open object.
  [[nodiscard]] Result<Region> register_region(int descriptor, std::uint64_t bytes, bool writable);

  // Offers device memory; offsets in the region count from the allocation's base. It must not be
  // freed before the region is destroyed, which waits until requests that use it have ended and
  // nobody has it open.
  [[nodiscard]] Result<Region> register_device_memory(const DeviceAllocation& memory);
  // Offers an interprocess CUDA event by its 64-byte handle. The region's segment is the number
  // that RunOptions name; it has no bytes.
  [[nodiscard]] Result<Region> register_event(std::span<const std::byte> handle);

  // --- Store ----------------------------------------------------------------------------------
  // Publishes a new version of `key`. Up to 64 KiB travel in the message; more are copied once,
  // into memory that is then kaasd's.
  Result<ObjectInfo> put(std::string_view key, std::span<const std::byte> bytes);
  // From shared memory, copied by kaasd: `bytes` of the buffer from `offset` on.
  Result<ObjectInfo> put(std::string_view key, const Buffer& buffer, std::uint64_t offset,
                         std::uint64_t bytes);
  // A whole memfd without any copy. It must not be mapped writable any more; it is sealed here
  // (SHRINK, GROW, WRITE, SEAL). The descriptor stays the caller's to close.
  Result<ObjectInfo> donate(std::string_view key, int descriptor);
  // The current version; `owner_uid`: of a namespace that shares it with the caller.
  Result<Object> get(std::string_view key, std::optional<std::uint32_t> owner_uid = {});
  // A copy of the current version in device memory. InvalidArgument: a range beyond the object, or
  // kaasd runs on the host; ResourceExhausted: more than kaasd lets one client have, with both
  // numbers; OutOfMemory: more than the device has room for; Unavailable: the device is suspended.
  Result<DeviceCopy> export_object(std::string_view key, const ExportOptions& options = {});
  Result<ObjectInfo> stat(std::string_view key, std::optional<std::uint32_t> owner_uid = {});
  Result<void> remove(std::string_view key);
  // As JSON text: at most `limit` objects whose keys begin with `prefix`, after the key `after` in
  // byte order. Administration.
  Result<std::string> list_json(std::string_view prefix, std::string_view after = {},
                                std::uint32_t limit = 256,
                                std::optional<std::uint32_t> owner_uid = {});
  // Lets the user `uid`, or everyone when absent, read the key, or also write it. Administration.
  Result<void> share(std::string_view key, std::optional<std::uint32_t> uid, bool write = false);
  Result<void> unshare(std::string_view key, std::optional<std::uint32_t> uid);

  [[nodiscard]] Future<ObjectInfo> put_async(std::string_view key,
                                             std::span<const std::byte> bytes);
  [[nodiscard]] Future<ObjectInfo> put_async(std::string_view key, const Buffer& buffer,
                                             std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] Future<ObjectInfo> donate_async(std::string_view key, int descriptor);
  [[nodiscard]] Future<Object> get_async(std::string_view key,
                                         std::optional<std::uint32_t> owner_uid = {});
  [[nodiscard]] Future<ObjectInfo> stat_async(std::string_view key,
                                              std::optional<std::uint32_t> owner_uid = {});
  [[nodiscard]] Future<void> remove_async(std::string_view key);

  // --- Requests -------------------------------------------------------------------------------
  Result<Reply> run(const Request& request, const RunOptions& options = {});
  [[nodiscard]] Future<Reply> submit(const Request& request, const RunOptions& options = {});
  [[nodiscard]] Future<Reply> try_submit(const Request& request, const RunOptions& options = {});
  [[nodiscard]] Result<Plan> prepare(const Request& request);

  // --- Functions ------------------------------------------------------------------------------
  // Names a request for everyone who may call it. Returns the version.
  Result<std::uint32_t> deploy(std::string_view function, const Request& request);
  // `version` 0: the current one. A parameter that is not given is an error.
  Result<Reply> call(std::string_view function, std::span<const Parameter> parameters,
                     const Bindings& bindings = {}, const RunOptions& options = {},
                     std::uint32_t version = 0);
  [[nodiscard]] Future<Reply> call_async(std::string_view function,
                                         std::span<const Parameter> parameters,
                                         const Bindings& bindings = {},
                                         const RunOptions& options = {}, std::uint32_t version = 0);
  Result<void> undeploy(std::string_view function, std::uint32_t version = 0);  // 0: all versions.
  Result<void> make_current(std::string_view function, std::uint32_t version);

  // --- Event loops ----------------------------------------------------------------------------
  // Readable when answers may be there, or the daemon is gone: then call poll(). Of this client,
  // closed with it; -1: no descriptors left. From the first call on, kaasd rings it, and bound
  // plans use no lanes; that call waits for their runs that are under way on one.
  [[nodiscard]] int event_fd() noexcept;
  // Handles answers that have arrived, of all threads' rings; never blocks. Returns how many.
  std::size_t poll() noexcept;
  // Whether the daemon still answers, as far as is known; Unavailable with the reason if not.
  [[nodiscard]] Result<void> alive() noexcept;

  // --- Administration: JSON texts, described in docs/client.md ----------------------------------
  Result<std::string> status_json();
  Result<std::string> clients_json();
  Result<std::string> functions_json();
  Result<std::string> libraries_json();
  // Log lines with numbers above `after`, at most `limit`.
  Result<std::string> logs_json(std::uint64_t after = 0, std::uint32_t limit = 1000);
  Result<void> kick(std::uint64_t session);
  Result<void> cancel_request(std::uint64_t session, std::uint32_t ring, std::uint64_t id);
  Result<void> reload();
  // Gives the memory of devices back to other programs, and takes it again. `device`: an id that
  // status_json shows, what only one id begins with, or "all". What runs there is waited for at
  // most `within`, an hour or less; then DeadlineExceeded, and the device goes on. `force`: also if
  // the state of libraries would be lost. The call returns when the memory is free. JSON texts:
  // `suspended` and `resumed`, lists of ids.
  Result<std::string> suspend_device(std::string_view device,
                                     std::chrono::milliseconds within = std::chrono::seconds(30),
                                     bool force = false);
  Result<std::string> resume_device(std::string_view device);

 private:
  explicit Client(std::shared_ptr<Session> session) noexcept : session_(std::move(session)) {}
  std::shared_ptr<Session> session_;
};

}  // namespace v1
}  // namespace kaas
