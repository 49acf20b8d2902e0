#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "daemon/flow/policies.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/socket.h"

namespace kaas {
namespace {

// How one field of the file is read. Returns what is allowed, if the value is something else.
using Reader = std::function<std::optional<std::string>(const toml::node&, Config&)>;

template <class Field>
Reader text(Field field) {
  return [field](const toml::node& node, Config& config) -> std::optional<std::string> {
    const auto value = node.value_exact<std::string>();
    if (!value) return "a string";
    config.*field = *value;
    return std::nullopt;
  };
}

// Of a file or folder. An empty one would silently be the default.
Reader path_text(std::string Config::*field) {
  return [field](const toml::node& node, Config& config) -> std::optional<std::string> {
    const auto value = node.value_exact<std::string>();
    if (!value || value->empty()) return "a path";
    config.*field = *value;
    return std::nullopt;
  };
}

constexpr const char* kLogLevels[] = {"trace", "debug",    "info", "warning",
                                      "error", "critical", "off"};

std::string log_levels_allowed() {
  std::string allowed;
  for (const char* level : kLogLevels)
    allowed += (allowed.empty() ? "" : ", ") + std::string(level);
  return allowed;
}

bool is_log_level(const std::string& text) {
  return std::find(std::begin(kLogLevels), std::end(kLogLevels), text) != std::end(kLogLevels);
}

std::optional<std::string> read_log_level(const toml::node& node, Config& config) {
  const auto value = node.value_exact<std::string>();
  if (!value || !is_log_level(*value)) return log_levels_allowed();
  config.log_level = *value;
  return std::nullopt;
}

std::optional<std::string> read_policy(const toml::node& node, Config& config) {
  const auto value = node.value_exact<std::string>();
  if (!value || !is_policy(*value)) return kPolicies;
  config.policy = *value;
  return std::nullopt;
}

// A field that is a number: the same limits for the file and for flags.
struct NumberField {
  const char* name;
  std::int64_t min;
  std::int64_t max;
  std::function<void(Config&, std::int64_t)> set;
  std::function<std::uint64_t(const Config&)> get;
};

template <class Value>
NumberField number(const char* name, Value Config::*field, std::int64_t min, std::int64_t max) {
  return {
      name, min, max,
      [field](Config& config, std::int64_t value) { config.*field = static_cast<Value>(value); },
      [field](const Config& config) { return std::uint64_t{config.*field}; }};
}

const std::vector<NumberField>& numbers() {
  constexpr std::int64_t kBytesMax = std::int64_t{1} << 50;
  constexpr std::int64_t kReservedSmsMax = 1024;
  constexpr auto kArenaMax = static_cast<std::int64_t>(kSegmentBytesMax);
  static const std::vector<NumberField> table = {
      number("idle_release", &Config::idle_release_s, 0, 31'536'000),  // A year.
      number("store.bytes", &Config::store_bytes, 0, kBytesMax),
      number("arena.bytes", &Config::arena_bytes, 4096, kArenaMax),
      number("arena.ready", &Config::arenas_ready, 0, 1024),
      number("export.bytes", &Config::export_bytes, 0, kBytesMax),
      number("executor.device_bytes", &Config::device_bytes, 0, kBytesMax),
      number("executor.reserved_sms", &Config::reserved_sms, 0, kReservedSmsMax),
      number("executor.running_limit_ms", &Config::running_limit_ms, 0, 86'400'000),  // A day.
      {"spin_us", 0, 1'000'000,
       [](Config& config, std::int64_t value) {
         config.spin_us = static_cast<std::uint64_t>(value);
       },
       [](const Config& config) { return config.spin_us.value_or(0); }},
  };
  return table;
}

std::string allowed_of(const NumberField& field) {
  return "an integer from " + std::to_string(field.min) + " to " + std::to_string(field.max);
}

Reader reader_of(const NumberField& field) {
  return [&field](const toml::node& node, Config& config) -> std::optional<std::string> {
    const auto value = node.value_exact<std::int64_t>();
    if (!value || *value < field.min || *value > field.max) return allowed_of(field);
    field.set(config, *value);
    return std::nullopt;
  };
}

template <class Field>
Reader boolean(Field field) {
  return [field](const toml::node& node, Config& config) -> std::optional<std::string> {
    const auto value = node.value_exact<bool>();
    if (!value) return "true or false";
    config.*field = *value;
    return std::nullopt;
  };
}

constexpr const char* kModeAllowed = "a string of octal digits up to \"0777\"";

std::optional<std::string> read_mode(const toml::node& node, Config& config) {
  const auto value = node.value_exact<std::string>();
  if (!value || !parse_socket_mode(*value, config).has_value()) return kModeAllowed;
  return std::nullopt;
}

std::optional<std::string> read_paths(const toml::node& node, Config& config) {
  const toml::array* list = node.as_array();
  if (list == nullptr) return "a list of absolute folders";
  std::vector<std::string> paths;
  for (const toml::node& entry : *list) {
    const auto value = entry.value_exact<std::string>();
    if (!value || value->empty() || value->front() != '/') return "a list of absolute folders";
    paths.push_back(*value);
  }
  config.library_path = std::move(paths);
  return std::nullopt;
}

std::optional<std::string> read_domains(const toml::node& node, Config& config) {
  const char* allowed = "a list of lists of uids";
  const toml::array* lists = node.as_array();
  if (lists == nullptr) return allowed;
  std::vector<std::vector<std::uint32_t>> domains;
  std::set<std::int64_t> seen;
  for (const toml::node& entry : *lists) {
    const toml::array* list = entry.as_array();
    if (list == nullptr || list->empty()) return allowed;
    std::vector<std::uint32_t>& domain = domains.emplace_back();
    for (const toml::node& uid : *list) {
      const auto value = uid.value_exact<std::int64_t>();
      if (!value || *value < 0 || *value >= 0xffff'ffff) return allowed;
      if (!seen.insert(*value).second) return std::string(allowed) + ", each uid once";
      domain.push_back(static_cast<std::uint32_t>(*value));
    }
  }
  config.joined_domains = std::move(domains);
  return std::nullopt;
}

const std::map<std::string, Reader>& readers() {
  static const std::map<std::string, Reader> table = [] {
    std::map<std::string, Reader> made = {
        {"socket", path_text(&Config::socket)},
        {"socket_mode", read_mode},
        {"socket_group", text(&Config::socket_group)},
        {"device", text(&Config::device)},
        {"policy", read_policy},
        {"executor.program", path_text(&Config::executor_program)},
        {"executor.prefix", text(&Config::executor_prefix)},
        {"executor.user", text(&Config::executor_user)},
        {"executor.confine", boolean(&Config::executor_confine)},
        {"library.path", read_paths},
        {"log.file", path_text(&Config::log_file)},
        {"log.level", read_log_level},
        {"domain.joined", read_domains},
    };
    for (const NumberField& field : numbers()) made.emplace(field.name, reader_of(field));
    return made;
  }();
  return table;
}

std::string place(const std::string& path, const toml::source_region& source) {
  if (source.begin.line == 0) return path + ": ";  // Of the file as a whole.
  return path + ":" + std::to_string(source.begin.line) + ":" +
         std::to_string(source.begin.column) + ": ";
}

std::string as_written(const toml::node& node) {
  std::ostringstream text;
  node.visit([&text](const auto& value) { text << value; });
  return text.str();
}

bool is_section(const std::string& name) {
  const auto first = readers().lower_bound(name + ".");
  return first != readers().end() && first->first.starts_with(name + ".");
}

Result<void> read_field(const std::string& path, const std::string& name, const toml::node& node,
                        Config& config) {
  const auto reader = readers().find(name);
  if (reader == readers().end()) {
    std::string known;
    for (const auto& [field, unused] : readers()) known += (known.empty() ? "" : ", ") + field;
    return Status{StatusCode::InvalidArgument,
                  place(path, node.source()) + "unknown field '" + name + "', allowed: " + known};
  }
  const auto allowed = reader->second(node, config);
  if (!allowed) return {};
  return Status{StatusCode::InvalidArgument, place(path, node.source()) + "'" + name + "' is " +
                                                 as_written(node) + ", allowed: " + *allowed};
}

Result<void> check_readable(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file) return {};
  const std::string reason = std::strerror(errno);
  return Status{StatusCode::InvalidArgument, path + ": can't be read: " + reason};
}

}  // namespace

Result<void> parse_socket_mode(const std::string& text, Config& config) {
  mode_t mode = 0;
  bool valid = !text.empty() && text.size() <= 4;
  for (const char digit : text) {
    valid = valid && digit >= '0' && digit <= '7';
    mode = mode * 8 + static_cast<mode_t>(digit - '0');
  }
  if (!valid || mode > 0777) {
    return Status{StatusCode::InvalidArgument,
                  "socket_mode is '" + text + "', allowed: " + kModeAllowed};
  }
  config.socket_mode = mode;
  return {};
}

Result<void> read_config_file(const std::string& path, Config& config) {
  KAAS_RETURN_IF_ERROR(check_readable(path));
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    return Status{StatusCode::InvalidArgument,
                  place(path, error.source()) + std::string(error.description())};
  }
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const toml::table* section = node.as_table();
    if (section == nullptr) {
      KAAS_RETURN_IF_ERROR(read_field(path, name, node, config));
      continue;
    }
    if (section->empty() && !is_section(name)) {
      KAAS_RETURN_IF_ERROR(read_field(path, name, node, config));
    }
    for (const auto& [field, value] : *section) {
      KAAS_RETURN_IF_ERROR(read_field(path, name + "." + std::string(field.str()), value, config));
    }
  }
  return {};
}

