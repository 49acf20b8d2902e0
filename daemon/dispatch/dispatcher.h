// The data path of kaasd: takes messages from client rings through intake, plan, schedule, execute,
// settle and reply. Wires the stages; each stage's own work is in its folder.
//
// Threads: everything is the dispatcher thread's, except post() and wake(), which any thread may
//          call. Other threads reach the state by posting a command.
// Time:    from the Clock that it is given; the simulation gives its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "daemon/dispatch/device_states.h"
#include "daemon/dispatch/exports.h"
#include "daemon/dispatch/instances.h"
#include "daemon/dispatch/lane.h"
#include "daemon/dispatch/runs.h"
#include "daemon/dispatch/work.h"
#include "daemon/intake/submission.h"
#include "daemon/plan/bind.h"
#include "daemon/plan/functions.h"
#include "daemon/plan/template_cache.h"
#include "daemon/reply/answer.h"
#include "daemon/schedule/placement.h"
#include "daemon/schedule/policy.h"
#include "daemon/session/session.h"
#include "daemon/store/store.h"
#include "daemon/supervise/executor_link.h"

namespace kaas {

struct DispatcherOptions {
  std::uint64_t running_limit_ns = 0;     // Of one run on an executor; 0: none.
  std::uint32_t runs_per_executor = 512;  // In flight at most; below kWorkRingSlots.
  std::uint64_t idle_release_ns = 0;      // Executors without work for so long are ended; 0: none.
  std::uint64_t export_bytes = kExportBytesDefault;  // Of one session's exports at most.
  std::vector<DeviceSpec> devices;  // At least one. A place is an index in it, plus 1.
  LibraryRules libraries;
};

// What the dispatcher asks of the process that it lives in. The simulation has its own.
class DispatcherHost {
 public:
  virtual ~DispatcherHost() = default;
  [[nodiscard]] virtual std::uint64_t now_ns() = 0;
  // There is work for a domain that has no executor on this device: start one, and keep one. Called
  // again only after executor_down, executor_failed, release_executor or unwant_executor.
  virtual void want_executor(std::uint32_t domain, std::uint32_t place) = 0;
  // No executor is wanted there any more. One that has been started meanwhile comes as executor_up.
  virtual void unwant_executor(std::uint32_t domain, std::uint32_t place) = 0;
  // The executor is not needed any more: when its link is destroyed its process ends by itself, and
  // must not be started again.
  virtual void release_executor(std::unique_ptr<ExecutorLink> link) = 0;
  // End this executor's process; executor_down follows.
  virtual void kill_executor(std::uint32_t executor, const std::string& reason) = 0;
  // Its rings work: it has mapped its segments and reported Ready.
  virtual void executor_ready(std::uint32_t executor) = 0;
  // The session is gone; its descriptors may be closed.
  virtual void session_closed(std::uint64_t session, const Status& reason) = 0;
  // A descriptor that the thread must watch, or no longer: doorbells of rings and executors.
  virtual void watch(int descriptor, std::uint64_t session_or_0, std::uint32_t executor_or_0) = 0;
  virtual void unwatch(int descriptor) = 0;
  virtual void log(StatusCode code, const std::string& line) = 0;
};

class Dispatcher {
 public:
  Dispatcher(DispatcherOptions options, DispatcherHost& host, Store& store,
             SegmentRegistry& segments, std::unique_ptr<Policy> policy);
  ~Dispatcher();

  // One round over all rings and executors. Returns how many messages it moved. Never blocks.
  std::size_t step();

  // The sleep protocol. prepare_to_sleep raises all flags and looks once more; false: do not sleep.
  // Returns through `wake_at_ns` when to look again at the latest (0: no need).
  bool prepare_to_sleep(std::uint64_t& wake_at_ns);
  void finish_sleep();
  // A doorbell rang or its peer hung up.
  void doorbell(std::uint64_t session, std::uint32_t executor);

  using Command = std::function<void(Dispatcher&)>;
  // Runs `command` in the next step. Any thread. `wake` is then called on the calling thread.
  void post(Command command);
  void set_waker(std::function<void()> wake) { wake_ = std::move(wake); }

