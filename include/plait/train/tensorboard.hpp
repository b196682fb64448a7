#pragma once

#include "plait/core/inline.hpp"
#include "plait/io/file.hpp"
#include "plait/train/metrics.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait {

/// Tags and values of one step as TensorBoard shows them.
using TensorBoardScalars = std::vector<std::pair<std::string, double>>;

/// A row of metrics.jsonl under torchtitan's names: loss_metrics/global_avg_loss, grad_norm, lr,
/// n_tokens_seen, throughput(tps) of one of the `ranks`, time_metrics/end_to_end(s), mfu(%),
/// memory/max_active(GiB), validation_metrics/loss; and validation_metrics/bits_per_byte,
/// comm_metrics/wire(MiB). What is not finite is left out.
TensorBoardScalars tensorboard_scalars(MetricsRow const& row, int ranks = 1);

/// CRC-32C (Castagnoli) of RFC 3720.
std::uint32_t crc32c(std::string_view bytes);

/// An event file that TensorBoard reads while it grows: TFRecord frames of Event messages, each handed to the
/// system whole. Errors name the path and the system's reason.
class TensorBoardFile {
  public:
    /// Begins `folder`/events.out.tfevents.*, a new file that sorts after those that are there. What they
    /// hold of `first_step` and later steps counts no more: a resumed run passes its next step.
    TensorBoardFile(std::filesystem::path const& folder, std::int64_t first_step);

    void write(std::int64_t step, TensorBoardScalars const& scalars);
    /// The scalars of a row, whose first value is its step.
    void write(MetricsRow const& row, int ranks = 1);
    std::filesystem::path const& path() const { return path_; }

  private:
    void write_event(std::string const& event);

    std::filesystem::path path_;
    FileWriter file_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/tensorboard-inl.hpp"
#endif
