// Puts of donated memory: the put and its descriptor take two ways, so either may be here first.
#include <unistd.h>

#include "schema/ipc/segment.h"
#include "tests/unit/dispatch/dispatch_fixture.h"

namespace kaas {
namespace {

constexpr std::uint64_t kToken = 7;
constexpr std::uint64_t kSecondNs = 1'000'000'000;

class DonationTest : public DispatcherTest {
 protected:
  std::uint64_t put_donated(const std::string& key, std::uint64_t token = kToken) {
    return send([&](std::uint64_t id) {
      return put_donated_message(id, key, token, words_.size() * sizeof(std::uint32_t));
    });
  }
  Result<void> donate(std::uint64_t token = kToken) {
    const Bytes bytes = to_bytes(words_);
    auto memory = create_segment("donated", bytes.size());
    EXPECT_TRUE(memory.has_value());
    EXPECT_EQ(::pwrite(memory->get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    EXPECT_TRUE(add_seals(memory->get(), Seals::Size | Seals::Write | Seals::Seal).has_value());
    Session& session = *dispatcher().find_session(client->session());
    return dispatcher().add_donation(session, token, {*std::move(memory), bytes.size()});
  }

  Words words_ = Words(50'000, 3);  // Too large for a slab.
};

TEST_F(DonationTest, PutComesAfterItsDescriptor) {
  ASSERT_TRUE(donate());
  const auto id = put_donated("x");
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(read_key("x"), words_);
}

TEST_F(DonationTest, PutThatIsAheadOfItsDescriptorWaitsAndWhatFollowsItToo) {
  const auto id = put_donated("x");
  const auto read = get("x");
  step();
  EXPECT_FALSE(answered(id));
  EXPECT_FALSE(answered(read));
  ASSERT_TRUE(donate());
  settle();
  EXPECT_EQ(code(id), StatusCode::Ok);
  EXPECT_EQ(words(read), words_);
}

TEST_F(DonationTest, PutWhoseDescriptorNeverComesFailsAfterASecondAndTheRingGoesOn) {
  const auto id = put_donated("x");
  const auto other = put("y", Words(16, 1));
  step();
  world.now += kSecondNs - 1'000'000;
  step();
  EXPECT_FALSE(answered(id));
  world.now += 2'000'000;
  step();
  EXPECT_EQ(code(id), StatusCode::NotFound);
  EXPECT_NE(answer(id).message.find("token 7"), std::string::npos) << answer(id).message;
  EXPECT_EQ(code(other), StatusCode::Ok);
}

TEST_F(DonationTest, DispatcherSleepsWhileItWaitsAndLooksAgainInTime) {
  const auto id = put_donated("x");
  step();
  world.now += kDonationSpinNs + 1;
  step();
  std::uint64_t wake_at_ns = 0;
  EXPECT_TRUE(dispatcher().prepare_to_sleep(wake_at_ns));
  dispatcher().finish_sleep();
  EXPECT_GT(wake_at_ns, world.now);
  EXPECT_LE(wake_at_ns, world.now + kSecondNs);
  EXPECT_FALSE(answered(id));
}

TEST_F(DonationTest, SessionThatEndsWhileItsPutWaitsLeavesNothing) {
  put_donated("x");
  step();
  world.hang_up(*client);
  step();
  EXPECT_EQ(dispatcher().find_session(1), nullptr);
  EXPECT_EQ(world.budget().used_bytes(), 0u);
  client = &world.connect();
  const auto id = get("x");
  settle();
  EXPECT_EQ(code(id), StatusCode::NotFound);
}

TEST_F(DonationTest, TokenInUseIsRefused) {
  ASSERT_TRUE(donate());
  const auto again = donate();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, StatusCode::AlreadyExists);
}

TEST_F(DonationTest, DonationsWithoutTheirPutAreLimited) {
  for (std::uint64_t token = 1; token <= kDonationsPendingMax; ++token) ASSERT_TRUE(donate(token));
  const auto more = donate(kDonationsPendingMax + 1);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, StatusCode::ResourceExhausted);
}

}  // namespace
}  // namespace kaas