void apply_environment(Config& config) {
  const char* devices = std::getenv("KAAS_DEVICES");
  if (devices != nullptr && *devices != '\0') config.device = devices;
}

namespace {

Result<void> check_executor_user(const Config& config) {
  if (config.executor_user.empty()) return {};
  KAAS_ASSIGN_OR_RETURN(const uid_t uid, uid_of(config.executor_user));
  const std::string what = "executor.user is '" + config.executor_user + "'";
  if (::geteuid() != 0) {
    return Status{StatusCode::InvalidArgument,
                  what +
                      ", but only root can give executors another user's rights, and kaasd runs "
                      "as uid " +
                      std::to_string(::geteuid()) + "; allowed: none"};
  }
  if (uid != 0) return {};
  return Status{StatusCode::InvalidArgument, what + "; allowed: a user other than root"};
}

Result<void> check_numbers(const Config& config) {
  for (const NumberField& field : numbers()) {
    const std::uint64_t value = field.get(config);
    if (value >= static_cast<std::uint64_t>(field.min) &&
        value <= static_cast<std::uint64_t>(field.max)) {
      continue;
    }
    return Status{StatusCode::InvalidArgument, std::string(field.name) + " is " +
                                                   std::to_string(value) +
                                                   ", allowed: " + allowed_of(field)};
  }
  // The first session's arena could not be made.
  if (config.store_bytes == 0 || config.store_bytes >= config.arena_bytes) return {};
  return Status{StatusCode::InvalidArgument,
                "store.bytes is " + std::to_string(config.store_bytes) +
                    ", allowed: 0 (from the machine's memory) or at least arena.bytes, which is " +
                    std::to_string(config.arena_bytes)};
}

Result<void> check_domains(const Config& config) {
  std::set<std::uint32_t> seen;
  for (const auto& domain : config.joined_domains) {
    for (const std::uint32_t uid : domain) {
      if (seen.insert(uid).second) continue;
      return Status{StatusCode::InvalidArgument, "domain.joined names uid " + std::to_string(uid) +
                                                     " twice; allowed: each uid once"};
    }
  }
  return {};
}

}  // namespace

