#pragma once

#include "plait/train/decoder.hpp"

#include <algorithm>

namespace plait {

PLAIT_INLINE DecoderSizes Decoder::checked(DecoderSizes sizes) {
    check<UsageError>(sizes.slots > 0 && sizes.length > 0 && sizes.chunk > 0,
                      "a decoder of {} slots, {} tokens and chunks of {}: want positive sizes", sizes.slots,
                      sizes.length, sizes.chunk);
    return sizes;
}

PLAIT_INLINE Columns Decoder::columns(std::int64_t batch, std::int64_t n, bool last) {
    Columns all{{"tokens", {i32, {batch, n}}}, {"positions", {i32, {batch, n}}}, {"slots", {i32, {batch}}}};
    if (last) all.push_back({"last", {i32, {1}}});
    return all;
}

PLAIT_INLINE Array Decoder::prefill(std::int64_t slot, std::span<std::int32_t const> tokens) {
    auto count = std::ssize(tokens);
    check<UsageError>(slot >= 0 && slot < sizes_.slots, "there is no slot {}: the decoder has {}", slot,
                      sizes_.slots);
    check<UsageError>(count > 0 && count <= sizes_.length, "a prompt of {} tokens: the decoder takes 1 to {}",
                      count, sizes_.length);
    auto const chunk = sizes_.chunk;
    std::map<std::string, Array> batch{{"tokens", Array({i32, {1, chunk}})},
                                       {"positions", Array({i32, {1, chunk}})},
                                       {"slots", Array({i32, {1}})},
                                       {"last", Array({i32, {1}})}};
    auto ids = batch.at("tokens").values<std::int32_t>(), at = batch.at("positions").values<std::int32_t>();
    batch.at("slots").values<std::int32_t>()[0] = static_cast<std::int32_t>(slot);
    Array logits;
    for (std::int64_t first = 0; first < count; first += chunk) {
        auto n = std::min(chunk, count - first);
        for (std::int64_t i = 0; i < chunk; ++i) {
            auto j = static_cast<std::size_t>(i);
            ids[j] = i < n ? tokens[static_cast<std::size_t>(first + i)] : 0;
            at[j] = i < n ? static_cast<std::int32_t>(first + i) : -1;
        }
        batch.at("last").values<std::int32_t>()[0] = static_cast<std::int32_t>(n - 1);
        logits = (*prefill_)(batch).front().second;
    }
    lengths_[static_cast<std::size_t>(slot)] = count;
    return logits;
}

PLAIT_INLINE Array Decoder::decode(std::span<std::int32_t const> tokens) {
    check<UsageError>(std::ssize(tokens) == sizes_.slots, "{} tokens for {} slots: give one for each",
                      tokens.size(), sizes_.slots);
    std::map<std::string, Array> batch{{"tokens", Array({i32, {sizes_.slots, 1}})},
                                       {"positions", Array({i32, {sizes_.slots, 1}})},
                                       {"slots", Array({i32, {sizes_.slots}})}};
    for (std::size_t s = 0; s < tokens.size(); ++s) {
        bool rests = tokens[s] < 0;
        check<UsageError>(rests || (lengths_[s] > 0 && lengths_[s] < sizes_.length),
                          "slot {} holds {} tokens of at most {}: it must have begun and have room", s,
                          lengths_[s], sizes_.length);
        batch.at("tokens").values<std::int32_t>()[s] = rests ? 0 : tokens[s];
        batch.at("positions").values<std::int32_t>()[s] = rests ? -1 : static_cast<std::int32_t>(lengths_[s]);
        batch.at("slots").values<std::int32_t>()[s] = static_cast<std::int32_t>(s);
    }
    auto logits = (*decode_)(batch).front().second;
    for (std::size_t s = 0; s < tokens.size(); ++s) lengths_[s] += tokens[s] >= 0;
    return logits;
}

}  // namespace plait
