#include "tools/bench/peer.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

PeerCommand parsed(const std::string& text) {
  PeerCommand command;
  EXPECT_EQ(parse_peer_command(text, command), "") << text;
  return command;
}

TEST(PeerCommand, KernelsAreAChain) {
  const PeerCommand command = parsed("kernels=8 requests=2000");
  EXPECT_EQ(command.workload.kind, Workload::Kind::Chain);
  EXPECT_EQ(command.workload.amount, 8u);
  EXPECT_EQ(command.requests, 2000u);
  EXPECT_EQ(command.depth, 1u);
}

TEST(PeerCommand, NoKernelIsANullRequestAndOneIsUsual) {
  EXPECT_EQ(parsed("kernels=0 requests=1").workload.kind, Workload::Kind::Null);
  EXPECT_EQ(parsed("requests=1").workload.amount, 1u);
}

TEST(PeerCommand, PayloadsAndDurationsAreOneKernel) {
  const PeerCommand payload = parsed("kernels=1 payload=4096 seconds=0.5");
  EXPECT_EQ(payload.workload.kind, Workload::Kind::Payload);
  EXPECT_EQ(payload.workload.amount, 4096u);
  EXPECT_EQ(payload.seconds, 0.5);
  const PeerCommand busy = parsed("busy_ns=200000 blocks=64 depth=4 requests=9 warmup=3");
  EXPECT_EQ(busy.workload.kind, Workload::Kind::Busy);
  EXPECT_EQ(busy.workload.blocks, 64u);
  EXPECT_EQ(busy.depth, 4u);
  EXPECT_EQ(busy.warm_up, 3u);
}

TEST(PeerCommand, LoopsAreOneOfThree) {
  EXPECT_EQ(parsed("rate=10000.5 seconds=1").rate, 10000.5);
  EXPECT_EQ(parsed("every_us=100000 requests=3").every_us, 100000u);
  PeerCommand command;
  EXPECT_NE(parse_peer_command("rate=5 depth=2 requests=1", command), "");
  EXPECT_NE(parse_peer_command("rate=5 every_us=2 requests=1", command), "");
}

TEST(PeerCommand, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> wrong[] = {
      {"kernels=x requests=1", "kernels is 'x'"},
      {"kernels=1025 requests=1", "0 to 1024"},
      {"kernels=-1 requests=1", "kernels is '-1'"},
      {"kernels=1.5 requests=1", "kernels is '1.5'"},
      {"kernels= requests=1", "kernels is ''"},
      {"kernels=1 kernels=2 requests=1", "twice"},
      {"kernels requests=1", "KEY=NUMBER"},
      {"cores=1 requests=1", "key is 'cores'"},
      {"kernels=1", "neither requests nor seconds"},
      {"requests=0", "requests is '0'"},
      {"requests=99999999999999999999", "requests"},
      {"seconds=0", "seconds is '0'"},
      {"seconds=nan", "seconds is 'nan'"},
      {"seconds=1e9", "seconds is '1e9'"},
      {"payload=4097 requests=1", "payload is 4097"},
      {"payload=4 requests=1", "payload is 4"},
      {"kernels=2 payload=4096 requests=1", "kernels is 2"},
      {"busy_ns=5 payload=4096 requests=1", "busy_ns is 5"},
      {"kernels=1 blocks=2 requests=1", "blocks is 2"},
  };
  for (const auto& [text, part] : wrong) {
    PeerCommand command;
    EXPECT_NE(parse_peer_command(text, command).find(part), std::string::npos)
        << text << ": " << parse_peer_command(text, command);
  }
}

}  // namespace
}  // namespace kaas
