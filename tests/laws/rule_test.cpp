#include "catch.hpp"
#include "laws/reference.hpp"
#include "laws/split.hpp"

using namespace tests;

namespace {

std::vector<Numbers> run(AnyOp const& op, std::vector<Numbers> const& x) {
    Reference reference;
    Tensors in;
    for (auto const& n : x) in.push_back(reference.bind(n));
    std::vector<Numbers> y;
    for (auto const& t : apply(op, in)) y.push_back(reference(t));
    return y;
}

/// The largest difference between the outputs of the whole op and those put together from its blocks.
double split_error(Sample const& s, Rule const& rule, int factor) {
    auto x = random_inputs(s, 3);
    auto whole = run(s.op, x);
    auto together = whole;
    bool most = rule.combine == Combine::max;
    for (auto& y : together) std::fill(y.values.begin(), y.values.end(), most ? -INFINITY : 0);
    auto size = rule.factors[static_cast<std::size_t>(factor)].size;
    std::int64_t blocks = 2;
    while (size % blocks) ++blocks;
    for (std::int64_t b = 0; b < blocks; ++b) {
        Split split{rule, factor, b * (size / blocks), size / blocks};
        std::vector<Numbers> in;
        Metas in_metas, out_metas;
        for (std::size_t i = 0; i < x.size(); ++i) {
            Numbers one{split.local(rule.inputs[i], x[i].meta), {}};
            Shape place;
            std::size_t n = 0;
            for_each_index(x[i].meta.shape, [&](Shape const& index) {
                if (split.holds(rule.inputs[i], index, place)) one.values.push_back(x[i].values[n]);
                ++n;
            });
            in_metas.push_back(one.meta);
            in.push_back(std::move(one));
        }
        for (std::size_t i = 0; i < whole.size(); ++i)
            out_metas.push_back(split.local(rule.outputs[i], whole[i].meta));
        auto op = s.op.localized(in_metas, out_metas);
        REQUIRE(op.infer(in_metas) == out_metas);
        auto out = run(op, in);
        for (std::size_t i = 0; i < out.size(); ++i) {
            Shape place;
            std::size_t n = 0;
            for_each_index(whole[i].meta.shape, [&](Shape const& index) {
                if (split.holds(rule.outputs[i], index, place)) {
                    auto& all = together[i].values[n];
                    all = most ? std::max(all, at(out[i], place)) : all + at(out[i], place);
                }
                ++n;
            });
        }
    }
    double error = 0;
    for (std::size_t i = 0; i < whole.size(); ++i)
        for (std::size_t n = 0; n < whole[i].values.size(); ++n)
            error = std::max(error, std::abs(whole[i].values[n] - together[i].values[n]));
    return error;
}

/// Ops that ask where their block lies, which these loops do not know.
bool asks_for_origin(Sample const& s) {
    auto const& op = s.op;
    return op.as<Iota>() || op.as<Dropout>() || op.as<StochasticRound>() || op.as<Embedding>() ||
           op.as<EmbeddingGradient>() || op.as<Pick>() || op.as<CrossEntropyGradient>() ||
           op.as<LinearLossBlocks>() || op.as<LinearCrossEntropyGradient>();
}

}  // namespace

TEST_CASE("rules have the shapes that are inferred") {
    for (auto const& s : samples()) {
        CAPTURE(s.name);
        auto in = s.metas();
        auto out = s.op.infer(in);
        auto rule = s.op.rule(in);
        REQUIRE(rule.inputs.size() == in.size());
        REQUIRE(rule.outputs.size() == out.size());
        CHECK(rule.like.size() == in.size());
        for (std::size_t i = 0; i < out.size(); ++i)
            CHECK(rule.output_shape(static_cast<int>(i)) == out[i].shape);
        for (std::size_t i = 0; i < in.size(); ++i) {
            REQUIRE(static_cast<int>(rule.inputs[i].size()) == in[i].shape.rank());
            for (std::size_t d = 0; d < rule.inputs[i].size(); ++d) {
                std::int64_t size = 1;
                for (int f : rule.inputs[i][d]) size *= rule.factors[static_cast<std::size_t>(f)].size;
                CHECK(size == in[i].shape[static_cast<int>(d)]);
            }
        }
    }
}

TEST_CASE("an op split along any factor gives what it gives whole") {
    int seen = 0;
    for (auto const& s : samples()) {
        if (asks_for_origin(s)) continue;
        auto rule = s.op.rule(s.metas());
        for (std::size_t f = 0; f < rule.factors.size(); ++f) {
            auto const& factor = rule.factors[f];
            if (factor.whole || factor.size == 1) continue;
            CAPTURE(s.name, factor.name);
            CHECK(split_error(s, rule, static_cast<int>(f)) < 1e-12);
            ++seen;
        }
    }
    CHECK(seen > 300);
}

TEST_CASE("a factor that should be whole is noticed when it is split") {
    int seen = 0;
    for (auto const& s : samples()) {
        if (s.name != "softmax of rank 3" && s.name != "layer norm" && s.name != "linear") continue;
        auto rule = s.op.rule(s.metas());
        for (std::size_t f = 0; f < rule.factors.size(); ++f)
            if (rule.factors[f].whole) {
                CAPTURE(s.name);
                CHECK(split_error(s, rule, static_cast<int>(f)) > 1e-3);
                ++seen;
            }
    }
    CHECK(seen == 3);
}
