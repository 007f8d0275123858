// SPDX-License-Identifier: Apache-2.0
// A regular file read at positions: no mapping, so a file cut short while open is an error, not a
// signal; no shared position, so many threads may read.
// Errors: io (cannot open, not a regular file, read failed), truncated (fewer bytes than asked
// for), limit (read_text: the file is larger than allowed).
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "deepseek/core/error.hpp"

namespace deepseek {

// Owns a file descriptor.
class file_descriptor {
 public:
  file_descriptor() = default;
  explicit file_descriptor(int fd) : fd_(fd) {}
  file_descriptor(file_descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~file_descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

class input_file {
 public:
  explicit input_file(const std::filesystem::path& path) : name_(deepseek::escaped(path.string())) {
    // Without O_NONBLOCK, opening a pipe would wait for its writer for ever.
    fd_ = file_descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    require(fd_.get() >= 0, error_code::io, "file ", name_, ": cannot open (", std::strerror(errno),
            "); check the path and the permissions");
    struct stat status {};
    require(::fstat(fd_.get(), &status) == 0, error_code::io, "file ", name_, ": cannot stat (",
            std::strerror(errno), "); check the file system");
    require(S_ISREG(status.st_mode), error_code::io, "file ", name_, ": is ",
            S_ISDIR(status.st_mode) ? "a folder" : "not a regular file", "; name a regular file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  std::uint64_t size() const { return size_; }
  const std::string& name() const { return name_; }  // quoted, for messages

  // Fills `out` with the bytes from `position` on.
  void read(std::uint64_t position, std::span<std::byte> out) const {
    require(position <= size_ && out.size() <= size_ - position, error_code::truncated, "file ",
            name_, ": has ", size_, " bytes, wanted ", out.size(), " from byte ", position,
            "; the file is cut short");
    while (!out.empty()) {
      const ssize_t got = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(position));
      if (got < 0 && errno == EINTR) continue;
      require(got >= 0, error_code::io, "file ", name_, ": reading byte ", position, " failed (",
              std::strerror(errno), "); check the disk");
      require(got > 0, error_code::truncated, "file ", name_, ": ended at byte ", position, " of ",
              size_, " while it was read; do not write to an open file");
      out = out.subspan(static_cast<std::size_t>(got));
      position += static_cast<std::uint64_t>(got);
    }
  }

 private:
  std::string name_;
  file_descriptor fd_;
  std::uint64_t size_ = 0;
};

// A whole file as text, at most `longest` bytes.
inline std::string read_text(const std::filesystem::path& path, std::uint64_t longest) {
  const input_file file(path);
  require(file.size() <= longest, error_code::limit, "file ", file.name(), ": has ", file.size(),
          " bytes, at most ", longest, " are read; name a smaller file");
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace deepseek
