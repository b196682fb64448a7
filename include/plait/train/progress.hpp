#pragma once

#include "plait/core/inline.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace plait {

/// "512 B", "1.3 GiB"
std::string bytes_text(double bytes);
/// "12,345"; below 100 with a digit after the point, "7.5"
std::string count_text(double count);
/// "02:10", "1:02:10", "3d 04:05:06"
std::string duration_text(double seconds);

/// What the console shows of a step.
struct ProgressRow {
    std::int64_t step = 0;  // counted from 1
    double loss = 0, grad_norm = 0;
    double tokens_per_second = 0, step_seconds = 0;
    std::optional<double> mfu;  // 0 to 1
    std::int64_t memory_bytes = 0;
};

/// "step 120/500  loss 3.214  grad 0.81  12,345 tok/s  mfu 41.2%  1.3 GiB  eta 02:10"
std::string progress_line(ProgressRow const& row, std::int64_t steps, double eta_seconds);

/// The console of a run: a line at the first step, every tenth and the last. A terminal also gets a bar below
/// them, in colour unless NO_COLOR is set.
class Progress {
  public:
    /// `steps` is the number of the last step. `terminal` defaults to whether `out` is one.
    Progress(std::FILE* out, std::int64_t steps, std::optional<bool> terminal = {});
    ~Progress();
    Progress(Progress const&) = delete;
    Progress& operator=(Progress const&) = delete;

    void step(ProgressRow const& row);
    /// Prints a line of text of its own.
    void note(std::string_view text);

  private:
    void erase_bar();
    void draw_bar(std::string const& line, std::int64_t step);

    std::FILE* out_;
    std::int64_t steps_;
    bool terminal_, colour_;
    bool drawn_ = false;
    std::int64_t seen_ = 0;    // steps
    double step_seconds_ = 0;  // smoothed
    std::chrono::steady_clock::time_point drawn_at_{};
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/progress-inl.hpp"
#endif
