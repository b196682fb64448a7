#pragma once

#include "plait/train/bisect.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <utility>

namespace plait {
namespace detail {

/// How many times the rounding error of one layout another's may be: by root mean square, where chance is
/// larger among few elements, and by the largest element. Twice what clean pairs of the tests reach.
inline double rms_factor(std::int64_t elements) {
    return 4 * (1 + 6 / std::sqrt(static_cast<double>(elements)));
}
inline constexpr double largest_factor = 16;

/// Half a unit in the last place at 1.
inline double epsilon(DType t) { return t == bf16 ? 0x1p-9 : t == f64 ? 0x1p-53 : 0x1p-24; }

/// Sizes of an error, in the units of the value.
struct ErrorSize {
    double rms = 0, largest = 0;
};

/// `trim` leaves out the largest hundredth.
inline ErrorSize error_size(Array const& x, Array const& exact, bool trim) {
    std::vector<double> errors;
    for (std::int64_t i = 0; i < x.meta().elements(); ++i) {
        auto const e = std::abs(x.at(i) - exact.at(i));
        errors.push_back(std::isfinite(e) ? e : HUGE_VAL);
    }
    if (trim) {
        auto const kept = errors.size() - errors.size() / 100 - (errors.size() >= 8);
        std::nth_element(errors.begin(), errors.begin() + static_cast<std::ptrdiff_t>(kept) - 1,
                         errors.end());
        errors.resize(kept);
    }
    ErrorSize size;
    for (double e : errors) size.rms += e * e, size.largest = std::max(size.largest, e);
    size.rms = std::sqrt(size.rms / static_cast<double>(std::max<std::size_t>(errors.size(), 1)));
    return size;
}

inline double ratio(double x, double of) { return x == 0 ? 0 : x / of; }

/// The first rank whose block holds logical element `element`, or -1 where all do.
inline int rank_with(RecordedValue const& v, std::int64_t element) {
    for (std::size_t r = 0; r < v.origins.size(); ++r) {
        if (!v.origins[r]) continue;
        auto rest = element;
        bool inside = true;
        for (int d = v.meta.shape.rank() - 1; d >= 0; --d) {
            auto const i = rest % v.meta.shape[d], at = (*v.origins[r])[d];
            rest /= v.meta.shape[d];
            inside = inside && i >= at && i < at + v.block[d];
        }
        if (inside) return static_cast<int>(r);
    }
    return -1;
}

class Comparison {
  public:
    Comparison(Recording const& a, Recording const& b, Recording const* exact)
        : a_(a), b_(b), exact_(exact), compute_(std::max(epsilon(a.compute), epsilon(b.compute))) {
        index(b, in_b_);
        if (exact) index(*exact, in_exact_);
        found_.judge = a.canonical && b.canonical ? Judge::bits : exact ? Judge::exact : Judge::estimate;
    }

    Bisection run() {
        std::size_t shared = 0;
        for (auto const& v : a_.values) {
            auto it = in_b_.find({v.step, v.name});
            if (it == in_b_.end()) {
                only("a", v);
                continue;
            }
            ++shared;
            compare(v, *it->second);
        }
        check<UsageError>(shared > 0,
                          "the two recordings share no value: record the same steps of one model");
        std::map<Key, RecordedValue const*> in_a;
        index(a_, in_a);
        for (auto const& v : b_.values)
            if (!in_a.contains({v.step, v.name})) only("b", v);
        return std::move(found_);
    }

  private:
    using Key = std::pair<std::int64_t, std::string>;

    static void index(Recording const& from, std::map<Key, RecordedValue const*>& to) {
        for (auto const& v : from.values) to[{v.step, v.name}] = &v;
    }

    void only(char const* side, RecordedValue const& v) {
        found_.notes.push_back(fmt::format("only {} has {} of step {}", side, v.name, v.step));
    }

    void compare(RecordedValue const& a, RecordedValue const& b) {
        check<UsageError>(a.meta == b.meta, "step {}: {} is {} in a and {} in b: record one model", a.step,
                          a.name, to_string(a.meta), to_string(b.meta));
        ++found_.compared;
        Difference d{.step = a.step, .name = a.name, .of = a.meta.elements()};
        bool const same = a.hash == b.hash;
        if (!same) measure(d, a, b);
        for (auto [side, v] : {std::pair{"a", &a}, {"b", &b}})
            if (v->odd_rank >= 0) {
                d.beyond = true;
                d.rank = v->odd_rank;
                d.why = fmt::format("rank {} of {} holds another copy", v->odd_rank, side);
            }
        found_.same += same;
        if (!same || d.beyond) found_.differences.push_back(std::move(d));
    }

    void measure(Difference& d, RecordedValue const& a, RecordedValue const& b) {
        bool const kept = a.array && b.array;
        if (kept) {
            elements(d, a, b);
        } else {
            // Of norms alone only what they differ by is known, which the values differ by at least.
            d.largest = std::abs(a.largest - b.largest);
            d.relative = ratio(std::abs(a.rms() - b.rms()), a.rms());
        }
        if (found_.judge == Judge::bits || !is_floating(a.meta.dtype)) {
            d.beyond = true;
            return;
        }
        auto it = in_exact_.find({a.step, a.name});
        if (kept && it != in_exact_.end() && it->second->array) {
            check<UsageError>(it->second->meta.shape == a.meta.shape,
                              "step {}: {} is {} in the exact recording and {} in a: record one model",
                              a.step, a.name, to_string(it->second->meta), to_string(a.meta));
            judge(d, a, b, *it->second);
        } else {
            estimate(d, a);
        }
    }

