#pragma once

#include "plait/core/check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>

namespace plait::optim {

/// A value for each step, counted from 1; a plain number is a constant curve.
class Curve {
  public:
    Curve(double value) : at_([value](std::int64_t) { return value; }) {}
    explicit Curve(std::function<double(std::int64_t)> at) : at_(std::move(at)) {}

    double operator()(std::int64_t step) const { return at_(step); }

  private:
    std::function<double(std::int64_t)> at_;
};

/// Linear warm-up to `peak` over `warmup` steps, then half a cosine down to `floor` at step `total`.
/// Loshchilov and Hutter, "SGDR", 2017.
inline Curve cosine(double peak, std::int64_t warmup, std::int64_t total, double floor = 0) {
    check<UsageError>(warmup >= 0 && warmup <= total, "cosine: {} steps of warm-up do not fit in {} steps",
                      warmup, total);
    return Curve([=](std::int64_t step) {
        if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
        double way = static_cast<double>(step - warmup) /
                     static_cast<double>(std::max<std::int64_t>(total - warmup, 1));
        return floor + (peak - floor) * 0.5 * (1 + std::cos(3.141592653589793 * std::min(way, 1.0)));
    });
}

}  // namespace plait::optim
