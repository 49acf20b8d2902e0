// kv: the store.
#include <unistd.h>

#include <limits>
#include <utility>

#include "tools/kaasctl/commands.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"
#include "tools/kaasctl/transfer.h"

namespace kaas {
namespace {

Json info_json(const std::string& key, const ObjectInfo& info) {
  return {{"key", key}, {"version", info.version}, {"bytes", info.bytes}};
}

// "host", "on GPU-...", "lost with GPU-...".
std::string shown_place(const std::string& place, const std::string& device) {
  if (place == "device") return "on " + printable(device);
  return place == "lost" ? "lost with " + printable(device) : "host";
}

// "@1000/models/" is the prefix "models/" in the namespace of uid 1000.
struct ListedPrefix {
  std::string prefix;
  std::optional<std::uint32_t> owner;
};
Result<ListedPrefix> parse_prefix(const std::string& text) {
  if (!text.starts_with('@')) return ListedPrefix{text, std::nullopt};
  const std::size_t slash = text.find('/');
  const auto uid =
      parse_natural(std::string_view(text).substr(1, slash == text.npos ? slash : slash - 1));
  if (!uid || *uid > std::numeric_limits<std::uint32_t>::max()) {
    return Status{StatusCode::InvalidArgument,
                  "prefix is '" + text + "', allowed PREFIX or @UID/PREFIX"};
  }
  return ListedPrefix{slash == text.npos ? "" : text.substr(slash + 1),
                      static_cast<std::uint32_t>(*uid)};
}

// All pages of a list.
Result<Json> list_all(Client& client, const ListedPrefix& wanted) {
  Json objects = Json::array();
  std::string after;
  for (;;) {
    KAAS_ASSIGN_OR_RETURN(const std::string answer,
                          client.list_json(wanted.prefix, after, 256, wanted.owner));
    KAAS_ASSIGN_OR_RETURN(const Json page, parse_answer(answer));
    const Json& listed = list_at(page, "objects");
    for (const Json& object : listed) objects.push_back(object);
    if (!flag_at(page, "more") || listed.empty()) return objects;
    after = text_at(listed.back(), "key");
  }
}

}  // namespace

int put_object(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  const std::string& key = line.key;
  const auto info = put_file(*client, key, line.file, console);
  if (!info.has_value()) return fail(console, *client, info.error());
  if (console.json()) {
    console.print(dump(info_json(key, *info)) + "\n");
  } else if (!console.quiet()) {
    console.print(printable(key) + " version " + std::to_string(info->version) + ", " +
                  human_bytes(info->bytes) + "\n");
  }
  return kExitDone;
}

int get_object(const CommandLine& line, Console& console) {
  const std::string file = line.file.empty() ? "-" : line.file;
  if (line.file.empty() && ::isatty(STDOUT_FILENO) == 1) {
    console.error({StatusCode::InvalidArgument,
                   "kv get: standard output is a terminal; name a file, or - if you mean it"});
    return kExitUsage;
  }
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  const std::string& key = line.key;
  const auto object = client->get(key);
  if (!object.has_value()) return fail(console, *client, object.error());
  const auto written = write_object(*object, file, console);
  if (!written.has_value()) return fail(console, *client, written.error());
  if (file == "-") return kExitDone;
  const ObjectInfo info{object->version(), object->bytes().size(), ObjectPlace::Host, {}};
  if (console.json()) {
    Json json = info_json(key, info);
    json["file"] = file;
    console.print(dump(json) + "\n");
  } else if (!console.quiet()) {
    console.print(printable(file) + "  " + human_bytes(info.bytes) + " of version " +
                  std::to_string(info.version) + "\n");
  }
  return kExitDone;
}

int list_objects(const CommandLine& line, Console& console) {
  const auto prefix = parse_prefix(line.prefix);
  if (!prefix.has_value()) {
    console.error(prefix.error());
    return kExitUsage;
  }
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const auto objects = list_all(*client, *prefix);
  if (!objects.has_value()) return fail(console, *client, objects.error());
  if (console.json()) {
    console.print(dump({{"objects", *objects}}) + "\n");
    return kExitDone;
  }
  if (console.quiet()) {
    for (const Json& object : *objects) console.print(printable(text_at(object, "key")) + "\n");
    return kExitDone;
  }
  Table table({">SIZE", ">VERSION", ">OWNER", "SHARED", "PLACE", "KEY"});
  for (const Json& object : *objects) {
    table.add(
        {human_bytes(natural_at(object, "bytes")), std::to_string(natural_at(object, "version")),
         std::to_string(natural_at(object, "owner_uid")), flag_at(object, "shared") ? "yes" : "no",
         shown_place(text_at(object, "place"), text_at(object, "device")), text_at(object, "key")});
  }
  console.print(table.to_string());
  return kExitDone;
}

int show_object(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  const std::string& key = line.key;
  const auto info = client->stat(key);
  if (!info.has_value()) return fail(console, *client, info.error());
  if (console.json()) {
    Json shown = info_json(key, *info);
    shown["place"] = name_of(info->place);
    if (!info->device.empty()) shown["device"] = info->device;
    console.print(dump(shown) + "\n");
  } else {
    console.print(printable(key) + "  version " + std::to_string(info->version) + ", " +
                  std::to_string(info->bytes) + " bytes (" + human_bytes(info->bytes) + "), " +
                  shown_place(name_of(info->place), info->device) + "\n");
  }
  return kExitDone;
}

int remove_objects(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Full);
  if (!client.has_value()) return no_session(console, client.error());
  int code = kExitDone;
  Json removed = Json::array();
  for (const std::string& key : line.keys) {
    const auto result = client->remove(key);
    if (!result.has_value()) {
      code = fail(console, *client, result.error());
      if (!client->alive().has_value()) return code;
      continue;
    }
    removed.push_back(key);
    if (!console.json() && !console.quiet()) console.print("removed " + printable(key) + "\n");
  }
  if (console.json()) console.print(dump({{"removed", removed}}) + "\n");
  return code;
}

int share_object(const CommandLine& line, Console& console) {
  auto client = connect(line, SessionKind::Administration);
  if (!client.has_value()) return no_session(console, client.error());
  const std::string& key = line.key;
  const auto result =
      line.revoke ? client->unshare(key, line.uid) : client->share(key, line.uid, line.write);
  if (!result.has_value()) return fail(console, *client, result.error());
  if (console.json()) {
    Json json = {
        {"key", key}, {"everyone", line.everyone}, {"write", line.write}, {"revoked", line.revoke}};
    if (line.uid) json["uid"] = *line.uid;
    console.print(dump(json) + "\n");
  } else if (!console.quiet()) {
    const std::string whom = line.uid ? "uid " + std::to_string(*line.uid) : "everyone";
    const std::string text = line.revoke
                                 ? "no longer shared with " + whom
                                 : whom + " may " + (line.write ? "read and write it" : "read it");
    console.print(printable(key) + ": " + text + "\n");
  }
  return kExitDone;
}

}  // namespace kaas
