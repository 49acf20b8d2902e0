#include "daemon/plan/compile.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/field_limits.h"
#include "daemon/flow/text.h"
#include "daemon/plan/evaluate.h"
#include "daemon/plan/expression.h"
#include "daemon/plan/memory.h"
#include "daemon/plan/rebind.h"
#include "schema/limits.h"

namespace kaas {
namespace {

using wire::Access;
using wire::Where;

constexpr std::uint64_t kAny = std::numeric_limits<std::uint64_t>::max();

auto label_of(const char* kind, std::size_t n, const std::string& name) {
  return [kind, n, &name] {
    return std::string(kind) + " " + std::to_string(n) + " (" + quoted(name) + ")";
  };
}

// --- Numbers -----------------------------------------------------------------------------------

Result<TemplateBuffer> compile_buffer(const BufferSpec& spec, Evaluator& evaluator) {
  TemplateBuffer buffer;
  buffer.name = spec.name;
  buffer.place = spec.place;
  buffer.constant = spec.constant;
  buffer.zero_fill = spec.zero_fill;
  buffer.resident = spec.resident;
  KAAS_ASSIGN_OR_RETURN(buffer.bytes, evaluator.number(spec.bytes, "size", 1, kBufferBytesMax));
  KAAS_ASSIGN_OR_RETURN(buffer.object_offset, evaluator.number(spec.offset, "offset", 0, kAny));
  KAAS_RETURN_IF_ERROR(check_place(buffer, buffer.place, buffer.object_offset));
  return buffer;
}

Result<std::array<std::uint32_t, 3>> compile_dimensions(const std::array<Integer, 3>& spec,
                                                        const std::array<std::uint32_t, 3>& limits,
                                                        const std::array<const char*, 3>& fields,
                                                        Evaluator& evaluator) {
  std::array<std::uint32_t, 3> dimensions{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    KAAS_ASSIGN_OR_RETURN(const auto value,
                          evaluator.number(spec[axis], fields[axis], 1, limits[axis]));
    dimensions[axis] = static_cast<std::uint32_t>(value);
  }
  return dimensions;
}

Result<void> check_cluster(const TemplateKernel& kernel) {
  if (!kernel.cluster.has_value()) return {};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (kernel.grid[axis] % (*kernel.cluster)[axis] == 0) continue;
    return invalid(std::string(kGridFields[axis]) + " is " + std::to_string(kernel.grid[axis]) +
                   ", must be a multiple of the cluster's " +
                   std::to_string((*kernel.cluster)[axis]));
  }
  return {};
}

Result<TemplateKernel> compile_kernel(const KernelSpec& spec, Evaluator& evaluator) {
  TemplateKernel kernel;
  kernel.library = spec.library;
  kernel.kernel = spec.kernel;
  KAAS_ASSIGN_OR_RETURN(kernel.grid,
                        compile_dimensions(spec.grid, kGridLimits, kGridFields, evaluator));
  KAAS_ASSIGN_OR_RETURN(kernel.block,
                        compile_dimensions(spec.block, kBlockLimits, kBlockFields, evaluator));
  KAAS_RETURN_IF_ERROR(check_block_threads({kernel.block[0], kernel.block[1], kernel.block[2]}));
  kernel.shared_bytes = spec.shared_bytes;
  kernel.cluster = spec.cluster;
  kernel.cooperative = spec.cooperative;
  kernel.programmatic = spec.programmatic;
  KAAS_RETURN_IF_ERROR(check_cluster(kernel));
  kernel.literals = spec.literals;
  for (std::size_t n = 0; n < kernel.literals.size(); ++n) {
    LiteralSpec& literal = kernel.literals[n];
    if (literal.expression.empty()) continue;
    KAAS_ASSIGN_OR_RETURN(literal.bits, named([&] { return "literal " + std::to_string(n); },
                                              evaluator.literal_bits(literal)));
    literal.expression.clear();
  }
  kernel.arguments.reserve(spec.arguments.size());
  for (const ArgumentSpec& argument : spec.arguments) {
    kernel.arguments.push_back({argument.buffer, argument.access});
  }
  kernel.order = spec.order;
  return kernel;
}

Result<void> compile_numbers(const RequestSpec& request, Evaluator& evaluator, PlanTemplate& plan) {
  plan.buffers.reserve(request.buffers.size());
  for (std::size_t n = 0; n < request.buffers.size(); ++n) {
    const BufferSpec& spec = request.buffers[n];
    KAAS_ASSIGN_OR_RETURN(auto buffer,
                          named(label_of("buffer", n, spec.name), compile_buffer(spec, evaluator)));
    plan.buffers.push_back(std::move(buffer));
  }
  plan.kernels.reserve(request.kernels.size());
  for (std::size_t n = 0; n < request.kernels.size(); ++n) {
    const KernelSpec& spec = request.kernels[n];
    KAAS_ASSIGN_OR_RETURN(
        auto kernel, named(label_of("kernel", n, spec.kernel), compile_kernel(spec, evaluator)));
    plan.kernels.push_back(std::move(kernel));
  }
  KAAS_ASSIGN_OR_RETURN(plan.n_iter, evaluator.number(request.n_iter, "n_iter", 1, kIterationsMax));
  plan.until = request.until;
  if (!plan.until.has_value()) return {};
  return named(label_of("until's buffer", *plan.until, plan.buffers[*plan.until].name),
               check_between("size", plan.buffers[*plan.until].bytes, sizeof(std::uint32_t),
                             kBufferBytesMax));
}

// --- Uses --------------------------------------------------------------------------------------

// Sets what the accesses of a buffer say about it, and the stores in declared order.
class UseMarker {
 public:
  UseMarker(const RequestSpec& request, PlanTemplate& plan) : request_(request), plan_(plan) {}

