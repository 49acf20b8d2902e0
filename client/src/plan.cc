#include "client/src/plan.h"

#include <cstring>

namespace kaas {
inline namespace v1 {

Plan::Impl::Impl(std::shared_ptr<Session> owner, std::uint32_t plan_number, BufferNames buffers)
    : session(std::move(owner)), number(plan_number), names(std::move(buffers)) {
  const auto message = encode_invoke(number, names, Bindings(), RunOptions());
  KAAS_CHECK(message.has_value());
  bare_run.assign(message->bytes.begin(), message->bytes.end());
  bare_run_id_offset = message->id_offset;
}

Plan::Impl::~Impl() {
  auto channel = session->channel();
  if (!channel.has_value()) return;
  // Nobody waits for the answer: the future ends here and the answer is dropped.
  (void)Session::future<void>(
      (*channel)->submit(encode_release(number), Effect::Changes, 0, WhenFull::Wait));
}

Future<Reply> Plan::Impl::submit(const Bindings& bindings, const RunOptions& options,
                                 WhenFull when_full) const {
  auto channel = session->channel();
  if (!channel.has_value()) return Session::future<Reply>(std::move(channel).error());
  const bool is_bare = bindings.empty() && options == RunOptions();
  if (is_bare && bare_run.size() <= kSlotPayloadBytes) {
    // The plan is shared by threads: the id goes into a copy.
    std::byte message[kSlotPayloadBytes];
    std::memcpy(message, bare_run.data(), bare_run.size());
    return Session::future<Reply>((*channel)->submit(
        {{message, bare_run.size()}, bare_run_id_offset}, Effect::Changes, 0, when_full));
  }
  auto message = encode_invoke(number, names, bindings, options);
  if (!message.has_value()) return Session::future<Reply>(std::move(message).error());
  return Session::future<Reply>(
      (*channel)->submit(*std::move(message), Effect::Changes, options.tag, when_full));
}

Result<Reply> Plan::run(const Bindings& bindings, const RunOptions& options) const {
  return submit(bindings, options).get();
}
Future<Reply> Plan::submit(const Bindings& bindings, const RunOptions& options) const {
  return impl_->submit(bindings, options, WhenFull::Wait);
}
Future<Reply> Plan::try_submit(const Bindings& bindings, const RunOptions& options) const {
  return impl_->submit(bindings, options, WhenFull::Fail);
}
std::uint32_t Plan::id() const noexcept {
  return impl_->number;
}

// --- BoundPlan -----------------------------------------------------------------------------------

BoundPlan::Impl::Impl(std::shared_ptr<const Plan::Impl> of, const Bindings& bindings)
    : plan(std::move(of)) {
  const auto encoded = encode_invoke(plan->number, plan->names, bindings, RunOptions());
  if (!encoded.has_value()) {
    failure = encoded.error();
    return;
  }
  const StoredSubmission invoke(*encoded);
  const auto question = encode_open_lane(plan->number, plan->names, bindings);
  KAAS_CHECK(question.has_value());
  call = std::make_shared<BoundCall>(invoke, StoredSubmission(*question));
}

BoundPlan::Impl::~Impl() {
  const std::uint64_t ticket = call == nullptr ? 0 : call->ticket();
  if (ticket == 0) return;
  auto channel = plan->session->channel();
  if (!channel.has_value()) return;
  (void)Session::future<void>(
      (*channel)->submit(encode_drop_lane_call(static_cast<std::uint32_t>(ticket >> 32),
                                               static_cast<std::uint32_t>(ticket)),
                         Effect::Changes, 0, WhenFull::Wait));
}

Future<Reply> BoundPlan::Impl::submit(WhenFull when_full) const {
  auto channel = plan->session->channel();
  if (!channel.has_value()) return Session::future<Reply>(std::move(channel).error());
  if (call == nullptr) return Session::future<Reply>(failure);
  return Session::future<Reply>((*channel)->submit(call, when_full));
}

BoundPlan::BoundPlan(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
BoundPlan::~BoundPlan() = default;
BoundPlan::BoundPlan(BoundPlan&& other) noexcept = default;
BoundPlan& BoundPlan::operator=(BoundPlan&& other) noexcept = default;

BoundPlan Plan::bind(const Bindings& bindings) const {
  return BoundPlan(std::make_unique<BoundPlan::Impl>(impl_, bindings));
}
Result<Reply> BoundPlan::run() const {
  return impl_->submit(WhenFull::Wait).get();
}
Future<Reply> BoundPlan::submit() const {
  return impl_->submit(WhenFull::Wait);
}
Future<Reply> BoundPlan::try_submit() const {
  return impl_->submit(WhenFull::Fail);
}
bool BoundPlan::has_lane() const noexcept {
  if (impl_->call == nullptr) return false;
  auto channel = impl_->plan->session->channel();
  return channel.has_value() && (*channel)->serves(*impl_->call);
}

}  // namespace v1
}  // namespace kaas
