#include "daemon/plan/functions.h"

#include <algorithm>
#include <cstring>

#include "daemon/flow/field_limits.h"
#include "daemon/flow/text.h"
#include "schema/limits.h"

namespace kaas {
namespace {

constexpr std::uint32_t kRootUid = 0;

// About what a decoded request takes of the daemon's memory.
std::size_t bytes_of(const RequestSpec& request) {
  std::size_t bytes = sizeof request;
  for (const KernelSpec& kernel : request.kernels) {
    bytes += sizeof kernel + kernel.library.size() + kernel.kernel.size() +
             kernel.arguments.size() * sizeof(ArgumentSpec) + kernel.order.size() * 2;
    for (const LiteralSpec& literal : kernel.literals) {
      bytes += sizeof literal + literal.expression.size() + literal.raw.size() +
               literal.slots.size() * sizeof(RawSlot);
    }
  }
  for (const BufferSpec& buffer : request.buffers) {
    bytes += sizeof buffer + buffer.name.size() + buffer.bytes.expression.size() +
             buffer.offset.expression.size() + buffer.place.key.size() + buffer.place.data.size();
  }
  return bytes;
}

// FunctionInfo::Version's inputs and outputs.
void name_roles(const RequestSpec& request, FunctionInfo::Version& version) {
  std::vector<bool> used(request.buffers.size());
  std::vector<bool> read_first(request.buffers.size());
  std::vector<bool> written(request.buffers.size());
  for (const KernelSpec& kernel : request.kernels) {
    for (const ArgumentSpec& argument : kernel.arguments) {
      const bool reads =
          argument.access == wire::Access::In || argument.access == wire::Access::InOut;
      const bool writes =
          argument.access == wire::Access::Out || argument.access == wire::Access::InOut;
      if (!used[argument.buffer]) read_first[argument.buffer] = reads;
      used[argument.buffer] = true;
      if (writes) written[argument.buffer] = true;
    }
  }
  for (std::size_t n = 0; n < request.buffers.size(); ++n) {
    const BufferSpec& buffer = request.buffers[n];
    if (read_first[n]) version.inputs.push_back(buffer.name);
    if (written[n] && !buffer.ephemeral) version.outputs.push_back(buffer.name);
  }
}

// Names of parameters of one version have a fixed order, so values alone tell calls apart; a call
// whose names are wrong is never cached, because it does not compile.
std::string cache_key(std::uint64_t serial, const RequestSpec& request,
                      std::span<const ParameterValue> parameters) {
  std::string key;
  key.reserve((1 + request.parameters.size()) * sizeof serial);
  const auto append = [&](const auto& value) {
    key.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  append(serial);
  if (parameters.size() != request.parameters.size()) return {};
  for (const std::string& name : request.parameters) {
    const auto given = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const ParameterValue& p) { return p.name == name; });
    if (given == parameters.end()) return {};
    append(given->value);
  }
  return key;
}

}  // namespace

FunctionRegistry::Functions::const_iterator FunctionRegistry::find(std::uint32_t uid,
                                                                   std::string_view name) const {
  const auto own = functions_.find({uid, std::string(name)});
  return own != functions_.end() ? own : functions_.find({kRootUid, std::string(name)});
}

Status FunctionRegistry::not_found(std::uint32_t uid, std::string_view name) const {
  std::vector<std::string_view> names;
  for (const auto& [id, function] : functions_) {
    if (id.first == uid || id.first == kRootUid) names.push_back(id.second);
  }
  return Status{StatusCode::NotFound,
                "there is no function " + quoted(name) + nearest_names(name, names)};
}

Status FunctionRegistry::no_version(std::string_view name, const Function& function,
                                    std::uint32_t version) {
  return Status{StatusCode::NotFound,
                "function " + quoted(name) + " has no version " + std::to_string(version) +
                    "; there are " + std::to_string(function.versions.size()) + ", from " +
                    std::to_string(function.versions.begin()->first) + " to " +
                    std::to_string(function.versions.rbegin()->first) + ", current is " +
                    std::to_string(function.current)};
}

Result<FunctionRegistry::Functions::iterator> FunctionRegistry::find_owned(std::uint32_t uid,
                                                                           std::string_view name) {
  const auto own = functions_.find({uid, std::string(name)});
  if (own != functions_.end()) return own;
  if (functions_.contains({kRootUid, std::string(name)})) {
    return Status{
        StatusCode::PermissionDenied,
        "function " + quoted(name) + " belongs to uid 0, caller is uid " + std::to_string(uid)};
  }
  return not_found(uid, name);
}

Result<void> FunctionRegistry::check_room(std::uint32_t uid, const std::string& name,
                                          std::size_t bytes) const {
  std::size_t owned = 0;
  std::size_t owned_bytes = bytes;
  for (auto it = functions_.lower_bound({uid, ""});
       it != functions_.end() && it->first.first == uid; ++it) {
    ++owned;
    for (const auto& [number, version] : it->second.versions) owned_bytes += version.bytes;
  }
  if (owned_bytes > kFunctionBytesPerOwnerMax) {
    return over_limit(StatusCode::ResourceExhausted,
                      "bytes of all functions of uid " + std::to_string(uid), owned_bytes,
                      kFunctionBytesPerOwnerMax);
  }
  const auto found = functions_.find({uid, name});
  if (found == functions_.end() && owned >= kFunctionsPerOwnerMax) {
    return over_limit(StatusCode::ResourceExhausted,
                      "number of functions of uid " + std::to_string(uid), owned + 1,
                      kFunctionsPerOwnerMax);
  }
  if (found != functions_.end() && found->second.versions.size() >= kVersionsPerFunctionMax) {
    return over_limit(StatusCode::ResourceExhausted, "number of versions of " + quoted(name),
                      found->second.versions.size() + 1, kVersionsPerFunctionMax);
  }
  return {};
}

