// Code that is no shared object: what a file is, names as people write them, options in a source,
// kept compilations, and a library over a module.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "daemon/executor/device/compile_cache.h"
#include "daemon/executor/device/source_options.h"
#include "daemon/executor/library/code_names.h"
#include "daemon/executor/library/module_image.h"
#include "daemon/executor/library/opened_library.h"
#include "tests/unit/executor/loop_harness.h"

namespace kaas {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string elf_of(Elf64_Half machine) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = machine;
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

constexpr const char* kPtx =
    "// made by hand\n/* and .version 1 in a comment */\n.version 8.0\n.target sm_70, texmode\n"
    ".address_size 64\n.visible .const .align 4 .b8 table[16] = {1, 0, 0, 0};\n"
    ".global .align 4 .u32 counter;\n.extern .global .u32 foreign;\n"
    ".global .align 1 .b8 $str[6];\n.shared .align 4 .b8 tile[1024];\n"
    ".visible .entry f(\n.param .u64 p\n)\n{\n.global .u32 inner;\nret;\n}\n"
    ".global .u64 last = 5;\n";

// --- Recognition ---------------------------------------------------------------------------------

TEST(ModuleImage, FilesAreRecognisedByContent) {
  EXPECT_EQ(recognise(bytes_of(elf_of(EM_X86_64)), "a.cubin"), LibraryForm::SharedObject);
  EXPECT_EQ(recognise(bytes_of(elf_of(190)), "a.so"), LibraryForm::Cubin);
  EXPECT_EQ(recognise(bytes_of("\x50\xed\x55\xba rest"), "a.so"), LibraryForm::Fatbin);
  EXPECT_EQ(recognise(bytes_of(kPtx), "a.cu"), LibraryForm::Ptx);
  EXPECT_EQ(recognise(bytes_of("__global__ void f() {}"), "a.cu"), LibraryForm::CudaSource);
  EXPECT_EQ(recognise(bytes_of("__global__ void f() {}"), "a.so"), LibraryForm::Unknown);
  EXPECT_EQ(recognise(bytes_of(".version 8.0\n"), "a.so"), LibraryForm::Unknown) << "no .target";
  for (const char* text : {"", "//", "/*", "/* .version */", ".", ".version",
                           "\x7f"
                           "EL"}) {
    EXPECT_EQ(recognise(bytes_of(text), "a"), LibraryForm::Unknown) << text;
  }
}

TEST(ModuleImage, PtxTellsItsVersionTargetAndVariables) {
  const auto image = inspect_image(bytes_of(kPtx), "it");
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->description, "PTX of version 8.0 for sm_70");
  EXPECT_EQ(image->variables, (std::vector<std::string>{"counter", "last", "table"}));
  EXPECT_TRUE(image->lists_variables);
}

TEST(ModuleImage, DamagedImagesAreRefused) {
  const auto refused = [](const std::string& content) {
    const auto image = inspect_image(bytes_of(content), "library 'x'");
    EXPECT_FALSE(image.has_value());
    return image ? "" : image.error().message;
  };
  EXPECT_EQ(refused(elf_of(190)),
            "library 'x' is damaged: its table of sections lies outside its 64 bytes");
  std::string elf = elf_of(190);
  Elf64_Ehdr header{};
  std::memcpy(&header, elf.data(), sizeof header);
  header.e_shoff = sizeof header;
  header.e_shnum = 1;
  header.e_shentsize = sizeof(Elf64_Shdr);
  Elf64_Shdr section{};
  section.sh_type = SHT_PROGBITS;
  section.sh_offset = UINT64_MAX - 4;
  section.sh_size = 8;
  elf.assign(reinterpret_cast<const char*>(&header), sizeof header);
  elf.append(reinterpret_cast<const char*>(&section), sizeof section);
  EXPECT_EQ(refused(elf), "library 'x' is damaged: section 0 lies outside its 128 bytes");
  EXPECT_NE(refused("\x50\xed\x55\xba"), "");
  std::string fatbin("\x50\xed\x55\xba\x01\x00\x10\x00\x20\x00\x00\x00\x00\x00\x00\x00", 16);
  EXPECT_EQ(refused(fatbin), "library 'x' is damaged: its content wants 32 bytes, the file has 16");
  fatbin += std::string("\x02\x00\x01\x01\x20\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", 16);
  fatbin += std::string(16, '\0');
  EXPECT_EQ(refused(fatbin),
            "library 'x' is damaged: a part wants 18446744073709551615 bytes, the "
            "file has 48");
}

