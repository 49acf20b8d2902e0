// Functions: deploy, list, choose a version, remove.
#include <utility>

#include "tools/kaasctl/commands.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"
#include "tools/kaasctl/transfer.h"
#include "tools/request_json/request_json.h"

namespace kaas {
namespace {

std::string joined(const Json& names) {
  std::string text;
  for (const Json& name : names) {
    if (name.is_string()) text += (text.empty() ? "" : " ") + name.get<std::string>();
  }
  return text;
}

std::string all_functions(const Json& functions) {
  Table table(
      {"FUNCTION", ">OWNER", ">VERSION", ">OF", ">KERNELS", "PARAMETERS", "INPUTS", "OUTPUTS"});
  for (const Json& function : functions) {
    const Json& versions = list_at(function, "versions");
    const std::uint64_t current = natural_at(function, "current_version");
    Json shown = Json::object();
    for (const Json& version : versions) {
      if (natural_at(version, "version") == current) shown = version;
    }
    table.add({text_at(function, "name"), std::to_string(natural_at(function, "owner_uid")),
               std::to_string(current), std::to_string(versions.size()),
               std::to_string(natural_at(shown, "kernels")), joined(list_at(shown, "parameters")),
               joined(list_at(shown, "inputs")), joined(list_at(shown, "outputs"))});
  }
  return table.to_string();
}

std::string one_function(const Json& function) {
  Table table({">VERSION", "CURRENT", ">KERNELS", "PARAMETERS", "INPUTS", "OUTPUTS"});
  const std::uint64_t current = natural_at(function, "current_version");
  for (const Json& version : list_at(function, "versions")) {
    const std::uint64_t number = natural_at(version, "version");
    table.add({std::to_string(number), number == current ? "current" : "",
               std::to_string(natural_at(version, "kernels")),
               joined(list_at(version, "parameters")), joined(list_at(version, "inputs")),
               joined(list_at(version, "outputs"))});
  }
  return table.to_string();
}

int use_version(const CommandLine& line, Console& console, Client& client) {
  const auto result = client.make_current(line.name, *line.version);
  if (!result.has_value()) return fail(console, client, result.error());
  if (console.json()) {
    console.print(dump({{"function", line.name}, {"current_version", *line.version}}) + "\n");
  } else if (!console.quiet()) {
    console.print(printable(line.name) + " is now version " + std::to_string(*line.version) + "\n");
  }
  return kExitDone;
}

}  // namespace

int deploy_function(const CommandLine& line, Console& console) {
  const auto text = read_text(line.file, kRequestTextBytesMax);
  if (!text.has_value()) {
    console.error(text.error());
    return kExitFailed;
  }
  const auto request = parse_request(*text);
  if (!request.has_value()) {
    console.error(
        {request.error().code, name_of_source(line.file) + ": " + request.error().message});
    return kExitFailed;
  }
  const std::string name = line.name.empty() ? request->function : line.name;
  if (name.empty()) {
    console.error({StatusCode::InvalidArgument,
                   name_of_source(line.file) + " has no field 'function'; give --name"});
    return kExitUsage;
  }
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  const auto version = client->deploy(name, request->request);
  if (!version.has_value()) return fail(console, *client, version.error());
  if (console.json()) {
    console.print(dump({{"function", name}, {"version", *version}}) + "\n");
  } else if (!console.quiet()) {
    console.print(printable(name) + " version " + std::to_string(*version) + "\n");
  }
  return kExitDone;
}

int undeploy_function(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto result = client->undeploy(line.name, line.version.value_or(0));
  if (!result.has_value()) return fail(console, *client, result.error());
  if (console.json()) {
    Json json = {{"undeployed", line.name}};
    if (line.version) json["version"] = *line.version;
    console.print(dump(json) + "\n");
  } else if (!console.quiet()) {
    console.print("removed " + printable(line.name) +
                  (line.version ? " version " + std::to_string(*line.version) : "") + "\n");
  }
  return kExitDone;
}

int show_functions(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  if (line.version) return use_version(line, console, *client);
  const auto answer = client->functions_json();
  if (!answer.has_value()) return fail(console, *client, answer.error());
  const auto parsed = parse_answer(*answer);
  if (!parsed.has_value()) return fail(console, *client, parsed.error());
  const Json& functions = list_at(*parsed, "functions");
  if (line.name.empty()) {
    console.print(console.json() ? *answer + "\n" : all_functions(functions));
    return kExitDone;
  }
  // Own functions come before those of root with the same name, as a call finds them.
  for (const Json& function : functions) {
    if (text_at(function, "name") != line.name) continue;
    console.print(console.json() ? dump(function) + "\n" : one_function(function));
    return kExitDone;
  }
  return fail(console, *client, {StatusCode::NotFound, "there is no function '" + line.name + "'"});
}

}  // namespace kaas
