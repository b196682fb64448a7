// Faults that are planted and found, and clean pairs of layouts in which none is.
#include "catch.hpp"
#include "laws/tampered.hpp"
#include "train/bisect_runs.hpp"

#include <algorithm>
#include <set>

using namespace plait;
using namespace tests;

namespace {

Subject in_bf16(Subject s) { return s.compute = bf16, s.name += ", bf16", s; }

std::vector<std::string> const tensor_lines{"megatron tensor"};
std::vector<std::string> const sequence_lines{"megatron tensor", "sequence tensor"};

std::vector<Way> fast_ways() {
    return {{},
            {.micro = 4},
            {.sizes = {{"data", 2}}, .zero = 2, .micro = 4},
            {.sizes = {{"tensor", 2}}, .lines = sequence_lines},
            {.sizes = {{"data", 2}, {"tensor", 2}}, .zero = 3, .lines = tensor_lines, .recompute = true},
            {.sizes = {{"replica", 2}, {"data", 2}}, .zero = 1},
            {.sizes = {{"data", 4}}, .zero = 3, .micro = 8, .recompute = true},
            {.sizes = {{"replica", 2}, {"tensor", 2}}, .micro = 2, .lines = sequence_lines}};
}

/// All pairs of the first `count` ways.
int check_clean(Subject const& s, std::size_t count, RecordedRun const& run) {
    auto ways = fast_ways();
    ways.resize(count);
    auto const exact = exact_recording(s, run);
    std::vector<Recording> all;
    for (auto const& w : ways) all.push_back(recording(s, w, run, &exact));
    int pairs = 0, rounded = 0;
    for (std::size_t a = 0; a < all.size(); ++a)
        for (std::size_t b = a + 1; b < all.size(); ++b, ++pairs) {
            auto const found = bisect(all[a], all[b], &exact);
            CHECK(found.judge == Judge::exact);
            CHECK(found.notes.empty());
            rounded += found.same < found.compared;
            INFO(s.name << ": " << all[a].layout << " and " << all[b].layout << "\n"
                        << bisection_text(found));
            CHECK(!found.fault());
        }
    // Else nothing has been judged.
    CHECK(rounded > pairs / 2);
    return pairs;
}

/// What bisect says of one rank and of `b`, broken so.
Bisection planted(Subject const& s, Way const& b, Broken const& broken) {
    auto const exact = exact_recording(s);
    auto const one = recording(s, {}, {}, &exact);
    // The same pair without the fault is clean.
    auto const clean = bisect(one, recording(s, b, {}, &exact), &exact);
    INFO(bisection_text(clean));
    CHECK(!clean.fault());
    return bisect(one, recording(s, b, {}, &exact, broken), &exact);
}

/// Halves what one of the sums gives: an average where a sum is meant.
Tampered::Does averages_one() {
    return [one = OneSum{}](Communicator& real, Call const& call, ConstView in, View out) mutable {
        bool const wrong = one(real, call);
        honest(real, call, in, out);
        if (!wrong) return;
        check(out.dtype == f32, "the first sum is of f32");
        for (std::int64_t i = 0; i < out.count; ++i) reinterpret_cast<float*>(out.data)[i] /= 2;
    };
}

/// The gradient of one weight keeps the last micro-batch alone.
void lose_micro_batches(Program& program) {
    int lost = 0;
    for (auto& i : program.instructions) {
        auto const* p = i.op.as<Product>();
        if (p && p->form == ProductForm::tn && i.origin.path == "blocks.1.mlp.gate" && i.accumulate)
            i.accumulate = 0, ++lost;
    }
    check(lost == 1, "{} sums over micro-batches were lost", lost);
}

/// The gradients of one weight on the second and third leaf read each other's rows.
void swap_leaves(Program& program) {
    std::vector<Instruction*> leaves;
    for (auto& i : program.instructions) {
        auto const* p = i.op.as<Product>();
        if (p && p->form == ProductForm::tn && i.origin.path == "blocks.0.mlp.gate") leaves.push_back(&i);
    }
    check(leaves.size() == 8, "there are {} leaves", leaves.size());
    std::swap(leaves[1]->in, leaves[2]->in);
}

}  // namespace

TEST_CASE("clean pairs of fast layouts differ by rounding") {
    CHECK(check_clean(llama(), 5, {}) == 10);
    CHECK(check_clean(in_bf16(gpt2()), 3, {}) == 3);
}

TEST_CASE("a hundred clean pairs of fast layouts differ by rounding", "[slow]") {
    int pairs = 0;
    std::uint64_t seed = 1;
    auto untied = untied_llama();
    untied.config.vocab = 96;  // so that every mesh divides it
    for (auto const& s : {llama(), in_bf16(untied), gpt2(), in_bf16(dropping_gpt2())})
        pairs += check_clean(s, fast_ways().size(), {.seed = ++seed, .steps = 3});
    CHECK(pairs >= 100);
}

