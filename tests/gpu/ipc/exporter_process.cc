#include "tests/gpu/ipc/exporter_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schema/ipc/socket.h"
#include "tests/support/daemon_process.h"

namespace kaas {

ExporterProcess::ExporterProcess() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
  socket_ = Descriptor(ends[0]);
  const std::string program =
      test_environment("KAAS_TEST_BINARY_DIR") + "/tests/bin/kaas_gpu_exporter";
  const std::string number = std::to_string(ends[1]);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::close(ends[0]);
    ::execl(program.c_str(), program.c_str(), number.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
}

void ExporterProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

ExportedMemory ExporterProcess::call(const ExporterCommand& command) {
  ExportedMemory result;
  EXPECT_EQ(send_message(socket_.get(), std::as_bytes(std::span(&command, 1))), SendOutcome::Sent);
  EXPECT_TRUE(wait_readable(socket_.get(), 60'000'000'000));
  Received received =
      receive_message(socket_.get(), std::as_writable_bytes(std::span(&result.reply, 1)), 1);
  EXPECT_EQ(received.outcome, ReceiveOutcome::Message) << "the exporter has ended";
  if (!received.descriptors.empty()) result.descriptor = std::move(received.descriptors.front());
  return result;
}

ExportedMemory ExporterProcess::allocate(Memory memory, std::uint64_t bytes, std::uint32_t value,
                                         std::uint64_t offset, int device) {
  ExporterCommand command;
  command.memory = memory;
  command.bytes = bytes;
  command.value = value;
  command.offset = offset;
  command.device = device;
  ExportedMemory made = call(command);
  EXPECT_EQ(made.reply.done, 1u) << made.reply.error;
  return made;
}

bool ExporterProcess::check(std::uint64_t allocation, std::uint64_t offset, std::uint64_t bytes,
                            std::uint32_t value) {
  ExporterCommand command;
  command.what = ExporterCommand::What::Check;
  command.allocation = allocation;
  command.offset = offset;
  command.bytes = bytes;
  command.value = value;
  return call(command).reply.done == 1;
}

void ExporterProcess::fill(std::uint64_t allocation, std::uint64_t offset, std::uint64_t bytes,
                           std::uint32_t value) {
  ExporterCommand command;
  command.what = ExporterCommand::What::Fill;
  command.allocation = allocation;
  command.offset = offset;
  command.bytes = bytes;
  command.value = value;
  call(command);
}

void ExporterProcess::free(std::uint64_t allocation) {
  ExporterCommand command;
  command.what = ExporterCommand::What::Free;
  command.allocation = allocation;
  call(command);
}

void ExporterProcess::spin(std::uint64_t allocation) {
  ExporterCommand command;
  command.what = ExporterCommand::What::Spin;
  command.allocation = allocation;
  call(command);
}

}  // namespace kaas
