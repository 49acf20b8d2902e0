// Versions: copied, donated, outputs and their life.
#include <linux/memfd.h>
#include <sys/stat.h>

#include <cstring>

#include "daemon/store/store.h"
#include "schema/ipc/segment.h"
#include "tests/unit/store/store_fixture.h"

namespace kaas {
namespace {

using StoreVersions = StoreFixture;

OutputSlice slice(std::uint64_t offset, const Bytes& bytes) {
  return OutputSlice{offset, bytes.size(), from(bytes)};
}
OutputSlice written(std::uint64_t offset, std::uint64_t bytes) {
  return OutputSlice{offset, bytes, std::nullopt};
}
Bytes overlaid(Bytes base, std::uint64_t offset, const Bytes& bytes) {
  std::copy(bytes.begin(), bytes.end(), base.begin() + static_cast<std::ptrdiff_t>(offset));
  return base;
}

TEST_F(StoreVersions, EachSizeComesBackAsPut) {
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{64}, std::uint64_t{65},
        kSlabObjectBytesMax, kSlabObjectBytesMax + 1, std::uint64_t{5u << 20}}) {
    const Bytes made = pattern(bytes, 3);
    const VersionRef version = put(kAlice, "x", made);
    EXPECT_EQ(version->is_small(), bytes <= kSlabObjectBytesMax);
    EXPECT_EQ(contents(version), made) << bytes;
    EXPECT_EQ(contents(*store.readable_place(version, kAlice)), made) << bytes;
  }
}

