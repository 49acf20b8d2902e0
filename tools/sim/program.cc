#include "tools/sim/program.h"

#include <algorithm>

namespace kaas {
namespace {

using Kind = ProgramKernel::Kind;

bool kernel_reads(const ProgramKernel& kernel, std::size_t buffer) {
  switch (kernel.kind) {
    case Kind::Copy:
      return kernel.a == buffer;
    case Kind::Add:
      return kernel.a == buffer || kernel.b == buffer;
    case Kind::AddOne:
      return kernel.out == buffer;
    case Kind::Fill:
    case Kind::Fail:
      return false;
  }
  return false;
}

bool kernel_writes(const ProgramKernel& kernel, std::size_t buffer) {
  return kernel.kind != Kind::Fail && kernel.out == buffer;
}

KernelSpec to_kernel(const Program& program, const ProgramKernel& kernel) {
  const std::uint64_t words = program.buffers[kernel.out].words;
  switch (kernel.kind) {
    case Kind::Fill:
      return fill_kernel(words, kernel.value, kernel.out);
    case Kind::Copy:
      return copy_kernel(words, kernel.a, kernel.out);
    case Kind::Add:
      return add_kernel(words, kernel.a, kernel.b, kernel.out);
    case Kind::AddOne:
      return add_one_kernel(words, kernel.out);
    case Kind::Fail:
      break;
  }
  return fake_kernel("fail", {}, {});
}

}  // namespace

bool Program::reads(std::size_t buffer) const {
  for (const ProgramKernel& kernel : kernels) {
    if (kernel_reads(kernel, buffer)) return true;
    if (kernel_writes(kernel, buffer)) return false;
  }
  return false;
}

bool Program::writes(std::size_t buffer) const {
  return buffers[buffer].where != ProgramBuffer::Where::Temporary &&
         std::any_of(kernels.begin(), kernels.end(),
                     [&](const ProgramKernel& kernel) { return kernel_writes(kernel, buffer); });
}

bool Program::replayable() const {
  if (stateful) return false;
  for (std::size_t out = 0; out < buffers.size(); ++out) {
    if (buffers[out].where != ProgramBuffer::Where::Arena || !writes(out)) continue;
    for (std::size_t in = 0; in < buffers.size(); ++in) {
      if (buffers[in].where == ProgramBuffer::Where::Arena && reads(in) &&
          buffers[in].offset < buffers[out].offset + buffers[out].words &&
          buffers[out].offset < buffers[in].offset + buffers[in].words) {
        return false;
      }
    }
  }
  return true;
}

bool Program::fails() const {
  return std::any_of(kernels.begin(), kernels.end(),
                     [](const ProgramKernel& kernel) { return kernel.kind == Kind::Fail; });
}

void Program::compute(std::vector<Words>& memory) const {
  for (std::uint64_t i = 0; i < n_iter; ++i) {
    for (const ProgramKernel& kernel : kernels) {
      Words& out = memory[kernel.out];
      for (std::size_t n = 0; n < out.size(); ++n) {
        switch (kernel.kind) {
          case Kind::Fill:
            out[n] = kernel.value;
            break;
          case Kind::Copy:
            out[n] = memory[kernel.a][n];
            break;
          case Kind::Add:
            out[n] = memory[kernel.a][n] + memory[kernel.b][n];
            break;
          case Kind::AddOne:
            ++out[n];
            break;
          case Kind::Fail:
            break;
        }
      }
    }
  }
}

std::string Program::describe() const {
  const auto name = [&](std::size_t index) {
    const ProgramBuffer& buffer = buffers[index];
    std::string text = "temporary";
    if (buffer.where == ProgramBuffer::Where::Key) text = buffer.key;
    if (buffer.where == ProgramBuffer::Where::Arena) text = "arena";
    if (buffer.where == ProgramBuffer::Where::Inline) text = "inline";
    if (buffer.offset != 0) text += "+" + std::to_string(buffer.offset);
    if (buffer.resident) text += "!";
    return text + ":" + std::to_string(buffer.words);
  };
  std::string text = n_iter == 1 ? "" : std::to_string(n_iter) + " times ";
  if (stateful) text += "stateful ";
  for (const ProgramKernel& kernel : kernels) {
    switch (kernel.kind) {
      case Kind::Fill:
        text += name(kernel.out) + " = " + std::to_string(kernel.value) + "; ";
        break;
      case Kind::Copy:
        text += name(kernel.out) + " = " + name(kernel.a) + "; ";
        break;
      case Kind::Add:
        text += name(kernel.out) + " = " + name(kernel.a) + " + " + name(kernel.b) + "; ";
        break;
      case Kind::AddOne:
        text += "++" + name(kernel.out) + "; ";
        break;
      case Kind::Fail:
        text += "fail; ";
        break;
    }
  }
  return text;
}

RequestSpec Program::to_request(std::uint32_t arena) const {
  RequestSpec request;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const ProgramBuffer& buffer = buffers[i];
    const std::string name = "b" + std::to_string(i);
    BufferSpec spec;
    switch (buffer.where) {
      case ProgramBuffer::Where::Key:
        spec = store_buffer(name, buffer.words * 4, buffer.key, buffer.offset * 4);
        break;
      case ProgramBuffer::Where::Arena:
        spec = segment_buffer(name, buffer.words * 4, arena, buffer.offset * 4);
        spec.place.part_offset = spec.offset.value;
        spec.place.part_end = spec.offset.value + spec.bytes.value;
        break;
      case ProgramBuffer::Where::Inline:
        spec = inline_buffer(name, buffer.words * 4, to_bytes(buffer.data));
        break;
      case ProgramBuffer::Where::Temporary:
        spec = store_buffer(name, buffer.words * 4);
        spec.ephemeral = true;
        break;
    }
    spec.zero_fill = buffer.zero_fill;
    spec.resident = buffer.resident;
    request.buffers.push_back(std::move(spec));
  }
  for (const ProgramKernel& kernel : kernels) {
    request.kernels.push_back(to_kernel(*this, kernel));
    if (stateful) request.kernels.back().library = "stateful";
  }
  request.n_iter.value = n_iter;
  return request;
}

}  // namespace kaas
