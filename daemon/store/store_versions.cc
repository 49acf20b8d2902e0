// Making versions: copied, donated, or as outputs of requests.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "daemon/store/copy.h"
#include "daemon/store/store.h"
#include "daemon/store/store_core.h"
#include "schema/ipc/segment.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

std::string object_named(std::string_view key) {
  return "object '" + std::string(key) + "'";
}

// Bytes of pages that exist behind a descriptor.
std::uint64_t allocated_bytes(int descriptor) noexcept {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

// Memory of a large object: the writable side, and the read-only one that stays.
struct LargeMemory {
  Descriptor writable;
  SegmentRef segment;
  std::shared_ptr<Reservation> charge;
};

Result<LargeMemory> create_large(StoreCore& core, uid_t owner_uid, std::string_view key,
                                 std::uint64_t bytes) {
  LargeMemory memory;
  KAAS_ASSIGN_OR_RETURN(Reservation charge, core.budget.reserve(bytes, object_named(key)));
  memory.charge = std::make_shared<Reservation>(std::move(charge));
  KAAS_ASSIGN_OR_RETURN(memory.writable, create_segment("kaas-object", bytes));
  KAAS_ASSIGN_OR_RETURN(Descriptor read_only, reopen_read_only(memory.writable.get()));
  Segment segment;
  segment.descriptor = std::move(read_only);
  segment.bytes = bytes;
  segment.kind = SegmentKind::Object;
  segment.owner_uid = owner_uid;
  segment.charge = memory.charge;
  memory.segment = core.registry.add(std::move(segment));
  return memory;
}

// Fills a fresh object that nobody else has seen and freezes it.
Result<void> fill_large(const LargeMemory& memory, const ByteSource& source) {
  {
    KAAS_ASSIGN_OR_RETURN(const Mapping target,
                          Mapping::create(memory.writable.get(), memory.segment->bytes,
                                          Mapping::Mode::ReadWrite, "an object"));
    KAAS_RETURN_IF_ERROR(copy_bytes({target.data(), target.bytes()}, source));
  }
  KAAS_RETURN_IF_ERROR(add_seals(memory.writable.get(), Seals::Write | Seals::Seal));
  memory.charge->mark_touched();
  return {};
}

// Page sizes above this are not ordinary shared memory; below a huge page an object may hold one.
constexpr std::uint64_t kHugePageBytes = 2u << 20;

Status bad_donation(const std::string& why) {
  return Status{StatusCode::InvalidArgument, "donated memory " + why};
}

// Returns how many bytes of pages the donated memory has.
Result<std::uint64_t> check_donation(int descriptor, std::uint64_t bytes) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t found, segment_bytes_of(descriptor, "donated memory"));
  // Pages of a huge-page file may be missing when they are first read, which would kill us.
  struct statfs system {};
  if (::fstatfs(descriptor, &system) != 0 || system.f_type != TMPFS_MAGIC) {
    return bad_donation("is not ordinary shared memory (a memfd without MFD_HUGETLB)");
  }
  const Seals seals = seals_of(descriptor);
  if (!has_seals(seals, Seals::Size | Seals::Write)) {
    return bad_donation(
        std::string("lacks seals: ") + (has_seals(seals, Seals::Size) ? "" : "SHRINK or GROW ") +
        (has_seals(seals, Seals::Write) ? "" : "WRITE ") + "(needed: SHRINK, GROW, WRITE)");
  }
  if (found != bytes) {
    return bad_donation("has " + std::to_string(found) + " bytes, stated are " +
                        std::to_string(bytes));
  }
  // Pages can be allocated behind the end of a file, where no size shows them.
  const std::uint64_t allocated = allocated_bytes(descriptor);
  const std::uint64_t allowed = (bytes / kHugePageBytes + 1) * kHugePageBytes;
  if (allocated > allowed) {
    return bad_donation("occupies " + std::to_string(allocated) + " bytes for a size of " +
                        std::to_string(bytes));
  }
  // Best effort, see the header; EPERM through a read-only descriptor.
  if (!has_seals(seals, Seals::Seal)) (void)add_seals(descriptor, Seals::Seal);
  return allocated;
}

