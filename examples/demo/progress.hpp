// SPDX-License-Identifier: Apache-2.0
// How far a training run is. On a terminal: one line, redrawn in place at most ten times a second,
// as wide as the terminal. Elsewhere (a file, a log): a plain line at every tenth of the run. Shows
// the share done, tokens per second, loss, bits per byte and the time left.
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace demo {

struct progress_state {
  std::int64_t step = 0;
  std::int64_t steps = 0;
  std::int64_t tokens = 0;  // so far
  double seconds = 0;       // so far
  double loss = 0;          // nats per token; a token is a byte
};

inline std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 359999) return "--:--";
  const auto whole = static_cast<long>(std::ceil(seconds));
  char text[32];
  if (whole < 3600) {
    std::snprintf(text, sizeof text, "%02ld:%02ld", whole / 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  }
  return text;
}

inline double share_done(const progress_state& now) {
  if (now.steps <= 0) return 1;
  return std::clamp(static_cast<double>(now.step) / static_cast<double>(now.steps), 0.0, 1.0);
}

// "1234 tokens/s  loss 1.234  1.780 bits/byte  00:42 left"
inline std::string figures_text(const progress_state& now) {
  const double done = share_done(now);
  const double speed = now.seconds > 0 ? static_cast<double>(now.tokens) / now.seconds : 0;
  const double left = done > 0 ? now.seconds * (1 - done) / done : -1;
  char text[128];
  std::snprintf(text, sizeof text, "%.0f tokens/s  loss %.3f  %.3f bits/byte  ", speed, now.loss,
                now.loss / std::log(2.0));
  return text + duration_text(left) + " left";
}

// At most `width` characters: " 42% [#####.......] figures"; the bar gives way before the figures
// do.
inline std::string progress_line(const progress_state& now, std::size_t width) {
  char percent[8];
  std::snprintf(percent, sizeof percent, "%3d%%", static_cast<int>(100 * share_done(now)));
  const std::string figures = figures_text(now);
  const std::size_t taken = std::size(" 42% [] ") - 1 + figures.size();
  std::string bar;
  if (width >= taken + 5) {
    const std::size_t cells = std::min<std::size_t>(width - taken, 40);
    const auto filled = static_cast<std::size_t>(share_done(now) * static_cast<double>(cells));
    bar = "[" + std::string(filled, '#') + std::string(cells - filled, '.') + "] ";
  }
  std::string line = std::string(percent) + " " + bar + figures;
  while (line.size() > width && line.find("  ", 1) != std::string::npos) {
    line.resize(line.rfind("  "));  // a narrow terminal loses whole figures, not letters
  }
  return line.substr(0, width);
}

class progress {
 public:
  explicit progress(std::int64_t steps, std::FILE* out = stdout)
      : out_(out), on_terminal_(::isatty(::fileno(out)) == 1) {
    now_.steps = steps;
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress() { end_line(); }

  // After each step: how many are done, how many tokens that were, the loss in nats.
  void update(std::int64_t step, std::int64_t tokens, double loss) {
    const auto time = clock::now();
    now_.step = step;
    now_.tokens = tokens;
    now_.loss = loss;
    now_.seconds = std::chrono::duration<double>(time - start_).count();
    const bool last = step >= now_.steps;
    if (on_terminal_ && (last || !drawn_ || time - drawn_at_ >= std::chrono::milliseconds(100))) {
      draw(time);
    }
    if (!on_terminal_) print_tenth();
    if (last) end_line();
  }

 private:
  using clock = std::chrono::steady_clock;

  std::size_t width() const {
    winsize size{};
    const bool known = ::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return known ? size.ws_col - 1U : 79;  // the last column would wrap in some terminals
  }

  void draw(clock::time_point time) {
    std::fprintf(out_, "\r%s\x1b[K", progress_line(now_, width()).c_str());
    std::fflush(out_);
    drawn_ = true;
    drawn_at_ = time;
  }

  void print_tenth() {
    const int tenth = static_cast<int>(10 * share_done(now_));
    if (tenth <= printed_tenth_) return;
    printed_tenth_ = tenth;
    std::fprintf(out_, "%3d%%  %s\n", static_cast<int>(100 * share_done(now_)),
                 figures_text(now_).c_str());
    std::fflush(out_);
  }

  // Leaves the line standing, so that what comes next begins a new one.
  void end_line() {
    if (drawn_) std::fprintf(out_, "\n");
    if (drawn_) std::fflush(out_);
    drawn_ = false;
  }

  std::FILE* out_;
  bool on_terminal_;
  progress_state now_;
  clock::time_point start_ = clock::now();
  clock::time_point drawn_at_ = start_;
  bool drawn_ = false;
  int printed_tenth_ = 0;
};

}  // namespace demo
