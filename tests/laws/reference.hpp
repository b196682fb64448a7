#pragma once

#include "laws/samples.hpp"
#include "plait/core/random.hpp"

#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

/// The meaning of the ops in plain loops over doubles: nothing is shared with a backend, so it serves as its
/// oracle.
namespace tests {

/// A tensor's elements, row-major, whatever the dtype.
struct Numbers {
    Meta meta;
    std::vector<double> values;
};

/// Calls f(index) for each index of `shape`, the last dim fastest.
inline void for_each_index(Shape const& shape, std::function<void(Shape const&)> const& f) {
    Shape index = shape;
    for (auto& i : index) i = 0;
    for (auto n = shape.elements(); n > 0; --n) {
        f(index);
        for (int d = shape.rank() - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
    }
}

/// The element at `index`, whose leading dims are dropped and whose dims of size 1 are repeated as `x` asks.
inline double at(Numbers const& x, Shape const& index) {
    std::int64_t offset = 0;
    auto const& s = x.meta.shape;
    for (int d = 0; d < s.rank(); ++d) {
        auto i = index[index.rank() - s.rank() + d];
        offset = offset * s[d] + (s[d] == 1 ? 0 : i);
    }
    return x.values[static_cast<std::size_t>(offset)];
}

inline double reference(UnaryFn fn, double x) {
    switch (fn) {
        case UnaryFn::exp:
            return std::exp(x);
        case UnaryFn::log:
            return std::log(x);
        case UnaryFn::sqrt:
            return std::sqrt(x);
        case UnaryFn::rsqrt:
            return 1 / std::sqrt(x);
        case UnaryFn::reciprocal:
            return 1 / x;
        case UnaryFn::square:
            return x * x;
        case UnaryFn::absolute:
            return std::abs(x);
        case UnaryFn::tanh:
            return std::tanh(x);
        case UnaryFn::sigmoid:
            return 1 / (1 + std::exp(-x));
        case UnaryFn::relu:
            return x > 0 ? x : 0;
        case UnaryFn::silu:
            return x / (1 + std::exp(-x));
        case UnaryFn::gelu:
            return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case UnaryFn::is_finite:
            return std::isfinite(x);
    }
    return 0;
}

inline double reference(BinaryFn fn, double a, double b) {
    switch (fn) {
        case BinaryFn::add:
            return a + b;
        case BinaryFn::subtract:
            return a - b;
        case BinaryFn::multiply:
            return a * b;
        case BinaryFn::divide:
            return a / b;
        case BinaryFn::maximum:
            return std::max(a, b);
        case BinaryFn::minimum:
            return std::min(a, b);
        case BinaryFn::equal:
            return a == b;
        case BinaryFn::not_equal:
            return a != b;
        case BinaryFn::less:
            return a < b;
    }
    return 0;
}

inline double rounded(double x, DType t) {
    if (t == f32) return static_cast<float>(x);
    if (t == bf16) return static_cast<float>(Bf16(static_cast<float>(x)));
    return is_floating(t) ? x : std::trunc(x);
}

/// One output of a primitive op, or false when `op` is none.
inline bool primitive(AnyOp const& op, std::vector<Numbers> const& x, Numbers& y) {
    auto fill = [&](auto const& value) {
        y.values.clear();
        for_each_index(y.meta.shape,
                       [&](Shape const& i) { y.values.push_back(rounded(value(i), y.meta.dtype)); });
        return true;
    };
    auto along = [](Shape i, int dim, std::int64_t shift) { return i[dim] += shift, i; };
    if (auto* o = op.as<Unary>()) return fill([&](auto& i) { return reference(o->fn, at(x[0], i)); });
    if (auto* o = op.as<Binary>())
        return fill([&](auto& i) { return reference(o->fn, at(x[0], i), at(x[1], i)); });
    if (auto* o = op.as<Affine>()) return fill([&](auto& i) { return o->scale * at(x[0], i) + o->shift; });
    if (op.as<Cast>()) return fill([&](auto& i) { return at(x[0], i); });
    if (op.as<Select>()) return fill([&](auto& i) { return at(x[0], i) != 0 ? at(x[1], i) : at(x[2], i); });
    if (auto* o = op.as<Full>()) return fill([&](auto&) { return o->value; });
    if (auto* o = op.as<Iota>()) return fill([&](auto& i) { return static_cast<double>(i[o->dim]); });
    if (op.as<Reshape>()) return y.values = x[0].values, true;
    if (auto* o = op.as<Transpose>())
        return fill([&](Shape const& i) {
            Shape from = i;
            for (int d = 0; d < i.rank(); ++d) from[o->order[static_cast<std::size_t>(d)]] = i[d];
            return at(x[0], from);
        });
    if (auto* o = op.as<Slice>()) return fill([&](auto& i) { return at(x[0], along(i, o->dim, o->start)); });
    if (auto* o = op.as<Part>()) return fill([&](auto& i) { return at(x[0], along(i, o->dim, o->start)); });
    if (auto* o = op.as<Pad>())
        return fill([&](auto& i) {
            auto from = i[o->dim] - o->before;
            return from < 0 || from >= x[0].meta.shape[o->dim] ? 0.0 : at(x[0], along(i, o->dim, -o->before));
        });
    auto side_by_side = [&](int dim) {
        return fill([&](Shape i) {
            std::size_t part = 0;
            while (i[dim] >= x[part].meta.shape[dim]) i[dim] -= x[part++].meta.shape[dim];
            return at(x[part], i);
        });
    };
    if (auto* o = op.as<Concat>()) return side_by_side(o->dim);
    if (auto* o = op.as<Join>()) return side_by_side(o->dim);
    if (auto* o = op.as<LeafTree>())
        return fill([&](Shape const& i) {
            double sum = 0;
            for (std::int64_t leaf = 0; leaf < o->count; ++leaf) {
                Shape from = i;
                from[0] += leaf * y.meta.shape[0];
                sum += at(x[0], from);
            }
            return sum;
        });
    if (auto* o = op.as<Expand>())
        return fill([&](Shape const& i) {
            Shape own;
            for (int d = 0; d < i.rank(); ++d)
                if (std::find(o->dims.begin(), o->dims.end(), d) == o->dims.end()) own.push_back(i[d]);
            return at(x[0], own);
        });
    if (auto* o = op.as<Reduce>()) {
        bool sums = o->fn == ReduceFn::sum;
        y.values.assign(static_cast<std::size_t>(y.meta.elements()), sums ? 0 : -INFINITY);
        for_each_index(x[0].meta.shape, [&](Shape const& i) {
            std::int64_t to = 0;
            for (int d = 0; d < i.rank(); ++d)
                if (std::find(o->dims.begin(), o->dims.end(), d) == o->dims.end())
                    to = to * x[0].meta.shape[d] + i[d];
            auto& total = y.values[static_cast<std::size_t>(to)];
            total = sums ? total + at(x[0], i) : std::max(total, at(x[0], i));
        });
        return true;
    }
    if (auto* o = op.as<MatMul>()) {
        auto depth = x[0].meta.shape[o->transpose_a ? -2 : -1];
        return fill([&](Shape const& i) {
            double total = 0;
            for (std::int64_t k = 0; k < depth; ++k) {
                Shape a = i, b = i;
                a[o->transpose_a ? -2 : -1] = k, a[o->transpose_a ? -1 : -2] = i[-2];
                b[o->transpose_b ? -1 : -2] = k, b[o->transpose_b ? -2 : -1] = i[-1];
                total += at(x[0], a) * at(x[1], b);
            }
            return total;
        });
    }
    if (auto* o = op.as<RopeTable>())
        return fill([&](Shape const& i) {
            auto angle =
                static_cast<double>(i[0]) * std::pow(o->base, -2.0 * static_cast<double>(i[1]) / o->dim);
            return i[2] ? std::sin(angle) : std::cos(angle);
        });
    if (auto* o = op.as<RopeAt>())
        return fill([&](Shape const& i) {
            auto angle =
                at(x[0], i.dims(0, -2)) * std::pow(o->base, -2.0 * static_cast<double>(i[-2]) / o->dim);
            return i[-1] ? std::sin(angle) : std::cos(angle);
        });
    if (auto* o = op.as<Dropout>()) {
        Random random{static_cast<std::uint64_t>(x[1].values[0]), o->site,
                      static_cast<std::uint32_t>(x[1].values[1])};
        std::uint64_t n = 0;
        return fill(
            [&](auto& i) { return random.uniform(n++) < o->rate ? 0.0 : at(x[0], i) / (1 - o->rate); });
    }
    if (auto* o = op.as<StochasticRound>()) {
        Random random{static_cast<std::uint64_t>(x[1].values[0]), o->site,
                      static_cast<std::uint32_t>(x[1].values[1])};
        std::uint64_t n = 0;
        // What lies between two numbers of bf16 is in 2^16 steps of f32, of which the word's high half takes
        // some.
        return fill([&](auto& i) {
            auto v = static_cast<float>(at(x[0], i));
            auto bits = std::bit_cast<std::uint32_t>(v);
            auto below = bits % 65536, more = random.word(n++) / 65536;
            return static_cast<double>(
                std::bit_cast<float>(bits - below + (below + more >= 65536 ? 65536 : 0)));
        });
    }
    if (op.as<Commit>()) return fill([&](auto& i) { return at(x[2], {}) != 0 ? at(x[1], i) : at(x[0], i); });
    return false;
}

/// Values of a graph whose sources are bound to numbers; what is no primitive goes through its definition.
class Reference {
  public:
    /// A new source that stands for `x`.
    Tensor bind(Numbers x) {
        auto t = batch_input("x", x.meta);
        known_[t.value()] = std::move(x);
        return t;
    }
    Numbers const& operator()(Tensor const& t) {
        for (auto const& n : Graph::of({{"y", t.value()}}).nodes) {
            if (known_.count({n, 0})) continue;
            std::vector<Numbers> x;
            for (auto const& v : n->inputs) x.push_back(known_.at(v));
            if (Numbers y{n->outputs[0], {}}; primitive(n->op, x, y)) {
                known_[{n, 0}] = y;
                continue;
            }
            Tensors in;
            for (auto const& v : n->inputs) in.emplace_back(v);
            auto out = n->op.define(in);
            for (std::size_t i = 0; i < out.size(); ++i)
                known_[{n, static_cast<int>(i)}] = Numbers((*this)(out[i]));
        }
        return known_.at(t.value());
    }

  private:
    ValueMap<Numbers> known_;
};

/// Random contents for the inputs of a sample: the same for the same seed.
inline std::vector<Numbers> random_inputs(Sample const& s, std::uint64_t seed) {
    std::vector<Numbers> x;
    for (auto const& in : s.in) {
        Random random{seed, hash_name(s.name) + x.size(), 0};
        Numbers one{in.meta, {}};
        for (std::int64_t i = 0; i < in.meta.elements(); ++i) {
            double u = in.low + (in.high - in.low) *
                                    static_cast<double>(random.uniform(static_cast<std::uint64_t>(i)));
            one.values.push_back(is_floating(in.meta.dtype) ? u : std::floor(u));
        }
        x.push_back(std::move(one));
    }
    return x;
}

}  // namespace tests
