// Code of the device's own through a whole kaasd: files that clients name, and what they hear when
// a file, a kernel or a launch is wrong.
#include <numeric>

#include "tests/gpu/modules/module_files.h"
#include "tests/support/e2e_fixture.h"

namespace kaas {
namespace {

constexpr std::uint32_t kCount = 1000;

class ModuleRequests : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    if (IsSkipped()) return;
    client_ = std::make_unique<Client>(connect());
    for (const char* key : {"a", "b"}) {
      ASSERT_OK(client_->put(key, bytes_of(std::vector<float>(kCount, 2.0f))));
    }
  }
  void TearDown() override {
    client_.reset();
    E2eTest::TearDown();
  }
  std::string put(const std::string& name, const std::string& content) {
    return folder_.put(name, content).path;
  }
  // out = a + b by the kernel `add` of the file.
  static Request sum(const std::string& library, const std::string& kernel = "add") {
    RequestBuilder builder;
    const std::uint64_t bytes = kCount * sizeof(float);
    for (const char* name : {"a", "b", "out"}) builder.buffer(name, bytes);
    builder.kernel(library, kernel).grid(4).block(256).literal(kCount).in("a").in("b").out("out");
    return built(builder);
  }
  // `f` of the file, which has one parameter: where to put an int.
  static Request number(const std::string& library, std::uint32_t block = 1) {
    RequestBuilder builder;
    builder.buffer("number", sizeof(int)).in_message();
    builder.kernel(library, "f").grid(1).block(block).out("number");
    return built(builder);
  }
  // What f wrote, or the error's text.
  static std::string answer(const Result<Reply>& reply) {
    if (!reply.has_value()) return to_string(reply.error());
    return std::to_string(values_of<int>(reply->data("number")).at(0));
  }
  void expect_refused(const Request& request, StatusCode code,
                      const std::vector<std::string>& parts) {
    const auto reply = client_->run(request);
    ASSERT_FALSE(reply.has_value());
    EXPECT_EQ(reply.error().code, code) << reply.error().message;
    for (const std::string& part : parts) {
      EXPECT_NE(reply.error().message.find(part), std::string::npos)
          << "'" << part << "' is not in: " << reply.error().message;
    }
    // It harmed nobody.
    ASSERT_OK(client_->put("x", bytes_of(std::vector<float>{1.0f})));
    EXPECT_OK(client_->run(scale("x", 1)));
  }
  bool has_compiler() {
    const auto reply =
        client_->run(number(put("probe.cu", "__global__ void f(int* x) { *x = 1; }")));
    return reply.has_value() || reply.error().code != StatusCode::Unavailable;
  }

  ModuleFolder folder_;  // Before the daemon: its environment names the folder.
  std::unique_ptr<Client> client_;
};

TEST_F(ModuleRequests, FilesOfEveryFormAreFoundByContentAndRun) {
  std::vector<float> a(kCount);
  std::iota(a.begin(), a.end(), -3.5f);
  ASSERT_OK(client_->put("a", bytes_of(a)));
  std::vector<float> expected = a;
  for (float& value : expected) value += 2.0f;
  const std::pair<const char*, std::string> files[] = {{"kernels.cubin", text_of(kCubin)},
                                                       {"kernels.ptx", text_of(kPtx)},
                                                       {"kernels.fatbin", text_of(kFatbin)},
                                                       {"cubin.so", text_of(kCubin)},
                                                       {"kernels.cu", text_of(kSource)}};
  for (const auto& [name, content] : files) {
    if (std::string_view(name).ends_with(".cu") && !has_compiler()) continue;
    const std::string path = put(name, content);
    for (const char* kernel :
         {"add", "_Z3addjPKfS0_Pf", "add(unsigned int, float const*, float const*, float*)"}) {
      static_cast<void>(client_->remove("out"));
      ASSERT_OK(client_->run(sum(path, kernel)));
      EXPECT_EQ(floats(*client_, "out"), expected) << name << " " << kernel;
    }
  }
}

TEST_F(ModuleRequests, WhatTheCompilerSaysReachesTheClient) {
  if (!has_compiler()) GTEST_SKIP() << "there is no NVRTC";
  const std::string path =
      put("broken.cu", "__global__ void f(int* x) {\n  undefined_thing();\n}\n");
  expect_refused(number(path), StatusCode::InvalidArgument,
                 {path, "does not compile", "broken.cu(2): error:", "undefined_thing"});
  // The next file under this name is looked at anew.
  put("broken.cu", "__global__ void f(int* x) { *x = 5; }\n");
  EXPECT_EQ(answer(client_->run(number(path))), "5");
}

TEST_F(ModuleRequests, ReplacedFileGivesNewCodeToLaterRequestsAndPlansKeepTheirs) {
  if (!has_compiler()) GTEST_SKIP() << "there is no NVRTC";
  const std::string path = put("code.cu", "__global__ void f(int* x) { *x = 3; }\n");
  EXPECT_EQ(answer(client_->run(number(path))), "3");
  auto plan = client_->prepare(number(path));
  ASSERT_OK(plan);
  put("code.cu", "__global__ void f(int* x) { *x = 44; }\n");
  EXPECT_EQ(answer(client_->run(number(path))), "44");
  EXPECT_EQ(answer(plan->run()), "3");
}

