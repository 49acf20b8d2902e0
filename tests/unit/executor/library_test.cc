// Libraries as files: who may have written them, what is wrong with them, versions on disk.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "daemon/executor/device/host_device.h"
#include "daemon/executor/library/elf_file.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

namespace fs = std::filesystem;

SeenFile seen_file(const fs::path& path) {
  SeenFile seen;
  seen.path = path.string();
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    seen.file_bytes = static_cast<std::uint64_t>(status.st_size);
    seen.mtime_ns = status.st_mtim.tv_sec * 1'000'000'000ll + status.st_mtim.tv_nsec;
    seen.inode = status.st_ino;
  }
  return seen;
}

fs::path fixture(const std::string& name) {
  const char* build = std::getenv("KAAS_TEST_BINARY_DIR");
  return fs::path(build == nullptr ? "." : build) / "tests/lib/executor" / (name + ".so");
}

class LibraryTest : public testing::Test {
 protected:
  LibraryTest() {
    std::string name = (fs::temp_directory_path() / "kaas-library-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  ~LibraryTest() override {
    fs::permissions(folder_, fs::perms::owner_all);
    fs::remove_all(folder_);
  }

  // A private copy of a fixture, replacing the file of that name as a linker does: a new inode.
  fs::path put(const std::string& name, const std::string& as = "lib.so") {
    const fs::path path = folder_ / as;
    fs::remove(path);
    fs::copy_file(fixture(name), path);
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    return path;
  }
  Result<std::shared_ptr<OpenedLibrary>> open(const fs::path& path) {
    return opener_.open(seen_file(path));
  }
  void expect_refused(const fs::path& path, StatusCode code, const std::string& message) {
    const auto library = open(path);
    ASSERT_FALSE(library.has_value());
    EXPECT_EQ(library.error().code, code);
    EXPECT_NE(library.error().message.find(message), std::string::npos) << library.error().message;
    EXPECT_NE(library.error().message.find(path.string()), std::string::npos)
        << library.error().message;
  }
  std::vector<std::uint32_t> call(OpenedLibrary& library) {
    bool first = false;
    const auto entry = library.find("value", first);
    EXPECT_TRUE(entry.has_value());
    std::vector<std::uint32_t> out(2);
    std::uint32_t* address = out.data();
    void* params[] = {&address};
    kaas_launch shape{};
    (*entry)->host_blocks(&shape, 0, 1, params, nullptr);
    return out;
  }

  HostDevice device_{1u << 20, 2};
  FileLibraryOpener opener_{device_, LibraryTrust{::geteuid()}};
  fs::path folder_;
};

TEST_F(LibraryTest, GoodLibraryIsOpenedAndClosed) {
  ::unsetenv("KAAS_FIXTURE_CLOSED");
  {
    const auto library = open(put("fixture_good"));
    ASSERT_TRUE(library.has_value()) << library.error().message;
    EXPECT_EQ((*library)->name(), "fixture");
    EXPECT_EQ((*library)->kernel_names(), (std::vector<std::string>{"print", "value"}));
    EXPECT_FALSE((*library)->stateful());
    EXPECT_EQ(call(**library)[0], 1u);
    EXPECT_EQ(std::getenv("KAAS_FIXTURE_CLOSED"), nullptr);
  }
  EXPECT_STREQ(std::getenv("KAAS_FIXTURE_CLOSED"), "yes");
}

TEST_F(LibraryTest, NewFileUnderTheSameNameGivesNewCodeAndTheOldOneStays) {
  const auto first = open(put("fixture_good"));
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(call(**first), (std::vector<std::uint32_t>{1, 1}));
  const auto second = open(put("fixture_good2"));
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(call(**second), (std::vector<std::uint32_t>{2, 1}));
  const auto third = open(put("fixture_good"));
  ASSERT_TRUE(third.has_value());
  EXPECT_EQ(call(**third), (std::vector<std::uint32_t>{1, 1}))
      << "it shares nothing with the first";
  EXPECT_EQ(call(**first), (std::vector<std::uint32_t>{1, 2}));
}

TEST_F(LibraryTest, DescriptorNumbersOfClosedLibrariesComeBackWithOtherCode) {
  for (int round = 0; round < 10; ++round) {
    EXPECT_EQ(call(**open(put("fixture_good"))), (std::vector<std::uint32_t>{1, 1}));
    EXPECT_EQ(call(**open(put("fixture_good2"))), (std::vector<std::uint32_t>{2, 1}));
  }
}

TEST_F(LibraryTest, OriginalFormIsFoundBySymbol) {
  const auto library = open(put("fixture_original"));
  ASSERT_TRUE(library.has_value()) << library.error().message;
  EXPECT_EQ((*library)->kernel_names(), (std::vector<std::string>{"say", "twice"}));
  EXPECT_TRUE((*library)->stateful()) << "nothing is known of it";
  bool first = false;
  const auto entry = (*library)->find("twice", first);
  ASSERT_TRUE(entry.has_value());
  EXPECT_TRUE(first);
  EXPECT_NE((*entry)->original, nullptr);
  // What the library depends on is not its own.
  const auto foreign = (*library)->find("printf", first);
  ASSERT_FALSE(foreign.has_value());
  EXPECT_EQ(foreign.error().code, StatusCode::NotFound);
  EXPECT_EQ((*library)->find("twise", first).error().message,
            "library 'lib.so' has no kernel 'twise'; nearest: 'twice'");
}

TEST_F(LibraryTest, VersionMismatchNamesBothVersions) {
  expect_refused(put("fixture_abi"), StatusCode::VersionMismatch,
                 "has kernel ABI version 2; this executor has kernel ABI version 1");
  expect_refused(put("fixture_small"), StatusCode::VersionMismatch, "has a table of 64 bytes");
  expect_refused(put("fixture_future"), StatusCode::VersionMismatch,
                 "has 'kaas_library_v2' and no 'kaas_library_v1'");
}

TEST_F(LibraryTest, WrongTablesAreRefused) {
  expect_refused(put("fixture_magic"), StatusCode::InvalidArgument, "something else");
  expect_refused(put("fixture_signature"), StatusCode::InvalidArgument,
                 "kernel 'value': signature 'Pz' is not understood at character 1");
  expect_refused(put("fixture_twice"), StatusCode::InvalidArgument, "two kernels 'value'");
  expect_refused(put("fixture_ways"), StatusCode::InvalidArgument,
                 "kernel 'value' has 2 ways to run");
  expect_refused(put("fixture_null"), StatusCode::ResourceExhausted, "could not build its table");
}

TEST_F(LibraryTest, FailedOpenHookRefusesTheLibraryAndIsNotClosed) {
  ::unsetenv("KAAS_FIXTURE_CLOSED");
  expect_refused(put("fixture_open"), StatusCode::InvalidArgument,
                 "its open hook failed (4): no licence");
  EXPECT_EQ(std::getenv("KAAS_FIXTURE_CLOSED"), nullptr);
}

TEST_F(LibraryTest, FilesThatAreNoLibraryAreRefused) {
  expect_refused(folder_ / "absent.so", StatusCode::NotFound, "No such file");
  const fs::path text = folder_ / "text.so";
  std::ofstream(text) << "not a library, but longer than an ELF header would be, to be fair\n";
  ::chmod(text.c_str(), 0644);
  expect_refused(text, StatusCode::InvalidArgument, "is not an ELF file");
  const fs::path source = folder_ / "kernels.cu";
  std::ofstream(source) << "__global__ void f() {}\n";
  ::chmod(source.c_str(), 0644);
  expect_refused(source, StatusCode::InvalidArgument, "is CUDA code; this device is host");
  const fs::path empty = folder_ / "empty.so";
  std::ofstream(empty).close();
  ::chmod(empty.c_str(), 0644);
  expect_refused(empty, StatusCode::InvalidArgument, "is empty");
  expect_refused(folder_, StatusCode::InvalidArgument, "is not a regular file");
  const fs::path fifo = folder_ / "fifo.so";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_refused(fifo, StatusCode::InvalidArgument, "is not a regular file");
  expect_refused(put("fixture_empty"), StatusCode::InvalidArgument, "nor any function");
  EXPECT_EQ(opener_.open({"lib.so", 0, 0, 0}).error().code, StatusCode::InvalidArgument);
}

// Where the last segment of a shared object ends.
std::uint64_t end_of_segments(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header{};
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  file.seekg(static_cast<std::streamoff>(header.e_phoff));
  file.read(reinterpret_cast<char*>(segments.data()),
            static_cast<std::streamsize>(segments.size() * sizeof(Elf64_Phdr)));
  std::uint64_t end = 0;
  for (const Elf64_Phdr& one : segments) end = std::max(end, one.p_offset + one.p_filesz);
  return end;
}

// Wherever it was cut off: a loader that maps what is not there faults.
TEST_F(LibraryTest, TruncatedLibraryIsRefused) {
  const std::uint64_t end = end_of_segments(put("fixture_good"));
  ASSERT_GT(end, 1000u);
  for (std::uint64_t bytes = 100; bytes < end; bytes += end / 16) {
    const fs::path path = put("fixture_good");
    fs::resize_file(path, bytes);
    const auto library = open(path);
    ASSERT_FALSE(library.has_value()) << bytes << " of " << end;
    EXPECT_EQ(library.error().code, StatusCode::InvalidArgument);
    EXPECT_NE(library.error().message.find("is damaged"), std::string::npos)
        << library.error().message;
    EXPECT_EQ(library.error().message.find("/proc/"), std::string::npos) << library.error().message;
  }
}

TEST_F(LibraryTest, FileThatOthersMayWriteIsRefused) {
  const fs::path path = put("fixture_good");
  for (const mode_t mode : {0620, 0602, 0666}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    expect_refused(path, StatusCode::PermissionDenied, "group or others may write it");
  }
  ASSERT_EQ(::chmod(path.c_str(), 0644), 0);
  EXPECT_TRUE(open(path).has_value());
}

TEST_F(LibraryTest, FolderThatOthersMayWriteIsRefusedStickyOrNot) {
  const fs::path path = put("fixture_good");
  for (const mode_t mode : {0770, 0777, 01777}) {
    ASSERT_EQ(::chmod(folder_.c_str(), mode), 0);
    expect_refused(path, StatusCode::PermissionDenied, "group or others may write it");
  }
  ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  EXPECT_TRUE(open(path).has_value());
}

TEST_F(LibraryTest, FolderHigherUpThatOthersMayWriteNeedsTheStickyBit) {
  const fs::path inner = folder_ / "inner";
  ASSERT_EQ(::mkdir(inner.c_str(), 0755), 0);
  const fs::path path = put("fixture_good", "inner/lib.so");
  ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
  expect_refused(path, StatusCode::PermissionDenied, "may replace what is in it");
  ASSERT_EQ(::chmod(folder_.c_str(), 01777), 0);
  EXPECT_TRUE(open(path).has_value());
}

TEST_F(LibraryTest, FileOfAnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  const fs::path path = put("fixture_good");
  ASSERT_EQ(::chown(path.c_str(), 12'345, 0), 0);
  expect_refused(path, StatusCode::PermissionDenied, "belongs to uid 12345, allowed: 0, 0");
  FileLibraryOpener theirs(device_, LibraryTrust{12'345});
  ASSERT_EQ(::chown(folder_.c_str(), 12'345, 0), 0);
  EXPECT_TRUE(theirs.open(seen_file(path)).has_value());
  ASSERT_EQ(::chown(path.c_str(), 54'321, 0), 0);
  EXPECT_FALSE(theirs.open(seen_file(path)).has_value());
}

TEST_F(LibraryTest, JoinedDomainTrustsNoFolderOfOthers) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a folder away";
  const fs::path inner = folder_ / "inner";
  ASSERT_EQ(::mkdir(inner.c_str(), 0755), 0);
  const fs::path path = put("fixture_good", "inner/lib.so");
  ASSERT_EQ(::chown(folder_.c_str(), 12'345, 0), 0);
  EXPECT_TRUE(open(path).has_value());
  FileLibraryOpener joined(device_, {.owner = 0, .is_joined = true});
  const auto refused = joined.open(seen_file(path));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("belongs to uid 12345, allowed: 0, 0 (a joined domain)"),
            std::string::npos)
      << refused.error().message;
  ASSERT_EQ(::chown(folder_.c_str(), 0, 0), 0);
  EXPECT_TRUE(joined.open(seen_file(path)).has_value());
}

TEST_F(LibraryTest, FileOtherThanTheOneSeenIsUnavailable) {
  const fs::path path = put("fixture_good");
  const SeenFile seen = seen_file(path);
  for (int field = 0; field < 3; ++field) {
    SeenFile other = seen;
    if (field == 0) ++other.file_bytes;
    if (field == 1) ++other.mtime_ns;
    if (field == 2) ++other.inode;
    const auto library = opener_.open(other);
    ASSERT_FALSE(library.has_value());
    EXPECT_EQ(library.error().code, StatusCode::Unavailable);
  }
  EXPECT_TRUE(opener_.open(seen).has_value());
}

TEST_F(LibraryTest, RunsOfAPlanGoOnWithTheVersionItWasLoadedWith) {
  HarnessOptions options;
  options.memory_bytes = 1u << 20;
  LoopHarness harness(options, device_, opener_);
  const auto load = [&](std::uint32_t number, const fs::path& path) {
    const SeenFile seen = seen_file(path);
    harness.send(wire::Work::LoadLibrary, [&](flatbuffers::FlatBufferBuilder& b) {
      return wire::CreateLoadLibrary(b, number, b.CreateString(seen.path), seen.file_bytes,
                                     seen.mtime_ns, seen.inode);
    });
    EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
    TestPlan plan;
    plan.plan = number;
    plan.kernels[0].library = number;
    plan.kernels[0].kernel = "value";
    plan.kernels[0].arguments = {argument(0, 8, wire::Access::Out)};
    plan.allocations = {8};
    plan.stores = {wire::PlanRange(0, 8, 0, false)};
    harness.load_plan(plan);
    EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  };
  auto& out = harness.segment(20, std::vector<std::uint32_t>(2));
  load(1, put("fixture_good"));
  load(2, put("fixture_good2"));
  harness.send(wire::Work::DropLibrary,
               [](flatbuffers::FlatBufferBuilder& b) { return wire::CreateDropLibrary(b, 1); });
  harness.run({.run = 1, .plan = 1, .stores = {at(20, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  EXPECT_EQ(out, (std::vector<std::uint32_t>{1, 1}));
  harness.run({.run = 2, .plan = 2, .stores = {at(20, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  EXPECT_EQ(out, (std::vector<std::uint32_t>{2, 1}));
}

TEST_F(LibraryTest, OriginalFormRunsInAPlanAndRefusesWhatItCannotTake) {
  HarnessOptions options;
  options.memory_bytes = 1u << 20;
  LoopHarness harness(options, device_, opener_);
  const SeenFile seen = seen_file(put("fixture_original"));
  harness.send(wire::Work::LoadLibrary, [&](flatbuffers::FlatBufferBuilder& b) {
    return wire::CreateLoadLibrary(b, 1, b.CreateString(seen.path), seen.file_bytes, seen.mtime_ns,
                                   seen.inode);
  });
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  TestPlan plan;
  plan.kernels[0].kernel = "twice";
  plan.kernels[0].grid = {2, 1, 1};
  plan.kernels[0].block = {3, 1, 1};
  plan.kernels[0].arguments = {argument(0, 24, wire::Access::In),
                               argument(1, 24, wire::Access::Out)};
  plan.allocations = {24, 24};
  plan.loads = {wire::PlanRange(0, 24, 0, false)};
  plan.stores = {wire::PlanRange(0, 24, 1, false)};
  harness.load_plan(plan);
  const SeenReport loaded = harness.only_report();
  EXPECT_EQ(loaded.code, StatusCode::Ok) << loaded.message;
  EXPECT_TRUE(loaded.stateful);
  harness.segment(20, {1, 2, 3, 4, 5, 6});
  auto& out = harness.segment(21, std::vector<std::uint32_t>(6));
  harness.run({.loads = {at(20, 0)}, .stores = {at(21, 0)}});
  EXPECT_EQ(harness.only_report().code, StatusCode::Ok);
  EXPECT_EQ(out, (std::vector<std::uint32_t>{2, 4, 6, 8, 10, 12}));

  plan.kernels[0].literals = {u64(1)};
  harness.load_plan(plan);
  EXPECT_NE(harness.only_report().message.find("no literals, given: 1"), std::string::npos);
  plan.kernels[0].literals.clear();
  plan.kernels[0].grid = {2, 2, 1};
  harness.load_plan(plan);
  EXPECT_NE(harness.only_report().message.find("one dimension"), std::string::npos);
}

TEST(ElfFile, AnyBytesAreLookedAtWithoutHarm) {
  std::ifstream file(fixture("fixture_good"), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), {});
  ASSERT_GT(good.size(), 1000u);
  std::uint64_t state = 7;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    for (int i = 0; i < 8; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      // Most of them in the header and the section table, where the offsets are.
      const std::size_t in_tail = bytes.size() - 1 - (state >> 33) % 2048;
      const std::size_t at = (state & 1) != 0 ? (state >> 33) % 64 : in_tail;
      bytes[at] = static_cast<char>(state >> 56);
    }
    if (round % 3 == 0) bytes.resize((state >> 20) % bytes.size());
    const auto span = std::as_bytes(std::span(bytes.data(), bytes.size()));
    static_cast<void>(check_shared_object(span, "x").has_value());
    EXPECT_LE(exported_functions(span).size(), bytes.size() / 24 + 64);
  }
}

}  // namespace
}  // namespace kaas
