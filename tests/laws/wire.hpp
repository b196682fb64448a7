#pragma once

#include "laws/ranks.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

/// What ranks put on the wire in one step, beside what they should.
namespace tests {

/// Bytes by axis, verb and dtype.
using Bytes = std::map<std::string, std::int64_t>;

inline std::string name_of_row(std::string_view axis, Verb verb, DType dtype) {
    return fmt::format("{} {} {}", axis, name_of(verb), name_of(dtype));
}

inline std::string text_of(Bytes const& bytes) {
    std::string text;
    for (auto const& [row, n] : bytes) text += fmt::format("{}: {}\n", row, n);
    return text;
}

/// Of rank r: everyone sums up a part, gives away all but it, then brings it to all others.
inline std::int64_t all_reduce_bytes(DType dtype, std::int64_t elements, std::int64_t ranks, std::int64_t r) {
    auto part = elements / ranks + (r < elements % ranks);
    return bytes_of(dtype, elements - part + (ranks - 1) * part);
}

struct Traffic {
    Bytes wanted, sent;
};

/// Of every rank in its third step, along the axis `only` or along all; `wanted(mesh, state)` gives what a
/// rank should send.
template <class Wanted>
std::vector<Traffic> traffic_of(Subject const& s, Arrangement const& a, Broken const& broken,
                                Wanted const& wanted, std::string_view only = "") {
    std::vector<Traffic> all(static_cast<std::size_t>(a.ranks()));
    run_ranks(a.ranks(), [&](Communicator& real) {
        auto decorated = broken.world ? broken.world(real) : nullptr;
        Mesh mesh(decorated ? *decorated : real, a.sizes());
        auto t = training_on(mesh, s, a, {.graph = broken.graph});
        t(), t();
        mesh.reset_traffic();
        t();
        auto& one = all[static_cast<std::size_t>(real.rank())];
        for (auto const& [axis, row] : mesh.traffic())
            if (row.bytes && (only.empty() || axis == only))
                one.sent[name_of_row(axis, row.verb, row.dtype)] += row.bytes;
        for (auto const& [row, bytes] : wanted(mesh, *t.state))
            if (bytes && row.starts_with(only)) one.wanted[row] = bytes;
    });
    return all;
}

inline bool traffic_holds(std::vector<Traffic> const& all) {
    return std::all_of(all.begin(), all.end(), [](auto const& t) { return t.sent == t.wanted; });
}

inline void check_traffic(Subject const& s, Arrangement const& a, std::vector<Traffic> const& all) {
    INFO(text_of(s, a) << (a.bits == Bits::fast ? ", fast" : ""));
    for (std::size_t r = 0; r < all.size(); ++r) {
        INFO("rank " << r);
        CHECK(text_of(all[r].sent) == text_of(all[r].wanted));
        if (a.ranks() == 1) CHECK(all[r].sent.empty());
    }
}

}  // namespace tests
