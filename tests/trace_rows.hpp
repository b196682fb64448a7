#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tests {

/// The events of a trace, and what is wrong with them. Made from a parsed file.
class TraceRows {
  public:
    template <class Json>
    explicit TraceRows(Json const& file) {
        for (auto const& e : file.at("traceEvents")) {
            auto ns = [&](char const* key) { return std::llround(e.at(key).template get<double>() * 1000); };
            std::pair const track(e.at("pid").template get<int>(), e.at("tid").template get<int>());
            auto const phase = e.at("ph").template get<std::string>(),
                       name = e.at("name").template get<std::string>();
            if (phase == "M" && name != "process_sort_index")
                names[{track.first, name == "process_name" ? -1 : track.second}] = e.at("args").at("name");
            if (phase == "X") spans[track].push_back({name, e.at("cat"), ns("ts"), ns("dur")});
            if (phase == "s" || phase == "f")
                (phase == "s" ? sent : taken)[e.at("id")].push_back({track.first, ns("ts")});
        }
    }

    struct Span {
        std::string name, category;
        std::int64_t start = 0, length = 0;
        std::int64_t end() const { return start + length; }
    };
    struct Arrow {
        int rank = 0;
        std::int64_t time = 0;
    };
    using Track = std::pair<int, int>;  // rank, thread; -1: the rank itself
    std::map<Track, std::string> names;
    std::map<Track, std::vector<Span>> spans;
    std::map<std::string, std::vector<Arrow>> sent, taken;

    std::vector<std::string> named(int rank, std::string const& category) const {
        std::vector<std::string> all;
        for (auto const& s : spans.at({rank, 0}))
            if (s.category == category) all.push_back(s.name);
        return all;
    }

    /// Empty where all tracks have names, spans lie in one another and never cross, threads of communication
    /// have no two at one time, and each arrow has one end, on another rank, no earlier than its start.
    std::string fault() const {
        for (auto const& [track, list] : spans) {
            if (!names.contains(track))
                return fmt::format("thread {} of rank {} has no name", track.second, track.first);
            if (!names.contains({track.first, -1})) return fmt::format("rank {} has no name", track.first);
            auto sorted = list;
            std::stable_sort(sorted.begin(), sorted.end(), [](Span const& a, Span const& b) {
                return std::pair(a.start, -a.length) < std::pair(b.start, -b.length);
            });
            std::vector<Span const*> open;
            for (auto const& s : sorted) {
                while (!open.empty() && open.back()->end() <= s.start) open.pop_back();
                if (!open.empty() && (open.back()->end() < s.end() || track.second > 0))
                    return fmt::format("rank {}: {} crosses {}", track.first, s.name, open.back()->name);
                auto const inside = open.empty() ? "" : open.back()->category;
                if (track.second == 0 && s.length > 0) {
                    bool const fits = s.category == "step"    ? inside.empty()
                                      : s.category == "piece" ? inside == "step"
                                                              : inside == "piece";
                    if (!fits) return fmt::format("rank {}: {} is in '{}'", track.first, s.name, inside);
                }
                open.push_back(&s);
            }
        }
        if (sent.size() != taken.size()) return "an arrow has one end";
        for (auto const& [id, from] : sent) {
            auto to = taken.find(id);
            if (to == taken.end() || from.size() != 1 || to->second.size() != 1)
                return "the arrow " + id + " has not two ends";
            if (from[0].rank == to->second[0].rank) return "the arrow " + id + " stays on a rank";
            if (from[0].time > to->second[0].time) return "the arrow " + id + " goes back in time";
        }
        return "";
    }
};

}  // namespace tests
