#pragma once

#include "plait/data/bpe.hpp"

#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>
#include <unordered_map>

namespace plait {
namespace detail {

/// The text of all pieces as one row of symbols that grow by merging. A symbol is known by the position of
/// its first byte; which symbol lies before it is kept too, so both neighbours are found without a walk.
struct MergeLearner {
    static constexpr std::uint32_t none = PairTable::none;

    struct Pair {
        std::uint32_t left, right;
        std::int64_t count = 0;
        std::vector<std::uint32_t> places;  // where it was once seen; some may be gone
    };
    struct Candidate {
        std::int64_t count;
        std::uint32_t left, right, pair;
        /// The one to merge first is the greatest.
        bool operator<(Candidate const& o) const {
            return std::tie(count, o.left, o.right) < std::tie(o.count, left, right);
        }
    };

    BytePairs learned;
    std::unordered_map<std::string, std::uint32_t> ids;
    std::vector<std::uint32_t> at;      // the symbol that begins here, or none
    std::vector<std::uint32_t> before;  // the symbol that ends where this one begins, or none
    std::vector<std::uint32_t> piece;   // which piece a position is in
    std::vector<std::int64_t> counts;   // of pieces
    std::vector<Pair> pairs;
    PairTable index;
    std::priority_queue<Candidate> candidates;
    std::vector<std::uint32_t> risen;  // pairs whose count rose in the current merge

    explicit MergeLearner(std::span<CountedPiece const> pieces) {
        std::size_t size = 0;
        for (auto const& p : pieces) size += p.bytes.size();
        check<UsageError>(
            size < none, "the different words of the text take {} bytes: at most 4 GiB can be counted", size);
        for (int b = 0; b < 256; ++b) add_token(std::string(1, static_cast<char>(b)));
        at.reserve(size), before.reserve(size), piece.reserve(size), counts.reserve(pieces.size());
        for (auto const& p : pieces) {
            auto previous = none;
            for (char c : p.bytes) {
                at.push_back(static_cast<unsigned char>(c));
                before.push_back(previous);
                piece.push_back(static_cast<std::uint32_t>(counts.size()));
                previous = at.back();
            }
            counts.push_back(p.count);
        }
        for (std::size_t i = 1; i < at.size(); ++i)
            if (before[i] != none)
                note(before[i], at[i], static_cast<std::uint32_t>(i - 1), counts[piece[i]]);
        push_risen();
    }

    std::uint32_t add_token(std::string text) {
        auto [it, fresh] = ids.emplace(text, static_cast<std::uint32_t>(learned.tokens.size()));
        if (fresh) learned.tokens.push_back(std::move(text));
        return it->second;
    }

    std::uint32_t length(std::uint32_t token) const {
        return static_cast<std::uint32_t>(learned.tokens[token].size());
    }

    /// A pair has come to be at `place`, `count` times.
    void note(std::uint32_t left, std::uint32_t right, std::uint32_t place, std::int64_t count) {
        auto const number = index.insert(left, right, static_cast<std::uint32_t>(pairs.size()));
        if (number == pairs.size()) pairs.push_back({left, right, 0, {}});
        auto& pair = pairs[number];
        pair.count += count;
        pair.places.push_back(place);
        risen.push_back(number);
    }

    void push_risen() {
        std::sort(risen.begin(), risen.end());
        risen.erase(std::unique(risen.begin(), risen.end()), risen.end());
        for (auto number : risen) push(number);
        risen.clear();
    }
    void push(std::uint32_t number) {
        auto const& p = pairs[number];
        if (p.count > 1) candidates.push({p.count, p.left, p.right, number});
    }

    void drop(std::uint32_t left, std::uint32_t right, std::int64_t count) {
        pairs[index.find(left, right)].count -= count;
    }

