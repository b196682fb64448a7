#include "memory_picture.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "plait/train/progress.hpp"
#include "svg.hpp"

namespace plait::tools {
namespace {

using Place = Program::Place;
using Kind = std::int64_t MemoryTable::*;

constexpr double width = 780, height = 440, top = 26, right = 12, font = 13;

struct KindName {
    Kind kind;
    char const* name;   // shown
    char const* style;  // class of its colour and pattern
    char const* note;
};
constexpr KindName kinds[] = {
    {&MemoryTable::weights, "weights", "weights", ""},
    {&MemoryTable::optimizer, "optimizer", "optimizer", ""},
    {&MemoryTable::other_state, "other state", "other", ""},
    {&MemoryTable::gradients, "gradients", "gradients", "at the peak"},
    {&MemoryTable::activations, "activations", "activations", "at the peak"},
    {&MemoryTable::stash, "stash", "stash", "of micro-batches under way, at the peak"},
    {&MemoryTable::inputs, "inputs", "inputs", "at the peak"},
    {&MemoryTable::workspace, "workspace", "workspace", "at the peak"},
};

KindName const& name_of(Kind kind) {
    return *std::find_if(std::begin(kinds), std::end(kinds), [&](auto const& k) { return k.kind == kind; });
}

std::string bytes(std::int64_t n) { return bytes_text(static_cast<double>(n)); }

/// Neighbours in the state region of one kind become one block.
std::vector<Place> joined_state(std::vector<Place> places) {
    std::erase_if(places, [](auto const& p) { return p.region != Region::state; });
    std::sort(places.begin(), places.end(), [](auto const& a, auto const& b) { return a.offset < b.offset; });
    std::vector<Place> blocks;
    std::vector<int> counts;
    for (auto const& p : places) {
        bool const more = !blocks.empty() && blocks.back().kind == p.kind;
        if (!more) blocks.push_back(p), counts.push_back(0);
        blocks.back().bytes = p.offset + p.bytes - blocks.back().offset;
        ++counts.back();
    }
    for (std::size_t i = 0; i < blocks.size(); ++i)
        blocks[i].name = fmt::format("{} tensors, from the first to the last instruction", counts[i]);
    return blocks;
}

class Picture {
  public:
    explicit Picture(Programs const& programs)
        : programs_(programs),
          program_(programs.train.program()),
          count_(std::max<int>(static_cast<int>(program_.instructions.size()), 1)),
          state_(programs.state->bytes()),
          all_(state_ + program_.scratch_bytes),
          bottom_(program_.visits.size() > program_.pieces.size() ? 56 : 28) {
        auto most = static_cast<double>(std::max<std::int64_t>(all_, 1));
        constexpr char const* names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
        int i = 0;
        for (; i < 4 && most >= 1024; ++i) most /= 1024, unit_ *= 1024;
        unit_name_ = names[i];
        bytes_ = make_axis(0, most, 6, false, false);
        double widest = 0;
        for (auto t : bytes_.ticks) widest = std::max(widest, width_of(bytes_.text(t)) * font);
        left_ = widest + 16;
        find_peak();
    }

    std::string html() const {
        return fmt::format(
            "<figure class=\"card memory\">\n<p class=\"small\">{} over the instructions of a step, {} in "
            "all</p>\n<div class=\"wide\"><svg viewBox=\"0 0 {} {}\" role=\"img\" "
            "aria-label=\"Places of the memory plan over the instructions of a "
            "step\">\n{}{}{}{}{}</svg></div>\n"
            "{}</figure>\n",
            unit_name_, bytes(all_), width, height, phases(), scratch(), state(), axes(), peak(), legend());
    }

  private:
    double x(double instruction) const { return left_ + instruction / count_ * (width - left_ - right); }
    double y(double at) const {
        return height - bottom_ - bytes_.part(at / unit_) * (height - top - bottom_);
    }
    double y(std::int64_t at) const { return y(static_cast<double>(at)); }

    void find_peak() {
        std::vector<std::int64_t> live(static_cast<std::size_t>(count_) + 1, 0);
        for (auto const& p : program_.places) {
            if (p.region == Region::state) continue;
            live[static_cast<std::size_t>(p.first)] += p.bytes;
            live[static_cast<std::size_t>(p.last) + 1] -= p.bytes;
        }
        std::int64_t now = 0, most = -1;
        for (int i = 0; i < count_; ++i)
            if ((now += live[static_cast<std::size_t>(i)]) > most) most = now, peak_ = i;
        peak_bytes_ = state_ + most;
    }

