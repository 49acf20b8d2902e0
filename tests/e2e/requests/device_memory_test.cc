// Device memory of a client, against a daemon without a GPU: what kaasd checks itself, and that the
// executor's word reaches whoever asked. tests/gpu/ipc has what works.
#include <fcntl.h>

#include <array>

#include "schema/ipc/handle.h"
#include "tests/support/e2e_fixture.h"
#include "tests/support/eventually.h"

namespace kaas {
namespace {

constexpr std::uint64_t kBytes = 4096;

class DeviceMemoryTest : public E2eTest {
 protected:
  DeviceMemoryTest() { handle_.fill(std::byte{7}); }

  [[nodiscard]] DeviceAllocation legacy() const {
    DeviceAllocation memory;
    memory.handle = handle_;
    memory.bytes = kBytes;
    return memory;
  }
  // Registers what can't be, and says how that is told.
  template <class Change>
  std::string refusal(Client& client, Change change) {
    DeviceAllocation memory = legacy();
    change(memory);
    return outcome_of(client.register_device_memory(memory));
  }
  static Request scale_in(const Region& region, std::uint64_t offset = 0) {
    RequestBuilder builder;
    builder.buffer("x", 64).in_segment(region.segment(), offset);
    builder.kernel("std", "scale")
        .grid(1)
        .block(16)
        .literal(std::uint64_t{16})
        .literal(2.0f)
        .inout("x");
    return built(builder);
  }

  std::array<std::byte, 64> handle_;
};

TEST_F(DeviceMemoryTest, ExecutorsRefusalReachesTheClient) {
  Client client = connect();
  const auto region = client.register_device_memory(legacy());
  ASSERT_OK(region);
  const std::string by_region = outcome_of(client.run(scale_in(*region)));
  EXPECT_NE(by_region.find("InvalidArgument: device memory of segment"), std::string::npos)
      << by_region;
  EXPECT_NE(by_region.find("the host device has no memory that other processes could share"),
            std::string::npos)
      << by_region;
  IpcHandle handle;
  std::copy(handle_.begin(), handle_.end(), handle.handle);
  RequestBuilder builder;
  builder.buffer("x", 64).device_memory(handle);
  builder.kernel("std", "scale")
      .grid(1)
      .block(16)
      .literal(std::uint64_t{16})
      .literal(2.0f)
      .inout("x");
  EXPECT_EQ(outcome_of(client.run(built(builder))), by_region) << "it is the same segment";
  // Nobody is hurt.
  ASSERT_OK(client.put("k", bytes_of(std::vector<float>(16, 1.0f))));
  EXPECT_OK(client.run(scale("k", 16)));
  EXPECT_EQ(floats(client, "k").at(0), 2.0f);
}

TEST_F(DeviceMemoryTest, RangeBeyondTheAllocationIsRefused) {
  Client client = connect();
  const auto region = client.register_device_memory(legacy());
  ASSERT_OK(region);
  // By the client, which knows the region, and by kaasd, whatever a client says.
  RequestBuilder in_region;
  in_region.buffer("x", 64).in(*region, kBytes - 60);
  for (const std::string& outcome :
       {outcome_of(in_region.build()), outcome_of(client.run(scale_in(*region, kBytes - 60)))}) {
    EXPECT_NE(outcome.find("InvalidArgument"), std::string::npos) << outcome;
    EXPECT_NE(outcome.find("4096"), std::string::npos) << outcome;
  }
}

TEST_F(DeviceMemoryTest, WrongDescriptionsAreRefusedWithFieldAndLimit) {
  Client client = connect();
  const std::vector<std::byte> long_handle(65);
  const std::vector<std::byte> short_uuid(15);
  const Descriptor file(::open("/dev/null", O_RDWR | O_CLOEXEC));
  using Kind = DeviceAllocation::Kind;
  EXPECT_EQ(refusal(client, [&](auto& m) { m.handle = m.handle.first(63); }),
            "InvalidArgument: device memory handle of kind Legacy has 63 bytes, allowed: 64");
  EXPECT_EQ(refusal(client, [&](auto& m) { m.handle = {}; }),
            "InvalidArgument: device memory handle of kind Legacy has 0 bytes, allowed: 64");
  EXPECT_EQ(
      refusal(client,
              [&](auto& m) {
                m.kind = Kind::CuMem;
                m.handle = long_handle;
              }),
      "InvalidArgument: device memory handle of kind CuMem has 65 bytes, allowed: at most 64");
  EXPECT_EQ(refusal(client, [&](auto& m) { m.bytes = 0; }),
            "InvalidArgument: device memory bytes is 0, allowed: 1 to 1099511627776");
  EXPECT_EQ(refusal(client, [&](auto& m) { m.bytes = ~std::uint64_t{0}; }),
            "InvalidArgument: device memory bytes is 18446744073709551615, allowed: 1 to "
            "1099511627776");
  EXPECT_EQ(refusal(client, [&](auto& m) { m.gpu = short_uuid; }),
            "InvalidArgument: device memory gpu has 15 bytes, a UUID has 16");
  EXPECT_EQ(refusal(client, [&](auto& m) { m.kind = Kind::Pool; }),
            "InvalidArgument: device memory of kind Pool came with 0 descriptors, wanted is 1");
  EXPECT_EQ(
      refusal(client, [&](auto& m) { m.descriptor = file.get(); }),
      "InvalidArgument: device memory of kind Legacy came with 1 descriptors, wanted is none");
  EXPECT_EQ(refusal(client, [&](auto& m) { m.kind = static_cast<Kind>(9); }),
            "InvalidArgument: device memory kind is 9, limit 2");
  EXPECT_OK(client.register_device_memory(legacy())) << "the session goes on";
}

TEST_F(DeviceMemoryTest, SameHandleIsTheSameSegmentUntilItIsDroppedAsOften) {
  Client client = connect();
  auto first = client.register_device_memory(legacy());
  ASSERT_OK(first);
  {
    const auto second = client.register_device_memory(legacy());
    ASSERT_OK(second);
    EXPECT_EQ(second->segment(), first->segment());
  }
  const Request request = scale_in(*first);
  EXPECT_NE(outcome_of(client.run(request)).find("device memory of segment"), std::string::npos);
  DeviceAllocation larger = legacy();
  larger.bytes *= 2;
  EXPECT_EQ(outcome_of(client.register_device_memory(larger)),
            "InvalidArgument: bytes of the device memory is 8192, the same handle was given with "
            "4096");
  *first = Region();
  ASSERT_OK(client.status_json());  // The drop went before it.
  const std::string gone = outcome_of(client.run(request));
  EXPECT_NE(gone.find("which this session does not have"), std::string::npos) << gone;
}

TEST_F(DeviceMemoryTest, ExportFromTheHostIsRefusedWithWhatToUse) {
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(std::vector<float>(16, 1.0f))));
  EXPECT_EQ(outcome_of(client.export_object("k")),
            "InvalidArgument: the host device has no memory that other processes could map; a get "
            "brings the bytes to host memory");
  EXPECT_NE(outcome_of(client.export_object("unknown")).find("NotFound"), std::string::npos);
  ExportOptions options;
  options.offset = 64;
  EXPECT_EQ(outcome_of(client.export_object("k", options)),
            "InvalidArgument: export offset is 64, object 'k' has 64 bytes");
  const auto status = client.status_json();
  const auto clients = client.clients_json();
  ASSERT_OK(status);
  ASSERT_OK(clients);
  EXPECT_NE(status->find("\"exported_bytes\":0"), std::string::npos) << *status;
  EXPECT_NE(clients->find("\"exports\":0"), std::string::npos) << *clients;
  EXPECT_OK(client.run(scale("k", 16))) << "nobody is hurt";
}

