// What a model says with a key-value cache is what it says when it reads the whole text at once.
#include "plait/train/decoder.hpp"

#include "catch.hpp"
#include "plait/core/random.hpp"
#include "plait/models/gpt2.hpp"
#include "plait/models/llama.hpp"
#include "plait/ops/reduce.hpp"

#include <cmath>
#include <numeric>

using namespace plait;

namespace {

using Ids = std::vector<std::int32_t>;

models::Config sizes(bool tied = true, std::int64_t kv_heads = 2) {
    return {.dim = 24,
            .layers = 2,
            .heads = 4,
            .kv_heads = kv_heads,
            .hidden = 40,
            .vocab = 61,
            .seq = 48,
            .tied = tied};
}

/// Weights so large that every position says something of its own.
template <class Model>
std::shared_ptr<State> strong_state(Model& model, int workers = 2) {
    auto s = state(model, cpu_backend(workers));
    for (auto const& v : s->variables())
        if (v->meta.shape.rank() == 2) v->init = Init::normal(0.25);
    return s;
}

Ids text(std::int64_t length, std::uint64_t seed = 3) {
    Ids ids;
    for (std::int64_t i = 0; i < length; ++i)
        ids.push_back(static_cast<std::int32_t>(Random{seed}.word(static_cast<std::uint64_t>(i)) % 61));
    return ids;
}

std::span<std::int32_t const> first(Ids const& ids, std::int64_t n) {
    return std::span(ids).first(static_cast<std::size_t>(n));
}

std::vector<float> row(Array const& logits, std::int64_t i = 0) {
    auto n = static_cast<std::size_t>(logits.shape()[1]);
    auto all = logits.values<float>().subspan(static_cast<std::size_t>(i) * n, n);
    return {all.begin(), all.end()};
}

std::size_t argmax(std::vector<float> const& x) {
    return static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
}

double distance(std::vector<float> const& a, std::vector<float> const& b) {
    double far = 0, big = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        far = std::max(far, std::abs(double{a[i]} - b[i]));
        big = std::max(big, std::abs(double{b[i]}));
    }
    return far / big;
}

/// Logits of a prompt and of each of `more` tokens after it, from slot 0.
std::vector<std::vector<float>> alone(Decoder& decoder, Ids const& ids, std::int64_t prompt) {
    std::vector<std::vector<float>> all{row(decoder.prefill(0, first(ids, prompt)))};
    for (auto i = static_cast<std::size_t>(prompt); i < ids.size(); ++i) {
        Ids next(static_cast<std::size_t>(decoder.sizes().slots), -1);
        next[0] = ids[i];
        all.push_back(row(decoder.decode(next)));
    }
    return all;
}

template <class Model>
void check_against_whole(models::Config const& config, DType compute, double bound) {
    auto const length = config.seq;
    auto ids = text(length);
    Model model(config);
    auto s = strong_state(model);
    Decoder decoder(model, s, {.slots = 1, .length = length, .chunk = 8, .compute = compute});
    auto whole =
        compile(Plan().compute(compute), s, {{"tokens", {i32, {1, length}}}}, [&](Batch const& b) -> Row {
            auto all = cast(models::logits(model, b.tokens), f32);
            return {{"logits", reshape(all, {length, config.vocab})}};
        });
    auto want = whole({{"tokens", Array({1, length}, std::span<std::int32_t const>(ids))}})[0].second;
    for (std::int64_t prompt : {1, 5, 8, 9, 21, 48}) {
        CAPTURE(prompt);
        auto got = alone(decoder, ids, prompt);
        REQUIRE(std::ssize(got) == length - prompt + 1);
        for (std::size_t i = 0; i < got.size(); ++i) {
            auto at = prompt - 1 + static_cast<std::int64_t>(i);
            CAPTURE(at);
            CHECK(distance(got[i], row(want, at)) < bound);
            if (compute == f32) CHECK(argmax(got[i]) == argmax(row(want, at)));
            // The control: the logits of another position are far.
            CHECK(distance(got[i], row(want, (at + 1) % length)) > 2 * bound);
        }
    }
}

}  // namespace

TEST_CASE("a Llama with a cache gives the logits of the whole text") {
    for (bool tied : {true, false}) check_against_whole<models::Llama>(sizes(tied), f32, 1e-5);
    check_against_whole<models::Llama>(sizes(true, 4), f32, 1e-5);
    check_against_whole<models::Llama>(sizes(true, 1), f32, 1e-5);
}

TEST_CASE("a GPT-2 with a cache gives the logits of the whole text") {
    for (bool tied : {true, false}) check_against_whole<models::Gpt2>(sizes(tied, 4), f32, 1e-5);
}

TEST_CASE("a cache in bf16 gives nearly the logits of the whole text") {
    check_against_whole<models::Llama>(sizes(), bf16, 4e-2);
    check_against_whole<models::Gpt2>(sizes(false, 4), bf16, 4e-2);
}

