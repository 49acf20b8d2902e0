// Arbitrary bytes as a message of a submit ring: refused, or an operation whose every part is
// carried as far as it goes without a store.
#include <cstring>
#include <type_traits>
#include <variant>

#include "daemon/intake/submission.h"
#include "tests/fuzz/driver.h"
#include "tests/fuzz/request_checks.h"
#include "tests/fuzz/request_seeds.h"

namespace kaas {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;

// The template that invocations and calls are bound to.
const PlanTemplate& bound_template() {
  static const PlanTemplate plan = *compile(many_sided_request());
  return plan;
}

void bind(std::vector<BindingSpec> bindings, const std::vector<LiteralOverrideSpec>& literals) {
  const PlanTemplate& plan = bound_template();
  static_cast<void>(check_overrides(plan, literals).has_value());
  const std::vector<BindingSpec> given = bindings;
  if (!resolve_bindings(plan, bindings).has_value()) return;
  for (const BindingSpec& binding : bindings) {
    KAAS_CHECK(binding.buffer < plan.buffers.size() && binding.offset.has_value());
  }
  const bool needed = renames_need_recompile(plan, bindings);
  auto anew = compile(many_sided_request(), {}, given);
  // A request that no longer compiles must be noticed.
  KAAS_CHECK(anew.has_value() || needed);
  if (!anew.has_value()) return;
  check_template(*anew);
  KAAS_CHECK(needed || (anew->loads == plan.loads && anew->allocations == plan.allocations));
}

void run(const Operation& operation) {
  std::visit(
      [](const auto& given) {
        using T = std::decay_t<decltype(given)>;
        if constexpr (std::is_same_v<T, SubmitOperation> || std::is_same_v<T, PrepareOperation> ||
                      std::is_same_v<T, DeployOperation>) {
          decode_and_compile(given.request);
        } else if constexpr (std::is_same_v<T, InvokeOperation> ||
                             std::is_same_v<T, CallOperation> ||
                             std::is_same_v<T, OpenLaneOperation>) {
          bind(given.bindings, given.literals);
        } else if constexpr (std::is_same_v<T, PutOperation>) {
          KAAS_CHECK(range_fits(given.offset, given.bytes, kSegmentBytesMax));
        } else if constexpr (std::is_same_v<T, ExportOperation>) {
          KAAS_CHECK(given.wanted.offset <= kBufferBytesMax);
          KAAS_CHECK(given.wanted.bytes <= kBufferBytesMax);
        }
      },
      operation);
}

template <class T>
FuzzSeed seed(std::string name, Builder& builder, wire::Operation type,
              flatbuffers::Offset<T> value) {
  builder.Finish(wire::CreateSubmission(builder, 7, type, value.Union()));
  const auto bytes = finished(builder);
  return {std::move(name), {bytes.begin(), bytes.end()}};
}

flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> request_in(Builder& builder) {
  const auto bytes = encode_request(many_sided_request());
  return builder.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

std::vector<flatbuffers::Offset<wire::Binding>> bindings_in(Builder& builder) {
  const std::vector<std::uint8_t> data(16, 3);
  const wire::SegmentRange part(64, 1 << 20);
  return {
      wire::CreateBindingDirect(builder, 0, nullptr, wire::Where::Store, 0, 64, "other"),
      wire::CreateBindingDirect(builder, 0, "s", wire::Where::Segment, 19, flatbuffers::nullopt),
      wire::CreateBindingDirect(builder, 2, nullptr, wire::Where::Segment, 19, 64, nullptr, nullptr,
                                0, &part),
      wire::CreateBindingDirect(builder, 3, nullptr, wire::Where::Inline, 0, flatbuffers::nullopt,
                                nullptr, &data)};
}

void add_request_operations(std::vector<FuzzSeed>& seeds) {
  Builder submit;
  const auto options = wire::CreateRunOptionsDirect(submit, 5, 123, 9, true, "team");
  seeds.push_back(seed("submit", submit, wire::Operation::Submit,
                       wire::CreateSubmit(submit, request_in(submit), options)));
  Builder prepare;
  seeds.push_back(seed("prepare", prepare, wire::Operation::Prepare,
                       wire::CreatePrepare(prepare, request_in(prepare))));
  Builder deploy;
  const auto name = deploy.CreateString("edges");
  seeds.push_back(seed("deploy", deploy, wire::Operation::Deploy,
                       wire::CreateDeploy(deploy, name, request_in(deploy))));
  Builder invoke;
  const auto bindings = bindings_in(invoke);
  const std::vector<std::uint8_t> raw(24, 1);
  const std::vector<flatbuffers::Offset<wire::LiteralOverride>> literals{
      wire::CreateLiteralOverrideDirect(invoke, 1, 0, 0, &raw, wire::LiteralType::Raw),
      wire::CreateLiteralOverride(invoke, 1, 1, 42),
      wire::CreateLiteralOverride(invoke, 1, 1, 42, 0, wire::LiteralType::U64)};
  seeds.push_back(seed("invoke", invoke, wire::Operation::Invoke,
                       wire::CreateInvokeDirect(invoke, 3, &bindings, &literals)));
  Builder call;
  const auto call_bindings = bindings_in(call);
  const std::vector<flatbuffers::Offset<wire::NamedInteger>> parameters{
      wire::CreateNamedIntegerDirect(call, "width", 512)};
  seeds.push_back(seed("call", call, wire::Operation::Call,
                       wire::CreateCallDirect(call, "edges", 1, &parameters, &call_bindings)));
}

void add_store_operations(std::vector<FuzzSeed>& seeds) {
  const std::vector<std::uint8_t> data(32, 8);
  Builder put;
  seeds.push_back(seed("put", put, wire::Operation::Put, wire::CreatePutDirect(put, "k", &data)));
  Builder put_segment;
  seeds.push_back(seed("put_segment", put_segment, wire::Operation::Put,
                       wire::CreatePutDirect(put_segment, "k", nullptr, 17, 64, 4096)));
  Builder get;
  seeds.push_back(seed("get", get, wire::Operation::Get, wire::CreateGetDirect(get, "k", 1000)));
  Builder exported;
  seeds.push_back(seed("export", exported, wire::Operation::Export,
                       wire::CreateExportDirect(exported, "k", 1000, 64, 4096, "GPU-1")));
  Builder remove;
  seeds.push_back(
      seed("remove", remove, wire::Operation::Remove, wire::CreateRemoveDirect(remove, "k")));
  Builder open;
  const auto lane_bindings = bindings_in(open);
  const std::vector<flatbuffers::Offset<wire::LiteralOverride>> lane_literals{
      wire::CreateLiteralOverride(open, 1, 1, 42)};
  seeds.push_back(seed("open_lane", open, wire::Operation::OpenLane,
                       wire::CreateOpenLaneDirect(open, 5, &lane_bindings, &lane_literals)));
  Builder drop;
  seeds.push_back(seed("drop_lane_call", drop, wire::Operation::DropLaneCall,
                       wire::CreateDropLaneCall(drop, 5, 1)));
  Builder cancel;
  seeds.push_back(seed("cancel", cancel, wire::Operation::Cancel, wire::CreateCancel(cancel, 3)));
}

}  // namespace

std::vector<FuzzSeed> fuzz_seeds() {
  std::vector<FuzzSeed> seeds;
  add_request_operations(seeds);
  add_store_operations(seeds);
  return seeds;
}

}  // namespace kaas

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // As the ring hands it over: a private copy, aligned.
  std::vector<std::uint64_t> aligned(size / sizeof(std::uint64_t) + 1);
  if (size > 0) std::memcpy(aligned.data(), data, size);
  auto submission =
      kaas::decode_submission({reinterpret_cast<const std::byte*>(aligned.data()), size});
  if (submission.has_value() && submission->operation.has_value()) {
    kaas::run(*submission->operation);
  }
  return 0;
}
