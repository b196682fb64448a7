#include "catch.hpp"
#include "laws/reference.hpp"
#include "laws/split.hpp"
#include "plait/cpu/backend.hpp"
#include "plait/cpu/thread_pool.hpp"
#include "plait/exec/backend.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

using namespace tests;

// Bits::layout rests on this: where a rule does not say by_shape, the blocks of an output along a factor have
// the bits that they have in the whole, however it is cut and wherever the blocks lie in memory.

namespace {

/// Shapes that reach whole vectors, their rest, and more than one tile.
std::vector<Sample> larger_samples() {
    std::vector<Sample> s;
    auto add = [&](std::string name, AnyOp op, std::vector<SampleInput> in) {
        s.push_back({"larger " + std::move(name), std::move(op), std::move(in)});
    };
    for (int i = 0; i <= static_cast<int>(UnaryFn::is_finite); ++i) {
        auto fn = static_cast<UnaryFn>(i);
        add(std::string(name_of(fn)), Unary{fn}, {positive({7, 97})});
        if (fn != UnaryFn::is_finite)
            add(std::string(name_of(fn)) + " gradient", UnaryGradient{fn}, {positive({7, 97}), any({7, 97})});
    }
    add("affine of tiles", Affine{0.3, 1.7}, {any({5, 7001})});
    for (auto fn : {BinaryFn::add, BinaryFn::multiply, BinaryFn::divide, BinaryFn::maximum}) {
        auto name = std::string(name_of(fn));
        add(name, Binary{fn}, {any({3, 7, 601}), positive({3, 7, 601})});
        add(name + " a row", Binary{fn}, {any({9, 133}), positive({133})});
        add(name + " a column", Binary{fn}, {any({6, 70}), positive({6, 1})});
        add(name + " both ways", Binary{fn}, {any({3, 1, 5, 1}), positive({5, 1, 37})});
        add(name + " a scalar", Binary{fn}, {any({601}), positive({})});
    }
    add("cast", Cast{f32}, {fixed(any({5, 131}))});
    add("select", Select{}, {mask({9, 55}), any({9, 55}), any({9, 55})});
    add("iota", Iota{1, f32, {3, 37, 15}}, {});
    add("swiglu", SwiGlu{}, {any({7, 99}), any({7, 99})});
    add("swiglu gradient", SwiGluGradient{}, {any({7, 99}), any({7, 99}), any({7, 99})});
    add("dropout", Dropout{0.3, 77}, {any({5, 6, 401}), indices({2}, 0, 1000)});
    for (auto fn : {ReduceFn::sum, ReduceFn::max}) {
        auto name = std::string(name_of(fn));
        add(name + " of rows", Reduce{fn, {1}}, {any({37, 253})});
        add(name + " of columns", Reduce{fn, {0}}, {any({517, 37})});
        add(name + " of the middle", Reduce{fn, {1}}, {any({5, 330, 7})});
        add(name + " of every other", Reduce{fn, {0, 2}}, {any({130, 4, 9, 5})});
        add(name + " of long rows", Reduce{fn, {1}}, {any({3, 40001})});
    }
    add("expand", Expand{{1}}, {any({6, 70}), fixed(any({6, 3, 70}))});
    add("softmax", Softmax{}, {{{f64, {11, 257}}, -8, 8}});
    add("softmax gradient", SoftmaxGradient{}, {positive({11, 65}), any({11, 65})});
    add("transpose", Transpose{{0, 2, 1, 3}}, {any({3, 6, 5, 17})});
    add("transpose planes", Transpose{{2, 0, 1}}, {any({5, 33, 70})});
    add("reshape", Reshape{{6, 7, 30}}, {any({6, 210})});
    add("layer norm", LayerNorm{1e-5, true}, {any({3, 9, 301}), any({3, 9, 301}), any({301}), any({301})});
    add("rms norm", RmsNorm{1e-6, true}, {any({33, 101}), any({33, 101}), any({101})});
    auto rows = any({5, 61, 77});
    add("layer norm gradient", LayerNormGradient{true},
        {rows, rows, any({77}), any({5, 61}), positive({5, 61}), rows});
    add("rms norm gradient", RmsNormGradient{true}, {rows, rows, any({77}), positive({5, 61}), rows});
    add("rope", Rope{}, {any({3, 9, 6, 22}), fixed(any({9, 11, 2}))});
    struct Heads {
        std::int64_t batch, seq, keys, heads, kv_heads, dim;
    };
    for (auto const& h : {Heads{3, 70, 70, 4, 4, 16}, Heads{5, 33, 33, 6, 3, 24}, Heads{2, 9, 130, 4, 2, 19}})
        for (bool causal : {false, true}) {
            auto q = any({h.batch, h.seq, h.heads, h.dim}), k = any({h.batch, h.keys, h.kv_heads, h.dim});
            SampleInput lse{{f64, {h.batch, h.heads, h.seq}}, 3, 4};
            add("attention", Attention{causal}, {q, k, k});
            add("attention gradient", AttentionGradient{causal}, {q, k, k, q, lse, q});
        }
    add("cross entropy", CrossEntropy{}, {any({51, 333}), indices({51}, -9, 333)});
    add("cross entropy gradient", CrossEntropyGradient{},
        {any({51, 333}), indices({51}, -9, 333), positive({51}), any({51})});
    add("embedding", Embedding{}, {indices({4, 31}, 0, 13), any({13, 137})});
    add("embedding gradient", EmbeddingGradient{}, {indices({401}, 0, 50), any({401, 137}), any({50, 137})});
    auto weights = any({5, 1001});
    add("adamw", AdamWUpdate{0.9, 0.95, 1e-8, 0.1, true, false},
        {weights, weights, weights, positive({5, 1001}), positive({}), indices({}, 3, 4), positive({})});
    for (Shape const& shape : {Shape{5, 1001}, Shape{3, 4, 77}, Shape{6, 40, 512}}) {
        add("adamw stochastic", AdamWUpdate{0.9, 0.95, 1e-8, 0.1, true, false, true, 77},
            {any(shape), any(shape), any(shape), positive(shape), positive({}), indices({}, 3, 4),
             indices({2}, 0, 1000), positive({})});
        add("stochastic round", StochasticRound{77}, {any(shape), indices({2}, 0, 1000)});
    }
    for (auto how : {Combine::sum, Combine::max}) add("fold", Fold{how}, {weights, weights, weights});
    return s;
}

/// The sample's inputs in `dtype`, some in f32 where the op keeps them wide; nothing where it takes neither.
std::vector<Meta> metas_in(Sample const& s, DType dtype) {
    Metas best;
    int wides = static_cast<int>(s.in.size());
    for (unsigned wide = 0; wide < 1u << s.in.size(); ++wide) {
        if (std::popcount(wide) >= wides || (dtype != bf16 && wide)) continue;
        Metas in = s.metas();
        for (std::size_t i = 0; i < in.size(); ++i)
            if (in[i].dtype == f64) in[i].dtype = wide >> i & 1 ? f32 : dtype;
        try {
            s.op.infer(in);
            best = in, wides = std::popcount(wide);
        } catch (ShapeError const&) {}
    }
    return best;
}

std::vector<Array> inputs_in(Sample const& s, Metas const& metas) {
    std::vector<Array> arrays;
    for (auto const& m : metas) {
        auto const& i = s.in[arrays.size()];
        Random random{5, hash_name(s.name) + arrays.size(), 0};
        Array a(m);
        for (std::int64_t e = 0; e < m.elements(); ++e) {
            auto n = static_cast<std::size_t>(e);
            // 24 bits at random, and for f64 as many below them: else its sums would be exact.
            double x = i.low + (i.high - i.low) * random.uniform(n);
            if (m.dtype == f64) x += 1e-8 * random.uniform(n + (std::uint64_t{1} << 32));
            if (m.dtype == f64) a.values<double>()[n] = x;
            if (m.dtype == f32) a.values<float>()[n] = static_cast<float>(x);
            if (m.dtype == bf16) a.values<Bf16>()[n] = Bf16(static_cast<float>(x));
            if (m.dtype == i32) a.values<std::int32_t>()[n] = static_cast<std::int32_t>(std::floor(x));
            if (m.dtype == i64) a.values<std::int64_t>()[n] = static_cast<std::int64_t>(std::floor(x));
            if (m.dtype == u8) a.values<std::uint8_t>()[n] = static_cast<std::uint8_t>(x);
        }
        arrays.push_back(std::move(a));
    }
    return arrays;
}

using Kernel = void (*)(KernelCall const&);

/// Bytes that begin `shift` elements after a cache line.
Array shifted(Meta const& m, std::int64_t shift, std::byte*& data) {
    auto off = bytes_of(m.dtype, shift);
    Array memory(Meta{u8, {off + m.bytes()}});
    data = memory.bytes().data() + off;
    return memory;
}

/// Calls `run` on blocks (or wholes, whose placements are empty) that begin `shift` elements after a cache
/// line.
std::vector<Array> call(Kernel run, KernelRow const& row, AnyOp const& op, std::vector<Array> const& x,
                        std::vector<Placement> const& in_at, Metas const& out,
                        std::vector<Placement> const& out_at, std::int64_t shift, ThreadPool& pool) {
    std::vector<Array> memory, results;
    std::vector<Buffer> in, outs;
    Metas metas;
    for (std::size_t i = 0; i < x.size(); ++i) {
        std::byte* data = nullptr;
        memory.push_back(shifted(x[i].meta(), shift + static_cast<std::int64_t>(i), data));
        std::memcpy(data, x[i].bytes().data(), x[i].bytes().size());
        in.push_back({data, x[i].meta(), in_at[i]});
        metas.push_back(x[i].meta());
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
        std::byte* data = nullptr;
        memory.push_back(shifted(out[i], shift, data));
        outs.push_back({data, out[i], out_at[i]});
    }
    Array workspace(Meta{u8, {row.workspace ? row.workspace(op, metas, out, pool.workers()) : 0}});
    run({&op, in, outs, workspace.bytes().data(), 0, &pool});
    for (auto const& b : outs) {
        results.emplace_back(b.meta);
        std::memcpy(results.back().bytes().data(), b.data, results.back().bytes().size());
    }
    return results;
}

/// Numbers of the elements of a whole operand that lie in the block, in the block's order.
std::vector<std::int64_t> elements_of(Split const& split, Rule::Operand const& operand, Shape const& whole) {
    std::vector<std::int64_t> numbers;
    Shape place;
    std::int64_t n = 0;
    for_each_index(whole, [&](Shape const& index) {
        if (split.holds(operand, index, place)) numbers.push_back(n);
        ++n;
    });
    return numbers;
}

Array taken(Array const& from, Meta const& meta, std::vector<std::int64_t> const& numbers) {
    Array to(meta);
    auto size = static_cast<std::size_t>(bytes_of(meta.dtype, 1));
    for (std::size_t i = 0; i < numbers.size(); ++i)
        std::memcpy(to.bytes().data() + i * size,
                    from.bytes().data() + static_cast<std::size_t>(numbers[i]) * size, size);
    return to;
}

/// Where to cut a factor: into 2, 3 and 4 blocks, as equal as they get, and into uneven ones.
std::vector<std::vector<std::int64_t>> cuts_of(std::int64_t size) {
    std::vector<std::vector<std::int64_t>> all;
    for (std::int64_t n : {2, 3, 4}) {
        if (n > size) continue;
        all.emplace_back();
        for (std::int64_t b = 0; b <= n; ++b) all.back().push_back(size * b / n);
    }
    if (size > 3) all.push_back({0, 1, size / 2 | 1, size});
    return all;
}

struct Count {
    int compared = 0, different = 0;
    std::string first;  // what differed first
};

/// Compares the blocks of all outputs that hold a factor with those of the whole, for each factor of the op.
Count compare(Sample const& s, DType dtype, Kernel replaced = nullptr, cpu::Isa isa = cpu::best_isa()) {
    Count count;
    auto metas = metas_in(s, dtype);
    if (metas.size() != s.in.size()) return count;
    auto rule = s.op.rule(metas);
    auto const* row = find_kernel(cpu::kernels(isa), s.op.name());
    REQUIRE(row != nullptr);
    Kernel run = replaced ? replaced : row->run;
    static ThreadPool one(1), two(2);
    auto x = inputs_in(s, metas);
    auto out = s.op.infer(metas);
    auto whole = call(run, *row, s.op, x, std::vector<Placement>(x.size()), out,
                      std::vector<Placement>(out.size()), 0, two);
    for (std::size_t f = 0; f < rule.factors.size(); ++f) {
        int factor = static_cast<int>(f);
        auto size = rule.factors[f].size;
        bool held = std::any_of(rule.outputs.begin(), rule.outputs.end(),
                                [&](auto const& o) { return Rule::holds(o, factor); });
        if (size < 2 || !held || !rule.may_cut(factor)) continue;
        for (auto const& cuts : cuts_of(size)) {
            for (std::size_t b = 0; b + 1 < cuts.size(); ++b) {
                Split split{rule, factor, cuts[b], cuts[b + 1] - cuts[b]};
                std::vector<Array> in;
                std::vector<Placement> in_at, out_at;
                Metas in_metas, out_metas;
                for (std::size_t i = 0; i < x.size(); ++i) {
                    auto meta = split.local(rule.inputs[i], x[i].meta());
                    in.push_back(taken(x[i], meta, elements_of(split, rule.inputs[i], x[i].shape())));
                    in_metas.push_back(meta);
                    in_at.push_back(split.placement(rule.inputs[i], x[i].shape()));
                }
                for (std::size_t o = 0; o < out.size(); ++o) {
                    out_metas.push_back(split.local(rule.outputs[o], out[o]));
                    out_at.push_back(split.placement(rule.outputs[o], out[o].shape));
                }
                auto op = s.op.localized(in_metas, out_metas);
                REQUIRE(op.infer(in_metas) == out_metas);
                auto shift = static_cast<std::int64_t>(2 * b + 1);
                auto block = call(run, *row, op, in, in_at, out_metas, out_at, shift, one);
                for (std::size_t o = 0; o < out.size(); ++o) {
                    if (!Rule::holds(rule.outputs[o], factor)) continue;
                    auto part =
                        taken(whole[o], out_metas[o], elements_of(split, rule.outputs[o], out[o].shape));
                    bool same =
                        std::memcmp(part.bytes().data(), block[o].bytes().data(), part.bytes().size()) == 0;
                    ++count.compared;
                    if (same) continue;
                    if (!count.different++)
                        count.first =
                            fmt::format("output {} of {}({}), factor {}: [{}, {}) of {}", o, s.op.text(),
                                        to_string(metas), rule.factors[f].name, cuts[b], cuts[b + 1], size);
                }
            }
        }
    }
    return count;
}

/// As a kernel would that leaves the elements after its last whole vector to other code.
void rest_rounds_otherwise(KernelCall const& call) {
    for (auto const& row : cpu::kernels())
        if (row.op == call.op->name()) row.run(call);
    auto const& y = call.out[0];
    auto n = y.meta.elements();
    for (auto i = n / 16 * 16; i < n; ++i) y.as<float>()[i] = std::nextafter(y.as<float>()[i], 9.0f);
}

/// As a kernel would whose sums of rows take another order where there are few.
void few_rows_sum_otherwise(KernelCall const& call) {
    for (auto const& row : cpu::kernels())
        if (row.op == call.op->name()) row.run(call);
    auto const& y = call.out[0];
    if (auto rows = y.meta.shape[0]; rows < 4)
        for (std::int64_t i = 0; i < y.meta.elements(); ++i) y.as<float>()[i] *= 1.0000002f;
}

/// As a kernel would that takes its block for the whole.
void forgets_its_place(KernelCall const& call) {
    std::vector<Buffer> out(call.out.begin(), call.out.end());
    for (auto& y : out) y.block = {};
    auto other = call;
    other.out = out;
    for (auto const& row : cpu::kernels())
        if (row.op == call.op->name()) row.run(other);
}

}  // namespace

