#include <kaas/client.h>

#include "client/src/encode.h"
#include "client/src/plan.h"
#include "client/src/received.h"
#include "client/src/session.h"
#include "client/src/upload.h"
#include "schema/ipc/segment.h"

namespace kaas {
inline namespace v1 {
namespace {

// Submits on the calling thread's channel. The message must be encoded after the channel is known:
// making a channel may take a while, encoding is in memory of the thread.
template <class T, class Encode>
Future<T> send(Session& session, Effect effect, Encode encode, std::uint64_t tag = 0,
               WhenFull when_full = WhenFull::Wait) {
  auto channel = session.channel();
  if (!channel.has_value()) return Session::future<T>(std::move(channel).error());
  Result<EncodedSubmission> message = encode();
  if (!message.has_value()) return Session::future<T>(std::move(message).error());
  return Session::future<T>((*channel)->submit(*std::move(message), effect, tag, when_full));
}

Result<void> without_value(Result<ControlAnswer> answer) {
  if (!answer.has_value()) return std::move(answer).error();
  return {};
}

// An administration call whose answer is JSON text.
template <class Fill>
Result<std::string> json(Session& session, Fill fill,
                         std::uint64_t timeout_ns = Link::kCallTimeoutNs) {
  auto answer = session.call(fill, {}, timeout_ns);
  if (!answer.has_value()) return std::move(answer).error();
  if (answer->descriptors.empty()) return std::string(view(answer->root->json()));
  // A text too long for a message comes in memory of its own.
  auto text = map_received(answer->descriptors.front().get(), answer->root->bytes(),
                           Mapping::Mode::ReadOnly, "a text");
  if (!text.has_value()) return std::move(text).error();
  return std::string(reinterpret_cast<const char*>(text->data()), text->bytes());
}

flatbuffers::Offset<flatbuffers::String> text(flatbuffers::FlatBufferBuilder& builder,
                                              std::string_view value) {
  return builder.CreateString(value.data(), value.size());
}

using Builder = flatbuffers::FlatBufferBuilder;

}  // namespace

Result<Client> Client::connect(const ClientOptions& options) {
  KAAS_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Session::connect(options));
  return Client(std::move(session));
}

Client::~Client() {
  if (session_) session_->close();
}
Client::Client(Client&& other) noexcept = default;
Client& Client::operator=(Client&& other) noexcept {
  if (session_ && session_ != other.session_) session_->close();
  session_ = std::move(other.session_);
  return *this;
}

std::uint64_t Client::session() const noexcept {
  return session_->id();
}
const std::string& Client::daemon_version() const noexcept {
  return session_->daemon_version();
}
const std::string& Client::socket() const noexcept {
  return session_->link()->path();
}

// --- Memory --------------------------------------------------------------------------------------

Result<Buffer> Client::allocate(std::uint64_t bytes) {
  return session_->allocate(bytes);
}
Result<Region> Client::register_region(int descriptor, std::uint64_t bytes, bool writable) {
  return session_->register_region(descriptor, bytes, writable);
}
Result<Region> Client::register_device_memory(const DeviceAllocation& memory) {
  return session_->register_device_memory(memory);
}
Result<Region> Client::register_event(std::span<const std::byte> handle) {
  return session_->register_event(handle);
}

// --- Store ---------------------------------------------------------------------------------------

Future<ObjectInfo> Client::put_async(std::string_view key, std::span<const std::byte> bytes) {
  if (bytes.size() <= kInlineBytesMax) {
    return send<ObjectInfo>(*session_, Effect::Changes, [&] { return encode_put(key, bytes); });
  }
  auto filled = fill_segment(bytes);
  if (!filled.has_value()) return Session::future<ObjectInfo>(std::move(filled).error());
  return donate_async(key, filled->get());
}

Future<ObjectInfo> Client::put_async(std::string_view key, const Buffer& buffer,
                                     std::uint64_t offset, std::uint64_t bytes) {
  if (offset > buffer.size() || bytes > buffer.size() - offset) {
    return Session::future<ObjectInfo>(Status{
        StatusCode::InvalidArgument, "range [" + std::to_string(offset) + ", " +
                                         std::to_string(offset) + " + " + std::to_string(bytes) +
                                         ") is outside the buffer of " +
                                         std::to_string(buffer.size()) + " bytes"});
  }
  return send<ObjectInfo>(*session_, Effect::Changes, [&] {
    return encode_put_segment(key, buffer.segment(), buffer.offset() + offset, bytes);
  });
}

Future<ObjectInfo> Client::donate_async(std::string_view key, int descriptor) {
  auto bytes = seal_for_donation(descriptor);
  if (!bytes.has_value()) return Session::future<ObjectInfo>(std::move(bytes).error());
  auto token = session_->donate(descriptor, *bytes);
  if (!token.has_value()) return Session::future<ObjectInfo>(std::move(token).error());
  return send<ObjectInfo>(*session_, Effect::Changes,
                          [&] { return encode_put_token(key, *token); });
}

Future<Object> Client::get_async(std::string_view key, std::optional<std::uint32_t> owner_uid) {
  return send<Object>(*session_, Effect::Reads, [&] { return encode_get(key, owner_uid); });
}
Future<ObjectInfo> Client::stat_async(std::string_view key,
                                      std::optional<std::uint32_t> owner_uid) {
  return send<ObjectInfo>(*session_, Effect::Reads, [&] { return encode_stat(key, owner_uid); });
}
Future<void> Client::remove_async(std::string_view key) {
  return send<void>(*session_, Effect::Changes, [&] { return encode_remove(key); });
}

Result<ObjectInfo> Client::put(std::string_view key, std::span<const std::byte> bytes) {
  return put_async(key, bytes).get();
}
Result<ObjectInfo> Client::put(std::string_view key, const Buffer& buffer, std::uint64_t offset,
                               std::uint64_t bytes) {
  return put_async(key, buffer, offset, bytes).get();
}
Result<ObjectInfo> Client::donate(std::string_view key, int descriptor) {
  return donate_async(key, descriptor).get();
}
Result<Object> Client::get(std::string_view key, std::optional<std::uint32_t> owner_uid) {
  return get_async(key, owner_uid).get();
}
Result<DeviceCopy> Client::export_object(std::string_view key, const ExportOptions& options) {
  auto answer = send<ExportAnswer>(*session_, Effect::Reads, [&] {
                  return encode_export(key, options);
                }).get();
  if (!answer.has_value()) return std::move(answer).error();
  return session_->adopt(*std::move(answer));
}
Result<ObjectInfo> Client::stat(std::string_view key, std::optional<std::uint32_t> owner_uid) {
  return stat_async(key, owner_uid).get();
}
Result<void> Client::remove(std::string_view key) {
  return remove_async(key).get();
}

Result<std::string> Client::list_json(std::string_view prefix, std::string_view after,
                                      std::uint32_t limit, std::optional<std::uint32_t> owner_uid) {
  return json(*session_, [&](Builder& builder) {
    const auto prefix_text = text(builder, prefix);
    const auto after_text = text(builder, after);
    flatbuffers::Optional<std::uint32_t> uid = flatbuffers::nullopt;
    if (owner_uid) uid = *owner_uid;
    return wire::CreateListObjects(builder, prefix_text, after_text, limit, uid);
  });
}
Result<void> Client::share(std::string_view key, std::optional<std::uint32_t> uid, bool write) {
  return without_value(session_->call([&](Builder& builder) {
    const auto key_text = text(builder, key);
    return wire::CreateShare(builder, key_text, uid.value_or(0), write, false, !uid.has_value());
  }));
}
Result<void> Client::unshare(std::string_view key, std::optional<std::uint32_t> uid) {
  return without_value(session_->call([&](Builder& builder) {
    const auto key_text = text(builder, key);
    return wire::CreateShare(builder, key_text, uid.value_or(0), false, true, !uid.has_value());
  }));
}

// --- Requests ------------------------------------------------------------------------------------

Future<Reply> Client::submit(const Request& request, const RunOptions& options) {
  return send<Reply>(
      *session_, Effect::Changes, [&] { return encode_submit(request.bytes(), options); },
      options.tag);
}
Future<Reply> Client::try_submit(const Request& request, const RunOptions& options) {
  return send<Reply>(
      *session_, Effect::Changes, [&] { return encode_submit(request.bytes(), options); },
      options.tag, WhenFull::Fail);
}
Result<Reply> Client::run(const Request& request, const RunOptions& options) {
  return submit(request, options).get();
}
Result<Plan> Client::prepare(const Request& request) {
  KAAS_ASSIGN_OR_RETURN(const PlanNumber plan, send<PlanNumber>(*session_, Effect::Reads, [&] {
                                                 return encode_prepare(request.bytes());
                                               }).get());
  return Session::plan(
      std::make_shared<const Plan::Impl>(session_, plan.number, buffer_names(request.bytes())));
}

// --- Functions -----------------------------------------------------------------------------------

Result<std::uint32_t> Client::deploy(std::string_view function, const Request& request) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t version,
                        send<std::uint64_t>(*session_, Effect::Changes, [&] {
                          return encode_deploy(function, request.bytes());
                        }).get());
  return static_cast<std::uint32_t>(version);
}
Future<Reply> Client::call_async(std::string_view function, std::span<const Parameter> parameters,
                                 const Bindings& bindings, const RunOptions& options,
                                 std::uint32_t version) {
  return send<Reply>(
      *session_, Effect::Changes,
      [&] { return encode_call(function, version, parameters, bindings, options); }, options.tag);
}
Result<Reply> Client::call(std::string_view function, std::span<const Parameter> parameters,
                           const Bindings& bindings, const RunOptions& options,
                           std::uint32_t version) {
  return call_async(function, parameters, bindings, options, version).get();
}
Result<void> Client::undeploy(std::string_view function, std::uint32_t version) {
  return without_value(session_->call([&](Builder& builder) {
    return wire::CreateUndeploy(builder, text(builder, function), version);
  }));
}
Result<void> Client::make_current(std::string_view function, std::uint32_t version) {
  return without_value(session_->call([&](Builder& builder) {
    return wire::CreateMakeCurrent(builder, text(builder, function), version);
  }));
}