// --- Names ---------------------------------------------------------------------------------------

class NamesTest : public testing::Test {
 protected:
  std::string found(std::string_view wanted) {
    const auto name = find_name(names_, wanted, "kernel", "library 'k'");
    return name ? (*name)->mangled : name.error().message;
  }
  std::vector<CodeName> names_ = {
      CodeName("_Z3addjPKfS0_Pf"),     CodeName("_Z5scaleIfEvT_PS0_"),
      CodeName("_Z5scaleIiEvT_PS0_"),  CodeName("_ZN2ns5twiceEjPi"),
      CodeName("_Z5shiftIiLj3EEvPT_"), CodeName("_Z5storeiPi"),
      CodeName("_Z5storefPf"),         CodeName("plain"),
      CodeName("_Z8callbackPFviES0_"), CodeName("_ZN28_INTERNAL_00000000_4_k_cu_ab6hiddenEv")};
};

TEST_F(NamesTest, AKernelIsFoundMangledOrAsInCpp) {
  EXPECT_EQ(found("_Z3addjPKfS0_Pf"), "_Z3addjPKfS0_Pf");
  EXPECT_EQ(found("add"), "_Z3addjPKfS0_Pf");
  EXPECT_EQ(found("add(unsigned int, float const*, float const*, float*)"), "_Z3addjPKfS0_Pf");
  EXPECT_EQ(found("scale<float>"), "_Z5scaleIfEvT_PS0_");
  EXPECT_EQ(found(" scale < int > "), "_Z5scaleIiEvT_PS0_");
  EXPECT_EQ(found("void scale<int>(int, int*)"), "_Z5scaleIiEvT_PS0_");
  EXPECT_EQ(found("ns::twice"), "_ZN2ns5twiceEjPi");
  EXPECT_EQ(found("shift<int,3>"), "_Z5shiftIiLj3EEvPT_");
  EXPECT_EQ(found("shift<int, 3u>"), "_Z5shiftIiLj3EEvPT_");
  EXPECT_EQ(found("shift"), "_Z5shiftIiLj3EEvPT_") << "there is one instance";
  EXPECT_EQ(found("plain"), "plain");
  EXPECT_EQ(found("hidden"), "_ZN28_INTERNAL_00000000_4_k_cu_ab6hiddenEv") << "static";
  EXPECT_EQ(found("callback"), "_Z8callbackPFviES0_");
}

TEST_F(NamesTest, SeveralThatFitAreListed) {
  EXPECT_EQ(found("store"),
            "library 'k': kernel 'store' may be any of 'store(int, int*)', 'store(float, float*)'");
  EXPECT_EQ(found("scale"),
            "library 'k': kernel 'scale' may be any of 'scale<float>(float, "
            "float*)', 'scale<int>(int, int*)'");
}

TEST_F(NamesTest, UnknownNamesAreNotFoundWithTheNearest) {
  EXPECT_EQ(found("scale<flaot>"),
            "library 'k' has no kernel 'scale<flaot>'; nearest: 'scale<float>', 'scale<int>'");
  EXPECT_EQ(found("twice").rfind("library 'k' has no kernel 'twice'", 0), 0u);
  names_.clear();
  EXPECT_EQ(found("f"), "library 'k' has no kernel 'f'; it has none");
}

// --- Options -------------------------------------------------------------------------------------

TEST(SourceOptionsTest, LeadingCommentsGiveOptions) {
  const auto options = source_options(
      "\n// A program.\n  // kaas-options: -std=c++17 -DX=1\n//kaas-options:\t\"-DY=a b\" -arch "
      "sm_90a\n\nint a;\n// kaas-options: -DLATE\n",
      "it");
  ASSERT_TRUE(options.has_value()) << options.error().message;
  EXPECT_EQ(options->words, (std::vector<std::string>{"-std=c++17", "-DX=1", "-DY=a b"}));
  EXPECT_EQ(options->architecture, "sm_90a");
  EXPECT_TRUE(options->self_contained);
  EXPECT_TRUE(source_options("int a;", "it")->words.empty());
  EXPECT_TRUE(source_options("", "it")->words.empty());
}

