// The C interface, through a program that is compiled as C99 and linked with the shared library.
#include <gtest/gtest.h>
#include <kaas/kaas.h>

#include <string>

#include "tests/support/child_program.h"
#include "tests/support/loopback_peer.h"

namespace kaas {
namespace {

TEST(CInterface, AC99ProgramUsesAllOfIt) {
  LoopbackPeer peer;
  peer.on_submission = [](PeerSession&, PeerRing& ring, const wire::Submission& submission) {
    if (submission.operation_type() != wire::Operation::Submit) return false;
    PeerRing::Fields fields;
    fields.outputs = {{"y", "ABCD"}};
    fields.profile = true;
    ring.answer(submission.id(), fields);
    return true;
  };
  peer.run([](LoopbackPeer&) {});  // From here on its thread sees that.
  EXPECT_EQ(run_program("client_c_program", {peer.path()}), 0);
}

TEST(CInterface, AMessageThatIsTooLongIsCut) {
  kaas_error error;
  kaas_builder* builder = kaas_builder_new();
  kaas_builder_buffer(builder, std::string(600, 'n').c_str(), 1, nullptr);
  kaas_builder_buffer(builder, std::string(600, 'n').c_str(), 1, nullptr);
  kaas_request* request = nullptr;
  EXPECT_EQ(kaas_build(builder, &request, &error), KAAS_INVALID_ARGUMENT);
  EXPECT_EQ(std::string(error.message).size(), sizeof error.message - 1u);
  kaas_builder_free(builder);
}

TEST(CInterface, AnOlderCallersShorterStructKeepsTheDefaultsBehind) {
  LoopbackPeer peer;
  kaas_options options;
  kaas_options_init(&options);
  options.socket = peer.path().c_str();
  // As if everything from connect_timeout_ns on did not exist for the caller.
  options.struct_bytes = offsetof(kaas_options, connect_timeout_ns);
  options.connect_timeout_ns = 0;
  options.administration_only = 1;
  kaas_client* client = nullptr;
  kaas_error error;
  ASSERT_EQ(kaas_connect(&options, &client, &error), KAAS_OK) << error.message;
  EXPECT_EQ(kaas_put(client, "k", "v", 1, nullptr, &error), KAAS_OK);
  kaas_close(client);
}

}  // namespace
}  // namespace kaas
