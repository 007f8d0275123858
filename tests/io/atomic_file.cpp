// SPDX-License-Identifier: Apache-2.0
// A save meets every fault we can make: each system call in turn fails, is interrupted, writes
// less, or is the last thing the process does; the disk is full, the folder closed, the target a
// folder. Whatever happens, the target is the old file or the new one, and a reported error leaves
// no rest.
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <deepseek/io/atomic_file.hpp>
#include <deepseek/io/safetensors.hpp>
#include <deepseek/io/safetensors_writer.hpp>

#include "safetensors_bytes.hpp"
#include "support/temp_dir.hpp"
#include "support/throws.hpp"

namespace {

namespace ds = deepseek;
namespace fs = std::filesystem;
using namespace safetensors_bytes;

// The real calls, written down, with a fault at one of them.
struct faulty {
  enum class fault { none, fails, interrupted, killed };
  static inline fault kind = fault::none;
  static inline int at = 0;
  static inline std::vector<std::string> trace;

  static void plan(fault what, int call) {
    kind = what;
    at = call;
    trace.clear();
  }
  template <class Call>
  static auto step(const std::string& name, const Call& call) -> decltype(call()) {
    trace.push_back(name);
    if (static_cast<int>(trace.size()) == at) {
      if (kind == fault::killed) ::raise(SIGKILL);
      errno = kind == fault::interrupted ? EINTR : EIO;
      if (kind == fault::fails || (kind == fault::interrupted && name != "close")) return -1;
    }
    return call();
  }