Result<void> complete_config(Config& config) {
  KAAS_RETURN_IF_ERROR(check_executor_user(config));
  KAAS_RETURN_IF_ERROR(check_domains(config));
  KAAS_RETURN_IF_ERROR(check_numbers(config));
  if (!is_log_level(config.log_level)) {
    return Status{StatusCode::InvalidArgument,
                  "log.level is '" + config.log_level + "', allowed: " + log_levels_allowed()};
  }
  if (!is_policy(config.policy)) {
    return Status{StatusCode::InvalidArgument,
                  "policy is '" + config.policy + "', allowed: " + kPolicies};
  }
  if (config.socket.empty()) config.socket = default_socket_paths().front();
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto folder = self.parent_path();
  if (config.executor_program.empty()) {
    config.executor_program = (folder / "kaas-executor").string();
  }
  if (config.library_path.empty()) {
    config.library_path = {(folder.parent_path() / "lib/kaas/kernels").string()};
  }
  for (const std::string& entry : config.library_path) {
    if (entry.empty() || entry.front() != '/') {
      return Status{StatusCode::InvalidArgument,
                    "library path has '" + entry + "', allowed: absolute folders"};
    }
  }
  const auto prefix = split_words(config.executor_prefix);
  if (prefix.has_value()) return {};
  return Status{StatusCode::InvalidArgument, "executor.prefix: " + prefix.error().message};
}