    std::string place(Place const& p, std::int64_t base, std::string_view title, std::string label) const {
        auto const x0 = x(p.first), x1 = x(p.last + 1);
        auto const y0 = y(base + p.offset + p.bytes), y1 = y(base + p.offset);
        auto const& kind = name_of(p.kind);
        auto svg = fmt::format(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"place{} {}\">"
            "<title>{}: {}, {}</title></rect>",
            place_text(x0), place_text(y0), place_text(x1 - x0), place_text(y1 - y0),
            y1 - y0 < 6 ? " flat" : "", kind.style, kind.name, bytes(p.bytes), escaped(title));
        auto const room = x1 - x0 - 8;
        if (y1 - y0 < 13 || room < 40) return svg + "\n";
        if (auto const fits = static_cast<std::size_t>(room / (0.6 * 11)); label.size() > fits)
            label = label.substr(0, fits) + "…";
        return svg + text_svg((x0 + x1) / 2, (y0 + y1) / 2 + 4, "inside", label) + "\n";
    }

    std::string scratch() const {
        std::string svg;
        std::map<std::string, std::string> tiny;  // paths by class
        for (auto const& p : program_.places) {
            if (p.region == Region::state) continue;
            auto const w = x(p.last + 1) - x(p.first), h = y(std::int64_t{0}) - y(p.bytes);
            if (w * h >= 8 && h >= 0.8) {
                auto const when = p.first == p.last ? fmt::format("at instruction {}", p.first)
                                                    : fmt::format("instructions {} to {}", p.first, p.last);
                svg += place(p, state_, fmt::format("{}, {}", p.name, when), p.name);
                continue;
            }
            tiny[name_of(p.kind).style] += fmt::format(
                "M{} {}h{}v{}h-{}z", place_text(x(p.first)), place_text(y(state_ + p.offset + p.bytes)),
                place_text(w), fmt::format("{:.2f}", std::max(h, 0.15)), place_text(w));
        }
        for (auto const& [style, d] : tiny)
            svg += fmt::format("<path d=\"{}\" class=\"place tiny {}\"/>\n", d, style);
        return svg;
    }

    std::string state() const {
        std::string svg;
        for (auto const& p : joined_state(program_.places)) svg += place(p, 0, p.name, name_of(p.kind).name);
        if (state_ > 0)
            svg += fmt::format("<path d=\"M{} {}H{}\" class=\"border\"/>", place_text(left_),
                               place_text(y(state_)), place_text(width - right));
        return svg + "\n";
    }

    /// A strip above the picture: which instructions are forward, backward and update.
    std::string phases() const {
        std::string svg;
        auto const& all = program_.instructions;
        for (std::size_t i = 0; i < all.size();) {
            auto j = i;
            while (j < all.size() && all[j].origin.phase == all[i].origin.phase) ++j;
            auto const x0 = x(static_cast<double>(i)), x1 = x(static_cast<double>(j));
            auto const name = plait::name_of(all[i].origin.phase);
            svg += fmt::format(
                "<rect x=\"{}\" y=\"4\" width=\"{}\" height=\"17\" class=\"phase {}\"><title>{}: "
                "instructions {} "
                "to {}</title></rect>",
                place_text(x0), place_text(x1 - x0), name, name, i, j - 1);
            if (x1 - x0 > width_of(name) * 12 + 6) svg += text_svg((x0 + x1) / 2, 17, "strip", name);
            i = j;
        }
        return svg + "\n";
    }

