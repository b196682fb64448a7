#pragma once

#include "plait/core/inline.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace plait {

using MetricValue = std::variant<std::int64_t, float, double, std::string>;

/// Names and values of one step, in the order in which they are written: {{"step", 1}, {"loss", 3.2f}}.
using MetricsRow = std::vector<std::pair<std::string, MetricValue>>;

/// The text as a string of JSON, with its quotes.
std::string json_string(std::string_view text);

/// The row as one JSON object without a line break. Numbers have the fewest digits that read back as the same
/// float or double; NaN and infinities, which JSON lacks, become null.
std::string json_line(MetricsRow const& row);

/// metrics.jsonl of a run folder: a JSON object a line, each handed to the system whole, so that whoever
/// follows the file sees no half rows and a crash loses none. Errors name the path and the system's reason.
class MetricsFile {
  public:
    /// Opens the file for more rows. Rows whose "step" is above `last_step`, and lines that are no rows (a
    /// crash's torn one), are cut first, atomically: -1 starts anew, a resumed run passes the step of its
    /// checkpoint.
    explicit MetricsFile(std::filesystem::path path, std::int64_t last_step = -1);
    ~MetricsFile();
    MetricsFile(MetricsFile const&) = delete;
    MetricsFile& operator=(MetricsFile const&) = delete;

    /// Where this fails, the rest waits in memory and is written before the next row, so that none is lost to
    /// a disk that was full for a while.
    void write(MetricsRow const& row);
    /// Writes what waits.
    void write_waiting();
    /// Rows cut at opening.
    std::int64_t cut_rows() const { return cut_rows_; }

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
    std::string waiting_;
    std::int64_t cut_rows_ = 0;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/metrics-inl.hpp"
#endif