  // --- Commands: dispatcher thread -------------------------------------------------------------
  void add_session(std::unique_ptr<Session> session);
  // Drops queued work; what runs finishes into nothing. No-op for an unknown session.
  void close_session(std::uint64_t session, const Status& reason);
  [[nodiscard]] Session* find_session(std::uint64_t session);
  void add_ring(Session& session, std::unique_ptr<RingState> ring);
  // Ends a request of which no kernel has been started; `done` hears whether it came in time, at
  // once or when the executor has said so.
  using Cancelled = std::function<void(const Result<void>&)>;
  void cancel(std::uint64_t session, std::uint32_t ring, std::uint64_t id, Cancelled done);

  // A descriptor that a Put of the session names. Fails: ResourceExhausted, AlreadyExists.
  Result<void> add_donation(Session& session, std::uint64_t token, Donation donation);

  // Calls `done` when the segment's last holder has let go and no executor has it attached: its
  // owner may free it then. To be asked while it is alive.
  void when_detached(std::uint32_t segment, std::function<void()> done);

  void executor_up(std::unique_ptr<ExecutorLink> link);
  // `cause` is told to those whose requests can't be tried again.
  void executor_down(std::uint32_t executor, const std::string& cause);
  // No executor can be started for the domain on this device now.
  void executor_failed(std::uint32_t domain, std::uint32_t place, const Status& cause);

  // Ends the executors of the devices that `name` names (devices.cc), so that their memory is free
  // for others, once what runs there has ended. `done` hears the places when the links are gone.
  // Fails, with the devices as they were: NotFound, AlreadyExists (under way), InvalidArgument (the
  // state of libraries would be lost, and not `force`), DeadlineExceeded after `within_ns`.
  using Suspended = std::function<void(Result<std::vector<std::uint32_t>>)>;
  void suspend_devices(std::string_view name, std::uint64_t within_ns, bool force, Suspended done);
  // Takes the devices again. Fails: NotFound.
  Result<std::vector<std::uint32_t>> resume_devices(std::string_view name);

  // Lanes that use the segment end, and none is granted that was asked for before.
  void end_lanes_using(std::uint32_t segment);
  // Brings the accounts of sessions and executors up to date with what went by lanes.
  void count_lanes();
  [[nodiscard]] std::size_t lanes_of(std::uint64_t session) const;
  [[nodiscard]] const std::map<std::uint32_t, std::unique_ptr<Lane>>& lanes() const noexcept {
    return lanes_;
  }

  // Any thread: SegmentRegistry and Store call them.
  void segment_released(std::uint32_t segment) noexcept;
  void version_dropped(std::uint64_t version) noexcept;

  // No new operations; `drained` is called once when nothing is under way.
  void drain(std::function<void()> drained);
  [[nodiscard]] bool draining() const noexcept { return static_cast<bool>(drained_); }

  // --- For administration ----------------------------------------------------------------------
  [[nodiscard]] FunctionRegistry& functions() noexcept { return functions_; }
  [[nodiscard]] const std::map<std::uint64_t, std::unique_ptr<Session>>& sessions() const noexcept {
    return sessions_;
  }
  // A version on its way from a device to the host, and who waits for it.
  struct Fetching {
    VersionRef version;
    bool sent = false;
    std::vector<std::uint64_t> runs;
    struct Read {
      std::uint64_t session = 0;
      std::uint32_t ring = 0;
      DeferredRead wanted;
    };
    std::vector<Read> reads;
  };
  struct ExecutorState {
    std::unique_ptr<ExecutorLink> link;
    std::vector<Run*> in_flight;  // In the order of sending.
    Run* held_back = nullptr;     // Taken from the policy, had no room yet.
    bool alone = false;           // A run with strikes is in flight: nothing else may join it.
    bool condemned = false;       // Its end was asked for.
    bool over_limit = false;      // ... because a run exceeded the limit on running time.
    bool distrusted = false;      // ... because it broke the protocol: it is not read any more.
    std::unordered_map<std::uint32_t, std::vector<Run*>> preparing;  // By plan.
    std::unordered_set<std::uint32_t> loaded_plans;
    wire::Counters counters;
    std::uint64_t used_bytes = 0;
    std::uint64_t limit_bytes = 0;
    std::string device_name;  // As the executor says; only its own domain may believe it.
    std::string confinement;  // The same, from before it ran anybody's code.
    std::uint64_t device_bytes = 0;
    std::uint64_t finished = 0;
    std::uint64_t idle_since_ns = 0;           // When it had its last work, or was ready.
    std::uint64_t waited_for_since_ns = 0;     // Runs wait for room there; 0: none.
    std::uint64_t lanes_refused_until_ns = 0;  // Lanes had to give way.
    bool keeps_outputs = false;                // See Ready.
    // Resident versions that it has, and those of them that are being fetched, by number.
    std::map<std::uint64_t, std::weak_ptr<ObjectVersion>> residents;
    std::map<std::uint64_t, Fetching> fetches;
    // Large versions that were used there. Only where there are several devices.
    std::unordered_set<std::uint64_t> used_versions;
  };
  [[nodiscard]] const std::map<std::uint32_t, std::unique_ptr<ExecutorState>>& executors()
      const noexcept {
    return executors_;
  }
  [[nodiscard]] const std::vector<DeviceState>& devices() const noexcept { return devices_; }
  // The domains that have wanted executors, with the state of each place.
  [[nodiscard]] const std::map<std::uint32_t, std::vector<PlaceState>>& domains() const noexcept {
    return domains_;
  }
  [[nodiscard]] const RunTable& runs() const noexcept { return runs_; }
  // Exports that are not answered yet, by number.
  [[nodiscard]] const std::map<std::uint64_t, Export>& exports() const noexcept { return exports_; }
  [[nodiscard]] const Policy& policy() const noexcept { return *policy_; }
  [[nodiscard]] const Instances& instances() const noexcept { return instances_; }
  [[nodiscard]] Instances& instances() noexcept { return instances_; }
  // What SIGHUP may change.
  void reconfigure(std::uint64_t running_limit_ns, std::vector<std::string> library_path);
  [[nodiscard]] Store& store() noexcept { return store_; }
  [[nodiscard]] SegmentRegistry& segments() noexcept { return segments_; }
  void ask_for_counters();

