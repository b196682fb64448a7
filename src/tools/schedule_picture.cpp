#include "schedule_picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "plait/train/progress.hpp"
#include "svg.hpp"

namespace plait::tools {
namespace {

constexpr double width = 780, top = 22, bottom = 40, right = 46, font = 13;
constexpr double bar = 24, live = 14, row = 48;  // a rank's pieces, its stashes, and both with the gap

struct WorkName {
    char const *style, *name;
};
constexpr WorkName works[] = {{"forward", "F: forward"},
                              {"input", "B: backward, input gradient"},
                              {"weight", "W: backward, weight gradients"}};
WorkName const& name_of(Work work) { return works[static_cast<std::size_t>(work)]; }

// In a page the colours are the page's.
constexpr std::string_view file_style =
    ":root{--weights:#8fbbee;--activations:#93d3b4;--gradients:#f5b48a;--hatch:rgb(0 0 0/.16);--line:#fff;"
    "--on:#16191d;--grid:#e4e7eb;--soft:#57606a}"
    "@media(prefers-color-scheme:dark){:root{--weights:#2d5f9e;--activations:#21704f;--gradients:#a3541f;"
    "--hatch:rgb(255 255 255/.15);--line:#181c22;--on:#f4f6f8;--grid:#272d36;--soft:#9aa4b1}}"
    "text{font:13px sans-serif}.tick{fill:var(--soft)}.mid,.inside{text-anchor:middle}.end{text-anchor:end}"
    ".inside{fill:var(--on);font-size:11px}path.axis{stroke:var(--soft);fill:none}"
    ".hatch{stroke:var(--hatch);stroke-width:1.2;fill:none}";
constexpr std::string_view piece_style =
    ".track{fill:var(--grid)}.piece{stroke:var(--line);stroke-width:.6}.piece.tiny{stroke:none}"
    ".forward,.fill-forward{fill:var(--weights)}.fill-input{fill:var(--activations)}"
    ".fill-weight{fill:var(--gradients)}.input{fill:url(#lines-input)}.weight{fill:url(#lines-weight)}"
    ".wide path.live,.live{fill:var(--soft);fill-opacity:.45}.wide path.forward,.wide path.tiny.forward"
    "{fill:var(--weights)}.wide path.tiny.input,.tiny.input{fill:var(--activations)}"
    ".wide path.tiny.weight,.tiny.weight{fill:var(--gradients)}";

std::string defs() {
    auto pattern = [](std::string_view id, std::string_view d) {
        return fmt::format(
            "<pattern id=\"lines-{0}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\"><rect "
            "width=\"8\" "
            "height=\"8\" class=\"fill-{0}\"/><path d=\"{1}\" class=\"hatch\"/></pattern>",
            id, d);
    };
    return "<defs>" + pattern("input", "M0 4H8") + pattern("weight", "M-2 2L2-2M0 8L8 0M6 10L10 6") +
           "</defs>\n";
}

struct TimeUnit {
    double seconds;
    char const* name;
};
TimeUnit unit_of(double makespan) {
    if (makespan >= 1) return {1, "s"};
    return makespan >= 1e-3 ? TimeUnit{1e-3, "ms"} : TimeUnit{1e-6, "µs"};
}

class Picture {
  public:
    Picture(Schedule const& s, Timeline const& t)
        : s_(s),
          t_(t),
          unit_(unit_of(t.makespan)),
          time_(make_axis(0, t.makespan / unit_.seconds, 8, false, false)),
          left_(width_of(rank_name(s.ranks - 1)) * font + 10),
          height_(top + row * s.ranks + bottom) {
        for (auto n : t.rank_copies) most_ = std::max(most_, n);
    }