  void run() {
    for (const TemplateKernel& kernel : plan_.kernels) {
      // A buffer that one kernel has twice, once to read, is read before it is written.
      for (const TemplateArgument& argument : kernel.arguments) {
        if (argument.access == Access::In || argument.access == Access::InOut) {
          first_use(argument.buffer, true);
        }
      }
      for (const TemplateArgument& argument : kernel.arguments) {
        if (argument.access != Access::In) mark_written(argument);
      }
    }
    if (plan_.until.has_value()) first_use(*plan_.until, true);
  }

 private:
  void first_use(std::uint16_t b, bool reads) {
    TemplateBuffer& buffer = plan_.buffers[b];
    if (buffer.used) return;
    buffer.used = true;
    buffer.object = reads;
  }

  void mark_written(const TemplateArgument& argument) {
    first_use(argument.buffer, false);
    TemplateBuffer& buffer = plan_.buffers[argument.buffer];
    buffer.written = true;
    const bool is_output =
        argument.access != Access::Temporary && !request_.buffers[argument.buffer].ephemeral;
    if (!is_output || buffer.writes) return;
    buffer.writes = true;
    buffer.object = true;
    plan_.stores.push_back(argument.buffer);
  }

  const RequestSpec& request_;
  PlanTemplate& plan_;
};

// What an output replaces under its key. A segment or IPC output that is also stored makes the
// whole object.
struct KeyRange {
  const std::string* key = nullptr;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint16_t buffer = 0;
};

Result<void> check_outputs(const PlanTemplate& plan) {
  std::vector<KeyRange> ranges;
  for (const std::uint16_t b : plan.stores) {
    const TemplateBuffer& buffer = plan.buffers[b];
    if (buffer.place.key.empty()) continue;
    const bool is_slice = buffer.place.where == Where::Store;
    ranges.push_back({&buffer.place.key, is_slice ? buffer.object_offset : 0,
                      is_slice ? buffer.object_offset + buffer.bytes : kAny, b});
  }
  std::sort(ranges.begin(), ranges.end(), [](const KeyRange& a, const KeyRange& b) {
    const int order = a.key->compare(*b.key);
    return order != 0 ? order < 0 : std::pair(a.begin, a.buffer) < std::pair(b.begin, b.buffer);
  });
  for (std::size_t n = 1; n < ranges.size(); ++n) {
    const KeyRange& a = ranges[n - 1];
    const KeyRange& b = ranges[n];
    if (*a.key != *b.key || a.end <= b.begin) continue;
    return invalid("two outputs to key " + quoted(*a.key) + " overlap: buffer " +
                   std::to_string(a.buffer) + " (" + quoted(plan.buffers[a.buffer].name) +
                   ") and buffer " + std::to_string(b.buffer) + " (" +
                   quoted(plan.buffers[b.buffer].name) + "); only disjoint slices are allowed");
  }
  return {};
}

// --- Expressions alone -------------------------------------------------------------------------

Result<void> check_one(const std::string& expression, std::string_view field,
                       std::span<const std::string> parameters) {
  if (expression.empty()) return {};
  auto parsed = Expression::parse(expression, parameters);
  if (parsed.has_value()) return {};
  return named([&] { return std::string(field); }, Result<void>(std::move(parsed).error()));
}

Result<void> check_kernel_expressions(const KernelSpec& kernel,
                                      std::span<const std::string> parameters) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    KAAS_RETURN_IF_ERROR(check_one(kernel.grid[axis].expression, kGridFields[axis], parameters));
    KAAS_RETURN_IF_ERROR(check_one(kernel.block[axis].expression, kBlockFields[axis], parameters));
  }
  for (std::size_t n = 0; n < kernel.literals.size(); ++n) {
    KAAS_RETURN_IF_ERROR(
        check_one(kernel.literals[n].expression, "literal " + std::to_string(n), parameters));
  }
  return {};
}

}  // namespace