TEST(SourceOptionsTest, WrongOptionsAreRefused) {
  EXPECT_EQ(source_options("// kaas-options: \"-DX\n", "it").error().message,
            "it: kaas-options '\"-DX' has a quote that does not end");
  for (const char* line : {"// kaas-options: -arch=compute_90", "// kaas-options: -arch"}) {
    EXPECT_EQ(source_options(line, "it").error().code, StatusCode::InvalidArgument) << line;
  }
  std::string many = "// kaas-options:";
  for (int i = 0; i < 257; ++i) many += " -D" + std::to_string(i);
  EXPECT_EQ(source_options(many, "it").error().message,
            "it: number of kaas-options is 257, limit 256");
}

TEST(SourceOptionsTest, SourceThatDependsOnOtherFilesIsNotSelfContained) {
  for (const char* text : {"#include \"a.h\"", "  #  include\t\"a.h\"", "#include A_H",
                           "/* */ #include \"a.h\"", "#inc\\\nlude \"a.h\"\n// include",
                           "// kaas-options: -I /x", "// kaas-options: -include x"}) {
    EXPECT_FALSE(source_options(text, "it")->self_contained) << text;
  }
  EXPECT_TRUE(source_options("#include <cuda_fp16.h>\n#define A 1\n", "it")->self_contained);
}

// --- The cache -----------------------------------------------------------------------------------

