#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace plait::tools {

/// Text as HTML shows it. Bytes that are no UTF-8, and control characters but line breaks and tabs, become
/// U+FFFD.
std::string escaped(std::string_view text);

/// The text with every byte that is no UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

/// A coordinate with at most one digit after the point: "12.5", "12".
std::string place_text(double x);

/// A linear axis with ticks at round numbers.
struct Axis {
    double low = 0, high = 1;
    double step = 1;  // between ticks
    std::vector<double> ticks;

    /// 0 at `low`, 1 at `high`.
    double part(double x) const { return (x - low) / (high - low); }
    /// A tick with as many digits as tell it from its neighbours, with thousands in groups: "12,500".
    std::string text(double tick) const;
};

/// An axis that holds [low, high], with about `count` ticks at multiples of 1, 2, 2.5 or 5; `whole` keeps
/// them integers, `loose` moves the ends out to ticks.
Axis make_axis(double low, double high, int count, bool whole, bool loose);

/// `<text x= y= class= ...>text</text>`
std::string text_svg(double x, double y, std::string_view css, std::string_view text,
                     std::string_view more = "");

/// Width of a text in units of its font size, roughly.
double width_of(std::string_view text);

}  // namespace plait::tools