Result<std::uint32_t> FunctionRegistry::deploy(std::uint32_t uid, std::string_view name,
                                               RequestSpec request) {
  if (name.empty() || name.size() > kNameBytesMax || !is_printable(name)) {
    return invalid("function name " + quoted(name) + " has " + std::to_string(name.size()) +
                   " bytes, allowed 1 to " + std::to_string(kNameBytesMax) +
                   " of UTF-8 without control characters");
  }
  KAAS_RETURN_IF_ERROR(check_expressions(request));
  // Without parameters every fault of the request can be told now.
  if (request.parameters.empty()) {
    auto compiled = compile(request);
    if (!compiled.has_value()) return std::move(compiled).error();
  }
  const std::size_t bytes = bytes_of(request);
  KAAS_RETURN_IF_ERROR(check_room(uid, std::string(name), bytes));
  Function& function = functions_[{uid, std::string(name)}];
  const std::uint32_t version = function.next++;
  function.versions[version] = {std::make_shared<const RequestSpec>(std::move(request)), bytes,
                                next_serial_++};
  function.current = version;
  return version;
}

Result<void> FunctionRegistry::undeploy(std::uint32_t uid, std::string_view name,
                                        std::uint32_t version) {
  KAAS_ASSIGN_OR_RETURN(const auto owned, find_owned(uid, name));
  Function& function = owned->second;
  if (version != 0 && !function.versions.contains(version)) {
    return no_version(name, function, version);
  }
  for (auto it = function.versions.begin(); it != function.versions.end();) {
    if (version != 0 && it->first != version) {
      ++it;
      continue;
    }
    forget_compiled(it->second.serial);
    it = function.versions.erase(it);
  }
  if (function.versions.empty()) {
    functions_.erase(owned);
  } else if (function.current == version) {
    function.current = function.versions.rbegin()->first;
  }
  return {};
}

Result<void> FunctionRegistry::make_current(std::uint32_t uid, std::string_view name,
                                            std::uint32_t version) {
  KAAS_ASSIGN_OR_RETURN(const auto owned, find_owned(uid, name));
  if (!owned->second.versions.contains(version)) return no_version(name, owned->second, version);
  owned->second.current = version;
  return {};
}

Result<CompiledRequest> FunctionRegistry::compiled(std::uint32_t uid, std::string_view name,
                                                   std::uint32_t version,
                                                   std::span<const ParameterValue> parameters) {
  const auto function = find(uid, name);
  if (function == functions_.end()) return not_found(uid, name);
  const std::uint32_t wanted = version == 0 ? function->second.current : version;
  const auto found = function->second.versions.find(wanted);
  if (found == function->second.versions.end()) {
    return no_version(name, function->second, version);
  }
  const Version& deployed = found->second;
  std::string key = cache_key(deployed.serial, *deployed.request, parameters);
  if (const auto cached = by_key_.find(key); !key.empty() && cached != by_key_.end()) {
    recent_.splice(recent_.begin(), recent_, cached->second);
    return CompiledRequest{deployed.request, recent_.front().plan};
  }
  compiled_parts_ += deployed.request->buffers.size() + deployed.request->kernels.size();
  auto compiled = compile(*deployed.request, parameters);
  if (!compiled.has_value()) {
    return named(
        [&] { return "function " + quoted(name) + " version " + std::to_string(wanted) + ":"; },
        Result<CompiledRequest>(std::move(compiled).error()));
  }
  CompiledRequest result{deployed.request,
                         std::make_shared<const PlanTemplate>(*std::move(compiled))};
  if (compiled_max_ == 0) return result;
  if (recent_.size() >= compiled_max_) {
    by_key_.erase(recent_.back().key);
    recent_.pop_back();
  }
  recent_.push_front({std::move(key), deployed.serial, result.plan});
  by_key_.emplace(recent_.front().key, recent_.begin());
  return result;
}

std::vector<FunctionInfo> FunctionRegistry::list(std::uint32_t uid) const {
  std::unordered_map<std::uint64_t, std::size_t> compiled;
  for (const Compiled& entry : recent_) ++compiled[entry.serial];
  std::vector<FunctionInfo> infos;
  for (const auto& [id, function] : functions_) {
    if (id.first != uid && id.first != kRootUid) continue;
    FunctionInfo info{id.second, id.first, function.current, {}};
    for (const auto& [number, version] : function.versions) {
      const auto found = compiled.find(version.serial);
      FunctionInfo::Version listed;
      listed.version = number;
      listed.kernels = version.request->kernels.size();
      listed.parameters = version.request->parameters;
      name_roles(*version.request, listed);
      if (found != compiled.end()) listed.compiled = found->second;
      info.versions.push_back(std::move(listed));
    }
    infos.push_back(std::move(info));
  }
  std::sort(infos.begin(), infos.end(), [&](const FunctionInfo& a, const FunctionInfo& b) {
    return std::pair(std::string_view(a.name), a.owner_uid != uid) <
           std::pair(std::string_view(b.name), b.owner_uid != uid);
  });
  return infos;
}

void FunctionRegistry::forget_compiled(std::uint64_t serial) {
  for (auto it = recent_.begin(); it != recent_.end();) {
    if (it->serial != serial) {
      ++it;
      continue;
    }
    by_key_.erase(it->key);
    it = recent_.erase(it);
  }
}

}  // namespace kaas