TEST_F(StoreVersions, BytesAreReadFromADescriptorThatMayEndEarly) {
  const Bytes bytes = pattern(100'000, 1);
  const Descriptor file = donation(bytes, 0);
  for (const std::uint64_t wanted : {std::uint64_t{1000}, std::uint64_t{90'000}}) {
    const auto made = store.put_bytes(kAlice, "x", FileRange{file.get(), 10'000, wanted});
    ASSERT_TRUE(made) << to_string(made.error());
    EXPECT_EQ(contents(*made), Bytes(bytes.begin() + 10'000,
                                     bytes.begin() + 10'000 + static_cast<std::ptrdiff_t>(wanted)));
  }
  const std::uint64_t used = budget.used_bytes();
  ASSERT_EQ(::ftruncate(file.get(), 50'000), 0);
  const auto cut = store.put_bytes(kAlice, "x", FileRange{file.get(), 10'000, 90'000});
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, StatusCode::InvalidArgument);
  EXPECT_EQ(cut.error().message,
            "shared memory ends after 50000 bytes, wanted 90000 at offset 10000");
  EXPECT_EQ(budget.used_bytes(), used);
  EXPECT_FALSE(store.put_bytes(kAlice, "x", FileRange{-1, 0, 10}));
}

TEST_F(StoreVersions, LargeObjectIsFrozenAndItsDescriptorReadOnly) {
  const VersionRef version = put(kAlice, "x", pattern(kLargeBytes, 1));
  const int descriptor = version->segment()->descriptor.get();
  EXPECT_EQ(::fcntl(descriptor, F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_TRUE(has_seals(seals_of(descriptor), Seals::Size | Seals::Write | Seals::Seal));
  const Result<Mapping> mapped =
      Mapping::create(descriptor, version->bytes(), Mapping::Mode::ReadOnly, "object");
  ASSERT_TRUE(mapped) << to_string(mapped.error());
  EXPECT_EQ(std::memcmp(mapped->data(), pattern(kLargeBytes, 1).data(), kLargeBytes), 0);
}

TEST_F(StoreVersions, DonatedMemoryBecomesTheObjectItself) {
  const Bytes bytes = pattern(kLargeBytes, 1);
  Descriptor memory = donation(bytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  struct stat given {};
  ASSERT_EQ(::fstat(memory.get(), &given), 0);
  const auto version = store.put_donated(kAlice, "x", std::move(memory), kLargeBytes);
  ASSERT_TRUE(version) << to_string(version.error());
  struct stat kept {};
  ASSERT_EQ(::fstat((*version)->segment()->descriptor.get(), &kept), 0);
  EXPECT_EQ(given.st_ino, kept.st_ino);
  EXPECT_EQ(contents(*version), bytes);
  EXPECT_TRUE(has_seals(seals_of((*version)->segment()->descriptor.get()), Seals::Seal));
  EXPECT_GE(budget.used_bytes(), kLargeBytes);
}

TEST_F(StoreVersions, DonationThroughAReadOnlyDescriptorIsFine) {
  Descriptor memory = donation(pattern(kLargeBytes, 1), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  Descriptor read_only = *reopen_read_only(memory.get());
  EXPECT_TRUE(store.put_donated(kAlice, "x", std::move(read_only), kLargeBytes));
}

TEST_F(StoreVersions, SmallDonationIsCopiedAndItsMemoryLetGo) {
  const std::size_t before = open_descriptors();
  const auto version = store.put_donated(kAlice, "x", donation(pattern(500, 1)), 500);
  ASSERT_TRUE(version) << to_string(version.error());
  EXPECT_TRUE((*version)->is_small());
  EXPECT_EQ(contents(*version), pattern(500, 1));
  EXPECT_EQ(open_descriptors(), before + 1);  // The slab's.
}

struct BadDonation {
  const char* name;
  Descriptor (*make)();
  std::uint64_t stated;
  const char* says;
};

Descriptor pages_behind_the_end() {
  Descriptor memory(::memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::ftruncate(memory.get(), kLargeBytes), 0);
  EXPECT_EQ(::fallocate(memory.get(), FALLOC_FL_KEEP_SIZE, 0, 16 << 20), 0);
  EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, kAllDonationSeals), 0);
  return memory;
}

Descriptor pipe_end() {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[1]);
  return Descriptor(ends[0]);
}

const BadDonation kBadDonations[] = {
    {"unsealed", [] { return donation(pattern(kLargeBytes, 1), 0); }, kLargeBytes,
     "SHRINK or GROW WRITE"},
    {"not write-sealed",
     [] { return donation(pattern(kLargeBytes, 1), F_SEAL_SHRINK | F_SEAL_GROW); }, kLargeBytes,
     "lacks seals: WRITE"},
    {"may grow", [] { return donation(pattern(kLargeBytes, 1), F_SEAL_SHRINK | F_SEAL_WRITE); },
     kLargeBytes, "SHRINK or GROW"},
    {"future write only",
     [] {
       return donation(pattern(kLargeBytes, 1), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE);
     },
     kLargeBytes, "lacks seals: WRITE"},
    {"larger than stated", [] { return donation(pattern(kLargeBytes, 1)); }, kLargeBytes - 1,
     "stated are"},
    {"smaller than stated", [] { return donation(pattern(kLargeBytes, 1)); }, kLargeBytes + 1,
     "stated are"},
    {"pages behind the end", pages_behind_the_end, kLargeBytes, "occupies"},
    {"a pipe", pipe_end, kLargeBytes, "not shared memory"},
    {"a file of another kind",
     [] { return Descriptor(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)); }, 0,
     "not ordinary shared memory"},
    {"nothing", [] { return Descriptor(); }, kLargeBytes, "fstat"},
};

TEST_F(StoreVersions, BadDonationsAreRefusedWithTheReasonAndClosed) {
  for (const BadDonation& bad : kBadDonations) {
    const std::size_t before = open_descriptors();
    const auto refused = store.put_donated(kAlice, "x", bad.make(), bad.stated);
    ASSERT_FALSE(refused) << bad.name;
    EXPECT_EQ(refused.error().code, StatusCode::InvalidArgument) << bad.name;
    EXPECT_NE(refused.error().message.find(bad.says), std::string::npos)
        << bad.name << ": " << refused.error().message;
    EXPECT_EQ(open_descriptors(), before) << bad.name;
    EXPECT_EQ(budget.used_bytes(), 0u) << bad.name;
  }
}

TEST_F(StoreVersions, HugePageMemoryIsRefused) {
  Descriptor memory(::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (!memory) GTEST_SKIP() << "no huge pages here: " << std::strerror(errno);
  ASSERT_EQ(::ftruncate(memory.get(), 2 << 20), 0);
  ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, kAllDonationSeals), 0);
  const auto refused = store.put_donated(kAlice, "x", std::move(memory), 2 << 20);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("MFD_HUGETLB"), std::string::npos);
}

TEST_F(StoreVersions, SmallOutputIsPendingUntilItsBytesAreThere) {
  // A piece with old bytes of the same uid: none of them may show.
  put(kAlice, "old", Bytes(1000, std::byte{0xee}));
  const VersionRef keeps_the_slab = put(kAlice, "other", pattern(10, 1));
  EXPECT_TRUE(store.remove(kAlice, "old"));
  const VersionRef output = *store.create_output(kAlice, "x", 1000);
  EXPECT_EQ(output->state(), ObjectVersion::State::Pending);
  EXPECT_TRUE(output->small_bytes().empty());
  EXPECT_EQ(store.readable_place(output, kAlice).error().code, StatusCode::Unavailable);
  const Bytes bytes = pattern(20, 2);
  const OutputSlice filled = slice(10, bytes);
  ASSERT_TRUE(store.settle(output, nullptr, {&filled, 1}));
  EXPECT_EQ(contents(output), overlaid(Bytes(1000), 10, bytes));
}

TEST_F(StoreVersions, LargeOutputIsWrittenByTheExecutorThenSealed) {
  const Bytes bytes = pattern(kLargeBytes, 5);
  const VersionRef output = *store.create_output(kAlice, "x", kLargeBytes);
  EXPECT_EQ(output->segment(), nullptr);
  ASSERT_NE(output->output_segment(), nullptr);
  EXPECT_TRUE(output->output_segment()->writable);
  const Descriptor executors = *duplicate(output->output_segment()->descriptor.get());
  const std::uint32_t writable_id = output->output_segment()->id;
  {
    const Mapping mapping =
        *Mapping::create(executors.get(), kLargeBytes, Mapping::Mode::ReadWrite, "output");
    std::memcpy(mapping.data(), bytes.data(), bytes.size());
  }
  const OutputSlice all = written(0, kLargeBytes);
  ASSERT_TRUE(store.settle(output, nullptr, {&all, 1}));
  EXPECT_EQ(output->output_segment(), nullptr);
  EXPECT_EQ(registry.find(writable_id), nullptr);
  EXPECT_NE(output->segment()->id, writable_id);
  EXPECT_EQ(contents(output), bytes);
  // The executor's descriptor writes nothing any more.
  EXPECT_EQ(::pwrite(executors.get(), "x", 1, 0), -1);
  EXPECT_FALSE(Mapping::create(executors.get(), kLargeBytes, Mapping::Mode::ReadWrite, "output"));
  EXPECT_EQ(::fcntl(executors.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
  EXPECT_EQ(::ftruncate(executors.get(), 0), -1);
}

TEST_F(StoreVersions, OutputThatTheExecutorSealedItselfIsAViolation) {
  const VersionRef output = *store.create_output(kAlice, "x", kLargeBytes);
  ASSERT_EQ(::fcntl(output->output_segment()->descriptor.get(), F_ADD_SEALS, F_SEAL_SEAL), 0);
  const OutputSlice all = written(0, kLargeBytes);
  const Result<void> settled = store.settle(output, nullptr, {&all, 1});
  ASSERT_FALSE(settled);
  EXPECT_EQ(settled.error().code, StatusCode::ProtocolViolation);
  EXPECT_EQ(output->state(), ObjectVersion::State::Failed);
  EXPECT_EQ(store.readable_place(output, kAlice).error().code, StatusCode::DependencyFailed);
}

TEST_F(StoreVersions, OverlayReplacesSlicesOfTheBaseAndZeroesTheRest) {
  const Bytes first = pattern(100, 11);
  const Bytes second = pattern(50, 12);
  for (const std::uint64_t base_bytes : {std::uint64_t{300}, kLargeBytes, kLargeBytes + 20'000}) {
    for (const std::uint64_t bytes : {std::uint64_t{1000}, kLargeBytes + 10'000}) {
      const Bytes old = pattern(base_bytes, 10);
      const VersionRef base = put(kAlice, "base", old);
      const VersionRef output = *store.create_output(kAlice, "x", bytes);
      const OutputSlice slices[] = {slice(200, first), slice(280, second)};
      ASSERT_TRUE(store.settle(output, base, slices));
      Bytes expected(old.begin(),
                     old.begin() + static_cast<std::ptrdiff_t>(std::min(base_bytes, bytes)));
      expected.resize(bytes);
      expected = overlaid(overlaid(expected, 200, first), 280, second);
      EXPECT_EQ(contents(output), expected) << base_bytes << " under " << bytes;
    }
  }
}

TEST_F(StoreVersions, OverlayKeepsWhatTheExecutorWroteItself) {
  const Bytes old = pattern(kLargeBytes, 1);
  const Bytes fresh = pattern(5000, 2);
  const VersionRef base = put(kAlice, "x", old);
  const VersionRef output = *store.create_output(kAlice, "x", kLargeBytes);
  write_descriptor(output->output_segment()->descriptor.get(), 7000, fresh);
  const OutputSlice slices[] = {written(7000, fresh.size()),
                                written(8000, 10)};  // One in the other.
  ASSERT_TRUE(store.settle(output, base, slices));
  EXPECT_EQ(contents(output), overlaid(old, 7000, fresh));
}

TEST_F(StoreVersions, SlicesOutsideTheObjectFailTheVersion) {
  const Bytes bytes = pattern(10, 1);
  for (const OutputSlice& bad : {slice(95, bytes), slice(~std::uint64_t{0} - 3, bytes),
                                 OutputSlice{0, 20, from(bytes)}, written(0, 10)}) {
    const VersionRef output = *store.create_output(kAlice, "x", 100);
    const Result<void> settled = store.settle(output, nullptr, {&bad, 1});
    ASSERT_FALSE(settled);
    EXPECT_EQ(settled.error().code, StatusCode::InvalidArgument);
    EXPECT_EQ(output->state(), ObjectVersion::State::Failed);
  }
}

TEST_F(StoreVersions, OverlayOfAFailedBaseFails) {
  const VersionRef base = *store.create_output(kAlice, "x", 100);
  Store::fail(base);
  const VersionRef output = *store.create_output(kAlice, "x", 100);
  EXPECT_EQ(store.settle(output, base, {}).error().code, StatusCode::DependencyFailed);
}

TEST_F(StoreVersions, FailedOutputGivesEverythingBack) {
  const std::size_t before = open_descriptors();
  for (const std::uint64_t bytes : {std::uint64_t{100}, kLargeBytes}) {
    const VersionRef output = *store.create_output(kAlice, "x", bytes);
    Store::fail(output);
    EXPECT_EQ(output->state(), ObjectVersion::State::Failed);
    EXPECT_EQ(output->segment(), nullptr);
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(budget.used_bytes(), 0u);
  EXPECT_EQ(dropped_versions.ids().size(), 2u);
}

TEST_F(StoreVersions, ForeignExecutorGetsASmallObjectInASlabOfItsOwnUidOnce) {
  const Bytes bytes = pattern(700, 4);
  put(kAlice, "secret", pattern(700, 5));
  VersionRef version = put(kAlice, "x", bytes);
  const BytesPlace own = *store.readable_place(version, kAlice);
  const BytesPlace bobs = *store.readable_place(version, kBob);
  EXPECT_EQ(own.segment->owner_uid, kAlice);
  EXPECT_EQ(bobs.segment->owner_uid, kBob);
  EXPECT_EQ(contents(bobs), bytes);
  const BytesPlace again = *store.readable_place(version, kBob);
  EXPECT_EQ(again.segment->id, bobs.segment->id);
  EXPECT_EQ(again.offset, bobs.offset);
  EXPECT_EQ(store.slab_usage().pieces, 3u);
  version.reset();
  EXPECT_TRUE(store.remove(kAlice, "x"));
  EXPECT_EQ(store.slab_usage().pieces, 1u);
}

TEST_F(StoreVersions, ForeignExecutorGetsALargeObjectAsItIs) {
  const VersionRef version = put(kAlice, "x", pattern(kLargeBytes, 1));
  EXPECT_EQ(store.readable_place(version, kBob)->segment, version->segment());
}

}  // namespace
}  // namespace kaas
