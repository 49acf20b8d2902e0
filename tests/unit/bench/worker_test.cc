#include "tools/bench/worker.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

TEST(Workload, WordsAreReadAsTheyAreWritten) {
  for (const char* word : {"chain:1:1", "chain:128:10", "payload:4096", "input:16777216",
                           "busy:100000", "busy:5:64", "null:1"}) {
    Workload workload;
    ASSERT_TRUE(parse_workload(word, workload)) << word;
    EXPECT_EQ(to_word(workload), word);
  }
}

TEST(Workload, ReadingForgetsWhatWasThere) {
  Workload workload{Workload::Kind::Chain, 5, 7};
  ASSERT_TRUE(parse_workload("busy:9", workload));
  EXPECT_EQ(workload.kind, Workload::Kind::Busy);
  EXPECT_EQ(workload.amount, 9U);
  EXPECT_EQ(workload.buffers, 1U);
}

TEST(Workload, WhatIsNotOneIsRefused) {
  for (const char* word : {"",
                           ":",
                           "chain",
                           "chain:",
                           "chain:8",
                           "chain:8:",
                           "chain:0:1",
                           "chain:8:0",
                           "chain:8:65",
                           "chain:1025:1",
                           "chain:8:1:1",
                           "chain:-8:1",
                           "chain: 8:1",
                           "payload:0",
                           "payload:4097",
                           "payload:252",
                           "payload:1073741828",
                           "input:4096x",
                           "busy:0",
                           "busy:1000000001",
                           "busy:5:0",
                           "busy:5:65537",
                           "busy:5:6:7",
                           "null",
                           "null:2",
                           "null:1:1",
                           "busy:99999999999999999999",
                           "idle:1",
                           "busybusy:1"}) {
    Workload workload;
    EXPECT_FALSE(parse_workload(word, workload)) << word;
  }
}

TEST(Workload, AGridCoversItsFloatsOrReachesItsLimit) {
  EXPECT_EQ(payload_grid(1), 1U);
  EXPECT_EQ(payload_grid(256), 1U);
  EXPECT_EQ(payload_grid(257), 2U);
  EXPECT_EQ(payload_grid(std::uint64_t{1} << 40), kPayloadGridMax);
}

}  // namespace
}  // namespace kaas
