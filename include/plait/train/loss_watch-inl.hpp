#pragma once

#include "plait/core/check.hpp"
#include "plait/train/loss_watch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <sstream>

namespace plait {

PLAIT_INLINE float LossWatch::limit() const {
    if (deviations_ == 0 || steps_ < first_steps) return std::numeric_limits<float>::max();
    auto const deviation = std::max(std::sqrt(variance_), 0.01 * std::abs(mean_));
    return static_cast<float>(mean_ + deviations_ * deviation);
}

PLAIT_INLINE void LossWatch::add(float loss) {
    // Of the first steps the plain mean and variance, then exponential ones. West, "Updating mean and
    // variance estimates", 1979.
    constexpr std::int64_t span = 50;
    auto const weight = 1.0 / static_cast<double>(std::min(++steps_, span));
    auto const change = static_cast<double>(loss) - mean_;
    mean_ += weight * change;
    variance_ = (1 - weight) * (variance_ + weight * change * change);
}

PLAIT_INLINE std::string LossWatch::text() const {
    return fmt::format("{} {:016x} {:016x}", steps_, std::bit_cast<std::uint64_t>(mean_),
                       std::bit_cast<std::uint64_t>(variance_));
}

PLAIT_INLINE void LossWatch::set(std::string const& text) {
    std::istringstream in(text);
    std::int64_t steps = 0;
    std::uint64_t mean = 0, variance = 0;
    in >> steps >> std::hex >> mean >> variance;
    check(!in.fail() && steps >= 0, "'{}' is not what a watch over losses has seen", text);
    steps_ = steps;
    mean_ = std::bit_cast<double>(mean);
    variance_ = std::bit_cast<double>(variance);
}

}  // namespace plait