    std::string drawing() const {
        std::string svg = text_svg(width - right + 8, 14, "tick", "alive");
        for (int rank = 0; rank < s_.ranks; ++rank) svg += rank_row(rank);
        return svg + axis();
    }
    std::string label() const {
        return fmt::format("{}: {} stages on {} ranks, {} micro-batches, bubble {:.1f}% of the work", s_.name,
                           s_.stages, s_.ranks, s_.micro_batches, 100 * t_.bubble_fraction);
    }
    std::string box() const {
        return fmt::format("viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\"", width, place_text(height_),
                           escaped(label()));
    }
    std::string html() const {
        return fmt::format(
            "<figure class=\"card schedule\">\n<p class=\"small\">{}</p>\n<div class=\"wide\"><svg "
            "{}>\n{}</svg></div>\n{}{}</figure>\n",
            escaped(label()), box(), drawing(), legend(), table());
    }

  private:
    static std::string rank_name(int rank) { return fmt::format("rank {}", rank); }
    std::string time_text(double seconds) const {
        return fmt::format("{:.4g} {}", seconds / unit_.seconds, unit_.name);
    }
    double x(double seconds) const {
        return left_ + time_.part(seconds / unit_.seconds) * (width - right - left_);
    }
    double y(int rank) const { return top + row * rank; }

    /// How strong the colour of a stage is: later ones of a rank are fainter.
    double strength(int stage) const {
        auto const rank = s_.rank_of_stage[static_cast<std::size_t>(stage)];
        auto const first = s_.rank_of_stage.begin();
        auto const before = std::count(first, first + stage, rank);
        auto const all = std::count(first, s_.rank_of_stage.end(), rank);
        return all == 1 ? 1 : 1 - 0.5 * static_cast<double>(before) / static_cast<double>(all - 1);
    }

    std::string piece(int rank, Slot const& slot, Timeline::Piece const& p) const {
        auto const x0 = x(p.start), room = x(p.end) - x0;
        auto const strong = strength(slot.stage);
        auto svg = fmt::format(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"piece {}\"{}><title>{}: {}, stage "
            "{}, "
            "micro-batch {}, {} to {}</title></rect>",
            place_text(x0), place_text(y(rank)), place_text(room), bar, name_of(slot.work).style,
            strong < 1 ? fmt::format(" fill-opacity=\"{:.2f}\"", strong) : "", to_string(slot),
            name_of(slot.work).name + 3, slot.stage, slot.micro, time_text(p.start), time_text(p.end));
        auto const number = fmt::format("{}", slot.micro);
        auto const whole = letter_of(slot.work) + number;
        for (auto const& text : {whole, number})
            if (width_of(text) * 11 + 3 <= room)
                return svg + text_svg(x0 + room / 2, y(rank) + bar / 2 + 4, "inside", text) + "\n";
        return svg + "\n";
    }

    std::string rank_row(int rank) const {
        auto const r = static_cast<std::size_t>(rank);
        auto svg = text_svg(left_ - 7, y(rank) + bar / 2 + 4.5, "tick end", rank_name(rank));
        svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"track\"/>\n",
                           place_text(left_), place_text(y(rank)), place_text(width - right - left_), bar);
        std::map<std::string, std::string> tiny;  // paths by class
        // Stashes alive, as steps: from the start of F to the end of W.
        std::string steps;
        int copies = 0;
        auto const base = y(rank) + bar + live + 2;
        auto step = [&](double seconds, int change) {
            copies += change;
            steps += fmt::format("H{}V{}", place_text(x(seconds)), place_text(base - live * copies / most_));
        };
        for (std::size_t i = 0; i < s_.slots[r].size(); ++i) {
            auto const& slot = s_.slots[r][i];
            auto const& p = t_.pieces[r][i];
            if (auto const room = x(p.end) - x(p.start); room >= 2.5) svg += piece(rank, slot, p);
            else
                tiny[name_of(slot.work).style] +=
                    fmt::format("M{} {}h{:.2f}v{}h-{:.2f}z", place_text(x(p.start)), place_text(y(rank)),
                                room, bar, room);
            if (slot.work == Work::F) step(p.start, 1);
            if (slot.work == Work::W) step(p.end, -1);
        }
        for (auto const& [kind, d] : tiny)
            svg += fmt::format("<path d=\"{}\" class=\"piece tiny {}\"/>\n", d, kind);
        svg += fmt::format("<path d=\"M{} {}{}z\" class=\"live\"><title>at most {} alive</title></path>",
                           place_text(left_), place_text(base), steps, t_.rank_copies[r]);
        return svg + text_svg(width - right + 8, base, "tick", fmt::format("{}", t_.rank_copies[r])) + "\n";
    }