TEST_CASE("neither chunks, slots, neighbours nor workers change the bits of a sequence") {
    auto config = sizes();
    struct Sequence {
        Ids ids;
        std::int64_t prompt;
    };
    std::vector<Sequence> const sequences{{text(40, 1), 3}, {text(30, 2), 17}, {text(45, 3), 40}};
    for (auto compute : {f32, bf16}) {
        auto make = [&](std::int64_t slots, std::int64_t chunk, int workers, models::Llama const& model) {
            auto copy = model;
            return Decoder(model, strong_state(copy, workers),
                           {.slots = slots, .length = 48, .chunk = chunk, .compute = compute});
        };
        models::Llama model(config);
        std::vector<std::vector<std::vector<float>>> want;
        auto one = make(1, 8, 1, model);
        for (auto const& s : sequences) want.push_back(alone(one, s.ids, s.prompt));
        for (auto [chunk, workers] : {std::pair{5, 2}, std::pair{32, 3}, std::pair{1, 1}}) {
            CAPTURE(name_of(compute), chunk, workers);
            auto decoder = make(4, chunk, workers, model);
            // Slots 3, 1 and 0, begun at different times; slot 2 stays empty.
            std::size_t const slots[] = {3, 1, 0};
            std::vector<std::vector<float>> last(3);
            std::vector<std::size_t> done(3, 0);
            for (std::size_t round = 0; round < 50; ++round) {
                Ids next(4, -1);
                for (std::size_t i = 0; i < 3; ++i) {
                    auto const& s = sequences[i];
                    if (round == 2 * i) {
                        auto logits =
                            decoder.prefill(static_cast<std::int64_t>(slots[i]), first(s.ids, s.prompt));
                        CHECK(row(logits) == want[i][done[i]++]);
                    } else if (round > 2 * i && done[i] < want[i].size()) {
                        next[slots[i]] = s.ids[static_cast<std::size_t>(s.prompt) + done[i] - 1];
                    }
                }
                if (std::accumulate(next.begin(), next.end(), 0) == -4) continue;
                auto logits = decoder.decode(next);
                for (std::size_t i = 0; i < 3; ++i)
                    if (next[slots[i]] >= 0)
                        CHECK(row(logits, static_cast<std::int64_t>(slots[i])) == want[i][done[i]++]);
            }
            for (std::size_t i = 0; i < 3; ++i) CHECK(done[i] == want[i].size());
        }
    }
}

TEST_CASE("a slot begins anew, whatever it held") {
    models::Llama model(sizes());
    Decoder decoder(model, strong_state(model), {.slots = 1, .length = 48});
    auto a = text(20, 1), b = text(20, 2);
    auto want = alone(decoder, a, 10);
    CHECK(alone(decoder, b, 4) != want);
    CHECK(alone(decoder, a, 10) == want);
    CHECK(decoder.length(0) == 20);
}

TEST_CASE("what the cache holds is read") {
    models::Llama model(sizes());
    auto s = strong_state(model);
    Decoder decoder(model, s, {.slots = 1, .length = 48});
    auto ids = text(11);
    auto want = alone(decoder, ids, 10).back();
    decoder.prefill(0, first(ids, 10));
    for (auto const& v : s->variables())
        if (v->path == "cache.v.1") {
            auto rows = s->read(*v);
            rows.values<float>()[0] += 1;
            s->write(*v, rows);
        }
    CHECK(row(decoder.decode(std::span(ids).last(1))) != want);
}

TEST_CASE("tokens are kept where the cache lies, without a copy of it") {
    models::Llama model(sizes());
    auto s = strong_state(model);
    Decoder decoder(model, s, {.slots = 2, .length = 48});
    for (auto const* step : {&decoder.prefill_step(), &decoder.decode_step()}) {
        int writes = 0;
        for (auto const& i : step->program().instructions) {
            CHECK(i.op.name() != "commit");
            if (i.op.name() != "cache_write") continue;
            ++writes;
            CHECK(i.in[0].region == Region::state);
            CHECK(i.out[0].region == Region::state);
            CHECK(i.in[0].offset == i.out[0].offset);
        }
        CHECK(writes == 4);
    }
    // With a scalar that guards the step, what it computes is stored only when that is finite.
    nn::KeyValueCache cache(2, {1, 48, 2, 6}, f32);
    auto guarded_state = strong_state(model);
    guarded_state->add(cache.variables());
    auto guarded = compile(Plan(), guarded_state,
                           {{"tokens", {i32, {1, 1}}}, {"at", {i32, {1, 1}}}, {"slots", {i32, {1}}}},
                           [&](Batch const& b) -> Row {
                               return {{"sum", sum(model.hidden(b.tokens, cache.at(b["slots"], b["at"])))}};
                           });
    int commits = 0;
    for (auto const& i : guarded.program().instructions) commits += i.op.name() == "commit";
    CHECK(commits == 4);
}

TEST_CASE("a decoder says what it cannot do") {
    models::Gpt2 gpt2(sizes(true, 4));
    CHECK_THROWS_WITH(Decoder(gpt2, strong_state(gpt2), {.slots = 1, .length = 49}),
                      ContainsSubstring("49 is longer than its 48 positions"));
    CHECK_THROWS_WITH(Decoder(gpt2, strong_state(gpt2), {.slots = 0}), ContainsSubstring("0 slots"));
    Decoder decoder(gpt2, strong_state(gpt2), {.slots = 2, .length = 12});
    auto ids = text(13);
    CHECK_THROWS_WITH(decoder.prefill(0, ids), ContainsSubstring("13 tokens: the decoder takes 1 to 12"));
    CHECK_THROWS_WITH(decoder.prefill(2, first(ids, 3)), ContainsSubstring("no slot 2"));
    CHECK_THROWS_WITH(decoder.decode(first(ids, 2)), ContainsSubstring("slot 0 holds 0 tokens"));
    decoder.prefill(1, first(ids, 12));
    CHECK_THROWS_WITH(decoder.decode(Ids{-1, 4}), ContainsSubstring("slot 1 holds 12 tokens of at most 12"));
    CHECK_THROWS_WITH(decoder.decode(first(ids, 1)), ContainsSubstring("1 tokens for 2 slots"));
    CHECK_THROWS_WITH(decoder.prefill(0, Ids{61}), ContainsSubstring("token 61 lies outside"));
}
