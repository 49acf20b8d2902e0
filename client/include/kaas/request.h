// Requests: graphs of kernels over named buffers, built here and run through <kaas/client.h>.
//
//   kaas::RequestBuilder builder;
//   builder.buffer("x", bytes).at("input");
//   builder.buffer("y", bytes).at("result");
//   builder.kernel("std", "saxpy").grid(blocks).block(256).literal(n).literal(2.0f)
//       .in("x").inout("y");
//   kaas::Result<kaas::Request> request = builder.build();
//
// The builder refuses what cannot be written down (a name that is not declared, a number that does
// not fit its field) and bytes beyond a Buffer or Region. Everything else is checked by kaasd,
// which knows store and libraries.
// Threads: values; one thread at a time uses one of them.
#pragma once

#include <kaas/export.h>
#include <kaas/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kaas {
// Versions the library's names; nobody writes it.
inline namespace v1 {

class Buffer;
class Region;
struct BufferData;           // Internal.
struct KernelData;           // Internal.
struct BindingData;          // Internal.
struct LiteralOverrideData;  // Internal.
struct MemoryPart;           // Internal.

struct Dim3 {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
};

// Grid or block as expressions over the request's integer parameters; an empty one means 1.
struct DimExpression {
  std::string x;
  std::string y;
  std::string z;
};

enum class LiteralType : std::uint8_t { I32 = 0, U32, I64, U64, F32, F64 };

// A place in a raw literal, `offset` bytes into it, that receives the 8-byte device address of the
// buffer with this name.
struct AddressSlot {
  std::uint32_t offset = 0;
  std::string buffer;
};

// Device memory of this process: the legacy CUDA IPC handle of its allocation (64 bytes) and where
// in the allocation the bytes begin.
struct IpcHandle {
  std::byte handle[64] = {};
  std::uint64_t base_offset = 0;
  std::uint64_t base_bytes = 0;  // Of the allocation; 0: as large as it is found to be.
};

// A finished request. Copies share its bytes.
class KAAS_API Request {
 public:
  // Adopts bytes that something else wrote: a FlatBuffer with root kaas.wire.Request. Not looked
  // at here; kaasd checks them.
  static Request from_bytes(std::span<const std::byte> flatbuffer);

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept;

 private:
  explicit Request(std::shared_ptr<const std::vector<std::byte>> bytes) noexcept;
  std::shared_ptr<const std::vector<std::byte>> bytes_;
  friend class RequestBuilder;
};

class RequestBuilder;

// One buffer of a builder. Valid as long as the builder is, and is not moved.
class KAAS_API BufferBuilder {
 public:
  // Bytes [offset, offset + size) of the store's object `key`. Without this, the key is the name.
  // As an output with an offset it replaces these bytes of the object, whose rest stays; with none
  // it makes the object anew, of `size` bytes.
  BufferBuilder& at(std::string_view key, std::uint64_t offset = 0);
  // Where the bytes begin in the object or segment; behind in(), Buffer::offset() is to be added.
  BufferBuilder& offset(std::uint64_t bytes);
  BufferBuilder& offset(std::string_view expression);
  // Bytes of this session's shared memory, read and written in place. What does not lie in the
  // Buffer or Region is refused: by build(), or by kaasd where an expression gives the size.
  // in_segment() is only held to lie in the segment.
  BufferBuilder& in(const Buffer& buffer, std::uint64_t offset = 0);
  BufferBuilder& in(const Region& region, std::uint64_t offset = 0);
  BufferBuilder& in_segment(std::uint32_t segment, std::uint64_t offset);
  // Input bytes that travel in the request: at most 64 KiB. They are copied here.
  BufferBuilder& inline_bytes(std::span<const std::byte> bytes);
  // An input whose bytes come with each call, or an output whose bytes come in the reply.
  BufferBuilder& in_message();
  // Device memory of this process by its handle, which stays open for a while for the next request
  // that names it. Client::register_device_memory says when it is opened and closed.
  BufferBuilder& device_memory(const IpcHandle& handle);
  BufferBuilder& ephemeral(bool on = true);  // An output that is not kept.
  BufferBuilder& constant(bool on = true);   // Not written by anyone: the device may cache it.
  BufferBuilder& zero_fill(bool on = true);  // An object shorter than size reads as zeros behind.
  // An output that stays on the device until it is read elsewhere. Lost (DataLost) if the device's
  // executor ends before that. Nothing else on the host device, and of a slice of an object.
  BufferBuilder& resident(bool on = true);

 private:
  friend class RequestBuilder;
  BufferBuilder(RequestBuilder* owner, std::size_t index) noexcept : owner_(owner), index_(index) {}
  BufferData& data() const;
  RequestBuilder* owner_;
  std::size_t index_;
};

// One kernel of a builder. Valid as long as the builder is, and is not moved. Literals and
// arguments keep the order of the calls; the kernel receives all literals, then all arguments,
// unless order() says otherwise.
class KAAS_API KernelBuilder {
 public:
  KernelBuilder& grid(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1);
  KernelBuilder& grid(const DimExpression& expression);
  KernelBuilder& block(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1);
  KernelBuilder& block(const DimExpression& expression);
  KernelBuilder& shared_bytes(std::uint32_t bytes);
  KernelBuilder& cluster(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1);
  KernelBuilder& cooperative(bool on = true);
  // It may begin before the kernels that it comes behind have ended, and waits for them itself, in
  // all its blocks (cudaGridDependencySynchronize). Nothing on the host. Not with cooperative().
  KernelBuilder& programmatic(bool on = true);

  KernelBuilder& literal(std::int32_t value);
  KernelBuilder& literal(std::uint32_t value);
  KernelBuilder& literal(std::int64_t value);
  KernelBuilder& literal(std::uint64_t value);
  KernelBuilder& literal(float value);
  KernelBuilder& literal(double value);
  // An integer computed from the parameters at each call, e.g. literal(LiteralType::I32, "w * h").
  KernelBuilder& literal(LiteralType type, std::string_view expression);
  KernelBuilder& literal_bits(LiteralType type, std::uint64_t bits);
  // A struct by value.
  KernelBuilder& raw(std::span<const std::byte> bytes, std::vector<AddressSlot> slots = {});

  KernelBuilder& in(std::string_view buffer);
  KernelBuilder& out(std::string_view buffer);
  KernelBuilder& inout(std::string_view buffer);
  KernelBuilder& temporary(std::string_view buffer);
  // The kernel's parameters in order: n below the number of literals is literal n, else argument
  // n minus that number.
  KernelBuilder& order(std::vector<std::uint16_t> parameters);

 private:
  friend class RequestBuilder;
  KernelBuilder(RequestBuilder* owner, std::size_t index) noexcept : owner_(owner), index_(index) {}
  KernelData& data() const;
  RequestBuilder* owner_;
  std::size_t index_;
};

// Move-only.
class KAAS_API RequestBuilder {
 public:
  RequestBuilder();
  ~RequestBuilder();
  RequestBuilder(RequestBuilder&& other) noexcept;
  RequestBuilder& operator=(RequestBuilder&& other) noexcept;

  // A buffer of `size` bytes; it is in the store under its name until told otherwise.
  BufferBuilder buffer(std::string_view name, std::uint64_t size);
  BufferBuilder buffer(std::string_view name, std::string_view size_expression);
  // The next kernel. `library` is an absolute path or a name on kaasd's search path.
  KernelBuilder kernel(std::string_view library, std::string_view name);
  // How often the kernels run, as a whole. Once, without this.
  RequestBuilder& n_iter(std::uint64_t times);
  RequestBuilder& n_iter(std::string_view expression);
  // Ends early when this u32 buffer is not zero after an iteration.
  RequestBuilder& until(std::string_view buffer);
  // Declares an integer parameter of a function.
  RequestBuilder& parameter(std::string_view name);

  // The request so far; more can be added afterwards. InvalidArgument names what cannot be written.
  [[nodiscard]] Result<Request> build() const;

 private:
  friend class BufferBuilder;
  friend class KernelBuilder;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What one run of a plan or function changes of its template. What is not named keeps the
// template's own binding, never that of an earlier run.
class KAAS_API Bindings {
 public:
  Bindings();
  ~Bindings();
  Bindings(const Bindings& other);
  Bindings(Bindings&& other) noexcept;
  Bindings& operator=(Bindings other) noexcept;

  Bindings& at(std::string_view buffer, std::string_view key);
  Bindings& at(std::string_view buffer, std::string_view key, std::uint64_t offset);
  // The run is refused where the template's bytes do not lie in the Buffer or Region. Only
  // in_segment() is held to lie in the segment alone.
  Bindings& in(std::string_view buffer, const Buffer& memory, std::uint64_t offset = 0);
  Bindings& in(std::string_view buffer, const Region& region, std::uint64_t offset = 0);
  Bindings& in_segment(std::string_view buffer, std::uint32_t segment, std::uint64_t offset);
  Bindings& inline_bytes(std::string_view buffer, std::span<const std::byte> bytes);
  Bindings& in_message(std::string_view buffer);
  Bindings& device_memory(std::string_view buffer, const IpcHandle& handle);

  // Another value for literal `literal` of kernel `kernel`, both counted from 0. The run is refused
  // where the template's literal is of another type. literal_bits() without a type is not checked:
  // the bits must be of the template's.
  Bindings& literal(std::uint16_t kernel, std::uint16_t literal, std::int32_t value);
  Bindings& literal(std::uint16_t kernel, std::uint16_t literal, std::uint32_t value);
  Bindings& literal(std::uint16_t kernel, std::uint16_t literal, std::int64_t value);
  Bindings& literal(std::uint16_t kernel, std::uint16_t literal, std::uint64_t value);
  Bindings& literal(std::uint16_t kernel, std::uint16_t literal, float value);
  Bindings& literal(std::uint16_t kernel, std::uint16_t literal, double value);
  Bindings& literal_bits(std::uint16_t kernel, std::uint16_t literal, std::uint64_t bits);
  Bindings& literal_bits(std::uint16_t kernel, std::uint16_t literal, LiteralType type,
                         std::uint64_t bits);
  Bindings& raw(std::uint16_t kernel, std::uint16_t literal, std::span<const std::byte> bytes);

  [[nodiscard]] bool empty() const noexcept;
  void clear() noexcept;

 private:
  friend struct BindingsAccess;
  struct Impl;
  BindingData& bind(std::string_view buffer);
  Bindings& in_memory(std::string_view buffer, std::uint32_t segment, std::uint64_t offset,
                      const std::optional<MemoryPart>& memory);
  LiteralOverrideData& replace(std::uint16_t kernel, std::uint16_t literal);
  std::unique_ptr<Impl> impl_;  // Null while empty.
};

// A value of a function's integer parameter.
struct Parameter {
  std::string name;
  std::int64_t value = 0;
};

struct RunOptions {
  int priority = 0;  // -100 .. 100, higher first; below 0 it leaves part of a GPU to others.
  // Queued work is dropped then; running work is answered DeadlineExceeded.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  std::uint64_t tag = 0;  // The caller's own: shown in lists and logs, returned in Reply.
  bool profile = false;   // Stage times and counters in the reply.
  std::string tenant;
  // Numbers of registered events (Client::register_event), at most 16 each. The run reads nothing
  // before what they were recorded after has ended; it records the others when its outputs are
  // there, before the answer.
  std::vector<std::uint32_t> wait_events;
  std::vector<std::uint32_t> record_events;

  [[nodiscard]] bool operator==(const RunOptions&) const = default;
};

}  // namespace v1
}  // namespace kaas
