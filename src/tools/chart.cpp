#include "chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "svg.hpp"

namespace plait::tools {
namespace {

constexpr double width = 460, height = 270, font = 13;
constexpr double top = 12, right = 14, bottom = 40;
constexpr std::size_t most_points = 900;  // about two for each unit of the picture's width

struct Scale {
    double divisor = 1;
    std::string name;
    int digits = 3;  // at the pointer
};

Scale scale_of(Unit unit, double most) {
    switch (unit) {
        case Unit::number:
            return {1, "", 3};
        case Unit::rate:
            return {1, "", -3};  // significant ones
        case Unit::tokens:
            return {1, "tokens/s", most < 100 ? 1 : 0};
        case Unit::seconds:
            return most < 1 ? Scale{1e-3, "ms", 1} : Scale{1, "s", 2};
        case Unit::part:
            return {0.01, "%", 1};
        case Unit::bytes:
            break;
    }
    constexpr char const* names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    for (; i < 4 && most >= 1024; ++i) most /= 1024;
    return {std::pow(1024.0, i), names[i], i ? 1 : 0};
}

bool marked(Curve const& c) { return c.look == Curve::Look::marked; }
bool noisy(Curve const& c) { return c.look == Curve::Look::smoothed && c.series->values.size() >= 24; }

/// The mean over a window around each value, narrow at the beginning, where numbers fall fast, and one-sided
/// at the end; NaN stays NaN and counts nowhere.
Series smoothed(Series const& s) {
    auto const n = std::ssize(s.values);
    auto const most = std::max<std::ptrdiff_t>(n / 60, 2);
    std::vector<double> sums(static_cast<std::size_t>(n) + 1, 0), counts = sums;
    for (std::size_t i = 0; i < s.values.size(); ++i) {
        bool const good = std::isfinite(s.values[i]);
        sums[i + 1] = sums[i] + (good ? s.values[i] : 0);
        counts[i + 1] = counts[i] + (good ? 1 : 0);
    }
    auto out = s;
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        auto const side = std::min(most, i);
        auto const from = static_cast<std::size_t>(i - side);
        auto const to = static_cast<std::size_t>(std::min(i + side + 1, n));
        if (std::isfinite(s.values[static_cast<std::size_t>(i)]))
            out.values[static_cast<std::size_t>(i)] = (sums[to] - sums[from]) / (counts[to] - counts[from]);
    }
    return out;
}

/// At most most_points of the series: of each stretch the least and the greatest, in their order.
Series thinned(Series const& s) {
    auto const n = s.values.size();
    if (n <= most_points) return s;
    Series out;
    auto take = [&](std::size_t i) {
        out.steps.push_back(s.steps[i]);
        out.values.push_back(s.values[i]);
    };
    auto const stretches = most_points / 2;
    for (std::size_t k = 0; k < stretches; ++k) {
        auto const from = n * k / stretches, to = n * (k + 1) / stretches;
        auto least = from, most = from;
        for (auto i = from; i < to; ++i) {
            // A NaN is kept, as a gap.
            if (!(s.values[i] >= s.values[least])) least = i;
            if (!(s.values[i] <= s.values[most])) most = i;
        }
        take(std::min(least, most));
        if (least != most) take(std::max(least, most));
    }
    return out;
}

/// What part `p` of the finite values lies below.
double quantile(std::vector<double> v, double p) {
    auto at = v.begin() + static_cast<std::ptrdiff_t>(p * static_cast<double>(v.size() - 1) + 0.5);
    std::nth_element(v.begin(), at, v.end());
    return *at;
}

/// Draws the curves of one chart.
class Drawing {
  public:
    explicit Drawing(Chart const& chart) : chart_(chart) { find_range(); }

    bool empty() const { return !(high_ >= low_); }
    std::string html();

  private:
    void find_range();
    void find_axes();
    double x(double step) const { return left_ + steps_.part(step) * (width - right - left_); }
    double y(double value) const {
        return height - bottom - values_.part(value / scale_.divisor) * (height - bottom - top);
    }
    std::string axes() const;
    std::string path(Series const& s) const;
    std::string curve(Curve const& c);
    std::string legend() const;
    std::string data() const;
    std::string unit_text() const { return scale_.name.empty() ? "" : ", " + scale_.name; }

