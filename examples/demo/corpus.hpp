// SPDX-License-Identifier: Apache-2.0
// The text that the demo learns: one file, or all sources and documents under some folders.
// Of every file the last tenth (size / 10 bytes) is held out and never trained on. Files come
// sorted by their path below the folder, so the same text gives the same bytes on every machine.
// Errors: io (no such file or folder), invalid_argument (no text, less text than a window needs).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <deepseek/core/error.hpp>
#include <deepseek/io/file.hpp>

namespace demo {

namespace fs = std::filesystem;

// Bytes of several documents one after the other.
struct documents {
  std::string bytes;
  std::vector<std::size_t> starts;  // of each document; it ends where the next one starts

  std::size_t size() const { return starts.size(); }
  std::string_view operator[](std::size_t i) const {
    const std::size_t end = i + 1 < starts.size() ? starts[i + 1] : bytes.size();
    return std::string_view(bytes).substr(starts[i], end - starts[i]);
  }
  void add(std::string_view text) {
    starts.push_back(bytes.size());
    bytes += text;
  }
};

struct corpus {
  std::vector<std::string> names;
  documents train;  // the first nine tenths of every file,
  documents held;   // and the rest of it, at the same position
};

inline constexpr std::uint64_t longest_text = std::uint64_t{1} << 30;

inline void add_file(corpus& text, const fs::path& path, const std::string& name) {
  const std::string bytes = deepseek::read_text(path, longest_text);
  const std::size_t held = bytes.size() / 10;
  text.names.push_back(name);
  text.train.add(std::string_view(bytes).substr(0, bytes.size() - held));
  text.held.add(std::string_view(bytes).substr(bytes.size() - held));
}

inline corpus corpus_of_file(const fs::path& path) {
  corpus text;
  add_file(text, path, path.filename().string());
  return text;
}

// Hidden folders and build trees hold no text of the project.
inline bool is_skipped_folder(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name.starts_with(".") || name.starts_with("build") || name.starts_with("cmake-build");
}

inline bool is_text_file(const fs::path& path) {
  constexpr std::array<std::string_view, 4> suffixes{".hpp", ".cuh", ".cpp", ".md"};
  return std::ranges::find(suffixes, path.extension().string()) != suffixes.end();
}

// Paths below `folder`, sorted by bytes.
inline std::vector<std::string> text_files_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code problem;
  fs::recursive_directory_iterator at(folder, problem), end;
  while (!problem && at != end) {
    const auto status = at->symlink_status(problem);
    if (problem) break;
    if (fs::is_directory(status) && is_skipped_folder(at->path())) at.disable_recursion_pending();
    if (fs::is_regular_file(status) && is_text_file(at->path())) {
      names.push_back(at->path().lexically_relative(folder).generic_string());
    }
    at.increment(problem);
  }
  deepseek::require(!problem, deepseek::error_code::io, "folder ",
                    deepseek::escaped(folder.string()), ": cannot be listed (", problem.message(),
                    "); check the path and the permissions");
  std::ranges::sort(names);
  return names;
}

// Every text file below the folders, in the order of the folders.
inline corpus corpus_of_folders(std::span<const fs::path> folders) {
  corpus text;
  for (const auto& folder : folders) {
    for (const auto& name : text_files_in(folder)) {
      add_file(text, folder / name, (folder.filename() / name).generic_string());
    }
  }
  return text;
}

// A training window is `window` bytes and the one after them; something must be held out too.
inline void require_windows(const corpus& text, std::size_t window) {
  using deepseek::error_code;
  const std::size_t train = text.train.bytes.size(), held = text.held.bytes.size();
  deepseek::require(train + held > 0, error_code::invalid_argument, "text: ", text.names.size(),
                    " files hold 0 bytes; give a file with text");
  deepseek::require(train > window && held > 1, error_code::invalid_argument, "text: has ", train,
                    " bytes to train on and ", held, " held out, a window of ", window, " needs ",
                    window + 1, " and 2; give a longer text");
}

}  // namespace demo
