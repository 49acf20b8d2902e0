// Twenty kernels of an ordinary program, from a cubin, PTX, a fatbin and source: found by name,
// run, compared with what the host computes. And code that this device does not take.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "daemon/executor/device/cuda/cuda_device.h"
#include "daemon/executor/library/opened_library.h"
#include "tests/gpu/modules/module_files.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr unsigned kCount = 1000;
constexpr int kLeastArchitecture = 90;

// One parameter's bytes.
struct Value {
  template <class T>
  Value(const T& value) : bytes(sizeof(T)) {  // NOLINT: a list of numbers reads like a call.
    std::memcpy(bytes.data(), &value, sizeof value);
  }
  std::vector<std::byte> bytes;
};

struct Shape {
  std::uint32_t grid = 4;
  std::uint32_t block = 256;
  std::uint64_t shared_bytes = 0;
  std::uint32_t cluster = 1;
  bool cooperative = false;
};

class ModuleTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto devices = list_cuda_devices();
    if (!devices) return;
    auto opened = CudaDevice::open(devices->front().id, "cuda");
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    device_ = *std::move(opened);
    stream_ = *device_->open_stream();
  }
  static void TearDownTestSuite() {
    stream_.reset();
    device_.reset();
  }
  void SetUp() override {
    if (device_ == nullptr) GTEST_SKIP() << "there is no CUDA device";
    if (device_->architecture() < kLeastArchitecture) {
      GTEST_SKIP() << "the device is sm_" << device_->architecture() << ", the images are for sm_"
                   << kLeastArchitecture;
    }
  }

  Result<std::shared_ptr<OpenedLibrary>> open(const std::string& name, const std::string& content) {
    FileLibraryOpener opener(*device_, LibraryTrust{::geteuid()});
    return opener.open(folder_.put(name, content));
  }
  void expect_refused(const std::string& name, const std::string& content,
                      const std::vector<std::string>& parts) {
    const auto library = open(name, content);
    ASSERT_FALSE(library.has_value());
    EXPECT_EQ(library.error().code, StatusCode::InvalidArgument) << library.error().message;
    EXPECT_NE(library.error().message.find((folder_.path() / name).string()), std::string::npos)
        << library.error().message;
    for (const std::string& part : parts) {
      EXPECT_NE(library.error().message.find(part), std::string::npos) << library.error().message;
    }
    EXPECT_FALSE(device_->lost());
  }

  template <class T>
  DeviceMemory upload(const std::vector<T>& values) {
    auto memory = device_->allocate(values.size() * sizeof(T));
    EXPECT_TRUE(memory.has_value());
    EXPECT_TRUE(stream_->copy_to_device(memory->address(), std::as_bytes(std::span(values))));
    EXPECT_TRUE(stream_->wait().has_value());
    return *std::move(memory);
  }
  template <class T>
  std::vector<T> download(const DeviceMemory& memory, std::size_t count) {
    std::vector<T> values(count);
    EXPECT_TRUE(stream_->copy_to_host(std::as_writable_bytes(std::span(values)), memory.address()));
    EXPECT_TRUE(stream_->wait().has_value());
    return values;
  }

  // Finds, loads and runs a kernel; its parameters must be as many and as large as the driver says.
  void call(OpenedLibrary& library, const std::string& name, const Shape& shape,
            std::vector<Value> values) {
    bool first = false;
    const auto entry = library.find(name, first);
    ASSERT_TRUE(entry.has_value()) << entry.error().message;
    ASSERT_EQ((*entry)->parameters.size(), values.size()) << name;
    std::vector<void*> params;
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ((*entry)->parameters[i].bytes, values[i].bytes.size()) << name << " " << i;
      params.push_back(values[i].bytes.data());
    }
    const auto function = device_->load(**entry);
    ASSERT_TRUE(function.has_value()) << function.error().message;
    KernelLaunch launch;
    launch.function = *function;
    launch.shape.struct_size = sizeof launch.shape;
    std::fill(std::begin(launch.shape.grid), std::end(launch.shape.grid), 1u);
    std::fill(std::begin(launch.shape.block), std::end(launch.shape.block), 1u);
    std::fill(std::begin(launch.shape.cluster), std::end(launch.shape.cluster), 1u);
    launch.shape.grid[0] = shape.grid;
    launch.shape.block[0] = shape.block;
    launch.shape.cluster[0] = shape.cluster;
    launch.shape.shared_bytes = shape.shared_bytes;
    launch.cooperative = shape.cooperative;
    launch.params = params.data();
    KernelProgram program;
    program.launches = {&launch, 1};
    const auto launched = stream_->launch(program);
    ASSERT_TRUE(launched.has_value()) << launched.error().message;
    const auto done = stream_->wait();
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }

  static std::unique_ptr<CudaDevice> device_;
  static std::unique_ptr<DeviceStream> stream_;
  ModuleFolder folder_;
};
std::unique_ptr<CudaDevice> ModuleTest::device_;
std::unique_ptr<DeviceStream> ModuleTest::stream_;