    std::string axis() const {
        auto const at = height_ - bottom;
        auto svg = fmt::format("<path d=\"M{} {}H{}\" class=\"axis\"/>", place_text(left_), place_text(at),
                               place_text(width - right));
        for (auto t : time_.ticks) {
            svg += fmt::format("<path d=\"M{} {}v4\" class=\"axis\"/>", place_text(x(t * unit_.seconds)),
                               place_text(at));
            svg += text_svg(x(t * unit_.seconds), at + 18, "tick mid", time_.text(t));
        }
        return svg + text_svg((left_ + width - right) / 2, at + 35, "tick mid", unit_.name) + "\n";
    }

    std::string legend() const {
        std::string keys;
        for (auto const& w : works)
            keys += fmt::format(
                "<span class=\"key\"><svg viewBox=\"0 0 24 14\" width=\"24\" height=\"14\" "
                "aria-hidden=\"true\"><rect x=\"0.5\" y=\"0.5\" width=\"23\" height=\"13\" "
                "class=\"piece {}\"/></svg>{}</span>\n",
                w.style, w.name);
        if (s_.stages > s_.ranks) keys += "<span class=\"key\">later stages of a rank are fainter</span>\n";
        return "<p class=\"keys\">" + keys + "</p>\n";
    }

    std::string table() const {
        // At unit costs, bytes are copies.
        bool const sized = !std::equal(t_.rank_bytes.begin(), t_.rank_bytes.end(), t_.rank_copies.begin());
        std::string rows;
        auto head = [](std::string_view text) { return fmt::format("<th scope=\"col\">{}</th>", text); };
        for (int rank = 0; rank < s_.ranks; ++rank) {
            auto const r = static_cast<std::size_t>(rank);
            std::string stages;
            for (int stage = 0; stage < s_.stages; ++stage)
                if (s_.rank_of_stage[static_cast<std::size_t>(stage)] == rank)
                    stages += fmt::format("{}{}", stages.empty() ? "" : ", ", stage);
            rows += fmt::format(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
                "<td>{}</td>{}</tr>\n",
                rank_name(rank), stages, time_text(t_.busy[r]), time_text(t_.bubble[r]),
                time_text(t_.bubble[r] - t_.inner_bubble[r]), t_.rank_copies[r],
                sized ? "<td>" + bytes_text(static_cast<double>(t_.rank_bytes[r])) + "</td>" : "");
        }
        return "<div class=\"scroll\"><table class=\"numbers\">\n<thead><tr><td></td>" + head("stages") +
               head("at work") + head("bubble") + head("of it at both ends") +
               head("stashes alive, at most") + (sized ? head("their bytes") : "") +
               "</tr></thead>\n<tbody>\n" + rows + "</tbody></table></div>\n";
    }

    Schedule const& s_;
    Timeline const& t_;
    TimeUnit unit_;
    Axis time_;
    double left_, height_;
    int most_ = 1;  // stashes alive on a rank
};

}  // namespace

std::string schedule_patterns() {
    return fmt::format(
        "<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><style>{}</style>{}</svg>\n",
        piece_style, defs());
}

std::string schedule_picture(Schedule const& schedule, Timeline const& timeline) {
    return Picture(schedule, timeline).html();
}

std::string schedule_svg(Schedule const& schedule, Timeline const& timeline) {
    Picture const picture(schedule, timeline);
    return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" {}>\n<style>{}{}</style>\n{}{}</svg>\n",
                       picture.box(), file_style, piece_style, defs(), picture.drawing());
}

}  // namespace plait::tools
