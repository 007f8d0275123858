// SPDX-License-Identifier: Apache-2.0
// A file that appears whole or not at all: bytes go to `name.tmp.<random>` in the target's folder;
// commit() gives it the old file's mode, flushes it, renames it over the target, flushes the
// folder. Errors: save_error (code io) says which of two things happened. not_committed: the old
// file is untouched and the temporary one is gone. durability_uncertain: the new file is in place
// and whole, but the folder could not be flushed, so a power loss may bring the old one back. A
// process that is killed leaves at most a temporary file, never a torn target. Source: Pillai et
// al., "All File Systems Are Not Created Equal", OSDI 2014, section 3.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "deepseek/core/error.hpp"

namespace deepseek {

enum class save_outcome { not_committed, durability_uncertain };

class save_error : public error {
 public:
  save_error(save_outcome outcome, const std::string& message)
      : error(error_code::io, message), outcome_(outcome) {}
  save_outcome outcome() const noexcept { return outcome_; }

 private:
  save_outcome outcome_;
};

// The system calls of a save. Tests put a type in its place that fails or kills at the k-th call.
struct posix_calls {
  static int open(const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); }
  static ssize_t write(int fd, const void* bytes, std::size_t n) { return ::write(fd, bytes, n); }
  static int fchmod(int fd, mode_t mode) { return ::fchmod(fd, mode); }
  static int fsync(int fd) { return ::fsync(fd); }
  static int close(int fd) { return ::close(fd); }
  static int rename(const char* from, const char* to) { return std::rename(from, to); }
  static int unlink(const char* path) { return ::unlink(path); }
};

namespace detail {

inline std::string random_suffix() {
  std::random_device source;
  std::string text;
  for (int i = 0; i < 16; ++i) text += "0123456789abcdef"[source() & 15U];
  return text;
}

}  // namespace detail

template <class Calls = posix_calls>
class basic_atomic_file {
 public:
  // A symbolic link is followed: what it points to is replaced, the link stays.
  explicit basic_atomic_file(const std::filesystem::path& path) : target_(path) {
    std::error_code problem;
    if (std::filesystem::is_symlink(path, problem)) {
      target_ = std::filesystem::weakly_canonical(path, problem);
      if (problem) abandon("following the link", problem.value());
    }
    keep_mode();
    const std::string temporary = target_.string() + ".tmp." + detail::random_suffix();
    fd_ = retry([&] {
      return Calls::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                         mode_ < 0 ? 0666 : static_cast<mode_t>(mode_));
    });
    if (fd_ < 0) abandon("creating the temporary file", errno);
    temporary_ = temporary;
  }
  basic_atomic_file(const basic_atomic_file&) = delete;
  basic_atomic_file& operator=(const basic_atomic_file&) = delete;
  ~basic_atomic_file() { clean(); }

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t done = retry([&] { return Calls::write(fd_, bytes.data(), bytes.size()); });
      if (done <= 0) abandon("writing", done < 0 ? errno : ENOSPC);
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  void commit() {
    if (mode_ >= 0 && retry([&] { return Calls::fchmod(fd_, static_cast<mode_t>(mode_)); }) != 0) {
      abandon("keeping the mode", errno);
    }
    if (retry([&] { return Calls::fsync(fd_); }) != 0) abandon("flushing", errno);
    if (Calls::close(std::exchange(fd_, -1)) != 0 && errno != EINTR) abandon("closing", errno);
    if (retry([&] { return Calls::rename(temporary_.c_str(), target_.c_str()); }) != 0) {
      abandon("renaming", errno);
    }
    temporary_.clear();
    flush_folder();
  }

 private:
  template <class Call>
  static auto retry(const Call& call) {
    auto result = call();
    while (result < 0 && errno == EINTR) result = call();
    return result;
  }

  // A device or a folder must not be renamed over; a regular file hands down its mode.
  void keep_mode() {
    struct stat status {};
    if (::stat(target_.c_str(), &status) != 0) {
      if (errno != ENOENT) abandon("looking at the target", errno);
      return;
    }
    if (S_ISDIR(status.st_mode)) abandon("replacing a folder", EISDIR);
    if (!S_ISREG(status.st_mode)) abandon("replacing what is no regular file", EINVAL);
    mode_ = static_cast<int>(status.st_mode & 07777U);
  }

  void flush_folder() {
    const auto folder = target_.has_parent_path() ? target_.parent_path() : ".";
    const int fd =
        retry([&] { return Calls::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0); });
    const int synced = fd < 0 ? -1 : retry([&] { return Calls::fsync(fd); });
    const int reason = errno;
    if (fd >= 0) Calls::close(fd);
    if (synced == 0) return;
    throw save_error(save_outcome::durability_uncertain,
                     "file " + deepseek::escaped(target_.string()) +
                         ": durability uncertain: the new file is in place but flushing its folder "
                         "failed (" +
                         std::strerror(reason) + "); save again before you rely on it");
  }

  [[noreturn]] void abandon(std::string_view step, int reason) {
    clean();
    throw save_error(save_outcome::not_committed,
                     "file " + deepseek::escaped(target_.string()) + ": not committed: " +
                         std::string(step) + " failed (" + std::strerror(reason) +
                         "); what was there before is unchanged, check space and permissions");
  }

  void clean() {
    if (fd_ >= 0) Calls::close(std::exchange(fd_, -1));
    if (!temporary_.empty()) Calls::unlink(temporary_.c_str());
    temporary_.clear();
  }

  std::filesystem::path target_;
  std::string temporary_;
  int fd_ = -1;
  int mode_ = -1;  // of the file to be replaced, -1 if there is none
};

using atomic_file = basic_atomic_file<>;

}  // namespace deepseek
