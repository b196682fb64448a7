#pragma once

#include "plait/core/random.hpp"
#include "plait/data/loader.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace plait {

PLAIT_INLINE Split split_text(std::int64_t size, double fraction) {
    check<UsageError>(fraction >= 0 && fraction < 1,
                      "data.validation is {}: as a part of the text it must be at least 0 and below 1",
                      fraction);
    auto const wanted = fraction * static_cast<double>(size);
    auto const chunks = std::clamp<std::int64_t>(static_cast<std::int64_t>(wanted / 16384), 1, 16);
    Split split;
    for (std::int64_t c = 0; c < chunks; ++c) {
        // size * c / chunks without leaving 64 bits.
        auto edge = [&](std::int64_t i) { return size / chunks * i + size % chunks * i / chunks; };
        auto begin = edge(c), end = edge(c + 1);
        auto cut = end - static_cast<std::int64_t>(std::llround(fraction * static_cast<double>(end - begin)));
        if (cut > begin) split.train.push_back({begin, cut});
        if (end > cut) split.validation.push_back({cut, end});
    }
    return split;
}

PLAIT_INLINE std::vector<std::uint8_t> gather(std::span<std::uint8_t const> text, Pieces const& pieces) {
    std::vector<std::uint8_t> bytes;
    for (auto const& p : pieces) bytes.insert(bytes.end(), text.begin() + p.begin, text.begin() + p.end);
    return bytes;
}

PLAIT_INLINE std::int64_t permuted(std::int64_t index, std::int64_t count, std::uint64_t key) {
    check(index >= 0 && index < count, "index {} is outside a permutation of {}", index, count);
    // A Feistel network permutes [0, 4^half), which is less than four times `count`.
    auto const bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(count - 1)));
    auto const half = std::max(1, (bits + 1) / 2);
    auto const mask = (std::uint64_t{1} << half) - 1;
    auto x = static_cast<std::uint64_t>(index);
    do {
        std::uint64_t left = x >> half, right = x & mask;
        for (std::uint64_t round = 0; round < 6; ++round)
            left = std::exchange(right, left ^ (mix(key + mix(right << 8 | round)) >> 32 & mask));
        x = left << half | right;
    } while (x >= static_cast<std::uint64_t>(count));  // walks the cycle back into the range
    return static_cast<std::int64_t>(x);
}

PLAIT_INLINE Loader::Loader(Tokens text, Pieces pieces, std::int64_t batch, std::int64_t seq,
                            std::uint64_t seed, Order order, std::string_view what)
    : text_(std::move(text)), batch_(batch), seq_(seq), seed_(seed), order_(order) {
    check<UsageError>(batch > 0 && seq > 0, "data.batch = {} and data.seq = {}: both must be at least 1",
                      batch, seq);
    std::int64_t longest = 0;
    for (auto const& p : pieces) {
        longest = std::max(longest, p.size());
        if (p.size() < seq + 1) continue;
        auto fit = (p.size() - 1) / seq;
        // Training leaves one window out, so that there is room to shift them by up to a window and more.
        if (order == Order::shuffled && fit > 1) --fit;
        runs_.push_back({p, windows_, p.size() - 1 - fit * seq});
        windows_ += fit;
    }
    if (windows_ > 0) return;
    check<UsageError>(longest > 1, "the {} text is too short: {} tokens; give more text", what, longest);
    fail<UsageError>(
        "data.seq = {} needs {} tokens in a row, but the longest piece of the {} text has {}: set data.seq "
        "to "
        "at most {} or give more text",
        seq, seq + 1, what, longest, longest - 1);
}

PLAIT_INLINE std::int64_t Loader::window_begin(std::int64_t sample) const {
    auto const epoch = order_ == Order::shuffled ? static_cast<std::uint64_t>(sample / windows_) : 0;
    auto const key = order_ == Order::shuffled ? mix(seed_ ^ mix(hash_name("data.loader") + epoch)) : 0;
    auto const window = permuted(sample % windows_, windows_, key);
    auto run = std::upper_bound(runs_.begin(), runs_.end(), window,
                                [](auto w, Run const& r) { return w < r.first; }) -
               1;
    auto shift = order_ == Order::shuffled
                     ? static_cast<std::int64_t>(mix(key + 1 + static_cast<std::uint64_t>(run->first)) %
                                                 static_cast<std::uint64_t>(run->room + 1))
                     : 0;
    return run->piece.begin + shift + (window - run->first) * seq_;
}

PLAIT_INLINE void Loader::fill(std::int64_t step, std::int64_t first_row, std::int64_t last_row,
                               std::int32_t* tokens, std::int32_t* targets) const {
    check(step >= 0 && first_row >= 0 && first_row <= last_row && last_row <= batch_,
          "rows {} to {} of step {} are not in a batch of {}", first_row, last_row, step, batch_);
    for (auto row = first_row; row < last_row; ++row) {
        auto const from = window_begin(step * batch_ + row);
        text_.copy(from, seq_, tokens + (row - first_row) * seq_);
        text_.copy(from + 1, seq_, targets + (row - first_row) * seq_);
    }
}

}  // namespace plait
