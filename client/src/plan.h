// A prepared plan as the client keeps it.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "client/src/encode.h"
#include "client/src/session.h"

namespace kaas {
inline namespace v1 {

// What kaasd answers to Prepare.
struct PlanNumber {
  std::uint32_t number = 0;
};

struct Plan::Impl {
  Impl(std::shared_ptr<Session> owner, std::uint32_t plan_number, BufferNames buffers);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();  // Releases the plan in kaasd, if the session still lives.

  Future<Reply> submit(const Bindings& bindings, const RunOptions& options,
                       WhenFull when_full) const;

  std::shared_ptr<Session> session;
  std::uint32_t number;
  BufferNames names;
  // The whole message of a run without bindings and options; only its id is to be filled in.
  std::vector<std::byte> bare_run;
  std::size_t bare_run_id_offset = 0;
};

struct BoundPlan::Impl {
  Impl(std::shared_ptr<const Plan::Impl> of, const Bindings& bindings);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();  // Lets the lane forget it, if the session still lives.

  Future<Reply> submit(WhenFull when_full) const;

  std::shared_ptr<const Plan::Impl> plan;
  std::shared_ptr<BoundCall> call;  // Null: the bindings can't be sent, because of `failure`.
  Status failure;
};

}  // namespace v1
}  // namespace kaas
