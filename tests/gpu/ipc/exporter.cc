// The other process: allocates device memory, exports it, looks at it. usage: exporter SOCKET_FD
#include <kaas/cuda.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "schema/ipc/socket.h"
#include "tests/gpu/ipc/cuda_memory.h"
#include "tests/gpu/ipc/endless_kernel.h"

namespace kaas {
namespace {

struct Allocation {
  Memory memory = Memory::Malloc;
  std::byte* address = nullptr;
  int device = 0;
  std::unique_ptr<MappedMemory> mapped;
};

class Exporter {
 public:
  Descriptor run(const ExporterCommand& command, ExporterReply& reply) {
    using What = ExporterCommand::What;
    reply.done = 1;
    if (command.what == What::Allocate) return allocate(command, reply);
    Allocation& allocation = allocations_.at(command.allocation);
    KAAS_MUST_CUDA(cudaSetDevice(allocation.device));
    std::byte* const at = allocation.address + command.offset;
    switch (command.what) {
      case What::Check:
        reply.done = all_words_are(at, command.bytes, command.value) ? 1 : 0;
        break;
      case What::Fill:
        fill_words(at, command.bytes, command.value);
        break;
      case What::Free:
        free(command.allocation);
        break;
      case What::Spin:
        start_endless_kernel(at);
        KAAS_MUST_CUDA(cudaGetLastError());
        break;
      case What::Allocate:
        break;
    }
    return {};
  }

 private:
  Descriptor allocate(const ExporterCommand& command, ExporterReply& reply) {
    KAAS_MUST_CUDA(cudaSetDevice(command.device));
    const std::uint64_t number = next_++;
    Allocation& made = allocations_[number];
    made.memory = command.memory;
    made.device = command.device;
    void* memory = nullptr;
    switch (command.memory) {
      case Memory::Malloc:
        KAAS_MUST_CUDA(cudaMalloc(&memory, command.bytes));
        break;
      case Memory::CuMem:
        made.mapped = std::make_unique<MappedMemory>(command.device, command.bytes, true);
        memory = made.mapped->get();
        break;
      case Memory::Pool:
        auto& pool = pools_[command.device];
        if (pool == nullptr) pool = std::make_unique<SharedPool>(command.device);
        memory = pool->allocate(command.bytes);
        break;
    }
    made.address = static_cast<std::byte*>(memory);
    fill_words(memory, command.bytes, command.value);
    reply.allocation = number;
    return describe(made.address + command.offset, command.bytes - command.offset, reply);
  }

  static Descriptor describe(const void* pointer, std::uint64_t bytes, ExporterReply& reply) {
    const auto exported = CudaExport::create(pointer, bytes);
    if (!exported.has_value()) {
      reply.done = 0;
      const std::string text = to_string(exported.error());
      std::memcpy(reply.error, text.data(), std::min(text.size(), sizeof reply.error - 1));
      return {};
    }
    const DeviceAllocation& allocation = exported->allocation();
    reply.kind = static_cast<std::uint32_t>(allocation.kind);
    reply.bytes = allocation.bytes;
    reply.offset = exported->offset();
    reply.handle_bytes = allocation.handle.size();
    std::memcpy(reply.handle, allocation.handle.data(), allocation.handle.size());
    std::memcpy(reply.gpu, allocation.gpu.data(), allocation.gpu.size());
    return Descriptor(allocation.descriptor < 0 ? -1 : ::dup(allocation.descriptor));
  }

  void free(std::uint64_t number) {
    Allocation& allocation = allocations_.at(number);
    if (allocation.memory == Memory::Malloc) KAAS_MUST_CUDA(cudaFree(allocation.address));
    if (allocation.memory == Memory::Pool) SharedPool::free(allocation.address);
    allocations_.erase(number);
  }

  std::map<int, std::unique_ptr<SharedPool>> pools_;
  std::map<std::uint64_t, Allocation> allocations_;
  std::uint64_t next_ = 1;
};

int serve(int socket) {
  Exporter exporter;
  for (;;) {
    ExporterCommand command;
    if (!wait_readable(socket, ~std::uint64_t{0})) continue;
    const Received received =
        receive_message(socket, std::as_writable_bytes(std::span(&command, 1)), 1);
    if (received.outcome == ReceiveOutcome::HungUp) return 0;
    if (received.outcome != ReceiveOutcome::Message) continue;
    ExporterReply reply;
    const Descriptor descriptor = exporter.run(command, reply);
    const int number = descriptor.get();
    const std::size_t count = descriptor ? 1 : 0;
    send_message(socket, std::as_bytes(std::span(&reply, 1)), {&number, count});
  }
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  return kaas::serve(static_cast<int>(std::strtol(argv[1], nullptr, 10)));
}
