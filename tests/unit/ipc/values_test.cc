// Result, UniqueHandle, Untrusted, ranges, the outbox allocator.
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <memory>
#include <random>

#include "daemon/supervise/outbox.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/messages.h"
#include "schema/ipc/result.h"
#include "schema/ipc/untrusted.h"

namespace kaas {
namespace {

constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();

// --- Result --------------------------------------------------------------------------------------

Result<int> half(int value) {
  if (value % 2 != 0) return Status{StatusCode::InvalidArgument, "odd"};
  return value / 2;
}
Result<int> quarter(int value) {
  KAAS_ASSIGN_OR_RETURN(const int once, half(value));
  KAAS_ASSIGN_OR_RETURN(const int twice, half(once));
  return twice;
}
Result<void> check(int value) {
  KAAS_RETURN_IF_ERROR(half(value));
  return {};
}

TEST(Result, CarriesAValueOrAnError) {
  EXPECT_EQ(*quarter(8), 2);
  const auto odd = quarter(6);
  ASSERT_FALSE(odd.has_value());
  EXPECT_EQ(to_string(odd.error()), "InvalidArgument: odd");
  EXPECT_TRUE(check(2).has_value());
  EXPECT_FALSE(check(3).has_value());
}

TEST(Result, MovesWhatCannotBeCopied) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = *std::move(made);
  EXPECT_EQ(*taken, 5);
}

TEST(ResultDeathTest, AskedForWhatItIsNotEndsTheProcess) {
  Result<int> failed = Status{StatusCode::NotFound, "no"};
  Result<int> good = 1;
  EXPECT_DEATH(static_cast<void>(*failed), "without a value");
  EXPECT_DEATH(static_cast<void>(good.error()), "without an error");
}

TEST(Status, EveryCodeHasItsName) {
  for (auto code = static_cast<int>(wire::StatusCode::MIN);
       code <= static_cast<int>(wire::StatusCode::MAX); ++code) {
    EXPECT_STREQ(name_of(static_cast<StatusCode>(code)),
                 wire::EnumNameStatusCode(static_cast<wire::StatusCode>(code)));
  }
  EXPECT_STREQ(name_of(static_cast<StatusCode>(200)), "unknown status");
}

// --- UniqueHandle --------------------------------------------------------------------------------

std::map<int, int> released;
struct CountingTraits {
  using type = int;
  static constexpr int null() noexcept { return 0; }
  static void release(int handle) noexcept { ++released[handle]; }
};
using Counted = UniqueHandle<CountingTraits>;

TEST(UniqueHandle, IsReleasedOnce) {
  released.clear();
  {
    Counted a(1);
    Counted b(std::move(a));
    EXPECT_FALSE(static_cast<bool>(a));  // NOLINT: looked at on purpose.
    Counted c(2);
    c = std::move(b);
    EXPECT_EQ(released, (std::map<int, int>{{2, 1}}));
    EXPECT_EQ(c.get(), 1);
    Counted empty;
    Counted& same = c;
    c = std::move(same);
    EXPECT_EQ(c.get(), 1) << "moved to itself";
  }
  EXPECT_EQ(released, (std::map<int, int>{{1, 1}, {2, 1}}));
}

TEST(UniqueHandle, GivenUpIsNotReleased) {
  released.clear();
  {
    Counted a(1);
    EXPECT_EQ(a.release(), 1);
  }
  EXPECT_TRUE(released.empty());
}

// --- Numbers of peers ----------------------------------------------------------------------------

TEST(Ranges, FitWithoutOverflow) {
  EXPECT_TRUE(range_fits(0, 0, 0));
  EXPECT_TRUE(range_fits(10, 0, 10));
  EXPECT_FALSE(range_fits(11, 0, 10));
  EXPECT_TRUE(range_fits(4, 6, 10));
  EXPECT_FALSE(range_fits(4, 7, 10));
  EXPECT_FALSE(range_fits(kLast, 2, kLast));
  EXPECT_FALSE(range_fits(2, kLast, kLast));
  EXPECT_FALSE(range_fits(kLast, kLast, 10));
  EXPECT_TRUE(range_fits(0, kLast, kLast));
  EXPECT_TRUE(range_fits(kLast, 0, kLast));
  static_assert(range_fits(1, kLast - 1, kLast));
}

TEST(Ranges, OverlapOnlyWhereTheyShareAByte) {
  EXPECT_TRUE(ranges_overlap(0, 10, 9, 1));
  EXPECT_FALSE(ranges_overlap(0, 10, 10, 1));
  EXPECT_TRUE(ranges_overlap(5, 1, 0, 10));
  EXPECT_FALSE(ranges_overlap(5, 0, 0, 10)) << "an empty range shares none";
  EXPECT_FALSE(ranges_overlap(0, 10, 5, 0));
  EXPECT_TRUE(ranges_overlap(kLast - 1, 1, kLast - 1, 1));
  EXPECT_FALSE(ranges_overlap(kLast - 1, 1, kLast, 1));
  EXPECT_FALSE(ranges_overlap(0, kLast, kLast, 1));
  EXPECT_TRUE(ranges_overlap(0, kLast, kLast - 1, 1));
}

TEST(Ranges, OverlapAgreesWithCountingBytes) {
  for (std::uint64_t a = 0; a < 5; ++a) {
    for (std::uint64_t n = 0; n < 5; ++n) {
      for (std::uint64_t b = 0; b < 5; ++b) {
        for (std::uint64_t m = 0; m < 5; ++m) {
          bool shares = false;
          for (std::uint64_t i = 0; i < 10; ++i) {
            shares = shares || (a <= i && i < a + n && b <= i && i < b + m);
          }
          EXPECT_EQ(ranges_overlap(a, n, b, m), shares) << a << "+" << n << " " << b << "+" << m;
        }
      }
    }
  }
}

TEST(Untrusted, ComesOutOfACheckThatNamesIt) {
  EXPECT_EQ(*Untrusted<std::uint32_t>(5).at_most(5, "n"), 5u);
  const auto over = Untrusted<std::uint32_t>(70000).at_most(65536, "payload_bytes");
  ASSERT_FALSE(over.has_value());
  EXPECT_EQ(over.error().message, "payload_bytes is 70000, limit 65536");
  EXPECT_EQ(check_range("buffer 'x'", 8, 16, 20).error().message,
            "buffer 'x' range [8, 8 + 16) is outside 20 bytes");
  int named = 0;
  const auto name = [&] {
    ++named;
    return std::string("load 3");
  };
  EXPECT_TRUE(check_range(name, 4, 16, 20).has_value());
  EXPECT_EQ(named, 0);  // A name is made for a message only.
  EXPECT_EQ(check_range(name, 8, 16, 20).error().message,
            "load 3 range [8, 8 + 16) is outside 20 bytes");
}

// --- Messages ------------------------------------------------------------------------------------

TEST(VerifiedRoot, TakesWhatABuilderMadeAndNothingShorter) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(
      wire::CreateSubmission(builder, 7, wire::Operation::Get,
                             wire::CreateGet(builder, builder.CreateString("key")).Union()));
  const auto bytes = finished(builder);
  ASSERT_NE(verified_root<wire::Submission>(bytes), nullptr);
  EXPECT_EQ(verified_root<wire::Submission>(bytes)->id(), 7u);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    std::vector<std::uint64_t> aligned((n + 7) / 8 + 1);
    std::memcpy(aligned.data(), bytes.data(), n);
    const auto* data = reinterpret_cast<const std::byte*>(aligned.data());
    EXPECT_EQ(verified_root<wire::Submission>({data, n}), nullptr) << n << " bytes";
  }
}