    void elements(Difference& d, RecordedValue const& a, RecordedValue const& b) {
        double squares = 0;
        for (std::int64_t i = 0; i < a.meta.elements(); ++i) {
            if (hashed_bits(a.array, i) == hashed_bits(b.array, i)) continue;
            if (d.elements++ == 0) {
                d.first = i;
                d.rank = rank_with(b, i);
                if (d.rank < 0) d.rank = rank_with(a, i);
            }
            auto const e = std::abs(a.array.at(i) - b.array.at(i));
            squares += e * e;
            d.largest = std::isnan(e) ? HUGE_VAL : std::max(d.largest, e);
        }
        d.relative = ratio(std::sqrt(squares / static_cast<double>(d.of)), a.rms());
    }

    void judge(Difference& d, RecordedValue const& a, RecordedValue const& b, RecordedValue const& exact) {
        bool const parameter = a.kind == RecordedValue::Kind::parameter;
        // Adam divides by the size of the gradient, so where that is all rounding, so is the update: a few
        // elements, another few on every layout.
        auto const a_size = error_size(a.array, exact.array, parameter),
                   b_size = error_size(b.array, exact.array, parameter);
        // What is stored in few bits or computed in them is never exacter than that.
        auto const eps = parameter ? epsilon(a.meta.dtype) : compute_;
        auto set = [&](double a_error, double b_error, double factor, double scale) {
            auto const bound = factor * std::max(std::min(a_error, b_error), eps * scale);
            bool const beyond = !(std::max(a_error, b_error) <= bound);
            if (d.beyond || (!beyond && d.bound > 0)) return;
            d.beyond = beyond;
            d.a_error = ratio(a_error, scale), d.b_error = ratio(b_error, scale);
            d.bound = ratio(bound, scale);
        };
        set(a_size.rms, b_size.rms, rms_factor(d.of), exact.rms());
        if (!parameter) set(a_size.largest, b_size.largest, largest_factor, exact.largest);
    }

    /// Sums of k terms in f32 err by about sqrt(k) units, every layer adds its own, and steps build on what
    /// was updated.
    void estimate(Difference& d, RecordedValue const& a) {
        auto const depth = 1 + std::atof(layer_of(a.name).c_str());
        auto const terms = static_cast<double>(longest_sum());
        d.bound = rms_factor(d.of) * (compute_ + epsilon(f32) * std::sqrt(terms)) * std::sqrt(depth) *
                  static_cast<double>(a.step);
        d.beyond = !(d.relative <= d.bound);
    }

    /// No sum of a step is longer than its largest value.
    std::int64_t longest_sum() {
        if (longest_ == 0)
            for (auto const& v : a_.values) longest_ = std::max(longest_, v.meta.elements());
        return longest_;
    }

    Recording const &a_, &b_;
    Recording const* exact_;
    double compute_;
    std::map<Key, RecordedValue const*> in_b_, in_exact_;
    std::int64_t longest_ = 0;
    Bisection found_;
};

}  // namespace detail

PLAIT_INLINE Difference const* Bisection::fault() const {
    for (auto const& d : differences)
        if (d.beyond) return &d;
    return nullptr;
}

PLAIT_INLINE Bisection bisect(Recording const& a, Recording const& b, Recording const* exact) {
    return detail::Comparison(a, b, exact).run();
}

PLAIT_INLINE std::string layer_of(std::string const& name) {
    for (std::size_t at = 0; at < name.size();) {
        auto const dot = std::min(name.find('.', at), name.size());
        auto const part = name.substr(at, dot - at);
        if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) return part;
        at = dot + 1;
    }
    return "-";
}

PLAIT_INLINE std::string bisection_text(Bisection const& found, std::size_t most) {
    auto const* fault = found.fault();
    auto const differ = found.compared - found.same;
    char const* judged = found.judge == Judge::bits    ? "both promise the same bits"
                         : found.judge == Judge::exact ? "judged by a run in f64"
                                                       : "judged by an estimate";
    std::string text;
    if (fault)
        text =
            fmt::format("fault: step {}, {}, layer {}{}{}; {}\n", fault->step, fault->name,
                        layer_of(fault->name), fault->rank < 0 ? "" : fmt::format(", rank {}", fault->rank),
                        fault->why.empty() ? "" : ": " + fault->why, judged);
    else if (differ == 0) text = fmt::format("same: all {} values have the same bits\n", found.compared);
    else
        text = fmt::format("rounding: {} of {} values differ, none by more than rounding; {}\n", differ,
                           found.compared, judged);
    std::vector<Difference const*> rows;
    for (auto const& d : found.differences)
        if ((!fault || d.beyond) && rows.size() < most) rows.push_back(&d);
    if (!rows.empty()) {
        std::size_t width = 4;
        for (auto const* d : rows) width = std::max(width, d->name.size());
        text += fmt::format("{:>4}  {:<{}}  {:>5}  {:>4}  {:>17}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}\n",
                            "step", "name", width, "layer", "rank", "elements", "max |a-b|", "relative",
                            "error a", "error b", "bound");
        for (auto const* d : rows)
            text += fmt::format(
                "{:>4}  {:<{}}  {:>5}  {:>4}  {:>17}  {:>9.2e}  {:>9.2e}  {:>9.2e}  {:>9.2e}  {:>9.2e}\n",
                d->step, d->name, width, layer_of(d->name), d->rank < 0 ? "all" : std::to_string(d->rank),
                fmt::format("{} of {}", d->elements, d->of), d->largest, d->relative, d->a_error, d->b_error,
                d->bound);
    }
    for (std::size_t i = 0; i < std::min<std::size_t>(found.notes.size(), 3); ++i)
        text += "note: " + found.notes[i] + "\n";
    if (found.notes.size() > 3) text += fmt::format("note: and {} more\n", found.notes.size() - 3);
    return text;
}

}  // namespace plait