 private:
  // operations.cc: intake.
  std::size_t take_turn(Session& session);
  std::size_t take_messages(Session& session, RingState& ring);
  bool handle_message(Session& session, RingState& ring, std::span<const std::byte> message);
  std::size_t resume_rings();
  void resume_stalled(Session& session, RingState& ring);
  void handle(Session&, RingState&, std::uint64_t id, SubmitOperation&);
  void handle(Session&, RingState&, std::uint64_t id, PrepareOperation&);
  void handle(Session&, RingState&, std::uint64_t id, InvokeOperation&);
  void handle(Session&, RingState&, std::uint64_t id, CallOperation&);
  void handle(Session&, RingState&, std::uint64_t id, DeployOperation&);
  void handle(Session&, RingState&, std::uint64_t id, ReleasePlanOperation&);
  void handle(Session&, RingState&, std::uint64_t id, PutOperation&);
  void handle(Session&, RingState&, std::uint64_t id, GetOperation&);
  void handle(Session&, RingState&, std::uint64_t id, StatOperation&);
  void handle(Session&, RingState&, std::uint64_t id, RemoveOperation&);
  void handle(Session&, RingState&, std::uint64_t id, CancelOperation&);
  void handle(Session&, RingState&, std::uint64_t id, OpenLaneOperation&);
  void handle(Session&, RingState&, std::uint64_t id, DropLaneCallOperation&);
  void handle(Session&, RingState&, std::uint64_t id, ExportOperation&);
  static Result<PreparedPlan*> prepared_plan(Session& session, std::uint32_t plan);
  Result<CompiledRequest> compile_cached(std::span<const std::byte> request);
  Result<VersionRef> put(Session& session, PutOperation& operation, const ScopedKey& key);
  void read(Session& session, RingState& ring, const DeferredRead& read);
  void answer_object(Session& session, RingState& ring, const DeferredRead& read,
                     const VersionRef& version);
  Result<std::uint64_t> send_descriptor(Session& session, int descriptor, std::uint64_t bytes);
  // Whether an unsettled run of the ring will publish the key; stalls the ring on it if so.
  bool stalls_on_token(Session& session, RingState& ring, std::uint64_t token);
  void expire_donations();
  bool stalls_on_pending(RingState& ring, const ScopedKey& key);
  // A key of a Get, Stat or Export: its own field for the namespace wins over the "@uid/" form.
  static Result<ScopedKey> scoped(const std::string& key, std::optional<std::uint32_t> owner,
                                  std::uint32_t own_uid);
  // Answers the read now, or when the run of the ring that writes its key is settled.
  void read_when_published(Session& session, RingState& ring, DeferredRead wanted);
  // Whether an unsettled run of the ring writes bytes that the put reads; stalls the ring on it.
  bool stalls_on_writer(RingState& ring, const PutOperation& operation);