// The limit is looked at before the device is.
TEST_F(DeviceMemoryTest, ExportBeyondTheConfiguredLimitIsRefusedWithBothNumbers) {
  ASSERT_EQ(daemon_->stop(), 0);
  daemon_ = DaemonProcess::start({"--export-bytes", "1000000"});
  ASSERT_NE(daemon_, nullptr);
  Client client = connect();
  ASSERT_OK(client.put("k", bytes_of(std::vector<float>(16, 1.0f))));
  EXPECT_EQ(outcome_of(client.export_object("k")),
            "ResourceExhausted: device memory exported to this session (export.bytes of kaasd) is "
            "2097152, limit 1000000");
}

TEST_F(DeviceMemoryTest, DescriptorsAreReturnedWithTheSession) {
  const std::size_t before = daemon_->open_descriptors();
  {
    Client client = connect();
    const Descriptor file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    std::vector<Region> regions;
    for (int i = 0; i < 100; ++i) {
      DeviceAllocation memory;
      memory.kind = DeviceAllocation::Kind::CuMem;
      memory.bytes = kBytes;
      memory.descriptor = file.get();
      auto region = client.register_device_memory(memory);
      ASSERT_OK(region);
      // Without a name each one is another.
      for (const Region& other : regions) ASSERT_NE(region->segment(), other.segment());
      regions.push_back(std::move(*region));
      if (i % 10 == 0) {
        EXPECT_EQ(client.run(scale_in(regions.back())).error().code, StatusCode::InvalidArgument);
      }
    }
    EXPECT_GE(daemon_->open_descriptors(), before + 100);
    regions.resize(50);
    EXPECT_TRUE(eventually([&] { return daemon_->open_descriptors() < before + 70; }));
  }
  EXPECT_TRUE(eventually([&] { return daemon_->open_descriptors() <= before; }));
}

TEST_F(DeviceMemoryTest, SessionHasALimitOfSegments) {
  Client client = connect();
  std::vector<Region> regions;
  std::string refused;
  for (int i = 0; i < 1100 && refused.empty(); ++i) {
    std::memcpy(handle_.data(), &i, sizeof i);
    auto region = client.register_device_memory(legacy());
    if (region.has_value()) regions.push_back(std::move(*region));
    if (!region.has_value()) refused = to_string(region.error());
  }
  EXPECT_EQ(refused, "ResourceExhausted: segments of this session is 1025, limit 1024");
  regions.pop_back();
  EXPECT_OK(client.register_device_memory(legacy()));
}

}  // namespace
}  // namespace kaas
