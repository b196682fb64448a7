#pragma once

#include "plait/core/inline.hpp"

#include <cstdint>
#include <string>

namespace plait {

/// Tells a spike from the losses before: one more than so many deviations above their running mean, both
/// over about the last 50 good steps. A deviation counts as 1 % of the mean at least. What it says depends on
/// the losses alone, so that ranks that see the same ones agree.
class LossWatch {
  public:
    static constexpr std::int64_t first_steps = 20;  // during which nothing is a spike

    /// 0 deviations: nothing is a spike.
    explicit LossWatch(double deviations = 0) : deviations_(deviations) {}

    /// The largest loss of the next step that is no spike; the largest float where nothing is.
    float limit() const;
    /// Takes the loss of a good step in.
    void add(float loss);

    /// What it has seen, for a checkpoint; reads back exactly.
    std::string text() const;
    /// Throws Error for any other text.
    void set(std::string const& text);

  private:
    double deviations_;
    std::int64_t steps_ = 0;
    double mean_ = 0, variance_ = 0;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/loss_watch-inl.hpp"
#endif
