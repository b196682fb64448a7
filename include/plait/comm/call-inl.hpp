#pragma once

#include "plait/comm/call.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace plait {

PLAIT_INLINE std::string_view name_of(Verb verb) {
    static constexpr std::array<std::string_view, verb_count> names{
        "all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast",
        "send",       "recv",           "barrier",    "split",      "leave"};
    return names[static_cast<std::size_t>(verb)];
}

PLAIT_INLINE std::string to_string(Call const& call) {
    std::string text(name_of(call.verb));
    if (call.verb == Verb::barrier || call.verb == Verb::split || call.verb == Verb::leave) return text;
    text += fmt::format(" of {} {}", call.count, name_of(call.dtype));
    if (call.is_reduction() && call.combine != Combine::sum)
        text += fmt::format(" by {}", name_of(call.combine));
    if (call.peer >= 0)
        text += fmt::format(" {} rank {}", call.verb == Verb::send ? "to" : "from", call.peer);
    if (call.site != 0) text += fmt::format(" at site {}", call.site);
    return text;
}

PLAIT_INLINE std::string number_text(Call const& call) {
    return fmt::format("{} {}", call.is_message() ? "message" : "call", call.number);
}

PLAIT_INLINE std::string Members::rank(int r) const {
    int w = of_world(r);
    return w == r && size() == world_size ? fmt::format("rank {}", r)
                                          : fmt::format("rank {} (world rank {})", r, w);
}

PLAIT_INLINE std::optional<CommunicationError> Members::mismatch(std::span<Call const> calls) const {
    // What most ranks call is taken to be right; among equals, the call of the lowest rank.
    auto right = std::max_element(calls.begin(), calls.end(), [&](Call const& a, Call const& b) {
        return std::count(calls.begin(), calls.end(), a) < std::count(calls.begin(), calls.end(), b);
    });
    auto wrong = std::find_if(calls.begin(), calls.end(), [&](Call const& c) { return !(c == *right); });
    if (wrong == calls.end()) return std::nullopt;
    int r = static_cast<int>(right - calls.begin()), w = static_cast<int>(wrong - calls.begin());
    if (wrong->verb == Verb::leave) return left(w, r, *right);
    if (right->verb == Verb::leave) return left(r, w, *wrong);
    std::vector<int> others;
    for (std::size_t i = 0; i < calls.size(); ++i)
        if (!(calls[i] == *right)) others.push_back(world[i]);
    return CommunicationError(fmt::format("{}: {} calls {} as {}, {} {}", name, rank(w), to_string(*wrong),
                                          number_text(*wrong), rank(r), to_string(*right)),
                              std::move(others), of_world(r));
}

PLAIT_INLINE std::optional<CommunicationError> Members::mismatch(int r, Call const& mine,
                                                                 Call const& theirs) const {
    Call mirrored = theirs;
    mirrored.verb = mine.verb, mirrored.peer = mine.peer;
    if (mirrored == mine && mine.verb != theirs.verb) return std::nullopt;
    // Of two neither is more right: both are named, and the lower one tells.
    auto both = std::minmax({of_world(r), of_world(mine.peer)});
    return CommunicationError(fmt::format("{}: {} calls {} as {}, {} {}", name, rank(r), to_string(mine),
                                          number_text(mine), rank(mine.peer), to_string(theirs)),
                              {both.first, both.second}, both.first);
}

PLAIT_INLINE CommunicationError Members::missing(std::vector<int> const& late, std::vector<int> const& there,
                                                 Call const& call, double seconds,
                                                 std::string const& more) const {
    auto list = [&](std::vector<int> const& ranks) {
        std::string text;
        for (int r : ranks) text += (text.empty() ? "" : ", ") + rank(r);
        return text;
    };
    std::vector<int> gone;
    for (int r : late) gone.push_back(of_world(r));
    return CommunicationError(
        fmt::format("{}: {} {} missing from {}, {}, where {} wait{}, after {:.3g} s{}", name, list(late),
                    late.size() == 1 ? "is" : "are", to_string(call), number_text(call), list(there),
                    there.size() == 1 ? "s" : "", seconds, more),
        std::move(gone), of_world(there.front()));
}

PLAIT_INLINE CommunicationError Members::left(int gone, int r, Call const& call) const {
    return CommunicationError(fmt::format("{}: {} has left before {}, {}, of {}", name, rank(gone),
                                          to_string(call), number_text(call), rank(r)),
                              {of_world(gone)}, of_world(r));
}

PLAIT_INLINE CommunicationError Members::unwinding(int r, Call const* during) const {
    auto where = during ? fmt::format(" during {}, {}", to_string(*during), number_text(*during)) : "";
    return CommunicationError(fmt::format("{}: {} ends by an exception{}", name, rank(r), where),
                              {of_world(r)}, of_world(r));
}

}  // namespace plait