    Chart const& chart_;
    double low_ = std::numeric_limits<double>::infinity(), high_ = -low_;
    double first_ = low_, last_ = high_;
    Scale scale_;
    Axis steps_, values_;
    double left_ = 0;
    std::int64_t beyond_ = 0;  // points outside the axes
};

void Drawing::find_range() {
    for (auto const& c : chart_.curves) {
        std::vector<double> v;
        for (std::size_t i = 0; i < c.series->values.size(); ++i) {
            if (!std::isfinite(c.series->values[i])) continue;
            v.push_back(c.series->values[i]);
            first_ = std::min(first_, c.series->steps[i]);
            last_ = std::max(last_, c.series->steps[i]);
        }
        if (v.empty()) continue;
        auto take = [&](double a) { low_ = std::min(low_, a), high_ = std::max(high_, a); };
        if (!noisy(c)) {
            for (auto a : v) take(a);
            continue;
        }
        // Spikes of single steps must not flatten the rest.
        take(quantile(v, 0.005));
        take(quantile(v, 0.995));
        for (auto a : smoothed(*c.series).values)
            if (std::isfinite(a)) take(a);
    }
    if (chart_.from_zero && !empty()) low_ = std::min(low_, 0.0);
}

void Drawing::find_axes() {
    scale_ = scale_of(chart_.unit, high_);
    values_ = make_axis(low_ / scale_.divisor, high_ / scale_.divisor, 5, false, true);
    double widest = 0;
    for (auto t : values_.ticks) widest = std::max(widest, width_of(values_.text(t)) * font);
    left_ = widest + 14;
    if (first_ > last_) first_ = last_ = 0;
    if (first_ == last_) first_ = std::max(0.0, first_ - 1), last_ += 1;
    // Step 0 belongs to a run that begins at step 1.
    if (first_ == 1) first_ = 0;
    steps_ = make_axis(first_, last_, last_ >= 100'000 ? 4 : 6, true, false);
}

std::string Drawing::axes() const {
    std::string svg;
    for (auto t : values_.ticks) {
        auto const at = height - bottom - values_.part(t) * (height - bottom - top);
        svg += fmt::format("<path d=\"M{} {}H{}\" class=\"grid\"/>", place_text(left_), place_text(at),
                           place_text(width - right));
        svg += text_svg(left_ - 7, at + 4.5, "tick end", values_.text(t));
    }
    for (auto t : steps_.ticks) {
        svg += fmt::format("<path d=\"M{} {}v4\" class=\"axis\"/>", place_text(x(t)),
                           place_text(height - bottom));
        svg += text_svg(x(t), height - bottom + 18, "tick mid", steps_.text(t));
    }
    svg += fmt::format("<path d=\"M{} {}H{}\" class=\"axis\"/>", place_text(left_),
                       place_text(height - bottom), place_text(width - right));
    return svg + text_svg((left_ + width - right) / 2, height - 5, "tick mid", "step");
}

std::string Drawing::path(Series const& s) const {
    std::string d;
    bool pen = false;
    for (std::size_t i = 0; i < s.values.size(); ++i) {
        if (!std::isfinite(s.values[i])) {
            pen = false;
            continue;
        }
        // Far outside is outside; the numbers stay short.
        auto at = std::clamp(y(s.values[i]), -2 * height, 3 * height);
        d += fmt::format("{}{} {}", pen ? "L" : "M", place_text(x(s.steps[i])), place_text(at));
        // A value between gaps is a dot, made by the round cap.
        bool const alone = !pen && (i + 1 == s.values.size() || !std::isfinite(s.values[i + 1]));
        if (alone) d += "h0";
        pen = true;
    }
    return d;
}

std::string Drawing::curve(Curve const& c) {
    auto const classes = run_classes(c.run);
    std::string svg;
    auto line = [&](std::string_view kind, Series const& s) {
        svg += fmt::format("<path d=\"{}\" class=\"{} {}\"/>", path(s), kind, classes);
    };
    if (noisy(c)) {
        line("raw", thinned(*c.series));
        line("line", thinned(smoothed(*c.series)));
        for (auto v : c.series->values) {
            auto const a = values_.part(v / scale_.divisor);
            beyond_ += std::isfinite(v) && (a < -1e-6 || a > 1 + 1e-6);
        }
        return svg;
    }
    line(marked(c) ? "line thin" : "line", thinned(*c.series));
    if (marked(c) && c.series->values.size() <= 200)
        for (std::size_t i = 0; i < c.series->values.size(); ++i)
            if (std::isfinite(c.series->values[i]))
                svg += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"3.2\" class=\"mark {}\"/>",
                                   place_text(x(c.series->steps[i])), place_text(y(c.series->values[i])),
                                   classes);
    return svg;
}

std::string Drawing::legend() const {
    std::string out;
    if (chart_.curves.size() == 1 && chart_.curves.front().name.empty()) return out;
    for (auto const& c : chart_.curves) {
        auto const classes = run_classes(c.run);
        out +=
            "<span class=\"key\"><svg viewBox=\"0 0 34 12\" width=\"34\" height=\"12\" aria-hidden=\"true\">";
        if (noisy(c))
            out += fmt::format("<path d=\"M1 9l5-7 5 9 5-8 5 6 5-7 7 8\" class=\"raw {}\"/>", classes);
        out +=
            fmt::format("<path d=\"M1 6H33\" class=\"{} {}\"/>", marked(c) ? "line thin" : "line", classes);
        if (marked(c))
            out += fmt::format("<circle cx=\"17\" cy=\"6\" r=\"3.2\" class=\"mark {}\"/>", classes);
        out += fmt::format("</svg>{}</span>", escaped(c.name));
    }
    return "<p class=\"keys\">" + out + "</p>\n";
}

std::string Drawing::data() const {
    std::string out = fmt::format(
        "{{\"left\":{},\"right\":{},\"top\":{},\"bottom\":{},\"from\":{},\"to\":{},\"low\":{},\"high\":{},"
        "\"divisor\":{},\"digits\":{},\"unit\":\"{}\",\"curves\":[",
        place_text(left_), width - right, top, height - bottom, steps_.low, steps_.high, values_.low,
        values_.high, scale_.divisor, scale_.digits, scale_.name);
    for (std::size_t i = 0; i < chart_.curves.size(); ++i) {
        auto const s = thinned(*chart_.curves[i].series);
        std::string steps, values;
        for (std::size_t k = 0; k < s.values.size(); ++k) {
            if (!std::isfinite(s.values[k])) continue;
            steps += fmt::format("{}{:.0f}", steps.empty() ? "" : ",", s.steps[k]);
            values += fmt::format("{}{:.5g}", values.empty() ? "" : ",", s.values[k]);
        }
        out += fmt::format("{}{{\"steps\":[{}],\"values\":[{}]}}", i ? "," : "", steps, values);
    }
    return "<script type=\"application/json\">" + out + "]}</script>\n";
}

std::string Drawing::html() {
    find_axes();
    auto const title = chart_.title + unit_text();
    std::string lines;
    // Smoothed lines of all runs lie above all faint ones of the runs before them.
    for (auto const& c : chart_.curves) lines += curve(c);
    // The clip lets lines at the edge keep their width.
    auto const clip = "clip-" + chart_.key;
    auto svg = fmt::format(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{} over step\"><clipPath id=\"{}\"><rect "
        "x=\"{}\" "
        "y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n{}\n<g clip-path=\"url(#{})\">{}</g>\n"
        "<path class=\"cursor\" d=\"\"/></svg>",
        width, height, escaped(title), clip, place_text(left_ - 4), top - 4,
        place_text(width - right - left_ + 8), height - bottom - top + 8, axes(), clip, lines);
    std::string note;
    if (beyond_ > 0)
        note = fmt::format("<p class=\"small\">{} single {} beyond the axis</p>\n", beyond_,
                           beyond_ == 1 ? "step lies" : "steps lie");
    return fmt::format(
        "<figure class=\"card chart\">\n<figcaption><h3>{}</h3> <code>{}</code></figcaption>\n"
        "{}<div class=\"plot\">{}<div class=\"tip\" hidden=\"hidden\"></div></div>\n{}{}"
        "</figure>\n",
        escaped(title), escaped(chart_.key), legend(), svg, note, data());
}

}  // namespace

std::string run_classes(int run) { return fmt::format("run{} dash{}", run % 6, run % 5); }

std::string chart_html(Chart const& chart) {
    auto finite = chart;
    std::erase_if(finite.curves, [](Curve const& c) { return !c.series->last(); });
    Drawing drawing(finite);
    return drawing.empty() ? "" : drawing.html();
}

}  // namespace plait::tools
