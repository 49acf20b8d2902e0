#include "daemon/plan/library_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace kaas {
namespace {

class LibraryPathTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "kaas_library_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    // The folder's own path may hold links.
    root_ = std::filesystem::canonical(name).string();
    make_folder("a");
    make_folder("b");
    rules_.search_path = {root_ + "/a", root_ + "/b"};
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void make_folder(const std::string& name) {
    ASSERT_TRUE(std::filesystem::create_directory(root_ + "/" + name));
    ASSERT_EQ(chmod((root_ + "/" + name).c_str(), 0755), 0);
  }

  std::string make_file(const std::string& name, const std::string& content = "code") {
    const std::string path = root_ + "/" + name;
    std::ofstream(path) << content;
    EXPECT_EQ(chmod(path.c_str(), 0644), 0);
    return path;
  }

  std::string path_of(const std::string& name) {
    auto library = resolve_library(name, rules_);
    return library.has_value() ? library->path : library.error().message;
  }

  Status fault_of(const std::string& name) {
    auto library = resolve_library(name, rules_);
    return library.has_value() ? Status{StatusCode::Ok, library->path} : library.error();
  }

  std::string root_;
  LibraryRules rules_;
};

TEST_F(LibraryPathTest, FirstFolderOfTheSearchPathCounts) {
  const std::string second = make_file("b/std.so");
  EXPECT_EQ(path_of("std"), second);
  const std::string first = make_file("a/std.so");
  EXPECT_EQ(path_of("std"), first);
  EXPECT_EQ(path_of("std.so"), first);
}

TEST_F(LibraryPathTest, CudaTakesItsOwnFormFirst) {
  const std::string host = make_file("a/std.so");
  const std::string cuda = make_file("a/std.cuda.so");
  EXPECT_EQ(path_of("std"), host);
  EXPECT_EQ(path_of(host), host);
  rules_.device = DeviceKind::Cuda;
  EXPECT_EQ(path_of("std"), cuda);
  EXPECT_EQ(path_of(host), cuda);
  EXPECT_EQ(path_of(cuda), cuda);
  std::filesystem::remove(cuda);
  EXPECT_EQ(path_of(host), host);
  const std::string source = make_file("b/net.cu");
  EXPECT_EQ(path_of("net"), source);
  EXPECT_EQ(path_of(source), source);
  const std::string module = make_file("b/net.cubin");
  EXPECT_EQ(path_of("net"), module) << "source comes last";
  EXPECT_EQ(path_of("net.cu"), source);
  EXPECT_EQ(path_of(module), module);
}

TEST_F(LibraryPathTest, NotFoundListsWhereItLooked) {
  EXPECT_EQ(fault_of("nowhere").code, StatusCode::NotFound);
  EXPECT_EQ(fault_of("nowhere").message, "library 'nowhere' not found; looked for " + root_ +
                                             "/a/nowhere.so (No such file or directory), " + root_ +
                                             "/b/nowhere.so (No such file or directory)");
  EXPECT_EQ(fault_of(root_ + "/c.so").message, "library '" + root_ +
                                                   "/c.so' not found; looked for " + root_ +
                                                   "/c.so (No such file or directory)");
  rules_.search_path.clear();
  EXPECT_EQ(fault_of("std").message,
            "library 'std' not found; looked for nothing, the search path is empty");
}

TEST_F(LibraryPathTest, RelativePathsAreRefused) {
  make_file("a/std.so");
  for (const char* name : {"a/std.so", "./std.so", "../a/std.so"}) {
    EXPECT_EQ(fault_of(name).code, StatusCode::InvalidArgument) << name;
  }
  EXPECT_EQ(fault_of("a/std.so").message,
            "library 'a/std.so' is a relative path; allowed are absolute paths and names without "
            "'/'");
  EXPECT_EQ(fault_of("").code, StatusCode::InvalidArgument);
  EXPECT_EQ(fault_of(std::string("a\0b", 3)).code, StatusCode::InvalidArgument);
}

TEST_F(LibraryPathTest, LinksAreResolved) {
  const std::string target = make_file("b/real.so");
  std::filesystem::create_symlink(target, root_ + "/a/std.so");
  EXPECT_EQ(path_of("std"), target);
}