  // start.cc: plan.
  struct Start {
    Session& session;
    RingState& ring;
    std::uint64_t id;
    CompiledRequest compiled;
    std::shared_ptr<PlanInstance> instance;  // Null: the current one of the template.
    std::vector<BindingSpec>* bindings;
    std::vector<LiteralOverrideSpec>* literals;
    std::span<const ParameterValue> parameters;
    RunOptions* options;
    Run::Kind kind = Run::Kind::Execute;
  };
  Result<void> start(Start request);
  Result<std::shared_ptr<PlanInstance>> rebuild(Start& request);
  Result<Run*> new_run(Session& session, RingState& ring);
  void fill(Run& run, Start& request, std::shared_ptr<PlanInstance> instance,
            std::uint64_t decoded_ns);
  static void record(RingState& ring, Run& run);
  void link_dependencies(Run& run);

  // exports.cc: copies of objects in device memory for clients.
  void begin_export(Session& session, RingState& ring, const DeferredRead& wanted);
  Result<Export> check_export(Session& session, const DeferredRead& wanted);
  Result<std::uint32_t> export_place(const std::string& device) const;
  Result<void> charge_export(const Session& session, std::uint64_t bytes) const;
  void want_exporter(const Export& one);
  void pump_exports();
  ExecutorState* choose_exporter(const Export& one);
  void resume_exports(const ObjectVersion& version, const Result<void>& outcome);
  void send_export(ExecutorState& executor, Export& one);
  bool export_done(ExecutorState& executor, const wire::ExportDone& report, const Status& failure);
  Result<SegmentRef> adopt_export(ExecutorState& executor, Export& one,
                                  const wire::ExportDone& report);
  void answer_export(const Export& one, const SegmentRef& segment);
  void fail_export(std::uint64_t number, const Status& cause);
  void fail_exports(const Status& cause, const std::function<bool(const Export&)>& concerned);
  void requeue_exports(std::uint32_t executor, const std::string& cause);
  [[nodiscard]] std::size_t exports_in_flight(std::uint32_t executor) const;
  [[nodiscard]] std::string exports_on(const std::vector<std::uint32_t>& places) const;

  // execute.cc: schedule, execute.
  void enqueue_if_ready(Run& run);
  bool pump();
  bool pump(std::uint32_t domain, std::vector<PlaceState>& places);
  bool pump_held_back(std::vector<PlaceState>& places);
  bool find_openings(const std::vector<PlaceState>& places);
  ExecutorState& choose_executor(const Run& run);
  enum class Dispatched { Sent, Full, Finished };
  Dispatched send(ExecutorState& executor, Run& run);
  Dispatched send_or_hold(ExecutorState& executor, Run& run);
  Result<bool> lease_outbox(ExecutorState& executor, Run& run);
  Dispatched refuse(ExecutorState& executor, Run& run, const Status& cause);
  static void return_outbox(ExecutorState& executor, Run& run);
  Result<void> locate(ExecutorState& executor, Run& run);
  Result<void> locate_load(const ExecutorState& executor, const Run& run, const BoundLoad& load);
  Dispatched send_prepare(ExecutorState& executor, Run& run);

  // devices.cc: which devices there are for a domain, where the state of libraries is, and devices
  // that are given back.
  std::vector<PlaceState>& places_of(std::uint32_t domain);
  [[nodiscard]] bool is_active(std::uint32_t place) const;
  [[nodiscard]] bool has_several_devices() const noexcept { return devices_.size() > 1; }
  void want_executors(std::uint32_t domain);
  void want(std::uint32_t domain, std::uint32_t place);
  void want_idle(std::uint32_t domain);
  std::uint32_t home_of(Run& run, std::uint32_t preferred);
  std::uint32_t choose_home(const Run& run, std::uint32_t preferred);
  void learn_state(const ExecutorState& executor, PlanInstance& plan, bool stateful);
  void requeue_plan(std::uint32_t plan);
  void forget_state(std::uint32_t domain, std::uint32_t place);
  void forget_unused_libraries();
  [[nodiscard]] std::size_t libraries_with_state(std::uint32_t place) const;
  static void remember_use(ExecutorState& executor, const Run& run);
  [[nodiscard]] static std::uint64_t used_input_bytes(const ExecutorState& executor,
                                                      const Run& run);
  Result<std::vector<std::uint32_t>> find_places(std::string_view name) const;
  void begin_suspension(const std::vector<std::uint32_t>& places);
  void check_suspensions();
  bool finish_suspension(const Suspension& suspension);
  void refuse_suspension(Suspension suspension, const Status& cause);
  [[nodiscard]] std::string what_runs_on(const std::vector<std::uint32_t>& places) const;
  [[nodiscard]] bool is_idle(const ExecutorState& executor) const;
  void release_idle();
  void release(std::uint32_t executor);
  void take_back_held(ExecutorState& executor);
  void requeue_all();

