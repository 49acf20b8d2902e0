#include "tools/bench/table.h"

#include <gtest/gtest.h>

namespace kaas {
namespace {

TableRow measured_row(const std::string& name, std::vector<double> ours,
                      std::vector<double> peers) {
  TableRow row;
  row.name = name;
  row.what = "what it is";
  row.unit = "us";
  row.peer_name = "peer";
  row.bound = 0.5;
  row.bound_on_ratio = true;
  row.figure_rounds = std::move(ours);
  row.peer_rounds = std::move(peers);
  row.summarise();
  return row;
}

TableReport report_of(std::vector<TableRow> rows) {
  TableReport report = new_report("gpu", false);
  report.device = "a card";
  report.daemon_version = "1.2.3";
  report.rows = std::move(rows);
  return report;
}

TEST(Table, RatioIsOfNeighbouringRounds) {
  // The machine becomes ten times slower half way: each figure is half its peer all the same.
  const TableRow row = measured_row("kernel", {1, 1, 10, 10}, {2, 2, 20, 20});
  EXPECT_DOUBLE_EQ(row.ratio.median, 0.5);
  EXPECT_DOUBLE_EQ(row.ratio.low, 0.5);
  EXPECT_TRUE(row.met());
  EXPECT_TRUE(row.stable);
}

TEST(Table, ARatioWithoutItsPeerIsNotMet) {
  const TableRow row = measured_row("kernel", {0.1, 0.1}, {});
  EXPECT_FALSE(row.judged());
  EXPECT_FALSE(row.met());
  EXPECT_NE(row_lines(row).find("not judged"), std::string::npos);
}

TEST(Table, ARowThatFailedIsNotMetWhateverItsRounds) {
  TableRow row = measured_row("kernel", {1, 1}, {4, 4});
  ASSERT_TRUE(row.met());
  row.error = "Internal: it broke";
  EXPECT_FALSE(row.met());
  EXPECT_NE(row_lines(row).find("it broke"), std::string::npos);
}

TEST(Table, BoundsHoldBothWays) {
  TableRow row = measured_row("rate", {3, 3}, {});
  row.bound_on_ratio = false;
  row.bound = 3;
  EXPECT_TRUE(row.met());
  row.at_most = false;
  EXPECT_TRUE(row.met());
  row.bound = 3.5;
  EXPECT_FALSE(row.met());
}

TEST(Table, AnUnstableRowIsMeasuredUntilItIsStable) {
  TableRow row = measured_row("kernel", {}, {});
  RowRounds rounds;
  int calls = 0;
  const auto round = [&]() -> Result<void> {
    // The first rounds lie on both sides of the bound.
    rounds.ours.push_back(++calls < 5 && calls % 2 == 0 ? 9 : 1);
    rounds.peers.push_back(4);
    return {};
  };
  ASSERT_TRUE(measure_rounds(false, row, rounds, round).has_value());
  EXPECT_TRUE(row.stable);
  EXPECT_GE(calls, 9);
  EXPECT_EQ(row.figure.rounds, static_cast<std::size_t>(calls));
}

TEST(Table, ARoundThatFailsEndsItsRow) {
  const TableRow row = run_row({"kernel", "", "us", "", 1}, [](TableRow& into) -> Result<void> {
    RowRounds rounds;
    return measure_rounds(true, into, rounds, []() -> Result<void> {
      return Status{StatusCode::KernelFault, "the kernel broke"};
    });
  });
  EXPECT_EQ(row.error, "KernelFault: the kernel broke");
  EXPECT_EQ(row.name, "kernel");
}

TEST(Table, RowsAreChosenInTheTablesOrder) {
  const std::vector<std::string> known{"a", "b", "c"};
  EXPECT_EQ(*chosen_rows(known, {}), (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(*chosen_rows(known, {"c", "a"}), (std::vector<std::size_t>{0, 2}));
  const auto unknown = chosen_rows(known, {"a", "d"});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().message, "row is 'd', allowed: a, b, c");
}

TEST(Table, AReportIsReadBackAsItWasWritten) {
  TableRow row = measured_row("kernel", {1, 2, 3}, {4, 5, 6});
  row.beside = {{"own contexts", {7, 8}, ""}, {"MPS", {}, "not installed"}};
  row.notes = {"a note"};
  TableRow failed;
  failed.name = "chain-8";
  failed.error = "Internal: broken";
  const TableReport written = report_of({row, failed});
  const auto read = report_from_json(report_json(written));
  ASSERT_TRUE(read.has_value()) << to_string(read.error());
  EXPECT_EQ(report_json(*read), report_json(written));
}

TEST(Table, AReportThatIsNotOneIsRefusedByField) {
  const nlohmann::json good = report_json(report_of({measured_row("kernel", {1}, {2})}));
  const auto message_of = [](const nlohmann::json& json) {
    const auto read = report_from_json(json);
    return read ? std::string("accepted") : read.error().message;
  };
  ASSERT_EQ(message_of(good), "accepted");
  EXPECT_EQ(message_of(nlohmann::json::array()), "report is [], allowed: an object");
  nlohmann::json bad = good;
  bad["format"] = 2;
  EXPECT_EQ(message_of(bad), "report.format is 2, allowed: 1");
  bad = good;
  bad.erase("kind");
  EXPECT_EQ(message_of(bad), "report.kind is absent, allowed: present");
  bad = good;
  bad["runs"] = -1;
  EXPECT_EQ(message_of(bad), "report.runs is -1, allowed: an integer from 0 on");
  bad = good;
  bad["rows"][0]["figure_rounds"][0] = "x";
  EXPECT_EQ(message_of(bad), "rows[0].figure_rounds is [\"x\"], allowed: an array of numbers");
  bad = good;
  bad["rows"][0]["bound_is"] = "about";
  EXPECT_EQ(message_of(bad), "rows[0].bound_is is \"about\", allowed: 'at most' or 'at least'");
  bad = good;
  bad["machine"] = nullptr;
  EXPECT_EQ(message_of(bad), "machine is null, allowed: an object");
}

TEST(Table, RunsAreJoinedByTheirRounds) {
  TableRow first = measured_row("kernel", {1, 1}, {2, 2});
  first.beside = {{"MPS", {}, "not installed"}};
  TableRow second = measured_row("kernel", {3, 3, 3}, {4, 4, 4});
  second.beside = {{"MPS", {9}, ""}};
  const auto joined =
      join_reports({report_of({first}), report_of({second, measured_row("chain-8", {1}, {8})})});
  ASSERT_TRUE(joined.has_value()) << to_string(joined.error());
  ASSERT_EQ(joined->rows.size(), 2U);
  EXPECT_EQ(joined->runs, 2U);
  const TableRow& row = joined->rows[0];
  EXPECT_EQ(row.figure_rounds, (std::vector<double>{1, 1, 3, 3, 3}));
  EXPECT_EQ(row.figure.rounds, 5U);
  EXPECT_DOUBLE_EQ(row.ratio.median, 0.75);
  ASSERT_EQ(row.beside.size(), 1U);
  EXPECT_EQ(row.beside[0].rounds, std::vector<double>{9});
  EXPECT_EQ(row.beside[0].absent, "");
  EXPECT_EQ(joined->rows[1].name, "chain-8");
}

TEST(Table, ARowThatWasMeasuredOnceIsMeasured) {
  TableRow failed;
  static_cast<RowSpec&>(failed) = measured_row("kernel", {1}, {2});
  failed.error = "Internal: broken";
  const TableRow measured = measured_row("kernel", {1, 1}, {4, 4});
  for (const auto& order : {std::vector{failed, measured}, std::vector{measured, failed}}) {
    const auto joined = join_reports({report_of({order[0]}), report_of({order[1]})});
    ASSERT_TRUE(joined.has_value());
    EXPECT_EQ(joined->rows[0].error, "");
    EXPECT_EQ(joined->rows[0].figure.rounds, 2U);
    EXPECT_TRUE(joined->rows[0].met());
  }
}

TEST(Table, RoundsWithoutPeersDoNotShiftTheRatios) {
  const TableRow alone = measured_row("kernel", {100, 100}, {});
  const TableRow paired = measured_row("kernel", {1, 1}, {4, 4});
  for (const auto& order : {std::vector{alone, paired}, std::vector{paired, alone}}) {
    const auto joined = join_reports({report_of({order[0]}), report_of({order[1]})});
    ASSERT_TRUE(joined.has_value());
    EXPECT_DOUBLE_EQ(joined->rows[0].ratio.median, 0.25);
    EXPECT_EQ(joined->rows[0].figure_rounds.size(), joined->rows[0].peer_rounds.size());
  }
}

TEST(Table, RunsThatDifferAreNotJoined) {
  const TableReport one = report_of({measured_row("kernel", {1}, {2})});
  const auto message_of = [&one](const TableReport& other) {
    const auto joined = join_reports({one, other});
    return joined ? std::string("joined") : joined.error().message;
  };
  TableReport other = one;
  other.device = "another card";
  EXPECT_EQ(message_of(other),
            "the reports to merge differ in device: 'a card' and 'another card'; merge only runs "
            "that agree");
  other = one;
  other.quick = true;
  EXPECT_NE(message_of(other).find("differ in quick"), std::string::npos);
  other = one;
  other.kind = "suite";
  EXPECT_NE(message_of(other).find("differ in kind"), std::string::npos);
  other = one;
  other.rows[0].bound = 0.25;
  EXPECT_NE(message_of(other).find("the bound of row kernel"), std::string::npos);
  EXPECT_FALSE(join_reports({}).has_value());
}

}  // namespace
}  // namespace kaas
