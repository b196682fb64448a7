#pragma once

#include <string>
#include <vector>

#include "run_data.hpp"

namespace plait::tools {

/// How the numbers of a chart are written, in its axis and at the pointer.
enum class Unit : std::uint8_t { number, rate, tokens, seconds, bytes, part };

/// A series of one run.
struct Curve {
    int run = 0;  // counted from 0; chooses colour and dashes
    std::string name;
    Series const* series = nullptr;
    enum class Look : std::uint8_t {
        smoothed,  // the mean of neighbours, over a faint line of every step
        plain,
        marked  // few points, each with a mark, joined by lines
    };
    Look look = Look::smoothed;
};

struct Chart {
    std::string title, key;  // `key` of the metrics, shown beside the title
    Unit unit = Unit::number;
    bool from_zero = false;  // whether the axis begins at 0
    std::vector<Curve> curves;
};

/// Classes for colour and dashes of a run's lines: each of the first thirty has its own pair.
std::string run_classes(int run);

/// A figure of the chart: value over step, with a legend and the points for whoever points at them. Empty
/// when no curve has a finite value.
std::string chart_html(Chart const& chart);

}  // namespace plait::tools