// A descriptor that can only read. The client's own is one already if it was opened so.
Result<Descriptor> read_only_descriptor(Descriptor donated) {
  const int flags = ::fcntl(donated.get(), F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY) return donated;
  return reopen_read_only(donated.get());
}

Result<void> check_slices(std::span<const OutputSlice> slices, std::uint64_t bytes, bool small) {
  for (const OutputSlice& slice : slices) {
    KAAS_RETURN_IF_ERROR(check_range("output slice", slice.offset, slice.bytes, bytes));
    if (slice.source && bytes_of(*slice.source) != slice.bytes) {
      return Status{StatusCode::InvalidArgument, "output slice of " + std::to_string(slice.bytes) +
                                                     " bytes has a source of " +
                                                     std::to_string(bytes_of(*slice.source))};
    }
    if (small && !slice.source) {
      return Status{StatusCode::InvalidArgument, "output slice of a small object has no source"};
    }
  }
  return {};
}

// The part of a gap that lies inside the base, as a source.
std::optional<ByteSource> base_source(const ObjectVersion* base, ByteGap& gap) {
  if (base == nullptr || gap.offset >= base->bytes()) return std::nullopt;
  gap.bytes = std::min(gap.bytes, base->bytes() - gap.offset);
  if (base->is_small()) return ByteSource(base->small_bytes().subspan(gap.offset, gap.bytes));
  return ByteSource(FileRange{base->segment()->descriptor.get(), gap.offset, gap.bytes});
}

Result<void> check_base(const ObjectVersion& base) {
  switch (base.state()) {
    case ObjectVersion::State::Ready:
      return {};
    case ObjectVersion::State::Lost:
      return base.loss();
    case ObjectVersion::State::Resident:
      return Status{StatusCode::Unavailable,
                    "the object that an output is a slice of was replaced meanwhile, by one that "
                    "is on a device"};
    case ObjectVersion::State::Pending:
    case ObjectVersion::State::Failed:
      break;
  }
  return Status{StatusCode::DependencyFailed,
                "the object that an output is a slice of was never completed"};
}

// `zero`: the target may hold old bytes.
Result<void> compose(std::span<std::byte> target, const ObjectVersion* base,
                     std::span<const OutputSlice> slices, bool zero) {
  for (ByteGap gap : gaps_between(slices, target.size())) {
    if (zero) std::memset(target.data() + gap.offset, 0, gap.bytes);
    const std::optional<ByteSource> source = base_source(base, gap);
    if (source) KAAS_RETURN_IF_ERROR(copy_bytes(target.subspan(gap.offset, gap.bytes), *source));
  }
  for (const OutputSlice& slice : slices) {
    if (!slice.source) continue;
    KAAS_RETURN_IF_ERROR(copy_bytes(target.subspan(slice.offset, slice.bytes), *slice.source));
  }
  return {};
}

// Whether kaasd itself has bytes to put into a large output.
bool needs_copy(std::uint64_t bytes, const ObjectVersion* base,
                std::span<const OutputSlice> slices) {
  const bool from_source = std::any_of(slices.begin(), slices.end(),
                                       [](const OutputSlice& s) { return s.source.has_value(); });
  if (from_source) return true;
  for (ByteGap gap : gaps_between(slices, bytes)) {
    if (base_source(base, gap)) return true;
  }
  return false;
}

// Nobody maps it writable or writes to it from now on; only a mapping that the executor kept
// against the protocol could, and that reaches no byte but those of its own domain's output.
// The seal WRITE would find such a mapping, but the kernel waits for pinned pages before it sets
// it, 150 ms for a peer that likes to pin some.
Result<void> seal_output(int descriptor) {
  const Result<void> sealed = add_seals(descriptor, Seals::FutureWrite | Seals::Seal);
  if (sealed) return {};
  return Status{StatusCode::ProtocolViolation,
                "the executor sealed an output itself (" + sealed.error().message + ")"};
}

}  // namespace

