// Named, versioned requests with integer parameters.
//
// A function belongs to the uid that deployed it. A name means the caller's own function, else one
// that uid 0 deployed (those are for everybody). Only its owner changes it. Versions count from 1
// and are never reused while the name exists. Nothing outlives the daemon.
//
// Owns:    requests and compiled templates; what it returned stays valid after undeploy.
// Threads: one (the dispatcher).
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/plan/compile.h"

namespace kaas {

struct FunctionInfo {
  std::string name;
  std::uint32_t owner_uid = 0;
  std::uint32_t current_version = 0;
  struct Version {
    std::uint32_t version = 0;
    std::size_t kernels = 0;
    std::vector<std::string> parameters;
    // What a call can bind: buffers whose first use reads them, and buffers that are kept. In the
    // request's order; one that is changed in place is in both.
    std::vector<std::string> inputs;
    std::vector<std::string> outputs;
    std::size_t compiled = 0;  // Templates that are in the cache now.
  };
  std::vector<Version> versions;  // Ascending.
};

class FunctionRegistry {
 public:
  // At most compiled_max templates, one per (version, parameter values), are kept; the least
  // recently used goes first.
  explicit FunctionRegistry(std::size_t compiled_max = 1024) : compiled_max_(compiled_max) {}

  // The new version, which becomes current.
  // Fails: InvalidArgument (name, expressions), ResourceExhausted (limits.h, Functions).
  Result<std::uint32_t> deploy(std::uint32_t uid, std::string_view name, RequestSpec request);
  // version 0: all of them. When the current one goes, the highest that is left becomes current.
  // Fails: NotFound with the nearest names or the versions that exist; PermissionDenied for a
  //        function of uid 0 that the caller only sees.
  Result<void> undeploy(std::uint32_t uid, std::string_view name, std::uint32_t version);
  Result<void> make_current(std::uint32_t uid, std::string_view name, std::uint32_t version);

  // Buffers and kernels of all that it has compiled, or tried to.
  [[nodiscard]] std::uint64_t compiled_parts() const noexcept { return compiled_parts_; }

  // The template of a call, compiled at most once per (version, parameter values). version 0: the
  // current one. Fails: NotFound as above; what compile() fails with.
  Result<CompiledRequest> compiled(std::uint32_t uid, std::string_view name, std::uint32_t version,
                                   std::span<const ParameterValue> parameters);

  // Functions that `uid` can call, by name, own ones before those of uid 0.
  [[nodiscard]] std::vector<FunctionInfo> list(std::uint32_t uid) const;

 private:
  struct Version {
    std::shared_ptr<const RequestSpec> request;
    std::size_t bytes = 0;
    std::uint64_t serial = 0;  // Of this version in this registry; in the cache's keys.
  };
  struct Function {
    std::map<std::uint32_t, Version> versions;
    std::uint32_t current = 0;
    std::uint32_t next = 1;
  };
  using Functions = std::map<std::pair<std::uint32_t, std::string>, Function>;

  struct Compiled {
    std::string key;
    std::uint64_t serial = 0;
    std::shared_ptr<const PlanTemplate> plan;
  };

  Functions::const_iterator find(std::uint32_t uid, std::string_view name) const;
  Result<Functions::iterator> find_owned(std::uint32_t uid, std::string_view name);
  [[nodiscard]] Status not_found(std::uint32_t uid, std::string_view name) const;
  [[nodiscard]] static Status no_version(std::string_view name, const Function& function,
                                         std::uint32_t version);
  Result<void> check_room(std::uint32_t uid, const std::string& name, std::size_t bytes) const;
  void forget_compiled(std::uint64_t serial);

  std::size_t compiled_max_;
  std::uint64_t compiled_parts_ = 0;
  std::uint64_t next_serial_ = 1;
  Functions functions_;
  std::list<Compiled> recent_;  // Most recently used first.
  std::unordered_map<std::string_view, std::list<Compiled>::iterator> by_key_;  // Keys in recent_.
};

}  // namespace kaas
