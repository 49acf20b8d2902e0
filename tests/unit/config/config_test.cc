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