  // lanes.cc: the short way past kaasd.
  Result<void> check_lane_call(const Run& run, const PlanTemplate& plan,
                               std::vector<LaneKey>& keys) const;
  [[nodiscard]] bool is_current(const Run& run) const;
  Dispatched send_lane_call(ExecutorState& executor, Run& run);
  Result<Lane*> lane_for(ExecutorState& executor, Session& session, RingState& ring);
  Result<std::unique_ptr<Lane>> make_lane(const Session& session, const RingState& ring);
  bool lane_call_added(ExecutorState& executor, const wire::LaneCallAdded& report);
  Result<void> grant(Lane& lane, Run& run);
  void end_lane(Lane& lane, const Status& reason);
  void end_if_unused(Lane& lane, const Status& reason);
  void end_lanes(const Status& reason, const std::function<bool(const Lane&)>& which);
  void end_lanes_of_executor(std::uint32_t executor, const Status& reason);
  void end_lanes_reading(std::uint32_t namespace_uid, std::string_view key);
  bool lane_ended(const ExecutorState& executor, const wire::LaneEnded& report);
  void forget_lane(std::uint32_t id);
  bool lose_lanes(const ExecutorState& executor, const std::string& cause);
  bool count_lane(Lane& lane);
  void watch_lanes();
  void yield_lanes(const std::vector<PlaceState>& places);
  [[nodiscard]] bool has_lanes(std::uint32_t executor) const;

  // residents.cc: objects whose bytes are on a device only.
  void keep_on_device(ExecutorState& executor, const VersionRef& version);
  Fetching& fetch(const VersionRef& version);
  void send_fetches();
  bool fetched(ExecutorState& executor, const wire::Fetched& report);
  void end_fetch(ExecutorState& executor, std::uint64_t version, const Result<void>& outcome);
  void memory_short(ExecutorState& executor, const wire::MemoryShort& report);
  static void lose_residents(ExecutorState& executor, const std::string& cause);
  void end_lost_fetches(ExecutorState& executor);
  bool write_back(ExecutorState& executor);
  // Resident versions whose bytes a run reads, or writes slices over.
  struct RunResidents {
    struct One {
      VersionRef version;
      bool is_read = false;
    };
    std::vector<One> versions;
    // Of a device that has them. A version that is read where it is counts among the run's own
    // memory; else its memory comes on top.
    std::uint64_t needed_bytes = 0;
  };
  [[nodiscard]] RunResidents residents_of(const Run& run) const;
  [[nodiscard]] bool may_run_beside(const ExecutorState& executor, const Run& run,
                                    const RunResidents& residents, bool is_read) const;
  [[nodiscard]] std::uint32_t place_of_residents(const Run& run) const;
  std::optional<std::uint32_t> await_residents(const Run& run, std::uint32_t place);

  // reports.cc: reports, settle.
  std::size_t take_reports(ExecutorState& executor);
  void distrust(ExecutorState& executor, const std::string& reason);
  bool handle_report(ExecutorState& executor, const wire::ReportItem& report);
  void executor_ready(ExecutorState& executor, const wire::Ready& report);
  bool run_done(ExecutorState& executor, const wire::RunDone& report);
  bool plan_loaded(ExecutorState& executor, const wire::PlanLoaded& report);
  [[nodiscard]] std::shared_ptr<PlanInstance> find_plan(const ExecutorState& executor,
                                                        std::uint32_t plan) const;
  bool library_loaded(ExecutorState& executor, const wire::LibraryLoaded& report);
  void settle(Run& run, const Status* failure, const wire::RunDone* report);
  Result<void> publish(Run& run, ExecutorState* executor);
  Result<void> join_slices(Run& run, ExecutorState& executor, std::span<const std::size_t> stores,
                           std::vector<Store::Entry>& entries);
  std::span<const AnswerOutput> outputs_of(const Run& run, const ExecutorState* executor);
  void answer_run(Run& run, const Status* failure, const wire::RunDone* report,
                  ExecutorState* executor);
  void finish(Run& run, const Status* failure);
  void unlink(Run& run);
  static void forget_pending(RingState& ring, const Run& run, bool failed);