TEST_CASE("a sum that lacks a rank is found") {
    for (auto const& s : {llama(), in_bf16(gpt2())}) {
        auto const found =
            planted(s, {.sizes = {{"data", 2}}, .zero = 1}, {.world = tampered(leaves_one_out)});
        INFO(bisection_text(found));
        auto const* fault = found.fault();
        REQUIRE(fault);
        CHECK(fault->step == 1);
        CHECK_THAT(fault->name, ContainsSubstring(".gradient"));
        CHECK(fault->b_error > 4 * fault->a_error);
    }
}

TEST_CASE("a sum of a wrong scale is found") {
    auto const found = planted(llama(), {.sizes = {{"tensor", 2}}, .lines = tensor_lines},
                               {.world = tampered(averages_one)});
    INFO(bisection_text(found));
    auto const* fault = found.fault();
    REQUIRE(fault);
    CHECK(fault->step == 1);
    CHECK(fault->name == "tokens.out");
}

TEST_CASE("a gather that brings the step before is found with its rank") {
    for (auto const& s : {llama(), in_bf16(llama())}) {
        auto const found =
            planted(s, {.sizes = {{"data", 2}}, .zero = 3}, {.world = tampered(gathers_stale)});
        INFO(bisection_text(found));
        auto const* fault = found.fault();
        REQUIRE(fault);
        CHECK(fault->step == 2);
        CHECK(fault->rank == 1);
    }
}

TEST_CASE("two leaves that change places are found by their bits") {
    Way const canonical{.bits = Bits::layout}, parts{.sizes = {{"data", 2}}, .zero = 1, .bits = Bits::layout};
    auto const a = recording(llama(), canonical);
    auto const clean = bisect(a, recording(llama(), parts, {}, &a));
    CHECK(clean.judge == Judge::bits);
    CHECK(clean.differences.empty());
    CHECK(clean.same == clean.compared);
    auto const found = bisect(a, recording(llama(), canonical, {}, &a, {.program = swap_leaves}));
    INFO(bisection_text(found));
    auto const* fault = found.fault();
    REQUIRE(fault);
    CHECK(fault->name == "blocks.0.mlp.gate.weight.gradient");
    CHECK(fault->step == 1);
    CHECK(fault->relative < 1e-5);
    CHECK(fault->elements > 0);
    CHECK(layer_of(fault->name) == "0");
}

TEST_CASE("a lost micro-batch is found in the layer that loses it") {
    for (auto const& s : {llama(), in_bf16(llama())}) {
        auto const found = planted(s, {.micro = 4}, {.program = lose_micro_batches});
        INFO(bisection_text(found));
        auto const* fault = found.fault();
        REQUIRE(fault);
        CHECK(fault->step == 1);
        CHECK(fault->name == "blocks.1.mlp.gate.weight.gradient");
        CHECK(layer_of(fault->name) == "1");
    }
}

TEST_CASE("a stored copy that is not the other ranks' is found") {
    Subject const s = llama();
    auto const exact = exact_recording(s);
    Way const two{.sizes = {{"data", 2}}};
    auto spoiled = recording(s, two, {}, &exact);
    CHECK(!bisect(spoiled, recording(s, two, {}, &exact), &exact).fault());
    // zero 1 gathers what was updated: rank 1 keeps the weights of the step before.
    auto const found =
        planted(s, {.sizes = {{"data", 2}}, .zero = 1}, {.world = [](Communicator& real) {
                    return std::make_unique<Tampered>(
                        real, [last = std::map<std::uint64_t, std::vector<std::byte>>()](
                                  Communicator& c, Call const& call, ConstView in, View out) mutable {
                            honest(c, call, in, out);
                            // Results are gathered too; the weights are what is gathered in f32 with most
                            // bytes.
                            if (call.verb != Verb::all_gather || c.rank() != 1 || out.count != 96 * 48)
                                return;
                            std::memset(out.data, 0, 64);
                        });
                }});
    INFO(bisection_text(found));
    auto const* fault = found.fault();
    REQUIRE(fault);
    CHECK(fault->rank == 1);
    CHECK_THAT(fault->why, ContainsSubstring("another copy"));
}

TEST_CASE("watching changes no other bits") {
    auto states = [](Recording const& r) {
        std::vector<std::pair<std::string, std::uint64_t>> hashes;
        for (auto const& v : r.values)
            if (v.kind != RecordedValue::Kind::result || v.name == "loss" || v.name == "grad_norm")
                hashes.emplace_back(v.name, v.hash);
        std::sort(hashes.begin(), hashes.end());
        return hashes;
    };
    for (auto const& s : {llama(), in_bf16(gpt2())})
        for (auto const& w : fast_ways()) {
            INFO(s.name << ", " << text_of(w));
            auto const plain = recording(s, w, {.watch = ""});
            auto const watched = recording(s, w);
            CHECK(watched.values.size() > plain.values.size());
            CHECK(states(watched) == states(plain));
        }
}

TEST_CASE("a glob that no marked value matches is refused") {
    CHECK_THROWS_WITH(recording(llama(), {}, {.watch = "block.*.out"}),
                      ContainsSubstring("watch block.*.out names no marked value; there is "));
}
