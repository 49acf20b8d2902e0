// kaasd: constructs everything, connects it, and runs two threads until a signal.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <functional>
#include <thread>
#include <type_traits>

#include "daemon/config.h"
#include "daemon/control/control.h"
#include "daemon/control/device_choice.h"
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

DispatcherOptions dispatcher_options(const Config& config, const DeviceChoice& choice) {
  DispatcherOptions options;
  options.running_limit_ns = config.running_limit_ms * 1'000'000;
  options.idle_release_ns = config.idle_release_s * 1'000'000'000;
  options.export_bytes = config.export_bytes;
  options.devices = choice.devices;
  options.libraries.device = choice.kind;
  options.libraries.search_path = config.library_path;
  options.libraries.joined = joined_uids(config);
  return options;
}

Result<ExecutorCommand> executor_command(const Config& config, std::uint64_t epoch) {
  ExecutorCommand command;
  KAAS_ASSIGN_OR_RETURN(command.prefix, split_words(config.executor_prefix));
  command.program = config.executor_program;
  command.epoch = epoch;
  // A debugger, profiler or sanitizer needs what confinement takes away.
  command.reserved_sms = static_cast<std::uint32_t>(config.reserved_sms);
  command.is_confined = config.executor_confine && command.prefix.empty();
  if (!config.executor_user.empty()) {
    KAAS_ASSIGN_OR_RETURN(command.user, uid_of(config.executor_user));
  }
  return command;
}

// What an administrator should know of how executors are kept apart.
void log_confinement(const Config& config, LogBook& log) {
  if (!config.executor_confine) {
    log.write(spdlog::level::warn, "executors are not confined: executor.confine is false");
  } else if (!config.executor_prefix.empty()) {
    log.write(spdlog::level::warn,
              "executors are not confined: executor.prefix is '" + config.executor_prefix + "'");
  }
  if (::geteuid() != 0 || !config.executor_user.empty()) return;
  for (const auto& domain : config.joined_domains) {
    if (domain.size() < 2) continue;
    log.write(spdlog::level::warn, "executors of the joined domain " +
                                       std::to_string(domain.front()) +
                                       " run with that uid's rights, whose processes can end "
                                       "them; executor.user gives them a user of their own");
  }
}

// What all executors on the host may allocate when nobody says: half of the memory that there is.
std::uint64_t host_bytes() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) / 2;
}

Result<DeviceChoice> find_devices(const Config& config, LogBook& log) {
  KAAS_ASSIGN_OR_RETURN(DeviceChoice choice,
                        choose_devices({config.device, config.device_bytes, host_bytes()},
                                       [&] { return query_devices(config.executor_program); }));
  if (!choice.note.empty()) log.write(spdlog::level::warn, choice.note);
  for (const DeviceSpec& device : choice.devices) {
    log.write(spdlog::level::info, "device " + device.id + " (" + device.name + ")");
  }
  return choice;
}

// What the dispatcher's thread passes on, to objects that are made after it.
struct ControlThread {
  EventLoop& events;
  Supervisor* supervisor = nullptr;
  Control* control = nullptr;
};

LoopEvents loop_events(ControlThread& thread, LogBook& log) {
  LoopEvents passed_on;
  passed_on.want_executor = [&thread](std::uint32_t domain, std::uint32_t place) {
    thread.events.post([&thread, domain, place] { thread.supervisor->want(domain, place); });
  };
  passed_on.unwant_executor = [&thread](std::uint32_t domain, std::uint32_t place) {
    thread.events.post([&thread, domain, place] { thread.supervisor->unwant(domain, place); });
  };
  passed_on.release_executor = [&thread](std::shared_ptr<ExecutorLink> link) {
    thread.events.post([&thread, link = std::move(link)]() mutable {
      thread.supervisor->release(std::move(link));
    });
  };
  passed_on.kill_executor = [&thread](std::uint32_t executor, const std::string& reason) {
    thread.events.post([&thread, executor, reason] { thread.supervisor->kill(executor, reason); });
  };
  passed_on.executor_ready = [&thread](std::uint32_t executor) {
    thread.events.post([&thread, executor] { thread.supervisor->ready(executor); });
  };
  passed_on.session_closed = [&thread](std::uint64_t session, const Status& reason) {
    thread.events.post(
        [&thread, session, reason] { thread.control->session_closed(session, reason); });
  };
  passed_on.log = [&log](StatusCode, const std::string& line) {
    log.write(spdlog::level::warn, line);
  };
  return passed_on;
}