TEST_CASE("blocks have the bits of the whole, unless the rule says by_shape") {
    auto all = samples();
    for (auto& s : larger_samples()) all.push_back(std::move(s));
    Count sum;
    int by_shape = 0;
    for (auto const& s : all) {
        CAPTURE(s.name);
        if (s.op.rule(s.metas()).by_shape) {
            ++by_shape;
            continue;
        }
        for (auto dtype : {f32, bf16, f64}) {
            CAPTURE(name_of(dtype));
            // One table has fused multiply-adds and long vectors, the other neither.
            for (auto isa : {cpu::Isa::base, cpu::best_isa()}) {
                auto count = compare(s, dtype, nullptr, isa);
                CAPTURE(cpu::name_of(isa), count.first);
                CHECK(count.different == 0);
                sum.compared += count.compared;
            }
        }
    }
    CHECK(sum.compared > 10000);
    CHECK(by_shape > 20);
}

TEST_CASE("a kernel whose bits depend on the size of its block is noticed") {
    Sample unary{"exp", Unary{UnaryFn::exp}, {any({7, 97})}};
    CHECK(compare(unary, f32).different == 0);
    CHECK(compare(unary, f32, rest_rounds_otherwise).different > 0);
    Sample norm{"rms norm", RmsNorm{}, {any({33, 101}), any({101})}};
    CHECK(compare(norm, f32).different == 0);
    CHECK(compare(norm, f32, few_rows_sum_otherwise).different > 0);
}

TEST_CASE("a kernel whose random bits do not hang on its block's place is noticed") {
    auto key = indices({2}, 0, 1000);
    Sample const adamw{
        "adamw",
        AdamWUpdate{.stochastic = true, .site = 3},
        {any({6, 40}), any({6, 40}), any({6, 40}), positive({6, 40}), positive({}), indices({}, 3, 4), key}};
    Sample const round{"round", StochasticRound{3}, {any({6, 40}), key}};
    for (auto const& [sample, dtype] : {std::pair{adamw, bf16}, std::pair{round, f32}}) {
        CHECK(compare(sample, dtype).different == 0);
        CHECK(compare(sample, dtype, forgets_its_place).different > 0);
    }
    // What is not rounded hangs on no place.
    CHECK(compare(adamw, f32, forgets_its_place).different == 0);
}
