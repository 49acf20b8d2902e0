#include "daemon/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace kaas {
namespace {

std::string fault_of(Config config) {
  const auto completed = complete_config(config);
  return completed.has_value() ? "ok" : completed.error().message;
}

TEST(Config, UidIsJoinedOnceOnly) {
  Config config;
  config.joined_domains = {{1000, 1001}, {1002, 1001}};
  EXPECT_EQ(fault_of(config), "domain.joined names uid 1001 twice; allowed: each uid once");
  config.joined_domains = {{1000, 1001}, {1002}};
  EXPECT_EQ(fault_of(config), "ok");
}

// What a flag may say is what the file may say.
TEST(Config, NumbersHaveTheSameLimitsWhereverTheyComeFrom) {
  Config config;
  EXPECT_EQ(fault_of(config), "ok");
  config.arena_bytes = 0;
  EXPECT_EQ(fault_of(config), "arena.bytes is 0, allowed: an integer from 4096 to 1099511627776");
  config = {};
  config.arenas_ready = 100'000;
  EXPECT_EQ(fault_of(config), "arena.ready is 100000, allowed: an integer from 0 to 1024");
  config = {};
  config.running_limit_ms = 18'446'744'073'710;  // In nanoseconds beyond 64 bits.
  EXPECT_EQ(fault_of(config),
            "executor.running_limit_ms is 18446744073710, allowed: an integer from 0 to 86400000");
  config = {};
  config.reserved_sms = 1025;
  EXPECT_EQ(fault_of(config), "executor.reserved_sms is 1025, allowed: an integer from 0 to 1024");
  config = {};
  config.spin_us = 1'000'001;
  EXPECT_EQ(fault_of(config), "spin_us is 1000001, allowed: an integer from 0 to 1000000");
  config = {};
  config.idle_release_s = 31'536'001;
  EXPECT_NE(fault_of(config).find("idle_release is 31536001"), std::string::npos);
  for (std::uint64_t Config::*bytes :
       {&Config::store_bytes, &Config::export_bytes, &Config::device_bytes}) {
    config = {};
    config.*bytes = ~std::uint64_t{0};
    EXPECT_NE(fault_of(config).find("is 18446744073709551615, allowed: an integer from 0"),
              std::string::npos);
  }
}

TEST(Config, LogLevelAndPolicyAreNamesThatThereAre) {
  Config config;
  config.log_level = "loud";
  EXPECT_EQ(fault_of(config),
            "log.level is 'loud', allowed: trace, debug, info, warning, error, critical, off");
  config = {};
  config.policy = "lifo";
  EXPECT_EQ(fault_of(config), "policy is 'lifo', allowed: fifo");
}

TEST(Config, StoreHasRoomForAnArena) {
  Config config;
  config.store_bytes = kArenaBytesDefault;
  EXPECT_EQ(fault_of(config), "ok");
  config.store_bytes = 1'000'000;
  EXPECT_EQ(fault_of(config),
            "store.bytes is 1000000, allowed: 0 (from the machine's memory) or at least "
            "arena.bytes, which is 8388608");
}

TEST(Config, FaultOfThePrefixNamesIt) {
  Config config;
  config.executor_prefix = "gdb 'a";
  EXPECT_EQ(fault_of(config), "executor.prefix: 'gdb 'a' has an open '");
}

TEST(Config, DomainIsThatOfTheFirstUidOfItsList) {
  Config config;
  config.joined_domains = {{1000, 1001}, {1002}};
  EXPECT_EQ(domain_of(config, 1001), 1000u);
  EXPECT_EQ(domain_of(config, 1002), 1002u);
  EXPECT_EQ(domain_of(config, 7), 7u);
  EXPECT_EQ(joined_uids(config), (std::vector<std::uint32_t>{1000, 1001}))
      << "who is alone in a list shares with nobody";
}

TEST(Config, ExecutorsUserIsAUserOtherThanRootAndRootsToGive) {
  Config config;
  config.executor_user = "no such user";
  EXPECT_EQ(fault_of(config), "there is no user 'no such user'; allowed: a user's name or uid");
  config.executor_user = "-1";
  EXPECT_NE(fault_of(config).find("there is no user"), std::string::npos);
  config.executor_user = "65530";
  if (::geteuid() == 0) {
    EXPECT_EQ(fault_of(config), "ok");
    config.executor_user = "root";
    EXPECT_EQ(fault_of(config), "executor.user is 'root'; allowed: a user other than root");
  } else {
    EXPECT_EQ(fault_of(config),
              "executor.user is '65530', but only root can give executors "
              "another user's rights, and kaasd runs as uid " +
                  std::to_string(::geteuid()) + "; allowed: none");
  }
}

}  // namespace
}  // namespace kaas