Result<PlanTemplate> compile(const RequestSpec& request, std::span<const ParameterValue> parameters,
                             std::span<const BindingSpec> bindings) {
  KAAS_ASSIGN_OR_RETURN(auto evaluator, Evaluator::create(request.parameters, parameters));
  PlanTemplate plan;
  KAAS_RETURN_IF_ERROR(compile_numbers(request, evaluator, plan));
  std::vector<BindingSpec> places(bindings.begin(), bindings.end());
  KAAS_RETURN_IF_ERROR(resolve_places(plan, places));
  for (BindingSpec& binding : places) {
    plan.buffers[binding.buffer].place = std::move(binding.place);
    plan.buffers[binding.buffer].object_offset = *binding.offset;
  }
  UseMarker(request, plan).run();
  KAAS_RETURN_IF_ERROR(check_outputs(plan));
  KAAS_RETURN_IF_ERROR(check_inline_outputs(plan, {}));
  assign_allocations(plan);
  // Bytes that this request changes itself are no constants.
  for (TemplateBuffer& buffer : plan.buffers) {
    buffer.constant = buffer.constant && !buffer.written && !buffer.shared;
  }
  const Cells cells(plan);
  find_loads(plan, cells);
  order_kernels(plan, cells);
  return plan;
}

Result<void> check_expressions(const RequestSpec& request) {
  for (std::size_t n = 0; n < request.kernels.size(); ++n) {
    const KernelSpec& kernel = request.kernels[n];
    KAAS_RETURN_IF_ERROR(named(label_of("kernel", n, kernel.kernel),
                               check_kernel_expressions(kernel, request.parameters)));
  }
  for (std::size_t n = 0; n < request.buffers.size(); ++n) {
    const BufferSpec& buffer = request.buffers[n];
    const auto label = label_of("buffer", n, buffer.name);
    KAAS_RETURN_IF_ERROR(
        named(label, check_one(buffer.bytes.expression, "size", request.parameters)));
    KAAS_RETURN_IF_ERROR(
        named(label, check_one(buffer.offset.expression, "offset", request.parameters)));
  }
  return check_one(request.n_iter.expression, "n_iter", request.parameters);
}

}  // namespace kaas