  static int open(const char* path, int flags, mode_t mode) {
    return step((flags & O_DIRECTORY) != 0 ? "open folder" : "open",
                [&] { return ds::posix_calls::open(path, flags, mode); });
  }
  static ssize_t write(int fd, const void* bytes, std::size_t n) {  // at most 5 bytes at once
    return step("write",
                [&] { return ds::posix_calls::write(fd, bytes, std::min<std::size_t>(n, 5)); });
  }
  static int fchmod(int fd, mode_t mode) {
    return step("fchmod", [&] { return ds::posix_calls::fchmod(fd, mode); });
  }
  static int fsync(int fd) {
    return step("fsync", [&] { return ds::posix_calls::fsync(fd); });
  }
  static int close(int fd) {  // closes even when it reports an error, as Linux does
    const int result = ds::posix_calls::close(fd);
    return step("close", [&] { return result; });
  }
  static int rename(const char* from, const char* to) {
    return step("rename", [&] { return ds::posix_calls::rename(from, to); });
  }
  static int unlink(const char* path) {
    return step("unlink", [&] { return ds::posix_calls::unlink(path); });
  }
};

const std::string old_text = "the old file";
const std::string new_text = "the new file, a little longer";

void save(const fs::path& path) {
  ds::basic_atomic_file<faulty> file(path);
  file.write(std::string_view(new_text).substr(0, 9));
  file.write(std::string_view(new_text).substr(9));
  file.commit();
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

int calls_of_a_save() {
  const support::temp_dir dir;
  put(dir / "f", old_text);
  faulty::plan(faulty::fault::none, 0);
  save(dir / "f");
  return static_cast<int>(faulty::trace.size());
}

// Expects a save_error of that outcome.
template <class Save>
void check_outcome(ds::save_outcome wanted, const Save& run) {
  try {
    run();
    FAIL_CHECK("nothing was thrown");
  } catch (const ds::save_error& e) {
    CHECK(e.outcome() == wanted);
    CHECK(e.code() == ds::error_code::io);
    const bool uncertain = wanted == ds::save_outcome::durability_uncertain;
    const std::string message = e.what();
    CHECK(message.find(uncertain ? "durability uncertain" : "not committed") != std::string::npos);
  }
}

}  // namespace

TEST_CASE("atomic_file: the order of the calls") {
  const support::temp_dir dir;
  put(dir / "f", old_text);
  faulty::plan(faulty::fault::none, 0);
  save(dir / "f");
  CHECK(get(dir / "f") == new_text);
  const std::vector<std::string> wanted{"open",   "write",       "write",  "write", "write",
                                        "write",  "write",       "fchmod", "fsync", "close",
                                        "rename", "open folder", "fsync",  "close"};
  CHECK(faulty::trace == wanted);
}

TEST_CASE("atomic_file: every call fails in turn") {
  const int calls = calls_of_a_save();
  const int folder_calls = 3;  // open, fsync, close: after the rename
  for (int at = 1; at < calls; ++at) {
    CAPTURE(at);
    const support::temp_dir dir;
    put(dir / "f", old_text);
    faulty::plan(faulty::fault::fails, at);
    const bool renamed = at > calls - folder_calls;
    check_outcome(
        renamed ? ds::save_outcome::durability_uncertain : ds::save_outcome::not_committed,
        [&] { save(dir / "f"); });
    CHECK(get(dir / "f") == (renamed ? new_text : old_text));
    CHECK(files_in(dir.path()) == 1);
  }
}

TEST_CASE("atomic_file: every call is interrupted in turn and taken up again") {
  const int calls = calls_of_a_save();
  for (int at = 1; at <= calls; ++at) {
    CAPTURE(at);
    const support::temp_dir dir;
    put(dir / "f", old_text);
    faulty::plan(faulty::fault::interrupted, at);
    save(dir / "f");
    CHECK(get(dir / "f") == new_text);
    CHECK(files_in(dir.path()) == 1);
  }
}

TEST_CASE("atomic_file: the process is killed at every call") {
  const int calls = calls_of_a_save();
  int old_files = 0, new_files = 0;
  for (int at = 1; at <= calls; ++at) {
    CAPTURE(at);
    const support::temp_dir dir;
    put(dir / "f", old_text);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      faulty::plan(faulty::fault::killed, at);
      save(dir / "f");
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    const std::string now = get(dir / "f");
    old_files += now == old_text ? 1 : 0;
    new_files += now == new_text ? 1 : 0;
    save(dir / "f");  // what the dead process left does not stand in the way
    CHECK(get(dir / "f") == new_text);
  }
  CHECK(old_files + new_files == calls);
  CHECK(new_files == 3);
}

TEST_CASE("atomic_file: dropped without commit it leaves nothing") {
  const support::temp_dir dir;
  put(dir / "f", old_text);
  {
    ds::atomic_file file(dir / "f");
    file.write(new_text);
  }
  CHECK(get(dir / "f") == old_text);
  CHECK(files_in(dir.path()) == 1);
}

TEST_CASE("atomic_file: mode and links are kept") {
  const support::temp_dir dir;
  const auto all = fs::perms::mask;
  for (const unsigned mode : {0600U, 0640U, 0755U, 0400U}) {
    CAPTURE(mode);
    put(dir / "f", old_text);
    fs::permissions(dir / "f", static_cast<fs::perms>(mode));
    ds::atomic_file file(dir / "f");
    file.write(new_text);
    file.commit();
    CHECK(get(dir / "f") == new_text);
    CHECK((fs::status(dir / "f").permissions() & all) == static_cast<fs::perms>(mode));
    fs::remove(dir / "f");
  }
  put(dir / "real", old_text);
  fs::create_symlink("real", dir / "link");
  ds::atomic_file file(dir / "link");
  file.write(new_text);
  file.commit();
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(get(dir / "real") == new_text);
}

TEST_CASE("atomic_file: a new file gets the mode that the process gives") {
  const support::temp_dir dir;
  const mode_t before = ::umask(027);
  ds::atomic_file file(dir / "f");
  file.commit();
  ::umask(before);
  CHECK(fs::status(dir / "f").permissions() == static_cast<fs::perms>(0640));
}

TEST_CASE("atomic_file: a target that cannot be replaced") {
  const support::temp_dir dir;
  fs::create_directory(dir / "folder");
  put(dir / "folder" / "kept", old_text);
  put(dir / "file", old_text);
  const std::vector<fs::path> targets{
      dir / "folder",      dir / "absent" / "f",        dir / "file" / "f",         "/dev/full",
      "/proc/self/absent", dir / std::string(250, 'n'), dir / std::string(300, 'n')};
  for (const auto& target : targets) {
    CAPTURE(target.string());
    check_outcome(ds::save_outcome::not_committed, [&] {
      ds::atomic_file file(target);
      file.write(new_text);
      file.commit();
    });
  }
  CHECK(get(dir / "folder" / "kept") == old_text);
  CHECK(get(dir / "file") == old_text);
  CHECK(files_in(dir.path()) == 2);
  CHECK(fs::is_character_file("/dev/full"));
}

TEST_CASE("atomic_file: a folder that may not be written") {
  const support::temp_dir dir;
  fs::create_directory(dir / "closed");
  put(dir / "closed" / "f", old_text);
  fs::permissions(dir.path(), static_cast<fs::perms>(0755));
  fs::permissions(dir / "closed", static_cast<fs::perms>(0555));
  const uid_t user = ::geteuid();
  const uid_t nobody = 65534;  // root may write everywhere, so it steps down
  if (user == 0) REQUIRE(::seteuid(nobody) == 0);
  check_outcome(ds::save_outcome::not_committed, [&] {
    ds::atomic_file file(dir / "closed" / "f");
    file.commit();
  });
  if (user == 0) REQUIRE(::seteuid(user) == 0);
  CHECK(get(dir / "closed" / "f") == old_text);
  CHECK(files_in(dir / "closed") == 1);
  fs::permissions(dir / "closed", static_cast<fs::perms>(0755));
}

TEST_CASE("write_safetensors: the disk is full") {
  const support::temp_dir dir;
  const std::string large(1 << 20, 'x');
  const ds::tensor_source before{"w", ds::file_dtype::u8, {3}, as_bytes("old")};
  const ds::tensor_source after{"w", ds::file_dtype::u8, {1 << 20}, as_bytes(large)};
  ds::write_safetensors(dir / "f", {}, std::span(&before, 1));
  const std::string bytes = get(dir / "f");

  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t allowed : {rlim_t{0}, rlim_t{1}, rlim_t{100}, rlim_t{500'000}}) {
    const rlimit small{allowed, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    std::string message;
    try {
      ds::write_safetensors(dir / "f", {}, std::span(&after, 1));
    } catch (const ds::save_error& e) {
      message = e.what();
    }
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CAPTURE(allowed);
    CHECK(message.find("not committed: writing failed") != std::string::npos);
    CHECK(get(dir / "f") == bytes);
    CHECK(files_in(dir.path()) == 1);
  }
  std::signal(SIGXFSZ, handler);
  ds::write_safetensors(dir / "f", {}, std::span(&after, 1));
  CHECK(ds::safetensors_file(dir / "f").at("w").bytes() == large.size());
}
