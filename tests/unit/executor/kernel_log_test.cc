#include "daemon/executor/run/kernel_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "daemon/executor/device/run_tag.h"

namespace kaas {
namespace {

class KernelLogTest : public testing::Test {
 protected:
  KernelLogTest() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    read_ = Descriptor(ends[0]);
    write_ = Descriptor(ends[1]);
    ::fcntl(read_.get(), F_SETFL, O_NONBLOCK);
    pipe_ = std::make_unique<LogPipe>(write_.get());
  }
  std::string content() {
    std::string text;
    char bytes[4096];
    for (ssize_t count = 0; (count = ::read(read_.get(), bytes, sizeof bytes)) > 0;) {
      text.append(bytes, static_cast<std::size_t>(count));
    }
    return text;
  }

  Descriptor read_;
  Descriptor write_;
  std::unique_ptr<LogPipe> pipe_;
  std::string pending_;
};

TEST_F(KernelLogTest, LinesNameTheirRequest) {
  {
    const RunTagScope tag({12, 345}, nullptr);
    log_text(*pipe_, pending_, "one\ntw");
    log_text(*pipe_, pending_, "o\n\nrest");
  }
  EXPECT_EQ(content(),
            "\x1e"
            "12 345 one\n\x1e"
            "12 345 two\n\x1e"
            "12 345 \n");
  log_rest(*pipe_, pending_);
  EXPECT_EQ(content(), "rest\n");
  log_rest(*pipe_, pending_);
  EXPECT_EQ(content(), "");
}

TEST_F(KernelLogTest, LongLinesAreCutIntoPiecesThatFitAPipe) {
  const RunTagScope tag({~std::uint64_t{0}, ~std::uint64_t{0}}, nullptr);
  log_text(*pipe_, pending_, std::string(10'000, 'x') + "\n");
  const std::string text = content();
  std::size_t begin = 0;
  std::size_t letters = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    EXPECT_LE(end + 1 - begin, LogPipe::kLineBytesMax);
    EXPECT_EQ(text[begin], '\x1e');
    begin = end + 1;
  }
  for (const char letter : text) letters += letter == 'x' ? 1 : 0;
  EXPECT_EQ(letters, 10'000u);
  EXPECT_EQ(begin, text.size());
}

TEST_F(KernelLogTest, FullPipeDropsAndCountsInsteadOfWaiting) {
  const std::string line(999, 'y');
  for (int i = 0; i < 200; ++i) log_text(*pipe_, pending_, line + "\n");
  const std::uint64_t dropped = pipe_->dropped();
  EXPECT_GT(dropped, 100u);
  EXPECT_EQ(content().size(), (200 - dropped) * 1000);
  log_text(*pipe_, pending_, "after\n");
  EXPECT_EQ(content(), std::to_string(dropped) + " lines of kernel output were dropped\nafter\n");
  EXPECT_EQ(pipe_->dropped(), dropped);
}

TEST_F(KernelLogTest, WriteEndOfThePipeStaysBlockingForOthers) {
  EXPECT_EQ(::fcntl(write_.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(RunTag, ScopesNestAndEndOnce) {
  static int ended = 0;
  const auto end = []() noexcept {
    ++ended;
    current_run_tag_state.printed = false;
  };
  {
    const RunTagScope outer({1, 1}, end);
    {
      const RunTagScope inner({2, 2}, end);
      EXPECT_EQ(current_run_tag_state.tag, (RunTag{2, 2}));
      current_run_tag_state.printed = true;
    }
    EXPECT_EQ(ended, 1);
    EXPECT_EQ(current_run_tag_state.tag, (RunTag{1, 1}));
    std::thread([] { EXPECT_EQ(current_run_tag_state.tag, RunTag{}); }).join();
  }
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(current_run_tag_state.tag, RunTag{});
}

}  // namespace
}  // namespace kaas
