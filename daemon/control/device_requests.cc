// Orders that concern devices. A suspension is answered when the processes that held the device
// have ended, so that its memory is free when the caller goes on.
#include <nlohmann/json.hpp>

#include "daemon/control/control.h"

namespace kaas {
namespace {

using Places = std::vector<std::uint32_t>;

std::vector<std::string> ids_of(const Dispatcher& dispatcher, const Places& places) {
  std::vector<std::string> ids;
  for (const std::uint32_t place : places) ids.push_back(dispatcher.devices()[place - 1].spec.id);
  return ids;
}

void reply_devices(const Descriptor& socket, std::uint64_t id, const char* field,
                   const std::vector<std::string>& ids) {
  ReplyFields fields;
  fields.id = id;
  fields.json = nlohmann::json{{field, ids}}.dump();
  send_reply(socket, fields);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

}  // namespace

void Control::command_device(Asked asked, const wire::ControlRequest& request) {
  const auto socket = asked.connection.socket;
  const std::uint64_t id = asked.id;
  LogBook& log = parts_.log;
  if (const auto* wanted = request.control_as_ResumeDevice(); wanted != nullptr) {
    return parts_.dispatcher.post(
        [=, &log, name = std::string(view(wanted->device()))](Dispatcher& dispatcher) {
          const auto places = dispatcher.resume_devices(name);
          if (!places.has_value()) {
            send_failure(*socket, id, places.error());
            return;
          }
          const auto ids = ids_of(dispatcher, *places);
          log.write(spdlog::level::info, "resumed " + joined(ids));
          reply_devices(*socket, id, "resumed", ids);
        });
  }
  const auto& wanted = *request.control_as_SuspendDevice();
  if (wanted.within_ms() > kSuspendWithinMsMax) {
    send_failure(*socket, id,
                 over_limit(StatusCode::InvalidArgument, "within_ms", wanted.within_ms(),
                            kSuspendWithinMsMax));
    return;
  }
  const auto done = [=, &log, &events = parts_.events, &supervisor = parts_.supervisor,
                     &dispatcher = parts_.dispatcher](const Result<Places>& places) {
    if (!places.has_value()) {
      send_failure(*socket, id, places.error());
      return;
    }
    // Behind the orders to let go of the executors, which were posted before.
    events.post([=, &log, &supervisor, places = *places, ids = ids_of(dispatcher, *places)] {
      supervisor.when_gone(places, [=, &log] {
        log.write(spdlog::level::info, "suspended " + joined(ids));
        reply_devices(*socket, id, "suspended", ids);
      });
    });
  };
  parts_.dispatcher.post([done, name = std::string(view(wanted.device())),
                          within_ns = std::uint64_t{wanted.within_ms()} * 1'000'000,
                          force = wanted.force()](Dispatcher& dispatcher) {
    dispatcher.suspend_devices(name, within_ns, force, done);
  });
}

}  // namespace kaas
