// The tables of the libraries, as an executor reads them.
#include <filesystem>
#include <map>
#include <set>

#include "tests/unit/kernels/kernel_call.h"

namespace kaas {
namespace {

struct Expected {
  const char* signature;
  std::uint64_t shared_bytes;  // For a block of 100 threads.
};

// The published contract of the library that ships: changing a line breaks users.
const std::map<std::string, Expected> kStdKernels = {
    {"noop", {"", 0}},
    {"copy", {"QpP", 0}},
    {"fill_u32", {"QIP", 0}},
    {"fill_f32", {"QfP", 0}},
    {"add", {"QppP", 0}},
    {"product", {"QppP", 0}},
    {"scale", {"QfP", 0}},
    {"saxpy", {"QfpP", 0}},
    {"sum", {"QpP", 400}},
    {"max", {"QpP", 400}},
    {"converged", {"QfppP", 400}},
    {"sgemm", {"IIIffppP", 8192}},
    {"matmul", {"IIIppP", 8192}},
    {"jacobi", {"QpppP", 400}},
    {"softmax", {"QQpP", 400}},
    {"rgb_to_luma", {"QpP", 0}},
    {"gaussian_x", {"IIIpP", 516}},
    {"gaussian_y", {"IIIpP", 516}},
    {"sobel", {"IIpP", 0}},
    {"normalise", {"QppP", 0}},
};

void expect_sound_table(const kaas_library& library, bool for_host) {
  EXPECT_EQ(library.magic, KAAS_LIBRARY_MAGIC);
  EXPECT_EQ(std::memcmp(&library.magic, "KaaSlib", 8), 0);
  EXPECT_EQ(library.abi_version, KAAS_LIBRARY_ABI_VERSION);
  EXPECT_EQ(library.struct_size, sizeof(kaas_library));
  EXPECT_EQ(library.resolve == nullptr, for_host);
  for (const std::uint64_t reserved : library.reserved) EXPECT_EQ(reserved, 0U);
  std::set<std::string> names;
  for (std::uint32_t i = 0; i < library.kernel_count; ++i) {
    const kaas_kernel_descriptor& kernel = *kaas_kernel_at(&library, i);
    SCOPED_TRACE(kernel.name);
    EXPECT_TRUE(names.insert(kernel.name).second) << "the name is there twice";
    EXPECT_EQ(kernel.struct_size, sizeof(kernel));
    EXPECT_EQ(kernel.reserved0, 0U);
    for (const std::uint64_t reserved : kernel.reserved) EXPECT_EQ(reserved, 0U);
    const bool opaque = (kernel.flags & KAAS_OPAQUE) != 0;
    EXPECT_EQ(kernel.launch != nullptr, opaque);
    EXPECT_EQ(kernel.host_blocks != nullptr, for_host && !opaque);
    EXPECT_EQ(kernel.device_entry != nullptr, !for_host && !opaque);
    EXPECT_EQ(kernel.ending_entry != nullptr, !for_host && !opaque);
  }
}

// Those of every kernel that is written with KAAS_KERNEL.
std::uint32_t kernel_flags(const KernelDevice& device) {
  return device.kind() == KAAS_DEVICE_HOST ? 0U : KAAS_WAITS;
}

class LibraryTables : public KernelTest {};

TEST_F(LibraryTables, StdOffersItsPublishedKernels) {
  const KernelLibrary library(*device_, "std");
  EXPECT_STREQ(library.table().name, "std");
  EXPECT_EQ(library.table().flags, 0U);
  expect_sound_table(library.table(), device_->kind() == KAAS_DEVICE_HOST);
  EXPECT_EQ(library.table().kernel_count, kStdKernels.size());
  for (const auto& [name, expected] : kStdKernels) {
    const kaas_kernel_descriptor* kernel = library.find(name);
    ASSERT_NE(kernel, nullptr) << name;
    EXPECT_STREQ(kernel->signature, expected.signature) << name;
    EXPECT_EQ(kernel->flags, kernel_flags(*device_)) << name;
    EXPECT_EQ(kaas_shared_bytes(kernel, 0, 100), expected.shared_bytes) << name;
    EXPECT_EQ(kaas_shared_bytes(kernel, 100000, 100), 100000U) << name;
  }
}

TEST_F(LibraryTables, SignaturesNameEveryTypeInOrder) {
  const KernelLibrary library(*device_, "probe");
  expect_sound_table(library.table(), device_->kind() == KAAS_DEVICE_HOST);
  EXPECT_STREQ(library.find("parameters")->signature, "PiIqQfdb<24>");
  EXPECT_EQ(library.find("consume")->flags, KAAS_STATEFUL | kernel_flags(*device_));
}

TEST_F(LibraryTables, TheTableIsTheSameOnEveryCall) {
  const KernelLibrary library(*device_, "std");
  auto* function = reinterpret_cast<kaas_library_function>(library.symbol(KAAS_LIBRARY_SYMBOL));
  EXPECT_EQ(function(), &library.table());
}

// Two versions of a library in one process must not be bound to each other's code or statics.
TEST_F(LibraryTables, ACopyUnderAnotherNameIsALibraryOfItsOwn) {
  const std::string original_path = kernel_library_path("std" + device_->library_suffix());
  const auto copy_path = std::filesystem::path(testing::TempDir()) /
                         ("kaas_copy_" + std::to_string(std::random_device{}()) + ".so");
  std::filesystem::copy_file(original_path, copy_path);
  const KernelLibrary original(original_path);
  const KernelLibrary copy(copy_path.string());
  std::filesystem::remove(copy_path);
  EXPECT_NE(&original.table(), &copy.table());
  EXPECT_EQ(original.table().kernel_count, kStdKernels.size());
  EXPECT_EQ(copy.table().kernel_count, kStdKernels.size());
  const kaas_kernel_descriptor* ours = original.find("saxpy");
  const kaas_kernel_descriptor* theirs = copy.find("saxpy");
  if (device_->kind() == KAAS_DEVICE_HOST) {
    EXPECT_NE(ours->host_blocks, theirs->host_blocks);
  } else {
    EXPECT_NE(ours->device_entry, theirs->device_entry);
  }
}

TEST_F(LibraryTables, AReaderStepsByTheSizeOfTheWriter) {
  struct Longer {
    kaas_kernel_descriptor descriptor;
    std::uint64_t appended[3];
  };
  std::vector<Longer> kernels(3);
  for (std::size_t i = 0; i < kernels.size(); ++i) {
    kernels[i].descriptor.struct_size = sizeof(Longer);
    kernels[i].descriptor.name = i == 2 ? "last" : "other";
  }
  kaas_library library{};
  library.kernel_count = 3;
  library.kernels = &kernels[0].descriptor;
  EXPECT_STREQ(kaas_kernel_at(&library, 2)->name, "last");
}

TEST(WriteError, TextIsCutToTheBufferAndNullBuffersAreLeftAlone) {
  char text[6] = "?????";
  kaas_write_error(text, sizeof(text), "a long text");
  EXPECT_STREQ(text, "a lon");
  kaas_write_error(text, 1, "x");
  EXPECT_STREQ(text, "");
  text[0] = '!';
  kaas_write_error(text, 0, "x");
  EXPECT_EQ(text[0], '!');
  kaas_write_error(nullptr, 10, "x");
}

}  // namespace
}  // namespace kaas
