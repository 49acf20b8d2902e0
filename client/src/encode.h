// From the public values to the messages of the schema.
// Threads: any; messages lie in memory of the calling thread.
#pragma once

#include <kaas/client.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "client/src/request_data.h"

namespace kaas {
inline namespace v1 {

// An encoded Submission. Its id is filled in when it is sent.
struct EncodedSubmission {
  std::span<std::byte> bytes;
  std::size_t id_offset = 0;
  // Has `bytes` where the thread's end has taken what usually has them.
  std::unique_ptr<flatbuffers::FlatBufferBuilder> builder = nullptr;
};

// Name of a plan's buffer -> its index.
using BufferNames = std::unordered_map<std::string, std::uint16_t>;

// A finished FlatBuffer with root wire::Request. InvalidArgument: what cannot be written.
Result<std::vector<std::byte>> encode_request(const RequestData& request);

// The names of a finished request's buffers; none if it is malformed, which kaasd will say.
BufferNames buffer_names(std::span<const std::byte> request);

// Each of these returns a whole Submission. It is valid until the thread encodes the next one.
// InvalidArgument: options or bindings that can't be sent as they are.
Result<EncodedSubmission> encode_submit(std::span<const std::byte> request,
                                        const RunOptions& options);
EncodedSubmission encode_prepare(std::span<const std::byte> request);
Result<EncodedSubmission> encode_invoke(std::uint32_t plan, const BufferNames& names,
                                        const Bindings& bindings, const RunOptions& options);
Result<EncodedSubmission> encode_open_lane(std::uint32_t plan, const BufferNames& names,
                                           const Bindings& bindings);
EncodedSubmission encode_drop_lane_call(std::uint32_t lane, std::uint32_t call);
Result<EncodedSubmission> encode_call(std::string_view function, std::uint32_t version,
                                      std::span<const Parameter> parameters,
                                      const Bindings& bindings, const RunOptions& options);
EncodedSubmission encode_deploy(std::string_view function, std::span<const std::byte> request);
EncodedSubmission encode_release(std::uint32_t plan);
EncodedSubmission encode_put(std::string_view key, std::span<const std::byte> bytes);
EncodedSubmission encode_put_segment(std::string_view key, std::uint32_t segment,
                                     std::uint64_t offset, std::uint64_t bytes);
EncodedSubmission encode_put_token(std::string_view key, std::uint64_t token);
EncodedSubmission encode_get(std::string_view key, std::optional<std::uint32_t> owner_uid);
EncodedSubmission encode_export(std::string_view key, const ExportOptions& options);
EncodedSubmission encode_stat(std::string_view key, std::optional<std::uint32_t> owner_uid);
EncodedSubmission encode_remove(std::string_view key);
EncodedSubmission encode_cancel(std::uint64_t id);

// Parts that requests and bindings share.
// Nothing: kaasd is not told, or knows it by itself.
std::optional<wire::SegmentRange> wire_part(const std::optional<MemoryPart>& memory) noexcept;
flatbuffers::Offset<wire::IpcHandle> write_ipc(flatbuffers::FlatBufferBuilder& builder,
                                               const std::optional<IpcHandle>& ipc);
flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> write_octets(
    flatbuffers::FlatBufferBuilder& builder, std::span<const std::byte> bytes);

}  // namespace v1
}  // namespace kaas