// --- Outbox --------------------------------------------------------------------------------------

TEST(Outbox, RefusesWhatDoesNotFitAndTakesItLater) {
  Outbox outbox(256);
  const auto first = outbox.lease(100);
  const auto second = outbox.lease(128);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(outbox.leased_bytes(), 256u);
  EXPECT_FALSE(outbox.lease(1));
  outbox.give_back(*first, 100);
  EXPECT_TRUE(outbox.lease(128));
}

// Against a list of what is leased: aligned, inside, never overlapping, and whole again at the end.
TEST(Outbox, LeasesNeverOverlapAndNothingIsLost) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    Outbox outbox(16'384);
    std::map<std::uint64_t, std::uint64_t> leased;
    for (int n = 0; n < 500; ++n) {
      if (random() % 2 == 0) {
        const std::uint64_t bytes = 1 + random() % 2000;
        const auto offset = outbox.lease(bytes);
        if (!offset) continue;
        EXPECT_EQ(*offset % 64, 0u);
        EXPECT_TRUE(range_fits(*offset, bytes, 16'384));
        for (const auto& [other, length] : leased) {
          ASSERT_FALSE(
              ranges_overlap(*offset, Outbox::padded(bytes), other, Outbox::padded(length)));
        }
        leased[*offset] = bytes;
      } else if (!leased.empty()) {
        auto chosen = std::next(leased.begin(), static_cast<long>(random() % leased.size()));
        outbox.give_back(chosen->first, chosen->second);
        leased.erase(chosen);
      }
      std::uint64_t sum = 0;
      for (const auto& [offset, bytes] : leased) sum += Outbox::padded(bytes);
      ASSERT_EQ(outbox.leased_bytes(), sum);
    }
    for (const auto& [offset, bytes] : leased) outbox.give_back(offset, bytes);
    EXPECT_EQ(outbox.lease(16'384), std::optional<std::uint64_t>(0)) << "in one piece again";
  }
}

}  // namespace
}  // namespace kaas
