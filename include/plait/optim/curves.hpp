#pragma once

#include "plait/core/check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string_view>
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

namespace detail {

/// Linear warm-up to `peak` over `warmup` steps, and then what `after` gives for the way from there to step
/// `total`, 0 to 1.
template <class F>
Curve warmed_up(std::string_view name, double peak, std::int64_t warmup, std::int64_t total, F after) {
    check<UsageError>(warmup >= 0 && warmup <= total, "{}: {} steps of warm-up do not fit in {} steps", name,
                      warmup, total);
    return Curve([=](std::int64_t step) {
        if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
        double way = static_cast<double>(step - warmup) /
                     static_cast<double>(std::max<std::int64_t>(total - warmup, 1));
        return after(std::min(way, 1.0));
    });
}

}  // namespace detail

/// Linear warm-up to `peak` over `warmup` steps, then half a cosine down to `floor` at step `total`.
/// Loshchilov and Hutter, "SGDR", 2017.
inline Curve cosine(double peak, std::int64_t warmup, std::int64_t total, double floor = 0) {
    return detail::warmed_up("cosine", peak, warmup, total, [=](double way) {
        return floor + (peak - floor) * 0.5 * (1 + std::cos(3.141592653589793 * way));
    });
}

/// Linear warm-up, then a line down to `floor` at step `total`.
inline Curve linear(double peak, std::int64_t warmup, std::int64_t total, double floor = 0) {
    return detail::warmed_up("linear", peak, warmup, total,
                             [=](double way) { return peak + (floor - peak) * way; });
}

/// Linear warm-up, then `peak` for ever.
inline Curve constant(double peak, std::int64_t warmup) {
    return detail::warmed_up("constant", peak, warmup, warmup, [=](double) { return peak; });
}

/// Linear warm-up, `peak` while it is stable, and over the last `decay` steps a line down to `floor` at step
/// `total`. Hu et al., "MiniCPM", 2024.
inline Curve wsd(double peak, std::int64_t warmup, std::int64_t total, std::int64_t decay, double floor = 0) {
    check<UsageError>(warmup >= 0 && decay >= 0 && warmup + decay <= total,
                      "wsd: {} steps of warm-up and {} of decay do not fit in {} steps", warmup, decay,
                      total);
    return Curve([=](std::int64_t step) {
        if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
        if (step <= total - decay) return peak;
        auto const left = static_cast<double>(std::max<std::int64_t>(total - step, 0));
        return floor + (peak - floor) * left / static_cast<double>(std::max<std::int64_t>(decay, 1));
    });
}

}  // namespace plait::optim