// --- Event loops ---------------------------------------------------------------------------------

int Client::event_fd() noexcept {
  return session_->event_fd();
}
std::size_t Client::poll() noexcept {
  return session_->poll();
}
Result<void> Client::alive() noexcept {
  return session_->alive();
}

// --- Administration ------------------------------------------------------------------------------

Result<std::string> Client::status_json() {
  return json(*session_, [](Builder& builder) { return wire::CreateGetStatus(builder); });
}
Result<std::string> Client::clients_json() {
  return json(*session_, [](Builder& builder) { return wire::CreateGetClients(builder); });
}
Result<std::string> Client::functions_json() {
  return json(*session_, [](Builder& builder) { return wire::CreateGetFunctions(builder); });
}
Result<std::string> Client::libraries_json() {
  return json(*session_, [](Builder& builder) { return wire::CreateGetLibraries(builder); });
}
Result<std::string> Client::logs_json(std::uint64_t after, std::uint32_t limit) {
  return json(*session_,
              [&](Builder& builder) { return wire::CreateGetLogs(builder, after, limit); });
}
Result<void> Client::kick(std::uint64_t session) {
  return without_value(
      session_->call([&](Builder& builder) { return wire::CreateKick(builder, session); }));
}
Result<void> Client::cancel_request(std::uint64_t session, std::uint32_t ring, std::uint64_t id) {
  return without_value(session_->call(
      [&](Builder& builder) { return wire::CreateCancelRequest(builder, session, ring, id); }));
}
Result<void> Client::reload() {
  return without_value(
      session_->call([](Builder& builder) { return wire::CreateReload(builder); }));
}
Result<std::string> Client::suspend_device(std::string_view device,
                                           std::chrono::milliseconds within, bool force) {
  if (within.count() < 0 || within.count() > kSuspendWithinMsMax) {
    return Status{StatusCode::InvalidArgument, "within is " + std::to_string(within.count()) +
                                                   " ms, allowed 0 to " +
                                                   std::to_string(kSuspendWithinMsMax)};
  }
  const auto within_ms = static_cast<std::uint32_t>(within.count());
  return json(
      *session_,
      [&](Builder& builder) {
        return wire::CreateSuspendDevice(builder, text(builder, device), within_ms, force);
      },
      Link::kCallTimeoutNs + std::uint64_t{within_ms} * 1'000'000);
}
Result<std::string> Client::resume_device(std::string_view device) {
  return json(*session_, [&](Builder& builder) {
    return wire::CreateResumeDevice(builder, text(builder, device));
  });
}

}  // namespace v1
}  // namespace kaas