TEST_F(LibraryPathTest, EqualAsLongAsTheFileIsTheSame) {
  const std::string path = make_file("a/std.so");
  const ResolvedLibrary first = *resolve_library("std", rules_);
  EXPECT_EQ(first.bytes, 4u);
  EXPECT_EQ(*resolve_library(path, rules_), first);
  // Replaced by another file, as a linker or installer does.
  make_file("a/new.so");
  std::filesystem::rename(root_ + "/a/new.so", path);
  EXPECT_NE(*resolve_library("std", rules_), first);
  // Written in place at a later time.
  const ResolvedLibrary second = *resolve_library("std", rules_);
  const timespec times[2] = {{1, 0}, {1, 5}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  const ResolvedLibrary third = *resolve_library("std", rules_);
  EXPECT_NE(third, second);
  EXPECT_EQ(third.mtime_ns, 1'000'000'005);
}

TEST_F(LibraryPathTest, WhatIsNoFileIsRefused) {
  make_folder("a/std.so");
  EXPECT_EQ(fault_of("std").code, StatusCode::PermissionDenied);
  EXPECT_EQ(fault_of("std").message, "library '" + root_ + "/a/std.so' is not a regular file");
}

TEST_F(LibraryPathTest, FilesThatEverybodyCanWriteAreRefused) {
  const std::string path = make_file("a/std.so");
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(fault_of("std").message, "library '" + path + "' can be written by everybody");
}

TEST_F(LibraryPathTest, FoldersThatEverybodyCanWriteAreRefused) {
  const std::string path = make_file("a/std.so");
  ASSERT_EQ(chmod((root_ + "/a").c_str(), 0777), 0);
  EXPECT_EQ(fault_of("std").code, StatusCode::PermissionDenied);
  EXPECT_EQ(fault_of("std").message,
            "library '" + path + "' is in '" + root_ + "/a', which can be written by everybody");
  ASSERT_EQ(chmod((root_ + "/a").c_str(), 01777), 0);
  EXPECT_EQ(path_of("std"), path) << "sticky, and the file is our own";
  ASSERT_EQ(chmod((root_ + "/a").c_str(), 0755), 0);
  ASSERT_EQ(chmod(root_.c_str(), 0777), 0);
  EXPECT_EQ(fault_of("std").code, StatusCode::PermissionDenied) << "a folder above it counts too";
}

TEST_F(LibraryPathTest, OnlyTrustedOwnersWhereThatIsTheRule) {
  const std::string path = make_file("a/std.so");
  rules_.owners = {geteuid() + 12345};
  EXPECT_EQ(path_of("std"), path) << "this process's own files always may";
  if (geteuid() != 0) GTEST_SKIP() << "giving a file away needs root";
  ASSERT_EQ(chown(path.c_str(), 4321, 4321), 0);
  EXPECT_EQ(fault_of("std").message,
            "library '" + path + "' belongs to uid 4321, whose libraries may not be loaded here");
  rules_.owners = {4321};
  EXPECT_EQ(path_of("std"), path);
  rules_.owners.clear();
  EXPECT_EQ(path_of("std"), path);
  ASSERT_EQ(chmod((root_ + "/a").c_str(), 01777), 0);
  EXPECT_EQ(fault_of("std").code, StatusCode::PermissionDenied)
      << "in a folder of everybody, its owner chose it";
}

TEST_F(LibraryPathTest, UsersOfAJoinedDomainGetFilesThatOnlyTheOperatorWrites) {
  const std::string path = make_file("a/std.so");
  rules_.operators_only = true;
  EXPECT_EQ(path_of("std"), path);
  ASSERT_EQ(chmod(path.c_str(), 0664), 0);
  EXPECT_NE(fault_of("std").message.find("can be written by its group"), std::string::npos);
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  ASSERT_EQ(chmod(root_.c_str(), 0775), 0);
  EXPECT_NE(
      fault_of("std").message.find("is in '" + root_ + "', which can be written by its group"),
      std::string::npos)
      << fault_of("std").message;
  ASSERT_EQ(chmod(root_.c_str(), 0755), 0);
  if (geteuid() != 0) GTEST_SKIP() << "giving a file away needs root";
  ASSERT_EQ(chown(root_.c_str(), 4321, 4321), 0);
  EXPECT_EQ(fault_of("std").message,
            "library '" + path + "' is in '" + root_ +
                "', which belongs to uid 4321; users of a joined trust domain load libraries of "
                "its operator only, uid 0");
  ASSERT_EQ(chown(root_.c_str(), 0, 0), 0);
  ASSERT_EQ(chown(path.c_str(), 4321, 4321), 0);
  EXPECT_EQ(fault_of("std").code, StatusCode::PermissionDenied);
}

}  // namespace
}  // namespace kaas
