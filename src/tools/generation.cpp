#include "generation.hpp"

#include <algorithm>

namespace plait::tools {

double seconds_between(Sequence::Clock::time_point from, Sequence::Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

Decoder make_decoder(Model const& model, std::shared_ptr<State> state, std::int64_t slots,
                     std::int64_t context, std::int64_t chunk, DType compute) {
    DecoderSizes const sizes{.slots = slots,
                             .length = context,
                             .chunk = std::min<std::int64_t>({chunk, context, 32}),
                             .compute = compute};
    return std::visit([&](auto const& m) { return Decoder(m, state, sizes); }, model);
}

void write_weight(State& state, Variable const& v, Array const& values) {
    if (v.meta.dtype == values.meta().dtype) return state.write(v, values);
    Array other(v.meta);
    auto convert = [&](auto from) {
        auto to = [&](auto out) {
            using To = typename decltype(out)::value_type;
            std::ranges::transform(from, out.begin(), [](auto x) { return To(static_cast<float>(x)); });
        };
        if (v.meta.dtype == bf16) to(other.values<Bf16>());
        else if (v.meta.dtype == f32) to(other.values<float>());
        else to(other.values<double>());
    };
    if (values.meta().dtype == bf16) convert(values.values<Bf16>());
    else convert(values.values<float>());
    state.write(v, other);
}

double Sequence::tokens_per_second() const {
    auto time = seconds_between(began, last);
    return time > 0 ? static_cast<double>(made()) / time : 0;
}

std::vector<Sequence> sequences_of(std::vector<std::string> const& prompts, TextCodec const& codec,
                                   std::string const& stop) {
    std::vector<Sequence> all;
    for (auto const& prompt : prompts) {
        auto tokens = codec.encode(prompt);
        if (tokens.empty()) tokens.push_back(codec.start());
        all.push_back({prompt, tokens, tokens.size(), TextStream(stop)});
    }
    return all;
}

Generation::Generation(GenerationOptions options, std::vector<Sequence> begun, TextCodec const& codec,
                       Decoder& decoder)
    : sequences(std::move(begun)),
      options_(std::move(options)),
      codec_(codec),
      decoder_(decoder),
      slots_(static_cast<std::size_t>(decoder.sizes().slots)),
      rest_(sequences.size()) {}

void Generation::run(std::function<void(std::size_t)> const& show) {
    std::size_t next = 0;
    while (rest_ > 0) {
        std::vector<std::int32_t> step(slots_.size(), -1);
        std::vector<Fresh> fresh;
        for (std::size_t s = 0; s < slots_.size(); ++s) {
            if (!slots_[s] && next < sequences.size()) {
                slots_[s] = next++;
                sequences[*slots_[s]].began = Sequence::Clock::now();
                fresh.push_back({s, prefill(s, decoder_.sizes().length)});
            } else if (slots_[s] &&
                       decoder_.length(static_cast<std::int64_t>(s)) == decoder_.sizes().length) {
                // A context of one token has no half.
                fresh.push_back({s, prefill(s, std::max<std::int64_t>(decoder_.sizes().length / 2, 1))});
                ++moves;
            } else if (slots_[s]) {
                step[s] = sequences[*slots_[s]].tokens.back();
            }
        }
        auto draw = [&](std::size_t slot, std::span<float const> logits) {
            auto const i = *slots_[slot];
            take(slot, logits);
            show(i);
        };
        for (Fresh const& f : fresh) draw(f.slot, f.logits.values<float>());
        auto decoding = std::count_if(step.begin(), step.end(), [](auto t) { return t >= 0; });
        if (!decoding) continue;
        auto begin = Sequence::Clock::now();
        auto all = decoder_.decode(step);
        decode_seconds += seconds_between(begin, Sequence::Clock::now());
        decoded += decoding;
        auto vocab = static_cast<std::size_t>(all.shape()[1]);
        for (std::size_t s = 0; s < step.size(); ++s)
            if (step[s] >= 0) draw(s, all.values<float>().subspan(s * vocab, vocab));
    }
}

Array Generation::prefill(std::size_t slot, std::int64_t most) {
    std::span<std::int32_t const> tokens = sequences[*slots_[slot]].tokens;
    return decoder_.prefill(static_cast<std::int64_t>(slot),
                            tokens.last(std::min(tokens.size(), static_cast<std::size_t>(most))));
}

void Generation::take(std::size_t slot, std::span<float const> logits) {
    auto const i = *slots_[slot];
    auto& s = sequences[i];
    auto known = logits.first(static_cast<std::size_t>(codec_.vocabulary()));
    auto token = sample(known, options_.sampling, uniform_of(options_.seed, i, s.made()));
    s.tokens.push_back(token);
    s.last = Sequence::Clock::now();
    if (s.made() == 1) s.first = s.last;
    bool const ends = codec_.end() == token || !s.text.add(codec_.decode(token));
    s.done = ends || static_cast<std::int64_t>(s.made()) >= options_.tokens;
    if (s.done) slots_[slot].reset(), --rest_;
}

}  // namespace plait::tools
