#include "client/src/plan.h"

#include <cstring>

namespace kaas {
inline namespace v1 {
namespace {

bool is_bare(const RunOptions& options) {
  return options.priority == 0 && !options.deadline && options.tag == 0 && !options.profile &&
         options.tenant.empty();
}

}  // namespace

Plan::Impl::Impl(std::shared_ptr<Session> owner, std::uint32_t plan_number, BufferNames buffers)
    : session(std::move(owner)), number(plan_number), names(std::move(buffers)) {
  const EncodedSubmission message = encode_invoke(number, names, Bindings(), RunOptions());
  bare_run.assign(message.bytes.begin(), message.bytes.end());
  bare_run_id_offset = message.id_offset;
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
  if (bindings.empty() && is_bare(options) && bare_run.size() <= kSlotPayloadBytes) {
    // The plan is shared by threads: the id goes into a copy.
    std::byte message[kSlotPayloadBytes];
    std::memcpy(message, bare_run.data(), bare_run.size());
    return Session::future<Reply>((*channel)->submit(
        {{message, bare_run.size()}, bare_run_id_offset}, Effect::Changes, 0, when_full));
  }
  return Session::future<Reply>((*channel)->submit(encode_invoke(number, names, bindings, options),
                                                   Effect::Changes, options.tag, when_full));
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

}  // namespace v1
}  // namespace kaas