class CompileCacheTest : public testing::Test {
 protected:
  CompileCacheTest() {
    std::string name = (fs::temp_directory_path() / "kaas-cache-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    folder_ = root_ / "a/b";
  }
  ~CompileCacheTest() override { fs::remove_all(root_); }
  std::string found(const CompileCache& cache, std::string_view key) {
    const auto code = cache.find(key);
    if (!code) return "(nothing)";
    return {reinterpret_cast<const char*>(code->data()), code->size()};
  }
  fs::path only_file() { return fs::directory_iterator(folder_)->path(); }

  fs::path root_;
  fs::path folder_;
};

TEST_F(CompileCacheTest, KeepsCodeUnderItsKey) {
  const CompileCache cache(folder_);
  EXPECT_EQ(found(cache, "key"), "(nothing)");
  EXPECT_TRUE(cache.keep("key", bytes_of("code")));
  EXPECT_TRUE(cache.keep("other", bytes_of("")));
  EXPECT_EQ(found(CompileCache(folder_), "key"), "code");
  EXPECT_EQ(found(cache, "other"), "");
  EXPECT_TRUE(cache.keep("key", bytes_of("newer")));
  EXPECT_EQ(found(cache, "key"), "newer");
  struct stat status {};
  ASSERT_EQ(::stat(folder_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(CompileCacheTest, DamagedEntriesAreNotThere) {
  const CompileCache cache(folder_);
  ASSERT_TRUE(cache.keep("key", bytes_of("code")));
  const fs::path file = only_file();
  std::string whole;
  {
    std::ifstream in(file, std::ios::binary);
    whole.assign(std::istreambuf_iterator<char>(in), {});
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    std::ofstream(file, std::ios::binary) << damaged;
    EXPECT_EQ(found(cache, "key"), "(nothing)") << "byte " << i;
    std::ofstream(file, std::ios::binary) << whole.substr(0, i);
    EXPECT_EQ(found(cache, "key"), "(nothing)") << "cut at " << i;
  }
  EXPECT_TRUE(cache.keep("key", bytes_of("code")));
  EXPECT_EQ(found(cache, "key"), "code");
}

TEST_F(CompileCacheTest, WhatOthersMayWriteIsNotUsed) {
  const CompileCache cache(folder_);
  ASSERT_TRUE(cache.keep("key", bytes_of("code")));
  const fs::path file = only_file();
  ASSERT_EQ(::chmod(file.c_str(), 0620), 0);
  EXPECT_EQ(found(cache, "key"), "(nothing)");
  ASSERT_EQ(::chmod(file.c_str(), 0600), 0);
  EXPECT_EQ(found(cache, "key"), "code");
  ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
  EXPECT_EQ(found(cache, "key"), "(nothing)");
  EXPECT_FALSE(cache.keep("key", bytes_of("code")));
}

TEST_F(CompileCacheTest, OldestEntriesMakeRoom) {
  const CompileCache cache(folder_, 2500);
  const std::string code(1000, 'x');
  ASSERT_TRUE(cache.keep("1", bytes_of(code)));
  fs::last_write_time(only_file(), fs::file_time_type::clock::now() - std::chrono::hours(1));
  ASSERT_TRUE(cache.keep("2", bytes_of(code)));
  ASSERT_TRUE(cache.keep("3", bytes_of(code)));
  EXPECT_EQ(found(cache, "1"), "(nothing)");
  EXPECT_EQ(found(cache, "2"), code);
  EXPECT_EQ(found(cache, "3"), code);
}

TEST_F(CompileCacheTest, NoFolderMeansNoCache) {
  EXPECT_FALSE(CompileCache("").keep("key", bytes_of("code")));
  EXPECT_EQ(found(CompileCache(""), "key"), "(nothing)");
  std::ofstream(root_ / "file") << "x";
  EXPECT_FALSE(CompileCache(root_ / "file/x").keep("key", bytes_of("code")));
}

// --- A library over a module ---------------------------------------------------------------------

class FakeModule final : public DeviceModule {
 public:
  explicit FakeModule(std::vector<std::string> variables, bool lists = true)
      : variables_(std::move(variables)), lists_(lists) {}
  [[nodiscard]] const std::vector<std::string>& kernels() const noexcept override {
    return kernels_;
  }
  [[nodiscard]] const std::vector<std::string>& variables() const noexcept override {
    return variables_;
  }
  [[nodiscard]] bool lists_variables() const noexcept override { return lists_; }
  Result<ModuleFunction> find(const std::string& kernel) override {
    EXPECT_EQ(kernel, kernels_.front());
    return ModuleFunction{this, {4, 32, 8}};
  }
  Result<ModuleVariable> variable(const std::string& name) override {
    if (name == "table") return ModuleVariable{0x1000, 64};
    return Status{StatusCode::NotFound, "no '" + name + "'"};
  }

 private:
  std::vector<std::string> kernels_ = {"_Z1fi5RangePf"};
  std::vector<std::string> variables_;
  bool lists_;
};

TEST(ModuleLibrary, KernelsHaveParametersOfWhichOnlyTheSizeIsKnown) {
  const auto library = OpenedLibrary::of_module(
      std::make_shared<FakeModule>(std::vector<std::string>{}), "/a/net.cubin");
  EXPECT_EQ(library->name(), "net.cubin");
  EXPECT_EQ(library->kernel_names(), (std::vector<std::string>{"f"}));
  EXPECT_FALSE(library->stateful());
  bool first = false;
  const auto entry = library->find("f", first);
  ASSERT_TRUE(entry.has_value());
  EXPECT_TRUE(first);
  EXPECT_EQ(*library->find("_Z1fi5RangePf", first), *entry);
  EXPECT_FALSE(first) << "the same kernel by another name";
  ASSERT_EQ((*entry)->parameters.size(), 3u);
  for (const ParameterType& type : (*entry)->parameters) {
    EXPECT_EQ(type.kind, ParameterType::Kind::Untyped);
  }
  EXPECT_EQ((*entry)->parameters[1].bytes, 32u);
  EXPECT_EQ(library->find("@x", first).error().message,
            "library 'net.cubin' has no variable 'x'; it has none");
}

TEST(ModuleLibrary, VariablesMakeItStateful) {
  const auto library = OpenedLibrary::of_module(
      std::make_shared<FakeModule>(std::vector<std::string>{"table"}), "/a/net.cubin");
  EXPECT_TRUE(library->stateful());
  bool first = false;
  const auto entry = library->find("@table", first);
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ((*entry)->variable, 0x1000u);
  EXPECT_EQ((*entry)->variable_bytes, 64u);
  EXPECT_TRUE((*entry)->stateful);
  EXPECT_EQ(library->find("@tabel", first).error().message,
            "library 'net.cubin' has no variable 'tabel'; nearest: 'table'");
  EXPECT_FALSE(library->find("table", first).has_value()) << "it is no kernel";
  const auto unlisted = OpenedLibrary::of_module(
      std::make_shared<FakeModule>(std::vector<std::string>{}, false), "k");
  EXPECT_TRUE(unlisted->stateful()) << "it may have some";
  EXPECT_TRUE(unlisted->find("@table", first).has_value());
  EXPECT_EQ(unlisted->find("@x", first).error().message, "no 'x'");
}

class ModuleLibraries final : public LibraryOpener {
 public:
  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override {
    return OpenedLibrary::of_module(std::make_shared<FakeModule>(std::vector<std::string>{"table"}),
                                    file.path);
  }
};

TEST(ModuleLibrary, BufferOfAVariableHasItsSize) {
  FakeDevice device(FakeDevice::Options{});
  ModuleLibraries libraries;
  LoopHarness harness({}, device, libraries);
  harness.load_library();
  EXPECT_TRUE(harness.only_report().stateful);
  TestPlan plan;
  plan.kernels[0].kernel = "@table";
  plan.kernels[0].arguments = {argument(0, 48, wire::Access::In)};
  plan.allocations = {48};
  plan.loads = {wire::PlanRange(0, 48, 0, false)};
  harness.load_plan(plan);
  const SeenReport report = harness.only_report();
  EXPECT_EQ(report.code, StatusCode::InvalidArgument);
  EXPECT_EQ(report.message, "kernel 0 ('@table') argument 0 has 48 bytes, the variable has 64");
}

// No buffer connects them, and yet they may touch common bytes.
TEST(StatefulLibrary, ItsKernelsRunInTheListsOrder) {
  FakeDevice device(FakeDevice::Options{});
  FakeLibraries opener(device);
  std::vector<std::shared_ptr<OpenedLibrary>> libraries = {*opener.open({"/stateful/x", 0, 0, 0}),
                                                           *opener.open({"/plain", 0, 0, 0})};
  std::vector<Result<LoadedKernel>> loaded;
  flatbuffers::FlatBufferBuilder builder;
  const wire::Dim3 one(1, 1, 1);
  std::vector<flatbuffers::Offset<wire::PlanKernel>> kernels;
  const std::vector<std::uint16_t> first = {0};
  const auto add = [&](std::uint32_t library, const std::vector<std::uint16_t>& after) {
    const auto name = builder.CreateString("noop");
    const auto waits = builder.CreateVector(after);
    wire::PlanKernelBuilder kernel(builder);
    kernel.add_library(library);
    kernel.add_kernel(name);
    kernel.add_grid(&one);
    kernel.add_block(&one);
    kernel.add_after(waits);
    kernels.push_back(kernel.Finish());
    LoadedKernel found;
    found.library = libraries[library - 1];
    found.entry = *found.library->find("noop", found.first_use);
    found.function = device.load(*found.entry);
    loaded.emplace_back(found);
  };
  add(1, {});
  add(2, {});
  add(1, first);
  add(1, first);
  add(2, {});
  const auto vector = builder.CreateVector(kernels);
  wire::LoadPlanBuilder message(builder);
  message.add_plan(1);
  message.add_kernels(vector);
  message.add_n_iter(1);
  builder.Finish(message.Finish());
  const auto& sent = *flatbuffers::GetRoot<wire::LoadPlan>(builder.GetBufferPointer());
  const auto plan = begin_plan(sent, device, 1u << 20);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto completed = complete_plan(sent, *plan, loaded, device);
  ASSERT_TRUE(completed.has_value()) << completed.error().message;
  using After = std::vector<std::uint16_t>;
  const After expected[] = {{}, {}, {0}, {0, 2}, {}};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ((*plan)->kernels[i].after, expected[i]) << "kernel " << i;
  }
}

TEST(ModuleLibrary, DeviceWithoutSuchCodeRefusesIt) {
  FakeDevice device(FakeDevice::Options{});
  const auto module = device.load_module({bytes_of(kPtx), ModuleForm::Image, "/k", "library '/k'"});
  ASSERT_FALSE(module.has_value());
  EXPECT_EQ(module.error().code, StatusCode::InvalidArgument);
  EXPECT_EQ(module.error().message,
            "library '/k' is CUDA code; this device is " + device.limits().name);
}

}  // namespace
}  // namespace kaas