    std::string axes() const {
        std::string svg;
        for (auto t : bytes_.ticks) {
            svg += fmt::format("<path d=\"M{} {}h-4\" class=\"axis\"/>", place_text(left_),
                               place_text(y(t * unit_)));
            svg += text_svg(left_ - 7, y(t * unit_) + 4.5, "tick end", bytes_.text(t));
        }
        auto const steps = make_axis(0, count_, 8, true, false);
        for (auto t : steps.ticks) {
            svg += fmt::format("<path d=\"M{} {}v4\" class=\"axis\"/>", place_text(x(t)),
                               place_text(height - bottom_));
            svg += text_svg(x(t), height - bottom_ + 18, "tick mid", steps.text(t));
        }
        svg += fmt::format("<path d=\"M{} {}V{}H{}\" class=\"axis\"/>", place_text(left_), top,
                           place_text(height - bottom_), place_text(width - right));
        std::vector<int> times(program_.pieces.size());
        for (auto const& v : program_.visits) ++times[static_cast<std::size_t>(v.piece)];
        for (std::size_t i = 0; i < times.size(); ++i) {
            auto const& p = program_.pieces[i];
            auto const name = fmt::format("{}: {} times", p.name, times[i]);
            auto const x0 = x(p.first) + 1, x1 = x(p.last) - 1, at = height - bottom_ + 26;
            if (times[i] < 2 || x1 <= x0) continue;
            svg += fmt::format("<path d=\"M{} {}v5H{}v-5\" class=\"axis\"><title>{}</title></path>",
                               place_text(x0), place_text(at), place_text(x1), escaped(name));
            if (x1 - x0 > width_of(name) * font + 12)
                svg += text_svg((x0 + x1) / 2, height - bottom_ + 47, "tick mid", name);
        }
        return svg + "\n";
    }

    std::string peak() const {
        auto const at = x(peak_ + 0.5);
        auto const text = fmt::format("peak {}", bytes(peak_bytes_));
        bool const to_left = at + width_of(text) * font + 10 > width - right;
        return fmt::format("<path d=\"M{} {}V{}\" class=\"peak\"/>", place_text(at), top,
                           place_text(height - bottom_)) +
               text_svg(at + (to_left ? -6 : 6), top + 15, to_left ? "peakname end" : "peakname", text) +
               "\n";
    }

    std::string legend() const {
        auto const table = programs_.train.memory();
        std::string rows;
        auto row = [&](std::string const& swatch, std::string_view name, std::int64_t n,
                       std::string_view note) {
            rows += fmt::format("<tr><th scope=\"row\">{}{}</th><td>{}</td><td class=\"note\">{}</td></tr>\n",
                                swatch, name, bytes(n), note);
        };
        for (auto const& k : kinds) {
            if (table.*k.kind == 0) continue;
            row(fmt::format("<svg class=\"swatch\" viewBox=\"0 0 24 14\" width=\"24\" height=\"14\" "
                            "aria-hidden=\"true\"><rect x=\"0.5\" y=\"0.5\" width=\"23\" height=\"13\" "
                            "class=\"place {}\"/></svg>",
                            k.style),
                k.name, table.*k.kind, k.note);
        }
        std::string const none = "<span class=\"swatch\"></span>";
        row(none, "gaps", table.gaps, "between places");
        if (auto more = programs_.arena_bytes() - table.total(); more > 0)
            row(none, "validation", more, "beyond a step's");
        row(none, "arena", programs_.arena_bytes(), "of one rank, planned before the first step");
        return "<div class=\"scroll\"><table class=\"kinds\">\n" + rows + "</table></div>\n";
    }

    Programs const& programs_;
    Program const& program_;
    int count_;
    std::int64_t state_, all_;
    double bottom_;  // room below the axis; loops are named there
    double unit_ = 1, left_ = 0;
    std::string unit_name_;
    Axis bytes_;
    int peak_ = 0;
    std::int64_t peak_bytes_ = 0;
};

}  // namespace

std::string memory_patterns() {
    // Kinds are told apart without colours too: most have lines of their own.
    auto pattern = [](std::string_view id, std::string_view d) {
        return fmt::format(
            "<pattern id=\"lines-{0}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><rect "
            "width=\"8\" height=\"8\" class=\"fill-{0}\"/><path d=\"{1}\" class=\"hatch\"/></pattern>",
            id, d);
    };
    return "<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><defs>" +
           pattern("optimizer", "M0 4H8") + pattern("gradients", "M-2 2L2-2M0 8L8 0M6 10L10 6") +
           pattern("stash", "M0 2H8M0 6H8") + pattern("inputs", "M4 0V8") +
           pattern("workspace", "M0 0L8 8M8 0L0 8") + "</defs></svg>\n";
}

std::string memory_picture(Programs const& programs) { return Picture(programs).html(); }

}  // namespace plait::tools