struct Form {
  std::string name;
  std::string file;
  std::string content;
};

class ModuleFormTest : public ModuleTest, public testing::WithParamInterface<Form> {
 protected:
  void SetUp() override {
    ModuleTest::SetUp();
    if (IsSkipped()) return;
    auto library = open(GetParam().file, GetParam().content);
    if (!library && library.error().code == StatusCode::Unavailable) {
      GTEST_SKIP() << library.error().message;
    }
    ASSERT_TRUE(library.has_value()) << library.error().message;
    library_ = *std::move(library);
    std::iota(floats_.begin(), floats_.end(), -3.5f);
    std::iota(ints_.begin(), ints_.end(), -300);
  }
  void call_it(const std::string& name, const Shape& shape, std::vector<Value> values) {
    call(*library_, name, shape, std::move(values));
  }

  std::shared_ptr<OpenedLibrary> library_;
  std::vector<float> floats_ = std::vector<float>(kCount);
  std::vector<int> ints_ = std::vector<int>(kCount);
};

TEST_P(ModuleFormTest, ListsItsKernelsByTheNamesPeopleUse) {
  const auto names = library_->kernel_names();
  EXPECT_EQ(names.size(), 21u);
  for (const char* name : {"add", "plain_c", "kaas::twice", "scale<float>", "scale<int>"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
  EXPECT_TRUE(library_->stateful()) << "it has variables";
}

TEST_P(ModuleFormTest, PlainSignatures) {
  const DeviceMemory a = upload(floats_);
  const DeviceMemory b = upload(std::vector<float>(kCount, 2.0f));
  const DeviceMemory out = upload(std::vector<float>(kCount));
  call_it("nothing", {}, {});
  call_it("add", {}, {kCount, a.address(), b.address(), out.address()});
  std::vector<float> expected = floats_;
  for (float& value : expected) value += 2.0f;
  EXPECT_EQ(download<float>(out, kCount), expected);
  call_it("_Z5saxpyyfPKfPf", {}, {std::uint64_t{kCount}, 3.0f, a.address(), out.address()});
  for (unsigned i = 0; i < kCount; ++i) expected[i] += 3.0f * floats_[i];
  EXPECT_EQ(download<float>(out, kCount), expected);
  call_it("subtract(float const*, float const*, float*, int)", {},
          {a.address(), b.address(), out.address(), int{kCount}});
  for (unsigned i = 0; i < kCount; ++i) expected[i] = floats_[i] - 2.0f;
  EXPECT_EQ(download<float>(out, kCount), expected);
}

TEST_P(ModuleFormTest, NumbersOfAllSizes) {
  const DeviceMemory out = upload(std::vector<double>(1));
  call_it("mixed", {},
          {std::int8_t{-3}, std::int16_t{1000}, 0.5, std::int64_t{1} << 40, out.address()});
  EXPECT_EQ(download<double>(out, 1)[0], -3 + 1000 + 0.5 + static_cast<double>(1ll << 40));
  call_it("plain_c", {}, {41, out.address()});
  EXPECT_EQ(download<int>(out, 1)[0], 42);
}

TEST_P(ModuleFormTest, KernelsOfOneNameAreToldApartByTheirParameters) {
  bool first = false;
  const auto any = library_->find("store", first);
  ASSERT_FALSE(any.has_value());
  EXPECT_EQ(any.error().code, StatusCode::InvalidArgument);
  EXPECT_NE(any.error().message.find("'store(float, float*)', 'store(int, int*)'"),
            std::string::npos)
      << any.error().message;
  const DeviceMemory out = upload(std::vector<int>(1));
  call_it("store(int,int*)", {}, {7, out.address()});
  EXPECT_EQ(download<int>(out, 1)[0], 7);
  call_it("store(float, float*)", {}, {1.5f, out.address()});
  EXPECT_EQ(download<float>(out, 1)[0], 1.5f);
}

TEST_P(ModuleFormTest, StructsByValueWithAddressesInside) {
  struct Range {
    DeviceAddress from, to;
    unsigned count;
    float factor;
  };
  struct Pair {
    int first;
    double second;
  };
  const DeviceMemory from = upload(floats_);
  const DeviceMemory to = upload(std::vector<float>(kCount));
  call_it("scale_range", {}, {Range{from.address(), to.address(), kCount, 4.0f}});
  std::vector<float> expected = floats_;
  for (float& value : expected) value *= 4.0f;
  EXPECT_EQ(download<float>(to, kCount), expected);
  call_it("sum_pair", {}, {Pair{3, 0.25}, to.address()});
  EXPECT_EQ(download<double>(to, 1)[0], 3.25);
}

TEST_P(ModuleFormTest, Templates) {
  const DeviceMemory ints = upload(ints_);
  const DeviceMemory floats = upload(floats_);
  call_it("scale<int>", {}, {kCount, 3, ints.address()});
  call_it("scale<float>(unsigned int, float, float*)", {}, {kCount, 0.5f, floats.address()});
  call_it("kaas::twice", {}, {kCount, ints.address()});
  std::vector<int> expected = ints_;
  for (int& value : expected) value *= 6;
  EXPECT_EQ(download<int>(ints, kCount), expected);
  for (float& value : floats_) value *= 0.5f;
  EXPECT_EQ(download<float>(floats, kCount), floats_);
  const DeviceMemory out = upload(ints_);
  call_it("shift<int, 3>", {}, {kCount, ints.address(), out.address()});
  std::rotate(expected.begin(), expected.end() - 3, expected.end());
  EXPECT_EQ(download<int>(out, kCount), expected);
}

TEST_P(ModuleFormTest, SharedMemoryBeyond48KiB) {
  const DeviceMemory in = upload(ints_);
  const DeviceMemory out = upload(std::vector<int>(kCount));
  call_it("reverse_static", {1, 256}, {in.address(), out.address()});
  std::vector<int> expected(ints_.begin(), ints_.begin() + 256);
  std::reverse(expected.begin(), expected.end());
  EXPECT_EQ(download<int>(out, 256), expected);

  std::vector<int> many(50'000);
  std::iota(many.begin(), many.end(), 0);
  const DeviceMemory many_in = upload(many);
  const DeviceMemory many_out = upload(std::vector<int>(many.size()));
  call_it("reverse_dynamic", {1, 1024, many.size() * sizeof(int)},
          {static_cast<unsigned>(many.size()), many_in.address(), many_out.address()});
  std::reverse(many.begin(), many.end());
  EXPECT_EQ(download<int>(many_out, many.size()), many);
}

TEST_P(ModuleFormTest, CooperativeGridsAndClusters) {
  constexpr unsigned kBlocks = 16;
  const DeviceMemory partial = upload(std::vector<int>(kBlocks));
  const DeviceMemory out = upload(std::vector<int>(kBlocks));
  call_it("grid_sum", {kBlocks, 64, 0, 1, true}, {partial.address(), out.address()});
  EXPECT_EQ(download<int>(out, kBlocks), std::vector<int>(kBlocks, kBlocks * (kBlocks + 1) / 2));
  call_it("cluster_rank", {8, 32, 0, 4, false}, {out.address()});
  EXPECT_EQ(download<unsigned>(out, 8), (std::vector<unsigned>{0, 1, 2, 3, 0, 1, 2, 3}));
}

TEST_P(ModuleFormTest, VariablesAreSetFromBuffersAndKeepTheirValue) {
  const DeviceMemory index = upload(std::vector<int>{0, 1, 2, 3});
  const DeviceMemory out = upload(std::vector<float>(4));
  call_it("look_up", {1, 32}, {4u, index.address(), out.address()});
  EXPECT_EQ(download<float>(out, 4), (std::vector<float>{8, 9, 10, 11})) << "initial values";
  const DeviceMemory table = upload(std::vector<float>{10, 20, 30, 40});
  const DeviceMemory bytes = upload(std::vector<unsigned char>{1, 2, 3});
  const DeviceMemory deep = upload(std::vector<double>{1.25, 2.5});
  const DeviceMemory counter = upload(std::vector<int>{100});
  call_it("@table", {1, 1}, {table.address()});
  call_it("@bytes_table", {1, 1}, {bytes.address()});
  call_it("@counter", {1, 1}, {counter.address()});
  call_it("look_up", {1, 32}, {4u, index.address(), out.address()});
  EXPECT_EQ(download<float>(out, 4), (std::vector<float>{11, 21, 31, 41}));
  call_it("count_calls", {1, 1}, {out.address()});
  call_it("count_calls", {1, 1}, {out.address()});
  EXPECT_EQ(download<int>(out, 1)[0], 102);
  const bool listed = GetParam().name != "Fatbin";
  call_it(listed ? "@kaas::deep" : "@_ZN4kaas4deepE", {1, 1}, {deep.address()});
  call_it("read_deep", {1, 32}, {out.address()});
  EXPECT_EQ(download<double>(out, 2), (std::vector<double>{1.25, 2.5}));
}

TEST_P(ModuleFormTest, VariableHasItsSizeAndUnknownOnesAreNotFound) {
  bool first = false;
  const auto table = library_->find("@table", first);
  ASSERT_TRUE(table.has_value());
  EXPECT_EQ((*table)->variable_bytes, 16u);
  EXPECT_TRUE((*table)->stateful);
  const auto unknown = library_->find("@tabel", first);
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code, StatusCode::NotFound);
  const auto kernel = library_->find("scale_rang", first);
  ASSERT_FALSE(kernel.has_value());
  EXPECT_NE(kernel.error().message.find("nearest: 'scale_range'"), std::string::npos)
      << kernel.error().message;
  EXPECT_FALSE(device_->lost());
}

// A program of three kernels, as a graph: the values of the second run are those that count.
TEST_P(ModuleFormTest, KernelsBecomeAGraph) {
  const DeviceMemory data = upload(ints_);
  bool first = false;
  const KernelEntry* entry = *library_->find("scale<int>", first);
  // As a plan does it: 16 bytes a parameter.
  std::vector<std::uint64_t> words(6);
  words[0] = kCount;
  words[2] = 2;
  words[4] = data.address();
  void* params[] = {&words[0], &words[2], &words[4]};
  std::vector<KernelLaunch> launches(3);
  const std::uint16_t before[] = {0, 1};
  for (std::size_t i = 0; i < launches.size(); ++i) {
    KernelLaunch& launch = launches[i];
    launch.function = *device_->load(*entry);
    std::fill(std::begin(launch.shape.grid), std::end(launch.shape.grid), 1u);
    std::fill(std::begin(launch.shape.block), std::end(launch.shape.block), 1u);
    std::fill(std::begin(launch.shape.cluster), std::end(launch.shape.cluster), 1u);
    launch.shape.grid[0] = 4;
    launch.shape.block[0] = 256;
    launch.params = params;
    if (i > 0) launch.after = {&before[i - 1], 1};
  }
  KernelProgram program;
  program.launches = launches;
  program.words = words;
  const auto prepared = device_->prepare(program);
  ASSERT_NE(prepared, nullptr);
  ASSERT_TRUE(eventually([&] { return prepared->ready(); }));
  program.prepared = prepared.get();
  for (const int factor : {2, 3}) {
    words[2] = static_cast<std::uint64_t>(factor);
    ASSERT_TRUE(stream_->launch(program).has_value());
    ASSERT_TRUE(stream_->wait().has_value());
    EXPECT_EQ(stream_->counts().way, wire::RunWay::Graph);
  }
  std::vector<int> expected = ints_;
  for (int& value : expected) value *= 8 * 27;
  EXPECT_EQ(download<int>(data, kCount), expected);
}

INSTANTIATE_TEST_SUITE_P(, ModuleFormTest,
                         testing::Values(Form{"Cubin", "kernels.so", text_of(kCubin)},
                                         Form{"Ptx", "kernels", text_of(kPtx)},
                                         Form{"Fatbin", "kernels.bin", text_of(kFatbin)},
                                         Form{"Source", "kernels.cu", text_of(kSource)}),
                         [](const auto& form) { return form.param.name; });

// --- What is refused -----------------------------------------------------------------------------

class RefusedModuleTest : public ModuleTest {};

TEST_F(RefusedModuleTest, CubinForAnotherGpuSaysBoth) {
  if (device_->architecture() / 10 == 12) GTEST_SKIP() << "it is for this one";
  expect_refused("foreign.cubin", text_of(kForeignCubin),
                 {"a cubin for sm_120", "is sm_" + std::to_string(device_->architecture())});
}

TEST_F(RefusedModuleTest, PtxOfANewerVersionSaysBothVersions) {
  std::string ptx = text_of(kPtx);
  const std::size_t at = ptx.find(".version ");
  ptx.replace(at, ptx.find('\n', at) - at, ".version 99.9");
  expect_refused("new.ptx", ptx, {"PTX of version 99.9", "with a driver for CUDA "});
}

TEST_F(RefusedModuleTest, BrokenPtxComesWithTheDriversLog) {
  std::string ptx = text_of(kPtx);
  ptx.insert(ptx.rfind("ret;"), "frobnicate.f32 %f1;\n");
  expect_refused("broken.ptx", ptx, {"frobnicate"});
}

TEST_F(RefusedModuleTest, TruncatedImagesDoNotHarmTheProcess) {
  for (const std::string& whole : {text_of(kCubin), text_of(kFatbin)}) {
    for (std::size_t piece = 1; piece < 8; ++piece) {
      expect_refused("cut.cubin", whole.substr(0, whole.size() * piece / 8), {"is damaged"});
    }
  }
}

TEST_F(RefusedModuleTest, BrokenSourceComesWithTheCompilersWords) {
  const auto library = open("broken.cu", "__global__ void f() {\n  undefined_thing();\n}\n");
  ASSERT_FALSE(library.has_value());
  if (library.error().code == StatusCode::Unavailable) GTEST_SKIP() << library.error().message;
  expect_refused("broken.cu", "__global__ void f() {\n  undefined_thing();\n}\n",
                 {"does not compile", "broken.cu(2): error:", "undefined_thing"});
}

TEST_F(RefusedModuleTest, CompiledSourceIsKeptInTheCache) {
  const std::string source = "__global__ void f(int* x) { *x = 3; }\n";
  const auto library = open("kept.cu", source);
  if (!library && library.error().code == StatusCode::Unavailable) {
    GTEST_SKIP() << library.error().message;
  }
  ASSERT_TRUE(library.has_value()) << library.error().message;
  EXPECT_FALSE((*library)->stateful()) << "it has no variables";
  const auto cache = folder_.path() / "kaas/cuda";
  ASSERT_FALSE(std::filesystem::is_empty(cache));
  const DeviceMemory out = upload(std::vector<int>(1));
  call(**open("again.cu", source), "f", {1, 1}, {out.address()});
  EXPECT_EQ(download<int>(out, 1)[0], 3);
}

}  // namespace
}  // namespace kaas