Result<void> serve(Config config, const std::function<Result<Config>()>& configure) {
  // First of all: a second daemon must say so before it does anything.
  KAAS_ASSIGN_OR_RETURN(Listener listener,
                        Listener::create({config.socket, config.socket_mode, config.socket_group}));
  KAAS_ASSIGN_OR_RETURN(const auto log, LogBook::create(config.log_file, config.log_level));
  KAAS_ASSIGN_OR_RETURN(const Descriptor signals, take_signals());
  const std::uint64_t epoch = new_epoch();
  KAAS_ASSIGN_OR_RETURN(ExecutorCommand command, executor_command(config, epoch));
  log_confinement(config, *log);
  KAAS_ASSIGN_OR_RETURN(const DeviceChoice choice, find_devices(config, *log));
  KAAS_ASSIGN_OR_RETURN(const auto events, EventLoop::create());
  if (!config.spin_us) config.spin_us = measure_wake_ns() / 1'000;  // The status shows it.
  const std::uint64_t spin_ns = *config.spin_us * 1'000;

  // Segments and versions outlive the dispatcher that is told of their end: it is found through
  // this pointer, which is null before and after.
  std::atomic<Dispatcher*> told{nullptr};
  ByteBudget budget(budget_options(config));
  // Else kaasd would be there, and no session could.
  KAAS_RETURN_IF_ERROR(budget.reserve(config.arena_bytes, "a session's arena (arena.bytes)"));
  Closer closer;
  budget.set_last_resort([&closer] { closer.drain(); });
  const auto released = [&told](std::uint32_t segment) {
    if (Dispatcher* dispatcher = told.load()) dispatcher->segment_released(segment);
  };
  SegmentRegistry segments(released, &closer);
  Store store(budget, segments, [&told](std::uint64_t version) {
    if (Dispatcher* dispatcher = told.load()) dispatcher->version_dropped(version);
  });

  ControlThread thread{*events};
  KAAS_ASSIGN_OR_RETURN(const auto loop,
                        DispatcherLoop::create(loop_events(thread, *log), spin_ns));
  KAAS_ASSIGN_OR_RETURN(auto policy, make_policy(config.policy));
  {
    Dispatcher dispatcher(dispatcher_options(config, choice), *loop, store, segments,
                          std::move(policy));
    told.store(&dispatcher);
    dispatcher.set_waker([&loop = *loop] { loop.wake(); });
    Supervisor supervisor(std::move(command), choice.devices, joined_uids(config), *events,
                          dispatcher, *log);
    Control control({*events, dispatcher, budget, *log, supervisor, epoch, kVersion, configure},
                    config, std::move(listener));
    thread.supervisor = &supervisor;
    thread.control = &control;
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

// Empty, or what is wrong with a flag's text. The limits of numbers are complete_config's.
template <class Field>
std::string check_text(const std::string& text) {
  if constexpr (std::is_same_v<Field, bool>) {
    return text == "true" || text == "false" ? "" : "is '" + text + "', allowed: true, false";
  } else {
    Field value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool good = error == std::errc() && end == text.data() + text.size();
    return good ? "" : "is '" + text + "', allowed: an integer from 0 on";
  }
}

// The flags; those that were given win over the configuration file.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {
    app.add_option("--config", config_path, "TOML file; default: none")->check(CLI::ExistingFile);
    add_path(
        "--socket", &Config::socket,
        "Socket; default: $KAAS_SOCKET, $XDG_RUNTIME_DIR/kaas/kaasd.sock, /run/kaas/kaasd.sock");
    mode_option_ = app.add_option("--socket-mode", mode_, "Octal mode of the socket (0600)");
    add("--socket-group", &Config::socket_group, "Group of the socket");
    add("--device", &Config::device,
        "auto (all GPUs, else the host), cuda, host, or a list of GPU ids, beginnings of ids and "
        "cuda:N; default: $KAAS_DEVICES, the configuration, auto");
    add("--store-bytes", &Config::store_bytes,
        "Bytes of shared memory at most; default: from the machine");
    add("--arena-bytes", &Config::arena_bytes, "Bytes of a session's arena");
    add("--arenas-ready", &Config::arenas_ready, "Arenas made ahead");
    add("--export-bytes", &Config::export_bytes, "Device memory exported to one client at most");
    add("--device-bytes", &Config::device_bytes, "Device memory of an executor at most");
    add("--reserved-sms", &Config::reserved_sms,
        "Multiprocessors of a GPU that requests of a priority below 0 leave free; 0: none");
    add_path("--executor", &Config::executor_program, "The executor's program");
    add("--executor-prefix", &Config::executor_prefix,
        "Command that executors are started under, e.g. 'valgrind -q'");
    add("--executor-user", &Config::executor_user,
        "User whose rights executors get, when kaasd is root; default: each domain's");
    add("--executor-confine", &Config::executor_confine,
        "true or false: keep executors from harming other processes of their user (true)");
    add("--running-limit-ms", &Config::running_limit_ms, "Longest time a request may run; 0: none");
    add("--idle-release", &Config::idle_release_s,
        "Seconds without work after which an executor gives its device back; 0: never");
    add("--library-path", &Config::library_path, "Folder of kernel libraries; may be given again");
    add_path("--log-file", &Config::log_file, "Log file; default: stderr");
    add("--log-level", &Config::log_level, "trace, debug, info, warning, error, critical, off");
    spin_option_ =
        app.add_option("--spin-us", spin_us_, "Time to spin before sleeping; default: measured")
            ->check(check_text<std::uint64_t>);
    app.set_version_flag("--version", std::string("kaasd ") + kVersion);
  }

  Result<void> apply(Config& config) const {
    for (const auto& apply_one : given_) apply_one(config);
    if (spin_option_->count() != 0) config.spin_us = spin_us_;
    return mode_option_->count() != 0 ? parse_socket_mode(mode_, config) : Result<void>();
  }

  std::string config_path;

 private:
  template <class Field>
  CLI::Option* add(const char* name, Field Config::*field, const char* help) {
    CLI::Option* option = app_.add_option(name, values_.*field, help);
    if constexpr (std::is_arithmetic_v<Field>) option->check(check_text<Field>);
    given_.push_back([this, option, field](Config& config) {
      if (option->count() != 0) config.*field = values_.*field;
    });
    return option;
  }

  // An empty one would silently be the default.
  void add_path(const char* name, std::string Config::*field, const char* help) {
    add(name, field, help)->check([](const std::string& text) {
      return text.empty() ? std::string("is '', allowed: a path") : std::string();
    });
  }

  CLI::App& app_;
  Config values_;
  std::string mode_;
  std::uint64_t spin_us_ = 0;
  CLI::Option* mode_option_ = nullptr;
  CLI::Option* spin_option_ = nullptr;
  std::vector<std::function<void(Config&)>> given_;
};

Result<Config> configure(const Flags& flags) {
  Config config;
  if (!flags.config_path.empty()) {
    KAAS_RETURN_IF_ERROR(read_config_file(flags.config_path, config));
  }
  apply_environment(config);
  KAAS_RETURN_IF_ERROR(flags.apply(config));
  KAAS_RETURN_IF_ERROR(complete_config(config));
  return config;
}

int run(int argc, char** argv) {
  CLI::App app{"KaaS daemon: serves GPU kernels to the processes of this machine"};
  const Flags flags(app);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("kaasd: ") + error.what() + "; kaasd --help lists the flags\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  auto config = configure(flags);
  if (!config.has_value()) return fail(config.error());
  const auto program = check_executor_program(*config);
  if (!program.has_value()) return fail(program.error());
  raise_descriptor_limit();
  make_untraceable();
  const auto served = serve(*std::move(config), [&flags] { return configure(flags); });
  return served.has_value() ? 0 : fail(served.error());
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::run(argc, argv);
}
