// kaasd: constructs everything, connects it, and runs two threads until a signal.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "daemon/config.h"
#include "daemon/control/control.h"
#include "daemon/dispatch/loop.h"
#include "daemon/store/memory_source.h"

#if defined(KAAS_HAVE_SYSTEMD)
#include <systemd/sd-daemon.h>
#endif

namespace kaas {
namespace {

constexpr const char* kVersion = KAAS_VERSION;
// Exit statuses.
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int fail(const Status& status) {
  std::fprintf(stderr, "kaasd: %s\n", status.message.c_str());
  return status.code == StatusCode::InvalidArgument ? kExitUsage : kExitFailed;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// Other processes of this user can't trace kaasd or read its memory. The leak checker traces
// itself, so not under it.
void make_untraceable() {
#if !defined(__SANITIZE_ADDRESS__)
  ::prctl(PR_SET_DUMPABLE, 0);
#endif
}

std::uint64_t new_epoch() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Signals come through the descriptor, to the control thread, and to no other.
Result<Descriptor> take_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  Descriptor descriptor(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor) return Status{StatusCode::ResourceExhausted, "signalfd failed"};
  return descriptor;
}

// For `Type=notify` services; nothing happens elsewhere.
void tell_service_manager([[maybe_unused]] const char* state) {
#if defined(KAAS_HAVE_SYSTEMD)
  ::sd_notify(0, state);
#endif
}

ByteBudget::Options budget_options(const Config& config) {
  ByteBudget::Options options;
  if (config.store_bytes != 0) options.limit_bytes = config.store_bytes;
  options.source = std::make_unique<SystemMemory>();
  return options;
}

DispatcherOptions dispatcher_options(const Config& config) {
  DispatcherOptions options;
  options.running_limit_ns = config.running_limit_ms * 1'000'000;
  options.libraries.search_path = config.library_path;
  return options;
}

Result<ExecutorCommand> executor_command(const Config& config, std::uint64_t epoch) {
  ExecutorCommand command;
  KAAS_ASSIGN_OR_RETURN(command.prefix, split_words(config.executor_prefix));
  command.program = config.executor_program;
  command.device = config.device;
  command.memory_limit_bytes = config.device_bytes;
  command.epoch = epoch;
  return command;
}

Result<void> serve(Config config, const std::string& config_path) {
  // First of all: a second daemon must say so before it does anything.
  KAAS_ASSIGN_OR_RETURN(Listener listener, Listener::create({config.socket, config.socket_mode,
                                                             config.socket_group}));
  KAAS_ASSIGN_OR_RETURN(const auto log, LogBook::create(config.log_file, config.log_level));
  KAAS_ASSIGN_OR_RETURN(const Descriptor signals, take_signals());
  const std::uint64_t epoch = new_epoch();
  KAAS_ASSIGN_OR_RETURN(ExecutorCommand command, executor_command(config, epoch));
  KAAS_ASSIGN_OR_RETURN(const auto events, EventLoop::create());
  if (!config.spin_us) config.spin_us = measure_wake_ns() / 1'000;  // The status shows it.
  const std::uint64_t spin_ns = *config.spin_us * 1'000;

  // Segments and versions outlive the dispatcher that is told of their end: it is found through
  // this pointer, which is null before and after.
  std::atomic<Dispatcher*> told{nullptr};
  ByteBudget budget(budget_options(config));
  SegmentRegistry segments([&told](std::uint32_t segment) {
    if (Dispatcher* dispatcher = told.load()) dispatcher->segment_released(segment);
  });
  Store store(budget, segments, [&told](std::uint64_t version) {
    if (Dispatcher* dispatcher = told.load()) dispatcher->version_dropped(version);
  });

  Supervisor* supervisor_pointer = nullptr;
  Control* control_pointer = nullptr;
  LoopEvents loop_events;
  loop_events.want_executor = [&](std::uint32_t domain) {
    events->post([&, domain] { supervisor_pointer->want(domain); });
  };
  loop_events.kill_executor = [&](std::uint32_t executor, const std::string& reason) {
    events->post([&, executor, reason] { supervisor_pointer->kill(executor, reason); });
  };
  loop_events.executor_ready = [&](std::uint32_t executor) {
    events->post([&, executor] { supervisor_pointer->ready(executor); });
  };
  loop_events.session_closed = [&](std::uint64_t session, const Status& reason) {
    events->post([&, session, reason] { control_pointer->session_closed(session, reason); });
  };
  loop_events.log = [&](StatusCode, const std::string& line) {
    log->write(spdlog::level::warn, line);
  };
  KAAS_ASSIGN_OR_RETURN(const auto loop, DispatcherLoop::create(std::move(loop_events), spin_ns));
  KAAS_ASSIGN_OR_RETURN(auto policy, make_policy(config.policy));
  {
    Dispatcher dispatcher(dispatcher_options(config), *loop, store, segments, std::move(policy));
    told.store(&dispatcher);
    dispatcher.set_waker([&loop = *loop] { loop.wake(); });
    Supervisor supervisor(std::move(command), *events, dispatcher, *log);
    Control control({*events, dispatcher, budget, *log, supervisor, epoch, kVersion, config_path},
                    config, std::move(listener));
    supervisor_pointer = &supervisor;
    control_pointer = &control;
    KAAS_RETURN_IF_ERROR(control.start(signals.get()));
    log->write(spdlog::level::info, std::string("kaasd ") + kVersion + " listens at " +
                                        config.socket + ", spins " +
                                        std::to_string(spin_ns / 1'000) + " us");
    tell_service_manager("READY=1");
    std::thread dispatching([&] { loop->run(dispatcher); });
    events->run();
    tell_service_manager("STOPPING=1");
    loop->stop();
    dispatching.join();
    log->write(spdlog::level::info, "kaasd ends");
    told.store(nullptr);
  }
  return {};
}

int run(int argc, char** argv) {
  CLI::App app{"KaaS daemon: serves GPU kernels to the processes of this machine"};
  std::string config_path;
  Config flags;
  std::string mode;
  std::uint64_t spin_us = 0;
  app.add_option("--config", config_path, "TOML file; default: none")->check(CLI::ExistingFile);
  auto* socket = app.add_option("--socket", flags.socket,
                                "Socket; default: $KAAS_SOCKET, $XDG_RUNTIME_DIR/kaas/kaasd.sock, "
                                "/run/kaas/kaasd.sock");
  auto* socket_mode = app.add_option("--socket-mode", mode, "Octal mode of the socket (0600)");
  auto* group = app.add_option("--socket-group", flags.socket_group, "Group of the socket");
  auto* device = app.add_option("--device", flags.device, "Device: host");
  auto* store = app.add_option("--store-bytes", flags.store_bytes,
                               "Bytes of shared memory at most; default: from the machine");
  auto* arena = app.add_option("--arena-bytes", flags.arena_bytes, "Bytes of a session's arena");
  auto* ready = app.add_option("--arenas-ready", flags.arenas_ready, "Arenas made ahead");
  auto* device_bytes = app.add_option("--device-bytes", flags.device_bytes,
                                      "Device memory of an executor at most");
  auto* program = app.add_option("--executor", flags.executor_program, "The executor's program");
  auto* prefix = app.add_option("--executor-prefix", flags.executor_prefix,
                                "Command that executors are started under, e.g. 'valgrind -q'");
  auto* limit = app.add_option("--running-limit-ms", flags.running_limit_ms,
                               "Longest time a request may run; 0: none");
  auto* library = app.add_option("--library-path", flags.library_path,
                                 "Folder of kernel libraries; may be given again");
  auto* log_file = app.add_option("--log-file", flags.log_file, "Log file; default: stderr");
  auto* log_level = app.add_option("--log-level", flags.log_level,
                                   "trace, debug, info, warning, error, critical, off");
  auto* spin = app.add_option("--spin-us", spin_us, "Time to spin before sleeping; default: "
                                                    "measured");
  app.set_version_flag("--version", std::string("kaasd ") + kVersion);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  Config config;
  if (!config_path.empty()) {
    if (auto read = read_config_file(config_path, config); !read.has_value()) {
      return fail(read.error());
    }
  }
  if (socket->count() != 0) config.socket = flags.socket;
  if (group->count() != 0) config.socket_group = flags.socket_group;
  if (device->count() != 0) config.device = flags.device;
  if (store->count() != 0) config.store_bytes = flags.store_bytes;
  if (arena->count() != 0) config.arena_bytes = flags.arena_bytes;
  if (ready->count() != 0) config.arenas_ready = flags.arenas_ready;
  if (device_bytes->count() != 0) config.device_bytes = flags.device_bytes;
  if (program->count() != 0) config.executor_program = flags.executor_program;
  if (prefix->count() != 0) config.executor_prefix = flags.executor_prefix;
  if (limit->count() != 0) config.running_limit_ms = flags.running_limit_ms;
  if (library->count() != 0) config.library_path = flags.library_path;
  if (log_file->count() != 0) config.log_file = flags.log_file;
  if (log_level->count() != 0) config.log_level = flags.log_level;
  if (spin->count() != 0) config.spin_us = spin_us;
  if (socket_mode->count() != 0) {
    if (auto parsed = parse_socket_mode(mode, config); !parsed.has_value()) {
      return fail(parsed.error());
    }
  }
  if (auto complete = complete_config(config); !complete.has_value()) {
    return fail(complete.error());
  }
  raise_descriptor_limit();
  make_untraceable();
  const auto served = serve(std::move(config), config_path);
  return served.has_value() ? 0 : fail(served.error());
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) { return kaas::run(argc, argv); }