VersionRef Store::new_version(uid_t owner_uid, std::uint64_t bytes) const {
  return VersionRef(new ObjectVersion(core_, core_->account(owner_uid), owner_uid, bytes));
}

Result<VersionRef> Store::make_from_bytes(uid_t owner_uid, std::string_view key,
                                          const ByteSource& source) {
  const std::uint64_t bytes = bytes_of(source);
  VersionRef version;
  if (bytes <= kSlabObjectBytesMax) {
    KAAS_ASSIGN_OR_RETURN(SlabPiece piece,
                          core_->slabs.allocate(owner_uid, bytes, object_named(key)));
    KAAS_RETURN_IF_ERROR(copy_bytes(piece.bytes().first(bytes), source));
    version = new_version(owner_uid, bytes);
    version->piece_ = std::move(piece);
  } else {
    KAAS_ASSIGN_OR_RETURN(LargeMemory memory, create_large(*core_, owner_uid, key, bytes));
    KAAS_RETURN_IF_ERROR(fill_large(memory, source));
    version = new_version(owner_uid, bytes);
    version->segment_ = std::move(memory.segment);
  }
  version->state_.store(ObjectVersion::State::Ready, std::memory_order_release);
  return version;
}

Result<VersionRef> Store::adopt(uid_t owner_uid, std::string_view key, Descriptor donated,
                                std::uint64_t bytes) {
  KAAS_ASSIGN_OR_RETURN(const std::uint64_t allocated, check_donation(donated.get(), bytes));
  KAAS_ASSIGN_OR_RETURN(Descriptor read_only, read_only_descriptor(std::move(donated)));
  if (bytes <= kSlabObjectBytesMax) {
    return make_from_bytes(owner_uid, key, FileRange{read_only.get(), 0, bytes});
  }
  KAAS_ASSIGN_OR_RETURN(Reservation charge,
                        core_->budget.reserve_existing(bytes, object_named(key)));
  charge.mark_touched(std::min(bytes, allocated));
  Segment segment;
  segment.descriptor = std::move(read_only);
  segment.bytes = bytes;
  segment.kind = SegmentKind::Object;
  segment.owner_uid = owner_uid;
  segment.charge = std::make_shared<Reservation>(std::move(charge));
  VersionRef version = new_version(owner_uid, bytes);
  version->segment_ = core_->registry.add(std::move(segment));
  version->state_.store(ObjectVersion::State::Ready, std::memory_order_release);
  return version;
}

Result<VersionRef> Store::create_output(uid_t owner_uid, std::string_view key,
                                        std::uint64_t bytes) {
  if (bytes <= kSlabObjectBytesMax) {
    KAAS_ASSIGN_OR_RETURN(SlabPiece piece,
                          core_->slabs.allocate(owner_uid, bytes, object_named(key)));
    VersionRef version = new_version(owner_uid, bytes);
    version->piece_ = std::move(piece);
    return version;
  }
  KAAS_ASSIGN_OR_RETURN(LargeMemory memory, create_large(*core_, owner_uid, key, bytes));
  Segment output;
  output.descriptor = std::move(memory.writable);
  output.bytes = bytes;
  output.kind = SegmentKind::Object;
  output.writable = true;
  output.owner_uid = owner_uid;
  output.charge = memory.charge;
  VersionRef version = new_version(owner_uid, bytes);
  version->output_segment_ = core_->registry.add(std::move(output));
  version->segment_ = std::move(memory.segment);
  version->charge_ = std::move(memory.charge);
  return version;
}

Result<void> Store::settle(const VersionRef& version, const VersionRef& base,
                           std::span<const OutputSlice> slices) {
  const bool was_resident = version->state() == ObjectVersion::State::Resident;
  KAAS_CHECK(was_resident || version->state() == ObjectVersion::State::Pending);
  Result<void> done = compose_output(*version, base.get(), slices);
  if (!done && was_resident) {
    lose(version, done.error().message);
    return done;
  }
  version->output_segment_.reset();
  version->state_.store(done ? ObjectVersion::State::Ready : ObjectVersion::State::Failed,
                        std::memory_order_release);
  return done;
}