Result<void> check_executor_program(const Config& config) {
  const std::string& program = config.executor_program;
  struct stat found {};
  int error = 0;
  if (::stat(program.c_str(), &found) != 0) {
    error = errno;
  } else if (S_ISDIR(found.st_mode)) {
    error = EISDIR;
  } else if (::faccessat(AT_FDCWD, program.c_str(), X_OK, AT_EACCESS) != 0) {
    error = errno;
  }
  if (error == 0) return {};
  return Status{StatusCode::InvalidArgument,
                "executor.program '" + program + "': " + std::strerror(error)};
}

std::string config_json(const Config& config) {
  const nlohmann::json json = {{"socket_mode", config.socket_mode},
                               {"socket_group", config.socket_group},
                               {"device", config.device},
                               {"store_bytes", config.store_bytes},
                               {"arena_bytes", config.arena_bytes},
                               {"arenas_ready", config.arenas_ready},
                               {"device_bytes", config.device_bytes},
                               {"reserved_sms", config.reserved_sms},
                               {"executor_program", config.executor_program},
                               {"executor_prefix", config.executor_prefix},
                               {"executor_user", config.executor_user},
                               {"executor_confine", config.executor_confine},
                               {"running_limit_ms", config.running_limit_ms},
                               {"idle_release_s", config.idle_release_s},
                               {"export_bytes", config.export_bytes},
                               {"library_path", config.library_path},
                               {"policy", config.policy},
                               {"log_level", config.log_level},
                               {"spin_us", config.spin_us.value_or(0)},
                               {"joined_domains", config.joined_domains}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::uint32_t domain_of(const Config& config, std::uint32_t uid) {
  for (const auto& domain : config.joined_domains) {
    if (std::find(domain.begin(), domain.end(), uid) != domain.end()) return domain.front();
  }
  return uid;
}

std::vector<std::uint32_t> joined_uids(const Config& config) {
  std::vector<std::uint32_t> uids;
  for (const auto& domain : config.joined_domains) {
    if (domain.size() > 1) uids.insert(uids.end(), domain.begin(), domain.end());
  }
  return uids;
}

Result<uid_t> uid_of(const std::string& user) {
  if (const passwd* found = ::getpwnam(user.c_str())) return found->pw_uid;
  uid_t uid = 0;
  const char* end = user.data() + user.size();
  const auto parsed = std::from_chars(user.data(), end, uid);
  const bool is_number = parsed.ec == std::errc() && parsed.ptr == end && uid != UINT32_MAX;
  if (is_number && !user.empty()) return uid;
  return Status{StatusCode::InvalidArgument,
                "there is no user '" + user + "'; allowed: a user's name or uid"};
}

Result<std::vector<std::string>> split_words(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = '\0';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != '\0') {
      if (c == quote) {
        quote = '\0';
      } else if (c == '\\' && quote == '"' && i + 1 < text.size()) {
        word += text[++i];
      } else {
        word += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      in_word = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      in_word = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote != '\0') {
    return Status{StatusCode::InvalidArgument,
                  "'" + text + "' has an open " + std::string(1, quote)};
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

}  // namespace kaas