  // failures.cc: what is left when a session or an executor is gone, or time is up.
  void requeue_domain(std::uint32_t domain);
  void after_death(Run& run, bool only_one, bool over_limit, const std::string& cause);
  void give_up(Run& run, const Status& cause);
  void cancel_at_executor(const Run& run);
  bool cancel_done(const ExecutorState& executor, const wire::CancelDone& report);
  static void tell_cancels(Run& run, bool was_cancelled);
  bool expire();
  void check_running_limit();

  // dispatcher.cc: sessions, timers, answers.
  void answer(Session& session, RingState& ring, const AnswerSpec& spec);
  void fail(Session& session, RingState& ring, std::uint64_t id, const Status& status);
  std::size_t run_commands();
  void check_drained();
  void tell_dropped();
  void detach_everywhere(std::uint32_t segment);
  void detached(std::uint32_t segment, std::uint32_t executor);
  void all_detached(std::uint32_t segment);

  DispatcherOptions options_;
  DispatcherHost& host_;
  Store& store_;
  SegmentRegistry& segments_;
  std::unique_ptr<Policy> policy_;
  FunctionRegistry functions_;
  TemplateCache templates_;
  Instances instances_;
  RunTable runs_;

  std::map<std::uint64_t, std::unique_ptr<Session>> sessions_;
  std::map<std::uint32_t, std::unique_ptr<ExecutorState>> executors_;
  std::map<std::uint32_t, std::unique_ptr<Lane>> lanes_;
  std::uint32_t last_lane_ = 0;        // Numbers are not used again.
  std::uint64_t lanes_looked_ns_ = 0;  // When the executors' words were last read.
  std::vector<DeviceState> devices_;   // By place - 1.
  std::map<std::uint32_t, std::vector<PlaceState>> domains_;                        // By place - 1.
  std::map<std::pair<std::uint32_t, std::uint32_t>, LibraryState> library_states_;  // Domain, id.
  std::vector<Suspension> suspensions_;
  std::map<std::uint64_t, Export> exports_;  // Not answered yet, by number.
  std::uint64_t next_export_ = 1;
  std::set<std::pair<std::uint64_t, std::uint64_t>> deadlines_;  // When; the run under way.
  std::size_t stalled_tokens_ = 0;  // Rings that wait for a donated descriptor.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> resumable_;  // (session, ring).
  std::uint64_t step_ns_ = 0;                                       // When this step began.
  std::uint64_t taken_ns_ = 0;  // When the message in hand was taken.
  std::size_t work_ = 0;        // Of what is in hand: work.h.
  bool pump_due_ = false;
  bool fetches_due_ = false;    // Some fetch is not sent yet.
  bool had_residents_ = false;  // Ever: else nobody needs to look for them.

  MessageBuffer buffer_;
  flatbuffers::FlatBufferBuilder builder_;
  std::vector<BufferPlace> places_;    // Scratch of start().
  std::vector<AnswerOutput> outputs_;  // Scratch of outputs_of().
  std::vector<wire::Location> loads_;  // Scratch of send().
  std::vector<wire::Location> stores_;
  std::vector<SegmentRef> read_segments_;
  std::vector<SegmentRef> once_segments_;
  std::vector<std::uint64_t> after_;
  std::vector<std::uint32_t> in_flight_places_;  // Scratch of enqueue_if_ready().
  std::vector<ExecutorState*> open_;             // Scratch of pump().
  std::vector<std::uint32_t> open_places_;
  std::vector<PlaceView> views_;

  // Who waits for a segment to be detached, and by which executors.
  struct Detaching {
    std::function<void()> done;
    std::unordered_set<std::uint32_t> executors;
  };
  std::unordered_map<std::uint32_t, Detaching> detaching_;

  std::mutex mailbox_mutex_;
  std::vector<Command> mailbox_;           // Guarded by mailbox_mutex_.
  std::atomic<bool> mailbox_full_{false};  // Partner: run_commands.
  std::function<void()> wake_;
  std::function<void()> drained_;

  // Segments and versions that are gone, from any thread.
  std::mutex gone_mutex_;
  std::vector<std::uint32_t> gone_segments_;  // Guarded by gone_mutex_.
  std::vector<std::uint64_t> gone_versions_;  // Guarded by gone_mutex_.
  std::atomic<bool> gone_{false};             // Partner: tell_dropped.
};

}  // namespace kaas
