#include "schema/ipc/segment.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "tests/unit/ipc/open_descriptors.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 8192;

Descriptor make() {
  auto made = create_segment("test", kBytes);
  EXPECT_TRUE(made.has_value());
  return *std::move(made);
}

bool can_map_writable(int descriptor) {
  void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) return false;
  ::munmap(memory, kBytes);
  return true;
}

TEST(Segment, IsZeroAndCannotChangeItsSize) {
  const Descriptor segment = make();
  EXPECT_NE(::ftruncate(segment.get(), kBytes / 2), 0);
  EXPECT_NE(::ftruncate(segment.get(), kBytes * 2), 0);
  EXPECT_EQ(*segment_bytes_of(segment.get(), "it"), kBytes);
  const auto mapping = Mapping::create(segment.get(), kBytes, Mapping::Mode::ReadOnly, "it");
  ASSERT_TRUE(mapping.has_value());
  for (std::size_t i = 0; i < kBytes; ++i) ASSERT_EQ(mapping->data()[i], std::byte{0});
}

TEST(Segment, IsClosedAtExec) {
  const Descriptor segment = make();
  EXPECT_NE(::fcntl(segment.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(reopen_read_only(segment.get())->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(duplicate(segment.get())->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(Segment, ReadOnlyDescriptorCanNeitherWriteNorMapWritableNorSeal) {
  const Descriptor segment = make();
  const auto read_only = reopen_read_only(segment.get());
  ASSERT_TRUE(read_only.has_value());
  const char byte = 1;
  EXPECT_LT(::pwrite(read_only->get(), &byte, 1, 0), 0);
  EXPECT_FALSE(can_map_writable(read_only->get()));
  EXPECT_FALSE(add_seals(read_only->get(), Seals::Write).has_value());
  EXPECT_TRUE(Mapping::create(read_only->get(), kBytes, Mapping::Mode::ReadOnly, "it").has_value());
}

TEST(Segment, FutureWriteSealLeavesTheOneWriterAndNobodyElse) {
  const Descriptor segment = make();
  const auto writer = Mapping::create(segment.get(), kBytes, Mapping::Mode::ReadWrite, "it");
  ASSERT_TRUE(writer.has_value());
  ASSERT_TRUE(add_seals(segment.get(), Seals::FutureWrite | Seals::Seal).has_value());
  EXPECT_FALSE(can_map_writable(segment.get()));
  const char byte = 1;
  EXPECT_LT(::pwrite(segment.get(), &byte, 1, 0), 0);
  writer->data()[3] = std::byte{42};
  const auto read_only = reopen_read_only(segment.get());
  const auto reader = Mapping::create(read_only->get(), kBytes, Mapping::Mode::ReadOnly, "it");
  ASSERT_TRUE(reader.has_value());
  EXPECT_EQ(reader->data()[3], std::byte{42});
  EXPECT_FALSE(add_seals(segment.get(), Seals::Write).has_value()) << "SEAL is the last one";
}

TEST(Segment, WriteSealFailsWhileSomebodyMapsItWritable) {
  const Descriptor segment = make();
  {
    const auto writer = Mapping::create(segment.get(), kBytes, Mapping::Mode::ReadWrite, "it");
    ASSERT_TRUE(writer.has_value());
    EXPECT_FALSE(add_seals(segment.get(), Seals::Write).has_value());
  }
  EXPECT_TRUE(add_seals(segment.get(), Seals::Write).has_value());
}

TEST(Segment, SealsAreReadBack) {
  const Descriptor segment = make();
  EXPECT_TRUE(has_seals(seals_of(segment.get()), Seals::Size));
  EXPECT_FALSE(has_seals(seals_of(segment.get()), Seals::Write));
  ASSERT_TRUE(add_seals(segment.get(), Seals::Write | Seals::Seal).has_value());
  EXPECT_TRUE(has_seals(seals_of(segment.get()), Seals::Size | Seals::Write | Seals::Seal));
  EXPECT_EQ(seals_of(-1), Seals::None);
}

TEST(Segment, WhatIsNoMemoryHasNoSize) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Descriptor a(ends[0]);
  const Descriptor b(ends[1]);
  const auto size = segment_bytes_of(a.get(), "the pipe");
  ASSERT_FALSE(size.has_value());
  EXPECT_EQ(size.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(size.error().message.find("the pipe"), std::string::npos);
  EXPECT_EQ(seals_of(a.get()), Seals::None);
}

TEST(Segment, MappingThatIsRefusedNamesTheSegment) {
  const auto mapping = Mapping::create(-1, kBytes, Mapping::Mode::ReadOnly, "arena");
  ASSERT_FALSE(mapping.has_value());
  EXPECT_NE(mapping.error().message.find("arena"), std::string::npos);
}

TEST(Segment, NothingStaysOpen) {
  const std::size_t before = open_descriptors();
  {
    const Descriptor segment = make();
    const auto copy = duplicate(segment.get());
    const auto read_only = reopen_read_only(segment.get());
    const auto mapping = Mapping::create(segment.get(), kBytes, Mapping::Mode::ReadWrite, "it");
    EXPECT_GT(open_descriptors(), before);
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace kaas
