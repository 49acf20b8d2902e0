// What is seen in images that nvcc makes, and NVRTC with its cache: without a GPU.
#include <algorithm>
#include <random>

#include "daemon/executor/device/cuda/cuda_compiler.h"
#include "daemon/executor/library/code_names.h"
#include "daemon/executor/library/module_image.h"
#include "tests/gpu/modules/module_files.h"

namespace kaas {
namespace {

const std::vector<std::string> kVariables = {"bytes_table", "counter", "kaas::deep", "table"};

std::vector<std::string> names_of(const ModuleImage& image) {
  std::vector<std::string> names;
  for (const std::string& name : image.variables) names.push_back(CodeName(name).full);
  std::sort(names.begin(), names.end());
  return names;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

ModuleCode source_of(const std::string& text) {
  return {bytes_of(text), ModuleForm::Source, "/tmp/k.cu", "library '/tmp/k.cu'"};
}

TEST(CudaImage, EachFormTellsWhatItIsForAndItsVariables) {
  struct Case {
    std::string content;
    LibraryForm form;
    std::string description;
  };
  const Case cases[] = {
      {text_of(kCubin), LibraryForm::Cubin, "a cubin for sm_90"},
      {text_of(kForeignCubin), LibraryForm::Cubin, "a cubin for sm_120"},
      {text_of(kPtx), LibraryForm::Ptx, "PTX of version "},
      {text_of(kFatbin), LibraryForm::Fatbin, "a fatbin for "},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(recognise(bytes_of(one.content), "lib.so"), one.form) << "its name does not matter";
    const auto image = inspect_image(bytes_of(one.content), "library 'x'");
    ASSERT_TRUE(image.has_value()) << image.error().message;
    EXPECT_EQ(image->description.rfind(one.description, 0), 0u) << image->description;
    EXPECT_TRUE(image->lists_variables || one.form == LibraryForm::Fatbin);
    if (!image->lists_variables) continue;
    EXPECT_EQ(names_of(*image), kVariables) << image->description;
  }
  const std::string fatbin = inspect_image(bytes_of(text_of(kFatbin)), "")->description;
  for (const char* part : {"sm_90", "compute_90", "sm_100"}) {
    EXPECT_NE(fatbin.find(part), std::string::npos) << fatbin;
  }
  EXPECT_NE(inspect_image(bytes_of(text_of(kPtx)), "")->description.find(" for sm_90"),
            std::string::npos);
}

TEST(CudaImage, ImagesThatAreCutOffAreRefusedBeforeADriverSeesThem) {
  for (const std::string& whole : {text_of(kCubin), text_of(kFatbin)}) {
    for (const std::size_t bytes :
         {std::size_t{8}, std::size_t{40}, whole.size() / 3, whole.size() / 2, whole.size() - 1}) {
      const std::string cut = whole.substr(0, bytes);
      const auto image = inspect_image(bytes_of(cut), "library 'x'");
      ASSERT_FALSE(image.has_value()) << bytes << " of " << whole.size();
      EXPECT_EQ(image.error().code, StatusCode::InvalidArgument);
      EXPECT_NE(image.error().message.find("library 'x' is "), std::string::npos);
    }
  }
}

// Whatever a byte is changed to, no more is read than is there; the sanitizers watch.
TEST(CudaImage, ChangedBytesAreSurvived) {
  std::mt19937 random(1);
  std::size_t refused = 0;
  for (const std::string& whole : {text_of(kCubin), text_of(kFatbin), text_of(kPtx)}) {
    for (int round = 0; round < 300; ++round) {
      std::string changed = whole;
      // Headers are at both ends: of the file at its beginning, of sections at its end.
      const std::size_t reach = round % 2 == 0 ? std::size_t{128} : changed.size();
      for (int i = 0; i < 4; ++i) changed[random() % reach] = static_cast<char>(random());
      const std::vector<std::byte> exact(bytes_of(changed).begin(), bytes_of(changed).end());
      const auto image = inspect_image(exact, "it");
      if (!image) ++refused;
      EXPECT_TRUE(!image || !image->description.empty());
    }
  }
  EXPECT_GT(refused, 50u);
}

class CompilerTest : public testing::Test {
 protected:
  Result<std::vector<std::byte>> compile(const std::string& text) {
    return compile_cuda(source_of(text), 90, compiler_, cache_);
  }
  static std::string counting_source(const std::string& first_line = "") {
    return first_line + "\n__global__ void f(int* x) { *x = 1; }\n";
  }

  ModuleFolder folder_;
  CompileCache cache_{folder_.path() / "cache"};
  int compilations_ = 0;
  std::vector<std::string> options_;
  Compiler compiler_{
      "compiler 1", [this](const std::string& source, const std::string&,
                           const std::vector<std::string>& options) {
        ++compilations_;
        options_ = options;
        const auto bytes = bytes_of(source);
        return Result<std::vector<std::byte>>(std::vector<std::byte>(bytes.begin(), bytes.end()));
      }};
};

TEST_F(CompilerTest, SecondCompilationComesFromTheCache) {
  const auto first = compile(counting_source());
  const auto second = compile(counting_source());
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(compilations_, 1);
}

TEST_F(CompilerTest, EverythingThatTheResultDependsOnIsInTheKey) {
  ASSERT_TRUE(compile(counting_source()).has_value());
  ASSERT_TRUE(compile(counting_source() + " ").has_value());
  EXPECT_EQ(compilations_, 2) << "the source";
  ASSERT_TRUE(compile_cuda(source_of(counting_source()), 100, compiler_, cache_).has_value());
  EXPECT_EQ(compilations_, 3) << "the architecture";
  compiler_.identity = "compiler 2";
  ASSERT_TRUE(compile(counting_source()).has_value());
  EXPECT_EQ(compilations_, 4) << "the compiler";
}

TEST_F(CompilerTest, SourceThatIncludesFilesOfItsOwnIsCompiledEachTime) {
  for (const char* line : {"#include \"mine.h\"", "// kaas-options: -I/tmp", "#  include MINE",
                           "// kaas-options: -include=x.h"}) {
    compilations_ = 0;
    ASSERT_TRUE(compile(counting_source(line)).has_value());
    ASSERT_TRUE(compile(counting_source(line)).has_value());
    EXPECT_EQ(compilations_, 2) << line;
  }
  compilations_ = 0;
  ASSERT_TRUE(compile(counting_source("#include <cuda_fp16.h>")).has_value());
  ASSERT_TRUE(compile(counting_source("#include <cuda_fp16.h>")).has_value());
  EXPECT_EQ(compilations_, 1);
}

TEST_F(CompilerTest, OptionsOfTheSourceReachTheCompiler) {
  ASSERT_TRUE(compile(counting_source("// kaas-options: -std=c++20 -DX=1")).has_value());
  EXPECT_EQ(options_,
            (std::vector<std::string>{"--gpu-architecture=sm_90", "-std=c++20", "-DX=1"}));
  ASSERT_TRUE(compile(counting_source("// kaas-options: -arch=sm_90a")).has_value());
  EXPECT_EQ(options_, (std::vector<std::string>{"--gpu-architecture=sm_90a"}));
}

TEST_F(CompilerTest, ZeroBytesAreNoSource) {
  const auto refused = compile(std::string("int a;\0int b;", 13));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "library '/tmp/k.cu' is no CUDA source: byte 6 is zero");
}

// --- The real one --------------------------------------------------------------------------------

class NvrtcTest : public testing::Test {
 protected:
  void SetUp() override {
    auto found = find_cuda_compiler();
    if (!found) GTEST_SKIP() << found.error().message;
    compiler_ = *std::move(found);
  }
  ModuleFolder folder_;
  Compiler compiler_;
};

TEST_F(NvrtcTest, ProgramOfTwentyKernelsCompilesAsItIs) {
  const auto cubin =
      compile_cuda(source_of(text_of(kSource)), 90, compiler_, CompileCache(folder_.path()));
  ASSERT_TRUE(cubin.has_value()) << cubin.error().message;
  const auto image = inspect_image(*cubin, "it");
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(image->description, "a cubin for sm_90");
  EXPECT_EQ(names_of(*image), kVariables);
}

TEST_F(NvrtcTest, CompilersWordsAreInTheError) {
  const auto refused = compile_cuda(source_of("__global__ void f() { not_there(); }\n"), 90,
                                    compiler_, CompileCache(""));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, StatusCode::InvalidArgument);
  for (const char* part : {"library '/tmp/k.cu' does not compile for sm_90 (NVRTC ",
                           "/tmp/k.cu(1): error:", "\"not_there\" is undefined"}) {
    EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
  }
}

TEST_F(NvrtcTest, UnknownOptionIsRefusedByName) {
  const auto refused = compile_cuda(source_of("// kaas-options: --no-such-thing\n"), 90, compiler_,
                                    CompileCache(""));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(refused.error().message.find("--no-such-thing"), std::string::npos)
      << refused.error().message;
}

TEST(Nvrtc, MissingCompilerIsUnavailableAndNamesWhatWasLookedFor) {
  ::setenv("KAAS_NVRTC", "/nowhere/libnvrtc.so", 1);
  const auto found = find_cuda_compiler();
  ::unsetenv("KAAS_NVRTC");
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, StatusCode::Unavailable);
  EXPECT_NE(found.error().message.find("looked for /nowhere/libnvrtc.so"), std::string::npos);
}

}  // namespace
}  // namespace kaas