void Store::settle_on_device(const VersionRef& version, std::uint32_t executor,
                             const std::string& device) {
  KAAS_CHECK(version->state() == ObjectVersion::State::Pending);
  version->executor_ = executor;
  version->device_ = device;
  version->state_.store(ObjectVersion::State::Resident, std::memory_order_release);
}

// Nobody reads what is given back here: it is given out of Ready versions only.
void Store::lose(const VersionRef& version, const std::string& cause) {
  KAAS_CHECK(version->state() == ObjectVersion::State::Resident);
  version->loss_ =
      Status{StatusCode::DataLost, "the object was in the memory of device " + version->device_ +
                                       " only, and is lost: " + cause};
  version->output_segment_.reset();
  version->segment_.reset();
  version->charge_.reset();
  version->piece_ = SlabPiece();
  version->state_.store(ObjectVersion::State::Lost, std::memory_order_release);
}

Result<void> Store::compose_output(ObjectVersion& version, const ObjectVersion* base,
                                   std::span<const OutputSlice> slices) {
  const std::uint64_t bytes = version.bytes();
  if (base != nullptr) KAAS_RETURN_IF_ERROR(check_base(*base));
  KAAS_RETURN_IF_ERROR(check_slices(slices, bytes, version.is_small()));
  if (version.is_small()) {
    return compose(version.piece_.bytes().first(bytes), base, slices, true);
  }
  const int descriptor = version.output_segment_->descriptor.get();
  if (needs_copy(bytes, base, slices)) {
    KAAS_ASSIGN_OR_RETURN(
        const Mapping target,
        Mapping::create(descriptor, bytes, Mapping::Mode::ReadWrite, "an object"));
    KAAS_RETURN_IF_ERROR(compose({target.data(), target.bytes()}, base, slices, false));
  }
  KAAS_RETURN_IF_ERROR(seal_output(descriptor));
  version.charge_->mark_touched(std::min(bytes, allocated_bytes(descriptor)));
  return {};
}

void Store::fail(const VersionRef& version) noexcept {
  if (version->state() != ObjectVersion::State::Pending) return;
  version->output_segment_.reset();
  version->state_.store(ObjectVersion::State::Failed, std::memory_order_release);
}

void Store::retract(const VersionRef& version) noexcept {
  version->output_segment_.reset();
  version->state_.store(ObjectVersion::State::Failed, std::memory_order_release);
}

Result<BytesPlace> Store::readable_place(const VersionRef& version, uid_t domain_uid) {
  if (version->state() == ObjectVersion::State::Failed) {
    return Status{StatusCode::DependencyFailed, "the request that makes this object has failed"};
  }
  if (version->state() == ObjectVersion::State::Pending) {
    return Status{StatusCode::Unavailable, "the request that makes this object has not ended"};
  }
  if (version->state() == ObjectVersion::State::Lost) return version->loss();
  if (version->state() == ObjectVersion::State::Resident) {
    return Status{StatusCode::Unavailable, "the object is in the memory of a device only"};
  }
  const auto in_piece = [&version](const SlabPiece& piece) {
    return BytesPlace{piece.segment(), piece.offset(), version->bytes()};
  };
  if (!version->is_small()) return BytesPlace{version->segment_, 0, version->bytes()};
  if (version->owner_uid() == domain_uid) return in_piece(version->piece_);
  const std::lock_guard lock(version->copies_mutex_);
  const auto found = version->copies_.find(domain_uid);
  if (found != version->copies_.end()) return in_piece(found->second);
  KAAS_ASSIGN_OR_RETURN(SlabPiece copy,
                        core_->slabs.allocate(domain_uid, version->bytes(), "copy of an object"));
  const std::span<const std::byte> bytes = version->small_bytes();
  if (!bytes.empty()) std::memcpy(copy.bytes().data(), bytes.data(), bytes.size());
  return in_piece(version->copies_.emplace(domain_uid, std::move(copy)).first->second);
}

}  // namespace kaas