TEST_F(ModuleRequests, PtxOfANewerVersionSaysBothVersions) {
  std::string ptx = text_of(kPtx);
  const std::size_t at = ptx.find(".version ");
  ptx.replace(at, ptx.find('\n', at) - at, ".version 99.9");
  const std::string path = put("new.ptx", ptx);
  expect_refused(sum(path), StatusCode::InvalidArgument,
                 {path, "PTX of version 99.9", "with a driver for CUDA "});
}

TEST_F(ModuleRequests, CubinForAnotherGpuSaysBoth) {
  const std::string path = put("foreign.cubin", text_of(kForeignCubin));
  expect_refused(sum(path), StatusCode::InvalidArgument,
                 {path, "a cubin for sm_120", "which is sm_"});
}

TEST_F(ModuleRequests, DamagedImageIsRefused) {
  const std::string whole = text_of(kCubin);
  const std::string path = put("cut.cubin", whole.substr(0, whole.size() / 2));
  expect_refused(sum(path), StatusCode::InvalidArgument, {path, "is damaged"});
}

TEST_F(ModuleRequests, KernelThatIsNotThereNamesTheNearest) {
  const std::string path = put("kernels.cubin", text_of(kCubin));
  expect_refused(sum(path, "ad"), StatusCode::NotFound, {"'ad'", "nearest: 'add'"});
}

TEST_F(ModuleRequests, TooManyThreadsForAKernelSaysBothNumbers) {
  if (!has_compiler()) GTEST_SKIP() << "there is no NVRTC";
  const std::string path =
      put("bounded.cu", "__global__ __launch_bounds__(128) void f(int* x) { *x = blockDim.x; }\n");
  EXPECT_EQ(answer(client_->run(number(path, 128))), "128");
  expect_refused(number(path, 256), StatusCode::InvalidArgument,
                 {"kernel 0 ('f')", "threads of a block is 256, limit 128"});
}

TEST_F(ModuleRequests, TooMuchSharedMemorySaysBothNumbers) {
  const std::string path = put("kernels.cubin", text_of(kCubin));
  const auto reverse = [&](std::uint32_t shared_bytes) {
    RequestBuilder builder;
    builder.buffer("in", 4 * kCount).inline_bytes(bytes_of(std::vector<int>(kCount, 1)));
    builder.buffer("out", 4 * kCount).in_message();
    builder.kernel(path, "reverse_dynamic")
        .grid(1)
        .block(1024)
        .shared_bytes(shared_bytes)
        .literal(kCount)
        .in("in")
        .out("out");
    return built(builder);
  };
  EXPECT_OK(client_->run(reverse(100'000)));
  expect_refused(reverse(300'000), StatusCode::InvalidArgument,
                 {"shared_bytes", "300000", "232448"});
  // What is static counts as well.
  RequestBuilder builder;
  builder.buffer("in", 1024).inline_bytes(bytes_of(std::vector<int>(256, 1)));
  builder.buffer("out", 1024).in_message();
  builder.kernel(path, "reverse_static")
      .grid(1)
      .block(256)
      .shared_bytes(232'448)
      .in("in")
      .out("out");
  expect_refused(built(builder), StatusCode::InvalidArgument,
                 {"besides its static shared memory, is 232448, limit 231424"});
}

// Source that takes the compiler long: many instances of a long function.
std::string long_source() {
  std::string text =
      "template <int kN> __device__ int turn(int x) {\n"
      "#pragma unroll\n"
      "  for (int i = 0; i < 256; ++i) x = x * (kN + i) ^ (x >> 3);\n"
      "  return x;\n}\n";
  for (int i = 0; i < 60; ++i) {
    text += "__global__ void g" + std::to_string(i) + "(int* x) { *x = turn<" + std::to_string(i) +
            ">(*x); }\n";
  }
  return text + "__global__ void f(int* x) { *x = 9; }\n";
}

TEST_F(ModuleRequests, CompilingHoldsUpNobodyElse) {
  if (!has_compiler()) GTEST_SKIP() << "there is no NVRTC";
  Client neighbour = connect();
  ASSERT_OK(neighbour.put("x", bytes_of(std::vector<float>{1.0f})));
  ASSERT_OK(neighbour.run(scale("x", 1)));
  auto compiled = client_->submit(number(put("long.cu", long_source())));
  int finished = 0;
  while (!compiled.ready() && finished < 20) {
    ASSERT_OK(neighbour.run(scale("x", 1, 1.0f)));
    ++finished;
  }
  EXPECT_EQ(finished, 20) << "they came behind the compilation";
  // A plan of kernels that nobody has used yet, in a library that is open.
  RequestBuilder builder;
  builder.buffer("x", 4);
  builder.buffer("y", 4);
  builder.kernel("std", "copy").grid(1).block(64).literal(std::uint64_t{4}).in("x").out("y");
  ASSERT_OK(neighbour.run(built(builder)));
  EXPECT_FALSE(compiled.ready());
  EXPECT_EQ(answer(compiled.get()), "9");
}

}  // namespace
}  // namespace kaas
