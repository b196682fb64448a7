#include "kernel_cases.hpp"

#include "plait/graph/micro.hpp"
#include "plait/graph/parts.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/gradient_norm.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "plait/ops/view.hpp"

namespace tests {

using namespace plait;

std::vector<Case> kernel_cases(DType t) {
    std::vector<Case> cases;
    std::uint64_t seed = 1;
    DType wide = t == f64 ? f64 : f32;
    auto x = [&](Shape shape, double scale = 1) { return Numbers(t, shape, seed++, scale); };
    auto w = [&](Shape shape, double scale = 1) { return Numbers(wide, shape, seed++, scale); };
    auto add = [&](AnyOp op, std::vector<Numbers> in) { cases.push_back({std::move(op), std::move(in)}); };

    for (int fn = 0; fn <= static_cast<int>(UnaryFn::is_finite); ++fn) {
        add(Unary{static_cast<UnaryFn>(fn)}, {positive(x({3, 7001}, 3))});
        if (fn < static_cast<int>(UnaryFn::is_finite))
            add(UnaryGradient{static_cast<UnaryFn>(fn)}, {positive(x({301}, 3)), x({301})});
    }
    for (auto fn :
         {UnaryFn::tanh, UnaryFn::sigmoid, UnaryFn::silu, UnaryFn::gelu, UnaryFn::absolute, UnaryFn::relu}) {
        add(Unary{fn}, {x({1003}, 6)});
        add(UnaryGradient{fn}, {x({1003}, 6), x({1003})});
    }
    add(Affine{0.5, 3}, {x({5, 131})});
    for (int fn = 0; fn <= static_cast<int>(BinaryFn::less); ++fn) {
        auto f = static_cast<BinaryFn>(fn);
        add(Binary{f}, {x({2, 17, 600}), x({2, 17, 600})});
        add(Binary{f}, {x({5, 33}), x({33})});
        if (f != BinaryFn::divide) add(Binary{f}, {integers({4, 1, 7}, -3, 9), integers({5, 1}, -3, 9)});
    }
    add(Binary{BinaryFn::add}, {x({70000}), w({})});
    add(Binary{BinaryFn::subtract}, {x({3, 1, 5, 1}), x({2, 1, 7})});
    add(Binary{BinaryFn::multiply}, {w({4, 3}), x({2, 4, 3})});
    add(Binary{BinaryFn::maximum}, {x({6, 1}), w({6, 9})});
    for (auto to : {f32, bf16, f64, i32, i64, u8}) {
        add(Cast{to}, {positive(x({515}, 9))});
        add(Cast{t}, {integers({515}, 0, 200, to == bf16 ? u8 : to)});
    }
    add(Select{}, {integers({9, 55}, 0, 2, u8), x({9, 55}), x({9, 55})});
    add(Full{0.3, t, {3, 333}}, {});
    add(Iota{1, t, {3, 37, 5}}, {});
    add(Iota{0, i32, {300, 100}}, {});
    add(SwiGlu{}, {x({7, 99}, 5), x({7, 99})});
    add(SwiGluGradient{}, {x({7, 99}, 5), x({7, 99}), x({7, 99})});
    add(Dropout{0.3, 77}, {x({5, 4001}), integers({2}, 3, 100)});

    for (auto fn : {ReduceFn::sum, ReduceFn::max}) {
        add(Reduce{fn, {0}}, {x({40001})});
        add(Reduce{fn, {1}}, {x({37, 53})});
        add(Reduce{fn, {0}}, {x({517, 1037})});
        add(Reduce{fn, {1}}, {x({3, 130, 5})});
        add(Reduce{fn, {0, 2, 4}}, {x({3, 4, 5, 2, 7})});
        add(Reduce{fn, {0, 1}}, {x({3, 1, 2})});
        add(Reduce{fn, {}}, {x({3, 5})});
        add(Reduce{fn, {1}}, {x({3, 1, 2})});
        if (fn == ReduceFn::sum) add(Reduce{fn, {0}}, {integers({200}, 0, 200, u8)});
    }
    add(Expand{{0, 2}}, {x({3, 4}), x({2, 3, 5, 4})});
    add(Expand{{1}}, {w({6}), x({6, 70})});
    add(Expand{{0}}, {x({}), x({41})});
    add(Softmax{}, {x({70, 257}, 8)});
    add(SoftmaxGradient{}, {positive(x({11, 65})), x({11, 65})});

    add(Reshape{{6, 10}}, {x({3, 20})});
    add(Transpose{{0, 2, 1, 3}}, {x({2, 5, 3, 17})});
    add(Transpose{{1, 0}}, {x({131, 67})});
    add(Transpose{{2, 0, 1}}, {x({5, 33, 70})});
    add(Transpose{{3, 1, 0, 2}}, {x({3, 4, 5, 6})});
    add(Transpose{{1, 0}}, {integers({5, 9}, 0, 9, u8)});
    add(Transpose{{0, 1}}, {x({5, 9})});
    add(Slice{1, 2, 5}, {x({3, 9, 7})});
    add(Slice{0, 1, 0}, {x({3, 9})});
    add(Pad{1, 2, 3}, {x({3, 4, 7})});
    add(Concat{1}, {x({2, 3, 5}), x({2, 1, 5}), x({2, 4, 5})});

    add(LayerNorm{1e-5, false}, {x({33, 101}, 2), x({101}), w({101})});
    add(LayerNorm{1e-5, true}, {x({3, 9, 600}, 2), x({3, 9, 600}), w({600}), x({600})});
    add(RmsNorm{1e-6, false}, {x({33, 101}, 2), w({101})});
    add(RmsNorm{1e-6, true}, {x({9, 64}), x({9, 64}), x({64})});
    for (bool residual : {false, true}) {
        std::vector<Numbers> layer{x({300, 77}), x({300, 77}), w({77}), w({300}), positive(w({300}))};
        std::vector<Numbers> rms{x({5, 60, 77}), x({5, 60, 77}), x({77}), positive(w({5, 60}))};
        if (residual) layer.push_back(x({300, 77})), rms.push_back(x({5, 60, 77}));
        add(LayerNormGradient{residual}, layer);
        add(RmsNormGradient{residual}, rms);
    }

    add(RopeTable{19, 14, 1e4}, {});
    for (bool inverse : {false, true}) add(Rope{inverse}, {x({2, 9, 3, 22}), w({9, 11, 2})});
    add(Rope{}, {x({2, 9, 3, 22}), w({2, 9, 11, 2})});
    add(RopeAt{22, 1e4}, {integers({3, 70}, -1, 900)});
    for (std::int64_t dim : {5, 16, 41})
        for (std::int64_t group : {1, 3}) {
            std::vector<Numbers> caches{x({3, 150, 2, dim}), x({3, 150, 2, dim})};
            auto slot = integers({2}, 0, 3), positions = integers({2, 7}, -1, 151);
            add(CacheWrite{}, {caches[0], x({2, 7, 2, dim}), slot, positions});
            add(CacheWrite{}, {caches[0], w({2, 7, 2, dim}), slot, positions});
            add(CachedAttention{}, {x({2, 7, 2 * group, dim}, 3), caches[0], caches[1], slot, positions});
        }
    add(Embedding{}, {integers({4, 31}, 0, 13), x({13, 37})});
    add(EmbeddingGradient{}, {integers({400}, 0, 50), x({400, 700}), x({50, 700})});
    add(CrossEntropy{}, {x({51, 333}, 7), integers({51}, -1, 334)});
    add(Pick{}, {x({51, 333}, 7), integers({51}, -1, 334)});
    add(CrossEntropyGradient{}, {x({51, 333}, 7), integers({51}, -1, 334), positive(w({51}, 5)), w({51})});
    add(CrossEntropy{300}, {x({51, 333}, 7), integers({51}, -1, 301)});
    add(CrossEntropyGradient{300}, {x({51, 333}, 7), integers({51}, -1, 301), positive(w({51}, 5)), w({51})});

    add(StochasticRound{77}, {w({5, 4001}), integers({2}, 3, 100)});
    for (int extra = 0; extra < 8; ++extra) {
        std::vector<Numbers> in{x({5, 6001}),           w({5, 6001}), w({5, 6001}),
                                positive(w({5, 6001})), w({}),        integers({}, 3, 1)};
        if (extra & 4) in.push_back(integers({2}, 3, 100));
        if (extra & 1) in.push_back(w({}));
        if (extra & 2) in.push_back(integers({}, 0, 2, u8));
        add(AdamWUpdate{0.9, 0.95, 1e-8, 0.1, (extra & 1) != 0, (extra & 2) != 0, (extra & 4) != 0, 77}, in);
    }
    for (Shape const& shape : {Shape{40001}, Shape{3, 5}, Shape{}}) {
        add(MaxAbsolute{}, {x(shape, 3)});
        add(Squares{31}, {x(shape, 3), integers({}, 3, 1, wide)});
    }
    add(NormOfSquares{31}, {integers({2}, 1 << 20, 1 << 20, i64), positive(w({}, 3))});
    for (auto how : {Combine::sum, Combine::max}) add(Fold{how}, {w({40001}), w({40001}), w({40001})});
    add(Fold{Combine::integer_sum}, {integers({700}, -9, 99), integers({700}, 5, 99)});
    add(Fold{}, {integers({700}, 1 << 20, 1 << 20, i64)});
    for (int ok : {0, 1}) add(Commit{}, {x({50}), x({50}), integers({}, ok, 1, u8)});
    add(MicroTake{1, 3}, {x({5, 9, 70})});
    add(MicroStack{1, 1}, {x({5, 3, 70})});
    add(MicroSum{}, {x({1000})});
    add(MicroTree{1, 0}, {x({1000})});
    add(MicroTree{3, 0}, {x({7, 700}), x({7, 700}), x({7, 700})});
    add(Part{1, 2, 5}, {x({3, 9, 70})});
    add(Part{0, 1, 2}, {x({3, 70})});
    add(LeafTree{8, 1}, {x({8 * 3, 70})});
    add(LeafTree{12, 3}, {x({12, 701})});
    add(LeafTree{1, 1}, {x({2, 70})});
    add(Join{1}, {x({5, 3, 70}), x({5, 1, 70}), x({5, 4, 70})});
    add(Join{0}, {x({2, 70}), x({3, 70})});
    return cases;
}

}  // namespace tests
