// What is destroyed when a thread, or the program, is at its end.
#include <gtest/gtest.h>

#include "tests/support/child_program.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

class AtExit : public testing::TestWithParam<const char*> {};

TEST_P(AtExit, EverythingStillWorksAndIsGivenBack) {
  LoopbackPeer peer;
  std::size_t released = 0;
  peer.run([&](LoopbackPeer& p) {
    p.on_submission = [&](PeerSession&, PeerRing&, const wire::Submission& submission) {
      if (submission.operation_as_ReleasePlan() != nullptr) ++released;
      return false;
    };
  });
  EXPECT_EQ(run_program("client_exit_program", {peer.path(), GetParam()}), 0);
  peer.run([&](LoopbackPeer& p) {
    EXPECT_EQ(released, 1u);
    EXPECT_EQ(p.dropped.size(), 1u) << "the region";
    EXPECT_EQ(p.store.count("first farewell"), 1u);
    EXPECT_EQ(p.store.count("second farewell"), 1u);
  });
}

INSTANTIATE_TEST_SUITE_P(Of, AtExit, testing::Values("static", "thread"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace kaas