    void merge(std::uint32_t number) {
        auto const left = pairs[number].left, right = pairs[number].right;
        auto places = std::exchange(pairs[number].places, {});
        // From left to right, so that "aaa" becomes "aa" "a".
        if (!std::is_sorted(places.begin(), places.end())) std::sort(places.begin(), places.end());
        auto const result = add_token(learned.tokens[left] + learned.tokens[right]);
        learned.merges.push_back({left, right, result});
        for (auto p : places) {
            auto const q = p + length(left), r = q + length(right);
            if (at[p] != left || q >= at.size() || before[q] != left || at[q] != right) continue;
            auto const count = counts[piece[p]];
            pairs[number].count -= count;
            at[p] = result;
            at[q] = none;
            if (auto x = before[p]; x != none) {
                drop(x, left, count);
                note(x, result, p - length(x), count);
            }
            if (r < at.size() && before[r] != none) {
                drop(right, at[r], count);
                before[r] = result;
                note(result, at[r], p, count);
            }
        }
        push_risen();
    }

    void run(std::int64_t vocabulary) {
        while (std::cmp_less(learned.tokens.size(), vocabulary) && !candidates.empty()) {
            auto const best = candidates.top();
            candidates.pop();
            auto const now = pairs[best.pair].count;
            if (now == best.count) merge(best.pair);
            else if (now < best.count) push(best.pair);  // a count that rose was pushed when it did
        }
    }
};

}  // namespace detail

PLAIT_INLINE BytePairs learn_merges(std::span<CountedPiece const> pieces, std::int64_t vocabulary) {
    check<UsageError>(vocabulary >= 256, "a vocabulary of {} cannot hold the 256 bytes", vocabulary);
    detail::MergeLearner learner(pieces);
    learner.run(vocabulary);
    return std::move(learner.learned);
}

PLAIT_INLINE PieceMerger::PieceMerger(BytePairs const& pairs)
    : pairs_(pairs), of_byte_(256, PairTable::none) {
    for (std::size_t id = 0; id < pairs.tokens.size(); ++id)
        if (auto const& t = pairs.tokens[id]; t.size() == 1)
            of_byte_[static_cast<unsigned char>(t[0])] = static_cast<std::uint32_t>(id);
    for (std::size_t b = 0; b < 256; ++b)
        check(of_byte_[b] != PairTable::none, "the byte {} is not a token", b);
    for (std::size_t rank = 0; rank < pairs.merges.size(); ++rank)
        ranks_.insert(pairs.merges[rank].left, pairs.merges[rank].right, static_cast<std::uint32_t>(rank));
}

PLAIT_INLINE void PieceMerger::merge(std::string_view piece, Scratch& scratch,
                                     std::vector<std::uint32_t>& tokens) const {
    check(std::cmp_less(piece.size(), INT32_MAX), "a piece of text of {} bytes cannot be encoded",
          piece.size());
    auto& symbols = scratch.symbols;
    auto& heap = scratch.heap;
    symbols.clear(), heap.clear();
    auto const size = static_cast<std::int32_t>(piece.size());
    for (std::int32_t i = 0; i < size; ++i)
        symbols.push_back({of_byte_[static_cast<unsigned char>(piece[static_cast<std::size_t>(i)])], i - 1,
                           i + 1 < size ? i + 1 : -1});
    auto symbol = [&](std::int32_t i) -> Scratch::Symbol& { return symbols[static_cast<std::size_t>(i)]; };
    auto offer = [&](std::int32_t left) {
        if (left < 0 || symbol(left).next < 0) return false;
        auto rank = ranks_.find(symbol(left).id, symbol(symbol(left).next).id);
        if (rank != PairTable::none)
            heap.push_back(std::uint64_t{rank} << 32 | static_cast<std::uint32_t>(left));
        return rank != PairTable::none;
    };
    auto push = [&](std::int32_t left) {
        if (offer(left)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    };
    for (std::int32_t i = 0; i < size; ++i) offer(i);
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), std::greater<>());
        auto const& merge = pairs_.merges[heap.back() >> 32];
        auto const left = static_cast<std::int32_t>(heap.back() & 0xffffffffu);
        heap.pop_back();
        auto& s = symbol(left);
        // A place whose pair has changed meanwhile was offered again then.
        if (s.id != merge.left || s.next < 0 || symbol(s.next).id != merge.right) continue;
        auto& gone = symbol(s.next);
        s.id = merge.result;
        gone.id = PairTable::none;
        s.next = gone.next;
        if (s.next >= 0) symbol(s.next).previous = left;
        push(s.previous);
        push(left);
    }
    for (std::int32_t i = 0; i >= 0 && i < size; i = symbol(i).next) tokens.push_back(symbol(i).id);
}

}  // namespace plait
