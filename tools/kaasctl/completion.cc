// Completion: the shell's script asks kaasctl itself, so that commands, options and what the daemon
// knows are never out of step with it.
#include <kaasctl_completion_script.h>

#include <set>

#include "tools/kaasctl/commands.h"
#include "tools/kaasctl/reading.h"
#include "tools/kaasctl/text.h"

namespace kaas {
namespace {

constexpr const char* kAnyFile = "@files";
// The user waits at the keyboard.
constexpr auto kPatience = std::chrono::milliseconds(500);

// What the daemon knows; nothing if there is none. Silent.
class DaemonWords {
 public:
  explicit DaemonWords(const std::string& socket) {
    ClientOptions options;
    options.socket = socket;
    options.name = "kaasctl";
    options.administration_only = true;
    options.connect_timeout = kPatience;
    if (auto client = Client::connect(options); client.has_value()) client_ = *std::move(client);
  }

  std::vector<std::string> functions() {
    return each(&Client::functions_json, "functions",
                [](const Json& function) { return text_at(function, "name"); });
  }

  std::vector<std::string> sessions() {
    return each(&Client::clients_json, "clients",
                [](const Json& client) { return std::to_string(natural_at(client, "session")); });
  }

  std::vector<std::string> devices() {
    std::vector<std::string> ids = each(&Client::status_json, "devices",
                                        [](const Json& device) { return text_at(device, "id"); });
    ids.emplace_back("all");
    return ids;
  }

  std::vector<std::string> requests() {
    std::vector<std::string> names;
    const Json answer = ask(&Client::clients_json);
    for (const Json& client : list_at(answer, "clients")) {
      for (const Json& run : list_at(client, "under_way")) {
        names.push_back(std::to_string(natural_at(client, "session")) + "." +
                        std::to_string(natural_at(run, "ring")) + "." +
                        std::to_string(natural_at(run, "id")));
      }
    }
    return names;
  }

  std::vector<std::string> keys(const std::string& prefix) {
    std::vector<std::string> names;
    if (!client_) return names;
    const auto answer = client_->list_json(prefix, {}, 100);
    const auto parsed = answer.has_value() ? parse_answer(*answer) : Result<Json>(Json());
    if (!parsed.has_value()) return names;
    for (const Json& object : list_at(*parsed, "objects")) names.push_back(text_at(object, "key"));
    return names;
  }

  // "width=", "in=" of the current version of a function.
  std::vector<std::string> assignments(const std::string& name) {
    std::set<std::string> names;
    const Json answer = ask(&Client::functions_json);
    for (const Json& function : list_at(answer, "functions")) {
      if (text_at(function, "name") != name) continue;
      for (const Json& version : list_at(function, "versions")) {
        if (natural_at(version, "version") != natural_at(function, "current_version")) continue;
        for (const char* field : {"parameters", "inputs", "outputs"}) {
          for (const Json& word : list_at(version, field)) {
            if (word.is_string()) names.insert(word.get<std::string>() + "=");
          }
        }
      }
    }
    return {names.begin(), names.end()};
  }

 private:
  Json ask(Result<std::string> (Client::*question)()) {
    if (!client_) return {};
    const auto answer = (*client_.*question)();
    if (!answer.has_value()) return {};
    auto parsed = parse_answer(*answer);
    return parsed.has_value() ? *std::move(parsed) : Json();
  }

  template <class Name>
  std::vector<std::string> each(Result<std::string> (Client::*question)(), const char* field,
                                Name name) {
    std::vector<std::string> names;
    const Json answer = ask(question);
    for (const Json& entry : list_at(answer, field)) names.push_back(name(entry));
    return names;
  }

  std::optional<Client> client_;
};

std::string socket_among(const std::vector<std::string>& words) {
  for (std::size_t n = 0; n + 1 < words.size(); ++n) {
    if (words[n] == "--socket") return words[n + 1];
  }
  return {};
}

// Where the key begins in "in=key:pho"; 0: the word is no NAME=key:KEY.
std::size_t key_in(std::string_view word) {
  constexpr std::string_view kKey = "=key:";
  const std::size_t assigned = word.find('=');
  if (assigned == word.npos || !word.substr(assigned).starts_with(kKey)) return 0;
  return assigned + kKey.size();
}

// What may stand in the place of the next positional word.
std::vector<std::string> positional(const Expected& expected, const std::string& begun,
                                    const std::string& socket) {
  const std::string command = expected.path.empty() ? "" : expected.path.back();
  const bool is_first = expected.values.empty();
  const auto daemon = [&] { return DaemonWords(socket); };
  const bool is_assignment = (command == "run" || command == "call") && !is_first;
  const std::size_t key = is_assignment ? key_in(begun) : 0;
  if (key > 0) {
    auto words = daemon().keys(begun.substr(key));
    for (std::string& word : words) word.insert(0, begun, 0, key);
    return words;
  }
  if (command == "run") return {kAnyFile};
  if (command == "deploy" && is_first) return {kAnyFile};
  if (command == "completion" && is_first) return {"bash"};
  if ((command == "functions" || command == "undeploy" || command == "call") && is_first) {
    return daemon().functions();
  }
  if (command == "call") {
    auto words = daemon().assignments(expected.values.front());
    if (begun.find('=') != begun.npos) words.emplace_back(kAnyFile);
    return words;
  }
  if (command == "cancel" && is_first) return daemon().requests();
  if (command == "kick" && is_first) return daemon().sessions();
  if ((command == "suspend" || command == "resume") && is_first) return daemon().devices();
  const bool is_store = expected.path.size() == 2 && expected.path.front() == "kv";
  if (is_store && (is_first || command == "rm")) return daemon().keys(begun);
  if (is_store && (command == "put" || command == "get")) return {kAnyFile};
  return {};
}

}  // namespace

int print_completion_script(Console& console) {
  console.print(kCompletionScript);
  return kExitDone;
}

int complete(const std::vector<std::string>& words, Console& console) {
  const std::string begun = words.empty() ? "" : words.back();
  std::vector<std::string> before = words;
  if (!before.empty()) before.pop_back();
  const Expected expected = expected_after(before);
  if (expected.option_value) {
    if (before.back() == "--socket") console.print(std::string(kAnyFile) + "\n");
    return kExitDone;
  }
  std::vector<std::string> candidates;
  if (!begun.starts_with('-')) candidates = positional(expected, begun, socket_among(words));
  // Options only when they are asked for: they would hide the rest.
  for (const std::string& word : expected.words) {
    if (word.starts_with('-') == begun.starts_with('-')) candidates.push_back(word);
  }
  for (const std::string& candidate : candidates) {
    const bool fits = candidate == kAnyFile || candidate.starts_with(begun);
    if (fits && printable(candidate) == candidate) console.print(candidate + "\n");
  }
  return kExitDone;
}

}  // namespace kaas
