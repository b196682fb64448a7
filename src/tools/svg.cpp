#include "svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plait/train/progress.hpp"

namespace plait::tools {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

/// Bytes of the UTF-8 sequence that `text` begins with, or 0.
std::size_t sequence(std::string_view text) {
    auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    auto first = byte(0);
    if (first < 0x80) return 1;
    std::size_t n = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : 4;
    if (first < 0xC2 || first > 0xF4 || text.size() < n) return 0;
    for (std::size_t i = 1; i < n; ++i)
        if ((byte(i) & 0xC0u) != 0x80) return 0;
    bool const overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
    bool const beyond = (first == 0xED && byte(1) >= 0xA0) || (first == 0xF4 && byte(1) >= 0x90);
    return overlong || beyond ? 0 : n;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        auto n = sequence(text);
        out += n ? text.substr(0, n) : replacement;
        text.remove_prefix(std::max<std::size_t>(n, 1));
    }
    return out;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (char c : valid_utf8(text)) {
        if (c == '<') out += "&lt;";
        else if (c == '>') out += "&gt;";
        else if (c == '&') out += "&amp;";
        else if (c == '"') out += "&quot;";
        else if (c == '\n' || c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f)) out += c;
        else out += replacement;
    }
    return out;
}

std::string place_text(double x) {
    auto text = fmt::format("{:.1f}", x);
    if (text.ends_with(".0")) text.resize(text.size() - 2);
    return text == "-0" ? "0" : text;
}

std::string Axis::text(double tick) const {
    if (std::abs(tick) < step * 1e-6) return "0";
    if (step >= 1 && std::abs(std::round(step) - step) < 1e-9) {
        auto whole = count_text(tick);
        return whole.ends_with(".0") ? whole.substr(0, whole.size() - 2) : whole;
    }
    int digits = 0;
    for (double s = step; digits < 12 && std::abs(s - std::round(s)) > 1e-6 * s; s *= 10) ++digits;
    return digits > 5 ? fmt::format("{:.3g}", tick) : fmt::format("{:.{}f}", tick, digits);
}

Axis make_axis(double low, double high, int count, bool whole, bool loose) {
    if (!(high > low)) {
        // A constant stands in the middle, zero at the bottom.
        double const room = low == 0 ? 1 : std::abs(low) * 0.1;
        high = low + room;
        if (low != 0) low -= room;
    }
    double const wanted = (high - low) / count;
    double const power = std::pow(10, std::floor(std::log10(wanted)));
    double step = 10 * power;
    for (double s : {1.0, 2.0, 2.5, 5.0})
        if (s * power >= wanted * 0.999) {
            step = s * power;
            break;
        }
    if (whole) step = std::max(1.0, std::ceil(step));
    Axis axis{low, high, step, {}};
    auto const first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
    if (loose) axis.low = first * step, axis.high = last * step;
    for (auto i = first; i <= last; ++i)
        if (auto tick = i * step; tick >= axis.low - step * 1e-6 && tick <= axis.high + step * 1e-6)
            axis.ticks.push_back(tick);
    return axis;
}

double width_of(std::string_view text) {
    double width = 0;
    for (char c : text)
        if ((static_cast<unsigned char>(c) & 0xC0u) != 0x80)
            width += c == '.' || c == ',' || c == ' ' || c == 'i' || c == 'l' || c == '1' ? 0.38 : 0.58;
    return width;
}

std::string text_svg(double x, double y, std::string_view css, std::string_view text, std::string_view more) {
    return fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\"{}{}>{}</text>", place_text(x), place_text(y),
                       css, more.empty() ? "" : " ", more, escaped(text));
}

}  // namespace plait::tools
