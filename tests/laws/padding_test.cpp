// Rows that pad a vocabulary change nothing: not the loss, not the weights, not what is said.
#include "catch.hpp"
#include "laws/ranks.hpp"
#include "plait/train/decoder.hpp"

#include <algorithm>
#include <cmath>

using namespace plait;
using namespace tests;

namespace {

Subject with_rows(Subject s, std::int64_t rows) {
    s.config.vocab = 71, s.config.padded_vocab = rows;
    return s;
}
std::vector<Subject> odd_subjects() {
    std::vector<Subject> all{llama(), untied_llama(), gpt2()};
    for (auto& s : all) s.config.loss_chunk = 40;
    return all;
}

/// What a run of one rank leaves; `lines` as the plan of a tensor axis has them.
Outcome one_rank(Subject const& s, Bits bits, bool lines = false) {
    return outcomes(s, {.bits = bits, .tensor = lines ? 1 : 0}).front();
}

/// The elements of the last rows, from `row` on.
std::vector<float> rows_from(Array const& a, std::int64_t row) {
    auto const all = a.values<float>();
    auto const rest = all.subspan(static_cast<std::size_t>(row * a.shape()[1]));
    return {rest.begin(), rest.end()};
}

}  // namespace

TEST_CASE("with a padded vocabulary loss, norm and hash have the bits of one without") {
    for (auto const& s : odd_subjects())
        for (auto bits : {Bits::fast, Bits::layout})
            for (auto compute : {f32, bf16}) {
                auto plain = with_rows(s, 0), padded = with_rows(s, 96);
                plain.compute = padded.compute = compute;
                INFO(text_of(s, {.bits = bits}));
                auto const want = one_rank(plain, bits), got = one_rank(padded, bits);
                CHECK(got.loss == want.loss);
                CHECK(got.norm == want.norm);
                CHECK(got.hash == want.hash);
            }
    // Classes that count do make a difference.
    auto more = with_rows(llama(), 0);
    more.config.vocab = 72;
    CHECK(one_rank(more, Bits::fast).hash != one_rank(with_rows(llama(), 0), Bits::fast).hash);
}

TEST_CASE(
    "a padded vocabulary that is divided, or whose logits are all kept, has the losses of one without") {
    for (auto s : odd_subjects())
        for (std::int64_t chunk : {0, 40})
            for (int tensor : {0, 1, 4}) {
                s.config.loss_chunk = chunk;
                INFO(s.name << " by " << chunk << ", tensor " << tensor);
                auto const want = one_rank(with_rows(s, 0), Bits::fast);
                auto const got = outcomes(with_rows(s, 96), {.bits = Bits::fast, .tensor = tensor}).front();
                for (std::size_t i = 0; i < want.loss.size(); ++i)
                    CHECK(std::abs(got.loss[i] - want.loss[i]) < 1e-5);
            }
}

TEST_CASE("padding begins at zero, stays zero and is in no hash") {
    for (auto const& s : odd_subjects())
        for (bool lines : {false, true}) {
            INFO(s.name << (lines ? " with lines" : ""));
            auto const t = training_on(Mesh({{"tensor", 1}}, 0), with_rows(s, 96), {.tensor = lines ? 1 : 0});
            for (int i = 0; i < 3; ++i) t();
            int padded = 0;
            for (auto const& v : t.state->variables()) {
                if (v->rows == 0) continue;
                auto const values = t.state->read(*v);
                REQUIRE(v->meta.shape[0] == 96);
                for (float x : rows_from(values, 71)) REQUIRE(x == 0);
                auto const before = rows_from(values, 70);
                CHECK(std::any_of(before.begin(), before.end(), [](float x) { return x != 0; }));
                ++padded;
            }
            CHECK(padded == (s.config.tied ? 3 : 6));  // with both moments
            auto const hash = t.state->parameter_hash();
            for (auto const& v : t.state->variables()) v->rows = 0;
            CHECK(t.state->parameter_hash() != hash);
        }
}

TEST_CASE("a decoder of a padded vocabulary gives the logits of its classes alone") {
    auto logits = [](Subject const& s) {
        models::Llama model(s.config);
        auto state = plait::state(model, cpu_backend(1));
        Decoder decoder(model, state, {.slots = 2, .length = 16, .chunk = 4});
        state->allocate();
        std::vector<std::int32_t> const prompt{3, 1, 70, 5, 2}, next{9, -1};
        auto first = decoder.prefill(0, prompt);
        auto then = decoder.decode(next);
        CHECK(first.shape() == Shape{1, 71});
        CHECK(then.shape() == Shape{2, 71});
        auto const a = first.values<float>(), b = then.values<float>().first(71);
        std::vector<float> all(a.begin(), a.end());
        all.insert(all.end(), b.begin(), b.end());
        return all;
    };
    for (auto const& s : {llama(), untied_llama()})
        CHECK(logits(with_rows(s, 96)) == logits(with_rows(s, 0)));
}

TEST_CASE("more classes than there are logits are refused") {
    auto const logits = full({4, 7}, 0), targets = full({4}, 0, i32);
    CHECK_THROWS_WITH(cross_entropy(logits, targets, 8), ContainsSubstring("8 classes of a vocabulary of 7"));
    CHECK_THROWS_WITH(linear_cross_entropy(full({4, 3}, 0), full({7, 3}, 0), targets, 2, -1),
                      ContainsSubstring("-1 classes of a vocabulary of 7"));
}
