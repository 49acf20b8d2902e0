// Every limit of the protocol, in one place. A limit that an operator can lower is named in
// daemon/config.h; none can be raised above these.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kaas {

inline constexpr std::uint32_t kProtocolVersion = 1;

// --- Rings -------------------------------------------------------------------------------------
inline constexpr std::size_t kSlotBytes = 256;
inline constexpr std::uint32_t kRingSlotsDefault = 256;
inline constexpr std::uint32_t kRingSlotsMin = 8;
inline constexpr std::uint32_t kRingSlotsMax = 4096;
inline constexpr std::uint32_t kWorkRingSlots = 1024;
inline constexpr std::uint32_t kLaneSlots = 64;     // Invocations under way on one lane.
inline constexpr std::uint32_t kLaneCallsMax = 64;  // Of one lane.
// Sleeps in a row that a lane's bell ends without an invocation that the executor could take. A
// client that rings for what it has published gets to one for each slot, and one that comes late.
inline constexpr std::uint32_t kLaneRingsInVainMax = 2 * kLaneSlots;
// Messages that do not fit a slot lie in the heap behind the slots of the same segment.
inline constexpr std::uint32_t kRingHeapBytes = 2u << 20;
inline constexpr std::uint32_t kWorkHeapBytes = 8u << 20;
// A message is at most half a heap, so that one always fits after the wrap.
inline constexpr std::uint32_t kMessageBytesMax = kRingHeapBytes / 2;
static_assert(kMessageBytesMax * 2 <= kRingHeapBytes && kMessageBytesMax * 2 <= kWorkHeapBytes);

// --- Verifier: chosen so that the largest legal request passes (a test holds both sides) --------
// A table takes 8 bytes or more (its own 4 and the 4 that name it), so no message that names each
// of its tables once has more; one that names a table many times is refused.
inline constexpr std::uint32_t kVerifierDepthMax = 16;
inline constexpr std::uint32_t kVerifierTablesMax = kMessageBytesMax / 8;

// --- Sessions ----------------------------------------------------------------------------------
inline constexpr std::uint32_t kSessionsMax = 2048;
inline constexpr std::uint32_t kRingsPerSessionMax = 64;
inline constexpr std::uint32_t kSegmentsPerSessionMax = 1024;
// Allocations named by IPC handle in requests, without registration, that stay open for the next.
inline constexpr std::uint32_t kHandlesKeptPerSession = 64;
inline constexpr std::uint32_t kDonationsPendingMax = 64;
// Device memory of exports: cut in pieces of this, and by default so much for one session.
inline constexpr std::uint64_t kExportGranuleBytes = 2u << 20;
inline constexpr std::uint64_t kExportBytesDefault = std::uint64_t{4} << 30;
inline constexpr std::uint32_t kPlansPerSessionMax = 4096;
inline constexpr std::uint64_t kHelloDeadlineNs = 2'000'000'000;
// Until a CancelRequest is answered, if the executor says nothing.
inline constexpr std::uint64_t kCancelAnswerNs = 1'000'000'000;
inline constexpr std::uint64_t kArenaBytesDefault = 8u << 20;
inline constexpr std::uint64_t kSegmentBytesMax = std::uint64_t{1} << 40;
inline constexpr std::size_t kControlMessageBytesMax = 64u << 10;
inline constexpr std::size_t kDescriptorsPerMessageMax = 8;
inline constexpr std::size_t kClientNameBytesMax = 128;
// What the kernel allows, less the ending that kaasd adds to the name until the socket listens.
inline constexpr std::size_t kSocketPathBytesMax = 103;

// --- Requests ----------------------------------------------------------------------------------
inline constexpr std::uint32_t kKernelsMax = 4096;
inline constexpr std::uint32_t kBuffersMax = 8192;
inline constexpr std::uint32_t kArgumentsPerKernelMax = 64;
inline constexpr std::uint32_t kLiteralsPerKernelMax = 64;
inline constexpr std::uint32_t kRawLiteralBytesMax = 4096;
inline constexpr std::uint32_t kAddressSlotsMax = 64;
inline constexpr std::uint64_t kIterationsMax = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kBufferBytesMax = std::uint64_t{1} << 40;
inline constexpr std::uint32_t kGridXMax = 2'147'483'647u;
inline constexpr std::uint32_t kGridYzMax = 65'535u;
inline constexpr std::uint32_t kBlockThreadsMax = 1024;
inline constexpr std::uint32_t kBlockXyMax = 1024;
inline constexpr std::uint32_t kBlockZMax = 64;
inline constexpr std::uint32_t kSharedBytesMax = 227u << 10;
inline constexpr std::uint32_t kClusterBlocksMax = 16;
inline constexpr std::uint32_t kParametersMax = 64;
inline constexpr std::size_t kExpressionBytesMax = 256;
inline constexpr std::uint32_t kExpressionDepthMax = 32;
inline constexpr std::size_t kNameBytesMax = 256;  // Buffer, kernel, parameter and function names.
inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::size_t kPathBytesMax = 4096;
inline constexpr std::size_t kInlineBytesMax = 64u << 10;         // Each inline buffer, in or out.
inline constexpr std::size_t kInlineOutputBytesMax = 256u << 10;  // All of one request.
// Raw literals and inline inputs of one request, all together.
inline constexpr std::size_t kPayloadBytesMax = kMessageBytesMax;
inline constexpr std::size_t kIpcHandleBytes = 64;
inline constexpr std::size_t kGpuUuidBytes = 16;
inline constexpr std::size_t kTenantBytesMax = 128;
inline constexpr std::uint32_t kEventsPerRunMax = 16;  // Waited for, and recorded, each.
inline constexpr int kPriorityMin = -100;
inline constexpr int kPriorityMax = 100;

// --- Functions ---------------------------------------------------------------------------------
inline constexpr std::uint32_t kFunctionsPerOwnerMax = 1024;
inline constexpr std::uint32_t kVersionsPerFunctionMax = 256;
inline constexpr std::size_t kFunctionBytesPerOwnerMax = 64u << 20;  // Of decoded requests.

// --- Store -------------------------------------------------------------------------------------
inline constexpr std::uint64_t kSlabObjectBytesMax = 64u << 10;  // Larger ones get a memfd.
inline constexpr std::uint64_t kSlabBytes = 4u << 20;
inline constexpr std::uint32_t kListLimitMax = 256;  // Objects a list answers with.

// --- Executors ---------------------------------------------------------------------------------
inline constexpr std::uint64_t kOutboxBytes = 16u << 20;
inline constexpr std::uint32_t kOutboxSegment = 1;  // The outbox's segment id in every executor.
inline constexpr std::uint32_t kFirstSegment = 16;  // Of those that kaasd gives out.
// What an executor may add to an export to make it whole pieces, and how many it has at a time.
inline constexpr std::uint64_t kExportPaddingBytesMax = 32u << 20;
inline constexpr std::uint32_t kExportsPerExecutor = 16;
inline constexpr std::uint32_t kSuspendWithinMsMax = 3'600'000;
inline constexpr std::uint32_t kStatusMessageBytesMax = 4096;  // Longer texts are cut.
inline constexpr std::uint32_t kStrikesMax =
    2;  // A request that killed its executor so often is out.

}  // namespace kaas
