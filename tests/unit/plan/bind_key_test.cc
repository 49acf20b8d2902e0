// Keys as users write them: one object has one name, or aliasing would go unseen.
#include <gtest/gtest.h>

#include "daemon/plan/bind.h"

namespace kaas {
namespace {

TEST(ParseKey, PlainKeyIsInTheCallersNamespace) {
  const auto key = parse_key("a/b@c", 1000);
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(key->namespace_uid, 1000u);
  EXPECT_EQ(key->key, "a/b@c");
}

TEST(ParseKey, KeyOfAnotherUidNamesItsNamespace) {
  const auto key = parse_key("@0/x", 1000);
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(key->namespace_uid, 0u);
  EXPECT_EQ(key->key, "x");
}

TEST(ParseKey, SecondSpellingsOfOneObjectAreRefused) {
  for (const char* key :
       {"@1000/x", "@01/x", "@00/x", "@/x", "@1", "@1/", "@x/y", "@-1/x", "@99999999999/x", "@"}) {
    EXPECT_FALSE(parse_key(key, 1000).has_value()) << key;
  }
}

}  // namespace
}  // namespace kaas
